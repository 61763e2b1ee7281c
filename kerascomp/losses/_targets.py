"""Labels and predictions of classifiers, brought into one form and checked."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from kerascomp import _numerics, _validation
from kerascomp._compat import keras

ops = keras.ops


def classes_last(y_true: Any, y_pred: Any, axis: int = -1) -> tuple[Any, Any]:
    """Returns targets and predictions whose last axis holds the classes.

    Args:
        y_true: Integer labels, `y_pred` without `axis` or with length 1 there;
            or one target a class, of the shape of `y_pred`.
        y_pred: Float tensor of at least two axes.
        axis: The axis of `y_pred` that holds the classes.

    Returns:
        Labels of dtype int32, which have one axis less than the predictions
        and are not negative, or dense targets, which have as many axes; and
        the predictions.

    Raises:
        ValueError: If the shapes do not match, there is one class only, or
            labels that can be read lie outside the classes.
    """
    rank, classes = len(y_pred.shape), y_pred.shape[axis]
    if classes == 1 or rank < 2:
        raise ValueError(
            "`y_pred` must have a batch axis and one score for each of two or "
            f"more classes. Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    if len(y_true.shape) == rank and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis=axis)
    is_dense = len(y_true.shape) == rank
    moved = ops.moveaxis(y_pred, axis, -1)
    if is_dense:
        y_true = ops.moveaxis(y_true, axis, -1)
    _require_shape(y_true, moved if is_dense else moved[..., 0])
    if is_dense:
        return y_true, moved
    require_labels(y_true, classes)
    # In compiled code, which cannot read them, a label of -1 must not count
    # from the end: beyond it, TensorFlow raises, and the loss is NaN on JAX.
    y_true, beyond = ops.cast(y_true, "int32"), ops.shape(moved)[-1]
    return ops.where(y_true < 0, beyond, y_true), moved


def labels_and_scores(
    y_true: Any, y_pred: Any, axis: int = -1
) -> tuple[Any, Any]:
    """Returns `classes_last`, which must be integer labels.

    Raises:
        ValueError: As `classes_last`, and for one-hot targets.
    """
    y_true, y_pred = classes_last(y_true, y_pred, axis)
    if is_one_hot(y_true, y_pred):
        raise ValueError(
            "`y_true` must hold integer labels, one axis less than `y_pred`. "
            f"Received: y_true.shape={tuple(y_true.shape)}, "
            f"y_pred.shape={tuple(y_pred.shape)}"
        )
    return y_true, y_pred


def is_one_hot(y_true: Any, y_pred: Any) -> bool:
    """Whether targets that `classes_last` returned have one a class."""
    return len(y_true.shape) == len(y_pred.shape)


def is_class(y_true: Any, y_pred: Any) -> Any:
    """Returns a mask like `y_pred` that is true at each sample's class."""
    if is_one_hot(y_true, y_pred):
        return y_true > 0.5
    classes = ops.arange(y_pred.shape[-1], dtype="int32")
    return ops.expand_dims(y_true, -1) == classes


def crossentropy(y_true: Any, y_pred: Any, from_logits: bool) -> Any:
    """Returns what Keras' own cross-entropies do, of `classes_last`."""
    if not from_logits:
        require_probabilities(y_pred)
    # Not Keras' own: each backend treats probabilities in another way, and the
    # fused operation of TensorFlow takes longer.
    logs = _numerics.log_probabilities(y_pred, from_logits)
    if is_one_hot(y_true, y_pred):
        return -ops.sum(y_true * logs, axis=-1)
    return -at_class(y_true, logs)


def at_class(y_true: Any, y_pred: Any) -> Any:
    """Returns what each sample has at its class, of `classes_last`."""
    if not is_one_hot(y_true, y_pred):
        labels = ops.expand_dims(y_true, -1)
        return ops.squeeze(ops.take_along_axis(y_pred, labels, axis=-1), -1)
    # Not a product: wrong classes may have infinite scores.
    right = ops.where(y_true > 0.5, y_pred, ops.zeros_like(y_pred))
    return ops.sum(right, axis=-1)


def miss(y_true: Any, y_pred: Any, hard: Any, from_logits: bool) -> Any:
    """Returns 1 less the probability of the true class.

    Args:
        y_true: As `classes_last` returns it. Soft targets give the mean.
        y_pred: As `classes_last` returns it.
        hard: Their `crossentropy`.
        from_logits: Whether `y_pred` holds logits.
    """
    if not is_one_hot(y_true, y_pred):
        return -ops.expm1(-hard)
    logs = _numerics.log_probabilities(y_pred, from_logits)
    return ops.sum(y_true * -ops.expm1(logs), axis=-1)


def of_classes(numbers: Any, y_true: Any, y_pred: Any) -> Any:
    """Returns each sample's entry of a sequence that has one for each class.

    Args:
        numbers: One number for each class.
        y_true: As `classes_last` returns it. Soft targets give the mean.
        y_pred: As `classes_last` returns it.
    """
    numbers = ops.convert_to_tensor(numbers, y_pred.dtype)
    if is_one_hot(y_true, y_pred):
        return ops.sum(y_true * numbers, axis=-1)
    return ops.take(numbers, y_true, axis=0)


def require_one_a_class(name: str, numbers: Any, classes: int | None) -> None:
    """Raises unless a sequence has as many entries as there are classes."""
    if classes is not None and len(numbers) != classes:
        raise ValueError(
            f"`{name}` must have one entry for each of the {classes} classes. "
            f"Received: {name}={numbers!r}"
        )


def counts(name: str, numbers: Iterable[Any]) -> list[int]:
    """Returns numbers of samples, one a class, as a list.

    Raises:
        ValueError: If there are fewer than two, or one is below 1.
    """
    found = list(numbers)
    for number in found:
        _validation.at_least(name, number, 1)
    if len(found) < 2:
        raise ValueError(
            f"`{name}` must have one entry for each of two or more classes. "
            f"Received: {name}={found!r}"
        )
    return [int(number) for number in found]


def require_labels(labels: Any, classes: int | None) -> None:
    """Raises if labels that can be read are no integers in [0, classes)."""
    if classes is not None:
        _numerics.require(
            labels,
            lambda y: (y >= 0) & (y < classes) & (y == np.floor(y)),
            f"`y_true` must hold integers in [0, {classes}).",
        )


def require_probabilities(y_pred: Any) -> None:
    """Raises if predictions that can be read lie outside [0, 1]."""
    _numerics.require_probabilities(
        y_pred,
        "`y_pred` must hold probabilities, in [0, 1], unless "
        "`from_logits=True`.",
    )


def _require_shape(y_true: Any, example: Any) -> None:
    shapes = tuple(y_true.shape), tuple(example.shape)
    if not _numerics.same_shape(*shapes):
        raise ValueError(
            "`y_true` must have the shape of `y_pred`, with or without the "
            "axis of the classes. Received, classes last: "
            f"y_true.shape={shapes[0]}, expected {shapes[1]}"
        )
