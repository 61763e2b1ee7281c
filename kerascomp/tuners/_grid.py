"""Grid search."""

from collections.abc import Iterator
from typing import Any

import keras_tuner
from keras_tuner import oracles

from kerascomp.tuners._oracle import ManyTrialsOracle
from kerascomp.tuners._space import Point, grid


class GridSearchOracle(ManyTrialsOracle, oracles.GridSearchOracle):
    """Tries every point of the grid, in order.

    The order is that of KerasTuner with one trial at a time: first the
    defaults, then the last hyperparameter that was declared changes fastest.
    Each goes through its default and then its other values, in their order;
    those of a range without a step are ten, ascending. A value that equals the
    default within rounding is not tried again. A hyperparameter under a
    condition is varied where it is active.

    The order does not depend on how many trials are open, once all
    hyperparameters are known. When a trial finds a new one, the trials that
    used it stand for its default, those that did not for all its values, and
    what is left of the larger grid is tried in its order.

    Args:
        objective: As in `keras_tuner.oracles.GridSearchOracle`, like all
            arguments except the following.
        max_trials: The number of trials, at most. None for the whole grid.
        seed: Of no effect: nothing here is random.
        hyperparameters: The search space, or a part of it.
        allow_new_entries: Whether trials may find hyperparameters.
        tune_new_entries: Whether those are searched.
        max_retries_per_trial: How often a trial that failed is run again.
        max_consecutive_failed_trials: Failures in a row that end the search
            with an error. None, the default, for any number: trials that
            diverge are results too.

    Saved state: as in KerasTuner. A search that is resumed goes on where it
    was.
    """

    _points: Iterator[Point] | None
    _points_size: int
    _points_of: set[str]  # Trials from this walk: each stands for one point.

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = None,
        seed: int | None = None,
        hyperparameters: Any = None,
        allow_new_entries: bool = True,
        tune_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = None,
    ):
        super().__init__(
            objective=objective,
            max_trials=max_trials,
            seed=seed,
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        self._forget_walk()

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        size = len(self.hyperparameters.space)
        if self._points is None or self._points_size != size:
            self._forget_walk()
            space, tried = self.space_and_tried()
            self._points = space.walk(grid, tried.__contains__)
            self._points_size = size
        point = next(self._points, None)
        if point is None:
            self._forget_walk()
        else:
            self._points_of.add(trial_id)
        return self.proposal(point)

    @keras_tuner.synchronized
    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        if trial.trial_id not in self._points_of:
            # It may have found what others found before, and now stands for
            # fewer points.
            self._forget_walk()

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._forget_walk()

    def _forget_walk(self) -> None:
        self._points = None
        self._points_size = 0
        self._points_of = set()
