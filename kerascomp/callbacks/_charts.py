"""Charts as SVG, without a library, for pages that training writes.

They share the page's fonts and colors, which are its variables `--line-0`,
`--heat-0` and so on, and are drawn at the width of a phone.
"""

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 400, 210
LEVELS = 12  # Colors of a heat map.
MAX_LINES = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 8, 8, 26
_MAX_POINTS = 240
_MAX_COLUMNS = 64
_MAX_ROWS = 40
_ROW = 15


class Axis(NamedTuple):
    """From numbers to places along an axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Returns where a number lies, in pixels."""
        value, low, high = (
            math.log10(v) if self.log else v
            for v in (value, self.low, self.high)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int) -> list[float]:
        """Returns round numbers within the axis."""
        if not self.log:
            return _round_numbers(self.low, self.high, most)
        first, last = (
            math.floor(math.log10(self.low)),
            math.ceil(math.log10(self.high)),
        )
        if last - first <= 2:
            fine = [m * 10.0**p for p in range(first, last) for m in (1, 2, 5)]
            return [tick for tick in fine if self.low <= tick <= self.high]
        every = max(1, math.ceil((last - first + 1) / most))
        powers = [10.0**p for p in range(first, last + 1, every)]
        return [tick for tick in powers if self.low <= tick <= self.high]


def lines(
    x: np.ndarray, series: Mapping[str, np.ndarray], log: bool = False
) -> str:
    """Draws series as lines, interrupted where numbers are not finite."""
    x, thinned = _thinned(x, series, log, _MAX_POINTS)
    finite = np.concatenate([v[np.isfinite(v)] for v in thinned.values()])
    if not finite.size:
        return ""
    across = Axis(x.min(), x.max(), _LEFT, WIDTH - _RIGHT)
    low, high = _padded(finite, log)
    up = Axis(low, high, HEIGHT - _BOTTOM, _TOP, log)
    parts = [_grid(across, up)]
    for number, values in enumerate(thinned.values()):
        color = f"var(--line-{number % MAX_LINES})"
        for run in _runs(values):
            points = [(across.place(x[i]), up.place(values[i])) for i in run]
            parts.append(_stroke(points, color))
    return _svg(HEIGHT, parts)


def heat_map(
    x: np.ndarray, rows: Mapping[str, np.ndarray], log: bool = False
) -> tuple[str, tuple[float, float]]:
    """Draws one row a series, colored by its numbers.

    Returns:
        The picture, and the numbers of the first and the last color.
    """
    x, thinned = _thinned(x, rows, log, _MAX_COLUMNS)
    thinned = dict(_evenly([*thinned.items()], _MAX_ROWS))
    values = np.stack([*thinned.values()])
    scaled = np.log10(values) if log else values
    finite = scaled[np.isfinite(scaled)]
    if not finite.size:
        return "", (math.nan, math.nan)
    # A single number that goes astray must not take all the colors.
    low, high = np.quantile(finite, (0.01, 0.99))
    left = min(6.8 * max(map(len, thinned)) + 10, 0.42 * WIDTH)
    letters = int((left - 10) / 6.8)
    height = _ROW * len(thinned) + _BOTTOM
    step = (WIDTH - _RIGHT - left) / len(x)
    parts = []
    for row, (name, numbers) in enumerate(zip(thinned, scaled, strict=True)):
        top = row * _ROW
        parts.append(_text(left - 6, top + 11, "end", _short(name, letters)))
        levels = [_level(number, low, high) for number in numbers]
        for begin, end in _equal_runs(levels):
            if levels[begin] is not None:
                parts.append(
                    f'<rect x="{left + begin * step:.1f}" y="{top}" '
                    f'width="{(end - begin) * step + 0.2:.1f}" '
                    f'height="{_ROW - 1}" fill="var(--heat-{levels[begin]})"/>'
                )
    across = Axis(x.min(), x.max(), left + step / 2, WIDTH - _RIGHT - step / 2)
    parts += _bottom(across, height, 5)
    ends = (10**low, 10**high) if log else (low, high)
    return _svg(height, parts), (float(ends[0]), float(ends[1]))


def spans_decades(series: Mapping[str, np.ndarray]) -> bool:
    """Whether numbers are positive and differ by more than a factor of 30."""
    finite = np.concatenate([v[np.isfinite(v)] for v in series.values()])
    positive = finite.size > 0 and finite.min() > 0
    return bool(positive and finite.max() > 30 * finite.min())


def number(value: float) -> str:
    """Writes a number in as few characters as tell it."""
    if not math.isfinite(value):
        return {math.inf: "\u221e", -math.inf: "\u2212\u221e"}.get(value, "NaN")
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, _, power = f"{value:.2e}".partition("e")
        text = f"{float(digits):g}e{int(power)}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "\u2212")


def _padded(finite: np.ndarray, log: bool) -> tuple[float, float]:
    low, high = float(finite.min()), float(finite.max())
    if log:
        return low / 1.1, high * 1.1
    margin = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    # A number that cannot fall below 0 has its axis start there at most.
    return (max(low - margin, 0.0) if low >= 0 else low - margin), high + margin


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    if high <= low:
        return [low]
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _thinned(
    x: np.ndarray, series: Mapping[str, np.ndarray], log: bool, most: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Averages neighbors until there are few enough."""
    found = {name: np.asarray(v, "float64") for name, v in series.items()}
    if log:
        found = {n: np.where(v > 0, v, np.nan) for n, v in found.items()}
    x = np.asarray(x, "float64")
    if len(x) > most:
        edges = np.linspace(0, len(x), most + 1).astype(int)
        pairs = [*itertools.pairwise(edges)]
        x = np.array([x[a:b].mean() for a, b in pairs])
        found = {
            name: np.array([_mean(v[a:b], log) for a, b in pairs])
            for name, v in found.items()
        }
    return x, found


def _mean(values: np.ndarray, log: bool) -> float:
    values = values[np.isfinite(values)]
    if not values.size:
        return math.nan
    return float(np.exp(np.log(values).mean()) if log else values.mean())


def _runs(values: np.ndarray) -> list[np.ndarray]:
    """Returns the places of each unbroken run of finite numbers."""
    places = np.flatnonzero(np.isfinite(values))
    if not places.size:
        return []
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)


def _equal_runs(levels: Sequence) -> list[tuple[int, int]]:
    starts = [
        i for i in range(len(levels)) if i == 0 or levels[i] != levels[i - 1]
    ]
    return [*zip(starts, [*starts[1:], len(levels)], strict=True)]


def _evenly(items: list, most: int) -> list:
    if len(items) <= most:
        return items
    places = np.linspace(0, len(items) - 1, most).round().astype(int)
    return [items[place] for place in places]


def _level(number: float, low: float, high: float) -> int | None:
    if math.isnan(number):
        return None
    share = (number - low) / (high - low) if high > low else 0.5
    return int(min(max(share, 0), 1) * (LEVELS - 1) + 0.5)


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else "\u2026" + name[1 - letters :]


def _grid(across: Axis, up: Axis) -> str:
    parts = []
    for tick in up.ticks(5):
        y = up.place(tick)
        parts.append(
            f'<path d="M{_LEFT} {y}H{WIDTH - _RIGHT}" class="grid"/>'
            + _text(_LEFT - 6, y + 3.5, "end", number(tick))
        )
    return "".join([*parts, *_bottom(across, HEIGHT, 6)])


def _bottom(across: Axis, height: float, most: int) -> list[str]:
    ticks = [t for t in across.ticks(most) if t == int(t)] or [across.low]
    return [
        _text(across.place(tick), height - 8, "middle", number(tick))
        for tick in ticks
    ]


def _stroke(points: list[tuple[float, float]], color: str) -> str:
    if len(points) == 1:
        ((x, y),) = points
        return f'<circle cx="{x:g}" cy="{y:g}" r="3" fill="{color}"/>'
    path = "L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="M{path}" class="line" stroke="{color}"/>'


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )


def _svg(height: float, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
