"""The search: an oracle that can be asked for many trials, and told.

An oracle is a deterministic function of its seed, of what it is asked and of
the scores it is told. A study therefore resumes by asking a new oracle and
telling it the recorded scores again, in the same batches: no file has to be
trusted but the records themselves.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import trial as kt_trial

from kerascomp import _files
from kerascomp.tuners import (
    _bayesian,
    _grid,
    _hyperband,
    _oracle,
    _random,
)

ALGORITHMS = ("random", "grid", "bayesian", "hyperband")
PROJECT = "keras_tuner"  # KerasTuner's project folder within the directory.

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
        self._oracle = _make_oracle(plan)
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

    def ask(self, most: int) -> list[Proposal]:
        """Returns trials to run; none when the search is over.

        Args:
            most: How many, at most; the same in every process.
        """
        proposals = []
        for lane in range(most):
            trial = self._oracle.create_trial(f"study/{lane}")
            if trial.status == kt_trial.TrialStatus.RUNNING:
                self._trials[trial.trial_id] = trial
                proposals.append(self._proposal(trial))
        return proposals

    def _proposal(self, trial: Any) -> Proposal:
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
        trial.status = kt_trial.TrialStatus.FAILED
        if score is not None:
            metrics = {self._plan.objective.name: score}
            self._oracle.update_trial(trial_id, metrics)
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


def _make_oracle(plan: Plan) -> _oracle.ManyTrialsOracle:
    shared = {
        "objective": plan.objective,
        "hyperparameters": plan.space,
        "seed": plan.seed,
    }
    if plan.algorithm == "hyperband":
        return _hyperband.HyperbandOracle(max_epochs=plan.epochs, **shared)
    oracle: Any = {
        "random": _random.RandomSearchOracle,
        "grid": _grid.GridSearchOracle,
        "bayesian": _bayesian.BayesianOptimizationOracle,
    }[plan.algorithm]
    return oracle(max_trials=plan.max_trials, **shared)
