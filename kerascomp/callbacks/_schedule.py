"""Callbacks that set the learning rate at every step."""

from typing import Any

import numpy as np

from kerascomp import _compat, schedules
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _lengths, _rates
from kerascomp.schedules import _rates as _values

_Schedule = keras.optimizers.schedules.LearningRateSchedule


@component(since="0.1")
class ScheduleLearningRate(keras.callbacks.Callback):
    """Lets any schedule follow the epochs and updates of `fit`.

    The schedule's lengths are read from `fit`: give a class of
    `kerascomp.schedules` or `keras.optimizers.schedules` with its arguments,
    and each of them that ends in `_steps` may be given in epochs, as
    `warmup_epochs`, or as a share of the total, as `warmup_fraction`. A class
    that has `total_steps` gets the length of the run.

    The learning rate is set before every step; each epoch's last value is
    added to the logs as `learning_rate`. The position follows from the epoch
    and step within `fit` alone, so a run continued with `initial_epoch`, from
    the same model or from a loaded one, goes on exactly where it stopped.
    Under `gradient_accumulation_steps` it counts updates, not micro-steps.
    Wrapped optimizers are steered inside `LossScaleOptimizer`, and all of them
    inside `MultiOptimizer`. With `steps_per_execution` the rate changes once
    an execution, to that of its first step.

    Args:
        schedule: A class of schedules; a function, such as one of
            `total_steps`, that returns a schedule; or a schedule, whose
            lengths are then updates as they are.
        **arguments: Of the class or function, by name. In place of one that
            ends in `_steps`: `..._epochs`, at least 0, fractions of epochs
            are rounded to updates; or `..._fraction`, in [0, 1], of the
            total. `total_steps` is the `epochs` of `fit`, unless it or
            `total_epochs` is given.

    Saved state:
        None. After training, the learning rate is what it was before.

    Raises:
        TypeError: At construction, if an argument is missing.
        ValueError: At construction, if an argument is unknown or out of its
            range; at the start of `fit`, if its learning rate is itself a
            schedule, if the lengths do not fit the run, or if `fit` does not
            know its number of steps.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> rates = ScheduleLearningRate(
        ...     schedules.WarmupStableDecay,
        ...     peak=0.4,
        ...     warmup_epochs=1,
        ...     decay_fraction=0.25,
        ...     decay="linear",
        ... )
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> history = model.fit(
        ...     x, y, batch_size=2, epochs=4, callbacks=[rates], verbose=0
        ... )
        >>> # Of 16 steps, 4 warm up and 4 decay: epochs end with 3, 7, 11, 15.
        >>> [round(rate, 3) for rate in history.history["learning_rate"]]
        [0.3, 0.4, 0.4, 0.1]
    """

    # Keras runs the batch hooks of all callbacks in step with the training
    # unless every one says that it does not mind.
    async_safe = True

    def __init__(self, schedule: Any, **arguments: Any):
        super().__init__()
        is_schedule = isinstance(schedule, _Schedule)
        if not callable(schedule) or (is_schedule and arguments):
            raise ValueError(
                "`schedule` must be a class or a function with its arguments, "
                "or a schedule without. Received: "
                f"schedule={schedule!r}, {arguments}"
            )
        self.schedule = schedule
        self.arguments = arguments
        self._recipe = _lengths.Recipe(
            (lambda: schedule) if is_schedule else schedule, arguments
        )
        self._found: list[tuple[Any, float]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        name = type(self).__name__
        self._state = _compat.OptimizerState(self._model)
        self._variables = _rates.variables_of(self._model, name)
        self._micro_steps = _rates.micro_steps_of(self._model, name)
        self._resolved = self._resolve()
        self._next_step = 0
        # A fit that was interrupted never gave the rates back: keep its notes.
        noted = {id(variable) for variable, _ in self._found}
        self._found += [
            (variable, float(keras.ops.convert_to_numpy(variable)))
            for variable in self._variables
            if id(variable) not in noted
        ]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        steps = self.params["steps"]
        if steps is None and self._next_step == 0 and epoch > 0:
            raise ValueError(
                f"{type(self).__name__} cannot resume without the number of "
                "steps in an epoch. Pass `steps_per_epoch` to fit. "
                f"Received: initial_epoch={epoch}"
            )
        self._first_step = self._next_step if steps is None else epoch * steps
        # One call an epoch, where one a step would cost more than the step.
        self._rates = (
            None
            if steps is None
            else self._rates_of(self._first_step + np.arange(steps))
        )

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        self._rate = (
            self._rate_of(self._first_step + batch)
            if self._rates is None
            else float(self._rates[batch])
        )
        self._state.assign(self._variables, self._rate)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # Where an iterator tells no length, `fit` begins a step too many. This
        # may run late and out of order, see `async_safe`.
        self._next_step = max(self._next_step, self._first_step + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._rates is None:
            self._rate = self._rate_of(self._next_step - 1)
        if logs is not None:
            logs["learning_rate"] = self._rate

    def on_train_end(self, logs: dict | None = None) -> None:
        self._state.close()
        for variable, value in self._found:
            variable.assign(value)
        self._found = []

    def _rates_of(self, steps: np.ndarray) -> np.ndarray:
        return _values.values(self._resolved, steps // self._micro_steps)

    def _rate_of(self, step: int) -> float:
        return float(self._rates_of(np.array([step]))[0])

    def _resolve(self) -> Any:
        """The schedule of this fit, its lengths in updates."""
        epochs, steps = self.params["epochs"], self.params["steps"]
        arguments = self._recipe.arguments(epochs, self._updates)
        try:
            return self._recipe.make(**arguments)
        except ValueError as error:
            run = "" if steps is None else f" of {steps} steps"
            raise ValueError(
                f"{error} (in updates; this fit has {epochs} epochs{run})"
            ) from error

    def _updates(self, epochs: float, instead: str) -> float:
        steps = self.params["steps"]
        if steps is None:
            name = type(self).__name__
            raise ValueError(
                f"{name} needs the number of steps in an epoch, which this "
                "data does not tell. Pass `steps_per_epoch` to fit, or "
                f"`{instead}` to {name}."
            )
        return epochs * steps / self._micro_steps


@component(since="0.1")
class WarmupCosine(ScheduleLearningRate):
    """Warms the learning rate up, then lowers it along a cosine.

    The schedule `kerascomp.schedules.WarmupCosine` without counting steps:
    `ScheduleLearningRate(kc.schedules.WarmupCosine, peak=...)` by a shorter
    name.

    Args:
        peak: Learning rate at the end of the warmup, above 0.
        **arguments: The others of `kerascomp.schedules.WarmupCosine`. The
            warmup is given as `warmup_epochs`, `warmup_steps` (in updates) or
            `warmup_fraction` (of the total); the length, warmup and all cycles
            included, as `total_epochs` or `total_steps`. Without, there is no
            warmup, and the length is the `epochs` of `fit`. Beyond it the
            rate stays at `floor`.

    Saved state:
        As in `ScheduleLearningRate`.

    Raises:
        ValueError: As in `ScheduleLearningRate`; and at the start of `fit`, if
            the warmup is as long as the run.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> warmup = WarmupCosine(peak=0.4, warmup_epochs=1)
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> history = model.fit(
        ...     x, y, batch_size=2, epochs=3, callbacks=[warmup], verbose=0
        ... )
        >>> # Of 12 steps, 4 warm up: epochs end with steps 3, 7 and 11.
        >>> [round(rate, 3) for rate in history.history["learning_rate"]]
        [0.3, 0.277, 0.015]

    Reference:
        As in `kerascomp.schedules.WarmupCosine`.
    """

    def __init__(self, peak: float, **arguments: Any):
        super().__init__(schedules.WarmupCosine, peak=peak, **arguments)
        self.peak = peak
