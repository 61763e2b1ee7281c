"""Pictures of schedules."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascomp import _validation
from kerascomp.schedules import _rates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 2000


def plot(schedules: Any, steps: int, log_scale: bool = False) -> "Figure":
    """Draws the learning rates of one or several schedules.

    Needs matplotlib. The figure is not shown; `figure.savefig("rates.png")`
    writes it.

    Args:
        schedules: A schedule, a sequence of schedules, or a dictionary from
            names to schedules, of kerascomp or of Keras.
        steps: How many steps to draw, at least 2.
        log_scale: Whether the axis of the learning rate is logarithmic.

    Returns:
        A `matplotlib.figure.Figure` with one axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no schedule, or `steps` is below 2.

    Examples:
        >>> figure = plot({"cosine": WarmupCosine(0.1, 50, 5)}, steps=60)
        >>> figure.axes[0].get_legend_handles_labels()[1]
        ['cosine']
    """
    _validation.at_least("steps", steps, 2)
    named = _named(schedules)
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError(
            "Plots need matplotlib. Install it with: pip install matplotlib"
        ) from error
    points = np.unique(
        np.linspace(0, steps - 1, min(steps, _MOST_POINTS)).astype("int64")
    )
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, schedule in named.items():
        axes.plot(points, _rates.values(schedule, points), label=name)
    axes.set(xlabel="step", ylabel="learning rate")
    axes.spines[["top", "right"]].set_visible(False)
    if log_scale:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _named(schedules: Any) -> dict[str, Any]:
    if isinstance(schedules, Mapping):
        named = dict(schedules)
    else:
        several = isinstance(schedules, Sequence)
        named = _numbered(schedules if several else [schedules])
    for schedule in named.values():
        if not callable(schedule):
            raise ValueError(
                "`schedules` must be learning-rate schedules. "
                f"Received: {schedule!r}"
            )
    if not named:
        raise ValueError("`schedules` must hold a schedule. Received none")
    return named


def _numbered(schedules: Sequence[Any]) -> dict[str, Any]:
    """Names schedules by their classes, told apart by numbers."""
    names = [type(schedule).__name__ for schedule in schedules]
    return {
        f"{name} {names[: place + 1].count(name)}"
        if names.count(name) > 1
        else name: schedule
        for place, (name, schedule) in enumerate(
            zip(names, schedules, strict=True)
        )
    }
