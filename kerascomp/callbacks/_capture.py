"""A model as a pure function, with the outputs of its layers in view."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from kerascomp import _compat, _numerics
from kerascomp._compat import keras
from kerascomp.callbacks import _probe

ops = keras.ops
tree = keras.tree

# Their own layers run in loops of the backend, and no tensor may leave those.
LOOPS = (keras.layers.RNN, keras.layers.TimeDistributed)


class Batch(NamedTuple):
    """What a loss needs: nested tensors, `(samples, ...)`, or None."""

    x: Any
    y: Any = None
    weight: Any = None


class Hook(Protocol):
    """Sees what a layer takes and returns, and may put others in its place.

    Args:
        name: Of the layer and the call: a second one is `dense@2`.
        layer: A layer, or an operation of a functional model.
        tensors: Nested tensors.
        place: `"input"`, the first argument, or `"output"`.
    """

    def __call__(
        self, name: str, layer: Any, tensors: Any, place: str
    ) -> Any: ...


def backend_file() -> Any:
    """Returns the module that compiles and differentiates."""
    name = _compat.backend()
    return importlib.import_module(f"kerascomp.callbacks._hessian_{name}")


class PureModel:
    """A model whose calls change nothing and take the weights as arguments.

    Args:
        model: A built model, compiled if losses are asked for.
        noise: What `noise_state` of the backend gave; None for the same noise
            at each call.
    """

    def __init__(self, model: Any, noise: Any = None):
        self.model = model
        self.noise = noise
        self.trainable = list(model.trainable_variables)
        known = {id(v) for v in self.trainable}
        others = (*model.variables, *model.metrics_variables)
        rest = {id(v): v for v in others if id(v) not in known}
        self.others = list(rest.values())

    def values(self) -> tuple[list, list]:
        """Returns the current weights: trainable ones, and all others."""
        trainable, others = (
            [ops.stop_gradient(ops.convert_to_tensor(v.value)) for v in group]
            for group in (self.trainable, self.others)
        )
        return trainable, others

    def outputs(
        self,
        values: tuple[list, list],
        x: Any,
        training: bool = False,
        hook: Hook | None = None,
    ) -> Any:
        """Returns what the model says to `x`."""
        with self._scope(values), watched(self.model, hook):
            return self._call(x, training)

    def loss(
        self,
        values: tuple[list, list],
        batch: Batch,
        training: bool = False,
        hook: Hook | None = None,
    ) -> Any:
        """Returns the loss that `fit` lowers, regularization included."""
        with self._scope(values):
            with watched(self.model, hook):
                predicted = self._call(batch.x, training)
            return _compat.compute_loss(
                self.model, batch.x, batch.y, predicted, batch.weight, training
            )

    def _call(self, x: Any, training: bool) -> Any:
        if _compat.takes_training(self.model):
            return self.model(x, training=training)
        return self.model(x)

    @contextlib.contextmanager
    def _scope(self, values: tuple[list, list]) -> Iterator[None]:
        pairs = [
            pair
            for group, found in zip(
                (self.trainable, self.others), values, strict=True
            )
            for pair in zip(group, found, strict=True)
        ]
        with (
            backend_file().noise(self.noise),
            keras.StatelessScope(pairs, collect_losses=True),
        ):
            yield


def parts(model: Any) -> list[tuple[str, Any]]:
    """Returns the layers and operations of a model by name, outermost last.

    The names are the paths of the layers, as in the names of weights.
    """
    found: dict[int, Any] = {}
    paths: list[str] = []

    def walk(whole: Any, prefix: str) -> None:
        if hasattr(whole, "operations"):
            prefix = ""  # Keras gives what it holds no other path.
        for part in _children(whole):
            if id(part) in found or isinstance(part, keras.layers.InputLayer):
                continue
            found[id(part)] = part
            # Layers without weights may not know their path.
            path = getattr(part, "path", None) or f"{prefix}{part.name}"
            paths.append(path)
            if not isinstance(part, LOOPS):
                walk(part, f"{path}/")

    walk(model, f"{model.name}/")
    unique = _probe.unique([f"{path}/" for path in paths])
    names = [name.removesuffix("/") for name in unique]
    return [*zip(names, found.values(), strict=True), (model.name, model)]


def _children(whole: Any) -> list:
    if not isinstance(whole, keras.layers.Layer):
        return []
    if hasattr(whole, "operations"):  # A functional model.
        return list(whole.operations)
    if isinstance(whole, keras.Model):
        return list(whole.layers)
    return _compat.sublayers(whole)


@contextlib.contextmanager
def watched(model: Any, hook: Hook | None) -> Iterator[None]:
    """Shows a hook all calls of the model's layers, and of the model last.

    The inputs of a layer that holds others are not shown: a hook that puts
    others in their place would take the masks off them.
    """
    if hook is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        for name, part in parts(model):
            replacement = {"call": _shown(name, part, hook)}
            stack.enter_context(_compat.replaced(vars(part), replacement))
        yield


def _shown(name: str, part: Any, hook: Hook) -> Callable:
    original = part.call
    leaf = isinstance(part, LOOPS) or not _children(part)
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        numbered = name if calls == 1 else f"{name}@{calls}"
        if leaf and args:
            args = (hook(numbered, part, args[0], "input"), *args[1:])
        return hook(numbered, part, original(*args, **kwargs), "output")

    return call


def is_float(tensor: Any) -> bool:
    """Whether these are floating point numbers."""
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def tensors(data: Any) -> Any:
    """Returns nested arrays as tensors, as `fit` would make them."""

    def tensor(array: Any) -> Any:
        array = np.asarray(array) if isinstance(array, list) else array
        dtype = getattr(array, "dtype", None)
        double = dtype is not None and str(dtype).endswith("float64")
        return ops.convert_to_tensor(
            array, keras.config.floatx() if double else None
        )

    return tree.map_structure(lambda a: None if a is None else tensor(a), data)


def probe(name: str, data: Any, supervised: bool) -> Batch:
    """Returns the data of a probe as a batch.

    Args:
        name: Of the argument, for the message.
        data: The inputs, or if `supervised` a tuple as `validation_data` is.
        supervised: Whether there are targets.

    Raises:
        ValueError: If there is none, or if its parts differ in length.
    """
    if supervised and not (isinstance(data, tuple) and len(data) in (2, 3)):
        raise ValueError(
            f"`{name}` must be a tuple of inputs and targets, and of sample "
            f"weights if there are any. Received: {name} of type "
            f"{type(data).__name__}"
        )
    batch = Batch(*(data if supervised else (data,)))
    arrays = [a for a in tree.flatten(tuple(batch)) if a is not None]
    lengths = {np.shape(a)[:1] for a in arrays}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(
            f"`{name}` must hold arrays of one length, at least 1. Received: "
            f"{name} with the shapes {[tuple(np.shape(a)) for a in arrays]}"
        )
    return Batch(*(tensors(part) for part in batch))


def build(model: Any, x: Any) -> None:
    """Builds a model, if it is not, and leaves its seeds where they were."""
    if model.built:
        return
    # Recurrent layers draw noise for dropout in inference, too.
    found = [(v, ops.copy(ops.convert_to_tensor(v))) for v in model.variables]
    model(x)
    for variable, value in found:
        variable.assign(value)


def prepare(name: str, model: Any, x: Any) -> PureModel:
    """Returns a model ready to be called on inputs, building it if needed.

    Args:
        name: Of the argument that `x` is from, for the message.
        model: Any model.
        x: Nested tensors.

    Raises:
        ValueError: If the inputs of the model are others.
    """
    expected = tree.flatten(getattr(model, "inputs", None) or [])
    shapes = [tuple(a.shape) for a in tree.flatten(x)]
    fits = len(expected) == len(shapes) and all(
        _numerics.same_shape(e.shape, s)
        for e, s in zip(expected, shapes, strict=True)
    )
    if expected and not fits:
        wanted = [tuple(e.shape) for e in expected]
        raise ValueError(
            f"`{name}` must fit the inputs of the model. Received: {name} of "
            f"shape {_one(shapes)} for inputs of shape {_one(wanted)}"
        )
    try:
        build(model, x)
        pure = PureModel(model)
        pure.outputs(pure.values(), x)
    except Exception as error:
        raise ValueError(
            f"The model cannot be called on `{name}`. Received: {name} of "
            f"shape {_one(shapes)}. Keras says: {error}"
        ) from error
    return pure


def _one(shapes: list) -> Any:
    return shapes[0] if len(shapes) == 1 else shapes
