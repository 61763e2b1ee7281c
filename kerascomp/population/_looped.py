"""Engines that advance one lane after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.population import _engine, _lifting, _program

ops = keras.ops
tree = keras.tree


class LoopedEngine(_engine.StateEngine):
    """One compiled step, called with the state of each lane in turn."""

    kind = "looped"

    def __init__(
        self,
        models: Sequence[Any],
        lifting: _lifting.Lifting,
        program: _program.Program,
    ):
        super().__init__(models, lifting, program)
        stacked = self._initial_state()
        self._states: list[_program.State] = [
            tree.map_structure(
                lambda v, lane=lane: ops.convert_to_tensor(v[lane]), stacked
            )
            for lane in range(len(self.models))
        ]
        self._metrics = self._states[0].metrics
        self._numbers = [ops.convert_to_tensor(v) for v in lifting.values]
        self._running = list(range(len(self.models)))
        self._logs: list[dict] = [{} for _ in self.models]

    def train(self, batch: _program.Batch, step: int) -> None:
        norms = {}
        for lane in self._running:
            self._logs[lane], norms[lane], self._states[lane] = (
                self._program.train(
                    self._states[lane],
                    self._numbers[lane],
                    batch.of_lane(lane),
                    step,
                )
            )
        norms = {lane: own for lane, own in norms.items() if own is not None}
        if norms:
            self._norms.append(norms)

    def test(self, batch: _program.Batch) -> None:
        for lane in self._running:
            self._logs[lane], self._states[lane] = self._program.test(
                self._states[lane], self._numbers[lane], batch.of_lane(lane)
            )

    def predict(self, batch: _program.Batch) -> Any:
        outputs = [
            self._program.predict(state, numbers, batch)
            for state, numbers in zip(self._states, self._numbers, strict=True)
        ]
        return _stacked(outputs)

    def reset_metrics(self) -> None:
        self._states = [
            state._replace(metrics=self._metrics) for state in self._states
        ]

    def logs(self) -> list[dict[str, float]]:
        return [_floats(logs) for logs in self._logs]

    def broken(self) -> np.ndarray:
        return np.array(
            [int(ops.convert_to_numpy(state.broken)) for state in self._states]
        )

    def values(self, lane: int) -> _program.State:
        return tree.map_structure(ops.convert_to_numpy, self._states[lane])

    def assign(self, lane: int, field: str, new: Mapping[int, Any]) -> None:
        tensors = list(getattr(self._states[lane], field))
        for index, value in new.items():
            like = tensors[index].dtype
            tensors[index] = ops.convert_to_tensor(value, like)
        state = self._states[lane]._replace(**{field: tensors})
        self._states[lane] = state

    def set_rates(self, rates: np.ndarray) -> None:
        for lane in self._running:
            new = dict.fromkeys(self.rate_places, rates[lane])
            self.assign(lane, "optimizer", new)

    def drop(self, lanes: Sequence[int]) -> None:
        for lane in lanes:
            self.write(lane)
            self._running.remove(lane)

    def write_back(self) -> None:
        for lane in self._running:
            self.write(lane)

    def _norms_of_step(self, norms: Any) -> np.ndarray:
        found = {n: ops.convert_to_numpy(own) for n, own in norms.items()}
        shape = (len(self.models), *next(iter(found.values())).shape)
        rows = np.full(shape, np.nan, "float32")
        for lane, own in found.items():
            rows[lane] = own
        return rows


class OwnStepsEngine(_engine.Engine):
    """Every member runs its own compiled steps.

    For what no common step can do: members that override `train_step` on
    TensorFlow, and torch. A lane that diverges goes back to where it was when
    the epoch began.
    """

    kind = "looped"

    def __init__(self, models: Sequence[Any], lifting: _lifting.Lifting):
        super().__init__(models, lifting)
        self._running = list(range(len(self.models)))
        self._broken = np.full(len(self.models), _program.NOT_BROKEN)
        self._logs: list[dict] = [{} for _ in self.models]
        self._sound: list = [None for _ in self.models]
        self._next_step = 0

    def train(self, batch: _program.Batch, step: int) -> None:
        for lane in self._running:
            if self._broken[lane] == _program.NOT_BROKEN:
                self._step(lane, "train_on_batch", batch)
                self._next_step = step + 1
                if not np.isfinite(self._logs[lane].get("loss", 0.0)):
                    self._freeze(lane, step)

    def test(self, batch: _program.Batch) -> None:
        for lane in self._running:
            self._step(lane, "test_on_batch", batch)

    def _step(self, lane: int, method: str, batch: _program.Batch) -> None:
        model, data = self.models[lane], batch.of_lane(lane)
        # It would start the metrics anew at every batch.
        keep = {"reset_metrics": lambda: None}
        with _compat.replaced(vars(model), keep):
            self._logs[lane] = getattr(model, method)(
                data.x, data.y, data.weight, return_dict=True
            )

    def predict(self, batch: _program.Batch) -> Any:
        return _stacked([m.predict_on_batch(batch.x) for m in self.models])

    def reset_metrics(self) -> None:
        for lane, model in enumerate(self.models):
            model.reset_metrics()
            if self._broken[lane] == _program.NOT_BROKEN:
                self._sound[lane] = _engine.values_of(model)

    def logs(self) -> list[dict[str, float]]:
        return [_floats(logs) for logs in self._logs]

    def broken(self) -> np.ndarray:
        for lane in self._running:
            if self._broken[lane] == _program.NOT_BROKEN:
                model = self.models[lane]
                weights = map(ops.convert_to_numpy, model.trainable_variables)
                if not all(np.isfinite(own).all() for own in weights):
                    self._freeze(lane, self._next_step)
        return self._broken.copy()

    def _freeze(self, lane: int, step: int) -> None:
        self._broken[lane] = step
        if self._sound[lane] is not None:
            _engine.assign_values(self.models[lane], self._sound[lane])

    def drop(self, lanes: Sequence[int]) -> None:
        for lane in lanes:
            self._running.remove(lane)

    def write_back(self) -> None:
        pass


def _floats(logs: dict) -> dict[str, float]:
    return {k: float(ops.convert_to_numpy(v)) for k, v in logs.items()}


def _stacked(outputs: list) -> Any:
    """Stacks the outputs of the lanes, which may be nested."""
    return tree.map_structure(
        lambda *lanes: np.stack([ops.convert_to_numpy(v) for v in lanes]),
        *outputs,
    )
