"""Trains models: the one place where a batch of trials is executed."""

import dataclasses
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import keras_tuner
import numpy as np

from kerascomp import _compat, _files, callbacks
from kerascomp.datasets import Dataset
from kerascomp.studies import _records
from kerascomp.studies._search import Proposal

DEFAULT_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Job:
    """One training to do: a proposed trial with one seed."""

    proposal: Proposal
    seed: int


class Executor(Protocol):
    """Runs jobs, in any order and any number at a time."""

    def run(self, jobs: Sequence[Job]) -> Iterator[_records.Run]:
        """Yields the outcome of each job as soon as it is known."""


@dataclasses.dataclass(frozen=True)
class Sequential:
    """Trains one model after another with `fit`."""

    build: Callable[[Any], keras.Model]
    data: Dataset
    objective: keras_tuner.Objective
    epochs: int  # Of a whole run; Hyperband stops some before.
    seed: int
    directory: Path
    on_epoch: Callable[[int, int], None]

    def run(self, jobs: Sequence[Job]) -> Iterator[_records.Run]:
        for job in jobs:
            started = time.perf_counter()
            try:
                run = self._train(job)
            except Exception as error:  # A trial that fails is a result.
                run = self._outcome(
                    job,
                    status=_records.FAILED,
                    message=f"{type(error).__name__}: {error}",
                    traceback=traceback.format_exc(),
                )
            # Keras keeps what every model has built; this collects it, too.
            keras.utils.clear_session()
            seconds = time.perf_counter() - started
            yield dataclasses.replace(run, seconds=seconds)

    def weights_path(self, trial: str, seed: int) -> Path:
        """Returns where the weights of a run's best epoch are kept."""
        return self.directory / "weights" / f"{trial}_seed_{seed}.weights.h5"

    def state_path(self, trial: str, seed: int) -> Path:
        """Returns where the state at a run's end is kept, for Hyperband."""
        return self.directory / "states" / f"{trial}_seed_{seed}.npz"

    def _train(self, job: Job) -> _records.Run:
        proposal, values = job.proposal, job.proposal.values
        keras.utils.set_random_seed(self._seed_of(job))
        model = self.build(proposal.hyperparameters)
        if proposal.continues:
            restore_state(
                model,
                self.data.train.x[:1],
                self.state_path(proposal.continues, job.seed),
            )
        watch = Watch(self.objective, self.on_epoch)
        before = int(model.optimizer.iterations)
        model.fit(
            self.data.train.x,
            self.data.train.y,
            batch_size=values.get("batch_size", DEFAULT_BATCH_SIZE),
            epochs=proposal.epochs,
            initial_epoch=proposal.first_epoch,
            validation_data=(self.data.validation.x, self.data.validation.y),
            # Validation makes no updates, so its batches may be large.
            validation_batch_size=1024,
            callbacks=[*self._callbacks(model, values), watch],
            verbose=0,
        )
        updates = int(model.optimizer.iterations) - before
        if proposal.epochs < self.epochs and not watch.diverged:
            save_state(model, self.state_path(proposal.trial, job.seed))
        return self._finished(job, model, watch, updates)

    def _finished(
        self, job: Job, model: keras.Model, watch: "Watch", updates: int
    ) -> _records.Run:
        seconds = watch.curves["seconds"]
        typical = float(np.median(seconds[1:] or seconds))
        measured: dict[str, Any] = {
            "curves": watch.curves,
            "updates_per_epoch": updates // len(seconds),
            "examples_per_second": len(self.data.train.x) / typical,
        }
        if watch.diverged:
            epoch = job.proposal.first_epoch + len(seconds) - 1
            return self._outcome(
                job,
                status=_records.DIVERGED,
                message=f"not finite in epoch {epoch + 1}: {watch.diverged}",
                diverged_epoch=epoch,
                **measured,
            )
        model.set_weights(watch.best_weights)
        path = self.weights_path(job.proposal.trial, job.seed)
        with _files.atomic_path(path) as temporary:
            model.save_weights(temporary, overwrite=True)
        return self._outcome(
            job,
            status=_records.COMPLETED,
            score=watch.best_score,
            best_epoch=watch.best_epoch,
            **measured,
        )

    def _outcome(self, job: Job, **details: Any) -> _records.Run:
        return _records.Run(
            trial=job.proposal.trial,
            seed=job.seed,
            hyperparameters=job.proposal.values,
            first_epoch=job.proposal.first_epoch,
            **details,
        )

    def _callbacks(self, model: keras.Model, values: dict[str, Any]) -> list:
        """Warmup-cosine where the rate can be set, and gradient norms."""
        chosen: list = [callbacks.GradientNormMonitor(per_layer=False)]
        rate = _constant_rate(model)
        if rate is not None:
            warmup = values.get("warmup_fraction", 0.1) * self.epochs
            chosen.append(
                callbacks.WarmupCosine(
                    peak=values.get("learning_rate", rate),
                    warmup_epochs=warmup,
                    total_epochs=self.epochs,
                )
            )
        return chosen

    def _seed_of(self, job: Job) -> int:
        """The same for all trials, which makes them comparable."""
        keys = [self.seed, job.seed, job.proposal.first_epoch]
        return int(np.random.SeedSequence(keys).generate_state(1)[0] >> 1)


class Watch(keras.callbacks.Callback):
    """Records every epoch, keeps the best weights, stops at a NaN."""

    def __init__(
        self,
        objective: keras_tuner.Objective,
        on_epoch: Callable[[int, int], None],
    ):
        super().__init__()
        self.objective = objective
        self.on_epoch = on_epoch
        self.curves: dict[str, list[float]] = {"seconds": []}
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: list = []
        self.diverged = ""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._trained: float | None = None
        self._started = time.perf_counter()

    def on_test_begin(self, logs: dict | None = None) -> None:
        # Validation starts, so the epoch's training steps are over.
        self._trained = time.perf_counter() - self._started

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.curves["seconds"].append(
            self._trained or time.perf_counter() - self._started
        )
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)
        score = values[self.objective.name]
        for name, value in (
            ("loss", values["loss"]),
            (self.objective.name, score),
        ):
            if not math.isfinite(value):
                self.diverged = name
                self.model.stop_training = True
                return
        if self.best_score is None or self.objective.better_than(
            score, self.best_score
        ):
            self.best_score, self.best_epoch = score, epoch
            self.best_weights = self.model.get_weights()
        self.on_epoch(epoch + 1, self.params["epochs"])


def save_state(model: keras.Model, path: Path) -> None:
    """Saves weights and optimizer state, to go on from there."""
    arrays = [keras.ops.convert_to_numpy(v) for v in _state_variables(model)]
    with _files.atomic_path(path) as temporary:
        np.savez(temporary, *arrays)


def restore_state(model: keras.Model, sample: Any, path: Path) -> None:
    """Loads what `save_state` saved into a newly built model."""
    model(sample)
    model.optimizer.build(model.trainable_variables)
    with np.load(path) as arrays:
        for variable, name in zip(
            _state_variables(model), arrays.files, strict=True
        ):
            variable.assign(arrays[name])


def _state_variables(model: keras.Model) -> list:
    return [*model.variables, *model.optimizer.variables]


def _constant_rate(model: keras.Model) -> float | None:
    """The compiled learning rate, or None where a schedule sets one."""
    rates = [
        _compat.learning_rate_variable(optimizer)
        for optimizer in _compat.optimizers_of(model.optimizer)
    ]
    if any(rate is None for rate in rates):
        return None
    return float(keras.ops.convert_to_numpy(rates[0]))
