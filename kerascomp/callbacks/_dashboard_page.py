"""The page of the dashboard: one HTML file that needs no other."""

import html
import importlib.resources
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerascomp import _colors
from kerascomp.callbacks import _charts

_REFRESH_SECONDS = 10
# Where the colors of a heat map lie on viridis: the highest numbers stand out
# most from the page.
_RAMPS = {"light": (0.95, 0.0), "dark": (0.12, 1.0)}


class Verdict(NamedTuple):
    """What a monitor says."""

    source: str
    text: str

    @property
    def mood(self) -> str:
        """The class that colors it."""
        if self.text.startswith(("healthy", "steady")):
            return "well"
        return "" if self.text.startswith("undecided") else "ill"


class Picture(NamedTuple):
    """Some series along one axis.

    Attributes:
        title: What they show.
        axis: `"epoch"` or `"step"`.
        x: The numbers along it.
        series: What to draw, by name.
        log: Whether on a logarithmic scale.
    """

    title: str
    axis: str
    x: np.ndarray
    series: Mapping[str, np.ndarray]
    log: bool


class Page(NamedTuple):
    """All that is on the page.

    Attributes:
        title: The heading.
        kind: The line above it.
        running: Whether there is more to come.
        summary: Short facts for the line below.
        facts: Label, number and note of each large one.
        verdicts: Of the monitors.
        sections: Titles, each with its pictures.
    """

    title: str
    kind: str
    running: bool
    summary: Sequence[str]
    facts: Sequence[tuple[str, str, str]]
    verdicts: Sequence[Verdict]
    sections: Sequence[tuple[str, Sequence[Picture]]]


def render(page: Page) -> str:
    """Returns the HTML of a page."""
    folder = importlib.resources.files("kerascomp.callbacks")
    text = (folder / "templates" / "dashboard.html").read_text("utf-8")
    refresh = f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">'
    levels = ", ".join(f"var(--heat-{n})" for n in range(_charts.LEVELS))
    return string.Template(text).substitute(
        refresh=refresh if page.running else "",
        light=_variables("light"),
        dark=_variables("dark"),
        gradient=f"linear-gradient(to right, {levels})",
        title=html.escape(page.title),
        kind=html.escape(page.kind),
        summary="".join(
            f"<span>{html.escape(part)}</span>" for part in page.summary
        ),
        body=_facts(page) + _verdicts(page) + _sections(page),
    )


def _variables(theme: str) -> str:
    column = ("light", "dark").index(theme)
    colors = {name: pair[column] for name, pair in _colors.PAGE.items()}
    for number, color in enumerate(_colors.LINES[theme]):
        colors[f"line-{number}"] = color
    for number, color in enumerate(
        _colors.ramp(_charts.LEVELS, *_RAMPS[theme])
    ):
        colors[f"heat-{number}"] = color
    return " ".join(f"--{name}: {color};" for name, color in colors.items())


def _facts(page: Page) -> str:
    if not page.facts:
        return ""
    parts = (
        f'<div><dt>{html.escape(label)}</dt><dd class="value">'
        f"{html.escape(value)}</dd><dd>{html.escape(note)}</dd></div>"
        for label, value, note in page.facts
    )
    return f'<dl class="facts">{_joined(parts)}</dl>\n'


def _verdicts(page: Page) -> str:
    if not page.verdicts:
        return ""
    parts = (
        f'<div class="{verdict.mood}"><dt>{html.escape(verdict.source)}</dt>'
        f"<dd>{html.escape(_sentence(verdict.text))}</dd></div>"
        for verdict in page.verdicts
    )
    return (
        f'<section><h2>Verdicts</h2><dl class="verdicts">{_joined(parts)}'
        "</dl></section>\n"
    )


def _sections(page: Page) -> str:
    parts = []
    for title, pictures in page.sections:
        shown = [part for part in map(_figure, pictures) if part]
        if shown:
            parts.append(
                f"<section><h2>{html.escape(title)}</h2>"
                f'<div class="plots">{_joined(shown)}</div></section>\n'
            )
    return "".join(parts)


def _figure(picture: Picture) -> str:
    if len(picture.series) > _charts.MAX_LINES:
        return _heat_map(picture)
    svg = _charts.lines(picture.x, picture.series, picture.log)
    entries = []
    for number, (name, values) in enumerate(picture.series.items()):
        last = _charts.number(float(values[-1]))
        entries.append(
            f'<li><i style="background: var(--line-{number})"></i>'
            f"{html.escape(name)} <b>{last}</b></li>"
        )
    legend = f'<ul class="legend">{_joined(entries)}</ul>'
    return _framed(picture, svg, legend) if svg else ""


def _heat_map(picture: Picture) -> str:
    svg, ends = _charts.heat_map(picture.x, picture.series, picture.log)
    low, high = map(_charts.number, ends)
    legend = f'<div class="scale">{low}<i></i>{high}</div>'
    return _framed(picture, svg, legend) if svg else ""


def _framed(picture: Picture, svg: str, legend: str) -> str:
    title = html.escape(picture.title)
    scale = ", logarithmic" if picture.log else ""
    alt = html.escape(
        f"{picture.title} by {picture.axis}: {', '.join(picture.series)}"
    )
    return (
        f"<figure><h3>{title} <small>by {picture.axis}{scale}</small></h3>"
        f'<div role="img" aria-label="{alt}">{svg}</div>{legend}'
        f"{_gaps(picture)}</figure>"
    )


def _gaps(picture: Picture) -> str:
    """Says where a number was infinite or, among others, NaN."""
    known = np.array([np.isfinite(v).any() for v in picture.series.values()])
    table = np.stack([*picture.series.values()])[known]
    bad = np.flatnonzero(~np.isfinite(table).all(axis=0))
    if not known.any() or not bad.size:
        return ""
    more = f" and {bad.size - 1} more" if bad.size > 1 else ""
    return (
        f"<figcaption>not finite at {picture.axis} {picture.x[bad[0]]:g}{more}"
        "</figcaption>"
    )


def _sentence(text: str) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if re.search(r"[.!?]$", text) else f"{text}."


def _joined(parts: Iterable[Any]) -> str:
    return "\n".join(parts)
