"""A study: a search over hyperparameters, from the space to the best model."""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
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
    _progress,
    _records,
    _report,
    _search,
    _space,
)
from kerascomp.studies._errors import StudyError
from kerascomp.studies._result import StudyResult
from kerascomp.studies._runner import Job, Sequential

DEFAULT_TRIALS = 16


class Study:
    """Searches batch size, learning rate, dropout and more, and keeps all.

    Use it to choose hyperparameters on real evidence: every trial trains with
    warmup-cosine and gradient norms, is repeated over seeds if asked, and is
    recorded in a directory that is readable without this program. The best
    model is measured on a test part that the search never saw, saved, and
    proved to give the same predictions after loading.

    A study that was interrupted, even by `kill -9`, goes on where it stopped
    when it is run again with the same arguments, and ends as if it had never
    been interrupted: finished trainings are kept, and a training that was
    under way starts again from its seed.

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
        max_trials: Number of trials; None for 16, or for the whole grid.
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
        max_minutes: No training starts after so many minutes. The study can
            be resumed.
        overwrite: Whether to delete a study that `directory` holds.

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
    ):
        _checks.check_arguments(
            data, algorithm, max_trials, epochs, seeds, seed, max_minutes
        )
        self.data = data
        self.algorithm = algorithm
        self.epochs = epochs
        self.seeds = seeds
        self.directory = Path(directory)
        self.seed = seed
        self.max_minutes = max_minutes
        self.overwrite = overwrite
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
        executor = self._executor(progress)
        recorded = {t.id: t for t in _records.read_trials(self.directory)}
        done = sum(len(t.runs) == self.seeds for t in recorded.values())
        progress.start(self._title(), self._expected_trials(), done)
        while (proposal := search.ask()) is not None:
            old = recorded.pop(proposal.trial, None)
            runs = list(self._recorded_runs(old, proposal))
            missing = [
                Job(proposal, seed)
                for seed in range(self.seeds)
                if seed not in {run.seed for run in runs}
            ]
            if missing and time.monotonic() >= deadline:
                return "time limit"
            if missing:
                progress.trial(proposal.trial, proposal.values)
            for run in executor.run(missing):
                _records.write_run(self.directory, run)
                runs.append(run)
            trial = _records.Trial(
                proposal.trial,
                proposal.values,
                tuple(sorted(runs, key=lambda run: run.seed)),
            )
            search.tell(trial.id, trial.score, trial.message)
            if missing:
                self._after_trial(trial, search, executor, progress)
        return "finished"

    def _recorded_runs(
        self, trial: _records.Trial | None, proposal: _search.Proposal
    ) -> Iterator[_records.Run]:
        if trial is None:
            return
        if _files.as_json(proposal.values) != trial.hyperparameters:
            raise StudyError(
                f"Trial {trial.id} was recorded with "
                f"{dict(trial.hyperparameters)}, and the search now proposes "
                f"{proposal.values}: another version of KerasTuner, probably. "
                "Resume with the versions in study.json, or start anew."
            )
        yield from trial.runs

    def _after_trial(
        self,
        trial: _records.Trial,
        search: _search.Search,
        executor: Sequential,
        progress: _progress.Silent,
    ) -> None:
        search.publish(self.directory)
        record = _records.read(self.directory)
        _records.write_tables(record)
        _best.prune(record, self.seeds, executor.weights_path)
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
        executor = self._executor(_progress.Silent())
        hyperparameters = self.space.copy()
        hyperparameters.values = dict(run.hyperparameters)
        keras.utils.set_random_seed(self.seed)
        model = self._build(hyperparameters)
        model(self.data.train.x[:1])
        model.optimizer.build(model.trainable_variables)
        model.load_weights(executor.weights_path(run.trial, run.seed))
        _best.ship(record, model, run, self.data)

    def _executor(self, progress: _progress.Silent) -> Sequential:
        return Sequential(
            build=self._build,
            data=self.data,
            objective=self.objective,
            epochs=self.epochs,
            seed=self.seed,
            directory=self.directory,
            on_epoch=progress.epoch,
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
        return (
            f"{self.data.name}: {self.algorithm} search with "
            f"{self._model_name}, {self.epochs} epochs, {self.seeds} "
            f"seed{'s' if self.seeds > 1 else ''}, in {self.directory}"
        )

    def _expected_trials(self) -> int | None:
        if self.algorithm == "grid":
            return _space.grid_size(self.space)
        return self.max_trials  # None for Hyperband.
