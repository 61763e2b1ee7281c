"""The compiled steps on JAX: Keras' own steps under `jax.vmap`."""

from typing import Any

import jax
import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.population import _lifting, _program

# Some functions of `jax.numpy` are compiled, and their arguments pass a
# boundary that takes pytrees, but no objects that convert themselves.
jax.tree_util.register_pytree_node(
    _lifting.Lifted,
    lambda number: number.parts,
    lambda branch, tensors: _lifting.Lifted(tensors[0], tensors[1], branch),
)


class Program:
    """Steps of one model as functions of its state.

    On JAX, `train_step`, `test_step` and `predict_step` are pure functions,
    so that members may override them. Random functions take a key by lane.
    """

    def __init__(
        self,
        model: Any,
        lifting: _lifting.Lifting,
        settings: _program.Settings,
    ):
        # Keys differ by lane or not, as they come; XLA compiles everything.
        self._model = model
        self._lifting = lifting
        self._settings = settings
        self._compiled: dict[tuple, Any] = {}
        self.traces = 0
        if settings.probing:
            _refuse_probing(model.optimizer)
            _program.refuse_probing(settings.probing)

    def train(
        self,
        state: _program.State,
        numbers: Any,
        batch: _program.Batch,
        step: int,
    ) -> tuple[dict, Any, _program.State]:
        return self._run("train", batch, state, numbers, np.int32(step))

    def test(
        self, state: _program.State, numbers: Any, batch: _program.Batch
    ) -> tuple[dict, _program.State]:
        logs, non_trainable, metrics = self._run("test", batch, state, numbers)
        return logs, state._replace(
            non_trainable=non_trainable, metrics=metrics
        )

    def predict(
        self, state: _program.State, numbers: Any, batch: _program.Batch
    ) -> Any:
        return self._run("predict", batch, state, numbers)

    def _run(self, kind: str, batch: _program.Batch, *arguments: Any) -> Any:
        key = kind, batch.by_lane
        if key not in self._compiled:
            function = getattr(self, f"_{kind}")
            if self._settings.vectorized:
                of_data, of_weight = (0 if own else None for own in key[1])
                rest = [None] * (len(arguments) - 2)
                axes = ((of_data, of_data, of_weight), 0, 0, *rest)
                function = jax.vmap(function, in_axes=axes)
            self._compiled[key] = jax.jit(function)
        return self._compiled[key](batch.parts, *arguments)

    def _train(
        self, data: tuple, state: _program.State, numbers: Any, step: Any
    ) -> tuple[dict, Any, _program.State]:
        self.traces += 1
        optimizer, seen = self._model.optimizer, []
        apply = optimizer.stateless_apply

        def noting(variables: Any, gradients: Any, trainable: Any) -> Any:
            found = apply(variables, gradients, trainable)
            seen.append(
                _program.measured(
                    self._settings.probing, gradients, trainable, found[0]
                )
            )
            return found

        new_methods = {"stateless_apply": noting}
        with (
            self._lifting.applied(numbers),
            _compat.replaced(
                vars(optimizer), new_methods if self._settings.probing else {}
            ),
        ):
            logs, new = self._model.train_step(tuple(state[:4]), data)
        new = _program.State._make([*new, state.broken])
        norms = seen[0] if seen else None
        return logs, norms, _program.guarded(state, new, logs.get("loss"), step)

    def _test(
        self, data: tuple, state: _program.State, numbers: Any
    ) -> tuple[dict, list, list]:
        variables = state.trainable, state.non_trainable, state.metrics
        with self._lifting.applied(numbers):
            logs, (_, *changed) = self._model.test_step(variables, data)
        return logs, *changed

    def _predict(self, data: tuple, state: _program.State, numbers: Any) -> Any:
        variables = state.trainable, state.non_trainable
        with self._lifting.applied(numbers):
            outputs, _ = self._model.predict_step(variables, data)
        return outputs


def _refuse_probing(optimizer: Any) -> None:
    """Raises where the gradients that arrive are not those of the loss."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise _program.UnsupportedError("the optimizer scales the loss")
