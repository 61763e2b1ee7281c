"""Wrappers that give a layer another parametrization of its kernel."""

import math
from collections.abc import Sequence
from typing import Any

from kerascomp import _compat, _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _kernels

ops = keras.ops


class _KernelWrapper(keras.layers.Wrapper):
    """Wraps a layer whose kernel is computed at every call."""

    def __init__(
        self, layer: Any, axis: int | Sequence[int] | None = None, **kwargs: Any
    ):
        super().__init__(layer, **kwargs)
        self.axis = axis
        self.supports_masking = layer.supports_masking

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        kernel = _kernels.kernel_of(self.layer)
        rank = len(kernel.shape)
        axes: Any = self.axis
        if axes is None:
            axes = _kernels.output_axes(self.layer, rank)
        axes = tuple(axes) if isinstance(axes, list | tuple) else (axes,)
        if not all(-rank <= axis < rank for axis in axes):
            raise ValueError(
                f"`axis` must be axes of the kernel. Received: axis={axes}, "
                f"kernel.shape={tuple(kernel.shape)}"
            )
        self._kept = tuple(sorted(axis % rank for axis in axes))
        self._summed = tuple(i for i in range(rank) if i not in self._kept)
        self._lengths = tuple(kernel.shape[axis] for axis in self._kept)

    def call(self, inputs: Any, training: Any = None) -> Any:
        kernel = ops.cast(self._kernel(), self.layer.compute_dtype)
        with _kernels.replaced(self.layer, kernel):
            return self._call_layer(inputs, training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": _kernels.config_of(self.layer),
            "axis": self.axis,
        }

    def _kernel(self) -> Any:
        """Returns the kernel that the layer computes with."""
        raise NotImplementedError

    def _raw(self) -> Any:
        kernel = ops.convert_to_tensor(_kernels.kernel_of(self.layer))
        return _geometry.widened(kernel)

    def _call_layer(self, inputs: Any, training: Any) -> Any:
        if _compat.takes_training(self.layer):
            return self.layer(inputs, training=training)
        return self.layer(inputs)

    def _along_kernel(self, values: Any) -> Any:
        """Returns one number an output, so that it broadcasts."""
        rank = len(self._kept) + len(self._summed)
        shape = [1] * rank
        for axis, length in zip(self._kept, self._lengths, strict=True):
            shape[axis] = length
        return ops.reshape(values, shape)


@component(since="0.1")
class WeightNormalization(_KernelWrapper):
    """Learns the length and the direction of a layer's weights apart.

    Use it round layers of networks without batch normalization, as in
    generative and recurrent models, to train with larger steps. The weights of
    each output are

        gain * v / |v|

    with the gain and v learned; v is the kernel of the layer, and the gain its
    length at first, so that wrapping changes no output. Regularizers of the
    kernel act on v.

    `initialize` chooses gain and bias from data, so that outputs before the
    activation have mean 0 and variance 1; `initialize_from_data` does so for
    all such layers of a model, in their order.

    Args:
        layer: A layer with one kernel: Dense, EinsumDense, convolutions,
            transposed and depthwise ones, Embedding.
        axis: Axes of the kernel that have a length of their own, an integer or
            several. None for those of the outputs; the rows of an Embedding.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: As the layer takes them.
        training: Passed on if the layer takes it.

    Returns:
        What the layer returns.

    Masking:
        As the layer does.

    Raises:
        ValueError: When it is built, if the layer has no kernel, or the kernel
            no such axis.

    Examples:
        >>> layer = WeightNormalization(
        ...     keras.layers.Dense(1, kernel_initializer="ones")
        ... )
        >>> round(float(layer(np.array([[1.0, 2.0]]))[0, 0]), 4)
        3.0
        >>> _ = layer.gain.assign([1.0])  # 3 over the length of [1, 1]
        >>> round(float(layer(np.array([[1.0, 2.0]]))[0, 0]), 4)
        2.1213

    Reference:
        Salimans & Kingma, 2016, [Weight
        normalization](https://arxiv.org/abs/1602.07868), equation 2; section 3
        for `initialize`.
    """

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        self.gain = self.add_weight(
            name="gain",
            shape=self._lengths,
            # Evaluated where a program may have put initialization off to.
            initializer=lambda shape, dtype=None: ops.cast(  # noqa: ARG005
                self._length(), dtype
            ),
            autocast=False,
        )
        self._initializes = False

    def call(self, inputs: Any, training: Any = None) -> Any:
        if self._initializes:
            self.initialize(inputs)
        if self._scales_rows():
            return self._embed(inputs)
        return super().call(inputs, training)

    def initialize(self, inputs: Any) -> None:
        """Gives outputs of these inputs mean 0 and variance 1.

        Before the activation; the mean needs a bias. Outputs that do not vary
        keep their gain. Call it eagerly, before training.

        Args:
            inputs: A batch of what the layer will be called on.

        Raises:
            ValueError: If the layer has no activity to normalize, as Embedding,
                or its bias has other axes than the outputs of its kernel.
        """
        layer = self.layer
        if not self.built:
            self.build(tuple(inputs.shape))
            self.built: bool = True
        bias = getattr(layer, "bias", None)
        size = math.prod(self._lengths)
        if isinstance(layer, keras.layers.Embedding) or (
            bias is not None and math.prod(bias.shape) != size
        ):
            raise ValueError(
                "Only layers that multiply their inputs by the kernel, with "
                "one bias for each length, can be initialized from data. "
                f"Received: layer={layer!r}"
            )
        kernel = ops.cast(self._unit(), layer.compute_dtype)
        plain = {"activation": keras.activations.linear}
        if bias is not None:
            bias.assign(ops.zeros(bias.shape))
        with _kernels.replaced(layer, kernel, **plain):
            activity = ops.cast(self._call_layer(inputs, False), "float32")
        mean, deviation = self._statistics(activity)
        varies = deviation > 0
        safe = ops.where(varies, deviation, ops.ones_like(deviation))
        gain = ops.where(
            varies,
            1 / safe,
            ops.reshape(ops.convert_to_tensor(self.gain), (-1,)),
        )
        self.gain.assign(ops.reshape(gain, self._lengths))
        if bias is not None:
            bias.assign(ops.reshape(-mean * gain, bias.shape))

    def _kernel(self) -> Any:
        return self._unit() * self._along_kernel(
            ops.cast(self.gain, self._raw().dtype)
        )

    def _unit(self) -> Any:
        """The directions v / |v|, 0 where v is."""
        return _geometry.ratio(self._raw(), self._along_kernel(self._length()))

    def _length(self) -> Any:
        square = ops.sum(ops.square(self._raw()), axis=self._summed)
        return _geometry.safe_sqrt(square)

    def _scales_rows(self) -> bool:
        is_embedding = isinstance(self.layer, keras.layers.Embedding)
        return is_embedding and self._kept == (0,)

    def _embed(self, inputs: Any) -> Any:
        """Normalizes the rows that are looked up, not the whole table."""
        rows = _geometry.direction(_geometry.widened(self.layer(inputs)))
        gain = ops.take(self.gain, ops.cast(inputs, "int32"), axis=0)
        outputs = rows * ops.cast(gain, rows.dtype)[..., None]
        return ops.cast(outputs, self.layer.compute_dtype)

    def _statistics(self, activity: Any) -> tuple[Any, Any]:
        """Mean and deviation of each output, in the order of the gain."""
        rank = len(activity.shape)
        axes = _kernels.feature_axes(self.layer, rank)
        others = [i for i in range(rank) if i not in axes]
        moved = ops.transpose(activity, [*others, *axes])
        moved = ops.reshape(moved, (-1, math.prod(self._lengths)))
        return ops.mean(moved, axis=0), ops.std(moved, axis=0)


@component(since="0.1")
class WeightStandardization(_KernelWrapper):
    """Gives the weights of each output mean 0 and variance 1.

    Use it round convolutions that `keras.layers.GroupNormalization` follows, to
    train with batches of one or two images: together they do what batch
    normalization does. The kernel v of the layer becomes

        (v - mean(v)) / sqrt(var(v) + epsilon)

    with the mean and variance over all weights of an output.

    Args:
        layer: A layer with one kernel: Dense, EinsumDense, convolutions,
            transposed and depthwise ones.
        axis: Axes of the kernel that have statistics of their own, an integer
            or several. None for those of the outputs.
        epsilon: Added to the variance, above 0.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: As the layer takes them.
        training: Passed on if the layer takes it.

    Returns:
        What the layer returns.

    Masking:
        As the layer does.

    Raises:
        ValueError: If `epsilon` is not above 0; when it is built, if the layer
            has no kernel, or the kernel no such axis.

    Examples:
        >>> initial = keras.initializers.Constant([[1.0], [3.0]])
        >>> layer = WeightStandardization(
        ...     keras.layers.Dense(1, kernel_initializer=initial)
        ... )
        >>> round(float(layer(np.array([[5.0, 7.0]]))[0, 0]), 3)  # 7 - 5
        2.0

    Reference:
        Qiao et al., 2019, [Micro-batch training with batch-channel
        normalization and weight
        standardization](https://arxiv.org/abs/1903.10520).
    """

    def __init__(
        self,
        layer: Any,
        axis: int | Sequence[int] | None = None,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(layer, axis, **kwargs)
        _validation.in_interval("epsilon", epsilon, "(0, inf)")
        self.epsilon = epsilon

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}

    def _kernel(self) -> Any:
        raw = self._raw()
        mean = ops.mean(raw, axis=self._summed, keepdims=True)
        variance = ops.var(raw, axis=self._summed, keepdims=True)
        return (raw - mean) * ops.rsqrt(variance + self.epsilon)


def initialize_from_data(model: Any, inputs: Any) -> None:
    """Initializes the weight normalization of a model from a batch of data.

    Each `WeightNormalization` in turn gets the gain and bias with which its
    outputs before the activation have mean 0 and variance 1 on this batch,
    given those before it. Call it once, before training. Layers without it,
    and those inside recurrent cells, are left alone.

    Args:
        model: A model or layer, which is called once, in inference.
        inputs: A batch, as the model takes it.

    Raises:
        ValueError: If the model has no such layer, or one that cannot be
            initialized; see `WeightNormalization.initialize`.

    Examples:
        >>> model = keras.Sequential(
        ...     [WeightNormalization(keras.layers.Dense(3))]
        ... )
        >>> x = np.random.default_rng(0).normal(size=(64, 5))
        >>> initialize_from_data(model, x)
        >>> y = keras.ops.convert_to_numpy(model(x))
        >>> y.std(axis=0).round(3).tolist()
        [1.0, 1.0, 1.0]
    """
    if not model.built:
        model(inputs)
    found = [
        layer
        for layer in _compat.flattened(model)
        if isinstance(layer, WeightNormalization)
    ]
    if not found:
        raise ValueError(
            "`model` must have a WeightNormalization layer. "
            f"Received: model={model!r}"
        )
    for layer in found:
        layer._initializes = True
    try:
        model(inputs)
    finally:
        for layer in found:
            layer._initializes = False
