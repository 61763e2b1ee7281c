"""Hyperband."""

import math
from collections.abc import Iterator
from typing import Any

from keras_tuner import oracles

from kerascomp import _validation
from kerascomp.tuners._oracle import ManyTrialsOracle
from kerascomp.tuners._space import Point


class HyperbandOracle(ManyTrialsOracle, oracles.HyperbandOracle):
    """Trains many points for few epochs, and the best of them for more.

    A bracket is a sequence of rounds, each with about `1 / factor` of the
    trials of the one before and `factor` times its epochs. Sizes and epochs
    are those of KerasTuner, and so are the values that a trial carries:
    `tuner/bracket`, `tuner/round`, `tuner/epochs`, `tuner/initial_epoch`, and
    from the second round on `tuner/trial_id`, the trial that it continues.

    The first rounds of all brackets can be open at once. A trial is promoted
    as soon as nothing can keep it from the best of its round. Equal scores
    rank in the order in which their points were drawn; trials that failed, or
    whose score is not finite, rank last and are not promoted.

    No point is drawn twice while there are others, and none twice in a
    bracket. A bracket that finds fewer points than it has room for is reduced
    in proportion; what is left of `hyperband_iterations` after the first is
    dropped when all points were tried.

    With a seed and a deterministic objective, points, rounds and promotions do
    not depend on how many trials are open, once all hyperparameters are known;
    ids do.

    Args:
        objective: As in `keras_tuner.oracles.HyperbandOracle`, like all
            arguments except the following.
        max_epochs: The most epochs of a trial.
        factor: By how much rounds shrink and epochs grow, at least 2.
        hyperband_iterations: How often to go through all brackets. 0 and None
            for ever, as far as there are points.
        seed: Any integer; 0 is one. None draws a seed.
        hyperparameters: The search space, or a part of it.
        allow_new_entries: Whether trials may find hyperparameters.
        tune_new_entries: Whether those are searched.
        max_retries_per_trial: How often a trial that failed is run again.
        max_consecutive_failed_trials: Failures in a row that end the search
            with an error. None, the default, for any number: trials that
            diverge are results too.

    Saved state: as in KerasTuner, and the rounds of all brackets. A search
    that is resumed goes on as it would have.

    Reference:
        Li et al., 2018, [Hyperband](https://jmlr.org/papers/v18/16-558.html),
        algorithm 1. Differs from it in rounding sizes up.
    """

    def __init__(
        self,
        objective: Any = None,
        max_epochs: int = 100,
        factor: int = 3,
        hyperband_iterations: int | None = 1,
        seed: int | None = None,
        hyperparameters: Any = None,
        allow_new_entries: bool = True,
        tune_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = None,
    ):
        _validation.at_least("max_epochs", max_epochs, 1)
        super().__init__(
            objective=objective,
            max_epochs=max_epochs,
            factor=factor,
            hyperband_iterations=hyperband_iterations,
            seed=seed,
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        # All brackets so far. A round maps trials to the number that their
        # point has in the first round; `exhausted` when no point was left.
        self.started: list[dict[str, Any]] = []

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        for values in self._possible(trial_id):
            if values is not None:
                return self.proposal(values)
        return self.proposal(None)

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "started": self.started}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.started = [
            {
                **bracket,
                "rounds": [
                    {n: k for n, k in each.items() if n in self.trials}
                    for each in bracket["rounds"]
                ],
            }
            for bracket in state["started"]
        ]

    def _possible(self, trial_id: str) -> Iterator[Point | None]:
        """Goes through what could be done next, None for nothing."""
        for index, bracket in enumerate(self.started):
            yield self._draw(index, bracket, trial_id)
            yield self._promote(bracket, trial_id)
        while self._may_start():
            index = len(self.started)
            number = brackets(self.max_epochs, self.factor)
            label = number - 1 - index % number
            rounds: list[dict] = [{} for _ in range(label + 1)]
            self.started.append(
                {"bracket": label, "rounds": rounds, "exhausted": False}
            )
            yield self._draw(index, self.started[-1], trial_id)

    def _may_start(self) -> bool:
        number = brackets(self.max_epochs, self.factor)
        if len(self.started) < number:
            return True
        if len(self.started) >= number * self.hyperband_iterations:
            return False
        space, tried = self.space_and_tried()
        return space.draw(tried, "any") is not None

    def _draw(
        self, index: int, bracket: dict, trial_id: str
    ) -> dict[str, Any] | None:
        """Returns a new point for the first round, None if it is full."""
        first = bracket["rounds"][0]
        if len(first) >= self._sizes(bracket)[0]:
            return None
        space, tried = self.space_and_tried()
        key = f"{self.seed}/{index}/{len(first)}"
        point = space.draw(tried, key)
        if point is None:
            space, tried = self.space_and_tried(first)
            point = space.draw(tried, key)
        if point is None:
            # An open trial may find hyperparameters, and with them points.
            bracket["exhausted"] = all(map(self._has_ended, first))
            return None
        first[trial_id] = len(first)
        return {**point, **self._budget(bracket, 0)}

    def _promote(self, bracket: dict, trial_id: str) -> dict[str, Any] | None:
        """Returns a trial's next round, None if none is sure of it."""
        sizes = self._sizes(bracket)
        for index in range(1, len(sizes)):
            before, now = bracket["rounds"][index - 1 : index + 1]
            ended = sum(map(self._has_ended, before))
            # Every trial that has not ended may become better.
            sure = sizes[index] - (sizes[index - 1] - ended)
            for name in self._ranked(before)[: max(sure, 0)]:
                if before[name] in now.values():
                    continue
                now[trial_id] = before[name]
                return {
                    **self.trials[name].hyperparameters.values,
                    **self._budget(bracket, index),
                    "tuner/trial_id": name,
                }
        return None

    def _sizes(self, bracket: dict) -> list[int]:
        """Returns how many trials each round has, as far as it is known."""
        planned = [
            size(self.max_epochs, self.factor, bracket["bracket"], index)
            for index in range(len(bracket["rounds"]))
        ]
        sizes = planned[:1]
        if bracket["exhausted"]:
            sizes = [len(bracket["rounds"][0])]
        for index in range(1, len(planned)):
            before = bracket["rounds"][index - 1]
            # Rounded up: a bracket without gaps has its planned sizes.
            share = -(-sizes[-1] * planned[index] // planned[index - 1])
            if sum(map(self._has_ended, before)) >= sizes[-1]:
                share = min(share, len(self._ranked(before)))
            sizes.append(share)
        return sizes

    def _ranked(self, names: dict[str, int]) -> list[str]:
        """Returns the trials that have a score, best first."""
        losses = {
            name: self.loss_of(self.trials[name])
            for name in names
            if name in self.trials
        }
        scored = {n: loss for n, loss in losses.items() if loss is not None}
        return sorted(scored, key=lambda name: (scored[name], names[name]))

    def _has_ended(self, name: str) -> bool:
        return name in self.trials and not self.is_open(self.trials[name])

    def _budget(self, bracket: dict, index: int) -> dict[str, Any]:
        number, factor = bracket["bracket"], self.factor
        start = epochs(self.max_epochs, factor, number, index - 1)
        return {
            "tuner/epochs": epochs(self.max_epochs, factor, number, index),
            "tuner/initial_epoch": start if index else 0,
            "tuner/bracket": number,
            "tuner/round": index,
        }


def brackets(max_epochs: int, factor: int) -> int:
    """Returns the number of brackets: the longest starts with one epoch."""
    number = 0
    while factor**number <= max_epochs:
        number += 1
    return number


def size(max_epochs: int, factor: int, bracket: int, index: int) -> int:
    """Returns the number of trials of a round."""
    last = math.ceil(1 + math.log(max_epochs, factor)) / (bracket + 1)
    return math.ceil(last * factor ** (bracket - index))


def epochs(max_epochs: int, factor: int, bracket: int, index: int) -> int:
    """Returns at which epoch a round ends."""
    return math.ceil(max_epochs / factor ** (bracket - index))
