"""Engines: how the lanes of a group are advanced by a step."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.population import _lifting, _program

ops = keras.ops
tree = keras.tree


class Engine:
    """Advances all lanes of a group together.

    Args:
        models: The members, built and of one structure.
        lifting: The numbers that differ between them.
    """

    kind = ""

    def __init__(self, models: Sequence[Any], lifting: _lifting.Lifting):
        self.models = list(models)
        self.lifting = lifting

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
            for pick in _STATE
        ]
        metrics = [
            np.stack([ops.convert_to_numpy(v)] * lanes)
            for v in first.metrics_variables
        ]
        broken = np.full(lanes, _program.NOT_BROKEN, "int32")
        return _program.State._make([*groups, metrics, broken])

    def _write(self, lane: int, values: _program.State) -> None:
        """Gives a lane's model its state, as `fit` leaves it behind."""
        model = self.models[lane]
        for pick, arrays in zip(_STATE, values[:3], strict=True):
            for variable, array in zip(pick(model), arrays, strict=True):
                variable.assign(array)


_STATE: tuple[Callable, ...] = (
    lambda model: model.trainable_variables,
    lambda model: model.non_trainable_variables,
    lambda model: model.optimizer.variables,
)


class VectorizedEngine(StateEngine):
    """All lanes in one program, along a leading axis."""

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

    def train(self, batch: _program.Batch, step: int) -> None:
        self._logs, self._state = self._program.train(
            self._state, self._numbers, self._of_lanes(batch), step
        )

    def test(self, batch: _program.Batch) -> None:
        self._logs, self._state = self._program.test(
            self._state, self._numbers, self._of_lanes(batch)
        )

    def predict(self, batch: _program.Batch) -> Any:
        outputs = self._program.predict(self._state, self._numbers, batch)
        return tree.map_structure(ops.convert_to_numpy, outputs)

    def reset_metrics(self) -> None:
        self._state = self._state._replace(metrics=self._metrics)

    def logs(self) -> list[dict[str, float]]:
        arrays = {k: ops.convert_to_numpy(v) for k, v in self._logs.items()}
        rows: list[dict[str, float]] = [{} for _ in self.models]
        for place, lane in enumerate(self._lanes):
            rows[lane] = {k: float(v[place]) for k, v in arrays.items()}
        return rows

    def broken(self) -> np.ndarray:
        self._broken[self._lanes] = ops.convert_to_numpy(self._state.broken)
        return self._broken.copy()

    def drop(self, lanes: Sequence[int]) -> None:
        new = [lane for lane in lanes if lane not in self._dropped]
        self._write_lanes(new)
        self._dropped.update(new)
        self._compact()

    def write_back(self) -> None:
        kept = [n for n in self._lanes if n not in self._dropped]
        self._write_lanes([int(lane) for lane in kept])

    def _write_lanes(self, lanes: Sequence[int]) -> None:
        if not len(lanes):
            return
        state = tree.map_structure(ops.convert_to_numpy, self._state)
        places = {int(lane): n for n, lane in enumerate(self._lanes)}
        for lane in lanes:
            take = lambda array, place=places[lane]: array[place]
            self._write(lane, tree.map_structure(take, state))

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
        self._metrics = [take(v) for v in self._metrics]
        self._numbers = take(self._numbers)
        self._logs = {k: take(v) for k, v in self._logs.items()}
        self._lanes = np.array(kept)

    def _of_lanes(self, batch: _program.Batch) -> _program.Batch:
        if not batch.by_lane or len(self._lanes) == len(self.models):
            return batch
        weight = batch.weight[self._lanes]
        return _program.Batch(batch.x, batch.y, weight, by_lane=True)


def _tensors(state: Any) -> Any:
    return tree.map_structure(ops.convert_to_tensor, state)


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
) -> float:
    """Times a training step, compilation left out."""
    times = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        engine.train(batch, repeat)
        engine.broken()  # Waits for the device.
        times.append(time.perf_counter() - start)
    return min(times[1:])


def backend_program() -> Any:
    """Returns the `Program` class of the running backend."""
    if _compat.backend() == "tensorflow":
        from kerascomp.population import _tensorflow as module
    elif _compat.backend() == "jax":
        from kerascomp.population import _jax as module  # type: ignore
    else:
        from kerascomp.population import _torch as module  # type: ignore
    return module.Program
