"""What a study found, in sentences."""

import dataclasses
from typing import Any

from kerascomp.studies import _analysis, _words
from kerascomp.studies._records import DIVERGED, FAILED, Record, Trial

_STATUS = {
    "running": "The study is still running; this is the state so far.",
    "interrupted": "The study was interrupted. Started again with the same "
    "settings and directory, it goes on where it stopped.",
    "time limit": "The study stopped at its time limit.",
}


@dataclasses.dataclass(frozen=True)
class Fact:
    """A number that stands at the top of the report."""

    label: str
    value: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The best model against the strongest baseline."""

    part: str  # "test", or "validation" where there is no test result.
    ours: float
    theirs: float
    name: str
    gain: float  # Above 0 where the best model is better.


def facts(record: Record, best: dict[str, Any]) -> list[Fact]:
    """Returns the numbers that a reader looks for first."""
    found = []
    metric = record.objective
    if record.best:
        note = _interval(record) or f"trial {record.best.id}"
        score = _words.score(record.best.score, metric)
        found.append(Fact(_words.metric(metric), score, note))
    bare = _words.bare_metric(metric)
    tested = _analysis.metric_value(best["metrics"].get("test") or {}, bare)
    if tested is not None:
        note = "never seen by the search"
        found.append(
            Fact(
                f"test {_words.metric(bare)}", _words.score(tested, bare), note
            )
        )
    versus = compare(record, best)
    if versus:
        found.append(
            Fact(
                f"{versus.name}, {versus.part}",
                _words.score(versus.theirs, bare),
                "strongest baseline",
            )
        )
    lost = [
        f"{_analysis.count(record, status)} {status}"
        for status in (DIVERGED, FAILED)
        if _analysis.count(record, status)
    ]
    early = len(_analysis.pruned(record))
    notes = [*lost, f"{early} ended early"] if early else lost
    found.append(Fact("trials", f"{len(record.trials):,}", ", ".join(notes)))
    seconds = sum(trial.seconds for trial in record.trials)
    found.append(Fact("time of all trials", _words.duration(seconds)))
    return found


def sentences(record: Record, best: dict[str, Any]) -> list[str]:
    """Returns the verdict, one paragraph a string."""
    opening = _STATUS.get(record.study.get("status", ""), "")
    if record.best is None:
        return [p for p in (opening, _nothing(record)) if p]
    return [
        paragraph
        for paragraph in (
            opening,
            f"{_winner(record, record.best)} {_seeds(record)}".strip(),
            f"{_tested(record, best)} {_against(record, best)}".strip(),
            f"{_optimism(record, best)} {_lengths(record)}".strip(),
        )
        if paragraph
    ]


def baselines(record: Record) -> dict[str, float]:
    """Returns the objective that every baseline reaches in validation."""
    found = {}
    for baseline in record.study.get("baselines") or []:
        value = _analysis.metric_value(
            baseline.get("validation") or {}, record.objective
        )
        if value is not None:
            found[str(baseline.get("name", "baseline"))] = value
    return found


def compare(record: Record, best: dict[str, Any]) -> Comparison | None:
    """Compares with the strongest baseline, on the test part if possible."""
    if record.best is None:
        return None
    test = best["metrics"].get("test") or {}
    ours = {
        "test": _analysis.metric_value(test, record.objective),
        "validation": record.best.score,
    }
    for part, own in ours.items():
        if part == "validation" and _analysis.repeats(record) == "fold":
            continue  # Folds are other examples than the baselines' part.
        found = [
            (value, _words.label(str(baseline.get("name", "baseline"))))
            for baseline in record.study.get("baselines") or []
            for value in [
                _analysis.metric_value(
                    baseline.get(part) or {}, record.objective
                )
            ]
            if value is not None
        ]
        if own is not None and found:
            choose = max if record.maximizes else min
            theirs, name = choose(found)
            gain = own - theirs if record.maximizes else theirs - own
            return Comparison(part, own, theirs, name, gain)
    return None


def parity(best: dict[str, Any]) -> str:
    """Says whether the saved formats of the model agree."""
    if not best["metrics"]:
        return "No model has been saved yet."
    formats = best["parity"].get("formats") or {}
    if not formats:
        return "The saved model has not been compared with the trained one."
    statuses = {name: f.get("status") for name, f in formats.items()}
    bad = [_words.file_format(n) for n, s in statuses.items() if s == "failed"]
    good = [_words.file_format(n) for n, s in statuses.items() if s == "passed"]
    samples = best["parity"].get("samples")
    on = f" on {_words.count(samples, 'sample')}" if samples else ""
    if bad:
        return (
            f"Do not ship {_words.listing(bad)}: its predictions differ from "
            f"those of the trained model{on}."
        )
    if not good:
        return "No format of the saved model could be checked."
    return (
        f"The saved model predicts what the trained one did{on}, in "
        f"{_words.listing(good)}."
    )


def lost(record: Record) -> str:
    """Says which trials have no score, and why."""
    trials = _analysis.lost(record)
    if not trials:
        return ""
    parts = []
    for status in (DIVERGED, FAILED):
        ids = [_words.clean(t.id) for t in trials if t.status == status]
        if ids:
            more = f" and {len(ids) - 6} more" if len(ids) > 6 else ""
            named = ", ".join(ids[:6])
            parts.append(f"{len(ids)} {status} ({named}{more})")
    says = f"Without a score: {_words.listing(parts)}."
    message = next((t.message for t in trials if t.status == FAILED), "")
    if message:
        says += f" First failure: {_words.short(_words.clean(message), 160)}"
    return says


def pruned(record: Record) -> str:
    """Says which trials were ended early, and where that counts."""
    trials = _analysis.pruned(record)
    if not trials:
        return ""
    epochs = sorted({t.pruned_epoch for t in trials if t.pruned_epoch})
    when = _words.listing([str(epoch) for epoch in epochs])
    says = (
        f"{len(trials)} of {_words.count(len(record.trials), 'trial')} "
        f"{'was' if len(trials) == 1 else 'were'} ended early, after "
        f"{when} {'epoch' if epochs == [1] else 'epochs'}, when others did "
        "better."
    )
    if len(trials) == len(record.ranked()):
        return f"{says} No other trial has a score."
    return (
        f"{says} Their scores are of shorter trainings, so rankings, medians, "
        "correlations, importance and stable learning rates leave them out; "
        "plots show them hollow."
    )


def batch_sizes(record: Record, rows: list[_analysis.BatchSize]) -> list[str]:
    """Says how the table by batch size is to be read."""
    if not rows:
        return ["The batch size was not a hyperparameter of this study."]
    says = [
        "Speeds are medians, as measured while the trials ran; the first "
        "epoch of a run is left out, since it includes compilation."
    ]
    if record.study["settings"].get("engine"):
        says.append(
            "Trials that trained together share the time of their program's "
            "training steps, so seconds say what a training cost, not how "
            "long it would take alone."
        )
    if any(row.batch_size for row in rows if row.trials) and len(
        _analysis.distinct(_analysis.values(record, "batch_size"))
    ) > len(rows):
        says.append("Batch sizes are rounded to powers of two.")
    goal = _analysis.target(record)
    if goal is not None and any(row.reach for row in rows):
        says.append(
            f"The target is a {_words.metric(record.objective)} of "
            f"{_words.score(goal, record.objective)}, which half of the "
            f"{_all_scored(record)} reach; for each batch size the trial that "
            "reaches it in the fewest updates counts, so that every batch "
            "size is judged with a learning rate that suits it (more trials, "
            "more chances). Epochs are counted in full, since validation "
            "follows them."
        )
    if len(rows) > 1:
        says.append(
            "At equal epochs a small batch makes more updates than a large "
            "one and so tends to score better; the target is the fairer "
            "comparison."
        )
    return [" ".join(says)]


def _all_scored(record: Record) -> str:
    """Names the trials whose scores are compared."""
    if _analysis.pruned(record):
        return "trials that were not ended early"
    return "completed trials"


def _lengths(record: Record) -> str:
    """Warns where the trials did not train equally long."""
    epochs = {
        _analysis.epochs_trained(t) for t, _ in _analysis.comparable(record)
    }
    if len(epochs) < 2:
        return ""
    return (
        f"The completed trials trained for {min(epochs)} to {max(epochs)} "
        "epochs, so a low score may only mean a short training."
    )


def _nothing(record: Record) -> str:
    count = len(record.trials)
    if not count:
        return "No trial has finished yet."
    diverged = _analysis.count(record, DIVERGED)
    if diverged == count:
        return (
            f"{'The only trial' if count == 1 else f'All {count} trials'} "
            "diverged. Lower the learning rates of the space, or clip "
            "gradients; the gradient norms below show how it happened."
        )
    return (
        f"No trial of {count} completed: {diverged} "
        f"diverged and {count - diverged} failed."
    )


def _winner(record: Record, best: Trial) -> str:
    names = [n for n in record.tuned if n in best.hyperparameters]
    completed = len(_analysis.scores(record))
    scored = _all_scored(record)
    rank = f"only one of the {scored}" if completed == 1 else "best"
    among = "" if completed == 1 else f" of {completed} {scored}"
    if completed == 1 and not _analysis.pruned(record):
        rank = "only completed trial"
    epoch = best.runs[0].best_epoch
    where = ""
    if epoch is not None and len(best.runs) == 1:
        where = f" at epoch {epoch + 1} of {_analysis.epochs_trained(best)}"
    choices = [
        f"{_words.label(n)} {_words.value(best.hyperparameters[n])}"
        for n in names
    ]
    chosen = f", with {_words.listing(choices)}" if choices else ""
    mean = "a mean " if len(best.scores) > 1 else ""
    return (
        f"Trial {_words.clean(best.id)} is the {rank}{among}: "
        f"{mean}{_words.metric(record.objective)} "
        f"{_words.score(best.score, record.objective)}{where}{chosen}."
    )


def _interval(record: Record) -> str:
    interval = record.best.interval() if record.best else None
    if interval is None:
        return ""
    ends = [_words.score(end, record.objective) for end in interval]
    return f"95% interval {ends[0]} to {ends[1]}"


def _seeds(record: Record) -> str:
    """Says how sure the score of the best trial is."""
    best, *others = [trial for trial, _ in _analysis.comparable(record)][:2]
    own = best.interval()
    if own is None:
        return ""
    repeats = f"{_analysis.repeats(record)}s"
    says = f"Over {len(best.scores)} {repeats}, the {_interval(record)}."
    if repeats == "folds":
        says = (
            f"{says[:-1]}; folds share training data, so the truth may lie "
            "further off."
        )
    for second in others:
        other = second.interval()
        if other and own[0] <= other[1] and other[0] <= own[1]:
            says += (
                " It overlaps with that of the second best, trial "
                f"{_words.clean(second.id)}: their order may be chance."
            )
    return says


def _tested(record: Record, best: dict[str, Any]) -> str:
    metrics = best["metrics"]
    test = {
        k: v for k, v in (metrics.get("test") or {}).items() if v is not None
    }
    if not test:
        return "There is no test result yet, since no model has been saved."
    objective = _words.bare_metric(record.objective)
    order = sorted(test, key=lambda name: name != objective)
    values = [
        f"{_words.metric(name)} {_words.score(test[name], name)}"
        for name in order
    ]
    size = ((record.study.get("data") or {}).get("sizes") or {}).get("test")
    on = f" ({size:,} examples)" if size else ""
    folds = ""
    if _analysis.repeats(record) == "fold":
        folds = f" (of one fold out of {record.study['settings']['folds']})"
    says = (
        f"On the test part{on}, which the search never saw, the saved model"
        f"{folds} "
        f"reaches {_words.listing(values)}."
    )
    if record.best and metrics.get("trial") != record.best.id:
        says += (
            f" It is the model of trial {_words.clean(metrics.get('trial'))}; "
            "a better trial has completed since."
        )
    return says


def _against(record: Record, best: dict[str, Any]) -> str:
    versus = compare(record, best)
    if versus is None:
        return ""
    metric = _words.bare_metric(record.objective)
    words = _words.metric(metric)
    theirs = f"{versus.name} ({_words.score(versus.theirs, metric)})"
    size = _words.gap(versus.gain, metric)
    # Without a test result the sentence before is not about the model.
    it = "That" if versus.part == "test" else "On the validation part it"
    if versus.gain <= 0:
        worse = "lower" if record.maximizes else "higher"
        how = f"its {words} is {size} {worse}" if versus.gain else "it is equal"
        says = (
            f"The network does not beat {theirs} on the {versus.part} part: "
            f"{how}. The simpler model is the better choice so far."
        )
    elif _words.is_fraction(metric):
        says = f"{it} adds {size} of {words} over {theirs}"
    else:
        share = versus.gain / abs(versus.theirs) if versus.theirs else 0
        verb = "raises" if record.maximizes else "lowers"
        says = (
            f"{it} {verb} the {words} by {size} ({share:.0%}) against {theirs}"
        )
    if versus.gain > 0:
        says += ", the strongest baseline."
    return f"{says} {_chance(record, versus)}".strip()


def _chance(record: Record, versus: Comparison) -> str:
    """Says how far chance alone moves an accuracy on so many examples."""
    sizes = (record.study.get("data") or {}).get("sizes") or {}
    examples = sizes.get(versus.part)
    metric = _words.metric(_words.bare_metric(record.objective))
    if metric != "accuracy" or not examples:
        return ""
    low, high = _analysis.wilson(versus.ours, examples)
    ends = f"{low:.4f} to {high:.4f}"
    inside = low <= versus.theirs <= high
    says = (
        f"On {examples:,} examples the 95% interval of this accuracy is {ends}"
    )
    if inside:
        return f"{says}. It includes the baseline: this may be chance."
    return f"{says}. It excludes the baseline."


def _optimism(record: Record, best: dict[str, Any]) -> str:
    completed = len(record.ranked())
    if completed < 2:
        return ""
    says = (
        "The validation score is the best of "
        f"{_words.count(completed, 'trial')} and therefore optimistic"
    )
    if best["metrics"].get("test"):
        return f"{says}; the test result is the one to quote."
    return f"{says}; only a test result would be free of that."
