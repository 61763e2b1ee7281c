"""The plot of a monitor's record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(
        'Plots need matplotlib. Install it with pip install "matplotlib"'
    ) from error

MAX_LINES = 6
_MAX_COLUMNS = 400  # Of a heat map: more than a figure has pixels for.
_MAX_LABELS = 40
# Okabe and Ito: told apart by color-blind readers, too.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def draw(
    axis: tuple[str, np.ndarray], named: tuple[str, Any], log_scale: bool
) -> Figure:
    """Draws one series, or a group of them by path.

    Args:
        axis: The name and the numbers of the x axis.
        named: The name of the y axis, or of the colors, and what to draw.
        log_scale: Whether it is logarithmic.
    """
    (title, x), (name, found) = axis, named
    group = found if isinstance(found, Mapping) else {name: found}
    series = {p: np.asarray(s, "float64") for p, s in group.items()}
    rows = min(len(series), _MAX_LABELS)
    heat = len(series) > MAX_LINES
    height = 1.4 + 0.22 * rows if heat else 3.6
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.add_subplot()
    if heat and len(x):
        _heat_map(axes, x, series, name, log_scale)
    else:
        _lines(axes, x, series, log_scale)
        axes.set_ylabel(_words(name))
    axes.set_xlabel(title)
    return figure


def _lines(axes: Axes, x: np.ndarray, series: dict, log_scale: bool) -> None:
    marker = "o" if len(x) == 1 else ""
    for color, (path, values) in zip(
        _COLORS * len(series), series.items(), strict=False
    ):
        axes.plot(
            x,
            np.where(values > 0, values, np.nan) if log_scale else values,
            marker=marker,
            color=color,
            linewidth=1.2,
            label=_short(path),
        )
    shown = [v > 0 for v in series.values() if len(v)]
    if log_scale and np.any(shown):
        axes.set_yscale("log")
    axes.grid(color="#dfe2e5")
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(
            frameon=False,
            fontsize=8.5,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
        )


def _heat_map(
    axes: Axes, x: np.ndarray, series: dict, name: str, log_scale: bool
) -> None:
    table = _averaged(np.stack(list(series.values())))
    bad = ~np.isfinite(table)
    if log_scale:
        bad |= table <= 0
    table = np.ma.masked_array(table, bad)
    norm = LogNorm() if log_scale and not bad.all() else None
    half = 0.5 * (x[-1] - x[0]) / max(len(x) - 1, 1) or 0.5
    image = axes.imshow(
        table,
        aspect="auto",
        interpolation="nearest",
        norm=norm,
        extent=(x[0] - half, x[-1] + half, len(table) - 0.5, -0.5),
    )
    axes.set_facecolor("#c8cdd2")  # Shows through where there is no number.
    every = -(-len(series) // _MAX_LABELS)
    labels = [_short(path) for path in list(series)[::every]]
    axes.set_yticks(range(0, len(series), every), labels, fontsize=8.5)
    axes.figure.colorbar(image, ax=axes, label=_words(name), pad=0.01)


def _averaged(table: np.ndarray) -> np.ndarray:
    """Averages neighbors, so that no column of a long record is lost."""
    count = table.shape[1]
    if count <= _MAX_COLUMNS:
        return table
    starts = np.linspace(0, count, _MAX_COLUMNS, endpoint=False).astype(int)
    finite = np.isfinite(table)
    sums = np.add.reduceat(np.where(finite, table, 0), starts, axis=1)
    counts = np.add.reduceat(finite, starts, axis=1, dtype=int)
    with np.errstate(invalid="ignore"):
        return sums / counts


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(path: str, length: int = 32) -> str:
    return (
        path
        if len(path) <= length
        else "\N{HORIZONTAL ELLIPSIS}" + path[1 - length :]
    )


def draw_matrix(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws counts by true and predicted class.

    Args:
        counts: `(classes, classes)`, true classes by row.
        names: Of the classes.
    """
    size = max(3.6, 1.6 + 0.42 * len(names))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(
        counts, totals, out=np.zeros(counts.shape), where=totals > 0
    )
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        style: Any = {"ha": "center", "va": "center", "fontsize": "small"}
        if count:
            axes.text(column, row, f"{count:.4g}", color=color, **style)
    places = range(len(names))
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(places, names, rotation=turned)
    axes.set_yticks(places, names)
    axes.set(xlabel="predicted", ylabel="true")
    return figure
