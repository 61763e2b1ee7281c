"""The points of a search space: drawn, walked through, and compared.

A point holds the values of the active hyperparameters.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine import hyperparameters as kt

# Draws before a space is searched for what is left of it.
_ATTEMPTS = 20
# Points that are compared when few are left.
_CANDIDATES = 256

Point = dict[str, Any]


class Space:
    """A search space, as it is known now."""

    def __init__(self, hyperparameters: keras_tuner.HyperParameters):
        self._container = hyperparameters.copy()
        self._parameters = _parents_first(self._container.space)
        self._free = [p for p in self._parameters if not _is_fixed(p)]

    @property
    def dimensions(self) -> int:
        """Number of hyperparameters that are not fixed."""
        return len(self._free)

    @property
    def names(self) -> set[str]:
        """Names of all hyperparameters."""
        return {p.name for p in self._parameters}

    def sample(self, key: str) -> Point:
        """Returns the random point that belongs to a key.

        Every hyperparameter has its own random number, so that one that is
        found later leaves the others as they are.
        """
        return self._point(lambda p: p.random_sample(f"{key}/{p.name}"))

    def completed(self, values: Mapping) -> Point:
        """Returns the point with these values, and defaults for the others."""
        return self._point(lambda p: values.get(p.name, p.default))

    def decode(self, row: np.ndarray) -> Point:
        """Returns the point at a place in the unit cube."""
        places = {
            id(p): float(place)
            for p, place in zip(self._free, row, strict=True)
        }
        return self._point(lambda p: _value_at(p, places.get(id(p), 0.5)))

    def encode(self, points: Iterable[Mapping]) -> np.ndarray:
        """Returns the places of points in the unit cube.

        What a point lacks, and what is inactive there, has its default.
        """
        return np.array([self._row(p) for p in points]).reshape(
            -1, self.dimensions
        )

    def walk(
        self,
        levels: Callable[[kt.HyperParameter], Iterable],
        skip: Callable[[Mapping], bool],
    ) -> Iterator[Point]:
        """Walks through the grid; the last hyperparameter changes fastest.

        Args:
            levels: The values of a hyperparameter, in order.
            skip: Whether to leave out all points that begin with these values.
        """
        container = self._container.copy()
        values = container.values = {}
        parameters = self._parameters

        def extend(index: int) -> Iterator[Point]:
            if skip(values):
                return
            if index == len(parameters):
                yield dict(values)
                return
            parameter = parameters[index]
            if parameter.name in values or not container.is_active(parameter):
                yield from extend(index + 1)
                return
            for level in levels(parameter):
                values[parameter.name] = level
                yield from extend(index + 1)
            del values[parameter.name]

        return extend(0)

    def left(self, tried: "Tried", key: str) -> Iterator[Point]:
        """Walks through what was not tried, with one value of a range."""

        def levels(parameter: kt.HyperParameter) -> Iterable:
            values = _all_values(parameter)
            sample = f"{key}/{parameter.name}"
            return (
                [parameter.random_sample(sample)] if values is None else values
            )

        return self.walk(levels, tried.__contains__)

    def draw(self, tried: "Tried", key: str) -> Point | None:
        """Returns a random point that was not tried, None if none is left."""
        for attempt in range(_ATTEMPTS):
            point = self.sample(f"{key}/{attempt}")
            if point not in tried:
                return point
        left = list(itertools.islice(self.left(tried, key), _CANDIDATES))
        return random.Random(key).choice(left) if left else None

    def _point(self, choose: Callable[[kt.HyperParameter], Any]) -> Point:
        values = self._container.values = {}
        for parameter in self._parameters:
            if parameter.name not in values and self._container.is_active(
                parameter
            ):
                values[parameter.name] = choose(parameter)
        return dict(values)

    def _row(self, point: Mapping) -> list[float]:
        self._container.values = dict(point)
        return [
            p.value_to_prob(
                point[p.name]
                if p.name in point and self._container.is_active(p)
                else p.default
            )
            for p in self._free
        ]


class Tried:
    """The points that trials stand for.

    A trial stands for every point that agrees with what it has: one that was
    completed without some hyperparameter did not use it; one that is open may
    find it yet.

    Args:
        space: The space; what else trials hold does not count.
        points: Their values.
    """

    def __init__(self, space: Space, points: Iterable[Mapping]):
        self._by_names: dict[tuple, set] = {}
        known = space.names
        for point in points:
            names = tuple(sorted(known & point.keys()))
            values = tuple(point[name] for name in names)
            self._by_names.setdefault(names, set()).add(values)

    def __contains__(self, point: Mapping) -> bool:
        return any(
            all(name in point for name in names)
            and tuple(point[name] for name in names) in values
            for names, values in self._by_names.items()
        )


def grid(parameter: kt.HyperParameter) -> list:
    """Returns the values of a hyperparameter in a grid, the default first.

    A range without a step has ten values besides its default, ascending.
    """
    values = [_typed(parameter, value) for value in parameter.values]
    if getattr(parameter, "step", 1) is None:
        values.sort()
    default = parameter.default
    return [default, *(v for v in values if not _same(parameter, v, default))]


def _all_values(parameter: kt.HyperParameter) -> Iterable | None:
    """Returns all values of a hyperparameter, None if they form a continuum."""
    if getattr(parameter, "step", 1) is not None:
        return [_typed(parameter, value) for value in parameter.values]
    if isinstance(parameter, kt.Int):
        return range(parameter.min_value, parameter.max_value + 1)
    return None


def _typed(parameter: kt.HyperParameter, value: Any) -> Any:
    # The steps of a logarithmic `Int` are floats in `values`, and integers in
    # all other ways to get them.
    return int(value) if isinstance(parameter, kt.Int) else value


def _same(parameter: kt.HyperParameter, value: Any, other: Any) -> bool:
    """Whether two values are the same within rounding."""
    if not isinstance(parameter, kt.Float):
        return value == other
    width = parameter.max_value - parameter.min_value
    tolerance = 1e-9 * width if parameter.sampling == "linear" else 0.0
    return math.isclose(value, other, rel_tol=1e-9, abs_tol=tolerance)


def _value_at(parameter: kt.HyperParameter, place: float) -> Any:
    value = parameter.prob_to_value(place)
    if not hasattr(parameter, "max_value"):
        return value
    # At 1, a logarithmic `Int` gives one more than its largest value.
    return min(max(value, parameter.min_value), parameter.max_value)


def _is_fixed(parameter: kt.HyperParameter) -> bool:
    return isinstance(parameter, kt.Fixed)


def _parents_first(parameters: Iterable) -> list:
    """Returns hyperparameters in their order, none before its parent.

    What a worker sends to the chief is sorted by type.
    """
    waiting = list(parameters)
    placed: list[kt.HyperParameter] = []
    while waiting:
        names = {p.name for p in placed}
        for parameter in waiting:
            if names.issuperset(c.name for c in parameter.conditions):
                break
        else:  # A parent that does not exist: it is never active.
            return placed
        waiting.remove(parameter)
        placed.append(parameter)
    return placed
