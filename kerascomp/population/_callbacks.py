"""Callbacks of one model, run for every lane."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import callbacks
from kerascomp._compat import keras
from kerascomp.callbacks import _probe, _probing
from kerascomp.population import _engine

# What a callback may use of a lane without the model being brought up to date.
_STATIC = ("compiled", "built", "name", "optimizer", "loss")

_BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)

# Callbacks whose copies know all they need from the logs, the weights and the
# learning rate of their lane.
LANE_WISE: tuple[type, ...] = (
    keras.callbacks.EarlyStopping,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.TerminateOnNaN,
    callbacks.GradientFlowMonitor,
    callbacks.GradientNoiseScale,
    callbacks.GradientNormMonitor,
    callbacks.UpdateRatioMonitor,
    callbacks.ScheduleLearningRate,
    callbacks.WarmupCosine,
)
# Why others cannot be, and what serves instead.
_INSTEAD: Mapping[str, str] = {
    "BackupAndRestore": "a study or a tuner resumes by itself",
    "CSVLogger": "write `history` of each lane when `fit` is over",
    "History": "`fit` returns the history of every lane",
    "LearningRateLogger": "callbacks that set a rate log it every epoch",
    "LearningRateRangeTest": "run it on one model first",
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
        if getattr(callback, "log_dir", None) and is_lane_wise(callback):
            raise ValueError(
                "The lanes of a population cannot write to one `log_dir`. "
                f"Received: {type(callback).__name__}("
                f"log_dir={callback.log_dir!r})"
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
    asks for comes from the member, brought up to date before. Programs come
    and go while a training pauses, and lanes and their callbacks stay.

    Args:
        member: The model of the lane.
    """

    def __init__(self, member: Any):
        self.stop_training = False
        self.rate: float | None = None  # Set before the next step.
        self._member = member
        self._engine: _engine.StateEngine | None = None
        self._lane = 0
        self._metrics: list = member.metrics
        self._gradients: list[_Gradients] = []

    def bind(self, engine: _engine.StateEngine, lane: int) -> None:
        """Says where the state of the lane is; `release` that it left."""
        self._engine, self._lane = engine, lane
        # Those that were built: the program is the first member's.
        self._metrics = engine.models[0].metrics

    def release(self) -> None:
        """Undoes `bind`: the member has the state of the lane."""
        self._engine = None

    def get_weights(self) -> list[np.ndarray]:
        """The weights, as of `keras.Model`."""
        if self._engine is None:
            return self._member.get_weights()
        state = self._engine.values(self._lane)
        return [
            np.array(getattr(state, field)[place])
            for field, place in self._places()
        ]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replaces the weights, as of `keras.Model`."""
        if self._engine is None:
            self._member.set_weights(weights)
            return
        fields: dict[str, dict[int, Any]] = {}
        for (field, place), new in zip(self._places(), weights, strict=True):
            fields.setdefault(field, {})[place] = new
        for field, new in fields.items():
            self._engine.assign(self._lane, field, new)

    def assign_optimizer(self, variables: list, value: float) -> None:
        """Gives learning rates a value, in time for the next step."""
        del variables  # All the rates of a member; none else is assigned.
        self.rate = value

    def subscribe_to_gradients(self, request: _probe.Request) -> Any:
        """Joins the probe of the population."""
        gradients = _Gradients(self._member.trainable_variables, request)
        self._gradients.append(gradients)
        return gradients

    def deliver(self, first: int, values: Mapping[str, np.ndarray]) -> None:
        """Passes on what was measured from step `first` on.

        Args:
            first: The number of the first step.
            values: As `_probe.Receive` takes them.
        """
        count = len(next(iter(values.values()), ()))
        steps = np.arange(first, first + count)
        for gradients in self._gradients:
            gradients.deliver(steps, values)

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
        """The metrics, as of `keras.Model`."""
        return self._metrics

    def __getattr__(self, name: str) -> Any:
        if self._engine is not None and name not in _STATIC:
            self._engine.write(self._lane)
        return getattr(self._member, name)


class _Gradients:
    """What a monitor holds instead of a `_probe.Subscription`."""

    def __init__(self, variables: list, request: _probe.Request):
        self.names = _probe.unique([v.path for v in variables])
        self.ranks = tuple(len(v.shape) for v in variables)
        self.deliver = _probe.Delivery(request)

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
        self.view: Any = None  # The model, or a `LaneModel`.
        self._restored: list = []
        self._by_step = [own for own in self.copies if _has_batch_hooks(own)]

    def enter(self, engine: _engine.Engine, lane: int) -> Any:
        """Says which engine runs the lane; returns the model they see."""
        member = engine.models[lane]
        has_state = isinstance(engine, _engine.StateEngine)
        begins = self.view is None
        if begins:
            self.view = LaneModel(member) if has_state else member
        if has_state:
            self.view.bind(engine, lane)
        if begins:
            self.view.stop_training = False
            self._begin()
        return self.view

    def _begin(self) -> None:
        self.set_model(self.view)
        self.call("on_train_begin")

    def set_model(self, model: Any) -> None:
        """Gives the callbacks their model."""
        for own in self.copies:
            own.set_model(model)

    def leave(self) -> None:
        """Says that the model has its state again."""
        if isinstance(self.view, LaneModel):
            self.view.release()

    def end(self, model: Any) -> None:
        """Finishes, if there was a beginning."""
        if self.view is not None:
            self.set_model(model)
            self.call("on_train_end")

    def call(self, hook: str, *arguments: Any) -> None:
        """Calls a hook of all callbacks."""
        for own in self.copies:
            getattr(own, hook)(*arguments)

    def call_by_step(self, hook: str, *arguments: Any) -> None:
        """Calls a hook of those callbacks that act at every step."""
        for own in self._by_step:
            getattr(own, hook)(*arguments)

    @property
    def has_batch_hooks(self) -> bool:
        """Whether something is to be called at every step."""
        return bool(self._by_step)

    @property
    def reads_batch_logs(self) -> bool:
        """Whether the logs of every step are needed, which costs time."""
        return any(type(own) not in LANE_WISE for own in self._by_step)

    def measured(self, optimizer: Any) -> set[str]:
        """What the program has to measure, of `_probe.QUANTITIES`."""
        return {
            name
            for own in self.copies
            if isinstance(own, _probing.ProbeRecorder)
            for name in own.quantities(optimizer)
        }

    def state(self) -> list[dict[str, Any]]:
        """What the callbacks remember, as far as it is plain data.

        Before training begins, that is what was restored: what will hold a
        model or a monitor is None there, which would be plain.
        """
        if self.view is None:
            return self._restored
        return [
            {
                name: copy.deepcopy(value)
                for name, value in vars(own).items()
                if _is_plain(value) and name not in ("params", "_fit")
            }
            for own in self.copies
        ]

    def restore(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Undoes `state`, once training has begun."""
        self._restored = list(states)
        if not states:
            return
        for own, state in zip(self.copies, states, strict=True):
            # A lane that had not begun remembers None where now its model is.
            kept = {k for k, v in vars(own).items() if not _is_plain(v)}
            found = {k: v for k, v in state.items() if k not in kept}
            vars(own).update(copy.deepcopy(found))


def _has_batch_hooks(callback: Any) -> bool:
    """Whether a callback acts at every step."""
    # A lane that turns NaN ends anyway.
    return not isinstance(callback, keras.callbacks.TerminateOnNaN) and any(
        getattr(type(callback), hook)
        is not getattr(keras.callbacks.Callback, hook)
        for hook in _BATCH_HOOKS
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) for k in value) and all(
            map(_is_plain, value.values())
        )
    plain = (type(None), bool, int, float, str, np.ndarray, np.generic)
    return isinstance(value, plain)
