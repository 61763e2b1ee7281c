"""Attention to channels."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _spatial

ops = keras.ops


@component(since="0.1")
class SqueezeExcite(keras.layers.Layer):
    """Scales every channel by how much the whole image asks for it.

    Use it after the convolutions of a block, before the residual sum. The
    means of the channels pass two dense layers, of which the first is narrow;
    their output, in (0, 1), multiplies the channels:

        x * gate(W2 activation(W1 mean(x) + b1) + b2)

    With weights of 0 every channel is halved.

    Args:
        reduction: How many times narrower the first dense layer is than the
            input; divides the number of channels.
        activation: Of the first dense layer.
        gate: Of the second.
        use_bias: Whether the dense layers have biases.
        kernel_initializer: As in `keras.layers.Dense`.
        data_format: As in `keras.layers.Conv2D`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., channels)`, or `(batch, channels, ...)`, float, of
            at least three axes: series, images or volumes.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged. Masked steps count in the means.

    Raises:
        ValueError: If `reduction` is below 1 or does not divide the channels,
            or their number is unknown.

    Examples:
        >>> layer = SqueezeExcite(reduction=2, kernel_initializer="zeros")
        >>> output = layer(np.full((1, 3, 3, 4), 8.0))
        >>> sorted(set(keras.ops.convert_to_numpy(output).ravel().tolist()))
        [4.0]

    Reference:
        Hu et al., 2018, [Squeeze-and-excitation
        networks](https://arxiv.org/abs/1709.01507), equations 2 to 4, which
        leave out biases.
    """

    def __init__(
        self,
        reduction: int = 16,
        activation: Any = "relu",
        gate: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.at_least("reduction", reduction, 1)
        self.reduction = reduction
        self.activation = keras.activations.get(activation)
        self.gate = keras.activations.get(gate)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.data_format = _spatial.data_format(data_format)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=3)

    def build(self, input_shape: Any) -> None:
        channels = _spatial.known_channels(input_shape, self.data_format)
        if channels % self.reduction:
            raise ValueError(
                "`reduction` must divide the channels. Received: "
                f"reduction={self.reduction}, input_shape={tuple(input_shape)}"
            )
        narrow = channels // self.reduction
        self.squeeze = self._dense("squeeze", narrow, self.activation)
        self.squeeze.build((input_shape[0], channels))
        self.excite = self._dense("excite", channels, self.gate)
        self.excite.build((input_shape[0], narrow))

    def _dense(self, name: str, units: int, activation: Any) -> Any:
        return keras.layers.Dense(
            units,
            activation=activation,
            use_bias=self.use_bias,
            # A copy: one that is seeded gives both layers the same numbers.
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs: Any) -> Any:
        inputs = ops.cast(inputs, self.compute_dtype)
        axes = _spatial.inner_axes(len(inputs.shape), self.data_format)
        scale = self.excite(self.squeeze(ops.mean(inputs, axis=axes)))
        return inputs * ops.expand_dims(scale, axes)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "activation": keras.activations.serialize(self.activation),
            "gate": keras.activations.serialize(self.gate),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "data_format": self.data_format,
        }
