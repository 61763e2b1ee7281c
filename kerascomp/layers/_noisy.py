"""Dense layers whose weights are noisy in training."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class NoisyDense(keras.layers.Layer):
    """Adds noise of learned size to the weights of a dense layer.

    Use it in place of `keras.layers.Dense` in the networks of reinforcement
    learning: they explore as far as they have learned to. In training, one
    draw for all samples of a call, each weight is

        mu + sigma * noise

    with mu and sigma learned. In inference, and with `deviation = 0` at first,
    it is Dense with the weights mu. To explore, call it with `training=True`.

    Args:
        units: Number of outputs, at least 1.
        factorized: Whether the noise of a weight is the product of one number
            for its input and one for its output, which is cheaper to draw,
            instead of a number of its own.
        deviation: Initial sigma, at least 0, over the square root of the
            number of inputs if factorized. None for that of the paper: 0.5 if
            factorized, else 0.017.
        activation: As in `keras.layers.Dense`.
        use_bias: Whether there is a bias, with noise as well.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, float.
        training: Whether weights are noisy.

    Returns:
        `(batch, ..., units)`, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If `units` is below 1 or `deviation` negative; when it is
            built, if the last axis is unknown.

    Examples:
        >>> layer = NoisyDense(3, seed=1)
        >>> x = np.ones((1, 2))
        >>> bool(keras.ops.all(layer(x) == layer(x)))
        True
        >>> noisy = layer(x, training=True)
        >>> bool(keras.ops.all(noisy == layer(x, training=True)))
        False

    Reference:
        Fortunato et al., 2018, [Noisy networks for
        exploration](https://arxiv.org/abs/1706.10295), section 3.
    """

    def __init__(
        self,
        units: int,
        factorized: bool = True,
        deviation: float | None = None,
        activation: Any = None,
        use_bias: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.at_least("units", units, 1)
        if deviation is not None:
            _validation.in_interval("deviation", deviation, "[0, inf)")
        self.units = units
        self.factorized = factorized
        self.deviation = deviation
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                "The last axis of the input must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        reach = (1 if self.factorized else 3) ** 0.5 / features**0.5
        deviation = self.deviation
        if deviation is None:
            deviation = 0.5 if self.factorized else 0.017
        if self.factorized:
            deviation /= features**0.5
        means = keras.initializers.RandomUniform(-reach, reach, seed=self.seed)
        sigmas = keras.initializers.Constant(deviation)
        shapes: dict[str, tuple] = {"kernel": (features, self.units)}
        if self.use_bias:
            shapes["bias"] = (self.units,)
        for name, shape in shapes.items():
            mean = self.add_weight(name=name, shape=shape, initializer=means)
            sigma = self.add_weight(
                name=f"{name}_deviation", shape=shape, initializer=sigmas
            )
            setattr(self, name, mean)
            setattr(self, f"{name}_deviation", sigma)

    def call(self, inputs: Any, training: bool = False) -> Any:
        kernel = ops.convert_to_tensor(self.kernel)
        bias = ops.convert_to_tensor(self.bias) if self.use_bias else None
        if training:
            noise, bias_noise = self._noise(inputs.shape[-1])
            kernel = kernel + self.kernel_deviation * noise
            if self.use_bias:
                bias = bias + self.bias_deviation * bias_noise
        outputs = ops.matmul(inputs, kernel)
        return self.activation(outputs if bias is None else outputs + bias)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "units": self.units,
            "factorized": self.factorized,
            "deviation": self.deviation,
            "activation": serialize(self.activation),
            "use_bias": self.use_bias,
            "seed": self.seed,
        }

    def _noise(self, features: int) -> tuple[Any, Any]:
        """Draws the noise of the kernel and of the bias."""
        if not self.factorized:
            return self._normal((features, self.units)), self._normal(
                (self.units,)
            )
        # f(x) = sgn(x) sqrt(|x|), of one draw for both.
        drawn = self._normal((features + self.units,))
        scaled = ops.sign(drawn) * ops.sqrt(ops.abs(drawn))
        outputs = scaled[features:]
        return scaled[:features, None] * outputs, outputs

    def _normal(self, shape: tuple) -> Any:
        return keras.random.normal(
            shape, dtype=self.compute_dtype, seed=self.seed_generator
        )
