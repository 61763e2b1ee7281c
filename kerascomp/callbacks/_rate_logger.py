"""The learning rates that `fit` has used."""

import os
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._registry import component
from kerascomp.callbacks import _record
from kerascomp.schedules import _rates as _values


@component(since="0.1")
class LearningRateLogger(_record.Recorder):
    """Records the learning rate of every step, whoever decides on it.

    A number, a schedule in the optimizer, or a callback such as
    `ScheduleLearningRate` or `keras.callbacks.ReduceLROnPlateau`; of each
    optimizer of a `MultiOptimizer`, and inside `LossScaleOptimizer`. Each
    epoch's logs get the last rate as `learning_rate`, or, of several
    optimizers, as `learning_rate_` and the optimizer's name.

    The rate of a step is the one that its update was made with. It is read
    after the step, which then has to be finished: on an accelerator raise
    `every` if steps are short. With `steps_per_execution`, all steps of an
    execution are recorded.

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

    def __init__(
        self, every: int = 1, log_dir: str | os.PathLike | None = None
    ):
        super().__init__(log_dir)
        _validation.at_least("every", every, 1)
        self.every = every
        self._start_record()

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin()
        self._start_record()
        optimizers = _compat.optimizers_of(self._model.optimizer)
        for name, optimizer in zip(_names(optimizers), optimizers, strict=True):
            self._sources[name] = _Source(optimizer)

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        self._first = batch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        steps = np.arange(self._seen, self._seen + batch - self._first + 1)
        self._seen += len(steps)
        kept = steps[steps % self.every == 0]
        if len(kept):
            self._steps += kept.tolist()
            self._read(kept)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        last = self._seen - 1
        if logs is not None and last >= 0:
            if self._steps[-1:] != [last]:
                self._read(np.array([last]))
            several = len(self._sources) > 1
            for name, source in self._sources.items():
                key = f"{_KEY}_{name}" if several else _KEY
                logs[key] = float(source.rates()[-1])
            if self._steps[-1:] != [last]:
                self._forget_last()
        super().on_epoch_end(epoch)

    @property
    def history(self) -> dict[str, Any]:
        """The record, as the class describes it."""
        rates: Any = {n: source.rates() for n, source in self._sources.items()}
        if len(rates) < 2:
            (rates,) = rates.values() or [np.zeros(0, "float32")]
        return {"step": np.array(self._steps, "int64"), _KEY: rates}

    def _start_record(self) -> None:
        self._seen = 0
        self._first = 0
        self._steps: list[int] = []
        self._sources: dict[str, _Source] = {}

    def _read(self, steps: np.ndarray) -> None:
        """Notes the rates of steps, not before the last execution."""
        sources = self._sources.values()
        values = _compat.optimizer_values(
            self._model, [source.variable for source in sources]
        )
        for source, value in zip(sources, values, strict=True):
            source.note(value, self._seen - steps)

    def _forget_last(self) -> None:
        for source in self._sources.values():
            source.forget_last()


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

    def note(self, value: float, ago: np.ndarray) -> None:
        """Adds the rates of steps that began so many steps ago."""
        if self._schedule is None:
            self._new += [value] * len(ago)
        else:
            self._new += np.maximum(value - ago, 0).tolist()

    def rates(self) -> np.ndarray:
        """Returns all rates, `(steps,)`."""
        if self._new:
            new = np.array(self._new, "float32")
            if self._schedule is not None:
                new = _values.values(self._schedule, self._new)
            self._rates = np.concatenate([self._rates, new])
            self._new = []
        return self._rates

    def forget_last(self) -> None:
        """Takes the last rate back."""
        self._rates = self.rates()[:-1]


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
