"""Plots of a study, as SVG."""

import math
import re
import textwrap
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from kerascomp.studies import _analysis, _axes, _words
from kerascomp.studies._analysis import HeatMap, Importance, Scale
from kerascomp.studies._records import DIVERGED, Record, Run, Trial
from kerascomp.studies._svg import (
    BEST,
    FAINT,
    INK,
    MUTED,
    PAGE,
    TRIAL,
    WIDTH,
    plot,
    resize,
    token,
)

_MAX_POINTS = 120  # Of a curve in the background.


@plot(height=270)
def history(axes: Axes, record: Record, baselines: dict[str, float]) -> None:
    """Draws the objective by trial, the best so far and the baselines."""
    metric = record.objective
    scored = [
        (float(index), t)
        for index, t in enumerate(record.trials, 1)
        if t.score is not None
    ]
    axes.set(xlabel="trial, in order of start", ylabel=_axes.axis_title(metric))
    axes.set_xlim(0.4, max(len(record.trials), 2) + 0.6)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    if scored:
        _trial_dots(axes, scored, label="trial")
        best = _analysis.best_so_far(record)
        steps = [(i, b) for i, b in enumerate(best, 1) if b is not None]
        axes.plot(
            *zip(*steps, strict=True),
            color=BEST,
            linewidth=1.8,
            drawstyle="steps-post",
            label="best so far",
        )
    _axes.score_axis(axes.yaxis, _scores(scored), record)
    _baselines(axes, baselines)
    _axes.lost_marks(
        axes,
        [float(i) for i, t in enumerate(record.trials, 1) if t.score is None],
    )
    _axes.legend(axes)


def _trial_dots(
    axes: Axes, points: list[tuple[float, Trial]], label: str | None = None
) -> None:
    """Draws scores as dots, hollow where a trial was ended early."""
    style: dict[str, Any] = {"color": TRIAL, **_axes.dots(len(points))}
    hollow = {**style, "markerfacecolor": PAGE, "markeredgecolor": TRIAL}
    for early in (False, True):
        shown = [
            (x, trial.score)
            for x, trial in points
            if (trial.pruned_epoch is not None) == early
        ]
        if shown and early:
            hollow["markeredgewidth"] = 1
            axes.plot(
                *zip(*shown, strict=True), "o", label="ended early", **hollow
            )
        elif shown:
            axes.plot(*zip(*shown, strict=True), "o", label=label, **style)


def _scores(points: list[tuple[float, Trial]]) -> list[float]:
    return [trial.score for _, trial in points if trial.score is not None]


def shown_baselines(
    record: Record, baselines: dict[str, float]
) -> dict[str, float]:
    """Returns the baselines that would not squeeze the trials together."""
    scores = _analysis.scores(record)
    if not scores:
        return baselines
    low, high = min(scores), max(scores)
    room = max(high - low, 0.05 * abs(high))
    return {
        name: value
        for name, value in baselines.items()
        if low - room <= value <= high + room
    }


def _baselines(axes: Axes, baselines: dict[str, float]) -> None:
    dashes = [(5, 2), (1, 2), (5, 2, 1, 2), (9, 3)]
    for index, (name, value) in enumerate(baselines.items()):
        axes.axhline(
            value,
            color=MUTED,
            linewidth=1.2,
            dashes=dashes[index % len(dashes)],
            label=_words.short(_words.label(name)),
        )


@plot(height=230)
def slice_of(axes: Axes, record: Record, scale: Scale) -> None:
    """Draws the objective by the values of one hyperparameter."""
    points = [
        (_coordinate(t, scale), t)
        for t in record.trials
        if t.hyperparameters.get(scale.name) is not None
    ]
    scored = [(x, t) for x, t in points if t.score is not None]
    if scored:
        _trial_dots(axes, scored)
        best, score = _analysis.comparable(record)[0]
        if best.hyperparameters.get(scale.name) is not None:
            axes.plot(
                _coordinate(best, scale),
                score,
                "D",
                color=BEST,
                markersize=7,
                label=f"best: {_value(best, scale.name)}",
            )
    _axes.lost_marks(axes, [x for x, t in points if t.score is None])
    if scale.kind == "categories":
        for level, median in _analysis.level_medians(record, scale).items():
            at = scale.levels.index(level)
            axes.hlines(median, at - 0.3, at + 0.3, color=INK, linewidth=1.4)
        axes.set_xlim(-0.6, len(scale.levels) - 0.4)
    _value_axis(axes, scale)
    axes.set_ylabel(_axes.axis_title(record.objective))
    _axes.score_axis(axes.yaxis, _scores(scored), record)
    _axes.legend(axes)


def _coordinate(trial: Trial, scale: Scale) -> float:
    """Returns where a slice shows a trial; categories are spread out."""
    value = trial.hyperparameters[scale.name]
    if scale.kind != "categories":
        return float(value)
    # By the golden ratio, so that neighbors in order lie apart.
    order = int("0" + re.sub(r"\D", "", trial.id)) if trial.id else 0
    spread = (order * 0.618034) % 1 - 0.5
    return scale.levels.index(value) + 0.36 * spread


def _value(trial: Trial, name: str) -> str:
    return _words.short(_words.value(trial.hyperparameters.get(name)), 16)


def _value_axis(axes: Axes, scale: Scale) -> None:
    axes.set_xlabel(_words.short(_words.label(scale.name), 40))
    if scale.kind == "categories":
        limit = max(6, 44 // max(len(scale.levels), 1))
        names = [_words.short(_words.value(v), limit) for v in scale.levels]
        axes.set_xticks(range(len(names)), names)
        axes.grid(visible=False, axis="x")
    elif scale.kind == "log":
        axes.set_xscale("log")
        _axes.log_ticks(axes.xaxis, scale.low, scale.high)
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
        axes.xaxis.set_major_formatter(_axes.plain())


@plot(height=250)
def heat_map(
    axes: Axes, found: HeatMap, quality: np.ndarray, metric: str
) -> None:
    """Draws the best score by learning rate and batch size."""
    resize(axes, height=96 + 44 * len(found.rows))
    for row, column in np.ndindex(found.best.shape):
        _cell(axes, found, quality, metric, (row, column))
    rows, columns = found.best.shape
    axes.set(xlim=(0, columns), ylim=(0, rows))
    axes.set_yticks(np.arange(rows) + 0.5, [f"{r:,}" for r in found.rows])
    if found.columns:
        at, labels = np.arange(columns) + 0.5, found.columns
    else:
        at, labels = np.arange(columns + 1), found.edges
    axes.set_xticks(at, [_words.number(v, 2) for v in labels])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(xlabel="learning rate", ylabel="batch size")
    if found.completed.any():
        _axes.color_key(axes, "worse \N{RIGHTWARDS ARROW} better")


def _cell(
    axes: Axes,
    found: HeatMap,
    quality: np.ndarray,
    metric: str,
    cell: tuple[int, int],
) -> None:
    row, column = cell
    completed, lost = int(found.completed[cell]), int(found.lost[cell])
    pruned = int(found.pruned[cell])
    ink, face = MUTED, "none"
    if completed:
        level = _axes.level(quality[cell])
        ink, face = token(2, level), token(1, level)
    box = Rectangle(
        (column + 0.02, row + 0.03), 0.96, 0.94, facecolor=face, linewidth=0.8
    )
    count = completed + pruned + lost
    box.set_edgecolor(face if completed or not count else FAINT)
    if count and not completed:
        box.set_linestyle((0, (2, 2)))
    axes.add_patch(box)
    if not count:
        return
    title = "\N{MULTIPLICATION SIGN}" if lost else _words.DASH
    if completed:
        title = _axes.compact(found.best[cell], metric)
    lines = [f"n = {count}"]
    lines += [f"{pruned} early"] if pruned else []
    lines += [f"{lost} lost"] if lost else []
    step = 0.23 if len(lines) < 3 else 0.19
    top = 0.70 if len(lines) < 3 else 0.78
    heights = [top, *(top - 0.07 - step * (i + 1) for i in range(len(lines)))]
    sizes = [10, *[8] * len(lines)]
    for height, size, text in zip(heights, sizes, [title, *lines], strict=True):
        axes.text(
            column + 0.5,
            row + height,
            text,
            ha="center",
            va="center",
            color=ink,
            fontsize=size,
        )


@plot(height=280)
def parallel(
    axes: Axes, record: Record, scales: list[Scale], quality: dict[str, float]
) -> None:
    """Draws every trial as a line across its hyperparameters."""
    count = len(scales)
    resize(axes, width=max(WIDTH, 80 * (count + 1)))
    scored = _analysis.comparable(record)
    scores = _analysis.scores(record)
    quantity = Scale(
        record.objective,
        "log" if _axes.is_skewed(scores, record) else "linear",
        low=min(scores),
        high=max(scores),
    )
    for trial, score in reversed(scored):
        places = [s.position(trial.hyperparameters.get(s.name)) for s in scales]
        places.append(quantity.position(score))
        is_best = trial is scored[0][0]
        axes.plot(
            range(count + 1),
            [math.nan if place is None else place for place in places],
            color=BEST if is_best else token(1, _axes.level(quality[trial.id])),
            linewidth=2.6 if is_best else 1.1,
            alpha=1.0 if is_best else _axes.opacity(len(scored)),
        )
    for at, scale in enumerate(scales):
        _parallel_axis(axes, at, _words.label(scale.name), _scale_ticks(scale))
    ends = ((0.0, min(scores)), (1.0, max(scores)))
    ticks = [(y, _axes.compact(score, record.objective)) for y, score in ends]
    _parallel_axis(axes, count, _axes.axis_title(record.objective), ticks)
    axes.set(xlim=(-0.25, count + 0.42), ylim=(-0.06, 1.2))
    axes.set_axis_off()
    _axes.color_key(axes, "worse \N{RIGHTWARDS ARROW} better")


def _parallel_axis(
    axes: Axes, at: int, title: str, ticks: list[tuple[float, str]]
) -> None:
    axes.plot([at, at], [0, 1], color=FAINT, linewidth=0.8)
    lines = textwrap.wrap(title, 15, break_on_hyphens=False)[:2]
    name = "\n".join(_words.short(line, 15) for line in lines)
    axes.text(at, 1.05, name, ha="center", va="bottom", fontsize=9.5)
    for y, text in ticks:
        axes.plot([at, at + 0.02], [y, y], color=FAINT, linewidth=0.8)
        axes.text(
            at + 0.04,
            y,
            text,
            va="center",
            fontsize=8.5,
            color=MUTED,
            # Keeps the label readable on top of the lines.
            bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 0.8},
            zorder=5,
        )


def _scale_ticks(scale: Scale) -> list[tuple[float, str]]:
    if scale.kind == "categories":
        return [
            (scale.position(v) or 0.0, _words.short(_words.value(v), 10))
            for v in scale.levels
        ]
    # No number between the ends: it would hide the lines below it.
    ends = ((0.0, scale.low), (1.0, scale.high))
    return [(place, _words.number(value, 2)) for place, value in ends]


@plot(height=100)
def importance(axes: Axes, found: Importance) -> None:
    """Draws the importance of every hyperparameter as a bar."""
    count = len(found.names)
    resize(axes, height=60 + 27 * count)
    axes.barh(range(count), found.drops, height=0.6, color=TRIAL)
    axes.errorbar(
        found.drops,
        range(count),
        xerr=found.deviations,
        fmt="none",
        ecolor=INK,
        elinewidth=1,
    )
    axes.set_yticks(
        range(count), [_words.short(_words.label(n), 22) for n in found.names]
    )
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=10.5)
    axes.invert_yaxis()
    axes.axvline(0, color=FAINT, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("loss of out-of-bag R² when shuffled")


@plot(height=260)
def curves(axes: Axes, record: Record) -> None:
    """Draws the objective by epoch: the best trial before all others."""
    best = record.best
    others = [t for t in record.trials if t is not best]
    shown = []
    for trial in others:
        for run in trial.runs:
            shown += _line(
                axes,
                run,
                record.objective,
                color=FAINT,
                linewidth=0.9,
                alpha=_axes.opacity(len(others)),
            )
    _early_ends(axes, record)
    if best:
        for run in best.runs:
            shown += _line(
                axes,
                run,
                record.objective,
                color=BEST,
                linewidth=2,
                label=f"best, trial {best.id}" if run is best.runs[0] else None,
            )
    if others:
        label = "other trials" if best else "trials"
        axes.plot([], [], color=FAINT, linewidth=1.2, label=label)
    axes.set(xlabel="epoch", ylabel=_axes.axis_title(record.objective))
    _axes.epoch_axis(axes)
    _axes.score_axis(axes.yaxis, shown, record)
    _axes.legend(axes, above=0.07 if _analysis.rungs(record) else 0)


def _early_ends(axes: Axes, record: Record) -> None:
    """Marks where trials were ended early, and how many went on."""
    label: str | None = "ended early"
    for trial in record.trials:
        for run in trial.runs:
            epochs, found = _analysis.curve(run, record.objective)
            if run.pruned_epoch is None or not np.isfinite(found).any():
                continue
            last = np.flatnonzero(np.isfinite(found))[-1]
            axes.plot(
                epochs[last],
                found[last],
                "o",
                color=TRIAL,
                markerfacecolor=PAGE,
                markersize=4,
                label=label,
            )
            label = None
    rungs = _analysis.rungs(record)
    for rung in rungs:
        axes.axvline(rung.epoch, color=MUTED, linewidth=0.8, dashes=(2, 2))
        axes.text(
            rung.epoch,
            1.01,
            f"{rung.compared} \N{RIGHTWARDS ARROW} {rung.kept}",
            transform=axes.get_xaxis_transform(),
            # Away from each other, as the first rungs are close.
            ha="right" if rung is rungs[0] else "left",
            va="bottom",
            color=MUTED,
            fontsize=9,
        )


@plot(height=250, columns=2)
def best_curves(left: Axes, right: Axes, record: Record, trial: Trial) -> None:
    """Draws training and validation curves of the best trial."""
    names = best_metrics(record, trial)
    if len(names) == 1:
        right.remove()
        spec: Any = left.get_subplotspec()
        left.set_subplotspec(spec.get_gridspec()[0, :])
    for axes, name in zip((left, right), names, strict=False):
        for run in trial.runs:
            first = run is trial.runs[0] and axes is left
            for metric, color, dashes, label in (
                (name, TRIAL, (4, 1.5), "training"),
                (f"val_{name}", BEST, (1, 0), "validation"),
            ):
                _line(
                    axes,
                    run,
                    metric,
                    color=color,
                    dashes=dashes,
                    linewidth=1.8,
                    label=label if first else None,
                )
            if len(trial.runs) == 1 and run.best_epoch is not None:
                axes.axvline(
                    run.best_epoch + 1,
                    color=MUTED,
                    linewidth=0.8,
                    dashes=(2, 2),
                )
        axes.set(xlabel="epoch", ylabel=_axes.axis_title(name))
        _axes.epoch_axis(axes)
        axes.yaxis.set_major_formatter(_axes.plain())
    _axes.legend(left)


def best_metrics(record: Record, trial: Trial) -> list[str]:
    """Returns up to two metrics of which the trial has both curves.

    The objective comes first, then the loss, then any other.
    """
    logged = trial.runs[0].curves
    names = [_words.bare_metric(record.objective), "loss", *logged]
    both = [n for n in names if n in logged and f"val_{n}" in logged]
    return list(dict.fromkeys(both))[:2]


@plot(height=230, columns=2)
def time_to_target(
    left: Axes, right: Axes, rows: list[_analysis.BatchSize]
) -> None:
    """Draws updates and seconds to the target by batch size."""
    reached = [row for row in rows if row.reach]
    sizes = [row.batch_size for row in reached]
    for axes, what, color in (
        (left, "updates", TRIAL),
        (right, "seconds", BEST),
    ):
        found = [getattr(row.reach, what) for row in reached]
        pairs = [
            (s, f) for s, f in zip(sizes, found, strict=True) if f is not None
        ]
        if pairs:
            axes.plot(
                *zip(*pairs, strict=True), "o-", color=color, linewidth=1.8
            )
        if pairs and what == "updates":
            (size, start), last = pairs[0], pairs[-1][0]
            axes.plot(
                [size, last],
                [start, start * size / last],
                color=MUTED,
                linewidth=1.2,
                dashes=(4, 2),
                label="perfect scaling",
            )
        _target_axes(axes, sizes, [f for _, f in pairs])
        axes.set_ylabel(f"{what} to the target")
    _axes.legend(left)


def _target_axes(axes: Axes, sizes: list[int], found: list[float]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="batch size")
    axes.margins(x=0.12, y=0.15)
    step = 1 if len(sizes) <= 5 else 2
    axes.set_xticks(sizes[::step], [f"{size}" for size in sizes[::step]])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    low, high = axes.get_ylim()
    if found:
        _axes.log_ticks(axes.yaxis, low, high)


@plot(height=270)
def gradients(axes: Axes, record: Record, runs: list[Run]) -> None:
    """Draws gradient norms by epoch, colored by learning rate."""
    rates = {t.id: _analysis.learning_rate(t) for t in record.trials}
    known = [r for r in rates.values() if r is not None and r > 0]
    spread = len(set(known)) > 1
    marked = False
    for run in runs:
        rate = rates[run.trial]
        color = TRIAL
        if spread:
            color = token(
                1, _axes.level(_log_place(rate, min(known), max(known)))
            )
        style: dict[str, Any] = {
            "color": color,
            "linewidth": 1.1,
            "alpha": _axes.opacity(len(runs)),
        }
        _line(axes, run, "grad_norm", **style)
        marked |= _peak(axes, run, color)
    axes.set_yscale("log")
    _mark_divergences(axes, runs)
    axes.set(xlabel="epoch", ylabel="gradient norm")
    _axes.epoch_axis(axes)
    low, high = axes.get_ylim()
    _axes.log_ticks(axes.yaxis, low, high)
    if marked:
        axes.plot([], [], "^", color=MUTED, markersize=4, label="largest step")
    _axes.legend(axes, above=0.1 if spread else 0)
    if spread:
        ends = [_words.number(end, 2) for end in (min(known), max(known))]
        arrow = " \N{RIGHTWARDS ARROW} ".join(ends)
        _axes.color_key(axes, f"learning rate {arrow}")


def _peak(axes: Axes, run: Run, color: str) -> bool:
    """Marks the largest norm of a single step; says whether there is one."""
    epochs, found = _analysis.curve(run, "grad_norm_max")
    if not np.isfinite(found).any():
        return False
    at = int(np.nanargmax(found))
    axes.plot(epochs[at], found[at], "^", color=color, markersize=4)
    return True


def _mark_divergences(axes: Axes, runs: list[Run]) -> None:
    label: str | None = "diverged"
    for run in runs:
        if run.status != DIVERGED:
            continue
        epochs, found = _analysis.curve(run, "grad_norm")
        finite = np.flatnonzero(np.isfinite(found))
        style: dict[str, Any] = {
            "color": INK,
            "markersize": 6.5,
            "markeredgewidth": 1.8,
        }
        if len(finite):
            at = finite[-1]
            axes.plot(epochs[at], found[at], "x", label=label, **style)
        else:
            # Nothing was finite: beyond the upper end of the axis.
            at = (run.diverged_epoch or run.first_epoch) + 1
            axes.plot(
                at,
                0.97,
                "x",
                label=label,
                transform=axes.get_xaxis_transform(),
                **style,
            )
        label = None


def _log_place(value: float | None, low: float, high: float) -> float:
    if value is None or value <= 0:
        return 0.0
    return math.log(value / low) / math.log(high / low)


def _line(axes: Axes, run: Run, metric: str, **style: Any) -> list[float]:
    """Draws a curve of a run and returns its finite values."""
    epochs, found = _analysis.curve(run, metric)
    finite = found[np.isfinite(found)]
    if not len(finite):
        return []
    step = -(-len(epochs) // _MAX_POINTS)
    if len(epochs) == 1:
        style["marker"], style["markersize"] = "o", 3
    axes.plot(epochs[::step], found[::step], **style)
    return [float(value) for value in finite]
