"""What the plots of a report share: marks, ticks, legends and titles."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from kerascomp.studies import _words
from kerascomp.studies._records import Record
from kerascomp.studies._svg import INK, LEVELS, MUTED, PAGE, token


def dots(count: int) -> dict[str, Any]:
    """Returns the style of so many points."""
    size = 6 if count <= 60 else 4.2
    return {
        "markersize": size,
        "alpha": 0.85,
        "markeredgecolor": PAGE,
        "markeredgewidth": 0.6,
    }


def opacity(count: int) -> float:
    """Returns the opacity of one of so many lines."""
    return min(0.9, max(0.2, 30 / max(count, 1)))


def level(share: float) -> int:
    """Returns the step of the color scale for a share in [0, 1]."""
    return round(min(max(share, 0.0), 1.0) * (LEVELS - 1))


def lost_marks(axes: Axes, at: list[float]) -> None:
    """Marks trials without a score at the lower edge."""
    if at:
        axes.plot(
            at,
            [0.03] * len(at),
            "x",
            color=INK,
            markersize=6,
            markeredgewidth=1.6,
            transform=axes.get_xaxis_transform(),
            label="diverged or failed",
            clip_on=False,
        )


def legend(axes: Axes, above: float = 0) -> None:
    """Places the legend above the axes, where it covers nothing."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1 + above), ncols=3)


def color_key(axes: Axes, words: str) -> None:
    """Draws the color scale above the axes, and what its ends mean."""
    strip = axes.inset_axes((0.0, 1.05, 1.0, 0.04))
    strip.set_axis_off()
    strip.set(xlim=(0, 100), ylim=(0, 1))
    for level in range(LEVELS):
        strip.add_patch(Rectangle((level, 0), 1.05, 1, color=token(1, level)))
    # After the strip, where no width of a font can make it overlap.
    strip.text(LEVELS + 2, 0.5, words, va="center", fontsize=9.5, color=MUTED)


def axis_title(metric: str) -> str:
    return _words.short(_words.metric(metric), 30)


def compact(value: float, metric: str) -> str:
    if _words.is_fraction(metric) and abs(value) <= 1:
        return f"{value:.3f}"
    if 1e-3 <= abs(value) < 100:
        return f"{value:#.3g}".replace("-", "\N{MINUS SIGN}")
    return _words.number(value, 3)


def plain() -> ticker.Formatter:
    """Writes all numbers of an axis in full, with equally many decimals."""
    formatter = ticker.ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    return formatter


def epoch_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(
        ticker.MaxNLocator(5, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )


def score_axis(axis: Any, scores: Sequence[float], record: Record) -> None:
    axis.set_major_formatter(plain())
    if is_skewed(scores, record):
        axis.axes.set_yscale("log")
        log_ticks(axis, min(scores), max(scores))


def is_skewed(scores: Sequence[float], record: Record) -> bool:
    """Whether huge losses would squeeze all others together."""
    if record.maximizes or not scores or min(scores) <= 0:
        return False
    return max(scores) > 20 * float(np.median(scores))


def log_ticks(axis: Any, low: float, high: float) -> None:
    """Labels powers of ten, and numbers between them on a short axis."""
    decades = math.log10(high / low) if 0 < low < high else 0
    locator: ticker.Locator = ticker.LogLocator(
        subs=(1, 2, 5) if decades < 2 else (1,), numticks=8
    )
    if decades < 0.7:
        locator = ticker.MaxNLocator(4)
    axis.set_major_locator(locator)
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(
        ticker.FuncFormatter(lambda x, _: _words.number(x, 2))
    )
