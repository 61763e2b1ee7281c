"""Random search."""

from typing import Any

from keras_tuner import oracles

from kerascomp.tuners._oracle import ManyTrialsOracle


class RandomSearchOracle(ManyTrialsOracle, oracles.RandomSearchOracle):
    """Draws points at random, none twice.

    A space with finitely many points is tried to the last of them. With a
    seed, the points do not depend on how many trials are open, once all
    hyperparameters are known.

    Args:
        objective: As in `keras_tuner.oracles.RandomSearchOracle`, like all
            arguments except the following.
        max_trials: The number of trials, at most.
        seed: Any integer; 0 is one. None draws a seed.
        hyperparameters: The search space, or a part of it.
        allow_new_entries: Whether trials may find hyperparameters.
        tune_new_entries: Whether those are searched.
        max_retries_per_trial: How often a trial that failed is run again.
        max_consecutive_failed_trials: Failures in a row that end the search
            with an error. None, the default, for any number: trials that
            diverge are results too.

    Saved state: as in KerasTuner. A search that is resumed goes on with the
    points that it would have drawn.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
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

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        space, tried = self.space_and_tried()
        key = f"{self.seed}/{len(self.trials)}"
        return self.proposal(space.draw(tried, key))
