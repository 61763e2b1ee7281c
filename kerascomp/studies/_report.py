"""The report of a study: one HTML file that needs nothing else."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerascomp import _files
from kerascomp.studies import _records, _tables, _verdict, _words

_EXTRAS = ("jinja2", "matplotlib", "sklearn")


def write_report(directory: str | Path, path: str | Path | None = None) -> Path:
    """Writes the report of a study, finished or not.

    The same directory gives the same file, byte for byte.

    Args:
        directory: The directory of the study.
        path: Where to write, by default `report.html` in the directory.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: If the directory holds no study.
        ImportError: If the libraries of a report are not installed.
    """
    _require_extras()
    record = _records.read(directory)
    path = record.directory / "report.html" if path is None else Path(path)
    _files.write_text(path, render(record))
    return path


def render(record: _records.Record) -> str:
    """Returns the report as HTML."""
    import jinja2
    from markupsafe import Markup

    from kerascomp.studies import _svg

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    # Made by us alone: text from a study reaches an SVG through matplotlib,
    # which escapes it.
    environment.filters["svg"] = Markup
    environment.filters["css"] = lambda sheet: Markup(
        " ".join(f"{name}: {color};" for name, color in sheet.items())
    )
    template = environment.get_template("report.html")
    html = template.render(_page(record), palette=_svg.palette())
    return _words.clean(html)


def _require_extras() -> None:
    missing = [n for n in _EXTRAS if importlib.util.find_spec(n) is None]
    if missing:
        raise ImportError(
            f"A report needs {_words.listing(missing)}. Install with "
            '`pip install "kerascomp[studies]"`.'
        )


def _page(record: _records.Record) -> dict[str, Any]:
    from kerascomp.studies import _analysis, _figures, _rate_figures, _rates

    study = record.study
    best = read_best(record)
    rows = _analysis.batch_sizes(record)
    ranges = _rates.ranges(record)
    ranked = [trial for trial, _ in _analysis.comparable(record)]
    return {
        "title": _words.clean((study.get("data") or {}).get("name", "Study")),
        "summary": _summary(record),
        "status": _words.clean(study.get("status", "")),
        "facts": _verdict.facts(record, best),
        "verdict": _verdict.sentences(record, best),
        "comparison": _tables.comparison(record, best),
        "parity": _verdict.parity(best),
        "parity_table": _tables.parity(best),
        "lost": _verdict.lost(record),
        "pruned": _verdict.pruned(record),
        "top": _tables.trials(record, ranked[:10], "Best trials"),
        "all": _tables.trials(record, record.trials, "All trials"),
        "search": _figures.search(record, _verdict.baselines(record)),
        "curves": _figures.curves(record),
        "rate_words": _rate_figures.words(record, ranges),
        "rate_table": _tables.ranges(ranges, record),
        "rates": _rate_figures.pictures(record, ranges),
        "batch_table": _tables.batch_sizes(rows),
        "batch_words": _verdict.batch_sizes(record, rows),
        "batch_pictures": _figures.batch_sizes(rows),
        "gradients": _figures.gradients(record),
        "space": _tables.space(record),
        "details": _details(record),
    }


def _summary(record: _records.Record) -> list[str]:
    """Returns the lines below the title."""
    study = record.study
    better = "higher" if record.maximizes else "lower"
    metric = _words.metric(record.objective)
    parts = [f"Objective: {metric}, {better} is better"]
    task = (study.get("data") or {}).get("task")
    if task:
        parts.append(_words.clean(task).capitalize())
    if study.get("updated"):
        parts.append(f"Updated {_moment(study['updated'])}")
    return parts


def read_best(record: _records.Record) -> dict[str, Any]:
    """Reads what `best/` says; empty where it is not there yet."""
    found = {}
    for name in ("metrics", "parity"):
        path = record.directory / "best" / f"{name}.json"
        # The folder may be replaced at any moment.
        try:
            found[name] = _files.read_json(path)
        except (FileNotFoundError, ValueError):
            found[name] = {}
    return found


def _details(record: _records.Record) -> list[tuple[str, list]]:
    """Returns titled lists of names and values: how the study was made."""
    study = record.study
    shown = {
        **{
            name: value
            for name, value in study["settings"].items()
            if name not in ("space", "objective", "data")
        },
        "created": _moment(study.get("created")),
        "updated": _moment(study.get("updated")),
    }
    groups = {
        "Data": study.get("data") or {},
        "Settings": shown,
        "Versions": study.get("versions") or {},
        "Machine": study.get("machine") or {},
    }
    return [
        (
            title,
            [
                (_words.label(k), _detail(v))
                for k, v in group.items()
                if v is not None and v != []
            ],
        )
        for title, group in groups.items()
        if group
    ]


def _detail(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{_words.label(str(name))} {_words.value(v)}"
            for name, v in value.items()
        )
    return _words.short(_words.value(value), 300)


def _moment(time: Any) -> str | None:
    """Writes a time in ISO 8601 for readers, to the minute."""
    return time and _words.clean(time).replace("T", " ")[:16]
