"""The search: a KerasTuner oracle that can be asked and told.

An oracle is a deterministic function of its seed and of the scores it was
told. A study therefore resumes by asking a new oracle and telling it the
recorded scores again: that restores the state of all four exactly, which their
own files do not (the grid's order and the Bayesian random state are not in
them).
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner import oracles
from keras_tuner.engine import trial as kt_trial

from kerascomp import _files

ALGORITHMS = ("random", "grid", "bayesian", "hyperband")
PROJECT = "keras_tuner"  # KerasTuner's project folder within the directory.

# What an oracle is told of a run without a score, so that it stays away from
# there. Hyperband waits for every trial of a round: one without a score would
# cost the next round a place.
_WORST = 1e12
# KerasTuner's names for where a Hyperband trial starts and ends.
_BUDGET = ("tuner/epochs", "tuner/initial_epoch", "tuner/trial_id")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to search, and how."""

    algorithm: str
    space: keras_tuner.HyperParameters
    objective: keras_tuner.Objective
    max_trials: int | None
    epochs: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A trial to run."""

    trial: str
    hyperparameters: keras_tuner.HyperParameters
    epochs: int
    first_epoch: int = 0
    continues: str | None = None  # The trial whose end is this one's start.

    @property
    def values(self) -> dict[str, Any]:
        """The hyperparameters alone, without KerasTuner's bookkeeping."""
        values = self.hyperparameters.values
        return {k: v for k, v in values.items() if not k.startswith("tuner/")}


class Search:
    """Hands out trials and learns their scores."""

    def __init__(self, plan: Plan, build: Callable[[Any], Any], scratch: Path):
        self._plan = plan
        self._oracle = _oracle(plan)
        self._oracle.verbose = 0
        # A tuner gives the oracle its folder and finds the hyperparameters
        # that only `build` declares, before the first trial is handed out.
        self._tuner = keras_tuner.Tuner(
            oracle=self._oracle,
            hypermodel=build,
            directory=str(scratch),
            project_name=PROJECT,
            overwrite=True,
        )
        self._scratch = scratch / PROJECT
        self._trials: dict[str, Any] = {}

    @property
    def space(self) -> keras_tuner.HyperParameters:
        """The space, with what `build` declared."""
        return self._oracle.get_space()

    def ask(self) -> Proposal | None:
        """Returns the next trial to run, or None when the search is over."""
        trial = self._oracle.create_trial("study")
        if trial.status != kt_trial.TrialStatus.RUNNING:
            return None
        self._trials[trial.trial_id] = trial
        epochs, first, continues = (
            trial.hyperparameters.values.get(name) for name in _BUDGET
        )
        return Proposal(
            trial=trial.trial_id,
            hyperparameters=trial.hyperparameters,
            epochs=epochs or self._plan.epochs,
            first_epoch=first or 0,
            continues=continues,
        )

    def tell(self, trial_id: str, score: float | None, message: str) -> None:
        """Reports a trial's score, None for one that has none."""
        trial = self._trials.pop(trial_id)
        if score is None and self._plan.algorithm == "hyperband":
            maximizes = self._plan.objective.direction == "max"
            self._update(trial_id, -_WORST if maximizes else _WORST)
            trial.status = kt_trial.TrialStatus.COMPLETED
        elif score is None:
            trial.status = kt_trial.TrialStatus.FAILED
        else:
            self._update(trial_id, score)
            trial.status = kt_trial.TrialStatus.COMPLETED
        trial.message = message or None
        self._oracle.end_trial(trial)
        self._tuner.save()

    def publish(self, directory: Path) -> None:
        """Copies KerasTuner's files into the study, each atomically.

        KerasTuner writes in place, so it writes into a scratch folder.
        """
        for source in sorted(self._scratch.rglob("*.json")):
            target = directory / PROJECT / source.relative_to(self._scratch)
            text = source.read_text(encoding="utf-8")
            if not target.exists() or target.read_text("utf-8") != text:
                _files.write_text(target, text)

    def close(self) -> None:
        """Removes the scratch folder."""
        shutil.rmtree(self._scratch.parent, ignore_errors=True)

    def _update(self, trial_id: str, score: float) -> None:
        self._oracle.update_trial(trial_id, {self._plan.objective.name: score})


def _oracle(plan: Plan) -> Any:
    shared = {
        "objective": plan.objective,
        "hyperparameters": plan.space,
        # KerasTuner takes 0 for no seed, and draws the hyperparameter k of a
        # trial with the seed `seed + k`: neighboring seeds must lie far apart.
        "seed": 1 + 1_000_003 * plan.seed,
        # A study of learning rates contains diverging trials by design.
        "max_consecutive_failed_trials": None,
    }
    if plan.algorithm == "hyperband":
        return oracles.HyperbandOracle(max_epochs=plan.epochs, **shared)
    oracle = {
        "random": oracles.RandomSearchOracle,
        "grid": oracles.GridSearchOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
    }[plan.algorithm]
    return oracle(max_trials=plan.max_trials, **shared)
