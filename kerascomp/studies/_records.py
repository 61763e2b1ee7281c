"""What a study knows: its settings, its trials and their runs.

A study's directory is its memory. Each finished run is one file, written
atomically, and everything else (tables, search state, report) is derived from
these files:

    study.json                  settings, data, versions, baselines, status
    runs/0007_seed_0.json       one training of trial 0007
    trials.csv, curves.csv      the same as tables
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerascomp import _files

COMPLETED, DIVERGED, FAILED = "completed", "diverged", "failed"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: a trial with one seed."""

    trial: str  # The trial's id, such as "0007".
    seed: int
    status: str  # "completed", "diverged" or "failed".
    hyperparameters: Mapping[str, Any]
    message: str = ""
    traceback: str = ""
    score: float | None = None  # The objective at the best epoch.
    best_epoch: int | None = None  # Counted from 0.
    diverged_epoch: int | None = None
    # After how many epochs it was ended, for others were better; else None.
    pruned_epoch: int | None = None
    first_epoch: int = 0  # Above 0 where Hyperband continued a run.
    # Metric -> value of each epoch from `first_epoch` on, None where it was
    # not finite. Besides the logs of `fit` there is "seconds": the time of the
    # epoch's training steps, validation left out.
    curves: Mapping[str, Sequence[float | None]] = dataclasses.field(
        default_factory=dict
    )
    updates_per_epoch: int | None = None
    # Its share of the time of the training steps, compiling included.
    seconds: float = 0.0
    examples_per_second: float | None = None  # Median, without first epoch.

    def at_best(self) -> dict[str, float | None]:
        """Returns every logged metric at the best epoch."""
        if self.best_epoch is None:
            return {}
        index = self.best_epoch - self.first_epoch
        return {name: values[index] for name, values in self.curves.items()}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One choice of hyperparameters and its runs, one for each seed."""

    id: str
    hyperparameters: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def status(self) -> str:
        """The worst status of the runs."""
        statuses = [run.status for run in self.runs]
        return next((s for s in (FAILED, DIVERGED) if s in statuses), COMPLETED)

    @property
    def pruned_epoch(self) -> int | None:
        """After how many epochs the trial was ended early, None if not."""
        return self.runs[0].pruned_epoch

    @property
    def message(self) -> str:
        """The first run's message that is not empty."""
        return next((run.message for run in self.runs if run.message), "")

    @property
    def scores(self) -> list[float]:
        """The objective of every run that has one, in the order of seeds."""
        return [run.score for run in self.runs if run.score is not None]

    @property
    def score(self) -> float | None:
        """Mean objective over the seeds; None unless all runs completed."""
        if self.status != COMPLETED or not self.scores:
            return None
        return statistics.fmean(self.scores)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Returns Student's t interval of the mean; None for one seed."""
        if self.score is None or self.std is None:
            return None
        from scipy import stats

        count = len(self.scores)
        quantile = stats.t.ppf((1 + confidence) / 2, count - 1)
        half = float(quantile) * self.std / math.sqrt(count)
        return self.score - half, self.score + half

    @property
    def seconds(self) -> float:
        """Wall clock of all runs together."""
        return sum(run.seconds for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Record:
    """Everything a study's directory says."""

    directory: Path
    study: Mapping[str, Any]  # The content of study.json.
    trials: tuple[Trial, ...]  # In the order in which they were started.

    @property
    def objective(self) -> str:
        """The name of the metric that the study improves."""
        return self.study["settings"]["objective"]["name"]

    @property
    def maximizes(self) -> bool:
        """Whether more of the objective is better."""
        return self.study["settings"]["objective"]["direction"] == "max"

    @property
    def tuned(self) -> list[str]:
        """Names of the hyperparameters, in the order of the space."""
        return list(self.study["settings"]["space"])

    def ranked(self) -> list[Trial]:
        """Returns the completed trials, best first; ties in order of start."""
        scored = [t for t in self.trials if t.score is not None]
        sign = -1 if self.maximizes else 1
        return sorted(scored, key=lambda trial: sign * (trial.score or 0.0))

    @property
    def best(self) -> Trial | None:
        """The best completed trial, if any."""
        return next(iter(self.ranked()), None)


def read(directory: str | Path) -> Record:
    """Reads a study's directory, finished or not.

    Raises:
        FileNotFoundError: If the directory holds no study.
    """
    directory = Path(directory)
    path = directory / "study.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"No study in {str(directory)!r}: it has no study.json. Pass the "
            "directory that `kerascomp study` or `Study(directory=...)` wrote."
        )
    return Record(directory, _files.read_json(path), read_trials(directory))


def read_trials(directory: Path) -> tuple[Trial, ...]:
    """Reads the finished runs and groups them by trial."""
    runs: dict[str, list[Run]] = {}
    for path in sorted((directory / "runs").glob("*_seed_*.json")):
        run = Run(**_files.read_json(path))
        runs.setdefault(run.trial, []).append(run)
    return tuple(
        Trial(
            id=trial,
            hyperparameters=members[0].hyperparameters,
            runs=tuple(sorted(members, key=lambda run: run.seed)),
        )
        for trial, members in sorted(runs.items())
    )


def run_path(directory: Path, trial: str, seed: int) -> Path:
    """Returns where a finished run is recorded."""
    return directory / "runs" / f"{trial}_seed_{seed}.json"


def write_run(directory: Path, run: Run) -> None:
    """Records a finished run, for good."""
    path = run_path(directory, run.trial, run.seed)
    _files.write_json(path, dataclasses.asdict(run))


def write_tables(record: Record) -> None:
    """Writes trials.csv and curves.csv from the runs."""
    tuned = record.tuned
    _files.write_csv(
        record.directory / "trials.csv",
        ["trial", "status", *tuned, *_TRIAL_COLUMNS],
        (
            [
                t.id,
                t.status,
                *(t.hyperparameters.get(name) for name in tuned),
                *_trial_row(t),
            ]
            for t in record.trials
        ),
    )
    _files.write_csv(
        record.directory / "curves.csv",
        ["trial", "seed", "epoch", "metric", "value"],
        (
            [run.trial, run.seed, run.first_epoch + index, metric, value]
            for trial in record.trials
            for run in trial.runs
            for metric, values in run.curves.items()
            for index, value in enumerate(values)
        ),
    )


_TRIAL_COLUMNS = [
    "seeds",
    "score",
    "score_std",
    "score_low",
    "score_high",
    "scores",
    "best_epoch",
    "diverged_epoch",
    "pruned_epoch",
    "seconds",
    "updates_per_epoch",
    "updates",
    "seconds_per_epoch",
    "examples_per_second",
    "message",
]


def _trial_row(trial: Trial) -> list[Any]:
    first = trial.runs[0]
    low, high = trial.interval() or (None, None)
    epoch_seconds = [
        s for run in trial.runs for s in run.curves.get("seconds", ())[1:] if s
    ]
    epochs = sum(len(run.curves.get("loss", ())) for run in trial.runs)
    rates = [r.examples_per_second for r in trial.runs if r.examples_per_second]
    return [
        len(trial.runs),
        trial.score,
        trial.std,
        low,
        high,
        " ".join(f"{score:.6g}" for score in trial.scores),
        first.best_epoch,
        next(
            (
                run.diverged_epoch
                for run in trial.runs
                if run.diverged_epoch is not None
            ),
            None,
        ),
        trial.pruned_epoch,
        round(trial.seconds, 3),
        first.updates_per_epoch,
        (first.updates_per_epoch or 0) * epochs,
        statistics.median(epoch_seconds) if epoch_seconds else None,
        statistics.median(rates) if rates else None,
        trial.message,
    ]
