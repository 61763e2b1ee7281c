"""What schedules are made of: counts, descents and checks."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras

ops = keras.ops


def since(step: Any, begin: int = 0) -> Any:
    """Returns the steps since `begin`, float32.

    Subtracted as integers: a float32 holds them up to 2^24 only.
    """
    return ops.cast(ops.convert_to_tensor(step) - begin, "float32")


def left(step: Any, begin: int, end: int) -> Any:
    """Returns the share of a phase that is left, from 1 to 0 and then 0."""
    # Not 1 minus the share that is over, which is rounded near the end.
    return ops.clip(-since(step, end) / max(end - begin, 1), 0.0, 1.0)


def climb(step: Any, start: Any, peak: Any, steps: int) -> Any:
    """Returns the rates of a linear warmup, and what would follow."""
    return start + (peak - start) * (since(step) / max(steps, 1))


def linear(share: Any) -> Any:
    """Falls evenly from 1 at 1 to 0 at 0."""
    return share


def cosine(share: Any) -> Any:
    """Falls from 1 at 1 to 0 at 0 along half a cosine."""
    # (1 - cos(pi x)) / 2, of which nothing is left near 0 in float32.
    return ops.square(ops.sin(np.pi / 2 * share))


def one_minus_square_root(share: Any) -> Any:
    """Falls from 1 at 1 to 0 at 0 as 1 - sqrt(1 - share)."""
    return share / (1 + ops.sqrt(1 - share))


DESCENTS: Mapping[str, Callable[[Any], Any]] = {
    "linear": linear,
    "cosine": cosine,
    "1-sqrt": one_minus_square_root,
}


def check_rates(peak: float, **lower: float | None) -> None:
    """Raises unless the peak is above 0 and the others are at most it."""
    _validation.in_interval("peak", peak, "(0, inf)")
    for name, rate in lower.items():
        if rate is not None:
            _validation.in_interval(name, rate, f"[0, {peak}]")


def check_lengths(total_steps: int, **phases: int) -> None:
    """Raises unless the phases have lengths and the total is above 0."""
    _validation.at_least("total_steps", total_steps, 1)
    for name, steps in phases.items():
        _validation.at_least(name, steps, 0)
