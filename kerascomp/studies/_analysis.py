"""The numbers behind a study's report."""

import bisect
import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp.studies import _words
from kerascomp.studies._records import DIVERGED, FAILED, Record, Run, Trial

MIN_TRIALS_FOR_IMPORTANCE = 8
MAX_BATCH_SIZES = 8


@dataclasses.dataclass(frozen=True)
class Scale:
    """How the values of a hyperparameter are laid out along an axis."""

    name: str
    kind: str  # "linear", "log" or "categories".
    levels: tuple[Any, ...] = ()  # Of categories, in order.
    low: float = 0.0
    high: float = 1.0

    def position(self, value: Any) -> float | None:
        """Returns where a value lies: 0 at the low end, 1 at the high one."""
        if value is None:
            return None
        if self.kind == "categories":
            steps = max(len(self.levels) - 1, 1)
            return self.levels.index(value) / steps
        low, high, at = self.low, self.high, float(value)
        if self.kind == "log":
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low) if high > low else 0.5

    def at_edge(self, value: Any) -> bool:
        """Whether a value lies in the outer twentieth of a range."""
        place = self.position(value)
        if self.kind == "categories" or place is None:
            return False
        return place < 0.05 or place > 0.95


@dataclasses.dataclass(frozen=True)
class Rung:
    """An epoch after which the worse trials were ended."""

    epoch: int
    compared: int  # Trials that had come so far.
    kept: int  # Trials that went on.


@dataclasses.dataclass(frozen=True)
class Reach:
    """What a trial spent until it reached a target."""

    trial: str
    epochs: float
    updates: float | None
    seconds: float | None
    learning_rate: float | None = None


@dataclasses.dataclass(frozen=True)
class BatchSize:
    """What the trials of one batch size have in common."""

    batch_size: int
    trials: int
    pruned: int
    diverged: int
    updates_per_epoch: float | None
    seconds_per_epoch: float | None
    examples_per_second: float | None
    best: float | None  # Like the median, of those that may be compared.
    median: float | None
    reach: Reach | None  # Of its trial with the fewest updates.

    @property
    def diverged_share(self) -> float:
        """The fraction of the trials that diverged."""
        return self.diverged / self.trials


@dataclasses.dataclass(frozen=True)
class Importance:
    """How much a random forest's guess of the rank needs each name."""

    names: tuple[str, ...]  # Most important first.
    drops: tuple[float, ...]  # Of out-of-bag R², mean over shuffles.
    deviations: tuple[float, ...]  # Standard deviation over shuffles.
    r2: float  # Out-of-bag, nothing shuffled.
    trials: int


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Best score by batch size (rows) and learning rate (columns)."""

    rows: tuple[int, ...]
    edges: tuple[float, ...]  # Of the bins; empty where values are columns.
    columns: tuple[float, ...]  # The values; empty where there are bins.
    best: np.ndarray  # NaN where no trial completed.
    completed: np.ndarray
    pruned: np.ndarray  # Ended early.
    lost: np.ndarray  # Diverged or failed.

    def span(self, column: int) -> str:
        """Returns the learning rates of a column in words."""
        if self.columns:
            return _words.number(self.columns[column], 3)
        low, high = self.edges[column : column + 2]
        return f"{_words.number(low, 2)} to {_words.number(high, 2)}"


def better(first: float, second: float, record: Record) -> bool:
    """Whether the first score is strictly better than the second."""
    return first > second if record.maximizes else first < second


def best_of(scores: Iterable[float], record: Record) -> float | None:
    """Returns the best score, None of none."""
    choose = max if record.maximizes else min
    return choose(scores, default=None)


def comparable(record: Record) -> list[tuple[Trial, float]]:
    """Returns the trials whose scores may be compared, best first.

    Those that were ended early are left out, unless there are no others.
    """
    found = [(t, t.score) for t in record.ranked() if t.score is not None]
    return [pair for pair in found if pair[0].pruned_epoch is None] or found


def scores(record: Record) -> list[float]:
    """Returns the scores that may be compared, best first."""
    return [score for _, score in comparable(record)]


def best_so_far(record: Record) -> list[float | None]:
    """Returns, for every trial in order, the best score until then."""
    found: list[float | None] = []
    for trial in record.trials:
        past = found[-1] if found else None
        known = [s for s in (past, trial.score) if s is not None]
        found.append(best_of(known, record))
    return found


def pruned(record: Record) -> list[Trial]:
    """Returns the completed trials that were ended early."""
    return [
        trial
        for trial in record.trials
        if trial.score is not None and trial.pruned_epoch is not None
    ]


def rungs(record: Record) -> list[Rung]:
    """Returns where trials were compared and ended, earliest first."""
    ends = {
        trial.id: max(run.pruned_epoch or 0 for run in trial.runs)
        for trial in record.trials
    }
    found = []
    for epoch in sorted(set(ends.values()) - {0}):
        ended = sum(end == epoch for end in ends.values())
        kept = sum(
            ends[t.id] != epoch and epochs_trained(t) > epoch
            for t in record.trials
        )
        found.append(Rung(epoch, ended + kept, kept))
    return found


def repeats(record: Record) -> str:
    """Returns what the runs of a trial differ in: "seed" or "fold"."""
    return "fold" if record.study["settings"].get("folds") else "seed"


def count(record: Record, status: str) -> int:
    """Returns how many trials ended so."""
    return sum(trial.status == status for trial in record.trials)


def distinct(values: Iterable[Any]) -> list[Any]:
    """Returns the values that are not None, once each, sorted if possible."""
    found = list(dict.fromkeys(v for v in values if v is not None))
    try:
        return sorted(found)
    except TypeError:  # Numbers among strings.
        return found


def values(record: Record, name: str) -> list[Any]:
    """Returns a hyperparameter of every trial, None where it has none."""
    return [trial.hyperparameters.get(name) for trial in record.trials]


def varied(record: Record) -> list[str]:
    """Returns the tuned hyperparameters that took more than one value."""
    return [n for n in record.tuned if len(distinct(values(record, n))) > 1]


def scale(record: Record, name: str) -> Scale:
    """Finds a hyperparameter's scale from the space and the trials."""
    space = record.study["settings"]["space"].get(name) or {}
    config = space.get("config") or {}
    found = distinct(values(record, name))
    levels = _levels(found, config)
    if levels is not None:
        return Scale(name, "categories", levels)
    ends = [config.get("min_value"), config.get("max_value"), *found]
    numbers = [float(end) for end in ends if end is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    sampling = config.get("sampling")
    if sampling is None and config.get("min_value") is None:
        sampling = "log" if 0 < low * 30 <= high else "linear"
    is_log = low > 0 and sampling in ("log", "reverse_log")
    return Scale(name, "log" if is_log else "linear", (), low, high)


def _levels(found: list[Any], config: dict) -> tuple[Any, ...] | None:
    """Returns the categories of a hyperparameter, None of a number line."""
    choices = config.get("values")
    if choices is None and any(isinstance(v, bool | str) for v in found):
        choices = found
    elif choices is None and all(isinstance(v, int) for v in found):
        low, high = config.get("min_value"), config.get("max_value")
        wide = low is None or high is None or high - low >= 6
        choices = None if wide and len(found) > 6 else found
    if choices is None:
        return None
    levels = distinct([*choices, *found])
    numeric = not any(isinstance(v, bool | str) for v in levels)
    return None if numeric and len(levels) > 10 else tuple(levels)


def curve(run: Run, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a run's epochs, counted from 1, and its metric at each."""
    found = run.curves.get(metric, ())
    epochs = run.first_epoch + 1 + np.arange(len(found))
    return epochs, np.array([math.nan if v is None else v for v in found])


def at_best(run: Run, metric: str) -> float | None:
    """Returns a metric at the run's best epoch, if both are known."""
    found = run.curves.get(metric, ())
    if run.best_epoch is None:
        return None
    index = run.best_epoch - run.first_epoch
    return found[index] if 0 <= index < len(found) else None


def epochs_trained(trial: Trial) -> int:
    """Returns the last epoch that a trial reached, counted from 1."""
    return max(
        (
            run.first_epoch + max(map(len, run.curves.values()), default=0)
            for run in trial.runs
        ),
        default=0,
    )


def epoch_seconds(runs: Iterable[Run]) -> float | None:
    """Returns the median time of an epoch, the first of each run left out.

    The first epoch holds tracing and compilation.
    """
    found = []
    for run in runs:
        seconds = run.curves.get("seconds", ())
        found += [s for s in seconds[1:] or seconds if s is not None]
    return statistics.median(found) if found else None


def target(record: Record) -> float | None:
    """Returns the score that half of the trials reach that may be compared."""
    return _median(scores(record))


def reach(trial: Trial, target: float, record: Record) -> Reach | None:
    """Finds when a completed trial's validation curve reaches a target.

    Of several seeds the median counts, and a seed that never reaches the
    target counts as infinitely late.
    """
    if trial.score is None:
        return None
    firsts = []
    for run in trial.runs:
        epochs, found = curve(run, record.objective)
        hits = found >= target if record.maximizes else found <= target
        firsts.append(float(epochs[hits][0]) if hits.any() else math.inf)
    needed = float(np.median(firsts))
    if not math.isfinite(needed):
        return None
    updates = trial.runs[0].updates_per_epoch
    seconds = epoch_seconds(trial.runs)
    return Reach(
        trial=trial.id,
        epochs=needed,
        updates=None if updates is None else updates * needed,
        seconds=None if seconds is None else seconds * needed,
        learning_rate=learning_rate(trial),
    )


def batch_groups(record: Record) -> dict[int, int]:
    """Maps the batch sizes to the rows of tables and plots.

    Each is its own row, unless there are more than `MAX_BATCH_SIZES`: then a
    row holds those that round to the same power of two.
    """
    sizes = distinct(values(record, "batch_size"))
    if len(sizes) <= MAX_BATCH_SIZES:
        return {size: size for size in sizes}
    return {size: 2 ** round(math.log2(size)) for size in sizes}


def batch_sizes(record: Record) -> list[BatchSize]:
    """Sums up the trials of every batch size, smallest first."""
    goal = target(record)
    groups: dict[int, list[Trial]] = {}
    of_size = batch_groups(record)
    for trial in record.trials:
        size = trial.hyperparameters.get("batch_size")
        if size is not None:
            groups.setdefault(of_size[size], []).append(trial)
    return [
        _batch_size(record, size, trials, goal)
        for size, trials in sorted(groups.items())
    ]


def _batch_size(
    record: Record, size: int, trials: list[Trial], goal: float | None
) -> BatchSize:
    runs = [run for trial in trials for run in trial.runs]
    found = [score for t, score in comparable(record) if t in trials]
    reaches = [] if goal is None else [reach(t, goal, record) for t in trials]
    return BatchSize(
        batch_size=size,
        trials=len(trials),
        pruned=sum(t in trials for t in pruned(record)),
        diverged=sum(t.status == DIVERGED for t in trials),
        updates_per_epoch=_median(run.updates_per_epoch for run in runs),
        seconds_per_epoch=epoch_seconds(runs),
        examples_per_second=_median(run.examples_per_second for run in runs),
        best=best_of(found, record),
        median=_median(found),
        reach=min(
            (r for r in reaches if r is not None),
            key=lambda r: (r.epochs, r.seconds or 0.0),
            default=None,
        ),
    )


def scaling_power(rows: Sequence[BatchSize]) -> float | None:
    """Returns the power of the batch size that the updates to target follow.

    -1 is perfect scaling, where doubling the batch size halves the updates; 0
    no gain. By least squares of logarithms over three batch sizes or more.
    """
    sizes, updates = _updates_to_target(rows)
    if len(sizes) < 3:
        return None
    return float(np.polyfit(np.log(sizes), np.log(updates), 1)[0])


def hyperbola(rows: Sequence[BatchSize]) -> tuple[float, float] | None:
    """Fits steps and examples to the target, as McCandlish et al. do.

    (S / S_min - 1) (E / E_min - 1) = 1 with E = B S examples is the same as
    S = S_min + E_min / B. The fit minimizes relative errors of S.

    Returns:
        `(S_min, E_min)`, or None of fewer than four batch sizes.
    """
    sizes, updates = _updates_to_target(rows)
    if len(sizes) < 4:
        return None
    matrix = np.stack([1 / updates, 1 / (sizes * updates)], axis=1)
    # NumPy 1.26 warns of its default.
    least, *_ = np.linalg.lstsq(matrix, np.ones(len(sizes)), rcond=None)
    return float(least[0]), float(least[1])


def _updates_to_target(
    rows: Sequence[BatchSize],
) -> tuple[np.ndarray, np.ndarray]:
    pairs = [
        (row.batch_size, row.reach.updates)
        for row in rows
        if row.reach and row.reach.updates
    ]
    sizes, updates = np.array(pairs, float).reshape(-1, 2).T
    return sizes, updates


def _median(found: Iterable[float | None]) -> float | None:
    known = [value for value in found if value is not None]
    return statistics.median(known) if known else None


def importance(record: Record, shuffles: int = 20) -> Importance | None:
    """Permutation importance of a random forest on the ranks of the scores.

    A hyperparameter's importance is how far the forest's R² falls when the
    values of that hyperparameter are shuffled. Every trial is judged only by
    the trees that have not seen it (out-of-bag), so a hyperparameter without
    influence scores about 0. None where fewer than two hyperparameters vary
    or fewer than `MIN_TRIALS_FOR_IMPORTANCE` trials may be compared.
    """
    names = varied(record)
    trials = [trial for trial, _ in comparable(record)]
    if len(names) < 2 or len(trials) < MIN_TRIALS_FOR_IMPORTANCE:
        return None
    from scipy import stats

    scales = [scale(record, name) for name in names]
    x = np.array([[_feature(t, s) for s in scales] for t in trials])
    y = stats.rankdata(scores(record))
    if np.ptp(y) == 0:
        return None
    r2, drops = _permutation_drops(x, y, shuffles)
    order = np.argsort(-drops.mean(axis=1), kind="stable")
    return Importance(
        names=tuple(names[i] for i in order),
        drops=tuple(float(d) for d in drops.mean(axis=1)[order]),
        deviations=tuple(float(d) for d in drops.std(axis=1)[order]),
        r2=r2,
        trials=len(trials),
    )


def _feature(trial: Trial, scale: Scale) -> float:
    place = scale.position(trial.hyperparameters.get(scale.name))
    return -1.0 if place is None else place  # -1: inactive in this trial.


def _permutation_drops(
    x: np.ndarray, y: np.ndarray, shuffles: int
) -> tuple[float, np.ndarray]:
    """Returns the out-of-bag R² and its drops, `(features, shuffles)`."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0)
    forest.fit(x, y)
    unseen = np.array(
        [~np.isin(np.arange(len(y)), s) for s in forest.estimators_samples_]
    )
    r2 = _out_of_bag_r2(forest, unseen, x[None], y)
    generator = np.random.default_rng(0)
    drops = []
    for feature in range(x.shape[1]):
        copies = np.repeat(x[None], shuffles, axis=0)
        copies[:, :, feature] = generator.permuted(
            copies[:, :, feature], axis=1
        )
        drops.append(r2 - _out_of_bag_r2(forest, unseen, copies, y))
    return float(r2[0]), np.array(drops)


def _out_of_bag_r2(
    forest: Any, unseen: np.ndarray, copies: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Returns R² for every copy, `(copies, trials, features)`, of the data."""
    flat = copies.reshape(-1, copies.shape[-1])
    guesses = np.stack([tree.predict(flat) for tree in forest.estimators_])
    guesses = guesses.reshape(len(unseen), len(copies), len(y))
    weights = unseen[:, None, :]
    guess = (guesses * weights).sum(0) / np.maximum(weights.sum(0), 1)
    residual = ((guess - y) ** 2).mean(axis=1)
    return 1 - residual / y.var()


def heat_map(record: Record) -> HeatMap | None:
    """Best score by batch size and learning rate, None if either is fixed."""
    if not {"batch_size", "learning_rate"} <= set(varied(record)):
        return None
    groups = batch_groups(record)
    rows = sorted(set(groups.values()))
    rates = [r for r in distinct(values(record, "learning_rate")) if r > 0]
    columns = tuple(rates) if len(rates) <= 8 else ()
    edges = () if columns else _log_edges(rates[0], rates[-1])
    shape = len(rows), len(columns) or len(edges) - 1
    best = np.full(shape, math.nan)
    completed, pruned, lost = np.zeros((3, *shape), int)
    ranked = [trial for trial, _ in comparable(record)]
    for trial in record.trials:
        size = trial.hyperparameters.get("batch_size")
        rate = trial.hyperparameters.get("learning_rate")
        if size is None or rate is None or rate <= 0:
            continue
        cell = rows.index(groups[size]), _column(rate, columns, edges)
        if trial.score is None:
            lost[cell] += 1
            continue
        if trial not in ranked:
            pruned[cell] += 1
            continue
        completed[cell] += 1
        if math.isnan(best[cell]) or better(trial.score, best[cell], record):
            best[cell] = trial.score
    return HeatMap(tuple(rows), edges, columns, best, completed, pruned, lost)


def _log_edges(low: float, high: float) -> tuple[float, ...]:
    bins = min(max(round(2 * math.log10(high / low)), 3), 7)
    return tuple(float(edge) for edge in np.geomspace(low, high, bins + 1))


def _column(
    rate: float, columns: Sequence[float], edges: Sequence[float]
) -> int:
    if columns:
        return columns.index(rate)
    # The inner edges: rounding may put the outer ones inside the data.
    return bisect.bisect_right(edges, rate, 1, len(edges) - 1) - 1


def rank_correlation(record: Record, name: str) -> float | None:
    """Spearman's correlation of a hyperparameter with the quality.

    Positive where larger values go with better scores, in either direction
    of the objective.
    """
    pairs = [
        (t.hyperparameters[name], score)
        for t, score in comparable(record)
        if t.hyperparameters.get(name) is not None
    ]
    if len(pairs) < 5 or any(len(set(c)) < 2 for c in zip(*pairs, strict=True)):
        return None
    from scipy import stats

    found = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    return found if record.maximizes else -found


def level_medians(record: Record, scale: Scale) -> dict[Any, float]:
    """Returns the median score of every category that has one."""
    found: dict[Any, list[float]] = {level: [] for level in scale.levels}
    for trial, score in comparable(record):
        level = trial.hyperparameters.get(scale.name)
        if level is not None:
            found[level].append(score)
    return {k: statistics.median(v) for k, v in found.items() if v}


def learning_rate(trial: Trial) -> float | None:
    """Returns a trial's learning rate, as chosen or as first logged."""
    rate = trial.hyperparameters.get("learning_rate")
    if rate is None:
        logged = trial.runs[0].curves.get("learning_rate", ())
        rate = next((r for r in logged if r is not None), None)
    return rate


def quality(record: Record) -> dict[str, float]:
    """Returns, by trial, the share of trials not better than it."""
    ranked = scores(record)
    last = max(len(ranked) - 1, 1)
    # Of equal scores the first, so that ties have equal quality.
    return {t.id: 1 - ranked.index(s) / last for t, s in comparable(record)}


def metric_value(found: Mapping[str, Any], metric: str) -> float | None:
    """Returns a metric under its own or another of its names."""
    metric = _words.bare_metric(metric)
    value = found.get(metric)
    if value is None:
        words = _words.metric(metric)
        value = next(
            (v for name, v in found.items() if _words.metric(name) == words),
            None,
        )
    return value


def wilson(fraction: float, examples: int) -> tuple[float, float]:
    """Returns Wilson's 95% interval of a share of correct answers."""
    z = 1.959964
    center = (fraction + z * z / (2 * examples)) / (1 + z * z / examples)
    half = (z / (1 + z * z / examples)) * math.sqrt(
        fraction * (1 - fraction) / examples + (z / (2 * examples)) ** 2
    )
    return center - half, center + half


def lost(record: Record) -> list[Trial]:
    """Returns the trials that diverged or failed."""
    return [t for t in record.trials if t.status in (DIVERGED, FAILED)]
