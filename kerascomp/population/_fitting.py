"""From the arguments of `Population.fit` to a plan, checked before training."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp.population import _callbacks, _data, _training


@dataclasses.dataclass(frozen=True)
class Given:
    """The data, as `fit` gets them."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    class_weight: dict[int, float] | None = None
    validation_data: Any = None
    validation_split: float = 0.0
    shuffle: bool = True

    @property
    def is_stream(self) -> bool:
        """Whether the data come in batches."""
        return _data.is_stream(self.x)


@dataclasses.dataclass(frozen=True)
class Lanes:
    """What may differ by lane, as `fit` gets it."""

    count: int
    batch_size: int | Sequence[int] | None = None
    epochs: int | Sequence[int] = 1
    initial_epoch: int | Sequence[int] = 0
    seeds: Sequence[int] | None = None
    samples: Any = None
    validation_samples: Any = None

    def of_each(self, name: str, least: int) -> list[int]:
        """Returns an argument that is a number or one for each lane."""
        value = getattr(self, name)
        if value is None:
            value = 32
        if not isinstance(value, Sequence | np.ndarray):
            value = [value] * self.count
        if len(value) != self.count:
            raise ValueError(
                f"`{name}` must be a number, or one for each of the "
                f"{self.count} lanes. Received: {len(value)} of them"
            )
        for own in value:
            _validation.at_least(name, own, least)
        return [int(own) for own in value]

    def orders(self, samples: int, name: str, shuffle: bool) -> Any:
        """Returns the order of the samples in the lanes."""
        seeds: Sequence[int | None]
        if not shuffle:
            seeds = [None] * self.count
        elif self.seeds is None:
            seeds = [random.randrange(2**32)] * self.count
        else:
            seeds = [int(seed) for seed in self.seeds]
        if len(seeds) != self.count:
            raise ValueError(
                f"`seeds` must be one for each of the {self.count} lanes. "
                f"Received: seeds={list(seeds)}"
            )
        subsets = getattr(self, name)
        if subsets is not None:
            subsets = self._checked(subsets, samples, name)
        return _data.Orders(samples, seeds, subsets)

    def _checked(self, subsets: Any, samples: int, name: str) -> list:
        if len(subsets) != self.count:
            raise ValueError(
                f"`{name}` must be the indices of the samples of each of the "
                f"{self.count} lanes. Received: {len(subsets)} sets of them"
            )
        checked = [np.asarray(own) for own in subsets]
        for lane, own in enumerate(checked):
            indices = own.ndim == 1 and np.issubdtype(own.dtype, np.integer)
            if not (
                indices and len(own) and 0 <= own.min() <= own.max() < samples
            ):
                raise ValueError(
                    f"`{name}` must be indices from 0 to {samples - 1}, at "
                    f"least one for each lane. Received: {name}[{lane}]={own!r}"
                )
        return checked


@dataclasses.dataclass(frozen=True)
class Steps:
    """How often something happens, as `fit` gets it."""

    per_epoch: int | None = None
    validation_batch_size: int | None = None
    validation_freq: int = 1


def plan(
    given: Given,
    lanes: Lanes,
    steps: Steps,
    callbacks: Sequence[Sequence[Any]],
    verbose: int,
) -> _training.Plan:
    """Returns the plan of a training, with the callbacks of each lane.

    Raises:
        ValueError: If an argument is out of its range, or some do not match.
    """
    for own in callbacks[:1]:
        _callbacks.check(own)
    _validation.at_least("validation_freq", steps.validation_freq, 1)
    _validation.in_interval(
        "validation_split", given.validation_split, "[0, 1)"
    )
    if steps.per_epoch is not None:
        _validation.at_least("steps_per_epoch", steps.per_epoch, 1)
    if steps.validation_batch_size is not None:
        _validation.at_least(
            "validation_batch_size", steps.validation_batch_size, 1
        )
    epochs = zip(
        lanes.of_each("initial_epoch", 0),
        lanes.of_each("epochs", 0),
        strict=True,
    )
    data, validation = _sources(given, lanes, steps)
    data.steps_per_epoch = steps.per_epoch
    return _training.Plan(
        data,
        validation,
        lanes.of_each("batch_size", 1),
        [range(first, stop) for first, stop in epochs],
        callbacks,
        steps.validation_batch_size,
        steps.validation_freq,
        verbose,
    )


def _sources(
    given: Given, lanes: Lanes, steps: Steps
) -> tuple[_data.Source, _data.Source | None]:
    if given.class_weight is not None and given.sample_weight is not None:
        _data.refuse_two_weights()
    if given.is_stream:
        _refuse_for_streams(given, lanes)
        seed = random.randrange(2**32)
        data: _data.Source = _data.Stream(
            given.x, given.class_weight, given.shuffle, seed
        )
        return data, _validation_source(given.validation_data, lanes, steps)
    weight = given.sample_weight
    if given.class_weight is not None:
        weight = _data.weights_of_classes(given.y, given.class_weight)
    x, y = given.x, given.y
    validation_data = given.validation_data
    if given.validation_split and validation_data is None:
        _data.Arrays(x, y, weight, lanes=lanes.count)  # Checks the shapes.
        (x, y, weight), validation_data = _data.split(
            x, y, weight, given.validation_split
        )
    arrays = _data.Arrays(x, y, weight, lanes=lanes.count)
    arrays.use(lanes.orders(arrays.samples, "samples", given.shuffle))
    return arrays, _validation_source(validation_data, lanes, steps)


def _validation_source(
    given: Any, lanes: Lanes, steps: Steps
) -> _data.Source | None:
    if given is None:
        return None
    if not isinstance(given, tuple | list) and _data.is_stream(given):
        return _data.Stream(given)
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise ValueError(
            "`validation_data` must be (x, y) or (x, y, sample_weight), or "
            f"batches of them. Received: {type(given).__name__}"
        )
    x, y, weight = (*given, None)[:3]
    size = steps.validation_batch_size
    data = _data.Arrays(x, y, weight, size, lanes.count)
    data.use(lanes.orders(data.samples, "validation_samples", shuffle=False))
    return data


def _refuse_for_streams(given: Given, lanes: Lanes) -> None:
    """Raises for what batches that come ready-made cannot have."""
    refused = {
        "y": given.y,
        "sample_weight": given.sample_weight,
        "validation_split": given.validation_split or None,
        "samples": lanes.samples,
        "seeds": lanes.seeds,
    }
    found = [name for name, value in refused.items() if value is not None]
    if found:
        raise ValueError(
            "Data that come in batches bring their targets and weights, and "
            "are the same for all lanes; pass arrays, or leave these out. "
            f"Received: {', '.join(found)}"
        )
