"""Trains models: the one place where a batch of trials is executed."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from kerascomp import _compat, callbacks
from kerascomp.datasets import Dataset
from kerascomp.population import _choice, _fitting, _training
from kerascomp.studies import _folds, _records
from kerascomp.studies._search import Proposal
from kerascomp.tuners import _batch, _weights

DEFAULT_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Job:
    """One training to do: a proposed trial with one seed."""

    proposal: Proposal
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        """The trial and the seed."""
        return self.proposal.trial, self.seed


@dataclasses.dataclass(frozen=True)
class Executor:
    """Trains jobs together, as many as are differing in numbers alone.

    Attributes:
        build: Returns a compiled model for hyperparameters.
        data: What to train on.
        objective: What is improved.
        epochs: Of a whole run; Hyperband stops some before.
        seed: Of the study.
        directory: Of the study.
        folds: Folds of a cross-validation, in place of seeds; or None.
        halving: Whether the worse trials are ended early.
        engine: As of `Population`.
        on_epoch: Is called with the number of trainings that ended an epoch;
            returns whether to stop.
    """

    build: Callable[[Any], keras.Model]
    data: Dataset
    objective: keras_tuner.Objective
    epochs: int
    seed: int
    directory: Path
    folds: int | None = None
    halving: _batch.Halving | None = None
    engine: str = "auto"
    on_epoch: Callable[[int], bool] = lambda _: False
    programs: _choice.Programs = dataclasses.field(
        default_factory=lambda: _choice.Programs(lift_all=True)
    )
    weights: _weights.WeightFiles = dataclasses.field(
        default_factory=_weights.WeightFiles
    )

    def run(self, jobs: Sequence[Job]) -> Iterator[_records.Run]:
        """Yields the outcome of each job.

        Raises:
            Stopped: If `on_epoch` says so. The next `run` with the same jobs
                goes on there.
        """
        proposals = {job.key: job.proposal for job in jobs}
        settings = _batch.Settings(
            plan=self._plan,
            objective=self.objective,
            programs=self.programs,
            callbacks=self._callbacks,
            engine=self.engine,
            halving=self.halving,
            checkpoint=self.checkpoint,
            on_epoch=lambda lanes: self.on_epoch(len(lanes)),
        )
        outcomes = _batch.run([self._lane(job) for job in jobs], settings)
        for outcome in outcomes:
            yield self._run_of(outcome, proposals[outcome.lane.key])
        _batch.forget(outcomes)

    @property
    def checkpoint(self) -> Path:
        """The file from which an interrupted batch goes on."""
        return self.directory / "running.npz"

    def weights_path(self, trial: str, seed: int) -> Path:
        """Returns where the weights of a run's best epoch are kept."""
        return self.directory / "weights" / f"{trial}_seed_{seed}.weights.h5"

    def state_path(self, trial: str, seed: int) -> Path:
        """Returns where the state at a run's end is kept, for Hyperband."""
        return self.directory / "states" / f"{trial}_seed_{seed}.npz"

    def _lane(self, job: Job) -> _batch.Lane:
        proposal = job.proposal
        start = None
        if proposal.continues:
            path = self.state_path(proposal.continues, job.seed)
            start = _batch.read_state(path)
        return _batch.Lane(
            key=job.key,
            build=lambda: self.build(proposal.hyperparameters),
            seed=self._seed_of(job),
            batch_size=proposal.values.get("batch_size", DEFAULT_BATCH_SIZE),
            epochs=range(proposal.first_epoch, proposal.epochs),
            start=start,
            hyperparameters=proposal.values,
        )

    def _seed_of(self, job: Job) -> int:
        """The same for all trials, which makes them comparable."""
        keys = [self.seed, 0 if self.folds else job.seed]
        return int(np.random.SeedSequence(keys).generate_state(1)[0] >> 1)

    def _plan(
        self, lanes: Sequence[_batch.Lane], own_callbacks: list[list]
    ) -> _training.Plan:
        numbers = [lane.key[1] for lane in lanes]
        parts = _folds.parts(self.data, self.folds, self.seed, numbers)
        given = _fitting.Given(
            parts.x, parts.y, validation_data=parts.validation
        )
        differing = _fitting.Lanes(
            len(lanes),
            [lane.batch_size for lane in lanes],
            [lane.epochs.stop for lane in lanes],
            [lane.epochs.start for lane in lanes],
            [lane.seed for lane in lanes],
            parts.samples,
            parts.validation_samples,
        )
        steps = _fitting.Steps()
        return _fitting.plan(given, differing, steps, own_callbacks, 0)

    def _callbacks(self, lane: _batch.Lane, model: keras.Model) -> list:
        """Warmup-cosine where the rate can be set, and gradient norms."""
        chosen: list = [callbacks.GradientNormMonitor(per_layer=False)]
        rate = _constant_rate(model)
        if rate is not None:
            values = lane.hyperparameters
            warmup = values.get("warmup_fraction", 0.1) * self.epochs
            chosen.append(
                callbacks.WarmupCosine(
                    peak=values.get("learning_rate", rate),
                    warmup_epochs=warmup,
                    total_epochs=self.epochs,
                )
            )
        return chosen

    def _run_of(
        self, outcome: _batch.Outcome, proposal: Proposal
    ) -> _records.Run:
        trial, seed = outcome.lane.key
        run = _records.Run(
            trial=trial,
            seed=seed,
            status=_records.FAILED,
            hyperparameters=proposal.values,
            first_epoch=proposal.first_epoch,
        )
        if outcome.error is not None:
            error = outcome.error
            return dataclasses.replace(
                run,
                message=f"{type(error).__name__}: {error}",
                traceback=outcome.details,
            )
        run = dataclasses.replace(run, **self._measured(outcome))
        best = outcome.best
        if outcome.diverged is not None or best is None or best.score is None:
            return self._diverged(run, outcome)
        self._save(outcome, proposal)
        return dataclasses.replace(
            run,
            status=_records.COMPLETED,
            score=best.score,
            best_epoch=best.epoch,
            pruned_epoch=outcome.pruned,
        )

    def _measured(self, outcome: _batch.Outcome) -> dict[str, Any]:
        seconds = outcome.seconds
        typical = float(np.median(seconds[1:] or seconds))
        samples = len(self.data.train.x)
        if self.folds:
            pooled = samples + len(self.data.validation.x)
            samples = pooled - pooled // self.folds
        return {
            "curves": {"seconds": seconds, **outcome.history},
            "updates_per_epoch": -(-samples // outcome.lane.batch_size),
            "examples_per_second": samples / typical,
            "seconds": sum(seconds),
        }

    def _diverged(
        self, run: _records.Run, outcome: _batch.Outcome
    ) -> _records.Run:
        epochs = len(outcome.history.get("loss", ()))
        epoch = run.first_epoch + epochs - 1
        what = f"not finite in epoch {epoch + 1}: {self.objective.name}"
        if outcome.diverged is not None:
            what = (
                f"not finite in epoch {epoch + 1}, at step "
                f"{outcome.diverged} (counted from 0): loss or weights"
            )
        return dataclasses.replace(
            run,
            status=_records.DIVERGED,
            message=what,
            diverged_epoch=epoch,
        )

    def _save(self, outcome: _batch.Outcome, proposal: Proposal) -> None:
        """Keeps the weights of the best epoch, and the state to go on with."""
        trial, seed = outcome.lane.key
        if proposal.epochs < self.epochs:
            _batch.write_state(self.state_path(trial, seed), outcome.state)
        if outcome.best is not None:
            outcome.model.set_weights(outcome.best.weights)
        self.weights.save(outcome.model, self.weights_path(trial, seed))


def _constant_rate(model: keras.Model) -> float | None:
    """The compiled learning rate, or None where a schedule sets one."""
    rates = [
        _compat.learning_rate_variable(optimizer)
        for optimizer in _compat.optimizers_of(model.optimizer)
    ]
    if any(rate is None for rate in rates):
        return None
    return float(keras.ops.convert_to_numpy(rates[0]))
