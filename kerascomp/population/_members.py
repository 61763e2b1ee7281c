"""Which models may train together, and which of them share a program."""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.population import _lifting, _program, _structure

# Room for the variables of the lanes of one program: weights, gradients and
# what the optimizer keeps.
_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Group:
    """Members of one structure.

    Attributes:
        lanes: Their places in the population.
        models: The members.
        lifting: The numbers that differ between them.
        key: Equal for groups that can run the same program.
        own_noise: Whether to draw noise lane by lane even if the lanes have
            their seeds in common, as those do that are left of more.
    """

    lanes: np.ndarray
    models: list
    lifting: _lifting.Lifting
    key: Any
    own_noise: bool = False


def check(models: Sequence[Any]) -> None:
    """Raises unless models can be members of one population."""
    if not models:
        raise ValueError("A population needs members. Received: models=[]")
    for index, model in enumerate(models):
        if not isinstance(model, keras.Model):
            raise TypeError(
                "Members must be Keras models. "
                f"Received: models[{index}]={model!r}"
            )
        if not model.compiled or model.optimizer is None:
            raise ValueError(
                "Members must be compiled: call `compile` on each. "
                f"Received: models[{index}]={model!r}, not compiled"
            )
    check_ends(models)


def check_ends(models: Sequence[Any]) -> None:
    """Raises unless models take and return the same, as far as they tell."""
    _refuse_shared(models)
    for name in ("inputs", "outputs"):
        first = _described(models[0], name)
        for index, model in enumerate(models):
            own = _described(model, name)
            if None not in (first, own) and own != first:
                raise ValueError(
                    f"Members must have the same {name}. Received: "
                    f"models[0] with {first}, models[{index}] with {own}"
                )


def build(models: Sequence[Any], x: Any) -> None:
    """Creates the variables of all models and optimizers."""
    x = _tensors(x)
    for model in models:
        if not model.built:
            model(x)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)


def build_metrics(model: Any, batch: _program.Batch) -> None:
    """Creates the variables of loss and metrics, which targets decide."""
    if batch.y is not None:
        batch = batch.of_lane(0)
        _compat.build(model, _tensors((batch.x, batch.y, batch.weight)))


def groups(
    models: Sequence[Any],
    max_lanes: int | None,
    apart: Sequence[Hashable] | None = None,
    lift_all: bool = False,
) -> list[Group]:
    """Splits built members into groups of one structure.

    Args:
        models: The members.
        max_lanes: Most members of a group.
        apart: Members of one group have this in common, too.
        lift_all: As `everything` of `Lifting`.
    """
    structures = [_structure.Structure(model) for model in models]
    found: dict[Any, list[int]] = {}
    for lane, structure in enumerate(structures):
        own = None if apart is None else apart[lane]
        found.setdefault((structure.key, own), []).append(lane)
    result = []
    for (key, _), lanes in found.items():
        most = max_lanes or lanes_that_fit(models[lanes[0]])
        parts = np.array_split(lanes, -(-len(lanes) // most))
        for part in parts:
            slots = [structures[lane].slots for lane in part]
            lifting = _lifting.Lifting(slots, lift_all)
            own = key, lifting.key
            members = [models[lane] for lane in part]
            result.append(Group(part, members, lifting, own))
    return result


def lanes_that_fit(model: Any) -> int:
    """Returns how many lanes of a model a program may hold."""
    variables = [*model.variables, *model.trainable_variables]
    variables += model.optimizer.variables
    size = sum(4 * int(np.prod(v.shape)) for v in variables)
    return max(_BYTES // max(size, 1), 1)


def _tensors(value: Any) -> Any:
    return keras.tree.map_structure(
        lambda v: None if v is None else keras.ops.convert_to_tensor(v), value
    )


def _refuse_shared(models: Sequence[Any]) -> None:
    owners: dict[int, int] = {}
    for index, model in enumerate(models):
        parts = {id(model), id(model.optimizer), *map(id, model.variables)}
        for part in parts:
            if part in owners:
                raise ValueError(
                    "Members must not share variables or optimizers: build "
                    "and compile each on its own. Received: "
                    f"models[{owners[part]}] and models[{index}], which do"
                )
        owners.update(dict.fromkeys(parts, index))


def _described(model: Any, name: str) -> Any:
    """Shapes and dtypes of inputs or outputs, where a model tells them."""
    tensors = getattr(model, name, None)
    if not tensors:
        return None
    return [(tuple(t.shape[1:]), str(t.dtype)) for t in tensors]
