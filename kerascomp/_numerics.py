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
