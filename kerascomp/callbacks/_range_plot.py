"""The plot of a range test."""

from collections.abc import Mapping
from typing import Any

import numpy as np

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(
        'Plots need matplotlib. Install it with pip install "matplotlib"'
    ) from error

# Okabe and Ito: told apart by color-blind readers, too.
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#d55e00", "linestyle": "-"},
    {"color": "#009e73", "linestyle": "--"},
    {"color": "#cc79a7", "linestyle": ":"},
)


def draw(
    history: Mapping[str, Any],
    suggestions: Mapping[str, float | None],
    log_scale: bool,
) -> Figure:
    """Draws losses over learning rates, and lines at the suggestions."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    rates, smoothed = history["learning_rate"], history["smoothed_loss"]
    axes.plot(
        rates, history["loss"], ".", color="#a9b2ba", markersize=3, label="loss"
    )
    axes.plot(rates, smoothed, color="#0072b2", label="smoothed loss")
    for (name, rate), style in zip(suggestions.items(), _STYLES, strict=True):
        if rate is not None:
            label = f"{name.replace('_', ' ')}: {rate:.2g}"
            axes.axvline(rate, label=label, linewidth=1.2, **style)
    if log_scale:
        axes.set_xscale("log")
    # The last losses of a run that diverges would hide all others.
    finite = smoothed[np.isfinite(smoothed)]
    if len(finite):
        low, high = finite.min(), max(finite[: len(finite) // 2 + 1])
        space = 0.25 * max(high - low, 1e-12)
        axes.set_ylim(low - space, high + 2 * space)
    axes.set(xlabel="learning rate", ylabel="loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
