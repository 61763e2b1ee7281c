"""What makes two compiled models one program: a key of their structure.

Models with equal keys differ in values alone: weights, seeds, names and
liftable numbers. When in doubt the key differs, which costs speed and never
correctness.
"""

import functools
import types
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.population import _lifting

_SCALARS = (type(None), bool, int, float, complex, str, bytes, type(...))
_CONFIGURED = (keras.optimizers.Optimizer, keras.DTypePolicy)
# What the base classes keep for themselves, but for what changes a program.
_TELLING = {"activity_regularizer", "_dtype_policy", "_trainable", "_layers"}
_TOPOLOGY = ("inbound_nodes", "input_layers", "output_layers")


class Structure:
    """The structure of one compiled and built model.

    Attributes:
        key: Hashable; equal for models that may share a program.
        slots: The liftable numbers, in an order that equal keys share.
    """

    def __init__(self, model: Any):
        self.slots: list[_lifting.Slot] = []
        self._seen: dict[int, int] = {}
        arguments = _compat.compile_arguments(model)
        self.key = (
            self._of(model),
            self._of(model.optimizer),
            *(
                self._of(arguments.get(name))
                for name in ("loss", "loss_weights")
            ),
            self._of_metrics(arguments),
            _signature(model.trainable_variables),
            _signature(model.non_trainable_variables),
            _signature(model.optimizer.variables),
        )

    def _of_metrics(self, arguments: dict) -> Any:
        """Metrics are told apart by their names, too: the logs hold them."""
        groups = [
            keras.tree.flatten(arguments.get(name))
            for name in ("metrics", "weighted_metrics")
        ]
        return tuple(
            (self._of(metric), getattr(metric, "name", None))
            for group in groups
            for metric in [*group, "end of group"]
        )

    def _of(self, value: Any) -> Any:
        if isinstance(value, _SCALARS):
            return type(value).__name__, repr(value)
        if isinstance(value, keras.Variable):
            return _signature([value])
        if isinstance(value, keras.KerasTensor):
            return tuple(value.shape), str(value.dtype)
        if isinstance(value, keras.Initializer | keras.random.SeedGenerator):
            return type(value)  # Their values are in the variables.
        if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
            return _of_array(value)
        if isinstance(value, dict):
            return tuple((str(k), self._of(v)) for k, v in value.items())
        if isinstance(value, list | tuple | set | frozenset):
            return type(value).__name__, *map(self._of, value)
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if isinstance(value, types.MethodType):
            return self._of(value.__self__), value.__func__
        if isinstance(value, type) or not hasattr(value, "__dict__"):
            return value if isinstance(value, type) else id(value)
        return self._of_object(value)

    def _of_function(self, function: types.FunctionType) -> Any:
        """Two functions of one text differ in what they closed over."""
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        defaults = function.__defaults__, function.__kwdefaults__
        return function.__code__, self._of(cells), self._of(defaults)

    def _of_object(self, value: Any) -> Any:
        if id(value) in self._seen:
            return "seen", self._seen[id(value)]
        self._seen[id(value)] = len(self._seen)
        slots = _lifting.slots_of(value)
        self.slots.extend(slots)
        attributes = dict(_attributes(value))
        if _compat.loss_arguments(value) is not None:
            attributes["_fn_kwargs"] = dict(_compat.loss_arguments(value) or {})
        for slot in slots:
            if slot.branch is not None:
                for found in (attributes, attributes.get("_fn_kwargs", {})):
                    if slot.name in found:
                        found[slot.name] = f"liftable, {slot.branch}"
        topology = _topology(value) if _is_functional(value) else None
        # In order of their names: they may be set in any order.
        return type(value), self._of(dict(sorted(attributes.items()))), topology


def _attributes(value: Any) -> dict[str, Any]:
    if isinstance(value, _CONFIGURED):
        found = {**_plain_attributes(value), **value.get_config()}
        found["schedule"] = None
        if isinstance(value, keras.optimizers.Optimizer):
            found["schedule"] = _compat.schedule_of(value)
            found.pop("learning_rate", None)
        found.pop("name", None)
        return found
    skip = _bookkeeping() - _TELLING
    found = {k: v for k, v in vars(value).items() if k not in skip}
    if isinstance(value, keras.Model):
        found = {k: v for k, v in found.items() if k not in _compiled()}
    if _is_functional(value):
        found["operations"] = list(value.operations)
    seeded = keras.random.SeedGenerator
    if any(isinstance(v, seeded) for v in vars(value).values()):
        found.pop("seed", None)  # The generator's state is what counts.
    return found


def _plain_attributes(value: Any) -> dict[str, Any]:
    """Scalars and functions: what a config that forgets may have forgotten."""
    plain = (bool, int, float, str, types.FunctionType)
    return {
        name: found
        for name, found in vars(value).items()
        if isinstance(found, plain) and name not in ("name", "built", "_lock")
    }


def _topology(model: Any) -> Any:
    """How the layers are connected, with numbers in the place of names."""
    try:
        config = model.get_config()
    except Exception:  # Users' own `get_config` may raise anything.
        return id(model)
    if "layers" not in config or "input_layers" not in config:
        return id(model)
    numbers = {
        layer["config"]["name"]: index
        for index, layer in enumerate(config["layers"])
    }
    nodes = [layer["inbound_nodes"] for layer in config["layers"]]
    ends = [config[name] for name in _TOPOLOGY[1:]]
    return repr(_renamed([nodes, ends], numbers))


def _renamed(value: Any, numbers: dict[str, int]) -> Any:
    if isinstance(value, dict):
        return {k: _renamed(v, numbers) for k, v in value.items()}
    if isinstance(value, list | tuple):
        # A reference to a tensor: the layer's name, and two indices.
        if len(value) == 3 and isinstance(value[0], str):
            return [numbers.get(value[0], value[0]), *value[1:]]
        return [_renamed(v, numbers) for v in value]
    return value


def _is_functional(value: Any) -> bool:
    return isinstance(value, keras.Model) and hasattr(value, "operations")


def _signature(variables: list) -> Any:
    return tuple((tuple(v.shape), str(v.dtype), v.trainable) for v in variables)


def _of_array(value: Any) -> Any:
    array = keras.ops.convert_to_numpy(value)
    return array.shape, str(array.dtype), array.tobytes()


@functools.cache
def _bookkeeping() -> frozenset[str]:
    """The attributes of the base classes, which every object has."""
    inputs = keras.Input((1,))
    functional = keras.Model(inputs, keras.layers.Identity()(inputs))
    bases = (
        keras.layers.Layer(),
        functional,
        keras.metrics.Metric(name="metric"),
    )
    names = {name for base in bases for name in vars(base)}
    return frozenset(names - {"dtype", "_dtype"} | {"_inbound_nodes"})


@functools.cache
def _compiled() -> frozenset[str]:
    """The attributes that `compile`, building and `fit` add to a model."""
    dense = keras.layers.Dense(1, kernel_initializer="zeros")  # Draws nothing.
    model = keras.Sequential([keras.Input((1,)), dense])
    before = {"_layers", "_dtype_policy", "_trainable"}
    model.compile("sgd", "mse", run_eagerly=True)
    model.predict_on_batch(np.zeros((1, 1), "float32"))
    return frozenset(set(vars(model)) - before | {"history"})
