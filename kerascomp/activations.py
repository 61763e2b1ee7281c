"""Activation functions that Keras lacks, for `activation=...`."""

from typing import Any

from kerascomp import _numerics
from kerascomp._compat import keras
from kerascomp._registry import component

__all__ = ["sparsemax"]


@component(since="0.1")
def sparsemax(x: Any, axis: int = -1) -> Any:
    """Turns scores into probabilities, of which many are exactly 0.

    Use it in place of softmax for attention or for classes of which only a few
    are plausible, with `kerascomp.losses.SparsemaxLoss` on the scores. It is
    the point of the probability simplex that is nearest to the scores. Unlike
    `keras.activations.sparsemax` of Keras 3.15, its outputs sum to 1.

    A score z becomes

        max(0, z - tau)

    where tau is such that the sum is 1. A score that lies 1 or more below the
    largest becomes 0, and its gradient is 0.

    Args:
        x: Float tensor of scores.
        axis: The axis whose entries sum to 1.

    Returns:
        A tensor of the shape and dtype of `x`, in [0, 1].

    Examples:
        >>> p = sparsemax(np.array([[1.0, 0.4, -3.0]]))  # tau = 0.2
        >>> [round(float(each), 4) for each in p[0]]
        [0.8, 0.2, 0.0]

    Reference:
        Martins & Astudillo, 2016, [From softmax to
        sparsemax](https://arxiv.org/abs/1602.02068), algorithm 1.
    """
    return _numerics.sparsemax(keras.ops.convert_to_tensor(x), axis)
