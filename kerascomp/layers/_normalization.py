"""Normalization of activities that Keras lacks."""

from typing import Any

from kerascomp import _compat, _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _channels, _scheduled

ops = keras.ops


@component(since="0.1")
class FilterResponseNormalization(keras.layers.Layer):
    """Divides each channel of a sample by its root mean square.

    Use it for images in batches of any size, with `kerascomp.layers.TLU` in
    place of ReLU: it depends on no other sample and no other channel, and does
    the same in training and in inference. Each channel x becomes

        gamma * x / sqrt(mean(x^2) + epsilon) + beta

    with the mean over its pixels.

    Args:
        axis: The axis of the channels, not that of the batch.
        epsilon: Added to the mean square, above 0.
        learned_epsilon: Whether the size of a learned weight for each channel
            is added, too, 1e-4 at first; for feature maps of one pixel.
        beta_initializer: As in `keras.layers.BatchNormalization`.
        gamma_initializer: As in `keras.layers.BatchNormalization`.
        beta_regularizer: As in `keras.layers.BatchNormalization`.
        gamma_regularizer: As in `keras.layers.BatchNormalization`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., channels)`, float, with one or more axes between.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged; the mean is that of all steps.

    Raises:
        ValueError: If `epsilon` is not above 0; when it is built, if the input
            has fewer than 3 axes and `learned_epsilon` is False, has no such
            axis, or its length is unknown.

    Examples:
        >>> x = np.array([[[3.0], [4.0]]])  # over sqrt((9 + 16) / 2)
        >>> y = FilterResponseNormalization()(x)
        >>> [round(float(each), 4) for each in y[0, :, 0]]
        [0.8485, 1.1314]

    Reference:
        Singh & Krishnan, 2020, [Filter response normalization
        layer](https://arxiv.org/abs/1911.09737), equations 1 to 3.
    """

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-6,
        learned_epsilon: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.in_interval("epsilon", epsilon, "(0, inf)")
        self.axis = axis
        self.epsilon = epsilon
        self.learned_epsilon = learned_epsilon
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        size = _channels.channels(self, self.axis, input_shape)
        if len(input_shape) < 3 and not self.learned_epsilon:
            raise ValueError(
                "Without axes to average over, every output would be 1 or -1: "
                "pass `learned_epsilon=True`. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        weights = {
            "gamma": (self.gamma_initializer, self.gamma_regularizer),
            "beta": (self.beta_initializer, self.beta_regularizer),
        }
        if self.learned_epsilon:
            weights["offset"] = (keras.initializers.Constant(1e-4), None)
        for name, (initializer, regularizer) in weights.items():
            weight = self.add_weight(
                name=name,
                shape=(size,),
                initializer=initializer,
                regularizer=regularizer,
                autocast=False,
            )
            setattr(self, name, weight)

    def call(self, inputs: Any) -> Any:
        x = _geometry.widened(inputs)
        rank = len(x.shape)
        axes = [i for i in range(1, rank) if i != self.axis % rank]
        square = ops.square(x)
        if axes:
            square = ops.mean(square, axis=axes, keepdims=True)
        square = square + self.epsilon
        if self.learned_epsilon:
            offset = _compat.magnitude(ops.convert_to_tensor(self.offset))
            square = square + _channels.along(offset, self.axis, x)
        scale = ops.rsqrt(square) * _channels.along(self.gamma, self.axis, x)
        outputs = x * scale + _channels.along(self.beta, self.axis, x)
        return ops.cast(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "learned_epsilon": self.learned_epsilon,
            "beta_initializer": serialize(self.beta_initializer),
            "gamma_initializer": serialize(self.gamma_initializer),
            "beta_regularizer": serialize(self.beta_regularizer),
            "gamma_regularizer": serialize(self.gamma_regularizer),
        }


class _BatchStatistics(keras.layers.BatchNormalization):
    """Batch normalization that differs in training alone."""

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        x = _geometry.widened(inputs)
        return ops.cast(self._train(x, mask), self.compute_dtype)

    def _train(self, x: Any, mask: Any) -> Any:
        raise NotImplementedError

    def _others(self, x: Any) -> list[int]:
        """The axes that statistics are taken over."""
        rank = len(x.shape)
        return [i for i in range(rank) if i != self.axis % rank]

    def _track(self, mean: Any, variance: Any) -> None:
        """Moves the statistics for inference towards those of a batch."""
        for moving, new in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            new = ops.cast(new, moving.dtype)
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))

    def _affine(self, x: Any) -> Any:
        if self.scale:
            x = x * _channels.along(self.gamma, self.axis, x)
        if self.center:
            x = x + _channels.along(self.beta, self.axis, x)
        return x


@component(since="0.1")
class BatchRenormalization(_BatchStatistics):
    """Normalizes by the batch, corrected towards what inference will do.

    Use it in place of `keras.layers.BatchNormalization` for small batches, or
    batches that are no random sample. In training, with the mean m and
    deviation s of the batch and M and S those of inference, x becomes

        (x - m) / s * r + d

    where `r = s / S` within [1 / `r_max`, `r_max`] and `d = (m - M) / S` within
    [-`d_max`, `d_max`] count as constants. Within the limits that is
    `(x - M) / S`, as in inference. With `r_max = 1` and `d_max = 0` it is
    BatchNormalization. Unlike `BatchNormalization(renorm=True)` of Keras 3.15,
    the limits can open while it trains, as the paper advises, and the
    statistics for inference serve for the correction, too.

    Args:
        r_max: Limit of the scale, at least 1, or a `LearningRateSchedule` of
            the number of training steps that came before.
        d_max: Limit of the shift in deviations, at least 0, or a schedule.
        **kwargs: As in `keras.layers.BatchNormalization`.

    Call arguments:
        inputs: `(batch, ..., channels)`, float.
        training: Whether to take statistics from the batch. Not if
            `trainable` is False.
        mask: `(batch, ...)`, of the first axes of the input: what counts; None
            for all.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If `r_max` is below 1 or `d_max` negative.

    Examples:
        >>> layer = BatchRenormalization(r_max=2.0, d_max=0.5, epsilon=1e-9)
        >>> y = layer(np.array([[0.0], [0.4]]), training=True)
        >>> [round(float(each), 4) for each in y[:, 0]]  # s = 0.2, r = 1 / 2
        [-0.3, 0.7]

    Reference:
        Ioffe, 2017, [Batch renormalization](https://arxiv.org/abs/1702.03275),
        algorithm 1. The moving deviation is the root of the moving variance.
    """

    def __init__(self, r_max: Any = 3.0, d_max: Any = 5.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.r_max = _scheduled.read("r_max", r_max, "[1, inf)")
        self.d_max = _scheduled.read("d_max", d_max, "[0, inf)")

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self._counts = any(
            isinstance(limit, _scheduled.Schedule)
            for limit in (self.r_max, self.d_max)
        )
        if self._counts:
            self.steps = _scheduled.count_steps(self)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "r_max": _scheduled.config(self.r_max),
            "d_max": _scheduled.config(self.d_max),
        }

    def _train(self, x: Any, mask: Any) -> Any:
        mean, variance = _moments(x, mask, self._others(x))
        scale, shift = self._correction(mean, variance)
        self._track(mean, variance)
        if self._counts:
            self.steps.assign(self.steps + 1)
        # What follows is linear, too.
        if self.scale:
            gamma = ops.cast(self.gamma, x.dtype)
            scale, shift = scale * gamma, shift * gamma
        if self.center:
            shift = shift + ops.cast(self.beta, x.dtype)
        return ops.batch_normalization(
            x, mean, variance, self.axis, shift, scale, self.epsilon
        )

    def _correction(self, mean: Any, variance: Any) -> tuple[Any, Any]:
        """The scale r and the shift d, as constants."""
        steps = self.steps.value if self._counts else None
        r_max, d_max = (
            ops.cast(_scheduled.at(limit, steps), mean.dtype)
            for limit in (self.r_max, self.d_max)
        )
        mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
        deviation = ops.sqrt(variance + self.epsilon)
        moving = ops.sqrt(
            ops.cast(self.moving_variance, mean.dtype) + self.epsilon
        )
        r = ops.clip(deviation / moving, 1 / r_max, r_max)
        d = (mean - ops.cast(self.moving_mean, mean.dtype)) / moving
        return ops.stop_gradient(r), ops.stop_gradient(
            ops.clip(d, -d_max, d_max)
        )


@component(since="0.1")
class GhostBatchNormalization(_BatchStatistics):
    """Normalizes parts of a batch, each by its own statistics.

    Use it in place of `keras.layers.BatchNormalization` for large batches,
    whose statistics have too little noise to regularize. Each group of
    `virtual_batch_size` neighbors in the batch is normalized by itself in
    training; what is left of a batch that cannot be divided belongs to its last
    group, and a batch that is smaller is one group. In inference, and with one
    group, it is BatchNormalization.

    Args:
        virtual_batch_size: Samples in a group, at least 2.
        **kwargs: As in `keras.layers.BatchNormalization`.

    Call arguments:
        inputs: `(batch, ..., channels)`, float.
        training: Whether to take statistics from the groups. Not if
            `trainable` is False.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged; the statistics are those of all steps.

    Raises:
        ValueError: If `virtual_batch_size` is below 2, or `axis` is that of the
            batch.

    Examples:
        >>> layer = GhostBatchNormalization(2, epsilon=1e-9)
        >>> y = layer(np.array([[0.0], [2.0], [7.0], [9.0]]), training=True)
        >>> [round(float(each), 4) for each in y[:, 0]]
        [-1.0, 1.0, -1.0, 1.0]

    Reference:
        Hoffer et al., 2017, [Train longer, generalize
        better](https://arxiv.org/abs/1705.08741), algorithm 1. Differs from it
        by moving the statistics for inference once a batch, towards the mean of
        those of the groups.
    """

    def __init__(self, virtual_batch_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        _validation.at_least("virtual_batch_size", virtual_batch_size, 2)
        self.virtual_batch_size = virtual_batch_size

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "virtual_batch_size": self.virtual_batch_size,
        }

    def build(self, input_shape: Any) -> None:
        _channels.channels(self, self.axis, input_shape)
        super().build(input_shape)

    def _train(self, x: Any, mask: Any) -> Any:  # noqa: ARG002
        parts = self._parts(x)
        mean = self._group_means(parts)
        centered = [
            part - shift
            for part, shift in zip(parts, _each(mean), strict=False)
        ]
        variance = self._group_means([ops.square(part) for part in centered])
        self._track(self._overall(mean), self._overall(variance))
        scale = ops.rsqrt(variance + self.epsilon)
        scaled = [
            part * factor
            for part, factor in zip(centered, _each(scale), strict=False)
        ]
        shape = ops.shape(x)
        joined = [ops.reshape(part, (-1, *shape[1:])) for part in scaled]
        outputs = joined[0] if len(joined) == 1 else ops.concatenate(joined)
        return self._affine(outputs)

    def _parts(self, x: Any) -> list:
        """The groups, `(groups, samples, ...)`, and what is left, if any."""
        batch = ops.shape(x)[0]
        size = self.virtual_batch_size
        shape = ops.shape(x)[1:]
        known = not ops.is_tensor(batch)
        # On JAX a symbol stands for it while shapes are inferred.
        if known and (not isinstance(batch, int) or batch < size):
            return [x[None]]
        if known and batch % size == 0:
            return [ops.reshape(x, (-1, size, *shape))]
        groups = batch // size
        if not known:  # Of a batch that is too small, all is one group.
            groups = ops.maximum(groups, 1)
            size = ops.minimum(size, batch)
        head = groups * size
        return [
            ops.reshape(x[:head], (groups, size, *shape)),
            x[None, head:],
        ]

    def _group_means(self, parts: list) -> Any:
        """The mean of each channel in each group, shaped to broadcast."""
        head, *rest = parts
        axes = [i for i in self._others(head[0]) if i > 0]
        axes = [1, *(i + 1 for i in axes)]
        mean = ops.mean(head, axis=axes, keepdims=True)
        if not rest:
            return mean
        # What is left belongs to the last group.
        left = (
            rest[0]
            if len(axes) == 1
            else ops.mean(rest[0], axis=axes[1:], keepdims=True)
        )
        groups, size = (
            ops.shape(head)[0],
            ops.cast(ops.shape(head)[1], "float32"),
        )
        last = ops.cast(ops.arange(groups) == groups - 1, "float32")
        last = ops.reshape(last, (-1, *[1] * (len(head.shape) - 1)))
        last, size = (ops.cast(each, head.dtype) for each in (last, size))
        more = last * ops.cast(ops.shape(rest[0])[1], head.dtype)
        total = mean * size + last * ops.sum(left, axis=1, keepdims=True)
        return total / (size + more)

    def _overall(self, values: Any) -> Any:
        return ops.reshape(ops.mean(values, axis=0), (-1,))


def _each(values: Any) -> tuple[Any, Any]:
    """What groups are computed with, and what is left behind the last."""
    return values, values[-1:]


def _moments(x: Any, mask: Any, axes: list[int]) -> tuple[Any, Any]:
    """Mean and variance of each channel, over what the mask lets through."""
    if mask is None:
        return ops.mean(x, axis=axes), ops.var(x, axis=axes)
    weight = ops.cast(mask, x.dtype)
    while len(weight.shape) < len(x.shape):
        weight = ops.expand_dims(weight, -1)
    weight = ops.broadcast_to(weight, ops.shape(x))
    count = ops.maximum(ops.sum(weight, axis=axes, keepdims=True), 1.0)
    mean = ops.sum(x * weight, axis=axes, keepdims=True) / count
    square = ops.sum(weight * ops.square(x - mean), axis=axes, keepdims=True)
    return ops.reshape(mean, (-1,)), ops.reshape(square / count, (-1,))
