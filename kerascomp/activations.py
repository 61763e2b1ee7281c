"""Activation functions that Keras lacks, for `activation=...`."""

from typing import Any

from kerascomp import _geometry, _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

__all__ = [
    "squared_relu",
    "lisht",
    "rrelu",
    "snake",
    "sparsemax",
    "entmax15",
]

ops = keras.ops


@component(since="0.1")
def squared_relu(x: Any) -> Any:
    """Squares what is above 0 and cuts off the rest.

    Use it in place of ReLU or GELU in the feed-forward layers of transformers.
    It is `keras.activations.relu(x) ** 2`; its derivative, `2 relu(x)`, has no
    jump at 0. In float16, inputs above 255 overflow.

    Args:
        x: Float tensor.

    Returns:
        A tensor of the shape and dtype of `x`, at least 0.

    Examples:
        >>> y = squared_relu(np.array([-2.0, 0.0, 3.0]))
        >>> [float(each) for each in y]
        [0.0, 0.0, 9.0]

    Reference:
        So et al., 2021, [Primer](https://arxiv.org/abs/2109.08668).
    """
    return ops.square(ops.relu(ops.convert_to_tensor(x)))


@component(since="0.1")
def lisht(x: Any) -> Any:
    """Multiplies each number by its hyperbolic tangent.

    Use it where large negative inputs should count as much as positive ones:
    it is even, at least 0, close to x^2 near 0 and to |x| far away.

    Args:
        x: Float tensor.

    Returns:
        A tensor of the shape and dtype of `x`, at least 0.

    Examples:
        >>> y = lisht(np.array([-1.0, 0.0, 1.0]))  # tanh(1) = 0.7616
        >>> [round(float(each), 4) for each in y]
        [0.7616, 0.0, 0.7616]

    Reference:
        Roy et al., 2019, [LiSHT](https://arxiv.org/abs/1901.05894).
    """
    x = ops.convert_to_tensor(x)
    return x * ops.tanh(x)


@component(since="0.1")
def rrelu(
    x: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    seed: Any = None,
) -> Any:
    """Gives numbers below 0 a slope that is random in training.

    Use `kerascomp.layers.RReLU` in models: it knows when they train. In
    inference it is `keras.activations.leaky_relu` with the mean slope, and
    with `lower = upper` always.

    Args:
        x: Float tensor.
        lower: The smallest slope, at least 0.
        upper: The largest slope, at least `lower`.
        training: Whether each element draws a slope of its own, uniformly.
        seed: Integer, or a `keras.random.SeedGenerator`, which compiled
            programs need.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If not `0 <= lower <= upper`.

    Examples:
        >>> y = rrelu(np.array([-4.0, 2.0]), lower=0.2, upper=0.3)
        >>> [round(float(each), 4) for each in y]
        [-1.0, 2.0]

    Reference:
        Xu et al., 2015, [Empirical evaluation of rectified
        activations](https://arxiv.org/abs/1505.00853), section 3.4. Differs
        from it by drawing the slope uniformly, and not its reciprocal.
    """
    _validation.in_interval("lower", lower, "[0, inf)")
    _validation.in_interval("upper", upper, f"[{lower}, inf)")
    x = ops.convert_to_tensor(x)
    return _numerics.randomized_leaky(x, lower, upper, training, seed)


@component(since="0.1")
def snake(x: Any, frequency: Any = 1.0) -> Any:
    """Adds a wave to the identity, for data that repeats.

    Use it in networks that must go on with a period beyond the training data,
    such as those for audio; `kerascomp.layers.Snake` learns a frequency for
    each channel. It is

        x + sin^2(a x) / a

    with the frequency a, and the identity with a = 0.

    Args:
        x: Float tensor.
        frequency: Number, or tensor that broadcasts with `x`.

    Returns:
        A tensor of the shape and dtype of `x`.

    Examples:
        >>> y = snake(np.array([0.0, np.pi / 4]), frequency=2.0)
        >>> [round(float(each), 4) for each in y]  # pi / 4 + 1 / 2
        [0.0, 1.2854]

    Reference:
        Ziyin et al., 2020, [Neural networks fail to learn periodic functions
        and how to fix it](https://arxiv.org/abs/2006.08195), equation 3.
    """
    x = ops.convert_to_tensor(x)
    wide = _geometry.widened(x)
    frequency = ops.cast(frequency, wide.dtype)
    return ops.cast(_numerics.snake(wide, frequency), x.dtype)


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
    return _numerics.sparsemax(ops.convert_to_tensor(x), axis)


@component(since="0.1")
def entmax15(x: Any, axis: int = -1) -> Any:
    """Turns scores into probabilities, halfway from softmax to sparsemax.

    Use it for attention or for many classes: improbable ones become exactly 0,
    later than those of `sparsemax`, and with a gradient that has no jump. A
    score z becomes

        max(0, z / 2 - tau)^2

    where tau is such that the sum is 1. A score that lies 2 or more below the
    largest becomes 0, and its gradient is 0.

    Args:
        x: Float tensor of scores.
        axis: The axis whose entries sum to 1.

    Returns:
        A tensor of the shape and dtype of `x`, in [0, 1].

    Examples:
        >>> p = entmax15(np.array([[1.4, 1.0, -5.0]]))  # 0.8^2, 0.6^2, 0
        >>> [round(float(each), 4) for each in p[0]]
        [0.64, 0.36, 0.0]

    Reference:
        Peters et al., 2019, [Sparse sequence-to-sequence
        models](https://arxiv.org/abs/1905.05702), algorithm 2.
    """
    return _numerics.entmax15(ops.convert_to_tensor(x), axis)
