"""Activations that learn, draw random numbers or reduce features."""

import functools
from typing import Any

from kerascomp import _geometry, _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _channels

ops = keras.ops


@component(since="0.1")
class RReLU(keras.layers.Layer):
    """Gives numbers below 0 a slope that is random in training.

    Use it in place of `keras.layers.LeakyReLU` where a network overfits. In
    training each element draws its slope uniformly; in inference the slope is
    the mean. With `lower = upper` it is `LeakyReLU`.

    Args:
        lower: The smallest slope, at least 0.
        upper: The largest slope, at least `lower`.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.
        training: Whether slopes are random.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If not `0 <= lower <= upper`.

    Examples:
        >>> layer = RReLU(lower=0.2, upper=0.3)
        >>> [round(float(each), 4) for each in layer(np.array([-4.0, 2.0]))]
        [-1.0, 2.0]

    Reference:
        As in `kerascomp.activations.rrelu`.
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.in_interval("lower", lower, "[0, inf)")
        _validation.in_interval("upper", upper, f"[{lower}, inf)")
        self.lower = lower
        self.upper = upper
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return _numerics.randomized_leaky(
            inputs, self.lower, self.upper, training, self.seed_generator
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "lower": self.lower,
            "upper": self.upper,
            "seed": self.seed,
        }


class _Channelwise(keras.layers.Layer):
    """Holds one weight for each channel."""

    weight_name: str

    def __init__(
        self,
        axis: int,
        initializer: Any,
        regularizer: Any,
        constraint: Any,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis = axis
        name = self.weight_name
        setattr(
            self, f"{name}_initializer", keras.initializers.get(initializer)
        )
        setattr(
            self, f"{name}_regularizer", keras.regularizers.get(regularizer)
        )
        setattr(self, f"{name}_constraint", keras.constraints.get(constraint))
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        name = self.weight_name
        weight = self.add_weight(
            name=name,
            shape=(_channels.channels(self, self.axis, input_shape),),
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            autocast=False,
        )
        setattr(self, name, weight)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        arguments = [
            f"{self.weight_name}_{kind}"
            for kind in ("initializer", "regularizer", "constraint")
        ]
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "axis": self.axis,
            **{name: serialize(getattr(self, name)) for name in arguments},
        }


@component(since="0.1")
class Snake(_Channelwise):
    """Adds a wave of learned frequency to the identity, for data that repeats.

    Use it in networks for audio and other periodic data. Each channel has a
    frequency a of its own, and x becomes `x + sin^2(a x) / a`; see
    `kerascomp.activations.snake`. Where the frequency is 0 it is the identity.

    Args:
        axis: The axis of the channels, not that of the batch.
        frequency_initializer: Of the frequencies, in radians per unit of the
            input. Larger ones for data that repeats often.
        frequency_regularizer: As in `keras.layers.Layer.add_weight`.
        frequency_constraint: As in `keras.layers.Layer.add_weight`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: When it is built, if the input has no such axis or its
            length is unknown.

    Examples:
        >>> layer = Snake(frequency_initializer=keras.initializers.Constant(2))
        >>> y = layer(np.array([[0.0, np.pi / 4]]))
        >>> y = keras.ops.convert_to_numpy(y)  # pi / 4 + 1 / 2
        >>> [round(float(each), 4) for each in y[0]]
        [0.0, 1.2854]

    Reference:
        Ziyin et al., 2020, [Neural networks fail to learn periodic functions
        and how to fix it](https://arxiv.org/abs/2006.08195), equation 3, with
        a frequency for each channel, as audio models have it.
    """

    weight_name = "frequency"

    def __init__(
        self,
        axis: int = -1,
        frequency_initializer: Any = "ones",
        frequency_regularizer: Any = None,
        frequency_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            axis,
            frequency_initializer,
            frequency_regularizer,
            frequency_constraint,
            **kwargs,
        )

    def call(self, inputs: Any) -> Any:
        wide = _geometry.widened(inputs)
        frequency = _channels.along(self.frequency, self.axis, wide)
        return ops.cast(_numerics.snake(wide, frequency), inputs.dtype)


@component(since="0.1")
class TLU(_Channelwise):
    """Cuts each channel off below a learned threshold.

    Use it in place of ReLU after `FilterResponseNormalization`, which does not
    center its output. It is max(x, tau) with a threshold tau for each channel,
    and ReLU while tau is 0, as it is at first.

    Args:
        axis: The axis of the channels, not that of the batch.
        threshold_initializer: Of the thresholds.
        threshold_regularizer: As in `keras.layers.Layer.add_weight`.
        threshold_constraint: As in `keras.layers.Layer.add_weight`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: When it is built, if the input has no such axis or its
            length is unknown.

    Examples:
        >>> layer = TLU(threshold_initializer=keras.initializers.Constant(-1))
        >>> [float(each) for each in layer(np.array([[-3.0, -0.5, 2.0]]))[0]]
        [-1.0, -0.5, 2.0]

    Reference:
        Singh & Krishnan, 2020, [Filter response normalization
        layer](https://arxiv.org/abs/1911.09737), section 3.2. At a tie the
        gradient goes to the threshold.
    """

    weight_name = "threshold"

    def __init__(
        self,
        axis: int = -1,
        threshold_initializer: Any = "zeros",
        threshold_regularizer: Any = None,
        threshold_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            axis,
            threshold_initializer,
            threshold_regularizer,
            threshold_constraint,
            **kwargs,
        )

    def call(self, inputs: Any) -> Any:
        # Not `maximum`: at ties every backend has a gradient of its own.
        threshold = _channels.along(self.threshold, self.axis, inputs)
        return ops.where(inputs > threshold, inputs, threshold)


@component(since="0.1")
class Maxout(keras.layers.Layer):
    """Keeps the largest of each group of features.

    Use it after `keras.layers.Dense(units * pieces)` or a convolution, without
    another activation: the largest of several linear pieces is a learned,
    convex activation. With as many units as features it is the identity.

    Args:
        units: Number of groups, at least 1, which the features must divide
            into.
        axis: The axis of the features, not that of the batch.
        strided: Whether group i holds the features i, i + units, i + 2 units,
            and so on, as in TensorFlow Addons, instead of neighbors.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.

    Returns:
        The input with `units` features, in its dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If `units` is below 1; when it is built, if the input has
            no such axis, or its length is unknown or no multiple of `units`.

    Examples:
        >>> x = np.array([[1.0, 2.0, 3.0, 0.0]])
        >>> [float(each) for each in Maxout(2)(x)[0]]
        [2.0, 3.0]
        >>> [float(each) for each in Maxout(2, strided=True)(x)[0]]
        [3.0, 2.0]

    Reference:
        Goodfellow et al., 2013, [Maxout
        networks](https://arxiv.org/abs/1302.4389), section 3, without the
        linear part.
    """

    def __init__(
        self, units: int, axis: int = -1, strided: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        _validation.at_least("units", units, 1)
        self.units = units
        self.axis = axis
        self.strided = strided
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        features = _channels.channels(self, self.axis, input_shape)
        if features % self.units:
            raise ValueError(
                "`units` must divide the features of the input. Received: "
                f"units={self.units}, input_shape={tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        axis = self.axis % len(inputs.shape)
        pieces = inputs.shape[axis] // self.units
        groups = [self.units, pieces]
        shape = [*ops.shape(inputs)]
        shape[axis : axis + 1] = groups[::-1] if self.strided else groups
        grouped = ops.reshape(inputs, shape)
        # Not `max`: of no samples there is none on TensorFlow and torch.
        each = ops.unstack(
            grouped, pieces, axis=axis if self.strided else axis + 1
        )
        return functools.reduce(ops.maximum, each)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = [*input_shape]
        shape[self.axis] = self.units
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "axis": self.axis,
            "strided": self.strided,
        }
