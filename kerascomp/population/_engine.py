"""Engines: how the lanes of a group are advanced by a step."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.callbacks import _probe
from kerascomp.population import _lifting, _program

ops = keras.ops
tree = keras.tree

# A step that takes so long need not be timed again.
_ENOUGH_SECONDS = 0.2


class Engine:
    """Advances all lanes of a group together.

    Args:
        models: The members, built and of one structure.
        lifting: The numbers that differ between them.

    Attributes:
        notes: What happened that a user should know.
    """

    kind = ""

    def __init__(self, models: Sequence[Any], lifting: _lifting.Lifting):
        self.models = list(models)
        self.lifting = lifting
        self.notes: list[str] = []

    def train(self, batch: _program.Batch, step: int) -> None:
        """Trains every lane on a batch."""
        raise NotImplementedError

    def test(self, batch: _program.Batch) -> None:
        """Updates every lane's metrics with a batch."""
        raise NotImplementedError

    def predict(self, batch: _program.Batch) -> Any:
        """Returns outputs as arrays `(lanes, batch, ...)`."""
        raise NotImplementedError

    def reset_metrics(self) -> None:
        """Starts all metrics anew."""
        raise NotImplementedError

    def logs(self) -> list[dict[str, float]]:
        """Returns the metrics after the last step, by lane."""
        raise NotImplementedError

    def broken(self) -> np.ndarray:
        """Returns the step at which each lane diverged, or -1."""
        raise NotImplementedError

    def drop(self, lanes: Sequence[int]) -> None:
        """Stops training lanes; their models get the present state."""
        raise NotImplementedError

    def write_back(self) -> None:
        """Gives the models the state of their lanes."""
        raise NotImplementedError


class StateEngine(Engine):
    """An engine that holds the state outside of the models."""

    vectorized = False

    def __init__(
        self,
        models: Sequence[Any],
        lifting: _lifting.Lifting,
        program: _program.Program,
    ):
        super().__init__(models, lifting)
        self._program = program
        self._norms: list = []

    def values(self, lane: int) -> _program.State:
        """Returns the present state of a lane as arrays."""
        raise NotImplementedError

    def assign(self, lane: int, field: str, new: Mapping[int, Any]) -> None:
        """Changes variables of a lane, by their places in a field of `State`.

        Args:
            lane: The place of the lane in the group.
            field: `"trainable"`, `"non_trainable"` or `"optimizer"`.
            new: The place of each variable, and its value.
        """
        raise NotImplementedError

    def set_rates(self, rates: np.ndarray) -> None:
        """Sets the learning rate of every lane, `(lanes,)`."""
        raise NotImplementedError

    def take_norms(self) -> np.ndarray:
        """Returns what was measured at the steps since the last call.

        Returns:
            `(steps, lanes, quantities, variables)`.
        """
        norms = [self._norms_of_step(step) for step in self._norms]
        self._norms = []
        shape = (0, len(self.models), len(_probe.QUANTITIES), 0)
        return np.stack(norms) if norms else np.zeros(shape, "float32")

    def _norms_of_step(self, norms: Any) -> np.ndarray:
        raise NotImplementedError

    @functools.cached_property
    def rate_places(self) -> list[int]:
        """Where the learning rates are in the optimizer's variables."""
        optimizer = self.models[0].optimizer
        rates = [
            _compat.learning_rate_variable(each)
            for each in _compat.optimizers_of(optimizer)
        ]
        return [
            place
            for place, variable in enumerate(optimizer.variables)
            if any(variable is rate for rate in rates)
        ]

    def _initial_state(self) -> _program.State:
        """Stacks the variables of all members as arrays."""
        first = self.models[0]
        first.reset_metrics()
        lanes = len(self.models)
        groups = [
            [
                np.stack([ops.convert_to_numpy(v) for v in variables])
                for variables in zip(*map(pick, self.models), strict=True)
            ]
            for pick in VARIABLES.values()
        ]
        metrics = [
            np.stack([ops.convert_to_numpy(v)] * lanes)
            for v in first.metrics_variables
        ]
        broken = np.full(lanes, _program.NOT_BROKEN, "int32")
        return _program.State._make([*groups, metrics, broken])

    def write(self, lane: int) -> None:
        """Gives a lane's model its state, as `fit` leaves it behind."""
        model, values = self.models[lane], self.values(lane)
        for name, pick in VARIABLES.items():
            own = getattr(values, name)
            for variable, array in zip(pick(model), own, strict=True):
                variable.assign(array)


VARIABLES: dict[str, Callable] = {
    "trainable": lambda model: model.trainable_variables,
    "non_trainable": lambda model: model.non_trainable_variables,
    "optimizer": lambda model: model.optimizer.variables,
}


def values_of(model: Any) -> list[np.ndarray]:
    """Returns copies of weights and optimizer state."""
    return [np.array(ops.convert_to_numpy(v)) for v in _variables(model)]


def assign_values(model: Any, values: Sequence[np.ndarray]) -> None:
    """Undoes `values_of`."""
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def _variables(model: Any) -> list:
    return [v for pick in VARIABLES.values() for v in pick(model)]


class VectorizedEngine(StateEngine):
    """All lanes in one program, along a leading axis.

    Where that takes more memory than there is, the axis is cut into parts
    that run one after the other.
    """

    kind = "vectorized"
    vectorized = True

    def __init__(
        self,
        models: Sequence[Any],
        lifting: _lifting.Lifting,
        program: _program.Program,
    ):
        super().__init__(models, lifting, program)
        self._lanes = np.arange(len(self.models))
        self._state = _tensors(self._initial_state())
        self._metrics = self._state.metrics
        self._numbers = ops.convert_to_tensor(lifting.values)
        self._dropped: set[int] = set()
        self._broken = np.full(len(self.models), _program.NOT_BROKEN)
        self._logs: dict = {}
        self._host: _program.State | None = None
        self._parts = 1
        self._sound_parts = 0  # With how many parts a step has ended well.

    def train(self, batch: _program.Batch, step: int) -> None:
        run = self._in_parts(self._program.train, batch, step)
        self._logs, norms, self._state = run
        self._host = None
        if norms is not None:
            self._norms.append((self._lanes, norms))

    def test(self, batch: _program.Batch) -> None:
        self._logs, self._state = self._in_parts(self._program.test, batch)
        self._host = None

    def predict(self, batch: _program.Batch) -> Any:
        outputs = self._in_parts(self._program.predict, batch)
        return tree.map_structure(ops.convert_to_numpy, outputs)

    def reset_metrics(self) -> None:
        self._state = self._state._replace(metrics=self._metrics)
        self._host = None

    def logs(self) -> list[dict[str, float]]:
        arrays = {k: ops.convert_to_numpy(v) for k, v in self._logs.items()}
        rows: list[dict[str, float]] = [{} for _ in self.models]
        for place, lane in enumerate(self._lanes):
            rows[lane] = {k: float(v[place]) for k, v in arrays.items()}
        return rows

    def broken(self) -> np.ndarray:
        self._broken[self._lanes] = ops.convert_to_numpy(self._state.broken)
        return self._broken.copy()

    def values(self, lane: int) -> _program.State:
        if self._host is None:
            self._host = tree.map_structure(ops.convert_to_numpy, self._state)
        place = int(np.flatnonzero(self._lanes == lane)[0])
        return tree.map_structure(lambda array: array[place], self._host)

    def assign(self, lane: int, field: str, new: Mapping[int, Any]) -> None:
        place = int(np.flatnonzero(self._lanes == lane)[0])
        tensors = list(getattr(self._state, field))
        for index, value in new.items():
            array = np.array(ops.convert_to_numpy(tensors[index]))
            array[place] = value
            tensors[index] = ops.convert_to_tensor(array)
        self._state = self._state._replace(**{field: tensors})
        self._host = None

    def set_rates(self, rates: np.ndarray) -> None:
        optimizer = list(self._state.optimizer)
        for place in self.rate_places:
            own = rates[self._lanes].astype("float32")
            optimizer[place] = ops.cast(own, optimizer[place].dtype)
        self._state = self._state._replace(optimizer=optimizer)
        self._host = None

    def drop(self, lanes: Sequence[int]) -> None:
        new = [lane for lane in lanes if lane not in self._dropped]
        for lane in new:
            self.write(lane)
        self._dropped.update(new)
        self._compact()

    def write_back(self) -> None:
        for lane in self._lanes:
            if lane not in self._dropped:
                self.write(int(lane))

    def _norms_of_step(self, norms: Any) -> np.ndarray:
        lanes, own = norms
        own = ops.convert_to_numpy(own)
        shape = (len(self.models), *own.shape[1:])
        rows = np.full(shape, np.nan, "float32")
        rows[lanes] = own
        return rows

    def _compact(self) -> None:
        """Halves the axis of lanes once that many run for nothing.

        A new length is a new program. Between powers of two, dropped lanes
        are carried along, and what becomes of them is ignored.
        """
        self.broken()
        running = [n for n in self._lanes if n not in self._dropped]
        if not running:
            return
        size = 1 << (len(running) - 1).bit_length()
        if 2 * size > len(self._lanes):
            return
        spare = [n for n in self._lanes if n in self._dropped]
        kept = running + spare[: size - len(running)]
        order = {lane: place for place, lane in enumerate(self._lanes)}
        index = np.array([order[lane] for lane in kept])
        take = lambda tensor: ops.take(tensor, index, axis=0)
        self._state = tree.map_structure(take, self._state)
        self._host = None
        self._metrics = [take(v) for v in self._metrics]
        self._numbers = take(self._numbers)
        self._logs = {k: take(v) for k, v in self._logs.items()}
        self._lanes = np.array(kept)
        self._parts = 1

    def _in_parts(
        self, method: Callable, batch: _program.Batch, *rest: Any
    ) -> Any:
        """Runs all lanes, in as few parts as there is memory for."""
        if len(self._lanes) < len(self.models):
            batch = batch.of_lanes(self._lanes)
        while True:
            try:
                result = self._called(method, batch, rest)
                if self._parts != self._sound_parts:
                    # Devices run behind, and so do their errors.
                    _map(ops.convert_to_numpy, result)
                    self._sound_parts = self._parts
                return result
            except Exception as error:
                lanes = len(self._lanes)
                if not _program.is_out_of_memory(error):
                    raise
                if self._parts >= lanes:
                    raise MemoryError(
                        "There is too little memory for a step of a single "
                        "lane. Lower `batch_size`, or take a smaller model"
                    ) from error
                self._parts = min(2 * self._parts, lanes)
                self.notes.append(
                    f"out of memory with {lanes} lanes at once: they run in "
                    f"{self._parts} parts"
                )

    def _called(
        self, method: Callable, batch: _program.Batch, rest: tuple
    ) -> Any:
        if self._parts == 1:
            return method(self._state, self._numbers, batch, *rest)
        results = []
        for places in np.array_split(np.arange(len(self._lanes)), self._parts):
            take = lambda tensor, places=places: ops.take(tensor, places, 0)
            state = tree.map_structure(take, self._state)
            own = batch.of_lanes(places)
            results.append(method(state, take(self._numbers), own, *rest))
        join = lambda *parts: ops.concatenate(parts, axis=0)
        return _map(join, *results)


def _map(function: Callable, *structures: Any) -> Any:
    """`map_structure` that leaves None alone."""
    return tree.map_structure(
        lambda *leaves: None if leaves[0] is None else function(*leaves),
        *structures,
    )


def _tensors(state: Any) -> Any:
    return tree.map_structure(ops.convert_to_tensor, state)


def have_common_seeds(models: Sequence[Any]) -> bool:
    """Whether all models draw the same noise, as far as they are alike."""
    found: dict[int, tuple] = {}
    for model in models:
        seeds = tuple(
            tuple(ops.convert_to_numpy(variable).tolist())
            for variable in model.non_trainable_variables
            if _program.is_seed(variable)
        )
        if found.setdefault(len(seeds), seeds) != seeds:
            return False
    return True


def common_seeds(models: Sequence[Any]) -> tuple[bool, ...]:
    """For each non-trainable variable: is it a seed that all lanes share?"""
    shared = []
    for variables in zip(
        *(model.non_trainable_variables for model in models), strict=True
    ):
        first = ops.convert_to_numpy(variables[0])
        shared.append(
            _program.is_seed(variables[0])
            and all(
                np.array_equal(ops.convert_to_numpy(v), first)
                for v in variables[1:]
            )
        )
    return tuple(shared)


def seconds_a_step(
    engine: Engine, batch: _program.Batch, repeats: int = 3
) -> tuple[float, float]:
    """Times training steps.

    Args:
        engine: Its state is changed.
        batch: What it trains on.
        repeats: How many steps to time at most; fewer if they are slow.

    Returns:
        The seconds of a step, and those that the first one took more, which
        compiles.
    """
    times: list[float] = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        engine.train(batch, repeat)
        engine.broken()  # Waits for the device.
        times.append(time.perf_counter() - start)
        if sum(times[1:]) > _ENOUGH_SECONDS:
            break
    return min(times[1:]), times[0] - min(times[1:])


def backend_program() -> Any:
    """Returns the `Program` class of the running backend."""
    if _compat.backend() == "tensorflow":
        from kerascomp.population import _tensorflow as module
    elif _compat.backend() == "jax":
        from kerascomp.population import _jax as module  # type: ignore
    else:
        from kerascomp.population import _torch as module  # type: ignore
    return module.Program
