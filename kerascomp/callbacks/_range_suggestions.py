"""Learning rates read off the curve of a range test."""

import bisect

import numpy as np


def steepest(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Returns the rate at which the loss falls fastest.

    Over the logarithm of the rate, and before the minimum.

    Args:
        rates: `(steps,)`, increasing.
        losses: `(steps,)`, finite.

    Returns:
        A rate, or None if the loss never falls.
    """
    until = int(np.argmin(losses)) + 1 if len(losses) else 0
    if until < 2:
        return None
    slopes = np.gradient(losses[:until], np.log(rates[:until]))
    return float(rates[np.argmin(slopes)])


def valley(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Returns the rate in the middle of the longest fall of the loss.

    The fall need not be unbroken: it is the longest subsequence of losses
    that decreases.
    """
    fall = _longest_fall(losses)
    return float(rates[fall[len(fall) // 2]]) if len(fall) > 2 else None


def minimum_tenth(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Returns a tenth of the rate at which the loss is smallest."""
    lowest = int(np.argmin(losses)) if len(losses) else 0
    return float(rates[lowest]) / 10 if lowest else None


SUGGESTIONS = {
    "valley": valley,
    "steepest": steepest,
    "minimum_tenth": minimum_tenth,
}


def _longest_fall(losses: np.ndarray) -> list[int]:
    """Returns the places of the longest decreasing subsequence."""
    tails: list[float] = []  # The best end of a fall of each length, negated.
    places: list[int] = []
    before: list[int] = []
    for place, loss in enumerate(losses):
        length = bisect.bisect_left(tails, -loss)
        tails[length:] = [-loss, *tails[length + 1 :]]
        places[length:] = [place, *places[length + 1 :]]
        before.append(places[length - 1] if length else -1)
    fall, place = [], places[-1] if places else -1
    while place >= 0:
        fall.append(place)
        place = before[place]
    return fall[::-1]
