"""What the monitors share that measure a probe batch at the end of epochs."""

import os
import time
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp.callbacks import _capture, _record

# Of the time of training, what measuring takes at most if not told how often.
_SHARE = 0.1


class EpochMonitor(_record.Recorder):
    """A monitor that measures a fixed batch every few epochs.

    A subclass says what it measures: `_start` prepares, before training, and
    `_measure` returns a row of the record.

    Args:
        probe_data: As in `_capture.probe`.
        every: Measure every how many epochs, at least 1. None for the first,
            and then as often as it takes a tenth of the time at most.
        log_dir: As in `_record.Recorder`.
    """

    supervised = True  # Whether the probe holds targets.
    logged: tuple[str, ...] = ()  # The series that go into the logs.

    def __init__(
        self,
        probe_data: Any,
        every: int | None,
        log_dir: str | os.PathLike | None,
    ):
        super().__init__(log_dir)
        if every is not None:
            _validation.at_least("every", every, 1)
        self._batch = _capture.probe("probe_data", probe_data, self.supervised)
        self.probe_data = probe_data
        self.every = every
        self._epochs: list[int] = []
        self._rows: list[dict[str, Any]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        self._epochs, self._rows = [], []
        model = self.model
        x = self._first_inputs()
        self._pure = _capture.prepare("probe_data", model, x)
        self._start(model)
        self._began, self._spent, self._last = time.perf_counter(), 0.0, 0.0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row: dict[str, Any] = {}
        if self._is_due(epoch):
            start = time.perf_counter()
            # It writes the state of JAX back into the weights.
            row = self._measure(self.model)
            self._last = time.perf_counter() - start
            self._spent += self._last
            self._epochs.append(epoch)
            self._rows.append(row)
        if logs is not None and self._rows:
            for name in self.logged:
                if name in self._rows[-1]:
                    logs[name] = float(row.get(name, np.nan))
        super().on_epoch_end(epoch, logs)

    @property
    def history(self) -> dict[str, Any]:
        """The record, as the class describes it."""
        record: dict[str, Any] = {"epoch": np.array(self._epochs, "int64")}
        for name, first in (self._rows[0] if self._rows else {}).items():
            found = [row[name] for row in self._rows]
            if isinstance(first, dict):
                record[name] = {
                    path: np.array([f.get(path, np.nan) for f in found])
                    for path in first
                }
            else:
                record[name] = np.array(found)
        return record

    def _is_due(self, epoch: int) -> bool:
        if self.every is not None:
            return epoch % self.every == 0
        trained = time.perf_counter() - self._began - self._spent
        return not self._rows or self._spent + self._last <= _SHARE * trained

    def _first_inputs(self) -> Any:
        """Returns the inputs of the first pass."""
        return self._batch.x

    def _start(self, model: Any) -> None:
        """Prepares to measure a model, or raises if that is impossible."""
        raise NotImplementedError

    def _measure(self, model: Any) -> dict[str, Any]:
        """Returns numbers, or dictionaries from paths to numbers."""
        raise NotImplementedError
