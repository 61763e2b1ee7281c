"""Smooth variants of the absolute error and of the crossentropy."""

from typing import Any

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses import _targets
from kerascomp.losses._base import Loss

ops = keras.ops


@component(since="0.1")
class SmoothL1(Loss):
    """Grows quadratically near zero and linearly beyond `beta`.

    Use it for regression with outliers, such as box offsets: the gradient of
    one element never exceeds 1 in size. It equals
    `keras.losses.Huber(delta=beta)` divided by `beta`, so its slope far from
    zero stays 1 whatever `beta` is, and as `beta` goes to 0 it becomes the
    mean absolute error.

    The loss of one element with error d is

        d^2 / (2 beta)   if |d| < beta
        |d| - beta / 2   otherwise

    and the loss of one sample is the mean over its last axis.

    Args:
        beta: Size of the error at which the loss turns linear, above 0. In
            the unit of the target.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ..., outputs)`, any dtype; the last axis may be left
            out if there is one output.
        y_pred: `(batch, ..., outputs)`, float.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If `beta` is not positive and finite, or the shapes of a
            call do not match.

    Examples:
        >>> loss = SmoothL1(beta=2.0)
        >>> # Errors 1 and 4: (1 / 4 + (4 - 1)) / 2.
        >>> float(loss(np.array([[0.0, 0.0]]), np.array([[1.0, 4.0]])))
        1.625

    Reference:
        Girshick, 2015, [Fast R-CNN](https://arxiv.org/abs/1504.08083),
        equation 3, which is `beta = 1`.
    """

    def __init__(
        self,
        beta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smooth_l1",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("beta", beta, "(0, inf)")
        self.beta = beta

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _numerics.same_rank(y_true, y_pred)
        error = y_pred - y_true
        # One formula for both branches: a `where` would square large errors,
        # and in half precision the unused infinity makes the gradient NaN.
        near = ops.maximum(ops.minimum(error, self.beta), -self.beta)
        element = (near / self.beta) * (error - 0.5 * near)
        return ops.mean(element, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}


@component(since="0.1")
class SmoothedSparseCategoricalCrossentropy(Loss):
    """Smooths integer labels, which spares the one-hot encoding.

    Use it against overconfident classifiers. Keras smooths one-hot labels
    only; this loss equals
    `keras.losses.CategoricalCrossentropy(label_smoothing=...)` on the one-hot
    encoded labels without building them, and
    `keras.losses.SparseCategoricalCrossentropy` at `label_smoothing=0`.

    With K classes and smoothing s the target of the true class is
    1 - s + s / K and that of every other class s / K: smoothing 0.1 turns the
    one-hot label [0, 1] into [0.05, 0.95]. The loss of one sample is

        -(1 - s) log p_true - s / K * (log p_1 + ... + log p_K)

    Args:
        label_smoothing: Share of the target spread over all classes, in
            [0, 1).
        from_logits: Whether `y_pred` holds logits. Otherwise probabilities.
        axis: The axis of `y_pred` that holds the classes.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ...)`, or with length 1 along `axis`, integers in
            `[0, classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits or probabilities.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats. At least
        0.

    Raises:
        ValueError: If `label_smoothing` lies outside [0, 1), or labels,
            probabilities or shapes of a call do not fit.

    Examples:
        >>> loss = SmoothedSparseCategoricalCrossentropy(label_smoothing=0.1)
        >>> value = loss(np.array([1]), np.array([[0.2, 0.8]]))
        >>> round(float(value), 4)  # -0.05 * log(0.2) - 0.95 * log(0.8)
        0.2925

    Reference:
        Szegedy et al., 2016, [Rethinking the Inception
        architecture](https://arxiv.org/abs/1512.00567), section 7, with the
        uniform distribution as prior.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        from_logits: bool = False,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smoothed_sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("label_smoothing", label_smoothing, "[0, 1)")
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits
        self.axis = axis

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, y_pred = _targets.labels_and_scores(y_true, y_pred, self.axis)
        if not self.from_logits:
            _targets.require_probabilities(y_pred)
        logs = _numerics.log_probabilities(y_pred, self.from_logits)
        hard = -_targets.at_class(labels, logs)
        uniform = -ops.mean(logs, axis=-1)
        smoothing = self.label_smoothing
        return (1 - smoothing) * hard + smoothing * uniform

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
            "axis": self.axis,
        }
