"""Numerically safe helpers on `keras.ops`, shared by the components."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kerascomp._compat import keras

ops = keras.ops

# What the rounding of a softmax adds to 1, half precision included.
ROUNDING = 1e-2


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
    total = ops.where(total == 0, ops.ones_like(total), total)
    return ops.log(ops.clip(y_pred / total, epsilon, 1.0 - epsilon))


def binary_log_probabilities(y_pred: Any, from_logits: bool) -> tuple[Any, Any]:
    """Returns log p and log(1 - p), finite for finite input.

    Args:
        y_pred: Float tensor of logits or probabilities, one a label.
        from_logits: Whether `y_pred` holds logits.

    Returns:
        Two tensors like `y_pred`, at most 0. Of probabilities, at least
        `log(keras.config.epsilon())`.
    """
    if from_logits:
        return ops.log_sigmoid(y_pred), ops.log_sigmoid(-y_pred)
    # 1 - epsilon is 1 in half precision: clip both sides from below.
    epsilon = keras.config.epsilon()
    complement = 1.0 - y_pred
    return tuple(
        ops.log(ops.clip(each, epsilon, 1.0)) for each in (y_pred, complement)
    )


def pinball(y_true: Any, y_pred: Any, quantile: Any) -> Any:
    """Returns the pinball loss of every element.

    An error d = `y_true - y_pred` costs `quantile * d` where the prediction is
    too low, and `(quantile - 1) * d` where it is too high.

    Args:
        y_true: Float tensor.
        y_pred: Float tensor that broadcasts with `y_true`.
        quantile: In (0, 1): a number, or a tensor that broadcasts.

    Returns:
        A tensor of the common shape. At least 0; the gradient at d = 0 is 0.
    """
    # Not `maximum`: at ties every backend has a gradient of its own.
    error = y_true - y_pred
    ones = ops.ones_like(error)
    above = ops.where(error < 0, (quantile - 1) * ones, ops.zeros_like(error))
    slope = ops.where(error > 0, quantile * ones, above)
    return error * ops.stop_gradient(slope)


def sparsemax(x: Any, axis: int = -1) -> Any:
    """Returns the point of the probability simplex that is nearest to `x`.

    Args:
        x: Float tensor.
        axis: The axis whose entries sum to 1.

    Returns:
        A tensor like `x`.
    """
    # Entries that lie 1 or more below the largest get 0, wherever they are.
    # Cut off there, sums stay small enough for half precision.
    largest = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    z = ops.moveaxis(ops.maximum(x - largest, -1.0), axis, -1)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype in ("float16", "bfloat16"):
        z = ops.cast(z, "float32")
    inside = z > ops.stop_gradient(_threshold(z))
    # Once more from the support, so that no gradient passes the sorting.
    support = ops.where(inside, z, ops.zeros_like(z))
    total = ops.sum(support, axis=-1, keepdims=True)
    size = ops.sum(ops.cast(inside, z.dtype), axis=-1, keepdims=True)
    surplus = ops.relu(z - (total - 1.0) / size)
    probabilities = ops.where(inside, surplus, ops.zeros_like(z))
    return ops.cast(ops.moveaxis(probabilities, -1, axis), dtype)


def _threshold(z: Any) -> Any:
    """What sparsemax takes off `z`: Martins & Astudillo, 2016, algorithm 1."""
    descending = -ops.sort(-z, axis=-1)
    rank = ops.cumsum(ops.ones_like(z), axis=-1)
    candidates = (ops.cumsum(descending, axis=-1) - 1.0) / rank
    # The candidates rise as long as entries belong to the support.
    return ops.max(candidates, axis=-1, keepdims=True)


def entmax15(x: Any, axis: int = -1) -> Any:
    """Returns 1.5-entmax: sparser than softmax, smoother than sparsemax.

    Args:
        x: Float tensor.
        axis: The axis whose entries sum to 1.

    Returns:
        A tensor like `x`.
    """
    # As in `sparsemax`, after the division by 2.
    largest = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    z = ops.moveaxis(ops.maximum((x - largest) / 2, -1.0), axis, -1)
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype in ("float16", "bfloat16"):
        z = ops.cast(z, "float32")
    inside = z > ops.stop_gradient(_root_threshold(z))
    # Once more from the support, so that no gradient passes the sorting.
    member = ops.cast(inside, z.dtype)
    size = ops.sum(member, axis=-1, keepdims=True)
    mean = ops.sum(z * member, axis=-1, keepdims=True) / size
    spread = ops.sum(member * ops.square(z - mean), axis=-1, keepdims=True)
    # Rounding aside, 1 - spread is at least 1 / size.
    root = ops.sqrt(ops.maximum((1.0 - spread) / size, 1e-12))
    probabilities = member * ops.square(ops.relu(z - mean + root))
    return ops.cast(ops.moveaxis(probabilities, -1, axis), dtype)


def _root_threshold(z: Any) -> Any:
    """What 1.5-entmax takes off `z`: Peters et al., 2019, algorithm 2."""
    descending = -ops.sort(-z, axis=-1)
    rank = ops.cumsum(ops.ones_like(z), axis=-1)
    mean = ops.cumsum(descending, axis=-1) / rank
    square = ops.cumsum(ops.square(descending), axis=-1) / rank
    # The sum of squares about the mean, over the rank.
    variance = ops.relu(square - ops.square(mean))
    candidates = mean - ops.sqrt(ops.relu(1.0 / rank - variance))
    size = ops.sum(
        ops.cast(candidates <= descending, "int32"), axis=-1, keepdims=True
    )
    return ops.take_along_axis(candidates, ops.maximum(size - 1, 0), axis=-1)


def snake(x: Any, frequency: Any) -> Any:
    """Returns x + sin^2(a x) / a, and x where the frequency a is 0.

    Args:
        x: Float tensor.
        frequency: Number or tensor that broadcasts.

    Returns:
        A tensor like `x`. At a = 0 the gradient by a is x^2, its limit.
    """
    # Next to 0, value and gradient are those at 0, up to rounding.
    nothing = ops.cast(frequency == 0, x.dtype)
    frequency = frequency + ops.stop_gradient(1e-12 * nothing)
    return x + ops.square(ops.sin(frequency * x)) / frequency


def randomized_leaky(
    x: Any, lower: float, upper: float, training: Any, seed: Any
) -> Any:
    """Returns x above 0, and x times a slope below.

    Args:
        x: Float tensor.
        lower: The smallest slope.
        upper: The largest slope.
        training: Whether each element draws its slope; else it is their mean.
        seed: As in `keras.random.uniform`.

    Returns:
        A tensor like `x`.
    """
    slope: Any = (lower + upper) / 2
    if training:
        slope = keras.random.uniform(
            ops.shape(x), lower, upper, dtype=x.dtype, seed=seed
        )
    return ops.where(x < 0, slope * x, x)


def largest(x: Any, axis: int, keepdims: bool = False) -> Any:
    """Returns the maximum along an axis; 0 along one of length 0.

    Without samples, `ops.max` raises on TensorFlow, and loses the shape on
    torch.
    """
    reduce = ops.sum if 0 in x.shape else ops.max
    return reduce(x, axis=axis, keepdims=keepdims)


def same_shape(first: Iterable, second: Iterable) -> bool:
    """Whether two static shapes may be equal; None may be any length."""
    first, second = tuple(first), tuple(second)
    return len(first) == len(second) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(first, second, strict=True)
    )


def readable(tensor: Any) -> np.ndarray | None:
    """Returns the numbers of a tensor, or None where nobody can see them yet.

    Use it to check values in eager execution. In a program that is being
    traced there are none; and those of an accelerator on torch, where all
    training is eager, are not waited for.
    """
    device = getattr(getattr(tensor, "device", None), "type", "cpu")
    if device != "cpu":
        return None
    try:
        return ops.convert_to_numpy(tensor)
    except Exception:  # Every backend has its own error for traced tensors.
        return None


def require(
    tensor: Any, good: Callable[[np.ndarray], Any], message: str
) -> None:
    """Raises if numbers of a tensor that can be read are not good.

    Args:
        tensor: What a caller passed.
        good: Tells which numbers of an array are good.
        message: What is required.
    """
    found = readable(tensor)
    if found is None:
        return
    bad = ~good(found)
    if bad.any():
        raise ValueError(f"{message} Received: {found[bad].flat[0]}")


def require_probabilities(tensor: Any, message: str) -> None:
    """Raises if numbers that can be read lie outside [0, 1].

    NaN passes: it is a diverged training, which is for others to report.
    """
    require(tensor, lambda p: ~((p < 0) | (p > 1 + ROUNDING)), message)


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
