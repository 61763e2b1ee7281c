"""The gradient probe on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.callbacks import _probe


class BackendProbe(_probe.QueueProbe):
    """Carries the rows out of the compiled step beside its logs."""

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
        super().attach()

    def _replacement(self, original: Any) -> Any:
        def stateless_apply(
            optimizer_variables: Any, grads: Any, trainable_variables: Any
        ) -> Any:
            if len(grads):
                row = self._jax_row(optimizer_variables, grads)
                self._traced.append(row)
            return original(optimizer_variables, grads, trainable_variables)

        return stateless_apply

    def _jax_row(self, optimizer_variables: Any, gradients: Any) -> Any:
        values = zip(self.optimizer.variables, optimizer_variables, strict=True)
        with keras.StatelessScope(state_mapping=list(values)):
            scale = self._loss_scale()
        row = self._row(
            gradients, None, lambda g: _norm(g, scale), _probe.NO_GRADIENT
        )
        return jnp.asarray(row, "float32")

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

        def train_step(state: Any, data: Any) -> Any:
            self._traced = []
            logs, state = original_step(state, data)
            rows, self._traced = tuple(self._traced), []
            return (logs, rows), state

        def make_function(step: Any, *arguments: Any) -> Any:
            def noting_step(state: Any, data: Any) -> Any:
                (logs, rows), state = step(state, data)
                for row in rows:
                    self._note(row)
                return logs, state

            return original_make(noting_step, *arguments)

        with _compat.replaced(
            vars(self.model),
            {"train_step": train_step, "_make_function": make_function},
        ):
            super()._make_train_function()

    def _fetch(self, rows: list) -> np.ndarray:
        return np.stack(jax.device_get(rows))


def _norm(gradient: Any, scale: Any) -> Any:
    if jax.default_backend() == "cpu":
        # Or XLA mixes the squares into the computation of the gradient, which
        # makes the norms of a step three times as costly.
        gradient = jax.lax.optimization_barrier(gradient.reshape(-1))
    gradient = gradient.astype("float32")
    if scale is not None:
        # First: a scaled gradient's square may overflow where its own not.
        gradient = gradient / scale
    return jnp.sqrt(jnp.sum(jnp.square(gradient)))
