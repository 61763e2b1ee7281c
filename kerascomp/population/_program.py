"""What a backend has to offer, and what the lane functions share."""

import dataclasses
from typing import Any, NamedTuple, Protocol

from kerascomp._compat import keras
from kerascomp.population import _lifting

ops = keras.ops

NOT_BROKEN = -1


class UnsupportedError(Exception):
    """A member does what cannot be traced for many lanes at once."""


class State(NamedTuple):
    """All that changes while a lane trains: tensors, one lane or stacked.

    Attributes:
        trainable: Values of `model.trainable_variables`.
        non_trainable: Values of `model.non_trainable_variables`.
        optimizer: Values of `model.optimizer.variables`.
        metrics: Values of `model.metrics_variables`.
        broken: The step at which the lane diverged, or `NOT_BROKEN`.
    """

    trainable: list
    non_trainable: list
    optimizer: list
    metrics: list
    broken: Any


@dataclasses.dataclass(frozen=True)
class Batch:
    """Samples that all lanes see.

    Attributes:
        x: Array or nested arrays, `(batch, ...)`.
        y: The same, or None.
        weight: `(batch,)`, `(lanes, batch)` or None.
        by_lane: Whether `weight` has an axis of lanes.
    """

    x: Any
    y: Any = None
    weight: Any = None
    by_lane: bool = False

    @property
    def size(self) -> int:
        """The number of samples."""
        return keras.tree.flatten(self.x)[0].shape[0]

    def of_lane(self, lane: int) -> "Batch":
        """The batch as one lane sees it."""
        if not self.by_lane:
            return self
        return Batch(self.x, self.y, self.weight[lane])


class Program(Protocol):
    """Compiled steps of the first member, for one lane or for many at once.

    Vectorized, all tensors of `state` and `numbers` have a leading axis of
    lanes, and so have all results.

    Attributes:
        traces: How often the training step was traced.
    """

    traces: int

    def __init__(
        self,
        model: Any,
        lifting: _lifting.Lifting,
        vectorized: bool,
        common_seeds: tuple[bool, ...],
    ): ...

    def train(
        self, state: State, numbers: Any, batch: Batch, step: int
    ) -> tuple[dict, State]:
        """Returns the metrics and the state after one training step."""

    def test(
        self, state: State, numbers: Any, batch: Batch
    ) -> tuple[dict, State]:
        """Returns the metrics and the state after one test step."""

    def predict(self, state: State, numbers: Any, batch: Batch) -> Any:
        """Returns the outputs."""


def guarded(old: State, new: State, loss: Any, step: Any) -> State:
    """Takes a step only if it left a lane finite, and notes where not.

    Args:
        old: The lane before the step.
        new: The lane after it.
        loss: The mean loss so far, or None.
        step: The number of the step.
    """
    finite = [ops.all(ops.isfinite(v)) for v in new.trainable]
    if loss is not None:
        finite.append(ops.isfinite(loss))
    sound = ops.all(ops.stack(finite))
    alive = old.broken == NOT_BROKEN
    goes_on = ops.logical_and(alive, sound)
    kept = [
        [ops.where(goes_on, n, o) for n, o in zip(news, olds, strict=True)]
        for news, olds in zip(new[:4], old[:4], strict=True)
    ]
    breaks = ops.logical_and(alive, ops.logical_not(sound))
    step = ops.cast(step, "int32")
    broken = ops.where(breaks, step, old.broken)
    return State._make([*kept, broken])


def is_seed(variable: Any) -> bool:
    """Whether a variable is the state of a `keras.random.SeedGenerator`."""
    return variable.name == "seed_generator_state"
