"""Finds the first tensor of a training step that is not finite."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.callbacks import _capture

ops = keras.ops
tree = keras.tree


@dataclasses.dataclass(frozen=True)
class Clue:
    """A tensor that is not finite.

    Attributes:
        kind: `"input"`, `"output"`, `"target"`, `"loss"`, `"gradient"`,
            `"weight"`, or `"unknown"` if a replay found none.
        layer: The path of the layer; empty if it belongs to none.
        tensor: What it is, in words.
        nan: How many of its elements are NaN.
        infinite: How many are infinite.
        size: How many it has.
    """

    kind: str
    layer: str
    tensor: str
    nan: int = 0
    infinite: int = 0
    size: int = 0


UNKNOWN = Clue("unknown", "", "nothing that a replay could find")


def first_in_step(model: Any, batch: _capture.Batch, noise: Any) -> Clue | None:
    """Replays forward and backward pass of a step, and looks in their order.

    Args:
        model: Holds the weights that it had before the step.
        batch: That of the step.
        noise: As in `_capture.PureModel`.
    """
    replay = _Replay(model, batch, noise)
    return replay.forward() or replay.backward()


def first_among(variables: Iterable[tuple[Any, Any]]) -> Clue | None:
    """Looks for weights that an update spoiled.

    Args:
        variables: Pairs of a variable and its value after the update.
    """
    for variable, value in variables:
        layer, path = _named(variable)
        clue = _clue("weight", layer, f"{path} after the update", value)
        if clue:
            return clue
    return None


class _Replay:
    def __init__(self, model: Any, batch: _capture.Batch, noise: Any):
        self._pure = _capture.PureModel(model, noise)
        self._values = self._pure.values()
        self._batch = batch
        # What the layers took and put out, in the order of the forward pass.
        self._events: list[tuple[str, Any, str, Any]] = []

    def forward(self) -> Clue | None:
        found: list[Clue] = []

        def hook(name: str, layer: Any, tensors: Any, place: str) -> Any:
            for tensor in _floats(tensors):
                zeros = ops.zeros(tensor.shape, tensor.dtype)
                self._events.append((name, layer, place, zeros))
                clue = _clue("output", name, f"the output of {name}", tensor)
                if clue and place == "output":
                    found.append(clue)
            return tensors

        loss = self._pure.loss(self._values, self._batch, True, hook)
        x, y, weight = self._batch
        inputs, targets, weights = (
            _first("input", "the input data", x),
            _first("target", "the targets", y),
            _first("target", "the sample weights", weight),
        )
        if found:
            # A layer may be there to deal with missing numbers.
            return inputs or found[0]
        lost = _clue("loss", "", "the loss", loss)
        return lost and (targets or weights or lost)

    def backward(self) -> Clue | None:
        count = len(self._values[0])

        def loss(values: list) -> Any:
            changes = iter(values[count:])

            def change(tensors: Any) -> Any:
                return tree.map_structure(
                    lambda t: t + next(changes) if _is_float(t) else t, tensors
                )

            weights = (values[:count], self._values[1])
            return self._pure.loss(
                weights, self._batch, True, lambda *seen: change(seen[2])
            )

        zeros = [event[-1] for event in self._events]
        _, found = _capture.backend_file().gradients(
            loss, [*self._values[0], *zeros]
        )
        return self._last_bad(found[:count], found[count:])

    def _last_bad(self, weights: list, events: list) -> Clue | None:
        """The first on the way back, which is the last on the way there."""
        gradients = {
            id(variable): (variable, gradient)
            for variable, gradient in zip(
                self._pure.trainable, weights, strict=True
            )
        }
        for (name, layer, place, _), gradient in reversed(
            [*zip(self._events, events, strict=True)]
        ):
            # The gradient by a model's output is that by its last layer's.
            inner = isinstance(layer, keras.Model)
            words = f"the gradient by the {place} of {name}"
            clue = None if inner else _clue("gradient", name, words, gradient)
            own = getattr(layer, "trainable_variables", ())
            if clue is None and place == "input":
                pairs = [gradients.pop(id(v), None) for v in own]
                clue = _of_variables(pair for pair in pairs if pair)
            if clue:
                return clue
        return _of_variables(gradients.values())


def _of_variables(pairs: Iterable[tuple[Any, Any]]) -> Clue | None:
    for variable, gradient in pairs:
        layer, path = _named(variable)
        clue = _clue("gradient", layer, f"the gradient by {path}", gradient)
        if clue:
            return clue
    return None


def _first(kind: str, words: str, data: Any) -> Clue | None:
    flat = [t for t in tree.flatten(data) if t is not None]
    for number, tensor in enumerate(flat):
        which = "" if len(flat) == 1 else f", array {number}"
        clue = _clue(kind, "", words + which, tensor)
        if clue:
            return clue
    return None


def _clue(kind: str, layer: str, tensor: str, value: Any) -> Clue | None:
    if not _is_float(value):
        return None
    array = ops.convert_to_numpy(value).astype("float32")
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    if not nan + infinite:
        return None
    return Clue(kind, layer, tensor, nan, infinite, array.size)


def _named(variable: Any) -> tuple[str, str]:
    path = getattr(variable, "path", variable.name)
    return path.rpartition("/")[0], path


def _floats(tensors: Any) -> list:
    return [t for t in tree.flatten(tensors) if _is_float(t)]


def _is_float(tensor: Any) -> bool:
    return hasattr(tensor, "dtype") and _capture.is_float(tensor)
