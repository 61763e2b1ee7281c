"""A study: a search over hyperparameters, from the space to the best model."""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from kerascomp import _files
from kerascomp.datasets import Dataset
from kerascomp.studies import (
    _baselines,
    _best,
    _checks,
    _directory,
    _environment,
    _folds,
    _progress,
    _records,
    _report,
    _search,
    _space,
)
from kerascomp.studies._errors import StudyError
from kerascomp.studies._result import StudyResult
from kerascomp.studies._runner import Executor, Job
from kerascomp.tuners._batch import (
    Halving,
    Stopped,
    remove_checkpoints,
)

DEFAULT_TRIALS = 48
# Trainings at once, and trials where each is chosen knowing those before.
_MOST_LANES, _FEW_TRIALS = 64, 8


class Study:
    """Searches batch size, learning rate, dropout and more, and keeps all.

    Use it to choose hyperparameters on real evidence: every trial trains with
    warmup-cosine and gradient norms, is repeated over seeds if asked, and is
    recorded in a directory that is readable without this program. The best
    model is measured on a test part that the search never saw, saved, and
    proved to give the same predictions after loading.

    A study that was interrupted, even by `kill -9`, goes on where it stopped
    when it is run again with the same arguments, and ends as if it had never
    been interrupted: finished trainings are kept, and those that were under
    way go on with the epoch that they had reached.

    Trials that differ in numbers alone train together, as lanes of one
    compiled program (see `kerascomp.population.Population`), and so do seeds
    and folds.

    Args:
        build: `"mlp"`, `"cnn"`, `"gru"`, `"auto"` for the one that suits the
            data's shape, or a function that takes KerasTuner's
            `HyperParameters` and returns a compiled model.
        data: From `kerascomp.datasets.load` or `from_arrays`.
        space: Name -> values: a list of choices, a tuple `(low, high)` or
            `(low, high, "log")`, a `range`, or a single value. None for batch
            size, learning rate and dropout. `batch_size`, `learning_rate` (the
            peak of the warmup-cosine) and `warmup_fraction` are honored for
            every model; the built-in ones also use `dropout`, `weight_decay`
            and `label_smoothing`.
        algorithm: `"random"`, `"grid"`, `"bayesian"` or `"hyperband"`.
        max_trials: Number of trials; None for 48, or for the whole grid.
            Hyperband's number follows from `epochs`.
        epochs: Epochs of a whole training, at least 1.
        seeds: Trainings of each trial, which differ in initial weights and
            data order, at least 1. All trials share the same seeds.
        directory: Where everything is kept.
        objective: Metric to improve, as named in the logs of `fit`, or a
            `keras_tuner.Objective`. None for `val_accuracy` in classification
            and `val_loss` in regression. The score of a training is the
            objective at its best epoch; that of a trial, the mean over seeds.
        seed: Decides the search and every training, at least 0.
        max_minutes: After so many minutes, the study stops with the running
            epoch. It can be resumed.
        overwrite: Whether to delete a study that `directory` holds.
        folds: Trains each trial on so many folds of training and validation
            part together, validated on the fold that is left out; at least 2,
            instead of `seeds`.
        halving: Ends the worse trials of a batch early: after 1 / halving^2
            and after 1 / halving of the epochs, one trial in so many goes on.
            At least 2; not with Hyperband, which has rounds of its own.
        max_lanes: Most trainings at once, at least 1. None for 64, or for 8
            trials in a Bayesian search, which learns from one batch for the
            next.
        engine: As in `kerascomp.population.Population`.

    Raises:
        StudyError: A `ValueError`, before any training, if an argument is out
            of range, the model function raises or returns no compiled model,
            the model does not report the objective, or the directory holds
            something else.

    Examples:
        >>> import tempfile
        >>> import kerascomp as kc
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     study = Study(
        ...         "mlp",
        ...         kc.datasets.load("wine"),
        ...         space={"learning_rate": [1e-3, 1e-2], "batch_size": 16},
        ...         algorithm="grid",
        ...         epochs=2,
        ...         directory=directory,
        ...     )
        ...     result = study.run(verbose=0)
        ...     model = result.best_model()
        >>> len(result.table())
        2
        >>> model.input_shape
        (None, 13)
    """

    def __init__(
        self,
        build: str | Callable[[Any], Any],
        data: Dataset,
        space: Mapping[str, Any] | None = None,
        algorithm: str = "random",
        max_trials: int | None = None,
        epochs: int = 20,
        seeds: int = 1,
        directory: str | os.PathLike = "runs/study",
        objective: str | keras_tuner.Objective | None = None,
        seed: int = 0,
        max_minutes: float | None = None,
        overwrite: bool = False,
        folds: int | None = None,
        halving: int | None = None,
        max_lanes: int | None = None,
        engine: str = "auto",
    ):
        _checks.check_arguments(
            data, algorithm, max_trials, epochs, seeds, seed, max_minutes
        )
        _checks.check_lanes(data, algorithm, seeds, folds, halving)
        _checks.check_engine(engine, max_lanes)
        self.data = data
        self.algorithm = algorithm
        self.epochs = epochs
        self.seeds = seeds
        self.directory = Path(directory)
        self.seed = seed
        self.max_minutes = max_minutes
        self.overwrite = overwrite
        self.folds = folds
        self.halving = halving
        self.max_lanes = max_lanes
        self.engine = engine
        self.runs = folds or seeds
        if max_trials is None and algorithm not in ("grid", "hyperband"):
            max_trials = DEFAULT_TRIALS
        self.max_trials = max_trials
        self._model_name, self._build = _checks.resolve_model(build, data)
        num_train = len(data.train)
        self.space = _space.make_space(
            _space.default_space(num_train) if space is None else space,
            num_train,
            grid=algorithm == "grid",
        )
        if algorithm == "grid":
            _checks.check_grid(self.space, max_trials)
        self.objective = _checks.resolve_objective(objective, data)

    def run(self, verbose: int = 1) -> StudyResult:
        """Runs the study, or what is left of it.

        Args:
            verbose: 0 says nothing; 1 a line for each trial and bars.

        Returns:
            The result; also of a study that a time limit stopped.

        Raises:
            StudyError: Before any training, see the class.
            KeyboardInterrupt: After Ctrl-C, once everything is in order on
                disk: run it again to go on.
        """
        progress = _progress.Terminal() if verbose else _progress.Silent()
        space = _checks.check_model(
            self._build, self.space, self.data, self.objective
        )
        settings = self._settings(space)
        _directory.prepare(self.directory)
        with _directory.locked(self.directory):
            study = _directory.open_study(
                self.directory, settings, self.overwrite
            )
            return self._run(study or self._new_study(settings), progress)

    def _run(self, study: dict, progress: _progress.Silent) -> StudyResult:
        scratch = self.directory / ".scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        plan = _search.Plan(
            self.algorithm,
            self.space.copy(),
            self.objective,
            self.max_trials,
            self.epochs,
            self.seed,
        )
        search = _search.Search(plan, _checks.guarded(self._build), scratch)
        status = "interrupted"
        self._write(study, "running")
        try:
            status = self._search_all(search, progress)
            self._ship_best(progress)
        finally:
            progress.stop()
            search.publish(self.directory)
            search.close()
            self._write(study, status)
        _report.write_report(self.directory)
        return StudyResult(self.directory)

    def _search_all(
        self, search: _search.Search, progress: _progress.Silent
    ) -> str:
        deadline = time.monotonic() + 60 * (self.max_minutes or np.inf)

        def on_epoch(trainings: int) -> bool:
            progress.epochs(trainings)
            return time.monotonic() >= deadline

        executor = self._executor(on_epoch)
        recorded = {t.id: t for t in _records.read_trials(self.directory)}
        done = sum(len(t.runs) == self.runs for t in recorded.values())
        progress.start(self._title(), self._expected_trials(), done)
        while proposals := search.ask(self._width()):
            batch = _Batch(self, proposals, recorded)
            if batch.is_missing and time.monotonic() >= deadline:
                return "time limit"
            if batch.is_missing:
                progress.batch(len(proposals), batch.epochs)
            try:
                trials = batch.run(executor)
            except Stopped:
                return "time limit"
            for trial in trials:
                search.tell(trial.id, trial.score, trial.message)
            if batch.is_missing:
                self._after_batch(trials, search, executor, progress)
        return "finished"

    def _width(self) -> int:
        """How many trials are open at once; the same in every process."""
        lanes = self.max_lanes
        if lanes is None:
            few = self.algorithm == "bayesian"
            lanes = _FEW_TRIALS * self.runs if few else _MOST_LANES
        return max(lanes // self.runs, 1)

    def _after_batch(
        self,
        trials: Sequence[_records.Trial],
        search: _search.Search,
        executor: Executor,
        progress: _progress.Silent,
    ) -> None:
        search.publish(self.directory)
        record = _records.read(self.directory)
        _records.write_tables(record)
        _best.prune(record, self.runs, executor.weights_path)
        for trial in trials:
            progress.finish_trial(trial, self.objective.name)

    def _ship_best(self, progress: _progress.Silent) -> None:
        record = _records.read(self.directory)
        _records.write_tables(record)
        run = _best.best_run(record)
        if run is None:
            progress.say("No trial completed, so there is no best model.")
            return
        if _best.is_shipped(record, run):
            return
        progress.say("Measuring and saving the best model.")
        executor = self._executor()
        hyperparameters = self.space.copy()
        hyperparameters.values = dict(run.hyperparameters)
        keras.utils.set_random_seed(self.seed)
        model = self._build(hyperparameters)
        model(self.data.train.x[:1])
        model.optimizer.build(model.trainable_variables)
        model.load_weights(executor.weights_path(run.trial, run.seed))
        validation = _folds.validation(
            self.data, self.folds, self.seed, run.seed
        )
        _best.ship(record, model, run, self.data, validation)

    def _executor(
        self, on_epoch: Callable[[int], bool] = lambda _: False
    ) -> Executor:
        return Executor(
            build=self._build,
            data=self.data,
            objective=self.objective,
            epochs=self.epochs,
            seed=self.seed,
            directory=self.directory,
            folds=self.folds,
            halving=_halving(self.halving, self.epochs),
            engine=self.engine,
            on_epoch=on_epoch,
        )

    def _settings(self, space: keras_tuner.HyperParameters) -> dict[str, Any]:
        """What makes two studies the same."""
        return {
            "model": self._model_name,
            "data": self.data.fingerprint,
            "space": _space.describe(space),
            "algorithm": self.algorithm,
            "max_trials": self.max_trials,
            "epochs": self.epochs,
            "seeds": self.seeds,
            "folds": self.folds,
            "halving": self.halving,
            "max_lanes": self.max_lanes,
            "engine": self.engine,
            "objective": {
                "name": self.objective.name,
                "direction": self.objective.direction,
            },
            "seed": self.seed,
            "backend": keras.backend.backend(),
        }

    def _new_study(self, settings: dict[str, Any]) -> dict[str, Any]:
        data = self.data
        return {
            "format": 1,
            "created": _environment.now(),
            "settings": settings,
            "data": {
                "name": data.name,
                "task": data.task,
                "sizes": {name: len(p) for name, p in data.parts.items()},
                "input_shape": data.input_shape,
                "num_classes": data.num_classes,
                "class_names": data.class_names,
                "notes": data.notes,
                "fingerprint": data.fingerprint,
            },
            "versions": _environment.versions(),
            "machine": _environment.machine(),
            "baselines": [
                dataclasses.asdict(baseline)
                for baseline in _baselines.baselines(data)
            ],
        }

    def _write(self, study: dict[str, Any], status: str) -> None:
        study.update(status=status, updated=_environment.now())
        _files.write_json(self.directory / "study.json", study)

    def _title(self) -> str:
        what = "fold" if self.folds else "seed"
        return (
            f"{self.data.name}: {self.algorithm} search with "
            f"{self._model_name}, {self.epochs} epochs, {self.runs} "
            f"{what}{'s' if self.runs > 1 else ''}, in {self.directory}"
        )

    def _expected_trials(self) -> int | None:
        if self.algorithm == "grid":
            return _space.grid_size(self.space)
        return self.max_trials  # None for Hyperband.


class _Batch:
    """Trials that were proposed together, and what is known of them."""

    def __init__(
        self,
        study: Study,
        proposals: Sequence[_search.Proposal],
        recorded: dict[str, _records.Trial],
    ):
        self._directory, self._proposals = study.directory, proposals
        self._runs: dict[tuple[str, int], _records.Run] = {}
        for proposal in proposals:
            trial = recorded.pop(proposal.trial, None)
            if trial is not None:
                _refuse_other(trial, proposal)
                self._runs |= {(run.trial, run.seed): run for run in trial.runs}
        self._jobs = [
            Job(proposal, number)
            for proposal in proposals
            for number in range(study.runs)
        ]
        self.is_missing = any(job.key not in self._runs for job in self._jobs)
        self.epochs = sum(
            job.proposal.epochs - job.proposal.first_epoch for job in self._jobs
        )

    def run(self, executor: Executor) -> list[_records.Trial]:
        """Trains what is missing; returns all trials.

        If anything is missing, everything is trained (from where it was), as
        trials that are compared while they train need each other.
        """
        if self.is_missing:
            for run in executor.run(self._jobs):
                if (run.trial, run.seed) not in self._runs:
                    _records.write_run(self._directory, run)
                    self._runs[run.trial, run.seed] = run
            remove_checkpoints(executor.checkpoint)
        return [
            _records.Trial(
                proposal.trial,
                proposal.values,
                tuple(
                    self._runs[job.key]
                    for job in self._jobs
                    if job.proposal is proposal
                ),
            )
            for proposal in self._proposals
        ]


def _refuse_other(trial: _records.Trial, proposal: _search.Proposal) -> None:
    if _files.as_json(proposal.values) != trial.hyperparameters:
        raise StudyError(
            f"Trial {trial.id} was recorded with "
            f"{dict(trial.hyperparameters)}, and the search now proposes "
            f"{proposal.values}: another version of KerasTuner, probably. "
            "Resume with the versions in study.json, or start anew."
        )


def _halving(factor: int | None, epochs: int) -> Halving | None:
    """Two rungs, as far apart as the last one is from the end."""
    if factor is None:
        return None
    rungs = {-(-epochs // factor**power) for power in (1, 2)}
    return Halving(factor, tuple(sorted(rungs)))
