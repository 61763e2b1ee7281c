"""The pictures of a report: title, plot, alternative text and caption."""

import dataclasses
import functools

import numpy as np

from kerascomp.studies import _analysis, _plots, _words
from kerascomp.studies._analysis import HeatMap, Importance, Scale
from kerascomp.studies._records import DIVERGED, Record, Trial


@dataclasses.dataclass(frozen=True)
class Picture:
    """A plot in words and lines; without `svg` the caption says why."""

    key: str
    title: str
    caption: str
    alt: str = ""
    svg: str = ""
    wide: bool = False


def search(record: Record, baselines: dict[str, float]) -> list[Picture]:
    """Returns the pictures of what the search tried and found."""
    if not record.trials:
        return []
    names = _analysis.varied(record) if record.best else []
    slices = [
        _slice(record, f"slice-{index}", _analysis.scale(record, name))
        for index, name in enumerate(names)
    ]
    maps = [_heat_map(record)]
    if record.best:
        maps += [_parallel(record), _importance(record)]
    return [
        _history(record, baselines),
        *slices,
        *(picture for picture in maps if picture),
    ]


def curves(record: Record) -> list[Picture]:
    """Returns the pictures of the quality over the epochs."""
    pictures = [_curves(record), _best_curves(record)]
    return [picture for picture in pictures if picture]


def batch_sizes(rows: list[_analysis.BatchSize]) -> list[Picture]:
    """Returns the picture of the way to the target by batch size."""
    reached = [row for row in rows if row.reach]
    if len(reached) < 2:
        return []
    says = " ".join(
        part
        for part in (
            _scaling(reached[0], reached[-1]),
            _soonest(reached),
            _power(reached),
            _bend(reached),
        )
        if part
    )
    svg = _plots.time_to_target("target", rows)
    return [
        Picture(
            "target",
            "Updates and seconds to the target",
            "Lower is sooner. Left, parallel to the dashed line every "
            "doubling of the batch size halves the updates; where the curve "
            f"lies above it, larger batches are partly wasted. {says}",
            f"Two line plots over batch size. {says}",
            svg,
        )
    ]


def gradients(record: Record) -> list[Picture]:
    """Returns the picture of the gradient norms, if any were recorded."""
    runs = [
        trial.runs[0]
        for trial in record.trials
        if trial.runs[0].curves.get("grad_norm")
    ]
    if not any(
        np.isfinite(_analysis.curve(r, "grad_norm")[1]).any() for r in runs
    ):
        return []
    svg = _plots.gradients("gradients", record, runs)
    largest = max(
        (float(np.nanmax(found)), run.trial)
        for run in runs
        for found in [_analysis.curve(run, "grad_norm")[1]]
        if np.isfinite(found).any()
    )
    says = (
        f"The largest mean of an epoch is {_words.number(largest[0], 3)}, in "
        f"trial {largest[1]}. {_divergence(record)}"
    ).strip()
    return [
        Picture(
            "gradients",
            "Gradient norms",
            f"Each line is one trial (its first {_analysis.repeats(record)}): "
            "the norm of the "
            "gradient, averaged over an epoch. Triangles mark the largest "
            f"single step, crosses the end of diverged trials. {says}",
            f"Line plot of gradient norms over epochs. {says}",
            svg,
        )
    ]


def _history(record: Record, baselines: dict[str, float]) -> Picture:
    shown = _plots.shown_baselines(record, baselines)
    svg = _plots.history("history", record, shown)
    says = _history_says(record)
    beyond = [
        f"{_words.label(name)} ({_words.score(value, record.objective)})"
        for name, value in baselines.items()
        if name not in shown
    ]
    if beyond:
        says += f" Outside the plot: {_words.listing(beyond)}."
    if baselines and _analysis.repeats(record) == "fold":
        says += (
            " Trials were validated on folds, the baselines on the validation "
            "part alone."
        )
    return Picture(
        "history",
        "History",
        f"Each dot is a trial, the line the best score so far. {says}",
        f"Dot plot of {_words.metric(record.objective)} by trial. {says}",
        svg,
    )


def _history_says(record: Record) -> str:
    count = len(record.trials)
    if record.best is None:
        return f"No trial of {count} has a score."
    position = record.trials.index(record.best) + 1
    best = _words.score(record.best.score, record.objective)
    says = (
        f"The best score, {best}, came with trial {record.best.id}, number "
        f"{position} of {count}."
    )
    if count - position == 1:
        says += " The one after it did not improve on it."
    elif count > position:
        says += (
            f" The {_words.count(count - position, 'trial')} after it did "
            "not improve on it."
        )
    elif count > 1:
        says += " It was the last one, so more trials may find a better one."
    return says


def _slice(record: Record, key: str, scale: Scale) -> Picture:
    name = _words.label(scale.name)
    svg = _plots.slice_of(key, record, scale)
    if scale.kind == "categories":
        reading = "Each dot is a trial, each bar the median of a value."
        says = _levels_say(record, scale)
    else:
        reading = "Each dot is a trial."
        says = _range_says(record, scale)
    return Picture(
        key,
        _words.sentence(name),
        f"{reading} {says}".strip(),
        f"Dot plot of {_words.metric(record.objective)} by {name}. {says}",
        svg,
    )


def _levels_say(record: Record, scale: Scale) -> str:
    medians = _analysis.level_medians(record, scale)
    if len(medians) < 2:
        return ""
    order = sorted(medians, key=medians.__getitem__, reverse=record.maximizes)
    first, last = (
        f"{_words.value(level)} "
        f"({_words.score(medians[level], record.objective)})"
        for level in (order[0], order[-1])
    )
    return f"{first} has the best median, {last} the worst."


def _range_says(record: Record, scale: Scale) -> str:
    trials = [
        t
        for t, _ in _analysis.comparable(record)
        if t.hyperparameters.get(scale.name) is not None
    ]
    if not trials:
        return ""
    says = []
    if len(trials) >= 8:
        quarter = trials[: max(len(trials) // 4, 2)]
        found = [t.hyperparameters[scale.name] for t in quarter]
        says.append(
            f"The best {len(quarter)} of {len(trials)} trials lie between "
            f"{_words.number(min(found), 3)} and "
            f"{_words.number(max(found), 3)}."
        )
    correlation = _analysis.rank_correlation(record, scale.name)
    if correlation is not None:
        text = f"{correlation:+.2f}".replace("-", "\N{MINUS SIGN}")
        says.append(f"Rank correlation with quality: {text}.")
    best = trials[0].hyperparameters[scale.name]
    if scale.at_edge(best):
        says.append(
            f"The best value, {_words.number(best, 3)}, lies at the edge of "
            "the range: better ones may lie beyond."
        )
    return " ".join(says)


def _heat_map(record: Record) -> Picture | None:
    found = _analysis.heat_map(record)
    if found is None:
        return None
    svg = _plots.heat_map(
        "heat-map", found, _cell_quality(record, found), record.objective
    )
    says = _cells_say(record, found)
    return Picture(
        "heat-map",
        "Learning rate by batch size",
        "Each cell holds the best score of its trials and how many there "
        "were; the color is its rank among all trials. Blank cells were not "
        f"tried. {says}",
        f"Heat map of {_words.metric(record.objective)}. {says}",
        svg,
    )


def _cell_quality(record: Record, found: HeatMap) -> np.ndarray:
    """Returns the share of trials that are not better than a cell's best."""
    shares = _analysis.quality(record)
    by_score = {
        score: shares[t.id] for t, score in _analysis.comparable(record)
    }
    return np.vectorize(lambda score: by_score.get(score, 0.0), otypes=[float])(
        found.best
    )


def _cells_say(record: Record, found: HeatMap) -> str:
    signed = found.best if record.maximizes else -found.best
    rows = [row for row in range(len(found.rows)) if found.completed[row].any()]
    if not rows:
        return "No trial completed."
    peaks = {row: int(np.nanargmax(signed[row])) for row in rows}
    best = max(rows, key=lambda row: signed[row, peaks[row]])
    score = float(found.best[best, peaks[best]])
    says = (
        f"The best cell is batch size {found.rows[best]} with a learning rate "
        f"of {found.span(peaks[best])}: "
        f"{_words.score(score, record.objective)}."
    )
    if len(rows) > 1:
        each = [
            f"{found.span(peaks[row])} at {found.rows[row]}" for row in rows
        ]
        says += f" Best learning rate by batch size: {'; '.join(each)}."
    return says


def _parallel(record: Record) -> Picture | None:
    names = _analysis.varied(record)
    if len(names) < 2:
        return None
    scales = [_analysis.scale(record, name) for name in names]
    quality = _analysis.quality(record)
    svg = _plots.parallel("parallel", record, scales, quality)
    best = _analysis.comparable(record)[0][0]
    says = f"The best trial has {hyperparameters(best, names)}."
    return Picture(
        "parallel",
        "All hyperparameters at once",
        "Each line is a trial, from its hyperparameters on the left "
        "to its score on the right; the thick one is the best. Where dark or "
        "bright lines bundle, quality depends on that axis. " + says,
        f"Parallel coordinates of {_words.count(len(quality), 'trial')}. "
        f"{says}",
        svg,
        wide=len(names) > 5,
    )


def hyperparameters(trial: Trial, names: list[str]) -> str:
    """Writes a trial's choices: "batch size 32 and dropout 0.2"."""
    return _words.listing(
        [
            f"{_words.label(n)} {_words.value(trial.hyperparameters.get(n))}"
            for n in names
        ]
    )


def _importance(record: Record) -> Picture:
    picture = functools.partial(Picture, "importance", "Importance")
    names = _analysis.varied(record)
    if len(names) < 2:
        return picture(
            "Needs two hyperparameters that vary; this study varies "
            f"{_words.listing([_words.label(n) for n in names]) or 'none'}."
        )
    found = _analysis.importance(record)
    if found is None:
        completed = len(_analysis.scores(record))
        least = _analysis.MIN_TRIALS_FOR_IMPORTANCE
        which = " that were not ended early" if _analysis.pruned(record) else ""
        reason = (
            f"Needs {least} completed trials{which}; there are {completed} so "
            "far."
        )
        if completed >= least:
            reason = "All trials have the same score: nothing to explain."
        return picture(reason)
    svg = _plots.importance("importance", found)
    says = (
        f"{_words.sentence(_words.label(found.names[0]))} matters most "
        f"({_words.number(found.drops[0], 2)}). {_trust(found)}"
    )
    return picture(
        "How much a random forest's prediction of a trial's rank worsens when "
        "one hyperparameter is shuffled (permutation importance, judged by "
        f"trees that have not seen the trial); thin lines span the standard "
        f"deviation over shuffles. {says}",
        f"Bar plot of importance. {says}",
        svg,
    )


def _trust(found: Importance) -> str:
    r2 = _words.number(round(found.r2, 2), 2)
    fit = f"The forest's out-of-bag R² over {found.trials} trials is {r2}"
    if found.r2 < 0.1:
        return f"{fit}: it predicts next to nothing, so ignore the bars."
    if found.r2 < 0.5:
        return f"{fit}: a weak prediction, so read the order with care."
    return f"{fit}, a usable prediction."


def _curves(record: Record) -> Picture | None:
    if not any(
        r.curves.get(record.objective) for t in record.trials for r in t.runs
    ):
        return None
    svg = _plots.curves("curves", record)
    says = "No trial has completed."
    if record.best:
        says = f"The best trial peaks {_peak(record.best)}."
    says = f"{says} {_went_on(record)}".strip()
    metric = _words.metric(record.objective)
    return Picture(
        "curves",
        "Learning curves of all trials",
        f"The {metric} after every epoch, one line a run. {says}",
        f"Line plot of {metric} by epoch. {says}",
        svg,
    )


def _went_on(record: Record) -> str:
    """Says when trials were ended early, and how many went on."""
    rungs = _analysis.rungs(record)
    if not rungs:
        return ""
    steps = [
        f"after epoch {rung.epoch}, {rung.kept} of {rung.compared}"
        for rung in rungs
    ]
    ended = sum(rung.compared - rung.kept for rung in rungs)
    whole = sum(
        t.score is not None and t.pruned_epoch is None for t in record.trials
    )
    return (
        f"Halving ended {_words.count(ended, 'trial')} early, where the curves "
        f"end in a hollow dot; trials that went on: {_words.listing(steps)}. "
        f"{_words.count(whole, 'trial')} completed all epochs."
    )


def _peak(trial: Trial) -> str:
    last = _analysis.epochs_trained(trial)
    epochs = sorted(
        {run.best_epoch + 1 for run in trial.runs if run.best_epoch is not None}
    )
    if not epochs:
        return "at an unknown epoch"
    where = f"at epoch {epochs[0]}"
    if len(epochs) > 1:
        where = f"between epochs {epochs[0]} and {epochs[-1]}"
    if epochs[-1] >= last > 1:
        return f"{where}, its last: longer training may help"
    return f"{where} of {last}"


def _best_curves(record: Record) -> Picture | None:
    trial = record.best
    if trial is None or not _plots.best_metrics(record, trial):
        return None
    svg = _plots.best_curves("best-curves", record, trial)
    says = _gap(record, trial)
    return Picture(
        "best-curves",
        f"Training and validation of the best trial, {trial.id}",
        "A validation curve that turns while the training curve goes on "
        "is overfitting. " + says,
        f"Line plots of training and validation by epoch. {says}",
        svg,
    )


def _gap(record: Record, trial: Trial) -> str:
    """Says how far training is ahead of validation at the best epoch."""
    name = _plots.best_metrics(record, trial)[0]
    pairs = [
        [_analysis.at_best(run, metric) for metric in (name, f"val_{name}")]
        for run in trial.runs
    ]
    known = [pair for pair in pairs if None not in pair]
    if not known:
        return ""
    training, validation = np.mean(np.array(known, float), axis=0)
    gap = training - validation
    direction = "above" if gap > 0 else "below"
    says = (
        f"At the best epoch, training {_words.metric(name)} is "
        f"{_words.score(training, name)}, {_words.gap(gap, name)} {direction} "
        f"validation ({_words.score(validation, name)})."
    )
    rises = record.maximizes and name == _words.bare_metric(record.objective)
    if gap and (gap < 0) == rises:
        says += (
            " Training is measured while the epoch runs, with dropout on, and "
            "may therefore look worse."
        )
    return says


def _scaling(first: _analysis.BatchSize, last: _analysis.BatchSize) -> str:
    """Compares the smallest batch size with the largest."""
    parts = []
    for what in ("updates", "seconds"):
        pair = [getattr(row.reach, what) for row in (first, last)]
        if all(pair):
            numbers = " to ".join(_words.number(p, 3) for p in pair)
            parts.append(f"the {what} from {numbers}")
    if not parts:
        return ""
    return (
        f"Going from batch size {first.batch_size} to {last.batch_size} "
        f"changes {_words.listing(parts)}."
    )


def _soonest(reached: list[_analysis.BatchSize]) -> str:
    """Names the batch size that reaches the target in the least time."""
    times = [
        (row.reach.seconds, row)
        for row in reached
        if row.reach and row.reach.seconds is not None
    ]
    if not times:
        return ""
    seconds, row = min(times, key=lambda pair: pair[0])
    rate = row.reach.learning_rate if row.reach else None
    at = f" with a learning rate of {_words.number(rate, 2)}" if rate else ""
    return (
        f"Batch size {row.batch_size}{at} is there first, in "
        f"{_words.duration(seconds)}."
    )


def _power(reached: list[_analysis.BatchSize]) -> str:
    power = _analysis.scaling_power(reached)
    if power is None:
        return ""
    number = f"{power:.2f}".replace("-", "\N{MINUS SIGN}")
    return (
        f"Over {len(reached)} batch sizes, the updates go with the batch size "
        f"to the power of {number} (\N{MINUS SIGN}1: perfect scaling; 0: no "
        "gain)."
    )


def _bend(reached: list[_analysis.BatchSize]) -> str:
    """Says where larger batches begin to cost more than they save."""
    found = _analysis.hyperbola(reached)
    if found is None:
        return ""
    steps, examples = found
    if examples <= 0:
        return "Larger batches save no updates here."
    if steps <= 0 or examples / steps > reached[-1].batch_size:
        return (
            f"Up to {reached[-1].batch_size} no critical batch size shows, "
            "from which on larger batches are mostly wasted."
        )
    return (
        "The hyperbola of McCandlish et al. through these numbers puts the "
        "critical batch size, where updates and examples are both twice the "
        f"least possible, at about {_words.number(examples / steps, 2)}."
    )


def _divergence(record: Record) -> str:
    """Compares the learning rates of diverged and completed trials."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for trial in record.trials:
        rate = _analysis.learning_rate(trial)
        if rate is not None:
            found[trial.status == DIVERGED].append(rate)
    diverged, others = found[True], found[False]
    if not diverged:
        return "No trial diverged."
    if not others or len({*diverged, *others}) < 2:
        return f"{_words.count(len(diverged), 'trial')} diverged."
    return (
        f"{_words.count(len(diverged), 'trial')} diverged, with learning "
        f"rates of {_words.number(min(diverged), 2)} and more; the others "
        f"went up to {_words.number(max(others), 2)}."
    )
