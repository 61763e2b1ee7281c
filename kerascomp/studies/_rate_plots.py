"""Plots of the learning rate by batch size, as SVG."""

from typing import Any

from matplotlib.axes import Axes

from kerascomp.studies import _axes, _rates
from kerascomp.studies._rates import Point, Range
from kerascomp.studies._records import DIVERGED, Record
from kerascomp.studies._svg import (
    BEST,
    INK,
    LEVELS,
    MUTED,
    PAGE,
    TRIAL,
    plot,
    resize,
    token,
)

# Shapes besides colors: lines of neighboring colors cross.
_SHAPES = "osD^vP<>"
_MARKS: dict[str, dict[str, Any]] = {
    _rates.STABLE: {"marker": "o", "color": TRIAL, "markersize": 4.6},
    _rates.WORSE: {
        "marker": "o",
        "color": TRIAL,
        "markerfacecolor": PAGE,
        "markersize": 4.6,
    },
    DIVERGED: {
        "marker": "x",
        "color": INK,
        "markersize": 6,
        "markeredgewidth": 1.6,
    },
}


@plot(height=300)
def by_rate(
    axes: Axes, record: Record, points: dict[int, list[Point]], metric: str
) -> None:
    """Draws the loss, or the score, by learning rate for each batch size."""
    rates = [p.rate for members in points.values() for p in members]
    values = [
        point.value
        for members in points.values()
        for point in members
        if point.value is not None
    ]
    for place, (size, members) in enumerate(points.items()):
        color = token(1, _step(place, len(points)))
        shape = _SHAPES[place % len(_SHAPES)]
        _curve(axes, members, color, shape, f"{size:,}")
        _crosses(axes, members, color, rises=not _falls(record, metric))
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel=_axes.axis_title(metric))
    if _falls(record, metric) and min(values) > 0:
        axes.set_yscale("log")
        _axes.log_ticks(axes.yaxis, min(values), max(values))
    axes.margins(y=0.12)
    _axes.log_ticks(axes.xaxis, min(rates), max(rates))
    _key(axes, points)


def _falls(record: Record, metric: str) -> bool:
    return metric != record.objective or not record.maximizes


def _step(place: int, count: int) -> int:
    """Returns the step of the color scale for a batch size."""
    return _axes.level(place / max(count - 1, 1)) if count > 1 else LEVELS - 1


def _curve(
    axes: Axes, members: list[Point], color: str, shape: str, label: str
) -> None:
    style: dict[str, Any] = {"color": color, "markersize": 4.8}
    axes.plot(
        *_places(members, pruned=False),
        shape + "-",
        linewidth=1.1,
        label=label,
        **style,
    )
    axes.plot(
        *_places(members, pruned=True), shape, markerfacecolor=PAGE, **style
    )


def _places(
    members: list[Point], pruned: bool
) -> tuple[list[float], list[float]]:
    """Returns rates and values, of those that were ended early or not."""
    pairs = [
        (point.rate, point.value)
        for point in members
        if point.value is not None and point.pruned == pruned
    ]
    return [rate for rate, _ in pairs], [value for _, value in pairs]


def _crosses(axes: Axes, members: list[Point], color: str, rises: bool) -> None:
    """Marks diverged trials at the edge where the worst ones are."""
    at = [p.rate for p in members if p.value is None]
    axes.plot(
        at,
        [0.03 if rises else 0.97] * len(at),
        "x",
        color=color,
        markersize=6.5,
        markeredgewidth=1.8,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def _key(axes: Axes, points: dict[int, list[Point]]) -> None:
    members = [p for found in points.values() for p in found]
    if any(p.pruned for p in members):
        axes.plot([], [], "o", color=MUTED, mfc=PAGE, label="ended early")
    if any(p.value is None for p in members):
        axes.plot([], [], "x", color=MUTED, mew=1.8, label="diverged")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        title="batch size",
        title_fontsize=9.5,
        alignment="left",
    )


@plot(height=120)
def ranges(axes: Axes, found: list[Range]) -> None:
    """Draws the stable learning rates of each batch size as a bar."""
    resize(axes, height=100 + 34 * len(found))
    rates = [rate for stable in found for rate, _ in stable.tried]
    ends = min(rates) / 1.25, max(rates) * 1.25
    for row, stable in enumerate(found):
        _bar(axes, row, stable, ends)
        _marks(axes, row, stable)
    axes.set_xscale("log")
    axes.set(xlim=ends, ylim=(-0.6, len(found) - 0.4))
    axes.set(xlabel="learning rate", ylabel="batch size")
    axes.set_yticks(range(len(found)), [f"{r.batch_size:,}" for r in found])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    _axes.log_ticks(axes.xaxis, *ends)
    seen = {status for stable in found for _, status in stable.tried}
    for status, style in _MARKS.items():
        if status in seen:
            words = "near the best" if status == _rates.STABLE else status
            axes.plot([], [], linestyle="none", label=words, **style)
    _axes.legend(axes)


def _bar(
    axes: Axes, row: int, stable: Range, ends: tuple[float, float]
) -> None:
    """Draws the range, and how far it may reach beyond."""
    for inner, outer, edge in (
        (stable.low, stable.below, ends[0]),
        (stable.high, stable.above, ends[1]),
    ):
        axes.plot(
            [inner, edge if outer is None else outer],
            [row, row],
            color=MUTED,
            linewidth=1.4,
            # An open end is dashed, towards the edge of what was tried.
            dashes=(3, 2) if outer is None else (1, 0),
            zorder=1,
        )
    axes.plot(
        [stable.low, stable.high],
        [row, row],
        color=BEST,
        linewidth=9,
        alpha=0.45,
        zorder=1.5,
    )


def _marks(axes: Axes, row: int, stable: Range) -> None:
    """Draws every trial that the range was judged by."""
    for status, style in _MARKS.items():
        rates = [rate for rate, found in stable.tried if found == status]
        axes.plot(rates, [row] * len(rates), linestyle="none", **style)
