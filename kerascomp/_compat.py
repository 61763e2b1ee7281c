"""The one place that asks which backend runs and touches private Keras.

Every private name used here says why nothing public serves, and
`tests/test_compat.py` fails when the name goes away.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

_INSTALL = """Install one with
    pip install "kerascomp[tensorflow]"      (CPU)
    pip install "kerascomp[tensorflow-cpu]"  (CPU, smaller; Linux on x86-64)
    pip install "kerascomp[gpu]"             (TensorFlow with CUDA)
    pip install "kerascomp[jax]"
    pip install "kerascomp[torch]"
and choose it with the environment variable KERAS_BACKEND=tensorflow, jax or \
torch."""

# Keras reads its configuration at import, and fails there with a bare
# `No module named 'tensorflow'`: say what to do instead.
try:
    import keras
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in ("tensorflow", "jax", "torch"):
        raise
    raise ImportError(
        f"Keras is set to the {missing!r} backend, which is not installed. "
        + _INSTALL
    ) from error
except ValueError as error:
    if "backend" not in str(error):
        raise
    raise ImportError(f"Keras says: {error}. {_INSTALL}") from error

BACKENDS = ("tensorflow", "jax", "torch")


def backend() -> str:
    """Returns the name of the running backend."""
    return keras.backend.backend()


def segment_sum(values: Any, segments: Any, num_segments: int) -> Any:
    """Returns `keras.ops.segment_sum` of a vector, while building models, too.

    On torch, Keras finds shapes by running programs on tensors without data,
    where its `segment_sum` raises. It would run them again, on state that the
    first run had changed in part.
    """
    if backend() == "torch" and values.device.type == "meta":
        return keras.ops.zeros((num_segments,), dtype=values.dtype)
    return keras.ops.segment_sum(values, segments, num_segments=num_segments)


def value_of(variable: Any) -> np.ndarray | None:
    """Returns the numbers of a variable, also while a program is traced.

    None where they are out of reach, as in the training of JAX, which takes
    them out of the variables.
    """
    try:
        if backend() == "tensorflow":
            import tensorflow as tf

            with tf.init_scope():
                return keras.ops.convert_to_numpy(variable.value)
        with keras.StatelessScope():  # Hides the values that are traced.
            return keras.ops.convert_to_numpy(variable.value)
    except Exception:  # Every backend has its own error.
        return None


def optimizers_of(optimizer: Any) -> list:
    """Returns the optimizers that hold a learning rate, wrappers removed."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return optimizers_of(inner)
    # Not by class: Keras has `MultiOptimizer` since 3.15 only.
    several = getattr(optimizer, "optimizers", None)
    if several is not None:
        return [o for each in several for o in optimizers_of(each)]
    return [optimizer]


def learning_rate_variable(optimizer: Any) -> Any:
    """Returns the variable behind a constant learning rate, else None.

    `Optimizer.learning_rate` returns the variable itself for a number and
    a computed tensor for a schedule.
    """
    rate = optimizer.learning_rate
    return rate if isinstance(rate, keras.Variable) else None


class OptimizerState:
    """Assigns variables of `model.optimizer` between the steps of a `fit`.

    On JAX, `fit` carries the state outside the variables, and reads a variable
    that a callback assigned only after `Callback.model` has written all of the
    state back, which costs more than a small step. There, the values are put
    into the state on its way into `model.train_function` instead.
    """

    def __init__(self, model: Any):
        self._model = model
        self._pending: dict[int, Any] = {}
        self._wrapped: Any = None
        self._wrapper: Any = None

    def assign(self, variables: list, value: float) -> None:
        """Gives each variable a value, in time for the next step."""
        of_lane = getattr(self._model, "assign_optimizer", None)
        if of_lane is not None:  # A lane of a population.
            of_lane(variables, value)
            return
        if backend() != "jax":
            for variable in variables:
                variable.assign(value)
            return
        self._wrap()
        # A NumPy array: a tensor would be one more dispatch to the device.
        for index in self._indices(variables):
            self._pending[index] = np.asarray(value, variables[0].dtype)

    def close(self) -> None:
        """Leaves the model as it was found."""
        if self._wrapper is None:
            return
        if self._model.train_function is self._wrapper:
            self._model.train_function = self._wrapped
        self._wrapped = self._wrapper = None

    def _indices(self, variables: list) -> list[int]:
        return [
            index
            for index, candidate in enumerate(self._model.optimizer.variables)
            if any(candidate is variable for variable in variables)
        ]

    def _wrap(self) -> None:
        """Wraps the function of the next step, once.

        Other callbacks may make it anew when training starts, so this waits
        for the first step. After an interrupted `fit`, the wrapper stays
        behind, and with nothing pending it changes nothing.
        """
        if self._model.train_function is self._wrapper:
            return
        wrapped = self._wrapped = self._model.train_function

        @functools.wraps(wrapped)  # Keeps what others marked it with.
        def train_function(state: Any, iterator: Any) -> Any:
            if self._pending:
                optimizer_variables = list(state[2])
                for index, value in self._pending.items():
                    optimizer_variables[index] = value
                self._pending.clear()
                state = (*state[:2], optimizer_variables, *state[3:])
            return wrapped(state, iterator)

        self._wrapper = self._model.train_function = train_function


def loss_arguments(loss: Any) -> dict | None:
    """Returns the arguments of the function that a loss wraps, else None.

    Private: the classes do not keep them as attributes, and `get_config`
    returns a copy.
    """
    return getattr(loss, "_fn_kwargs", None)


def compile_arguments(model: Any) -> dict[str, Any]:
    """Returns what `model.compile` was called with.

    Private: `get_compile_config` serializes functions by their names, which
    does not tell two of one name apart.
    """
    return dict(model._compile_config.config)


def schedule_of(optimizer: Any) -> Any:
    """Returns the learning-rate schedule of an optimizer, else None.

    Private: `learning_rate` returns its current value.
    """
    rate = getattr(optimizer, "_learning_rate", None)
    return None if isinstance(rate, keras.Variable) else rate


def build(model: Any, batch: tuple) -> None:
    """Builds a model, its optimizer, loss and metrics, as `fit` does.

    Private: nothing public creates the metrics' variables without an update.
    """
    model._symbolic_build(data_batch=batch)


def compute_loss(
    model: Any, x: Any, y: Any, y_pred: Any, weight: Any, training: bool
) -> Any:
    """Returns the loss of a batch.

    Private: it calls `compute_loss` with the arguments that an override has.
    """
    return model._compute_loss(x, y, y_pred, weight, training=training)


def track_loss(model: Any, loss: Any, size: Any) -> None:
    """Adds the loss of a batch to the mean that `fit` reports.

    Private: the tracker is public only among all other metrics.
    """
    model._loss_tracker.update_state(loss, sample_weight=size)


def sublayers(layer: Any) -> list:
    """Returns the layers that a layer holds itself.

    Private: only models tell theirs, as `layers`.
    """
    return list(layer._flatten_layers(recursive=False, include_self=False))


def takes_training(layer: Any) -> bool:
    """Whether `call` has an argument `training`.

    Private: Keras finds it out when the layer is made.
    """
    return layer._call_has_training_arg


def base_optimizer() -> type:
    """Returns the optimizer class without a backend's overrides.

    Private: the public class is the backend's own.
    """
    from keras.src.optimizers.base_optimizer import BaseOptimizer

    return BaseOptimizer


def optimizer_targets(optimizer: Any) -> list:
    """Returns the variables that an optimizer was built for, in order.

    Private: nothing public tells.
    """
    return list(optimizer._trainable_variables)


RANDOM_FUNCTIONS = (
    "binomial",
    "beta",
    "categorical",
    "dropout",
    "gamma",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
)


def random_functions() -> Any:
    """Returns the module of random functions that layers use.

    Private: layers do not go through `keras.random`.
    """
    from keras.src import backend as module

    return module.random


def draw_seed(seed: Any) -> Any:
    """Returns the next seed of a generator, or an integer as a seed.

    Private: `SeedGenerator.next` serves generators only.
    """
    return random_functions().draw_seed(seed)


@contextlib.contextmanager
def replaced(namespace: dict, new: dict[str, Any]) -> Iterator[None]:
    """Replaces entries of a dictionary, and puts back what was there.

    Attributes are replaced in the dictionary of their object: the setters of
    Keras objects track what is assigned to them.
    """
    found = {name: namespace[name] for name in new if name in namespace}
    namespace.update(new)
    try:
        yield
    finally:
        namespace.update(found)
        for name in new.keys() - found.keys():
            del namespace[name]
