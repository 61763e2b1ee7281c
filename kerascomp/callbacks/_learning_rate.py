"""Callbacks that set the learning rate at every step."""

from typing import Any

import numpy as np

from kerascomp import _compat, _validation, schedules
from kerascomp._compat import keras
from kerascomp._registry import component


@component(since="0.1")
class WarmupCosine(keras.callbacks.Callback):
    """Warms the learning rate up, then lowers it along a cosine.

    The schedule `kerascomp.schedules.WarmupCosine` without counting steps: the
    callback reads the number of steps in an epoch and of epochs from `fit`.
    The learning rate is set before every step; each epoch's last value is
    added to the logs as `learning_rate`.

    The position follows from the epoch and step within `fit` alone, so a run
    continued with `initial_epoch`, from the same model or from a loaded one,
    goes on exactly where it stopped. Under `gradient_accumulation_steps` it
    counts updates, not micro-steps. Wrapped optimizers are steered inside
    `LossScaleOptimizer`, and all of them inside `MultiOptimizer`. With
    `steps_per_execution` the rate changes once an execution, to that of its
    first step.

    Args:
        peak: Learning rate at the end of the warmup, above 0.
        warmup_epochs: Length of the warmup in epochs, at least 0; fractions
            are rounded to steps.
        warmup_steps: Length of the warmup in updates, instead of
            `warmup_epochs`. Neither means no warmup.
        total_epochs: Length in epochs, warmup and all cycles included. If
            `fit` runs on, the rate stays at `floor`.
        total_steps: Length in updates, instead of `total_epochs`. Neither
            means the `epochs` of `fit`.
        floor: As in `kerascomp.schedules.WarmupCosine`.
        start: As in `kerascomp.schedules.WarmupCosine`.
        cycles: As in `kerascomp.schedules.WarmupCosine`.
        cycle_multiplier: As in `kerascomp.schedules.WarmupCosine`.
        cycle_decay: As in `kerascomp.schedules.WarmupCosine`.

    Saved state:
        None. After training, the learning rate is what it was before.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if its learning rate is itself a schedule, if the
            warmup is as long as the run, or if `fit` does not know its number
            of steps.

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

    # Keras runs the batch hooks of all callbacks in step with the training
    # unless every one says that it does not mind.
    async_safe = True

    def __init__(
        self,
        peak: float,
        warmup_epochs: float | None = None,
        warmup_steps: int | None = None,
        total_epochs: float | None = None,
        total_steps: int | None = None,
        floor: float = 0.0,
        start: float = 0.0,
        cycles: int = 1,
        cycle_multiplier: float = 1.0,
        cycle_decay: float = 1.0,
    ):
        super().__init__()
        _validation.at_most_one(
            warmup_epochs=warmup_epochs, warmup_steps=warmup_steps
        )
        _validation.at_most_one(
            total_epochs=total_epochs, total_steps=total_steps
        )
        if warmup_epochs is not None:
            _validation.in_interval("warmup_epochs", warmup_epochs, "[0, inf)")
        if total_epochs is not None:
            _validation.in_interval("total_epochs", total_epochs, "(0, inf)")
        self.peak = peak
        self.warmup_epochs = warmup_epochs
        self.warmup_steps = warmup_steps
        self.total_epochs = total_epochs
        self.total_steps = total_steps
        self.floor = floor
        self.start = start
        self.cycles = cycles
        self.cycle_multiplier = cycle_multiplier
        self.cycle_decay = cycle_decay
        # The schedule checks the rest, here rather than when training starts.
        self._schedule(
            10**9 if total_steps is None else total_steps, warmup_steps or 0
        )
        self._found: list[tuple[Any, float]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._state = _compat.OptimizerState(self._model)
        self._variables = self._learning_rate_variables()
        self._micro_steps = self._accumulation_steps()
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
                "WarmupCosine cannot resume without the number of steps in an "
                "epoch. Pass `steps_per_epoch` to fit. "
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
        step = self._first_step + batch
        rates = (
            self._rates_of(step) if self._rates is None else self._rates[batch]
        )
        self._rate = float(rates)
        self._state.assign(self._variables, self._rate)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # Where an iterator tells no length, `fit` begins a step too many. This
        # may run late and out of order, see `async_safe`.
        self._next_step = max(self._next_step, self._first_step + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._rates is None:
            self._rate = float(self._rates_of(self._next_step - 1))
        if logs is not None:
            logs["learning_rate"] = self._rate

    def on_train_end(self, logs: dict | None = None) -> None:
        self._state.close()
        for variable, value in self._found:
            variable.assign(value)
        self._found = []

    def _rates_of(self, steps: Any) -> Any:
        updates = np.asarray(steps) // self._micro_steps
        return keras.ops.convert_to_numpy(self._resolved(updates))

    def _learning_rate_variables(self) -> list:
        optimizers = _compat.optimizers_of(self._model.optimizer)
        variables = [_compat.learning_rate_variable(o) for o in optimizers]
        for optimizer, variable in zip(optimizers, variables, strict=True):
            if variable is None:
                raise ValueError(
                    "WarmupCosine sets the learning rate, but the optimizer "
                    "has a schedule of its own. Compile with a number, for "
                    "example `Adam(learning_rate=1e-3)`. Received: "
                    f"optimizer={optimizer.name!r}"
                )
        return variables

    def _accumulation_steps(self) -> int:
        optimizers = _compat.optimizers_of(self._model.optimizer)
        counts = {o.gradient_accumulation_steps or 1 for o in optimizers}
        if len(counts) > 1:
            raise ValueError(
                "WarmupCosine counts updates, of which the optimizers of a "
                "MultiOptimizer make different numbers. Give all of them the "
                "same `gradient_accumulation_steps`. Received: "
                f"gradient_accumulation_steps={sorted(counts)}"
            )
        return counts.pop()

    def _resolve(self) -> schedules.WarmupCosine:
        """The schedule of this fit, its lengths in updates."""
        total = self.total_steps
        if total is None:
            epochs = self.total_epochs or self.params["epochs"]
            total = max(round(self._updates(epochs, "total_steps")), 1)
        warmup = self.warmup_steps or 0
        if self.warmup_epochs:
            warmup = round(self._updates(self.warmup_epochs, "warmup_steps"))
        if warmup >= total:
            raise ValueError(
                "The warmup must be shorter than the run. Received: "
                f"{warmup} updates of warmup, {total} updates in all"
            )
        return self._schedule(total, warmup)

    def _updates(self, epochs: float, instead: str) -> float:
        steps = self.params["steps"]
        if steps is None:
            raise ValueError(
                "WarmupCosine needs the number of steps in an epoch, which "
                "this data does not tell. Pass `steps_per_epoch` to fit, or "
                f"`{instead}` to WarmupCosine."
            )
        return epochs * steps / self._micro_steps

    def _schedule(self, total: int, warmup: int) -> schedules.WarmupCosine:
        return schedules.WarmupCosine(
            peak=self.peak,
            total_steps=total,
            warmup_steps=warmup,
            floor=self.floor,
            start=self.start,
            cycles=self.cycles,
            cycle_multiplier=self.cycle_multiplier,
            cycle_decay=self.cycle_decay,
        )
