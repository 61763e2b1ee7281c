"""Figures as SVG that shares an HTML page with text and other figures.

The colors are variables of the page's style sheet, which `palette` defines
for light and for dark pages; the text takes the page's font. The pictures are
drawn at the width of a phone, so that their text stays readable there.
"""

import contextlib
import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kerascomp import _colors

WIDTH = 400  # Pixels, before the page scales the plot.
LEVELS = 16  # Steps of the color scale.


def token(group: int, index: int) -> str:
    """Returns a color that `_svg` replaces by a variable of the page."""
    return f"#01{group:02x}{index:02x}"


INK, MUTED, RULE, TRIAL, BEST, FAINT, PAGE = (
    token(0, index) for index in range(len(_colors.PAGE))
)
_STYLE = {
    "svg.fonttype": "none",
    # Names come from users: "$" is a dollar sign.
    "text.parse_math": False,
    "path.simplify_threshold": 0.5,
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.borderaxespad": 0.2,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
}


def palette() -> dict[str, dict[str, str]]:
    """Returns the style sheet's variables for "light" and "dark" pages."""
    sheets = {}
    cmap = matplotlib.colormaps["viridis"]
    # Either way the best stands out most from the page.
    ramps = {"light": (0.82, 0.0), "dark": (0.28, 1.0)}
    for column, (theme, (low, high)) in enumerate(ramps.items()):
        sheet = {
            _variable(0, index): pair[column]
            for index, pair in enumerate(_colors.PAGE.values())
        }
        for level in range(LEVELS):
            color = cmap(low + (high - low) * level / (LEVELS - 1))
            sheet[_variable(1, level)] = to_hex(color)
            sheet[_variable(2, level)] = _readable_on(color)
        sheets[theme] = sheet
    return sheets


def _variable(group: int, index: int) -> str:
    return f"--p{group}-{index}"


def _readable_on(color: Sequence[float]) -> str:
    channels = np.array(color[:3])
    linear = np.where(
        channels <= 0.04045,
        channels / 12.92,
        ((channels + 0.055) / 1.055) ** 2.4,
    )
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    # Where black and white contrast equally, by WCAG's formula.
    return "#111111" if luminance > 0.179 else "#ffffff"


def plot(height: float, columns: int = 1) -> Callable:
    """Makes a function that draws on axes into one that returns SVG.

    The new function takes a key, which makes the ids of the page unique, and
    then the arguments of `draw` after the axes.
    """

    def decorate(draw: Callable[..., None]) -> Callable[..., str]:
        @functools.wraps(draw)
        def drawn(key: str, *args: Any) -> str:
            with _drawing(key):
                figure = Figure(
                    figsize=(WIDTH / 72, height / 72),
                    layout=ConstrainedLayoutEngine(wspace=0.08),
                )
                draw(*figure.subplots(1, columns, squeeze=False)[0], *args)
                return _svg(figure, key)

        return drawn

    return decorate


def resize(
    axes: Axes, width: float | None = None, height: float | None = None
) -> None:
    """Sets the size, in pixels, of the figure that `plot` made."""
    figure: Any = axes.get_figure(root=True)
    if width is not None:
        figure.set_figwidth(width / 72)
    if height is not None:
        figure.set_figheight(height / 72)


@contextlib.contextmanager
def _drawing(key: str) -> Iterator[None]:
    style: Any = {**_STYLE, "svg.hashsalt": key}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The page's fonts draw the text, not the one that measures it.
        warnings.filterwarnings("ignore", "Glyph")
        yield


def _svg(figure: Figure, key: str) -> str:
    """Returns a figure as an `<svg>` element that shares a page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', text))
    text = re.sub(
        r' id="([^"]*)"',
        lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "",
        text,
    )
    text = re.sub(r'(url\(|href=")#', rf"\1#{key}-", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r' (?:xmlns:xlink|version)="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?)(?: (?:width|height)="[^"]*pt")+', r"\1", text)
    text = re.sub(r' (?:d|x|y|transform)="[^"]*"', _round_numbers, text)
    text = re.sub(r"(font: (?:\d+ )?[\d.]+px) [^;\"]+", _page_font, text)
    return re.sub(
        "#01(0[012])([0-9a-f]{2})",
        lambda m: f"var({_variable(int(m[1]), int(m[2], 16))})",
        re.sub(r">\s+<", ">\n<", text),
    )


def _round_numbers(match: re.Match) -> str:
    return re.sub(
        r"-?\d+\.\d+", lambda m: f"{round(float(m[0]), 1):g}", match[0]
    )


def _page_font(match: re.Match) -> str:
    *weight, size = match[1].removeprefix("font: ").split()
    bold = f"font-weight: {weight[0]}; " if weight else ""
    return f"{bold}font-size: {size}"
