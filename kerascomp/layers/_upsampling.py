"""Upsampling from channels."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _spatial

ops = keras.ops


@component(since="0.1")
class SubpixelUpsampling2D(keras.layers.Layer):
    """Enlarges an image by laying out channels as pixels.

    Use it after a convolution with `filters * size ** 2` channels, in place of
    a transposed convolution: the convolution runs on the small image, and no
    pixel is painted over twice. Start that convolution with
    `kerascomp.initializers.ICNR`, which avoids checkerboards. `size=1` changes
    nothing.

    Channel `(i * columns + j) * channels + c` becomes row i and column j of the
    block of `rows` times `columns` pixels, in channel c: the order of the paper
    and of `keras.ops.depth_to_space` (Keras 3.15). That of
    `torch.nn.PixelShuffle` is `c * rows * columns + i * columns + j`.

    Args:
        size: By how many rows and columns a pixel is replaced: one integer or
            two.
        data_format: As in `keras.layers.UpSampling2D`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, rows * columns * channels)`, or channels
            first.

    Returns:
        `(batch, rows * height, columns * width, channels)`, or channels first,
        in the dtype of the input.

    Masking:
        The mask is not passed on: it would have one axis of an image.

    Raises:
        ValueError: If `size` is below 1, or does not divide the channels (which
            are not looked at if they are unknown when the layer is built).

    Examples:
        >>> pixel = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
        >>> block = SubpixelUpsampling2D()(pixel)
        >>> keras.ops.convert_to_numpy(block)[0, :, :, 0].tolist()
        [[1.0, 2.0], [3.0, 4.0]]

    Reference:
        Shi et al., 2016, [Real-time single image and video
        super-resolution](https://arxiv.org/abs/1609.05158), equation 4.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 2,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._size = _validation.pair("size", size)
        self.size = size
        self.data_format = _spatial.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        rows, columns = self._size
        channels = input_shape[_spatial.channel_axis(self.data_format)]
        if channels is not None and channels % (rows * columns):
            raise ValueError(
                f"The channels must be a multiple of {rows} * {columns}. "
                f"Received: input_shape={tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        rows, columns = self._size
        # To find shapes, Keras tries numbers of channels that do not divide.
        axis = _spatial.channel_axis(self.data_format) % 4
        whole = ops.shape(inputs)[axis] // (rows * columns) * rows * columns
        inputs = _spatial.sliced(inputs, axis, None, whole)
        shape = ops.shape(inputs)
        if self.data_format == "channels_last":
            batch, height, width, channels = shape
            channels = channels // (rows * columns)
            order = (0, 1, 3, 2, 4, 5)
            blocks = (batch, height, width, rows, columns, channels)
            output = (batch, height * rows, width * columns, channels)
        else:
            batch, channels, height, width = shape
            channels = channels // (rows * columns)
            order = (0, 3, 4, 1, 5, 2)
            blocks = (batch, rows, columns, channels, height, width)
            output = (batch, channels, height * rows, width * columns)
        pixels = ops.transpose(ops.reshape(inputs, blocks), order)
        return ops.reshape(pixels, output)

    def compute_output_shape(self, input_shape: Any) -> Any:
        rows, columns = self._size
        axes = (
            *_spatial.image_axes(self.data_format),
            _spatial.channel_axis(self.data_format),
        )
        height, width, channels = (input_shape[axis] for axis in axes)
        return _spatial.replaced(
            input_shape,
            axes,
            (
                None if height is None else height * rows,
                None if width is None else width * columns,
                None if channels is None else channels // (rows * columns),
            ),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "data_format": self.data_format,
        }
