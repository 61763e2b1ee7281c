"""Dropout that tells how sure a model is."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _kernels
from kerascomp.layers._drop_block import DropBlock
from kerascomp.layers._drop_path import DropPath
from kerascomp.layers._zoneout import Zoneout

ops = keras.ops
tree = keras.tree


@component(since="0.1")
class MonteCarloDropout(keras.layers.Dropout):
    """Drops units at random in inference as well as in training.

    Use it where every prediction of a model should be a sample of what it
    believes. It is `keras.layers.Dropout` that is always training. For the mean
    and variance over many passes, `predict_with_uncertainty` works with every
    kind of dropout, and this one.

    Args:
        rate: Share of the units to drop, in [0, 1].
        noise_shape: As in `keras.layers.Dropout`.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.
        training: Makes no difference.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If `rate` lies outside [0, 1].

    Examples:
        >>> y = MonteCarloDropout(0.5, seed=1)(np.ones((1000, 2)))
        >>> sorted(set(keras.ops.convert_to_numpy(y).ravel().tolist()))
        [0.0, 2.0]

    Reference:
        Gal & Ghahramani, 2016, [Dropout as a Bayesian
        approximation](https://arxiv.org/abs/1506.02142), equation 6.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        _validation.in_interval("rate", rate, "[0, 1]")
        super().__init__(rate, noise_shape=noise_shape, seed=seed, **kwargs)

    def call(self, inputs: Any, training: bool = True) -> Any:  # noqa: ARG002
        return super().call(inputs, training=True)


@component(since="0.1")
class ConcreteDropout(keras.layers.Wrapper):
    """Drops inputs of a layer at a rate that it learns.

    Use it in place of `keras.layers.Dropout` before a Dense layer or a
    convolution, to find the rate by gradients instead of a search, and for the
    uncertainty of `predict_with_uncertainty`. In training, an input is
    multiplied by a number that is close to 0 or 1 and differentiable by the
    rate p, over `1 - p`. For convolutions it is one number for each channel of
    a sample. The layer adds to the loss

        weight_factor * |kernel|^2 / (1 - p)
            + entropy_factor * features * (p log p + (1 - p) log(1 - p))

    where `features` counts the input channels. In inference it is the layer
    alone.

    Args:
        layer: A layer with one kernel, such as Dense or a convolution.
        weight_factor: At least 0; in the paper `l^2 / N`, with N samples and
            the prior length-scale l. Twice that noise variance for regression.
        entropy_factor: At least 0; in the paper `1 / N` for classification,
            `2 / N` times the noise variance for regression.
        initial_rate: In (0, 1).
        temperature: Above 0. Small ones are closer to 0 and 1.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: As the layer takes them, float.
        training: Whether to drop. The layer alone when False.

    Returns:
        What the layer returns.

    Masking:
        As the layer does.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If an argument is out of its range; when it is built, if the
            layer has no kernel, or its input an unknown number of channels.

    Examples:
        >>> layer = ConcreteDropout(keras.layers.Dense(3), initial_rate=0.2)
        >>> y = layer(np.ones((4, 5)), training=True)
        >>> round(float(layer.rate), 4)
        0.2

    Reference:
        Gal et al., 2017, [Concrete dropout](https://arxiv.org/abs/1705.07832),
        equations 3 to 5.
    """

    def __init__(
        self,
        layer: Any,
        weight_factor: float = 1e-6,
        entropy_factor: float = 1e-5,
        initial_rate: float = 0.1,
        temperature: float = 0.1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(layer, **kwargs)
        _validation.in_interval("weight_factor", weight_factor, "[0, inf)")
        _validation.in_interval("entropy_factor", entropy_factor, "[0, inf)")
        _validation.in_interval("initial_rate", initial_rate, "(0, 1)")
        _validation.in_interval("temperature", temperature, "(0, inf)")
        self.weight_factor = weight_factor
        self.entropy_factor = entropy_factor
        self.initial_rate = initial_rate
        self.temperature = temperature
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = layer.supports_masking

    @property
    def rate(self) -> Any:
        """The rate that was learned so far."""
        return ops.sigmoid(ops.cast(self.logit, "float32"))

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        kernel = _kernels.kernel_of(self.layer)
        rank = len(input_shape)
        first = getattr(self.layer, "data_format", "") == "channels_first"
        axis = 1 if first else rank - 1
        self._features = input_shape[axis]
        if self._features is None:
            raise ValueError(
                "The channels of the input must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        # Neighbors in an image tell what a single dropped element was.
        spatial = len(kernel.shape) > 2 and hasattr(self.layer, "kernel_size")
        self._shared = [i for i in range(1, rank) if spatial and i != axis]
        start = float(np.log(self.initial_rate / (1 - self.initial_rate)))
        self.logit = self.add_weight(
            name="logit",
            shape=(),
            initializer=keras.initializers.Constant(start),
            autocast=False,
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        logit = ops.cast(ops.convert_to_tensor(self.logit), "float32")
        self.add_loss(self._penalty(logit))
        if training:
            inputs = inputs * ops.cast(self._kept(inputs, logit), inputs.dtype)
        if _compat.takes_training(self.layer):
            return self.layer(inputs, training=training)
        return self.layer(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": _kernels.config_of(self.layer),
            "weight_factor": self.weight_factor,
            "entropy_factor": self.entropy_factor,
            "initial_rate": self.initial_rate,
            "temperature": self.temperature,
            "seed": self.seed,
        }

    def _penalty(self, logit: Any) -> Any:
        kernel = ops.cast(_kernels.kernel_of(self.layer), "float32")
        weights = ops.sum(ops.square(kernel)) * (1.0 + ops.exp(logit))
        rate = ops.sigmoid(logit)
        negative_entropy = rate * ops.log_sigmoid(logit)
        negative_entropy += (1.0 - rate) * ops.log_sigmoid(-logit)
        return (
            self.weight_factor * weights
            + self.entropy_factor * self._features * negative_entropy
        )

    def _kept(self, inputs: Any, logit: Any) -> Any:
        """What inputs are multiplied by: about 0, or 1 / (1 - p)."""
        shape = [*ops.shape(inputs)]
        for axis in self._shared:
            shape[axis] = 1
        u = keras.random.uniform(
            tuple(shape), 1e-7, 1 - 1e-7, seed=self.seed_generator
        )
        noise = ops.log(u) - ops.log(1.0 - u)
        keep = ops.sigmoid(-(logit + noise) / self.temperature)
        return keep * (1.0 + ops.exp(logit))


class Prediction(NamedTuple):
    """What a model predicts on average, and how far its passes differ."""

    mean: Any
    variance: Any


def predict_with_uncertainty(
    model: Any,
    x: Any,
    passes: int = 50,
    batch_size: int | None = None,
    seed: int | None = None,
) -> Prediction:
    """Predicts many times with dropout, and says how far the answers differ.

    Use it to know what a model is unsure of. Dropout of every kind is random,
    as in training: Keras' own, also inside recurrent and attention layers, and
    `DropPath`, `DropBlock1D`, `DropBlock2D`, `ConcreteDropout`, `Zoneout`,
    `MonteCarloDropout`. All else is as in inference, batch normalization
    included. All passes over a batch are one call of one compiled program,
    which is kept for further calls; with `passes = 1` the mean is one pass and
    the variance 0.

    Args:
        model: A built model that has dropout. It is left as it was, but for the
            states of its random numbers.
        x: As in `keras.Model.predict`: arrays, or batches of a data set.
        passes: Number of passes, at least 1.
        batch_size: Samples a call, each of them `passes` times in memory. None
            for 32.
        seed: Integer, for the same answer again, and the states of the model's
            random numbers as they were. None to go on with them.

    Returns:
        `(mean, variance)` with the shapes of the model's outputs: of each
        output over the passes. The variance is that of the model; the noise of
        the data comes on top of it.

    Raises:
        ValueError: If the model has no dropout, or dropout that is the same for
            all samples of a batch, or `passes` is below 1.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((1,)), keras.layers.Dropout(0.5)]
        ... )
        >>> mean, variance = predict_with_uncertainty(
        ...     model, np.ones((1, 1)), passes=10_000, seed=1
        ... )
        >>> bool(abs(mean[0, 0] - 1) < 0.05)  # 0 or 2, equally often
        True
        >>> bool(abs(variance[0, 0] - 1) < 0.01)
        True

    Reference:
        Gal & Ghahramani, 2016, [Dropout as a Bayesian
        approximation](https://arxiv.org/abs/1506.02142), equations 6 and 7,
        without the noise of the data.
    """
    _validation.at_least("passes", passes, 1)
    random = [layer for layer in _compat.flattened(model) if _is_random(layer)]
    _require_random(model, random)
    with contextlib.ExitStack() as stack:
        for layer in random:
            call = {"call": _training_call(layer)}
            stack.enter_context(_compat.replaced(vars(layer), call))
        if seed is not None:
            stack.enter_context(_seeded(random, seed))
        predicted = _program(model, passes, random).predict(
            x, batch_size=batch_size, verbose=0
        )
    return Prediction(*predicted)


_FAMILY = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    DropPath,
    DropBlock,
    ConcreteDropout,
    Zoneout,
)
# With rates of their own, that only training turns on.
_RECURRENT = (
    keras.layers.SimpleRNN,
    keras.layers.SimpleRNNCell,
    keras.layers.LSTM,
    keras.layers.LSTMCell,
    keras.layers.GRU,
    keras.layers.GRUCell,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
)
_RATES = ("rate", "dropout", "recurrent_dropout")
# Not an attribute to Keras, which would save it with the model.
_KEPT = "__kerascomp_passes__"


class _Passes(keras.Model):
    """Calls a model on several copies of a batch at once."""

    def __init__(self, model: Any, passes: int):
        super().__init__(autocast=False, name="passes")
        self.model = model
        self.passes = passes

    def call(self, inputs: Any) -> Any:
        copies = tree.map_structure(
            lambda x: ops.tile(x, (self.passes, *[1] * (len(x.shape) - 1))),
            inputs,
        )
        outputs = self.model(copies, training=False)
        return tuple(
            tree.map_structure(
                lambda y, f=f: f(self._apart(y), axis=0), outputs
            )
            for f in (ops.mean, ops.var)
        )

    def _apart(self, y: Any) -> Any:
        return ops.reshape(y, (self.passes, -1, *ops.shape(y)[1:]))


def _program(model: Any, passes: int, random: list) -> _Passes:
    """Returns the program, compiled when it was used before.

    Rates are baked into it.
    """
    rates = [(id(layer), *_rates_of(layer).values()) for layer in random]
    kept = vars(model).get(_KEPT)
    if kept is None or kept[0] != (id(model), passes, rates):
        program = _Passes(model, passes)
        kept = vars(model)[_KEPT] = (id(model), passes, rates), program
    return kept[1]


def _rates_of(layer: Any) -> dict[str, float]:
    found = vars(getattr(layer, "cell", layer))
    if isinstance(layer, _FAMILY):
        found = vars(layer)
    return {name: found[name] for name in _RATES if name in found}


def _is_random(layer: Any) -> bool:
    rates = _rates_of(layer)
    if isinstance(layer, _RECURRENT):
        return any(rates.values())
    return isinstance(layer, _FAMILY) and rates.get("rate") != 0


def _require_random(model: Any, random: list) -> None:
    if not random:
        raise ValueError(
            "`model` must have a layer with dropout whose rate is above 0. "
            f"Received: model={model!r}"
        )
    for layer in random:
        shape = getattr(layer, "noise_shape", None)
        if shape and shape[0] is not None:
            raise ValueError(
                "Dropout must draw for each sample, as passes are samples of "
                "one batch: begin `noise_shape` with None. Received: "
                f"noise_shape={shape} of layer {layer.name!r}"
            )


def _training_call(layer: Any) -> Any:
    """Returns the `call` of a layer, as in training."""
    call = layer.call

    def training_call(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **{**kwargs, "training": True})

    return training_call


@contextlib.contextmanager
def _seeded(random: list, seed: int) -> Iterator[None]:
    """Starts the random numbers of layers anew, and puts them back."""
    found = [getattr(layer, "seed_generator", None) for layer in random]
    states = [generator.state for generator in found if generator is not None]
    before = [ops.convert_to_numpy(state) for state in states]
    for place, state in enumerate(states):
        # Layers differ, as they do with seeds of their own.
        start = np.array([(seed + 7919 * place) % 2**31, 0])
        state.assign(start.astype(state.dtype))
    try:
        yield
    finally:
        for state, value in zip(states, before, strict=True):
            state.assign(value)
