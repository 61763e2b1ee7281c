"""The loss of a conditional random field."""

from typing import Any

from kerascomp import _chains
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses._base import Loss

ops = keras.ops


@component(since="0.1")
class CRFNegativeLogLikelihood(Loss):
    """Trains `kerascomp.layers.CRF` to give whole sequences of tags.

    Use it in `compile` of a model that ends in that layer. The loss of a
    sequence is the negative log-probability of its tags among all sequences
    of tags: the sum over steps, not their mean. Masked steps do not count.
    Where the scores of transitions and boundaries are 0, it is the sum of
    Keras' crossentropies of the tags.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`. Sums over time are float32 at least.

    Call arguments:
        y_true: `(batch, time)` or `(batch, time, 1)`, integers in [0, tags).
            Whatever at masked steps.
        y_pred: `(batch, tags + 2 + time, tags + 1)`, float, from `CRF`.
        sample_weight: `(batch,)` or `(batch, 1)`.

    Returns:
        `(batch,)` before reduction, in the loss' dtype, in nats. At least 0.
        NaN in compiled code if a tag is out of range.

    Raises:
        ValueError: If shapes do not fit, or, in eager code, a tag is out of
            range.

    Examples:
        >>> # Two steps, two tags; to change the tag costs log(3).
        >>> scores = np.zeros((1, 6, 3))
        >>> scores[0, [0, 1], [1, 0]] = -np.log(3)  # Transitions.
        >>> scores[0, 4:, 2] = 1  # Both steps are there.
        >>> loss = CRFNegativeLogLikelihood()
        >>> value = float(loss(np.array([[0, 0]]), scores))
        >>> round(float(np.exp(-value)), 4)  # 1 / (1 + 1 + 1/3 + 1/3)
        0.375

    Reference:
        Lafferty et al., 2001, [Conditional random fields: probabilistic models
        for segmenting and labeling sequence
        data](https://repository.upenn.edu/handle/20.500.14332/6188).
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "crf_negative_log_likelihood",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if len(y_true.shape) == 3 and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        parts = _chains.crf_unpack(y_pred)
        value = -_chains.crf_log_likelihood(y_true, *parts)
        return ops.cast(value, y_pred.dtype)
