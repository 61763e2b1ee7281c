"""The training of a population, which may pause and lose lanes."""

import copy
import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.callbacks import _probe
from kerascomp.population import (
    _callbacks,
    _choice,
    _data,
    _engine,
    _history,
    _members,
    _program,
)

# In a validation batch, over all lanes: nothing but memory depends on it.
_VALIDATION_SAMPLES = 8192

# Variables of learning rates, and their values.
_Rates = list[tuple[Any, float]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to train on, for how long.

    Attributes:
        data: The training data of all lanes.
        validation: What lanes are evaluated on; None for nothing.
        batch_sizes: Of each lane; of no matter for a stream.
        epochs: Of each lane: the epochs to run, counted from 0.
        callbacks: Those of each lane, which gets copies.
        validation_batch_size: Samples in a validation batch; None chooses.
        validation_freq: Epochs from one validation to the next.
        verbose: 0 or 1.
    """

    data: _data.Source
    validation: _data.Source | None
    batch_sizes: Sequence[int]
    epochs: Sequence[range]
    callbacks: Sequence[Sequence[Any]]
    validation_batch_size: int | None = None
    validation_freq: int = 1
    verbose: int = 0


@dataclasses.dataclass(frozen=True)
class LaneState:
    """All that a lane needs to go on, in another process if need be.

    Attributes:
        epoch: The next epoch.
        step: The number of steps that were taken.
        variables: Weights and optimizer, as arrays.
        history: The lane's history so far.
        callbacks: What its callbacks remember.
        seconds: As of `Histories.seconds`.
        diverged: The step at which it diverged, or None.
        stopped: Whether it ended.
    """

    epoch: int
    step: int
    variables: list[np.ndarray]
    history: dict[str, list[float]]
    callbacks: list[dict[str, Any]]
    seconds: list[float] = dataclasses.field(default_factory=list)
    diverged: int | None = None
    stopped: bool = False


class Training:
    """Trains the lanes up to some epoch, and goes on from there.

    Between two calls of `advance`, the models hold the state of their lanes.

    Args:
        models: The members, compiled.
        programs: What was compiled before.
        plan: What to train on.
        engine: `"auto"`, `"vectorized"` or `"looped"`.
        max_lanes: As of `Population`.
        on_epoch: Is called after every epoch of a group, with its lanes.
    """

    def __init__(
        self,
        models: Sequence[Any],
        programs: _choice.Programs,
        plan: Plan,
        engine: str = "auto",
        max_lanes: int | None = None,
        on_epoch: Callable[[list[int]], None] | None = None,
    ):
        prepare(models, plan.data)
        # Found once, and not of the lanes that happen to be left: noise must
        # not depend on which lanes have ended.
        self._own_noise = not _engine.have_common_seeds(models)
        self.history = _history.Histories(len(models))
        self.running = list(range(len(models)))
        self._models, self._programs, self._plan = models, programs, plan
        self._engine, self._max_lanes = engine, max_lanes
        self._on_epoch = on_epoch
        self._next = [own.start for own in plan.epochs]
        self._steps = [0] * len(models)
        self._callbacks = [self._copies(lane) for lane in self.running]
        self._restored: dict[int, tuple[LaneState, _Rates]] = {}
        self._run: _Run | None = None

    def _copies(self, lane: int) -> _callbacks.LaneCallbacks:
        plan = self._plan
        size = plan.batch_sizes[lane]
        params = {
            "epochs": plan.epochs[lane].stop,
            "steps": plan.data.of_lanes([lane], size).steps,
            "verbose": 0,
        }
        own = _callbacks.LaneCallbacks(plan.callbacks[lane], params)
        self.history.callbacks[lane] = own.copies
        return own

    def advance(self, until: int | None = None) -> None:
        """Trains all running lanes.

        Args:
            until: The epoch to stop before; None for the end.
        """
        for group in self._groups(until):
            self._advance_group(group, until)
        for lane in list(self.running):
            if self._next[lane] >= self._plan.epochs[lane].stop:
                self._end(lane)

    def drop(self, lanes: Iterable[int]) -> None:
        """Ends lanes before their time, between two calls of `advance`."""
        for lane in lanes:
            self._end(lane)

    def lane_state(self, lane: int) -> LaneState:
        """Returns what `restore` takes; also from within `on_epoch`."""
        variables = None if self._run is None else self._run.values(lane)
        if variables is None:
            variables = _engine.values_of(self._models[lane])
        return LaneState(
            epoch=self._next[lane],
            step=self._steps[lane],
            variables=variables,
            history=copy.deepcopy(self.history[lane]),
            callbacks=self._callbacks[lane].state(),
            seconds=list(self.history.seconds[lane]),
            diverged=self.history.diverged[lane],
            stopped=lane not in self.running,
        )

    def next_epochs(self) -> list[int]:
        """Returns the next epoch of each running lane."""
        return [self._next[lane] for lane in self.running]

    def begin_with(self, lane: int, variables: Sequence[np.ndarray]) -> None:
        """Gives a lane the weights and the optimizer of another one.

        Its steps are counted on from those of the other, so that its noise
        does not repeat.
        """
        model = self._models[lane]
        _engine.assign_values(model, variables)
        self._steps[lane] = int(model.optimizer.iterations)

    def restore(self, lane: int, state: LaneState) -> None:
        """Continues a lane where another training stopped.

        The models are built alike, and the data come in the same order: pass
        seeds, or no shuffling.
        """
        model, own = self._models[lane], self._callbacks[lane]
        rates = _rates(model)
        _engine.assign_values(model, state.variables)
        self._next[lane], self._steps[lane] = state.epoch, state.step
        self.history[lane].update(copy.deepcopy(state.history))
        self.history.seconds[lane].extend(state.seconds)
        self.history.diverged[lane] = state.diverged
        # Again when it goes on, if it does: its callbacks begin anew then.
        own.restore(state.callbacks)
        if state.stopped:
            self.running.remove(lane)
            own.set_model(model)
        else:
            self._restored[lane] = state, rates

    def _groups(self, until: int | None) -> list[_members.Group]:
        plan = self._plan
        lanes = [n for n in self.running if self._left(n, until)]
        if not lanes:
            return []
        groups = _members.groups(
            [self._models[lane] for lane in lanes],
            self._max_lanes,
            [
                (
                    plan.batch_sizes[n],
                    self._left(n, until),
                    self._steps[n],
                    plan.data.size(n),
                    plan.validation and plan.validation.size(n),
                )
                for n in lanes
            ],
            self._programs.lift_all,
        )
        _refuse_spent(plan, len(groups))
        lanes_of = np.array(lanes)
        return [
            dataclasses.replace(
                group,
                lanes=lanes_of[group.lanes],
                own_noise=self._own_noise,
            )
            for group in groups
        ]

    def _left(self, lane: int, until: int | None) -> range:
        stop = self._plan.epochs[lane].stop
        stop = stop if until is None else min(stop, until)
        return range(self._next[lane], stop)

    def _advance_group(self, group: _members.Group, until: int | None) -> None:
        lanes = [int(lane) for lane in group.lanes]
        epochs = self._left(lanes[0], until)
        run = _Run(
            group,
            self._plan,
            self.history,
            [self._callbacks[n] for n in lanes],
        )
        run.make_engine(self._programs, self._engine, len(epochs))
        self._run = run
        try:
            run.enter([self._restored.pop(lane, None) for lane in lanes])
            for epoch in epochs:
                self._advance_epoch(run, epoch)
                if not run.running:
                    break
        finally:  # An interrupted training leaves what it got to.
            run.leave()
            self._run = None
        notes = self.history.notes
        notes.extend(note for note in run.engine.notes if note not in notes)

    def _advance_epoch(self, run: "_Run", epoch: int) -> None:
        lanes = run.lanes
        going = [lanes[place] for place in run.running]
        step = run.train(epoch, self._steps[going[0]])
        for lane in going:
            self._steps[lane] = step
            self._next[lane] = epoch + 1
        run.validate(epoch)
        ended = [lanes[place] for place in run.end_epoch(epoch)]
        self._say(epoch, lanes)
        run.drop([lanes.index(lane) for lane in ended])
        for lane in ended:
            self._end(lane)
        if self._on_epoch is not None:
            self._on_epoch(going)

    def _end(self, lane: int) -> None:
        """Finishes a lane as `fit` does."""
        if lane not in self.running:
            return
        self.running.remove(lane)
        model = self._models[lane]
        if self._plan.epochs[lane].stop:
            model.optimizer.finalize_variable_values(model.trainable_variables)
        self._callbacks[lane].end(model)

    def _say(self, epoch: int, lanes: Sequence[int]) -> None:
        if self._plan.verbose:
            last = self._plan.epochs[lanes[0]].stop
            summary = self.history.summary(lanes)
            print(f"Epoch {epoch + 1}/{last} - {summary}")


def prepare(models: Sequence[Any], data: _data.Source) -> None:
    """Builds members, and checks what is known only then."""
    batch = data.first()
    if batch.data_by_lane:
        batch = batch.of_lane(0)
    _members.build(models, batch.x)
    _members.check_ends(models)


# What `LaneState` holds of a model, and back.
state_of, begin_with = _engine.values_of, _engine.assign_values


def _rates(model: Any) -> _Rates:
    """The learning rates of a model."""
    optimizers = _compat.optimizers_of(model.optimizer)
    variables = map(_compat.learning_rate_variable, optimizers)
    numbers = keras.ops.convert_to_numpy
    return [(v, float(numbers(v))) for v in variables if v is not None]


def _refuse_spent(plan: Plan, groups: int) -> None:
    """Raises for data that can be read once and are needed more often."""
    epochs = max(plan.epochs, key=len)
    readings = [(plan.data, 1 if plan.data.steps_per_epoch else len(epochs))]
    if plan.validation is not None:
        due = [e for e in epochs if (e + 1) % plan.validation_freq == 0]
        readings.append((plan.validation, len(due)))
    for source, passes in readings:
        if source.is_spent and groups * passes > 1:
            raise ValueError(
                "Data that can be iterated over only once cannot serve "
                f"{passes} epochs of {groups} groups of lanes, which train one "
                "after the other. Pass arrays, a `tf.data.Dataset` or a "
                "`keras.utils.PyDataset`; or, for training, "
                f"`steps_per_epoch`. Received: {source.description}"
            )


def _assign_rates(rates: _Rates) -> None:
    for variable, value in rates:
        variable.assign(value)


class _Run:
    """A group, from one compilation to the end or the next pause.

    Lanes are counted within the group here.
    """

    engine: _engine.Engine

    def __init__(
        self,
        group: _members.Group,
        plan: Plan,
        history: _history.Histories,
        callbacks: Sequence[_callbacks.LaneCallbacks],
    ):
        self.lanes = [int(lane) for lane in group.lanes]
        self.running = list(range(len(self.lanes)))
        self._group, self._plan, self._history = group, plan, history
        self._callbacks = callbacks
        size = plan.batch_sizes[self.lanes[0]]
        self._data = plan.data.of_lanes(self.lanes, size)
        validation = plan.validation
        most = max(_VALIDATION_SAMPLES // len(self.lanes), 32)
        size = plan.validation_batch_size or most
        self._validation = validation and validation.of_lanes(self.lanes, size)
        self._validation_logs: list[dict[str, float]] = []
        self._rates: list[float | None] = []
        self._views: list[Any] = []

    def make_engine(
        self, programs: _choice.Programs, wish: str, epochs: int
    ) -> None:
        """Compiles what the group needs."""
        batch = self._data.first()
        _members.build_metrics(self._group.models[0], batch)
        optimizer = self._group.models[0].optimizer
        wanted = {n for c in self._callbacks for n in c.measured(optimizer)}
        self._probing = tuple(n for n in _probe.QUANTITIES if n in wanted)
        steps = epochs * (self._data.steps or 1)
        trial = _choice.Trial(batch, steps, self._probing, self._plan.verbose)
        self.engine = programs.engine(self._group, wish, trial)

    def enter(
        self, restored: Sequence[tuple[LaneState, _Rates] | None]
    ) -> None:
        """Begins with what the callbacks do before the first epoch."""
        for lane, found in enumerate(restored):
            own = self._callbacks[lane]
            if found is None:
                self._views.append(own.enter(self.engine, lane))
                continue
            # Callbacks that give the learning rate back in the end note it
            # when training begins.
            state, compiled = found
            present = _rates(self.engine.models[lane])
            _assign_rates(compiled)
            self._views.append(own.enter(self.engine, lane))
            _assign_rates(present)
            own.restore(state.callbacks)
        self._rates = [self._rate_of(lane) for lane in self.running]

    def train(self, epoch: int, step: int) -> int:
        """Trains an epoch; returns the number of steps so far."""
        began = time.perf_counter()
        self._call("on_epoch_begin", epoch, {})
        self.engine.reset_metrics()
        self._first_step = step
        first = self._plan.epochs[self.lanes[0]].start
        hooks = any(own.has_batch_hooks for own in self._callbacks)
        for number, batch in enumerate(self._data.epoch(epoch, first)):
            if hooks:
                self._before_step(number)
            self.engine.train(batch, step)
            step += 1
            if hooks:
                self._after_step(number)
        self._logs = self.engine.logs()
        share = (time.perf_counter() - began) / len(self.running)
        for lane in self.running:
            self._history.seconds[self.lanes[lane]].append(share)
        return step

    def _after_step(self, number: int) -> None:
        logs: list[dict[str, float]] = [{} for _ in self.lanes]
        if any(own.reads_batch_logs for own in self._callbacks):
            logs = self.engine.logs()
        for lane in self.running:
            own = self._callbacks[lane]
            own.call_by_step("on_train_batch_end", number, logs[lane])

    def _before_step(self, number: int) -> None:
        for lane in self.running:
            own = self._callbacks[lane]
            own.call_by_step("on_train_batch_begin", number, {})
        if not isinstance(self.engine, _engine.StateEngine):
            return
        rates = [getattr(view, "rate", None) for view in self._views]
        if any(rate is not None for rate in rates):
            self.engine.set_rates(np.array(rates, "float64"))

    def validate(self, epoch: int) -> None:
        """Evaluates all lanes, where it is time."""
        self._validation_logs = []
        due = (epoch + 1) % self._plan.validation_freq == 0
        if self._validation is not None and due:
            self._call("on_test_begin", {})
            self._validation_logs = evaluated(self.engine, self._validation)
            for lane in self.running:
                logs = dict(self._validation_logs[lane])
                self._call_lane(lane, "on_test_end", logs)

    def end_epoch(self, epoch: int) -> list[int]:
        """Records the epoch; returns the lanes that end with it."""
        broken = self.engine.broken()
        self._history.note_ends(self.lanes, broken)
        self._deliver_norms()
        ended = []
        for lane in self.running:
            logs = dict(self._logs[lane])
            if self._validation_logs:
                own = self._validation_logs[lane]
                logs |= {f"val_{name}": value for name, value in own.items()}
            diverged = broken[lane] != _program.NOT_BROKEN
            if diverged:
                # The lane kept its last finite weights, whose metrics would
                # hide what happened.
                logs = dict.fromkeys(logs, float("nan"))
            self._call_lane(lane, "on_epoch_end", epoch, logs)
            self._history.record(self.lanes[lane], logs)
            if diverged or self._views[lane].stop_training:
                ended.append(lane)
        return ended

    def drop(self, lanes: Sequence[int]) -> None:
        """Leaves lanes behind, their models as they are now."""
        if lanes:
            self.engine.drop(lanes)
            self.running = [n for n in self.running if n not in lanes]
            for lane in lanes:
                self._callbacks[lane].leave()

    def values(self, lane: int) -> list[np.ndarray] | None:
        """Returns the variables of a running lane, None where models do."""
        place = self.lanes.index(lane) if lane in self.lanes else -1
        if place in self.running and isinstance(
            self.engine, _engine.StateEngine
        ):
            own = self.engine.values(place)
            return [*own.trainable, *own.non_trainable, *own.optimizer]
        return None

    def leave(self) -> None:
        """Gives all models their states."""
        self.engine.write_back()
        for own in self._callbacks:
            own.leave()

    def _deliver_norms(self) -> None:
        if isinstance(self.engine, _engine.StateEngine):
            norms = self.engine.take_norms()
            for lane in self.running:
                values = {
                    name: norms[:, lane, place]
                    for place, name in enumerate(self._probing)
                }
                self._views[lane].deliver(self._first_step, values)

    def _call(self, hook: str, *arguments: Any) -> None:
        for lane in self.running:
            self._call_lane(lane, hook, *arguments)

    def _call_lane(self, lane: int, hook: str, *arguments: Any) -> None:
        self._callbacks[lane].call(hook, *arguments)
        self._take_rate(lane)

    def _take_rate(self, lane: int) -> None:
        """Passes on a learning rate that a callback assigned to the member."""
        if not isinstance(self.engine, _engine.StateEngine):
            return
        rate = self._rate_of(lane)
        if rate != self._rates[lane]:
            self._rates[lane] = rate
            places = self.engine.rate_places
            new = dict.fromkeys(places, np.float32(rate or 0.0))
            self.engine.assign(lane, "optimizer", new)

    def _rate_of(self, lane: int) -> float | None:
        optimizers = _compat.optimizers_of(self.engine.models[lane].optimizer)
        variable = _compat.learning_rate_variable(optimizers[0])
        if variable is None or not self._callbacks[lane].copies:
            return None
        return float(keras.ops.convert_to_numpy(variable))


def evaluated(
    engine: _engine.Engine, data: _data.Source
) -> list[dict[str, float]]:
    """Runs the data through all lanes and returns their metrics."""
    engine.reset_metrics()
    for batch in data.epoch():
        engine.test(batch)
    return engine.logs()
