"""The one place that asks which backend runs and touches private Keras.

Every private name used here says why nothing public serves, and
`tests/test_compat.py` fails when the name goes away.
"""

from typing import Any

# Keras reads its configuration at import, and then fails with a bare
# `No module named 'tensorflow'`: say what to do instead.
try:
    import keras
except ModuleNotFoundError as error:
    if error.name not in ("tensorflow", "jax", "torch"):
        raise
    raise ImportError(
        f"Keras is set to the {error.name!r} backend, which is not "
        "installed. Install it with one of\n"
        '    pip install "kerascomp[tensorflow]"      (CPU)\n'
        '    pip install "kerascomp[tensorflow-cpu]"  (CPU, smaller, Linux)\n'
        '    pip install "kerascomp[gpu]"             (TensorFlow with CUDA)\n'
        '    pip install "kerascomp[jax]"\n'
        '    pip install "kerascomp[torch]"\n'
        "or choose an installed one with the environment variable "
        "KERAS_BACKEND=tensorflow, jax or torch."
    ) from error

BACKENDS = ("tensorflow", "jax", "torch")


def backend() -> str:
    """Returns the name of the running backend."""
    return keras.backend.backend()


def optimizers_of(optimizer: Any) -> list:
    """Returns the optimizers that hold a learning rate, wrappers removed."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return optimizers_of(inner)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return [o for each in optimizer.optimizers for o in optimizers_of(each)]
    return [optimizer]


def learning_rate_variable(optimizer: Any) -> Any:
    """Returns the variable behind a constant learning rate, else None.

    `Optimizer.learning_rate` returns the variable itself for a number and
    a computed tensor for a schedule.
    """
    rate = optimizer.learning_rate
    return rate if isinstance(rate, keras.Variable) else None


def assign_during_fit(model: Any, variable: Any, value: float) -> None:
    """Assigns a variable of `model.optimizer` between two training steps.

    On JAX, `fit` carries the state in lists outside the variables. The public
    way, `Callback.model`, writes all of it back and reads it anew at every
    step. The list that holds the optimizer's part is the one that the next
    step receives, so replacing one element in place is enough.
    """
    if backend() == "jax":
        state = getattr(model, "_jax_state", None)
        if state and not model._jax_state_synced:
            values = state["optimizer_variables"]
            for index, candidate in enumerate(model.optimizer.variables):
                if candidate is variable:
                    values[index] = keras.ops.convert_to_tensor(
                        value, variable.dtype
                    )
                    return
    variable.assign(value)
