"""Numerically safe helpers on `keras.ops`, shared by the components."""

from typing import Any

from kerascomp._compat import keras

ops = keras.ops


def log_probabilities(y_pred: Any, from_logits: bool, axis: int = -1) -> Any:
    """Returns log-probabilities along `axis`, finite for finite input.

    Probabilities are normalized and kept `keras.config.epsilon()` away from
    0 and 1, as Keras' own cross-entropies do, so that the two agree.

    Args:
        y_pred: Float tensor. Logits, or non-negative numbers that do not sum
            to 0 along `axis`.
        from_logits: Whether `y_pred` holds logits.
        axis: The axis of the classes.

    Returns:
        A tensor like `y_pred`. In `[log(epsilon), 0)` for probabilities.
    """
    if from_logits:
        return ops.log_softmax(y_pred, axis=axis)
    epsilon = keras.config.epsilon()
    total = ops.sum(y_pred, axis=axis, keepdims=True)
    return ops.log(ops.clip(y_pred / total, epsilon, 1.0 - epsilon))


def pinball(y_true: Any, y_pred: Any, quantile: Any) -> Any:
    """Returns the loss of each element of a predicted quantile.

    Args:
        y_true: Float tensor.
        y_pred: Float tensor that broadcasts with `y_true`.
        quantile: A number in (0, 1), or a tensor of such that broadcasts.

    Returns:
        `quantile` times the error where `y_pred` is too low, and
        `1 - quantile` times it where it is too high. At least 0.
    """
    error = y_true - y_pred
    return ops.maximum(quantile * error, (quantile - 1) * error)


def same_rank(y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Drops or adds a last axis of length 1, where only one of them has it.

    `fit` passes targets of shape `(batch,)` beside predictions `(batch, 1)`,
    which would broadcast to `(batch, batch)` without an error. Keras' own
    losses do the same.

    Raises:
        ValueError: If the ranks differ in any other way.
    """
    shapes = tuple(y_true.shape), tuple(y_pred.shape)
    extra = len(shapes[1]) - len(shapes[0])
    if extra == 0:
        return y_true, y_pred
    longer, shorter = (y_pred, y_true) if extra > 0 else (y_true, y_pred)
    if abs(extra) > 1 or longer.shape[-1] != 1:
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape, but for a last "
            f"axis of length 1. Received: y_true.shape={shapes[0]}, "
            f"y_pred.shape={shapes[1]}"
        )
    if len(shorter.shape) == 1:  # Keep the axis that a loss averages over.
        shorter = ops.expand_dims(shorter, -1)
    else:
        longer = ops.squeeze(longer, axis=-1)
    return (shorter, longer) if extra > 0 else (longer, shorter)
