"""The state of a running `fit`, copied and put back."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.callbacks import _capture

ops = keras.ops
tree = keras.tree


class FitState:
    """All variables that a training step may change, as a list of tensors.

    On JAX, the training function takes and returns them, in four lists; on
    the other backends, they are in the variables. What a step was given on
    JAX is no longer there when it returns.
    """

    def __init__(self, model: Any):
        self._model = model
        self._watched: list[int] = []  # Places of variables; see `start`.
        self._started = False

    def start(self, carried: Sequence[Any], x: Any) -> None:
        """Notes which variables are finite, before the first step.

        Args:
            carried: What the training function takes besides the data.
            x: Inputs, to build a model that is not.
        """
        if self._started:
            return
        self._started = True
        model = self._model
        _capture.build(model, x)
        optimizer = model.optimizer  # None where a `train_step` has its own.
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        self._groups: list[list] = [
            list(group)
            for group in (
                model.trainable_variables,
                model.non_trainable_variables,
                () if optimizer is None else optimizer.variables,
                model.metrics_variables,
            )
        ]
        metrics = len(self._groups[-1])
        self._variables = [v for group in self._groups for v in group]
        self._watched = [
            place
            for place, variable in enumerate(self._variables)
            if place < len(self._variables) - metrics
            and _capture.is_float(variable)
        ]
        # Some are infinite on purpose, as the best value so far.
        finite = self._are_finite(self.current(carried))
        self._watched = [
            place
            for place, good in zip(self._watched, finite, strict=True)
            if good
        ]

    def current(self, carried: Sequence[Any]) -> list:
        """Returns the values as they are, which the next step may spoil."""
        if carried:
            return [value for group in carried for value in group]
        return [v.value for v in self._variables]

    def put(self, values: list, carries: bool) -> list:
        """Goes back to former values.

        Returns:
            What the training function must be given besides the data.
        """
        if not carries:
            self.assign(values)
            return []
        rest = iter(copied(values))
        return [tuple([next(rest) for _ in group] for group in self._groups)]

    def assign(self, values: list) -> None:
        """Writes former values into the variables."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def spoiled(self, values: list) -> list[tuple[Any, Any]]:
        """Returns variables, and their values, that are no longer finite."""
        finite = self._are_finite(values)
        return [
            (self._variables[place], values[place])
            for place, good in zip(self._watched, finite, strict=True)
            if not good
        ]

    def _are_finite(self, values: list) -> np.ndarray:
        if not self._watched:
            return np.ones(0, bool)
        found = _compiled_test()(
            [ops.convert_to_tensor(values[place]) for place in self._watched]
        )
        return ops.convert_to_numpy(found)


@functools.cache
def _compiled_test() -> Callable:
    # Once: a `fit` must not compile what the one before has compiled.
    return _capture.backend_file().compiled(_all_finite)


def _all_finite(values: list) -> Any:
    return ops.stack([ops.all(ops.isfinite(value)) for value in values])


def copied(values: list) -> list:
    """Returns copies that no step changes or takes away."""
    return [
        ops.copy(ops.stop_gradient(ops.convert_to_tensor(v))) for v in values
    ]
