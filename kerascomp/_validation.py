"""Checks of arguments, with messages that say what was passed and expected."""

import numbers
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake in what the user asked for, not in the program.

    The command line prints its message alone, without a traceback.
    """


def in_interval(name: str, value: Any, interval: str) -> None:
    """Raises unless a number lies in an interval such as `"[0, 1)"`.

    Args:
        name: The argument's name, for the message.
        value: What the caller passed.
        interval: In mathematical notation; `inf` for no bound.

    Raises:
        TypeError: If `value` is not a real number (booleans are not).
        ValueError: If it lies outside, or is NaN.
    """
    _require_number(name, value)
    low, high = (float(part) for part in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    if not (above and below):  # NaN fails both.
        raise ValueError(
            f"`{name}` must be in {interval}. Received: {name}={value!r}"
        )


def at_least(name: str, value: Any, minimum: int) -> None:
    """Raises unless a value is an integer of at least `minimum`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or value < minimum
    ):
        raise ValueError(
            f"`{name}` must be an integer of at least {minimum}. "
            f"Received: {name}={value!r}"
        )


def pair(name: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    """Returns an integer for rows and one for columns, from one or both.

    Raises:
        ValueError: If they are not one or two integers of at least `minimum`.
    """
    both = value if isinstance(value, list | tuple) else (value, value)
    if len(both) != 2:
        raise ValueError(
            f"`{name}` must be an integer or two. Received: {name}={value!r}"
        )
    for each in both:
        at_least(name, each, minimum)
    return both[0], both[1]


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises unless a value is among the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}"
        )


def at_most_one(**arguments: Any) -> None:
    """Raises if more than one of the keyword arguments is not None."""
    given = {name: v for name, v in arguments.items() if v is not None}
    if len(given) > 1:
        names = " and ".join(f"`{name}`" for name in arguments)
        received = ", ".join(f"{name}={v!r}" for name, v in given.items())
        raise ValueError(f"Pass at most one of {names}. Received: {received}")


def _require_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be a number. "
            f"Received: {name}={value!r} (of type {type(value).__name__})"
        )
