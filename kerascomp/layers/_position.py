"""Positions as sines."""

from typing import Any

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class SinusoidalPositionEncoding(keras.layers.Layer):
    """Adds to each step of a sequence sines that tell its position.

    Use it after an embedding, before attention, which does not see the order
    of its inputs. Nothing is learned, and sequences may be longer than any in
    training. To step `t` of `features` numbers are added, for each even i,

        sin(t / max_wavelength ** (i / features))   to number i
        cos(t / max_wavelength ** (i / features))   to number i + 1

    `keras_hub.layers.SinePositionEncoding` returns the same numbers without
    the input. This layer needs no KerasHub, and computes angles in float32:
    half precision takes positions above 2,048 for their neighbors.

    Args:
        max_wavelength: Wavelength of the slowest sine in steps, over 2 pi;
            above 1.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., steps, features)`, float.
        start_index: Position of the first step: an integer or scalar tensor.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged. Masked steps have positions, too.

    Raises:
        ValueError: If `max_wavelength` is not above 1.

    Examples:
        >>> layer = SinusoidalPositionEncoding()
        >>> output = layer(np.zeros((1, 2, 4)))
        >>> keras.ops.convert_to_numpy(output[0]).round(2).tolist()[0]
        [0.0, 1.0, 0.0, 1.0]
        >>> bool(abs(float(output[0, 1, 2]) - np.sin(0.01)) < 1e-6)
        True

    Reference:
        Vaswani et al., 2017, [Attention is all you
        need](https://arxiv.org/abs/1706.03762), section 3.5.
    """

    def __init__(self, max_wavelength: float = 10_000.0, **kwargs: Any):
        super().__init__(**kwargs)
        _validation.in_interval("max_wavelength", max_wavelength, "(1, inf)")
        self.max_wavelength = max_wavelength
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=3)

    def call(self, inputs: Any, start_index: Any = 0) -> Any:
        inputs = ops.cast(inputs, self.compute_dtype)
        steps, features = ops.shape(inputs)[-2:]
        dtype = _geometry.widened(inputs).dtype
        numbers = ops.arange(features, dtype="int32")
        even = ops.cast(numbers - numbers % 2, dtype)
        exponents = even / ops.cast(features, dtype)
        frequencies = ops.power(
            ops.cast(self.max_wavelength, dtype), -exponents
        )
        positions = ops.arange(steps, dtype="int32") + start_index
        angles = ops.cast(positions, dtype)[:, None] * frequencies
        encoding = ops.where(numbers % 2 == 0, ops.sin(angles), ops.cos(angles))
        return inputs + ops.cast(encoding, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any, **_: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
