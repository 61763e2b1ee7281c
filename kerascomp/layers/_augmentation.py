"""Random changes of series and spectrograms that keep their labels."""

from typing import Any

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


class _Augmentation(keras.layers.Layer):
    """Changes inputs in training, drawn anew for every sample and call."""

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        inputs = ops.cast(inputs, self.compute_dtype)
        return self.augment(inputs) if training else inputs

    def augment(self, inputs: Any) -> Any:
        raise NotImplementedError

    def _uniform(self, shape: Any) -> Any:
        # Half precision cannot tell the steps of a long series apart.
        return keras.random.uniform(
            shape, dtype="float32", seed=self.seed_generator
        )

    def _normal(self, shape: Any) -> Any:
        return keras.random.normal(
            shape, dtype=self.compute_dtype, seed=self.seed_generator
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@component(since="0.1")
class SpecAugment(_Augmentation):
    """Hides bands of frequencies and stretches of time in a spectrogram.

    Use it as the first layer of a network for speech or sound, on logarithmic
    spectrograms of mean 0 (`keras.layers.MelSpectrogram` makes them), or in
    `dataset.map(lambda x, y: (augment(x, training=True), y))` on the
    TensorFlow backend. In training, for each sample:

    1. The middle of the series is moved by up to `time_warp` steps, what is
       before and after is stretched to fit.
    2. `frequency_masks` times, a band of 0 to `frequency_width` frequencies
       becomes `value`.
    3. `time_masks` times, so do 0 to `time_width` steps, but no more than
       `max_time_fraction` of all.

    In inference it is the identity; and in training, if both counts of masks
    and `time_warp` are 0.

    Args:
        frequency_masks: How many bands, at least 0.
        frequency_width: Most frequencies of a band, F in the paper.
        time_masks: How many stretches of time, at least 0.
        time_width: Most steps of a stretch, T in the paper.
        max_time_fraction: Largest share of the steps in a stretch, in [0, 1].
        time_warp: Most steps to move by, W in the paper; 0 for no warp.
        value: What hides, usually the mean of the data.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, steps, frequencies, ...)`, float.
        training: Whether to augment. The identity when False.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged. Masked steps count as steps.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If an argument is out of range, there are fewer than
            `frequency_width` frequencies, or fewer steps than
            `2 * time_warp + 3`. If the number of steps is not known when the
            layer is built, series that are too short are not warped.

    Examples:
        >>> augment = SpecAugment(1, 4, 1, 5, seed=0)
        >>> spectrogram = np.ones((1, 20, 8))
        >>> output = augment(spectrogram, training=True)
        >>> sorted(set(keras.ops.convert_to_numpy(output).ravel().tolist()))
        [0.0, 1.0]

    Reference:
        Park et al., 2019, [SpecAugment](https://arxiv.org/abs/1904.08779),
        section 2. Differs from it by a warp that is linear on both sides
        of the moved point, and by masks that may reach the last step.
    """

    def __init__(
        self,
        frequency_masks: int = 2,
        frequency_width: int = 27,
        time_masks: int = 2,
        time_width: int = 100,
        max_time_fraction: float = 1.0,
        time_warp: int = 0,
        value: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, **kwargs)
        _validation.at_least("frequency_masks", frequency_masks, 0)
        _validation.at_least("frequency_width", frequency_width, 0)
        _validation.at_least("time_masks", time_masks, 0)
        _validation.at_least("time_width", time_width, 0)
        _validation.in_interval(
            "max_time_fraction", max_time_fraction, "[0, 1]"
        )
        _validation.at_least("time_warp", time_warp, 0)
        self.frequency_masks = frequency_masks
        self.frequency_width = frequency_width
        self.time_masks = time_masks
        self.time_width = time_width
        self.max_time_fraction = max_time_fraction
        self.time_warp = time_warp
        self.value = value
        self.input_spec = keras.layers.InputSpec(min_ndim=3)

    def build(self, input_shape: Any) -> None:
        steps, frequencies = input_shape[1:3]
        if frequencies is not None and frequencies < self.frequency_width:
            raise ValueError(
                "`frequency_width` must not exceed the frequencies. Received: "
                f"frequency_width={self.frequency_width}, "
                f"input_shape={tuple(input_shape)}"
            )
        if self.time_warp and steps is not None and steps < self._warpable():
            raise ValueError(
                f"`time_warp` needs series of {self._warpable()} steps. "
                f"Received: time_warp={self.time_warp}, "
                f"input_shape={tuple(input_shape)}"
            )

    def _warpable(self) -> int:
        """The fewest steps that can be warped."""
        return 2 * self.time_warp + 3

    def augment(self, inputs: Any) -> Any:
        batch, steps, frequencies = ops.shape(inputs)[:3]
        if self.time_warp:
            inputs = self._warped(inputs, batch, steps)
        hidden = ops.logical_or(
            self._hidden(
                batch, frequencies, self.frequency_masks, self.frequency_width
            )[:, None, :],
            self._hidden(batch, steps, self.time_masks, self._longest(steps))[
                :, :, None
            ],
        )
        for _ in range(len(inputs.shape) - 3):
            hidden = ops.expand_dims(hidden, -1)
        value = ops.cast(self.value, self.compute_dtype)
        return ops.where(hidden, value, inputs)

    def _longest(self, steps: Any) -> Any:
        """The most steps of a stretch."""
        share = self.max_time_fraction * ops.cast(steps, "float32")
        # The product of 0.1 and 30 lies below 3 in some formats.
        return ops.minimum(
            ops.cast(self.time_width, "float32"), ops.floor(share + 1e-4)
        )

    def _hidden(self, batch: Any, length: Any, count: int, widest: Any) -> Any:
        """Which places of an axis are hidden, `(batch, length)`."""
        places = ops.cast(ops.arange(length), "float32")
        length = ops.cast(length, "float32")
        widths = ops.floor(self._uniform((batch, count, 1)) * (widest + 1))
        starts = ops.floor(
            self._uniform((batch, count, 1)) * (length - widths + 1)
        )
        inside = ops.logical_and(places >= starts, places < starts + widths)
        return ops.any(inside, axis=1)

    def _warped(self, inputs: Any, batch: Any, steps: Any) -> Any:
        source = self._sources(batch, steps)
        before = ops.floor(source)
        share = ops.cast(source - before, self.compute_dtype)
        before = ops.cast(before, "int32")
        after = ops.minimum(before + 1, steps - 1)
        for _ in range(len(inputs.shape) - 2):
            before, after, share = (
                ops.expand_dims(each, -1) for each in (before, after, share)
            )
        zeros = ops.zeros_like(inputs, dtype="int32")
        first, second = (
            ops.take_along_axis(inputs, each + zeros, axis=1)
            for each in (before, after)
        )
        return first + share * (second - first)

    def _sources(self, batch: Any, steps: Any) -> Any:
        """Where in the series each step comes from, `(batch, steps)`."""
        places = ops.cast(ops.arange(steps), "float32")
        last = ops.cast(steps, "float32") - 1
        reach = self.time_warp
        center = reach + 1 + self._uniform((batch, 1)) * (last - 2 * reach - 2)
        moved = center + reach * (2 * self._uniform((batch, 1)) - 1)
        before = places * center / moved
        after = center + (places - moved) * (last - center) / (last - moved)
        warped = ops.where(places <= moved, before, after)
        # Rounding may pass the last step.
        warped = ops.clip(warped, 0, last)
        return ops.where(last + 1 >= self._warpable(), warped, places)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "frequency_masks": self.frequency_masks,
            "frequency_width": self.frequency_width,
            "time_masks": self.time_masks,
            "time_width": self.time_width,
            "max_time_fraction": self.max_time_fraction,
            "time_warp": self.time_warp,
            "value": self.value,
        }


@component(since="0.1")
class RandomJitter(_Augmentation):
    """Adds noise to series, in the units of each of their channels.

    Use it as the first layer of a network for sensors or other series, or in
    a `tf.data` pipeline as `SpecAugment`. In training, it adds normal noise
    whose standard deviation is `factor` times that of the channel within the
    sample. On standardized series it is `keras.layers.GaussianNoise(factor)`;
    elsewhere, that layer would drown the channels of small numbers. A constant
    channel gets no noise. In inference, and with `factor=0`, it is the
    identity.

    Args:
        factor: Noise over signal, at least 0.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, steps, ..., channels)`, float, of at least three axes.
        training: Whether to add noise. The identity when False.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged. Masked steps count as steps.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If `factor` is negative.

    Examples:
        >>> jitter = RandomJitter(factor=0.1, seed=0)
        >>> constant = jitter(np.full((2, 5, 3), 7.0), training=True)
        >>> bool(keras.ops.all(constant == 7.0))
        True

    Reference:
        Um et al., 2017, [Data augmentation of wearable sensor
        data](https://arxiv.org/abs/1706.00527), section 4, "jittering".
        Differs from it by noise in units of each channel.
    """

    def __init__(
        self, factor: float = 0.05, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(seed, **kwargs)
        _validation.in_interval("factor", factor, "[0, inf)")
        self.factor = factor
        self.input_spec = keras.layers.InputSpec(min_ndim=3)

    def augment(self, inputs: Any) -> Any:
        if self.factor == 0:
            return inputs
        axes = tuple(range(1, len(inputs.shape) - 1))
        x = _geometry.widened(inputs)
        # From the first step on: the mean of a constant may be rounded.
        x = x - x[(slice(None), *(slice(1),) * len(axes))]
        spread = ops.std(x, axis=axes, keepdims=True)
        # The noise is no function of the input to learn from.
        spread = ops.stop_gradient(ops.cast(spread, self.compute_dtype))
        return inputs + self.factor * spread * self._normal(ops.shape(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@component(since="0.1")
class RandomScaling(_Augmentation):
    """Multiplies series by numbers near 1, one for each sample or channel.

    Use it as the first layer of a network for sensors or other series whose
    units or gains vary, or in a `tf.data` pipeline as `SpecAugment`. In
    training the factors are normal, with mean 1. In inference, and with
    `stddev=0`, it is the identity.

    Args:
        stddev: Standard deviation of the factors, at least 0. From about 0.3
            on, some will be negative.
        per_channel: Whether channels of a sample have factors of their own.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., channels)`, float.
        training: Whether to scale. The identity when False.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If `stddev` is negative.

    Examples:
        >>> scale = RandomScaling(stddev=0.1, seed=0)
        >>> series = keras.ops.convert_to_numpy(
        ...     scale(np.ones((1, 5, 2)), training=True)
        ... )
        >>> bool((series == series[:, :1]).all())  # The same at every step
        True

    Reference:
        Um et al., 2017, [Data augmentation of wearable sensor
        data](https://arxiv.org/abs/1706.00527), section 4, "scaling".
    """

    def __init__(
        self,
        stddev: float = 0.1,
        per_channel: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed, **kwargs)
        _validation.in_interval("stddev", stddev, "[0, inf)")
        self.stddev = stddev
        self.per_channel = per_channel
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def augment(self, inputs: Any) -> Any:
        if self.stddev == 0:
            return inputs
        shape = ops.shape(inputs)
        inner = (1,) * (len(shape) - 2)
        channels = shape[-1] if self.per_channel else 1
        noise = self._normal((shape[0], *inner, channels))
        return inputs * (1 + self.stddev * noise)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stddev": self.stddev,
            "per_channel": self.per_channel,
        }
