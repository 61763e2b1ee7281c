"""The learning rates that `fit` has used."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _probe, _record
from kerascomp.schedules import _rates as _values


@component(since="0.1")
class LearningRateLogger(_record.Recorder):
    """Records the learning rate of every step, whoever decides on it.

    A number, a schedule in the optimizer, or a callback such as
    `ScheduleLearningRate` or `keras.callbacks.ReduceLROnPlateau`; of each
    optimizer of a `MultiOptimizer`, and inside `LossScaleOptimizer`. Each
    epoch's logs get the last rate as `learning_rate`, or, of several
    optimizers, as `learning_rate_` and the optimizer's name.

    The rate of a step is the one that its update was made with, whatever other
    callbacks do before it or after. With `steps_per_execution`, all steps of
    an execution are recorded.

    Args:
        every: Record every how many steps, at least 1.
        log_dir: Folder for TensorBoard: each rate as a scalar at each recorded
            step. None writes nothing. Needs the package `tensorboard`.

    Attributes:
        history: The record of the current or last `fit`: `history["step"]`,
            which steps were recorded, counted from 0, and
            `history["learning_rate"]`, an array, or, of several optimizers, a
            dictionary from their names to arrays.

    Saved state:
        None. The model and its optimizer are left alone.

    Raises:
        ValueError: If `every` is out of its range.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> halved = keras.optimizers.schedules.ExponentialDecay(0.4, 1, 0.5)
        >>> model.compile(keras.optimizers.SGD(halved), "mse")
        >>> logger = LearningRateLogger()
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> log = model.fit(x, y, batch_size=2, callbacks=[logger], verbose=0)
        >>> [round(float(r), 3) for r in logger.history["learning_rate"]]
        [0.4, 0.2, 0.1, 0.05]
        >>> [round(rate, 3) for rate in log.history["learning_rate"]]
        [0.05]
    """

    plotted = quantity = "learning_rate"
    log_scale = False
    async_safe = True  # Keras: hooks after a batch may run beside the next.

    def __init__(
        self, every: int = 1, log_dir: str | os.PathLike | None = None
    ):
        super().__init__(log_dir)
        _validation.at_least("every", every, 1)
        self.every = every
        self._start_record()

    def _start_record(self) -> None:
        self._seen = 0  # How many steps are over,
        self._epoch_start = 0  # and how many were when the epoch began.
        self._due: int | None = None  # The first step of an execution to come.
        self._steps: list[int] = []
        # Executions whose rates wait on the device: their first steps.
        self._waiting: list[int] = []
        self._sources: dict[str, _Source] = {}
        self._before: _compat.BeforeExecution | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin()
        self._close()
        self._start_record()
        optimizers = _compat.optimizers_of(self._model.optimizer)
        for name, optimizer in zip(_names(optimizers), optimizers, strict=True):
            self._sources[name] = _Source(optimizer)
        self._before = _compat.BeforeExecution(
            self._model, self._note, writes=False
        )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch_start = self._seen

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        if self._before is not None:
            self._due = self._epoch_start + batch
            self._before.ensure()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # Where an iterator tells no length, `fit` begins a step too many. This
        # may run late and out of order, see `async_safe`.
        self._seen = max(self._seen, self._epoch_start + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._settle()
        if logs is not None and self._steps:
            several = len(self._sources) > 1
            for name, source in self._sources.items():
                key = f"{_KEY}_{name}" if several else _KEY
                logs[key] = float(source.rates()[-1])
        super().on_epoch_end(epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._close()
        super().on_train_end(logs)

    @property
    def history(self) -> dict[str, Any]:
        """The record, as the class describes it."""
        self._settle()
        steps = np.array(self._steps, "int64")
        due = steps % self.every == 0
        rates: Any = {
            name: source.rates()[due] for name, source in self._sources.items()
        }
        if len(rates) < 2:
            (rates,) = rates.values() or [np.zeros(0, "float32")]
        return {"step": steps[due], _KEY: rates}

    def _note(self, *arguments: Any) -> tuple:
        """Copies what the rates of an execution depend on, right before it."""
        # After an interrupted `fit`, another one may still come through here.
        if self._due is not None:
            sources = list(self._sources.values())
            variables = [source.variable for source in sources]
            values = _compat.carried_values(self._model, variables, arguments)
            for source, value in zip(sources, values, strict=True):
                source.waiting.append(value)
            self._waiting.append(self._due)
            self._due = None
            if len(self._waiting) > _probe.BATCH:
                self._settle()
        return arguments

    def _settle(self) -> None:
        """Fetches the rates of all executions that are over."""
        # The last one may be running, or may have found no batch.
        over = sum(first < self._seen for first in self._waiting)
        lengths = np.diff([*self._waiting, self._seen])[:over]
        for first, length in zip(self._waiting, lengths, strict=False):
            self._steps += range(first, first + length)
        del self._waiting[:over]
        for source in self._sources.values():
            source.settle(lengths.tolist())

    def _close(self) -> None:
        if self._before is not None:
            self._before.close()
            self._before = None


class _Source:
    """Where the rates of one optimizer come from, and those that came."""

    def __init__(self, optimizer: Any):
        self._schedule = _compat.schedule_of(optimizer)
        self.variable = (
            _compat.learning_rate_variable(optimizer)
            if self._schedule is None
            else _compat.step_counter(optimizer)
        )
        self._rates = np.zeros(0, "float32")
        self._new: list[float] = []  # Rates, or the steps of the schedule.
        self.waiting: list = []  # The same, of executions, on the device.

    def settle(self, lengths: Sequence[int]) -> None:
        """Takes the values of the first executions that wait.

        Args:
            lengths: Their numbers of steps.
        """
        for length in lengths:
            value = float(keras.ops.convert_to_numpy(self.waiting.pop(0)))
            counts = 0 if self._schedule is None else np.arange(length)
            self._new += (np.full(length, value) + counts).tolist()

    def rates(self) -> np.ndarray:
        """Returns all rates, `(steps,)`."""
        if self._new:
            new = np.array(self._new, "float32")
            if self._schedule is not None:
                new = _values.values(self._schedule, self._new)
            self._rates = np.concatenate([self._rates, new])
            self._new = []
        return self._rates


_KEY = "learning_rate"


def _names(optimizers: list) -> list[str]:
    """Returns the names of optimizers, told apart by numbers."""
    names = [optimizer.name for optimizer in optimizers]
    return [
        f"{name}_{names[:place].count(name) + 1}"
        if names[:place].count(name)
        else name
        for place, name in enumerate(names)
    ]
