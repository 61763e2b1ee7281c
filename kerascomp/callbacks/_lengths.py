"""Schedules whose lengths are in epochs, or shares of the run."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kerascomp import _validation

_STEPS, _EPOCHS, _FRACTION = "_steps", "_epochs", "_fraction"
_TOTAL = "total_steps"
# Longer than any warmup that is checked before the run is known.
_UNKNOWN_TOTAL = 10**9


class Recipe:
    """How to make a schedule once the lengths of a run are known.

    Args:
        make: A class of schedules, or a function that returns one.
        arguments: Its arguments by name. One that ends in `_steps` may be
            given in epochs or as a share of the total instead.

    Raises:
        TypeError: If `make` lacks an argument that it needs.
        ValueError: If it has no such argument, a length is given twice, or
            an argument is out of its range.
    """

    def __init__(self, make: Callable[..., Any], arguments: Mapping[str, Any]):
        self.make = make
        self._name = getattr(make, "__name__", repr(make))
        # Its arguments, and whether each is needed.
        self._takes = {
            name: parameter.default is parameter.empty
            for name, parameter in inspect.signature(make).parameters.items()
            if parameter.kind
            not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        }
        self._plain: dict[str, Any] = {}
        # The argument in steps, and how long it is in what unit.
        self._lengths: dict[str, tuple[str, float]] = {}
        for name, value in arguments.items():
            self._add(name, value)
        self._check()

    def arguments(
        self, epochs: int, updates: Callable[[float, str], float]
    ) -> dict[str, Any]:
        """Returns the arguments of the schedule of a run.

        Args:
            epochs: Of the run.
            updates: Returns how many updates so many epochs have; its second
                argument is what to pass instead if that is unknown.
        """
        arguments = dict(self._plain)
        needs_total = _TOTAL in self._takes or any(
            unit == _FRACTION for unit, _ in self._lengths.values()
        )
        total: Any = arguments.get(_TOTAL)
        if total is None and needs_total:
            _, length = self._lengths.get(_TOTAL, (_EPOCHS, epochs))
            total = max(round(updates(length, _TOTAL)), 1)
        for name, (unit, length) in self._lengths.items():
            if unit == _FRACTION:
                arguments[name] = round(length * (total or 0))
            else:
                arguments[name] = round(updates(length, name)) if length else 0
        if _TOTAL in self._takes:
            arguments[_TOTAL] = total
        return arguments

    def _add(self, name: str, value: Any) -> None:
        if name in self._takes:
            if not (value is None and name.endswith(_STEPS)):
                self._plain[name] = value
            return
        for unit, interval in ((_EPOCHS, "[0, inf)"), (_FRACTION, "[0, 1]")):
            steps = name.removesuffix(unit) + _STEPS
            total_share = unit == _FRACTION and steps == _TOTAL
            if not name.endswith(unit) or total_share:
                continue
            if steps in self._takes:
                if value is not None:
                    interval = "(0, inf)" if steps == _TOTAL else interval
                    _validation.in_interval(name, value, interval)
                    self._refuse_twice(steps, unit, value)
                    self._lengths[steps] = unit, value
                return
        lengths = [n for n in self._takes if n.endswith(_STEPS)]
        raise ValueError(
            f"{self._name} has no argument {name!r}. It has "
            f"{', '.join(self._takes)}; in place of {' and '.join(lengths)} "
            "it takes the same with _epochs or _fraction"
        )

    def _refuse_twice(self, steps: str, unit: str, value: float) -> None:
        stem = steps.removesuffix(_STEPS)
        if steps in self._lengths:
            other, length = self._lengths[steps]
            _validation.at_most_one(
                **{stem + other: length, stem + unit: value}
            )

    def _check(self) -> None:
        """Raises what the schedule would, as far as it can be known now."""
        for steps, (unit, length) in self._lengths.items():
            stem = steps.removesuffix(_STEPS)
            _validation.at_most_one(
                **{stem + unit: length, steps: self._plain.get(steps)}
            )
        trial = {name: int(n > 0) for name, (_, n) in self._lengths.items()}
        if _TOTAL in self._takes:
            trial[_TOTAL] = self._plain.get(_TOTAL, _UNKNOWN_TOTAL)
        arguments = {**self._plain, **trial}
        missing = [
            name
            for name, needed in self._takes.items()
            if needed and name not in arguments
        ]
        if missing:
            raise TypeError(
                f"{self._name} needs {', '.join(map(repr, missing))}; only "
                f"{_TOTAL!r} is read from fit. Received: {sorted(self._plain)}"
            )
        # A function of one's own may do more than check its arguments.
        if inspect.isclass(self.make):
            self.make(**arguments)
