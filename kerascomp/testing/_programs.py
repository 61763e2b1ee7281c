"""Small programs to run components in, by public Keras means alone."""

import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from kerascomp._compat import keras

ops = keras.ops
tree = keras.tree


def numpy_of(tensors: Any) -> Any:
    """Returns a structure of tensors as NumPy arrays."""
    return tree.map_structure(ops.convert_to_numpy, tensors)


def arrays_of(tensors: Any) -> list[np.ndarray]:
    """Returns the tensors of a structure as a list of NumPy arrays."""
    return [ops.convert_to_numpy(each) for each in tree.flatten(tensors)]


def is_finite(tensors: Any) -> bool:
    """Says whether every number of a structure of tensors is finite."""
    # Half precision overflows only where the component does, not in here.
    arrays = arrays_of(tensors)
    return all(np.isfinite(a.astype("float64")).all() for a in arrays)


def is_floating(tensor: Any) -> bool:
    """Says whether a tensor or array holds floating-point numbers."""
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def assert_same(
    actual: Any, expected: Any, message: str, tolerance: float = 1e-5
) -> None:
    """Asserts that two structures hold the same numbers.

    The default tolerance is that of float32 sums taken in another order.
    """
    actual, expected = arrays_of(actual), arrays_of(expected)
    shapes = [a.shape for a in actual], [e.shape for e in expected]
    assert shapes[0] == shapes[1], f"{message} Shapes: {shapes}"
    for a, e in zip(actual, expected, strict=True):
        a, e = a.astype("float64"), e.astype("float64")
        same = np.allclose(a, e, rtol=tolerance, atol=tolerance, equal_nan=True)
        assert same, f"{message} Received:\n{a}\nExpected:\n{e}"


class Program(keras.Model):
    """A function of tensors as a model, so that Keras compiles it."""

    def __init__(self, function: Callable[..., Any], *layers: Any):
        super().__init__(autocast=False)
        self.function = function
        self.used = layers  # So that Keras knows their variables.

    def call(self, inputs: Any) -> Any:
        return self.function(*inputs)


def compiled(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """Returns what a function gives in the compiled program of the backend."""
    return Program(function).predict_on_batch(list(arrays))


def traced(function: Callable[..., Any], *specs: Any) -> Any:
    """Returns the symbolic output of a function, found by running it."""
    return Program(function)(list(specs))


class _Point(keras.layers.Layer):
    """Holds the point of a gradient and adds the function's sum as loss."""

    def __init__(self, function: Callable[[Any], Any], point: np.ndarray):
        super().__init__(dtype=point.dtype.name, autocast=False)
        self.function = function
        self.start = point
        self.point = self.add_weight(shape=point.shape, initializer="zeros")

    def call(self, inputs: Any) -> Any:
        self.add_loss(ops.sum(self.function(ops.convert_to_tensor(self.point))))
        return inputs


class _Keep(keras.optimizers.Optimizer):
    """Replaces every weight by its gradient."""

    def update_step(
        self,
        gradient: Any,
        variable: Any,
        learning_rate: Any,  # noqa: ARG002
    ) -> None:
        self.assign(variable, ops.cast(gradient, variable.dtype))


def gradient(function: Callable[[Any], Any], point: np.ndarray) -> np.ndarray:
    """Returns the gradient of the sum of a function, on any backend.

    The point becomes the weight of a layer, and an optimizer that stores
    gradients instead of following them takes one step.
    """
    layer = _Point(function, point)
    layer.point.assign(point)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(_Keep(learning_rate=1.0), run_eagerly=True)
    model.train_on_batch(np.ones((1, 1), "float32"))
    return ops.convert_to_numpy(layer.point)


class _Scale(keras.layers.Layer):
    """Multiplies by one trainable weight, so that gradients have a target."""

    def build(self, input_shape: Any) -> None:  # noqa: ARG002
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


def symbolic(arrays: Any) -> Any:
    """Returns Keras inputs like the arrays, of unknown batch size."""
    return tree.map_structure(
        lambda a: keras.Input(a.shape[1:], dtype=a.dtype.name), arrays
    )


def scaled(inputs: Any) -> Any:
    """Returns symbolic inputs, the float ones times a trainable weight."""
    return tree.map_structure(
        lambda each: _Scale()(each) if is_floating(each) else each, inputs
    )


def seeded(make: Callable[..., Any], seed: int = 0) -> Any:
    """Returns what `make` gives after Keras' seed is set."""
    keras.utils.set_random_seed(seed)
    return make()


def reloaded(component: Any) -> Any:
    """Returns what JSON keeps of a component, as Keras loads it."""
    text = json.dumps(keras.saving.serialize_keras_object(component))
    try:
        return keras.saving.deserialize_keras_object(json.loads(text))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{component} does not reload by itself. Decorate it with "
            "`keras.saving.register_keras_serializable(package)` and accept "
            f"in the constructor what get_config() returns. Keras says: {error}"
        ) from error


def reloaded_model(model: Any) -> Any:
    """Returns the model saved to a `.keras` file and loaded again."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


def regression(optimizer: Any = None, units: int = 3) -> tuple:
    """Returns a small compiled model with float data `x` and `y`."""
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(units, activation="tanh")(inputs)
    outputs = keras.layers.Dense(2)(hidden)
    model = keras.Model(inputs, outputs, name="regression")
    if optimizer is None:
        # With momentum, so that there is optimizer state to leave alone.
        optimizer = keras.optimizers.SGD(0.05, momentum=0.5)
    model.compile(optimizer, "mse")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 5)).astype("float32")
    y = generator.normal(size=(12, 2)).astype("float32")
    return model, x, y


def fit(trained: tuple, callbacks: Any = (), **kwargs: Any) -> Any:
    """Trains `(model, x, y)` for two epochs; returns the history."""
    model, x, y = trained
    settings = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, callbacks=[*callbacks], **{**settings, **kwargs})
    return history.history
