"""Kernels of convolutions that keep images, norms or blocks of pixels."""

from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class Dirac(keras.initializers.Initializer):
    """Starts a convolution as the identity.

    Use it for layers that should change nothing until they learn to. Output
    channel i is `gain` times input channel i, as far as there are both; other
    outputs are 0. It holds with `padding="same"` and strides of 1, for kernels
    of any size; even ones have their center where Keras pads less. For a
    `Dense` kernel it is `keras.initializers.Identity`.

    Args:
        gain: What the channels are multiplied by.
        groups: That of the convolution; each group keeps its first channels.

    Call arguments:
        shape: `(..., input channels of a group, output channels)`.
        dtype: As in `keras.initializers.Initializer`.

    Returns:
        A tensor of that shape and dtype.

    Raises:
        ValueError: If `groups` is below 1 or does not divide the output
            channels, or there are fewer than two axes.

    Examples:
        >>> kernel = Dirac()((3, 2, 2))
        >>> keras.ops.convert_to_numpy(kernel)[1].tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Reference:
        Zagoruyko & Komodakis, 2017,
        [DiracNets](https://arxiv.org/abs/1706.00388), section 3.
    """

    def __init__(self, gain: float = 1.0, groups: int = 1):
        _validation.in_interval("gain", gain, "(-inf, inf)")
        _validation.at_least("groups", groups, 1)
        self.gain = gain
        self.groups = groups

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        inputs, outputs = _channels(shape)
        if outputs % self.groups:
            raise ValueError(
                "`groups` must divide the output channels. Received: "
                f"groups={self.groups}, shape={tuple(shape)}"
            )
        width = outputs // self.groups
        kernel = np.zeros(shape, "float32")
        for group in range(self.groups):
            for channel in range(min(inputs, width)):
                place = (channel, group * width + channel)
                kernel[(*_center(shape), *place)] = self.gain
        return ops.convert_to_tensor(kernel, dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "groups": self.groups}


@component(since="0.1")
class DeltaOrthogonal(keras.initializers.Initializer):
    """Starts a convolution as a rotation of the channels of each pixel.

    Use it to train very deep networks of plain convolutions: with
    `padding="same"` and strides of 1, an image has `gain` times the norm after
    the convolution that it had before. The center of the kernel is orthogonal,
    all else is 0. For kernels of size 1, and of `Dense`, it is
    `keras.initializers.Orthogonal`.

    Args:
        gain: What norms are multiplied by.
        seed: Integer, or None for a seed that differs at every run.

    Call arguments:
        shape: `(..., input channels, output channels)`, as many outputs as
            inputs or more.
        dtype: As in `keras.initializers.Initializer`.

    Returns:
        A tensor of that shape and dtype.

    Raises:
        ValueError: If there are fewer outputs than inputs, which no linear
            map keeps the norms of, or fewer than two axes.

    Examples:
        >>> kernel = DeltaOrthogonal(seed=0)((3, 3, 2, 4))
        >>> center = keras.ops.convert_to_numpy(kernel)[1, 1]
        >>> np.allclose(center @ center.T, np.eye(2), atol=1e-6)
        True

    Reference:
        Xiao et al., 2018, [Dynamical isometry and a mean field theory of
        CNNs](https://arxiv.org/abs/1806.05393), algorithm 1.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        _validation.in_interval("gain", gain, "(-inf, inf)")
        self.gain = gain
        self.seed = seed

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        inputs, outputs = _channels(shape)
        if outputs < inputs:
            raise ValueError(
                "There must be as many output channels as input channels, or "
                f"more. Received: shape={tuple(shape)}"
            )
        orthogonal = keras.initializers.Orthogonal(self.gain, seed=self.seed)
        # Half precision has no QR decomposition on JAX.
        matrix = orthogonal((inputs, outputs), dtype="float32")
        matrix = ops.cast(matrix, dtype or keras.config.floatx())
        center = _center(shape)
        around = [
            (place, length - 1 - place)
            for place, length in zip(center, shape[:-2], strict=True)
        ]
        matrix = ops.reshape(matrix, (1,) * len(center) + (inputs, outputs))
        return ops.pad(matrix, [*around, (0, 0), (0, 0)]) if around else matrix

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "seed": self.seed}


@component(since="0.1")
class ICNR(keras.initializers.Initializer):
    """Starts a convolution before `SubpixelUpsampling2D` without checkerboards.

    Use it as the kernel initializer of that convolution. All channels that
    become one block of pixels start alike, so that the two layers together are
    nearest-neighbor upsampling (`keras.layers.UpSampling2D`) after a
    convolution with fewer channels, which `initializer` draws. With `size=1`
    it is `initializer`.

    Args:
        size: As in `kerascomp.layers.SubpixelUpsampling2D`.
        initializer: Of the kernel with fewer channels.

    Call arguments:
        shape: `(..., input channels, rows * columns * channels)`.
        dtype: As in `keras.initializers.Initializer`.

    Returns:
        A tensor of that shape and dtype.

    Raises:
        ValueError: If `size` is below 1, or its product does not divide the
            output channels.

    Examples:
        >>> kernel = ICNR(2)((3, 3, 5, 8))
        >>> block = keras.ops.convert_to_numpy(kernel)[..., 0::2]
        >>> bool((block == block[..., :1]).all())
        True

    Reference:
        Aitken et al., 2017, [Checkerboard artifact free sub-pixel
        convolution](https://arxiv.org/abs/1707.02937), section 3.
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 2,
        initializer: Any = "glorot_uniform",
    ):
        rows, columns = _validation.pair("size", size)
        self._copies = rows * columns
        self.size = size
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        _, outputs = _channels(shape)
        if outputs % self._copies:
            raise ValueError(
                f"The output channels must be a multiple of {self._copies}. "
                f"Received: size={self.size}, shape={tuple(shape)}"
            )
        fewer = (*shape[:-1], outputs // self._copies)
        kernel = self.initializer(fewer, dtype=dtype)
        return ops.concatenate([kernel] * self._copies, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "initializer": keras.saving.serialize_keras_object(
                self.initializer
            ),
        }


def _channels(shape: Any) -> tuple[int, int]:
    """The input channels of one group, and the output channels."""
    if len(shape) < 2:
        raise ValueError(
            f"A kernel has at least two axes. Received: shape={tuple(shape)}"
        )
    return shape[-2], shape[-1]


def _center(shape: Any) -> tuple:
    """The place that sees the pixel itself, with `padding="same"`."""
    return tuple((length - 1) // 2 for length in shape[:-2])
