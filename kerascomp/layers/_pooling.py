"""Pooling over bins, by powers, and without aliasing."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerascomp import _compat, _geometry, _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _spatial

ops = keras.ops
POOLINGS = ("max", "average")


@component(since="0.1")
class SpatialPyramidPooling2D(keras.layers.Layer):
    """Pools an image of any size into a fixed number of bins.

    Use it between convolutions and dense layers, so that images may differ in
    size and what stands where is kept roughly. `bins=(1, 2, 4)` pools the
    whole image, its quarters and its sixteenths. `bins=(1,)` is
    `keras.layers.GlobalMaxPooling2D`.

    Bin i of n covers the rows from floor(i * height / n) to before
    ceil((i + 1) * height / n), so that no bin is empty and no pixel left out;
    bins overlap where n does not divide the height.

    Args:
        bins: For each level, the number of bins by rows and by columns: one
            integer or two.
        pooling: `"max"`, as in the paper, or `"average"`.
        data_format: As in `keras.layers.MaxPooling2D`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, float, or channels first.

    Returns:
        `(batch, number of bins, channels)`, or `(batch, channels, number of
        bins)`: level by level, each in reading order. `keras.layers.Flatten`
        makes the vector of the paper.

    Masking:
        The mask is not passed on: it would have one axis of an image.

    Raises:
        ValueError: If there is no level, or an argument is out of range.

    Examples:
        >>> image = np.arange(6.0).reshape(1, 2, 3, 1)
        >>> pooled = SpatialPyramidPooling2D(bins=(1, 2))(image)
        >>> keras.ops.convert_to_numpy(pooled)[0, :, 0].tolist()
        [5.0, 1.0, 2.0, 4.0, 5.0]

    Reference:
        He et al., 2014, [Spatial pyramid pooling in deep convolutional
        networks](https://arxiv.org/abs/1406.4729), with the bins of its
        appendix on mapping windows.
    """

    def __init__(
        self,
        bins: Sequence[int | tuple[int, int]] = (1, 2, 4),
        pooling: str = "max",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(bins, list | tuple) or not bins:
            raise ValueError(
                "`bins` must be a sequence of integers or pairs. "
                f"Received: bins={bins!r}"
            )
        self._levels = tuple(_validation.pair("bins", each) for each in bins)
        _validation.one_of("pooling", pooling, POOLINGS)
        self.bins = bins
        self.pooling = pooling
        self.data_format = _spatial.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Any) -> Any:
        inputs = ops.cast(inputs, self.compute_dtype)
        shape = ops.shape(inputs)
        last = self.data_format == "channels_last"
        levels = []
        for counts in self._levels:
            level = inputs
            for axis, count in zip(
                _spatial.image_axes(self.data_format), counts, strict=True
            ):
                level = self._binned(level, axis, shape[axis], count)
            count = counts[0] * counts[1]
            flat = (count, shape[3]) if last else (shape[1], count)
            levels.append(ops.reshape(level, (shape[0], *flat)))
        return ops.concatenate(levels, axis=1 if last else 2)

    def _binned(self, x: Any, axis: int, length: Any, count: int) -> Any:
        reduce = _numerics.largest if self.pooling == "max" else ops.mean
        parts = [
            reduce(
                _spatial.sliced(
                    x, axis, i * length // count, -(-(i + 1) * length // count)
                ),
                axis=axis,
                keepdims=True,
            )
            for i in range(count)
        ]
        return ops.concatenate(parts, axis=axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        count = sum(rows * columns for rows, columns in self._levels)
        if self.data_format == "channels_last":
            return (input_shape[0], count, input_shape[3])
        return (input_shape[0], input_shape[1], count)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bins": self.bins,
            "pooling": self.pooling,
            "data_format": self.data_format,
        }


@component(since="0.1")
class GeneralizedMeanPooling(keras.layers.Layer):
    """Pools everything but channels, between average and maximum, learned.

    Use it in place of global pooling to compare images, or to classify from
    small parts of them: the exponent `p`, a weight, says how much large values
    count. `p = 1` is `keras.layers.GlobalAveragePooling2D` (1D, 3D) of
    positive numbers, a large `p` comes close to `GlobalMaxPooling2D`; a
    negative one, to the minimum. A channel becomes

        mean(max(x, epsilon) ** p) ** (1 / p)

    Args:
        p: Where the exponent starts, above 0.
        per_channel: Whether each channel learns its own. `trainable=False`
            keeps `p` as it is.
        epsilon: What smaller inputs count as, above 0. Inputs are meant to
            be activations that are not negative.
        data_format: As in `keras.layers.GlobalAveragePooling2D`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., channels)`, or `(batch, channels, ...)`, float, of
            at least three axes.

    Returns:
        `(batch, channels)`, in the compute dtype.

    Masking:
        The mask is not passed on: the steps are pooled, masked ones too.

    Raises:
        ValueError: If `p` or `epsilon` is not above 0, or each of the
            channels is to have a `p` and their number is unknown.

    Examples:
        >>> steps = np.array([[[3.0], [4.0]]])
        >>> pooled = GeneralizedMeanPooling(p=2.0)(steps)
        >>> round(float(pooled[0, 0]), 4)  # The root of (9 + 16) / 2
        3.5355

    Reference:
        Radenovic et al., 2018, [Fine-tuning CNN image retrieval with no human
        annotation](https://arxiv.org/abs/1711.02512), section 3.2, with the
        floor `epsilon` of the authors' program.
    """

    def __init__(
        self,
        p: float = 3.0,
        per_channel: bool = False,
        epsilon: float = 1e-6,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.in_interval("p", p, "(0, inf)")
        _validation.in_interval("epsilon", epsilon, "(0, inf)")
        self.p = p
        self.per_channel = per_channel
        self.epsilon = epsilon
        self.data_format = _spatial.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(min_ndim=3)

    def build(self, input_shape: Any) -> None:
        shape: tuple = ()
        if self.per_channel:
            shape = (_spatial.known_channels(input_shape, self.data_format),)
        self.exponent = self.add_weight(
            name="exponent",
            shape=shape,
            initializer=keras.initializers.Constant(self.p),
            autocast=False,
        )

    def call(self, inputs: Any) -> Any:
        x = _geometry.widened(ops.cast(inputs, self.compute_dtype))
        axes = _spatial.inner_axes(len(x.shape), self.data_format)
        # Powers of large numbers overflow, sums of their logarithms do not.
        logs = ops.log(ops.maximum(x, self.epsilon))
        p = ops.convert_to_tensor(self.exponent)
        wide = p
        if self.per_channel and self.data_format == "channels_first":
            wide = ops.reshape(p, (-1,) + (1,) * len(axes))
        shape = ops.shape(x)
        count = math.prod(shape[axis] for axis in axes)
        total = ops.logsumexp(wide * logs, axis=axes)
        total = total - ops.log(ops.cast(count, x.dtype))
        return ops.cast(ops.exp(total / p), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        channels = _spatial.channel_axis(self.data_format)
        return (input_shape[0], input_shape[channels])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "p": self.p,
            "per_channel": self.per_channel,
            "epsilon": self.epsilon,
            "data_format": self.data_format,
        }


@component(since="0.1")
class BlurPooling2D(keras.layers.Layer):
    """Halves an image after blurring it, so that shifts change little.

    Use it wherever a network takes every other pixel: after a convolution in
    place of its strides, and after `keras.layers.MaxPooling2D(2, strides=1)`
    in place of strided pooling. Every channel is convolved with the binomial
    coefficients by rows and columns, [1, 2, 1] / 4 for three, on an image that
    is mirrored at its border. `kernel_size=1` takes every other pixel as it is;
    `kernel_size=2` of an image of even size is
    `keras.layers.AveragePooling2D(2)`. Constant images stay as they are.

    Args:
        kernel_size: How many pixels of a row are averaged, at least 1.
        strides: Rows and columns from pixel to pixel: one integer or two.
        data_format: As in `keras.layers.AveragePooling2D`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, float, or channels first.

    Returns:
        `(batch, ceil(height / rows), ceil(width / columns), channels)`, or
        channels first, in the compute dtype.

    Masking:
        The mask is not passed on: it would have one axis of an image.

    Raises:
        ValueError: If an argument is out of range, or the image is too small
            to be mirrored: it needs more than `kernel_size // 2` pixels.

    Examples:
        >>> row = np.array([0.0, 0.0, 4.0, 0.0]).reshape(1, 1, 4, 1)
        >>> image = np.repeat(row, 2, axis=1)
        >>> blurred = BlurPooling2D()(image)
        >>> keras.ops.convert_to_numpy(blurred).ravel().tolist()
        [0.0, 2.0]

    Reference:
        Zhang, 2019, [Making convolutional networks shift-invariant
        again](https://arxiv.org/abs/1904.11486), section 3.
    """

    def __init__(
        self,
        kernel_size: int = 3,
        strides: int | tuple[int, int] = 2,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.at_least("kernel_size", kernel_size, 1)
        self._strides = _validation.pair("strides", strides)
        self.kernel_size = kernel_size
        self.strides = strides
        self.data_format = _spatial.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        lengths = [
            input_shape[axis] for axis in _spatial.image_axes(self.data_format)
        ]
        if any(n is not None and n <= self.kernel_size // 2 for n in lengths):
            raise ValueError(
                "Mirroring needs images of more than `kernel_size // 2` pixels "
                f"a side. Received: kernel_size={self.kernel_size}, "
                f"input_shape={tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, self.compute_dtype)
        shape = ops.shape(x)
        axes = _spatial.image_axes(self.data_format)
        if self._convolves(x):
            for axis in axes:
                x = _mirrored(x, axis, shape[axis], self.kernel_size)
            weights = np.outer(self._weights(), self._weights())
            kernel = np.tile(weights[..., None, None], (1, 1, x.shape[-1], 1))
            kernel = ops.convert_to_tensor(kernel, x.dtype)
            return ops.depthwise_conv(
                x, kernel, self._strides[0], data_format=self.data_format
            )
        for axis, stride in zip(axes, self._strides, strict=True):
            x = self._blurred(x, axis, shape[axis], stride)
        return x

    def _convolves(self, x: Any) -> bool:
        """Whether a convolution of each channel can do it, and sooner.

        On TensorFlow; XLA takes ten times as long for one on a CPU.
        """
        return (
            _compat.backend() == "tensorflow"
            and self.data_format == "channels_last"
            and self._strides[0] == self._strides[1]
            and x.shape[-1] is not None
        )

    def _weights(self) -> np.ndarray:
        """Returns the binomial coefficients, which sum to 1."""
        last = self.kernel_size - 1
        return np.array([math.comb(last, n) for n in range(last + 1)]) / 2**last

    def _blurred(self, x: Any, axis: int, length: Any, stride: int) -> Any:
        x = _mirrored(x, axis, length, self.kernel_size)
        count = -(-length // stride)
        parts = _spatial.shifted(x, axis, self.kernel_size, count, stride)
        return sum(
            float(weight) * part
            for weight, part in zip(self._weights(), parts, strict=True)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        axes = _spatial.image_axes(self.data_format)
        lengths = [
            None if input_shape[axis] is None else -(-input_shape[axis] // step)
            for axis, step in zip(axes, self._strides, strict=True)
        ]
        return _spatial.replaced(input_shape, axes, lengths)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "data_format": self.data_format,
        }


def _mirrored(x: Any, axis: int, length: Any, kernel_size: int) -> Any:
    """Continues an axis by what lies inside its first and last pixel."""
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    parts = [x]
    if before:
        first = _spatial.strided(x, axis, 1, before, 1)
        parts.insert(0, ops.flip(first, axis=axis))
    if after:
        end = _spatial.strided(x, axis, length - 1 - after, after, 1)
        parts.append(ops.flip(end, axis=axis))
    return ops.concatenate(parts, axis=axis)
