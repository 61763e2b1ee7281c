"""Max pooling that remembers the places, and its inverse."""

from typing import Any

from kerascomp import _compat, _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _spatial

ops = keras.ops
PADDINGS = ("valid", "same")


class _Windows2D(keras.layers.Layer):
    """Arguments and shapes of layers that pool images or undo it."""

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.one_of("padding", padding, PADDINGS)
        self._pool = _validation.pair("pool_size", pool_size)
        self._strides = (
            self._pool
            if strides is None
            else _validation.pair("strides", strides)
        )
        self.pool_size = pool_size
        self.strides = strides
        self.padding = padding
        self.data_format = _spatial.data_format(data_format)

    def _pooled(self, lengths: Any) -> tuple:
        """How many windows fit into rows and columns."""
        return tuple(
            None
            if length is None
            else -(-length // stride)
            if self.padding == "same"
            else (length - pool) // stride + 1
            for length, pool, stride in zip(
                lengths, self._pool, self._strides, strict=True
            )
        )

    def _lengths(self, input_shape: Any) -> tuple:
        return tuple(
            input_shape[axis] for axis in _spatial.image_axes(self.data_format)
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


@component(since="0.1")
class MaxPoolingWithIndices2D(_Windows2D):
    """Pools maxima and says where each of them was, for unpooling.

    Use it in the encoder of a segmentation network, whose decoder puts values
    back to these places with `MaxUnpooling2D`. The first output is that of
    `keras.layers.MaxPooling2D`. Of equal maxima the first counts, in reading
    order, and gets all of the gradient; NaN counts as the largest.

    An index is `row * width + column` in the input image, the same in every
    channel and either data format: that of `torch.nn.MaxPool2d`. The indices
    of TensorFlow (`tf.nn.max_pool_with_argmax`), which TensorFlow Addons
    unpools, are `index * channels + channel`.

    Args:
        pool_size: Rows and columns of a window: one integer or two.
        strides: Rows and columns between windows. None for `pool_size`.
        padding: `"valid"`: windows lie inside; what is left over is not
            pooled. `"same"`: they may hang over the border, as in Keras;
            indices never point there.
        data_format: As in `keras.layers.MaxPooling2D`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, float, or channels first.

    Returns:
        A list of two tensors of equal shape, pooled in height and width: the
        maxima in the compute dtype, and their indices in int32.

    Masking:
        The mask is not passed on: it would have one axis of an image.

    Raises:
        ValueError: If an argument is out of range, or if a window is larger
            than the image and `padding="valid"`.

    Examples:
        >>> image = np.array([[1, 5, 2, 3], [4, 0, 6, 1]], "float32")
        >>> values, indices = MaxPoolingWithIndices2D()(image[None, ..., None])
        >>> keras.ops.convert_to_numpy(values).ravel().tolist()
        [5.0, 6.0]
        >>> keras.ops.convert_to_numpy(indices).ravel().tolist()
        [1, 6]

    Reference:
        Badrinarayanan et al., 2015, [SegNet](https://arxiv.org/abs/1511.00561),
        section 3.
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        lengths = self._lengths(input_shape)
        if any(
            count is not None and count < 1 for count in self._pooled(lengths)
        ):
            raise ValueError(
                "`pool_size` must not exceed the image. Received: "
                f"pool_size={self.pool_size}, input_shape={tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        values = ops.cast(inputs, self.compute_dtype)
        axes = _spatial.image_axes(self.data_format)
        shape = ops.shape(values)
        lengths = [shape[axis] for axis in axes]
        whole = all(isinstance(length, int) for length in lengths)
        if whole and self.padding == "valid" and self._strides == self._pool:
            return self._disjoint(values, lengths)
        indices = ops.reshape(
            ops.arange(lengths[0] * lengths[1], dtype="int32"),
            _spatial.replaced((1,) * 4, axes, lengths),
        )
        indices = indices + ops.zeros_like(values, dtype="int32")
        counts = self._pooled(lengths)
        for place in (1, 0):  # Columns first: reading order decides ties.
            values, indices = self._reduce(
                values, indices, place, lengths[place], counts[place]
            )
        return [values, indices]

    def _disjoint(self, values: Any, lengths: list) -> list:
        """Pools windows that do not overlap.

        They are axes of the image in another shape, which takes a quarter of
        the time that slices with strides take, forward and backward.
        """
        axes, counts = _spatial.image_axes(self.data_format), []
        for axis, length, pool in zip(axes, lengths, self._pool, strict=True):
            counts.append(length // pool)
            if length % pool:
                values = _spatial.sliced(values, axis, 0, counts[-1] * pool)
        rows, columns = axes
        shape = ops.shape(values)
        height, width = self._pool
        windows = ops.reshape(
            values,
            (
                *shape[:rows],
                *(counts[0], height, counts[1], width),
                *shape[columns + 1 :],
            ),
        )
        pixels = [
            pixel
            for row in ops.unstack(windows, height, axis=rows + 1)
            for pixel in ops.unstack(row, width, axis=columns + 1)
        ]
        best, places = pixels[0], ops.zeros_like(pixels[0], dtype="int32")
        for place, value in enumerate(pixels[1:], 1):
            better = ops.logical_or(value > best, ops.isnan(value))
            best = ops.where(better, value, best)
            places = ops.where(better, place, places)
        return [best, self._index(places, counts, lengths[1])]

    def _index(self, places: Any, counts: list, width: int) -> Any:
        """Returns the place in the image, of places in disjoint windows."""
        axes = _spatial.image_axes(self.data_format)
        first = 0
        for axis, count, size in zip(
            axes,
            counts,
            (self._pool[0] * width, self._pool[1]),
            strict=True,
        ):
            starts = size * ops.arange(count, dtype="int32")
            first = first + ops.reshape(
                starts, _spatial.replaced((1,) * 4, [axis], [count])
            )
        row = places // self._pool[1]
        return first + places + (width - self._pool[1]) * row

    def _reduce(
        self, values: Any, indices: Any, place: int, length: Any, count: Any
    ) -> tuple[Any, Any]:
        """Pools rows, or columns."""
        axis = _spatial.image_axes(self.data_format)[place]
        pool, stride = self._pool[place], self._strides[place]
        start: Any = 0
        if self.padding == "same":
            # By as much as may be needed; how much is, tells `start`.
            width = _spatial.replaced(
                ((0, 0),) * 4, [axis], [(pool - 1, pool - 1)]
            )
            values = ops.pad(values, width, constant_values=float("-inf"))
            indices = ops.pad(indices, width, constant_values=-1)
            maximum = max if isinstance(length, int) else ops.maximum
            outside = maximum((count - 1) * stride + pool - length, 0)
            start = pool - 1 - outside // 2
        best: Any = None
        where: Any = None
        for offset in range(pool):
            value, index = (
                _spatial.strided(each, axis, start + offset, count, stride)
                for each in (values, indices)
            )
            if offset == 0:
                best, where = value, index
                continue
            better = ops.logical_or(value > best, ops.isnan(value))
            if self.padding == "same":
                # An infinite value inside is no border.
                better = ops.logical_or(better, where < 0)
                better = ops.logical_and(better, index >= 0)
            best = ops.where(better, value, best)
            where = ops.where(better, index, where)
        return best, where

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = _spatial.replaced(
            input_shape,
            _spatial.image_axes(self.data_format),
            self._pooled(self._lengths(input_shape)),
        )
        return [shape, shape]

    def compute_output_spec(self, inputs: Any) -> Any:
        shape, _ = self.compute_output_shape(inputs.shape)
        return [
            keras.KerasTensor(shape, dtype)
            for dtype in (self.compute_dtype, "int32")
        ]


@component(since="0.1")
class MaxUnpooling2D(_Windows2D):
    """Puts pooled values back to where the maxima were, among zeros.

    Use it in the decoder of a segmentation network, with the indices of
    `MaxPoolingWithIndices2D` and its arguments: borders stay sharp without
    skip connections. On the output of that layer it gives the image with
    every number but the maxima replaced by 0.

    Where windows overlap, several may have their maximum at one place: it
    gets the mean of their values, so that the sentence above holds there as
    well. (TensorFlow Addons adds them up; torch keeps any of them.)

    Args:
        pool_size: As it was pooled.
        strides: As it was pooled.
        padding: As it was pooled.
        data_format: As it was pooled.
        output_size: `(height, width)` of the image. None for the smallest
            image of that many windows, without padding: `(n - 1) * strides +
            pool_size`; or for `n * strides` if `padding="same"`. Give it where
            the image was larger or smaller: indices depend on its width.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: A list of the values, `(batch, rows, columns, channels)`, float,
            or channels first; and their indices, integers of the same shape.
            An index that lies outside of the image raises an error if it can
            be read; in compiled programs it is not looked at.

    Returns:
        `(batch, height, width, channels)`, or channels first, in the compute
        dtype.

    Masking:
        The mask is not passed on: it would have one axis of an image.

    Raises:
        ValueError: If an argument is out of range, the inputs are not two of
            equal shape, or an image of `output_size` has another number of
            windows.

    Examples:
        >>> values = np.array([5.0, 6.0]).reshape(1, 1, 2, 1)
        >>> indices = np.array([1, 6]).reshape(1, 1, 2, 1)
        >>> image = MaxUnpooling2D()([values, indices])
        >>> keras.ops.convert_to_numpy(image)[0, :, :, 0].tolist()
        [[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 6.0, 0.0]]

    Reference:
        Badrinarayanan et al., 2015, [SegNet](https://arxiv.org/abs/1511.00561),
        section 3.
    """

    def __init__(
        self,
        pool_size: int | tuple[int, int] = 2,
        strides: int | tuple[int, int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        output_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)
        if output_size is not None:
            _validation.pair("output_size", output_size)
        self.output_size = output_size
        self.input_spec = [keras.layers.InputSpec(ndim=4)] * 2

    def build(self, input_shape: Any) -> None:
        values, indices = input_shape
        counts = self._lengths(values)
        if not _numerics.same_shape(values, indices):
            raise ValueError(
                "Values and indices must have the same shape. Received: "
                f"input_shape={tuple(map(tuple, input_shape))}"
            )
        windows = self._pooled(self._image(counts))
        if not _numerics.same_shape(counts, windows):
            raise ValueError(
                f"An image of `output_size` has {windows} windows, the input "
                f"{counts}. Received: output_size={self.output_size}"
            )

    def _image(self, counts: Any) -> tuple:
        """Rows and columns of the image with that many windows."""
        if self.output_size is not None:
            return _validation.pair("output_size", self.output_size)
        return tuple(
            None
            if count is None
            else count * stride
            if self.padding == "same"
            else (count - 1) * stride + pool
            for count, pool, stride in zip(
                counts, self._pool, self._strides, strict=True
            )
        )

    def call(self, inputs: Any) -> Any:
        values, indices = inputs
        values = ops.cast(values, self.compute_dtype)
        indices = ops.cast(indices, "int32")
        axes = _spatial.image_axes(self.data_format)
        shape = ops.shape(values)
        image = self._image([shape[axis] for axis in axes])
        area = image[0] * image[1]
        _numerics.require(
            indices,
            lambda found: (found >= 0) & (found < int(area)),
            f"Indices must lie in an image of {image}.",
        )
        output_shape = _spatial.replaced(shape, axes, image)
        size = output_shape[0] * output_shape[1]
        size = size * output_shape[2] * output_shape[3]
        places = self._places(indices, shape, area)
        overlap = any(
            pool > stride
            for pool, stride in zip(self._pool, self._strides, strict=True)
        )
        output = _sums(values, places, size)
        if overlap:
            counts = _sums(ops.ones_like(values), places, size)
            output = output / ops.maximum(counts, 1)
        return ops.reshape(output, output_shape)

    def _places(self, indices: Any, shape: Any, area: Any) -> Any:
        """Where the indices point in the flat output."""
        samples = ops.arange(shape[0], dtype="int32")
        samples = ops.reshape(samples, (-1, 1, 1, 1))
        if self.data_format == "channels_last":
            channels = ops.arange(shape[3], dtype="int32")
            return (samples * area + indices) * shape[3] + channels
        channels = ops.arange(shape[1], dtype="int32")
        channels = ops.reshape(channels, (-1, 1, 1))
        return (samples * shape[1] + channels) * area + indices

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape, _ = input_shape
        return _spatial.replaced(
            shape,
            _spatial.image_axes(self.data_format),
            self._image(self._lengths(shape)),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "output_size": self.output_size}


def _sums(values: Any, places: Any, size: Any) -> Any:
    """Adds up what goes to the same place."""
    values = ops.reshape(values, (-1,))
    if isinstance(size, int) and not size:
        return values  # Keras takes a size of 0 for none given on torch.
    return _compat.segment_sum(values, ops.reshape(places, (-1,)), size)
