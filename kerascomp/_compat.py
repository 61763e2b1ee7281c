"""The one place that asks which backend runs and touches private Keras.

Every private name used here says why nothing public serves, and
`tests/test_compat.py` fails when the name goes away.
"""

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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


def magnitude(x: Any) -> Any:
    """Returns the absolute value, with the gradient 0 at 0.

    That of `ops.abs` is 1 there on JAX.
    """
    if backend() == "jax":
        x = keras.ops.where(x == 0, keras.ops.zeros_like(x), x)
    return keras.ops.abs(x)


def multiply_no_nan(x: Any, factor: Any) -> Any:
    """Returns `x * factor`, 0 where the factor is 0, be `x` infinite or NaN.

    TensorFlow does in one pass what takes it two and a mask with `ops.where`.
    """
    if backend() == "tensorflow":
        import tensorflow as tf

        return tf.math.multiply_no_nan(x, factor)
    product = keras.ops.multiply(x, factor)
    return keras.ops.where(factor == 0, keras.ops.zeros_like(product), product)


class BeforeExecution:
    """Has something done right before `fit` runs `model.train_function`.

    By then every callback is through with `on_train_batch_begin`. All that
    want this of a model share one wrapper: several, each of which makes sure
    at every step that it is there, would wrap each other without end.

    Args:
        model: What trains.
        act: Takes the arguments of the function; returns those to run it with.
        writes: Whether these are others, which all that only read should see.
    """

    def __init__(self, model: Any, act: Callable[..., tuple], writes: bool):
        self._model = model
        self._act = act
        self._writes = writes

    def ensure(self) -> None:
        """Sees to it before a step that it is done.

        Not only at the start of training: other callbacks may make the
        function anew.
        """
        model = self._model
        wrapper = getattr(model.train_function, "kerascomp_before", None)
        if wrapper is None:
            wrapper = model.train_function = _Acting(model.train_function)
        if self._act not in wrapper.acts:
            place = 0 if self._writes else len(wrapper.acts)
            wrapper.acts.insert(place, self._act)

    def close(self) -> None:
        """Leaves the model as it was found.

        After an interrupted `fit`, the wrapper stays behind.
        """
        found = self._model.train_function
        wrapper = getattr(found, "kerascomp_before", None)
        if wrapper is None:
            return
        if self._act in wrapper.acts:
            wrapper.acts.remove(self._act)
        if found is wrapper and not wrapper.acts:
            self._model.train_function = wrapper.wrapped


class _Acting:
    """A training function, and what is done before it."""

    def __init__(self, wrapped: Callable):
        functools.update_wrapper(self, wrapped)  # With the marks of others.
        self.kerascomp_before = self
        self.wrapped = wrapped
        self.acts: list[Callable[..., tuple]] = []

    def __call__(self, *arguments: Any) -> Any:
        for act in self.acts:
            arguments = act(*arguments)
        return self.wrapped(*arguments)


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
        self._before = BeforeExecution(model, self._put, writes=True)

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
        self._before.ensure()
        # A NumPy array: a tensor would be one more dispatch to the device.
        for index in self._indices(variables):
            self._pending[index] = np.asarray(value, variables[0].dtype)

    def close(self) -> None:
        """Leaves the model as it was found."""
        if backend() == "jax":
            self._before.close()

    def _indices(self, variables: list) -> list[int]:
        return [
            index
            for index, candidate in enumerate(self._model.optimizer.variables)
            if any(candidate is variable for variable in variables)
        ]

    def _put(self, state: Any, iterator: Any) -> tuple:
        if self._pending:
            optimizer_variables = list(state[2])
            for index, value in self._pending.items():
                optimizer_variables[index] = value
            self._pending.clear()
            state = (*state[:2], optimizer_variables, *state[3:])
        return state, iterator


def carried_values(model: Any, variables: list, arguments: tuple) -> list:
    """Returns copies of variables of `model.optimizer`, tensors.

    Args:
        model: What trains.
        variables: Of its optimizer.
        arguments: Those of `model.train_function`, as `BeforeExecution` gets
            them. Private: on JAX, the state of the optimizer is in them, and
            the step that gets them overwrites it.
    """
    if backend() == "jax":
        carried = arguments[0][2]
        places = {id(v): n for n, v in enumerate(model.optimizer.variables)}
        return _copying()([carried[places[id(v)]] for v in variables])
    if backend() == "tensorflow":
        # Writing makes a new buffer where one was read; and `keras.ops.copy`
        # takes three times as long.
        return [v.value.value() for v in variables]
    return [keras.ops.copy(v) for v in variables]


@functools.cache
def _copying() -> Callable:
    """Returns a compiled function that copies JAX arrays, in one dispatch."""
    import jax

    return jax.jit(lambda arrays: [jax.numpy.copy(each) for each in arrays])


def step_counter(optimizer: Any) -> Any:
    """Returns the variable that a schedule of an optimizer is called with.

    Private: `iterations` is no variable under gradient accumulation, where
    schedules count the steps between two updates, too.
    """
    return optimizer._iterations


class RandomState:
    """The random states outside of models, as they are when it is made.

    Those of Python, NumPy and Keras, and what the backend keeps itself.
    """

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy = np.random.get_state()  # noqa: NPY002 (Keras shuffles by it)
        self._keras = _global_seed_generator()
        self._keras_state = None
        if self._keras is not None:
            state = keras.ops.convert_to_numpy(self._keras.state)
            self._keras_state = np.array(state)
        self._backend = _backend_random_state()

    def restore(self) -> None:
        """Sets all of them back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002
        if self._keras is not None:
            self._keras.state.assign(self._keras_state)
        _restore_backend_random_state(self._backend)


def _global_seed_generator() -> Any:
    """Returns the generator of random functions without a seed, or None.

    Private: nothing public tells its state without making a new one.
    """
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute("global_seed_generator")


def _backend_random_state() -> Any:
    if backend() == "tensorflow":
        seeds = _tensorflow_seeds()
        return seeds and seeds.getstate()
    if backend() == "torch":
        import torch

        return torch.get_rng_state(), torch.cuda.get_rng_state_all()
    return None  # JAX has none.


def _restore_backend_random_state(state: Any) -> None:
    if backend() == "tensorflow":
        seeds = _tensorflow_seeds()
        if state is None or seeds is None:
            return
        seeds.setstate(state)
        from tensorflow.python import pywrap_tfe
        from tensorflow.python.eager import context

        # A compiled operation goes on with the numbers of its seed.
        handle = context.context()._context_handle
        if handle is not None:
            pywrap_tfe.TFE_ContextClearCaches(handle)
    elif backend() == "torch":
        import torch

        torch.set_rng_state(state[0])
        torch.cuda.set_rng_state_all(state[1])


def _tensorflow_seeds() -> random.Random | None:
    """Returns where TensorFlow draws the seeds of unseeded operations.

    None before `tf.random.set_seed`: then they depend on nothing.

    Private: `tf.random.set_seed` can only start it anew.
    """
    from tensorflow.python.eager import context

    return getattr(context.context(), "_rng", None)


def dense(gradient: Any) -> Any:
    """Returns a gradient as a tensor, duplicate rows of an embedding summed.

    `keras.ops.convert_to_tensor` leaves TensorFlow's `IndexedSlices` as it is.
    """
    if backend() != "tensorflow":
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)


def shared_step(model: Any, shares: list[float]) -> Callable:
    """Returns a `train_step` that takes a share of each variable's update.

    Args:
        model: What trains. Its own step runs inside.
        shares: In the order of `model.trainable_variables`. Those of share 0
            keep their bits, and of share 1 what the step gave them.
    """
    original = model.train_step
    slowed = [
        (variable, share)
        for variable, share in zip(
            model.trainable_variables, shares, strict=True
        )
        if share != 1
    ]

    def pure(state: Any, data: Any) -> Any:
        logs, (new, *others) = original(state, data)
        triples = zip(state[0], new, shares, strict=True)
        return logs, ([_between(*each) for each in triples], *others)

    def assigning(data: Any) -> Any:
        before = [keras.ops.copy(_value(v)) for v, _ in slowed]
        logs = original(data)
        for (variable, share), old in zip(slowed, before, strict=True):
            variable.assign(_between(old, _value(variable), share))
        return logs

    return pure if backend() == "jax" else assigning


def _value(variable: Any) -> Any:
    return keras.ops.stop_gradient(keras.ops.convert_to_tensor(variable))


def _between(old: Any, new: Any, share: float) -> Any:
    if share in (0, 1):
        return new if share else old
    return old + share * (new - old)


def replicas() -> int:
    """Returns over how many replicas `tf.distribute` trains here."""
    if backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


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


def flattened(layer: Any) -> list:
    """Returns a layer and all layers inside it, however deep, each once."""
    found: dict[int, Any] = {}
    stack = [layer]
    while stack:
        layer = stack.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            stack.extend(reversed(sublayers(layer)))
    return [*found.values()]


class CarriedStates:
    """Makes the compiled steps of JAX carry the states of recurrent layers.

    Private: Keras leaves these states out of the variables of a layer. What a
    step assigns to them is lost on JAX, whose steps return the variables that
    they change. Generators of random numbers are among them, and are not saved
    with the layer: the states take the place of such, for a while.
    """

    def __init__(self, layers: list) -> None:
        self._held: list[tuple[list, Any]] = []
        if backend() != "jax":
            return
        for layer in layers:
            for state in keras.tree.flatten(layer.states):
                held = _Generator(state)
                layer._seed_generators.append(held)
                self._held.append((layer._seed_generators, held))

    def close(self) -> None:
        """Leaves them out again."""
        for generators, held in self._held:
            generators.remove(held)
        self._held = []


@dataclasses.dataclass(eq=False)
class _Generator:
    state: Any


def programs_read_variables() -> bool:
    """Whether a compiled program reads variables that it was not given.

    Else their values are constants in it.
    """
    return backend() == "tensorflow"


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


class Accumulation(NamedTuple):
    """What an optimizer holds between two updates.

    Attributes:
        steps: Gradients in an update.
        ends: Whether the present call of the optimizer updates.
        gradients: The sums so far, in the order of `optimizer_targets`.
    """

    steps: int
    ends: Any
    gradients: list


def accumulation_steps(optimizer: Any) -> int:
    """Returns how many gradients an optimizer averages for an update.

    Raises:
        ValueError: If those inside a `MultiOptimizer` differ.
    """
    found = {
        each.gradient_accumulation_steps or 1
        for each in optimizers_of(optimizer)
    }
    if len(found) > 1:
        raise ValueError(
            "The optimizers of a model must have the same "
            f"`gradient_accumulation_steps`. Received: {sorted(found)}"
        )
    return found.pop() if found else 1


def accumulation(optimizer: Any) -> Accumulation | None:
    """Returns the state of an optimizer that accumulates, else None.

    Private: nothing public tells the sums, nor the steps without an update.
    """
    steps = accumulation_steps(optimizer)
    if steps == 1:
        return None
    inner = optimizers_of(optimizer)
    sums = {
        # Those that a gradient overwrites have none.
        place: 0.0 if own is None else keras.ops.convert_to_tensor(own)
        for each, places in optimized_places(optimizer)
        for place, own in zip(places, each._accumulated_gradients, strict=True)
    }
    ends = keras.ops.equal((inner[0]._iterations + 1) % steps, 0)
    return Accumulation(steps, ends, [sums[n] for n in sorted(sums)])


def optimized_places(optimizer: Any) -> list[tuple[Any, list[int]]]:
    """Returns the optimizers inside a built one, with the places of theirs.

    Private: as in `optimizer_targets`.
    """
    places = {id(v): n for n, v in enumerate(optimizer_targets(optimizer))}
    return [
        (each, [places[id(v)] for v in optimizer_targets(each)])
        for each in optimizers_of(optimizer)
        if each.built
    ]


def clip_values(optimizer: Any) -> list:
    """Returns the `clipvalue` for each variable of a built optimizer.

    None where the optimizer clips by a norm, which goes first, or not at all.
    """
    limits = [None] * len(optimizer_targets(optimizer))
    for each, places in optimized_places(optimizer):
        for place in places:
            if not (each.clipnorm or each.global_clipnorm):
                limits[place] = each.clipvalue
    return limits


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
