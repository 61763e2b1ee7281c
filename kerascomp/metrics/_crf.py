"""How often the best path of a conditional random field is right."""

from typing import Any

from kerascomp import _chains
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.metrics._base import MeanMetric, required

ops = keras.ops


@component(since="0.1")
class ViterbiAccuracy(MeanMetric):
    """Counts the share of steps whose tag on the best path is right.

    Use it in `compile` of a model that ends in `kerascomp.layers.CRF`, where
    Keras' accuracy cannot read the output. It decodes every batch, which takes
    about as long as the loss.

    Args:
        allowed_transitions: As in `kerascomp.layers.ViterbiDecoder`.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: `(batch, time)` or `(batch, time, 1)`, integers in [0, tags).
            Whatever at masked steps, which do not count.
        y_pred: `(batch, tags + 2 + time, tags + 1)`, float, from `CRF`.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, time)`, at least 0.

    Returns:
        A scalar in [0, 1]. 0 before any data. NaN if a score was NaN, or, in
        compiled code, a tag was out of range.

    Raises:
        ValueError: If shapes do not fit, or, in eager code, a tag is out of
            range.

    Examples:
        >>> scores = np.zeros((1, 7, 3))
        >>> scores[0, 4:] = [[1, 0, 1], [0, 3, 1], [2, 0, 1]]  # Three steps.
        >>> metric = ViterbiAccuracy()
        >>> metric.update_state(np.array([[0, 1, 1]]), scores)
        >>> round(float(metric.result()), 4)  # The path is 0, 1, 0.
        0.6667

    Reference:
        Viterbi, 1967, [Error bounds for convolutional codes and an
        asymptotically optimum decoding
        algorithm](https://doi.org/10.1109/TIT.1967.1054010).
    """

    _direction = "up"

    def __init__(
        self,
        allowed_transitions: Any = None,
        name: str = "viterbi_accuracy",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        self.allowed_transitions = allowed_transitions

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) == 3 and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        y_pred = ops.convert_to_tensor(y_pred)
        parts = _chains.crf_unpack(y_pred)
        tags, _ = _chains.viterbi_decode(
            *parts, allowed_transitions=self.allowed_transitions
        )
        _chains.require_tags_of(y_true, parts[0])
        weights = self.weights_of(tags, y_true, sample_weight)
        weights = ops.where(parts[4], weights, 0.0)
        size = parts[0].shape[-1]
        weights = required(
            ops.logical_and(y_true >= 0, y_true < size),
            weights,
            y_true,
            f"Tags must be integers in [0, {size}) where they are not masked.",
        )
        is_nan = ops.any(ops.isnan(y_pred), axis=(1, 2))[:, None]
        is_nan = ops.logical_and(is_nan, weights != 0)
        weights = ops.where(is_nan, float("nan"), weights)
        is_right = ops.cast(y_true, "int32") == tags
        self.add(ops.cast(is_right, self.state_dtype), weights)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "allowed_transitions": self.allowed_transitions,
        }
