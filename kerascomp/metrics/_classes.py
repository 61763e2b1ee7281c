"""Reads classes, labels and probabilities from what `fit` passes."""

from typing import Any, NamedTuple

from kerascomp import _numerics
from kerascomp._compat import keras
from kerascomp.metrics._base import (
    Metric,
    check_same_shape,
    marked,
    required,
    without_nan,
)

ops = keras.ops

# Rounding of a softmax.
_TOLERANCE = 1e-5


class Samples(NamedTuple):
    """The samples of a batch, in one axis."""

    labels: Any  # (samples,), integers in [0, classes)
    scores: Any  # (samples, classes), or (samples, 1) for class 1 of two
    weights: Any  # (samples,)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return max(self.scores.shape[-1], 2)

    def predicted(self, threshold: float) -> Any:
        """Returns the predicted class of each sample."""
        if self.scores.shape[-1] > 1:
            return ops.cast(ops.argmax(self.scores, axis=-1), "int32")
        return ops.cast(self.scores[:, 0] > threshold, "int32")

    def probabilities(self) -> Any:
        """Returns the probabilities of all classes, `(samples, classes)`."""
        if self.scores.shape[-1] > 1:
            return self.scores
        return ops.concatenate([1 - self.scores, self.scores], axis=-1)

    def one_hot(self) -> Any:
        """Returns the labels, one-hot encoded."""
        return ops.one_hot(
            self.labels, self.num_classes, dtype=self.scores.dtype
        )


def classified(
    metric: Metric,
    y_true: Any,
    y_pred: Any,
    sample_weight: Any,
    num_classes: int | None = None,
    probabilities: bool = False,
) -> Samples:
    """Returns the samples of a batch with sparse or one-hot labels.

    Raises:
        ValueError: If the shapes do not match each other or `num_classes`, if
            predictions are integers, and, in eager execution, if a label is
            no class, or a score no probability where they must be.
    """
    scores = _scores(metric, y_pred, num_classes)
    classes = max(scores.shape[-1], 2)
    labels = _labels(y_true, scores, classes)
    weights = metric.weights_of(labels, y_pred, sample_weight)
    weights = required(
        ops.logical_and(labels >= 0, labels < classes),
        weights,
        labels,
        f"`y_true` must hold classes in [0, {classes}), or one-hot labels.",
    )
    check = _require_probabilities if probabilities else without_nan
    weights = check(scores, weights)
    return Samples(
        ops.reshape(ops.clip(labels, 0, classes - 1), (-1,)),
        ops.reshape(scores, (-1, scores.shape[-1])),
        ops.reshape(weights, (-1,)),
    )


def _require_probabilities(scores: Any, weights: Any) -> Any:
    """Returns the weights, NaN for samples with a NaN.

    Raises:
        ValueError: If scores are not in [0, 1], in eager execution.
    """
    inside = ops.all(ops.abs(scores - 0.5) <= 0.5 + _TOLERANCE, axis=-1)
    if _numerics.readable(inside) is None:  # NaN is not inside, either.
        return marked(ops.logical_not(inside), weights)
    has_nan = ops.any(ops.isnan(scores), axis=-1)
    weights = required(
        ops.logical_or(inside, has_nan),
        weights,
        scores,
        "`y_pred` must hold probabilities in [0, 1].",
    )
    return marked(has_nan, weights)


class Labelled(NamedTuple):
    """The samples of a batch with several yes-or-no labels each."""

    labels: Any  # (samples, labels), 0 or 1
    predicted: Any  # (samples, labels), 0 or 1
    weights: Any  # (samples,)


def labelled(
    metric: Metric,
    y_true: Any,
    y_pred: Any,
    sample_weight: Any,
    threshold: float,
) -> Labelled:
    """Returns the samples of a batch with several labels each.

    Raises:
        ValueError: If the shapes do not match, if predictions are integers,
            and, in eager execution, if a label is neither 0 nor 1.
    """
    scores = _floats(metric, y_pred)
    labels, scores = _numerics.same_rank(metric.tensor(y_true), scores)
    if len(scores.shape) == 1:
        labels, scores = labels[:, None], scores[:, None]
    check_same_shape(labels, scores)
    weights = metric.weights_of(scores[..., 0], y_pred, sample_weight)
    weights = required(
        ops.all(ops.logical_or(labels == 0, labels == 1), axis=-1),
        weights,
        labels,
        "`y_true` must hold 0 or 1 for every label.",
    )
    weights = without_nan(scores, weights)
    predicted = ops.cast(scores > threshold, metric.state_dtype)
    shape = (-1, scores.shape[-1])
    return Labelled(
        ops.reshape(labels, shape),
        ops.reshape(predicted, shape),
        ops.reshape(weights, (-1,)),
    )


def _floats(metric: Metric, y_pred: Any) -> Any:
    y_pred = ops.convert_to_tensor(y_pred)
    dtype = keras.backend.standardize_dtype(y_pred.dtype)
    if "float" not in dtype:
        raise ValueError(
            "`y_pred` must hold floating-point scores or probabilities, not "
            f"classes. Received: y_pred.dtype={dtype}"
        )
    return metric.tensor(y_pred)


def _scores(metric: Metric, y_pred: Any, num_classes: int | None) -> Any:
    scores = _floats(metric, y_pred)
    if len(scores.shape) == 1:
        scores = ops.expand_dims(scores, -1)
    found = scores.shape[-1]
    if num_classes is not None and found != num_classes:
        two = num_classes == 2 and found == 1
        if not two:
            raise ValueError(
                f"The last axis of `y_pred` must have length {num_classes}, "
                "the number of classes, or 1 for the second of two classes. "
                f"Received: y_pred.shape={tuple(scores.shape)}"
            )
    return scores


def _labels(y_true: Any, scores: Any, num_classes: int) -> Any:
    """Returns integer labels of the shape of `scores` without classes."""
    y_true = ops.convert_to_tensor(y_true)
    extra = len(y_true.shape) - len(scores.shape) + 1
    last = y_true.shape[-1] if extra == 1 else None
    if extra == 1 and last == num_classes:
        y_true = ops.argmax(y_true, axis=-1)
    elif extra == 1 and last == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    elif extra != 0:
        raise ValueError(
            "`y_true` must have the shape of `y_pred` without its last axis, "
            f"or a last axis of length 1 or {num_classes}. Received: "
            f"y_true.shape={tuple(y_true.shape)}, "
            f"y_pred.shape={tuple(scores.shape)}"
        )
    check_same_shape(y_true, scores[..., 0])
    return ops.cast(y_true, "int32")
