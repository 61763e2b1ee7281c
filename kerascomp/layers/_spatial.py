"""What layers of images share: axes, pairs of numbers, slices."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras

ops = keras.ops
FORMATS = ("channels_last", "channels_first")


def data_format(value: str | None) -> str:
    """Returns where the channels are; of Keras' configuration for None.

    Resolved once: a saved model must not follow another configuration.
    """
    if value is None:
        return keras.config.image_data_format()
    _validation.one_of("data_format", value, FORMATS)
    return value


def image_axes(format_: str) -> tuple[int, int]:
    """Returns the axes of the rows and the columns of an image."""
    return (1, 2) if format_ == "channels_last" else (2, 3)


def inner_axes(rank: int, format_: str) -> tuple[int, ...]:
    """Returns all axes but those of the batch and the channels."""
    first = 1 if format_ == "channels_last" else 2
    return tuple(range(first, first + rank - 2))


def channel_axis(format_: str) -> int:
    """Returns the axis of the channels."""
    return -1 if format_ == "channels_last" else 1


def known_channels(input_shape: Any, format_: str) -> int:
    """Returns the number of channels, which weights depend on."""
    channels = input_shape[channel_axis(format_)]
    if channels is None:
        raise ValueError(
            "The channels of the input must be known. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    return channels


def replaced(shape: Any, axes: Any, lengths: Any) -> tuple:
    """Returns a shape with other lengths of some axes."""
    shape = list(shape)
    for axis, length in zip(axes, lengths, strict=True):
        shape[axis] = length
    return tuple(shape)


def sliced(
    x: Any, axis: int, start: Any, stop: Any, step: int | None = None
) -> Any:
    """Returns a slice along one axis, counted from the first."""
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def shifted(x: Any, axis: int, shifts: int, count: Any, step: int) -> list:
    """Returns `count` places of an axis, `step` apart, from 0, 1, 2... on.

    By contiguous slices of an image in which the step is an axis of its own:
    TensorFlow takes several times as long for slices with strides.

    Args:
        x: A tensor.
        axis: Which.
        shifts: How many are wanted.
        count: How many places of each; there are enough of them in `x`.
        step: How far apart.
    """
    length = x.shape[axis]
    if step == 1 or not (isinstance(length, int) and isinstance(count, int)):
        return [strided(x, axis, n, count, step) for n in range(shifts)]
    shape = ops.shape(x)
    missing = -length % step
    if missing:
        x = ops.pad(x, replaced(((0, 0),) * len(shape), [axis], [(0, missing)]))
    split = (length + missing) // step, step
    x = ops.reshape(x, (*shape[:axis], *split, *shape[axis + 1 :]))
    phases = ops.unstack(x, step, axis=axis + 1)
    return [
        sliced(phases[n % step], axis, n // step, n // step + count)
        for n in range(shifts)
    ]


def strided(x: Any, axis: int, start: Any, count: Any, step: int) -> Any:
    """Returns `count` places of an axis, `step` apart."""
    if isinstance(start, int) and isinstance(count, int):
        return sliced(x, axis, start, start + (count - 1) * step + 1, step)
    # Slices of a length that is not known yet are refused by JAX.
    return ops.take(x, start + step * ops.arange(count), axis=axis)
