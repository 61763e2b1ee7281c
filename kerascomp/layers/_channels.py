"""Weights with one entry for each channel."""

from typing import Any

from kerascomp._compat import keras

ops = keras.ops


def channels(layer: Any, axis: int, input_shape: Any) -> int:
    """Returns the length of the axis of the channels.

    Raises:
        ValueError: If the input has no such axis, the axis is that of the
            batch, or its length is unknown.
    """
    rank = len(input_shape)
    if not -rank < axis < rank or axis == 0:
        raise ValueError(
            f"`axis` of {type(layer).__name__} must be an axis of the input, "
            "and not that of the batch. Received: "
            f"axis={axis}, input_shape={tuple(input_shape)}"
        )
    if input_shape[axis] is None:
        raise ValueError(
            f"{type(layer).__name__} needs to know the length of axis {axis} "
            f"of its input. Received: input_shape={tuple(input_shape)}"
        )
    return input_shape[axis]


def along(vector: Any, axis: int, x: Any) -> Any:
    """Returns a vector shaped so that it broadcasts along an axis of `x`."""
    shape = [1] * len(x.shape)
    shape[axis] = -1
    return ops.reshape(ops.cast(vector, x.dtype), shape)
