"""The tables of a report."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from kerascomp.studies import _analysis, _rates, _words
from kerascomp.studies._records import COMPLETED, Record, Trial


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its title and a text for every row."""

    title: str
    cells: Sequence[str]
    numeric: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as columns; the first column names the rows."""

    caption: str
    columns: Sequence[Column]
    marked: int | None = None  # The row that stands out.

    @property
    def rows(self) -> list[list[tuple[str, bool]]]:
        """The cells of every row, each with whether it is numeric."""
        lists = [[(c, col.numeric) for c in col.cells] for col in self.columns]
        return [list(row) for row in zip(*lists, strict=True)]


def trials(record: Record, shown: Sequence[Trial], caption: str) -> Table:
    """Lists trials with their choices, scores and costs."""
    best = record.best
    marked = next((i for i, t in enumerate(shown) if t is best), None)
    columns = [
        Column("trial", [_words.clean(t.id) for t in shown]),
        *(_hyperparameter(record, shown, name) for name in record.tuned),
        _numbers(_words.metric(record.objective), [t.score for t in shown]),
    ]
    if any(t.interval() for t in shown):
        columns.append(
            _numbers("± 95%", [_half_width(t) for t in shown], digits=2)
        )
        counts = [float(len(t.runs)) for t in shown]
        columns.append(_numbers(f"{_analysis.repeats(record)}s", counts))
    columns += [
        _numbers("best epoch", [_best_epoch(t) for t in shown]),
        _numbers("epochs", [float(_analysis.epochs_trained(t)) for t in shown]),
        _numbers("seconds", [t.seconds for t in shown], digits=3),
    ]
    statuses = [_status(t) for t in shown]
    if any(status != COMPLETED for status in statuses):
        columns.append(Column("status", statuses))
    messages = [_words.short(_words.clean(t.message), 200) for t in shown]
    if any(messages):
        columns.append(Column("message", messages))
    return Table(caption, columns, marked)


def comparison(record: Record, best: dict[str, Any]) -> Table | None:
    """Sets the best model beside the baselines; None without baselines."""
    found = record.study.get("baselines") or []
    rows = [(b.get("name", ""), b) for b in found]
    if not rows or record.best is None:
        return None
    rows.insert(0, ("best model", _best_model(record, best["metrics"])))
    metric = _words.bare_metric(record.objective)
    metrics = [metric] + [n for n in ("accuracy", "loss") if n != metric]
    columns = [Column("model", [_words.label(name) for name, _ in rows])]
    for name in metrics:
        for part in ("validation", "test"):
            values = [
                _analysis.metric_value(row.get(part) or {}, name)
                for _, row in rows
            ]
            if any(value is not None for value in values):
                title = f"{part} {_words.metric(name)}"
                columns.append(_numbers(title, values))
    notes = [_notes(row) for _, row in rows]
    if any(notes):
        columns.append(Column("note", notes))
    return Table("The best model and the baselines", columns, marked=0)


def parity(best: dict[str, Any]) -> Table | None:
    """Lists the formats of the saved model and how far they agree."""
    formats = best["parity"].get("formats") or {}
    if not formats:
        return None
    found = list(formats.values())
    differences = [f.get("max_abs_difference") for f in found]
    columns = [
        Column("format", [_words.file_format(name) for name in formats]),
        Column("result", [_words.value(f.get("status")) for f in found]),
        Column(
            "largest difference",
            [_words.number(d, 2) for d in differences],
            numeric=True,
        ),
    ]
    reasons = [_words.clean(f.get("reason") or "") for f in found]
    if any(reasons):
        columns.append(Column("note", reasons))
    return Table("Formats of the saved model", columns)


def batch_sizes(rows: list[_analysis.BatchSize]) -> Table | None:
    """Lists speed, quality and way to the target by batch size."""
    if not rows:
        return None
    reaches = [row.reach for row in rows]
    columns = [
        Column("batch size", [f"{row.batch_size:,}" for row in rows], True),
        _numbers("trials", [float(row.trials) for row in rows]),
        *(
            [_numbers("ended early", [float(row.pruned) for row in rows])]
            if any(row.pruned for row in rows)
            else []
        ),
        Column("diverged", [f"{r.diverged_share:.0%}" for r in rows], True),
        _numbers("best score", [row.best for row in rows]),
        _numbers("median score", [row.median for row in rows]),
        _numbers("updates per epoch", [r.updates_per_epoch for r in rows]),
        _numbers("seconds per epoch", [r.seconds_per_epoch for r in rows], 3),
        Column(
            "examples per second",
            [_words.number(r.examples_per_second, 3) for r in rows],
            True,
        ),
        _numbers(
            "updates to target", [r.updates if r else None for r in reaches]
        ),
        _numbers(
            "seconds to target", [r.seconds if r else None for r in reaches], 3
        ),
    ]
    rates = [r.learning_rate if r else None for r in reaches]
    if any(rate is not None for rate in rates):
        texts = [_words.number(rate, 2) for rate in rates]
        columns.append(Column("learning rate to target", texts, True))
    return Table("Trials by batch size", columns)


def ranges(found: list[_rates.Range], record: Record) -> Table | None:
    """Lists the stable learning rates by batch size."""
    if not found:
        return None
    rates: dict[str, list[float | None]] = {
        "next below": [r.below for r in found],
        "lowest stable": [r.low for r in found],
        "highest stable": [r.high for r in found],
        "next above": [r.above for r in found],
    }
    metric = record.objective
    return Table(
        "Stable learning rates by batch size",
        [
            Column("batch size", [f"{r.batch_size:,}" for r in found], True),
            _numbers("trials judged", [float(len(r.tried)) for r in found]),
            Column(
                "best score",
                [_words.score(r.best, metric) for r in found],
                True,
            ),
            *(
                Column(title, [_words.number(v, 2) for v in values], True)
                for title, values in rates.items()
            ),
            Column(
                "decades, at least", [f"{r.least:.2f}" for r in found], True
            ),
            Column(
                "at most",
                [
                    _words.DASH if r.most is None else f"{r.most:.2f}"
                    for r in found
                ],
                True,
            ),
        ],
    )


def space(record: Record) -> Table | None:
    """Lists what the study was free to choose."""
    found = record.study["settings"]["space"]
    if not found:
        return None
    configs = [(item or {}).get("config") or {} for item in found.values()]
    return Table(
        "Search space",
        [
            Column("hyperparameter", [_words.label(name) for name in found]),
            Column(
                "kind",
                [
                    _words.clean((item or {}).get("class_name", "")).lower()
                    for item in found.values()
                ],
            ),
            Column("values", [_space_values(config) for config in configs]),
            Column(
                "sampling",
                [_words.clean(c.get("sampling") or "") for c in configs],
            ),
        ],
    )


def _hyperparameter(
    record: Record, shown: Sequence[Trial], name: str
) -> Column:
    found = [t.hyperparameters.get(name) for t in shown]
    if _analysis.scale(record, name).kind == "linear":
        return _numbers(_words.label(name), found, digits=3)
    numeric = not any(isinstance(v, str | bool) for v in found)
    return Column(_words.label(name), [_words.value(v) for v in found], numeric)


def _numbers(
    title: str, values: Sequence[float | None], digits: int = 4
) -> Column:
    return Column(title, _words.column(list(values), digits), numeric=True)


def _status(trial: Trial) -> str:
    if trial.score is not None and trial.pruned_epoch is not None:
        return "ended early"
    return _words.clean(trial.status)


def _half_width(trial: Trial) -> float | None:
    interval = trial.interval()
    return None if interval is None else (interval[1] - interval[0]) / 2


def _best_epoch(trial: Trial) -> float | None:
    """Returns the best epoch of the first run, counted from 1."""
    epoch = trial.runs[0].best_epoch
    return None if epoch is None else float(epoch + 1)


def _best_model(record: Record, saved: dict[str, Any]) -> dict[str, Any]:
    """Returns the best model's metrics, from curves where they are needed.

    A model of one fold has seen most of the validation part, so that only the
    folds themselves say how good it is.
    """
    folds = _analysis.repeats(record) == "fold"
    if record.best is None or (saved and not folds):
        return saved
    runs = record.best.runs if folds else record.best.runs[:1]
    names = [name for name in runs[0].curves if name.startswith("val_")]
    values = {
        name: [_analysis.at_best(run, name) for run in runs] for name in names
    }
    means = {
        _words.bare_metric(name): statistics.fmean(known)
        for name, found in values.items()
        if (known := [value for value in found if value is not None])
    }
    note = f"Validation: mean over {len(runs)} folds." if folds else ""
    return {**saved, "validation": means, "note": note}


def _notes(row: dict[str, Any]) -> str:
    notes = row.get("notes") or row.get("note") or ()
    return _words.clean(notes if isinstance(notes, str) else " ".join(notes))


def _space_values(config: dict[str, Any]) -> str:
    if "values" in config:
        return _words.value(config["values"])
    if config.get("min_value") is not None:
        ends = config["min_value"], config.get("max_value")
        return " to ".join(_words.value(end) for end in ends)
    return _words.value(config.get("value", config.get("default")))
