"""The gradient probe on JAX."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.callbacks import _probe


class BackendProbe(_probe.QueueProbe):
    """Carries the rows out of the compiled step beside its logs.

    What a step needs to know of those before goes in beside its data: their
    number, if only some steps are measured, and the last gradients, if it
    compares them. Steps that do not are compiled apart: a condition would copy
    the gradients at every step.
    """

    method = "stateless_apply"

    def attach(self) -> None:
        if keras.config.is_nnx_enabled():
            raise ValueError(
                "Gradients cannot be monitored with the NNX backend of Keras: "
                "it compiles the `train_step` of the model's class, not that "
                "of the model. Disable it with the environment variable "
                "KERAS_NNX_ENABLED=false. Received: nnx_enabled=True"
            )
        self._traced: list = []
        self._calls = 1
        self._number: Any = None
        self._previous: Any = None
        super().attach()

    def _replacement(self, original: Any) -> Any:
        def stateless_apply(
            optimizer_variables: Any, grads: Any, trainable_variables: Any
        ) -> Any:
            arguments = optimizer_variables, grads, trainable_variables
            if not len(grads):
                return original(*arguments)
            blocks = self._blocks_before(arguments, self._is_step(self.period))
            found = original(*arguments)
            if _probe.UPDATE in self.layout:
                old, new = trainable_variables, found[0]
                rows = lambda: self._rows_after(old, new)[0]
                blocks.append(self._at(_probe.UPDATE, rows))
            self._traced.append(jnp.concatenate(blocks))
            return found

        return stateless_apply

    def _blocks_before(self, arguments: tuple, due: Any) -> list:
        optimizer_variables, gradients, weights = arguments
        values = zip(self.optimizer.variables, optimizer_variables, strict=True)
        with keras.StatelessScope(state_mapping=list(values)):
            call = self._call(gradients, None)
            call.weights = list(weights)
            if self._previous is not None:
                call.previous = self._previous
                self._previous = [
                    jnp.zeros(w.shape, "float32") if g is None else g
                    for g, w in zip(call.dense, weights, strict=True)
                ]
            count = len(self.layout) - (_probe.UPDATE in self.layout)
            kept = self.periods.get(_probe.PRODUCT)
            if kept == self.period > 1 and not call.previous:
                # Compiled for the steps between, whose row nobody wants.
                return [jnp.zeros(len(self.names), "float32")] * count
            return self._if(due, lambda: self._rows_before(call), count)

    def _is_step(self, period: int, ahead: int = 0) -> Any:
        if period == 1:
            return None
        return (self._number + len(self._traced) + ahead) % period == 0

    def _if(self, due: Any, compute: Callable[[], list], count: int) -> list:
        """Returns blocks, computed where they are due."""
        if due is None or not count:
            return compute()
        nothing = [jnp.zeros(len(self.names), "float32")] * count
        return jax.lax.cond(due, compute, lambda: nothing)

    def _make_train_function(self) -> None:
        """Makes the compiled step return the rows, and takes them from it.

        A tracer may leave a compiled function only as a result of it. The
        step is a new function each time: an equal one, as the bound method,
        would be found in the cache of `jax.jit` and not traced again.

        Private: `_make_function` loops over `steps_per_execution` and returns
        the last step's logs alone. The compiled step passes through it and
        nothing else, so rows must be taken there.
        """
        original_step = self.model.train_step
        original_make = self.model._make_function
        carried: list = []

        def train_step(state: Any, data: Any) -> Any:
            data, before = data
            self._traced = []
            self._number = before.get("number")
            self._previous = before.get("previous")
            logs, state = original_step(state, data)
            rows, self._traced = tuple(self._traced), []
            after = () if self._previous is None else self._previous
            self._number = self._previous = None
            return (logs, rows, after), state

        def make_function(step: Any, *arguments: Any) -> Any:
            def noting_step(state: Any, data: Any) -> Any:
                common = math.lcm(*self.periods.values())
                before: dict = {}
                if common > 1:
                    before["number"] = np.int32(self._seen % common)
                if self._compares():
                    before["previous"] = carried or self._no_gradients()
                (logs, rows, after), state = step(state, (data, before))
                carried[:] = after
                self._calls = len(rows)
                for row in rows:
                    self._note(row)
                return logs, state

            return original_make(noting_step, *arguments)

        with _compat.replaced(
            vars(self.model),
            {"train_step": train_step, "_make_function": make_function},
        ):
            super()._make_train_function()

    def _compares(self) -> bool:
        """Whether the coming step needs the last gradients, or the next one."""
        period = self.periods.get(_probe.PRODUCT, 0)
        if self._calls > 1:  # Of the optimizer, in a step.
            return bool(period)
        return bool(period) and (self._seen + 1) % period < 2

    def _no_gradients(self) -> list:
        """What comes before the first step: its product is NaN."""
        return [
            np.full(v.shape, np.nan, "float32")
            for v in _compat.optimizer_targets(self.optimizer)
        ]

    def _stack(self, scalars: list) -> Any:
        return jnp.asarray(scalars, "float32")

    def _when(self, condition: Any, compute: Callable[[], Any]) -> Any:
        nothing = jnp.full(len(self.names), _probe.NO_GRADIENT, "float32")
        return jax.lax.cond(condition, compute, lambda: nothing)

    def _unscaled(self, gradient: Any, scale: Any) -> Any:
        gradient = _apart(gradient).astype("float32")
        return gradient if scale is None else gradient / scale

    def _norm(self, tensor: Any) -> Any:
        return jnp.sqrt(jnp.sum(jnp.square(tensor.astype("float32"))))

    def _fetch(self, rows: list) -> np.ndarray:
        return np.stack(jax.device_get(rows))


def _apart(tensor: Any) -> Any:
    """Keeps XLA from computing a tensor together with its norm.

    On a CPU it would mix the squares into the computation of a gradient, which
    makes the norms of a step three times as costly.
    """
    if jax.default_backend() != "cpu":
        return tensor
    flat = jax.lax.optimization_barrier(tensor.reshape(-1))
    return flat.reshape(tensor.shape)
