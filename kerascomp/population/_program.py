"""What a backend has to offer, and what the lane functions share."""

import dataclasses
from typing import Any, NamedTuple, Protocol

from kerascomp._compat import keras
from kerascomp.callbacks import _probe
from kerascomp.population import _lifting

ops = keras.ops
tree = keras.tree

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
    """Samples for all lanes of a group.

    Attributes:
        x: Array or nested arrays, `(batch, ...)`.
        y: The same, or None.
        weight: `(batch,)` or None.
        data_by_lane: Whether `x` and `y` have an axis of lanes before these.
        weight_by_lane: Whether `weight` has one.
    """

    x: Any
    y: Any = None
    weight: Any = None
    data_by_lane: bool = False
    weight_by_lane: bool = False

    @property
    def by_lane(self) -> tuple[bool, bool]:
        """What has an axis of lanes: the data, the weight."""
        return self.data_by_lane, self.weight_by_lane

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        """`x`, `y` and `weight`."""
        return self.x, self.y, self.weight

    def of_lane(self, lane: int) -> "Batch":
        """The batch as one lane sees it."""
        own = self.of_lanes(lane)
        return Batch(*own.parts)

    def of_lanes(self, lanes: Any) -> "Batch":
        """The batch for some of the lanes."""
        if not any(self.by_lane):
            return self
        take = lambda array: None if array is None else array[lanes]
        x, y, weight = self.parts
        if self.data_by_lane:
            x, y = tree.map_structure(take, (x, y))
        if self.weight_by_lane:
            weight = take(weight)
        return Batch(x, y, weight, *self.by_lane)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a program is compiled.

    Attributes:
        vectorized: For many lanes at once, instead of one.
        common_seeds: For each non-trainable variable whether it is a seed
            that all lanes share.
        probing: What training steps measure, of `_probe.QUANTITIES`.
        xla: Whether TensorFlow compiles with XLA; JAX always does.
    """

    vectorized: bool = False
    common_seeds: tuple[bool, ...] = ()
    probing: tuple[str, ...] = ()
    xla: bool = False


class Program(Protocol):
    """Compiled steps of the first member, for one lane or for many at once.

    Vectorized, all tensors of `state` and `numbers` have a leading axis of
    lanes, and so have all results.

    Attributes:
        traces: How often the training step was traced.
    """

    traces: int

    def __init__(
        self, model: Any, lifting: _lifting.Lifting, settings: Settings
    ): ...

    def train(
        self, state: State, numbers: Any, batch: Batch, step: int
    ) -> tuple[dict, Any, State]:
        """Trains one step.

        Returns:
            The metrics, what was measured of each variable,
            `(quantities, variables)` (None unless the program is probing), and
            the state after the step.
        """

    def test(
        self, state: State, numbers: Any, batch: Batch
    ) -> tuple[dict, State]:
        """Returns the metrics and the state after one test step."""

    def predict(self, state: State, numbers: Any, batch: Batch) -> Any:
        """Returns the outputs."""


def guarded(old: State, new: State, loss: Any, step: Any) -> State:
    """Takes a step only if it left a lane finite, and notes where not.

    The noted step is the first whose loss is not finite, or whose weights are
    not before it.

    Args:
        old: The lane before the step.
        new: The lane after it.
        loss: The mean loss so far, or None.
        step: The number of the step.
    """
    of_loss = ops.isfinite(0.0 if loss is None else loss)
    finite = [ops.all(ops.isfinite(v)) for v in new.trainable]
    sound = ops.all(ops.stack([of_loss, *finite]))
    alive = old.broken == NOT_BROKEN
    goes_on = ops.logical_and(alive, sound)
    kept = [
        [ops.where(goes_on, n, o) for n, o in zip(news, olds, strict=True)]
        for news, olds in zip(new[:4], old[:4], strict=True)
    ]
    breaks = ops.logical_and(alive, ops.logical_not(sound))
    step = ops.cast(step, "int32") + ops.cast(of_loss, "int32")
    broken = ops.where(breaks, step, old.broken)
    return State._make([*kept, broken])


def refuse_probing(probing: tuple[str, ...]) -> None:
    """Raises for what `measured` does not measure."""
    known = (_probe.GRADIENT, _probe.WEIGHT, _probe.UPDATE)
    if not set(probing) <= set(known):
        raise UnsupportedError("a monitor compares gradients of several steps")


def measured(
    probing: tuple[str, ...], gradients: list, old: list, new: list
) -> Any:
    """Returns norms, `(quantities, variables)`.

    Args:
        probing: Which ones: of gradients, weights and updates.
        gradients: None where there is none, which gives `NO_GRADIENT`.
        old: The weights before the step.
        new: The weights after it.
    """
    changes = lambda: [n - o for n, o in zip(new, old, strict=True)]
    tensors = {
        _probe.GRADIENT: lambda: gradients,
        _probe.WEIGHT: lambda: old,
        _probe.UPDATE: changes,
    }
    rows = [[_norm(t) for t in tensors[name]()] for name in probing]
    return ops.stack([ops.stack(row) for row in rows])


def _norm(tensor: Any) -> Any:
    if tensor is None:
        return ops.convert_to_tensor(_probe.NO_GRADIENT, "float32")
    return ops.sqrt(ops.sum(ops.square(ops.cast(tensor, "float32"))))


def is_seed(variable: Any) -> bool:
    """Whether a variable is the state of a `keras.random.SeedGenerator`."""
    return variable.name == "seed_generator_state"


def is_out_of_memory(error: Exception) -> bool:
    """Whether a backend says that there is not enough memory."""
    said = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(
        words in said
        for words in ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OutOfMemory")
    )
