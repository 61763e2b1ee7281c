"""Callbacks of one model, run for every lane."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import callbacks
from kerascomp._compat import keras
from kerascomp.callbacks import _probe
from kerascomp.population import _engine

# What a callback may use of a lane without the model being brought up to date.
_STATIC = ("compiled", "built", "name", "optimizer", "loss")

# Callbacks whose copies know all they need from the logs, the weights and the
# learning rate of their lane.
LANE_WISE: tuple[type, ...] = (
    keras.callbacks.EarlyStopping,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.TerminateOnNaN,
    callbacks.GradientNormMonitor,
    callbacks.WarmupCosine,
)
# Why others cannot be, and what serves instead.
_INSTEAD: Mapping[str, str] = {
    "BackupAndRestore": "a study or a tuner resumes by itself",
    "CSVLogger": "write `history` of each lane when `fit` is over",
    "History": "`fit` returns the history of every lane",
    "ModelCheckpoint": (
        "`EarlyStopping(restore_best_weights=True)` keeps the best epoch of "
        "every lane; save `population.models[lane]` afterwards"
    ),
    "ProgbarLogger": "pass verbose=1",
    "TensorBoard": "fit the best model again, alone",
}


def check(given: Sequence[Any]) -> None:
    """Raises for callbacks that cannot run lane by lane."""
    for callback in given:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`callbacks` must be a list of `keras.callbacks.Callback`. "
                f"Received: {callback!r}"
            )
        if not is_lane_wise(callback):
            name = type(callback).__name__
            instead = _INSTEAD.get(
                name,
                "if its hooks use nothing but the logs, the weights and the "
                "learning rate of one model, give its class the attribute "
                "`lane_wise = True`",
            )
            raise ValueError(
                "Callbacks of a population run once for each lane, which "
                f"{name} cannot: {instead}. Received: callbacks with {name}"
            )


def is_lane_wise(callback: Any) -> bool:
    """Whether a callback may be copied for every lane."""
    known = type(callback) in LANE_WISE
    return known or bool(getattr(callback, "lane_wise", False))


class LaneModel:
    """A lane of a running program, as a callback sees its model.

    Weights are read from and written to the lane. Whatever else a callback
    asks for comes from the member, brought up to date before.
    """

    def __init__(self, engine: _engine.StateEngine, lane: int):
        self.stop_training = False
        self.rate: float | None = None  # Set before the next step.
        self._engine, self._lane = engine, lane
        self._member = engine.models[lane]
        self._gradients: list[_Gradients] = []

    def get_weights(self) -> list[np.ndarray]:
        """The weights, as of `keras.Model`."""
        state = self._engine.values(self._lane)
        return [
            np.array(getattr(state, field)[place])
            for field, place in self._places()
        ]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replaces the weights, as of `keras.Model`."""
        fields: dict[str, dict[int, Any]] = {}
        for (field, place), new in zip(self._places(), weights, strict=True):
            fields.setdefault(field, {})[place] = new
        for field, new in fields.items():
            self._engine.assign(self._lane, field, new)

    def assign_optimizer(self, variables: list, value: float) -> None:
        """Gives learning rates a value, in time for the next step."""
        del variables  # All the rates of a member; none else is assigned.
        self.rate = value

    def subscribe_to_gradients(self, receive: _probe.Receive) -> Any:
        """Joins the probe of the population."""
        names = [v.path for v in self._member.trainable_variables]
        self._gradients.append(_Gradients(tuple(names), receive))
        return self._gradients[-1]

    def deliver(self, norms: np.ndarray) -> None:
        """Passes the gradient norms of an epoch on, `(steps, variables)`."""
        for gradients in self._gradients:
            gradients.deliver(norms)

    def _places(self) -> list[tuple[str, int]]:
        places = {
            id(variable): (field, place)
            for field in ("trainable", "non_trainable")
            for place, variable in enumerate(
                _engine.VARIABLES[field](self._member)
            )
        }
        return [places[id(variable)] for variable in self._member.weights]

    def jax_state_sync(self) -> None:
        """What `Callback.model` calls: the lane is always in sync."""

    @property
    def metrics(self) -> list:
        """Those that were built: the program is the first member's."""
        return self._engine.models[0].metrics

    def __getattr__(self, name: str) -> Any:
        if name not in _STATIC:
            self._engine.write(self._lane)
        return getattr(self._member, name)


class _Gradients:
    """What a monitor holds instead of a `_probe.Subscription`."""

    def __init__(self, names: tuple[str, ...], receive: _probe.Receive):
        self.names = names
        self._receive = receive
        self._seen = 0

    def deliver(self, norms: np.ndarray) -> None:
        if len(norms):
            steps = np.arange(self._seen, self._seen + len(norms))
            self._seen += len(norms)
            self._receive(steps, norms)

    def before_execution(self) -> None:
        """Rows are fetched at the end of an epoch."""

    collect = close = before_execution


class LaneCallbacks:
    """The copies of all callbacks for one lane.

    Args:
        given: The callbacks of `fit`.
        params: As Keras gives them to `set_params`.
    """

    def __init__(self, given: Sequence[Any], params: dict[str, Any]):
        self.copies = [copy.deepcopy(callback) for callback in given]
        for own in self.copies:
            own.set_params(params)
        self.began = False

    def enter(self, model: Any) -> None:
        """Gives the callbacks the model of the coming epochs."""
        for own in self.copies:
            own.set_model(model)
        if not self.began:
            self.began = True
            self.call("on_train_begin")
            return
        # The programs changed, the callbacks go on: monitors join anew.
        for own in self.copies:
            gradients = getattr(own, "_subscription", None)
            if isinstance(gradients, _Gradients):
                model._gradients.append(gradients)

    def call(self, hook: str, *arguments: Any) -> None:
        """Calls a hook of all callbacks."""
        for own in self.copies:
            if _overrides(own, hook):
                getattr(own, hook)(*arguments)

    @property
    def has_batch_hooks(self) -> bool:
        """Whether something is to be called at every step."""
        return any(
            _overrides(own, hook)
            for own in self.copies
            for hook in ("on_train_batch_begin", "on_train_batch_end")
        )

    @property
    def needs_gradients(self) -> bool:
        """Whether the program has to return the norms of gradients."""
        monitor = callbacks.GradientNormMonitor
        return any(isinstance(own, monitor) for own in self.copies)

    def state(self) -> list[dict[str, Any]]:
        """What the callbacks remember, as far as it is plain data."""
        return [
            {k: v for k, v in vars(own).items() if _is_plain(v)}
            for own in self.copies
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Undoes `state`, once training has begun."""
        for own, state in zip(self.copies, states, strict=True):
            # A lane that had not begun remembers None where now its model is.
            kept = {k for k, v in vars(own).items() if not _is_plain(v)}
            vars(own).update({k: v for k, v in state.items() if k not in kept})


def _overrides(callback: Any, hook: str) -> bool:
    base = keras.callbacks.Callback
    return getattr(type(callback), hook) is not getattr(base, hook)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) for k in value) and all(
            map(_is_plain, value.values())
        )
    plain = (type(None), bool, int, float, str, np.ndarray, np.generic)
    return isinstance(value, plain)
