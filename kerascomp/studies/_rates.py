"""Which learning rates trained well, for each batch size."""

import dataclasses
import math

import numpy as np

from kerascomp.studies import _analysis, _words
from kerascomp.studies._records import DIVERGED, Record, Trial

# How far from the best score of its batch size a trial may stay: of metrics
# that are fractions, and as a share of the best score of all others.
NEAR, NEAR_SHARE = 0.02, 0.1
# Of scores in float32, so that 0.95 is 0.02 from 0.97.
_ROUNDING = 1e-6
STABLE, WORSE = "stable", "worse"


@dataclasses.dataclass(frozen=True)
class Point:
    """A trial's learning rate and the lowest loss, or score, it came to."""

    trial: str
    rate: float
    value: float | None  # None where it diverged.
    pruned: bool


@dataclasses.dataclass(frozen=True)
class Range:
    """The learning rates at which a batch size trained stably.

    A rate is stable if a trial with it was trained to the end, did not
    diverge and came near the best score of its batch size.
    """

    batch_size: int
    best: float
    # Learning rate and `STABLE`, `WORSE` or `DIVERGED` of every trial that
    # was trained to the end or diverged, lowest rate first.
    tried: tuple[tuple[float, str], ...]

    @property
    def low(self) -> float:
        """The lowest stable rate that was tried."""
        return min(rate for rate, status in self.tried if status == STABLE)

    @property
    def high(self) -> float:
        """The highest stable rate that was tried."""
        return max(rate for rate, status in self.tried if status == STABLE)

    @property
    def below(self) -> float | None:
        """The next rate below that was tried, None at the lower end."""
        rates = [rate for rate, _ in self.tried if rate < self.low]
        return max(rates, default=None)

    @property
    def above(self) -> float | None:
        """The next rate above that was tried, None at the upper end."""
        rates = [rate for rate, _ in self.tried if rate > self.high]
        return min(rates, default=None)

    @property
    def inside(self) -> int:
        """How many trials within the range were worse or diverged."""
        return sum(
            self.low <= rate <= self.high and status != STABLE
            for rate, status in self.tried
        )

    @property
    def least(self) -> float:
        """The decades between stable rates: the range is at least so wide."""
        return math.log10(self.high / self.low)

    @property
    def most(self) -> float | None:
        """The decades between unstable rates; None if an end is open."""
        if self.below is None or self.above is None:
            return None
        return math.log10(self.above / self.below)


def measure(record: Record) -> str:
    """Returns what to plot against the learning rate.

    Small differences show best in a loss: the validation loss, where every
    trial has one and no label smoothing makes it another loss for each trial.
    """
    if not _words.is_fraction(record.objective):
        return record.objective
    smoothed = "label_smoothing" in _analysis.varied(record)
    trials = record.ranked()
    known = all(lowest_loss(trial) is not None for trial in trials)
    return "val_loss" if known and not smoothed else record.objective


def lowest_loss(trial: Trial) -> float | None:
    """Returns the lowest validation loss of any epoch, mean over runs."""
    lowest = []
    for run in trial.runs:
        found = _analysis.curve(run, "val_loss")[1]
        if not np.isfinite(found).any():
            return None
        lowest.append(float(np.nanmin(found)))
    return float(np.mean(lowest))


def points(record: Record) -> dict[int, list[Point]]:
    """Returns the points of every batch size, by learning rate."""
    by_loss = measure(record) != record.objective
    compared = [trial for trial, _ in _analysis.comparable(record)]
    found = {}
    for size, trials in _groups(record).items():
        found[size] = [
            Point(
                trial.id,
                _rate(trial),
                None
                if trial.score is None
                else lowest_loss(trial)
                if by_loss
                else trial.score,
                trial.score is not None and trial not in compared,
            )
            for trial in sorted(trials, key=_rate)
        ]
    return found


def ranges(record: Record) -> list[Range]:
    """Returns the stable range of every batch size that has one."""
    compared = {trial.id for trial, _ in _analysis.comparable(record)}
    found = []
    for size, trials in _groups(record).items():
        judged = [t for t in trials if t.id in compared or t.score is None]
        scores = [t.score for t in judged if t.score is not None]
        best = _analysis.best_of(scores, record)
        if best is not None:
            found.append(_range(record, size, judged, best))
    return found


def tolerance(best: float, record: Record) -> float:
    """Returns how far from the best score counts as near."""
    if _words.is_fraction(record.objective):
        return NEAR
    return NEAR_SHARE * abs(best)


def _range(
    record: Record, size: int, trials: list[Trial], best: float
) -> Range:
    near = tolerance(best, record) + _ROUNDING * abs(best)
    tried = []
    for trial in trials:
        status = DIVERGED
        if trial.score is not None:
            status = STABLE if abs(trial.score - best) <= near else WORSE
        tried.append((_rate(trial), status))
    return Range(size, best, tuple(sorted(tried)))


def trend(record: Record) -> float | None:
    """Returns the power of the batch size that the best rate follows.

    By least squares of logarithms, over three batch sizes or more.
    """
    found = peaks(record)
    if len(found) < 3:
        return None
    logs = np.log([[size, point.rate] for size, point in found.items()])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def peaks(record: Record) -> dict[int, Point]:
    """Returns the best point of every batch size, of trials that finished."""
    found = {}
    rises = record.maximizes and measure(record) == record.objective
    for size, members in points(record).items():
        values = {
            point: -point.value if rises else point.value
            for point in members
            if point.value is not None and not point.pruned
        }
        if values:
            found[size] = min(values, key=values.__getitem__)
    return found


def _groups(record: Record) -> dict[int, list[Trial]]:
    """Returns the trials of every batch size, smallest first.

    Trials that failed are left out: that was hardly the learning rate.
    """
    of_size = _analysis.batch_groups(record)
    found: dict[int, list[Trial]] = {
        size: [] for size in sorted(set(of_size.values()))
    }
    for trial in record.trials:
        size = trial.hyperparameters.get("batch_size")
        rated = trial.hyperparameters.get("learning_rate") or 0
        if size is None or rated <= 0:
            continue
        if trial.score is not None or trial.status == DIVERGED:
            found[of_size[size]].append(trial)
    return {size: trials for size, trials in found.items() if trials}


def _rate(trial: Trial) -> float:
    return float(trial.hyperparameters["learning_rate"])
