"""Callbacks that set dropout rates at every epoch."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from kerascomp import _compat, _validation, layers
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class DropoutSchedule(keras.callbacks.Callback):
    """Sets the rates of dropout layers at every epoch.

    Use it to raise dropout while a model trains, as `DropBlock2D` and deep
    `DropPath` networks ask for, or to lower it towards the end. It steers the
    `rate` of Keras' dropout layers and of `kerascomp.layers`; each epoch's is
    added to the logs as `dropout_rate`.

    On TensorFlow the compiled training step reads the rates of all layers but
    `AlphaDropout` and `GaussianDropout` from variables; it is traced once for
    each `fit`. Elsewhere, rates are constants of the compiled step: it is
    compiled anew when a rate changes, and not in an epoch that keeps it. On
    torch, where training is not compiled, nothing is.

    Args:
        schedule: Function of the epoch, from 0, that returns a rate in [0, 1);
            or a `LearningRateSchedule`, of epochs.
        layers: Names of the layers to steer, or None for all with a rate.

    Saved state:
        None. After training, the rates are what they were before. A model that
        is saved meanwhile has the rates of its epoch.

    Raises:
        ValueError: At the start of `fit`, if the model has no such layer, or
            one without random numbers, as it is made with `rate = 0`; at an
            epoch, if its rate lies outside [0, 1).

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Dropout(0.5)]
        ... )
        >>> model.compile("sgd", "mse")
        >>> rising = DropoutSchedule(lambda epoch: 0.1 * epoch)
        >>> x = np.ones((8, 2))
        >>> history = model.fit(x, x, epochs=3, callbacks=[rising], verbose=0)
        >>> history.history["dropout_rate"]
        [0.0, 0.1, 0.2]
        >>> model.layers[0].rate
        0.5
    """

    def __init__(
        self,
        schedule: Callable[[int], Any],
        layers: Iterable[str] | None = None,
    ):
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                "`schedule` must be a function of the epoch. "
                f"Received: schedule={schedule!r}"
            )
        self.schedule = schedule
        self.layers = layers if layers is None else [*layers]
        self._steered: list[_Steered] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._undo()  # A fit that was interrupted never did.
        chosen = self._choose()
        self._rate: float | None = None
        self._steered = [_Steered(layer) for layer in chosen]
        for steered in self._steered:
            steered.start()
        # What earlier training compiled has the rates of then.
        self._model.make_train_function(force=True)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        rate = self.schedule(epoch)
        if ops.is_tensor(rate):
            rate = float(ops.convert_to_numpy(rate))
        _validation.in_interval("rate", rate, "[0, 1)")
        if rate == self._rate:
            return
        stale = [steered.set(rate) for steered in self._steered]
        if self._rate is not None and any(stale):
            self._model.make_train_function(force=True)
        self._rate = rate
        if any(_draws_always(steered.layer) for steered in self._steered):
            self._model.test_function = self._model.predict_function = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs["dropout_rate"] = self._rate

    def on_train_end(self, logs: dict | None = None) -> None:
        self._undo()
        self._model.make_train_function(force=True)

    def _undo(self) -> None:
        for steered in self._steered:
            steered.undo()
        self._steered = []

    def _choose(self) -> list:
        found = [
            layer
            for layer in _compat.flattened(self._model)
            if isinstance(layer, _STEERABLE)
            and (self.layers is None or layer.name in self.layers)
        ]
        missing = {*(self.layers or ())} - {layer.name for layer in found}
        if missing or not found:
            raise ValueError(
                "The model must have layers whose rate can be set. Received: "
                f"layers={self.layers}, not found: {sorted(missing) or 'any'}"
            )
        for layer in found:
            if not hasattr(layer, "seed_generator"):
                raise ValueError(
                    "A layer made with a rate of 0 draws no random numbers: "
                    "make it with another, which is replaced. Received: "
                    f"rate={layer.rate} of layer {layer.name!r}"
                )
        return found


_SPATIAL = (
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
_OURS = (layers.DropPath, layers.DropBlock1D, layers.DropBlock2D)
# Their rates may be read from variables.
_LIFTED = (keras.layers.Dropout, *_SPATIAL, *_OURS)
_STEERABLE = (
    *_LIFTED,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
)


@dataclasses.dataclass
class _Steered:
    """A layer whose rate changes, and what it was."""

    layer: Any

    def start(self) -> None:
        self.found = self.layer.rate
        self.variable: Any = None
        reads = _compat.programs_read_variables()
        if reads and isinstance(self.layer, _LIFTED):
            self.variable = keras.Variable(self.found, trainable=False)
            # Not by setting it, which Keras would track.
            self.layer.__dict__["call"] = self._call

    def set(self, rate: float) -> bool:
        """Sets the rate; says whether compiled programs have the old one."""
        self.layer.rate = rate
        if self.variable is None:
            return True
        self.variable.assign(rate)
        return False

    def undo(self) -> None:
        self.layer.rate = self.found
        if self.variable is not None:
            vars(self.layer).pop("call", None)

    def _call(self, inputs: Any, training: bool = False) -> Any:
        """Stands in for `call`, which asks in Python whether the rate is 0."""
        layer = self.layer
        if not (training or _draws_always(layer)):
            return layer.__class__.call(layer, inputs, training=False)
        rate = ops.convert_to_tensor(self.variable)
        if isinstance(layer, _OURS):
            return layer.drop(inputs, rate)
        noise = keras.random.uniform(
            _noise_shape(layer, inputs), seed=layer.seed_generator
        )
        kept = inputs / ops.cast(1.0 - rate, inputs.dtype)
        return ops.where(noise >= rate, kept, ops.zeros_like(inputs))


def _draws_always(layer: Any) -> bool:
    return isinstance(layer, layers.MonteCarloDropout)


def _noise_shape(layer: Any, inputs: Any) -> tuple:
    """The shape of what a layer of Keras draws."""
    shape = [*ops.shape(inputs)]
    if isinstance(layer, _SPATIAL):
        first = getattr(layer, "data_format", None) == "channels_first"
        channel = 1 if first else len(shape) - 1
        return tuple(n if i in (0, channel) else 1 for i, n in enumerate(shape))
    given = layer.noise_shape or [None] * len(shape)
    return tuple(
        n if one is None else one for n, one in zip(shape, given, strict=True)
    )
