"""Checks that hold for components of every kind."""

import inspect
import json
import math
from typing import Any

import numpy as np

from kerascomp import _registry
from kerascomp._compat import keras
from kerascomp.testing import _programs
from kerascomp.testing._case import Case, arguments_of, parameters_of, plain

ops = keras.ops

STEPS = (0, 1, 2, 3, 5, 8, 100)


def check_every_argument_is_in_the_config(case: Case) -> None:
    """`get_config` holds every argument of the constructor."""
    missing = parameters_of(case.symbol).keys() - case.make().get_config()
    assert not missing, (
        f"get_config() lacks {sorted(missing)}, so a saved {case.name} comes "
        "back with the default. Return "
        '`{**super().get_config(), "argument": self.argument}`.'
    )


def check_config_survives_json(case: Case) -> None:
    """The configuration can be written as JSON and says the same after it."""
    component = case.make()
    for name, value in component.get_config().items():
        saved = keras.saving.serialize_keras_object(value)
        try:
            text = json.dumps(saved)
        except TypeError as error:
            raise AssertionError(
                f"get_config() puts a {type(value).__name__} under {name!r}, "
                "which JSON cannot hold. Store Python numbers, strings and "
                "lists, and Keras objects serialized."
            ) from error
        back = plain(keras.saving.deserialize_keras_object(json.loads(text)))
        assert back == plain(value), (
            f"{name!r} of get_config() changes when it is saved. "
            f"Received: {back!r}. Expected: {plain(value)!r}"
        )


def check_reloads_without_custom_objects(case: Case) -> None:
    """A component saved by name and config comes back and acts the same."""
    component = _programs.seeded(case.make)
    saved = keras.saving.serialize_keras_object(component)
    # A name with a module in it is lost when the module is.
    named = isinstance(saved, str) or saved.get("registered_name")
    assert named or case.symbol.__module__.partition(".")[0] == "keras", (
        f"{case.name} is saved under the path of its module. Decorate it with "
        "`keras.saving.register_keras_serializable(package)`."
    )
    twin = _programs.seeded(lambda: _programs.reloaded(component))
    if inspect.isfunction(component):
        assert twin is component, f"{case.name} reloads as {twin!r}"
        return
    assert type(twin) is type(component), f"It reloads as {type(twin)}"
    received, expected = twin.get_config(), component.get_config()
    assert plain(received) == plain(expected), (
        f"{case.name} reloads with another config. "
        f"Received: {received}. Expected: {expected}"
    )
    _programs.assert_same(
        _programs.seeded(lambda: use(twin, case.inputs)),
        _programs.seeded(lambda: use(component, case.inputs)),
        f"A reloaded {case.name} gives other numbers.",
    )


def check_config_equals_the_arguments_given(case: Case) -> None:
    """The configuration says what the caller passed, unchanged."""
    _assert_given(case, case.make().get_config(), "get_config()")


def check_every_argument_is_an_attribute(case: Case) -> None:
    """Every argument is stored under its own name, unchanged."""
    component = case.make()
    attributes = {
        name: getattr(component, name)
        for name in parameters_of(case.symbol)
        if hasattr(component, name)
    }
    missing = parameters_of(case.symbol).keys() - attributes.keys()
    assert not missing, (
        f"{case.name} does not store {sorted(missing)}. Set "
        "`self.argument = argument` in the constructor."
    )
    _assert_given(case, attributes, "the attributes")


def _assert_given(case: Case, stored: dict[str, Any], where: str) -> None:
    for name, value in arguments_of(case).items():
        if name not in stored:
            continue
        received = plain(stored[name])
        # Keras resolves identifiers: "zeros" becomes an initializer.
        resolved = isinstance(received, dict) and "class_name" in received
        if not (isinstance(value, str) and resolved):
            assert _are_equal(received, plain(value)), (
                f"{where} of {case.name} changed {name!r}: {value!r} was "
                f"given, {stored[name]!r} is stored. Keep arguments as they "
                "are and derive from them under other names."
            )


def _are_equal(stored: Any, given: Any) -> bool:
    """Whether values agree; Keras' optimizers store float32."""
    numbers = (int, float)
    if isinstance(stored, numbers) and isinstance(given, numbers):
        return math.isclose(stored, given, rel_tol=1e-7)
    return stored == given


def check_inherited_arguments_survive_reloading(case: Case) -> None:
    """`name` and `dtype` of the Keras base class are accepted and saved."""
    component = case.make(name="renamed", dtype="float64")
    twin = _programs.reloaded(component)
    assert twin.name == "renamed", (
        f"{case.name} loses `name`: pass it on to `super().__init__` and "
        "start get_config() with `**super().get_config()`."
    )
    assert _dtype(twin) == _dtype(component) == "float64", (
        f"{case.name} reloads with dtype {_dtype(twin)} instead of float64, "
        "the dtype it was given. Keras' base class may leave it out of the "
        'config: add `"dtype": self.dtype`.'
    )


def _dtype(component: Any) -> str:
    return getattr(component, "compute_dtype", component.dtype)


def check_attributes_hold_no_tensors(case: Case) -> None:
    """Attributes are Python values and variables, before and after use."""
    component = _programs.seeded(case.make)
    before = _tensors(component)
    use(component, case.inputs)
    found = before | _tensors(component)
    assert not found, (
        f"{case.name} keeps tensors in {sorted(found)}. A tensor belongs to "
        "the program that made it: store Python numbers, and make tensors "
        "where they are used."
    )


def _tensors(component: Any) -> set[str]:
    return {
        name
        for name, value in vars(component).items()
        for each in (value if isinstance(value, list | tuple) else [value])
        if ops.is_tensor(each) and not isinstance(each, keras.Variable)
    }


def check_two_instances_share_no_state(case: Case) -> None:
    """What one instance went through leaves another one alone."""
    first, second, third = (_programs.seeded(case.make) for _ in range(3))
    shared = _shared_attributes(first, second)
    assert not shared, (
        f"All instances of {case.name} hold the same object in "
        f"{sorted(shared)}: what one writes, the others read. Create it in "
        "the constructor (no mutable class attributes or default arguments)."
    )
    expected = _programs.seeded(lambda: use(first, case.inputs))
    use(second, case.inputs)
    actual = _programs.seeded(lambda: use(third, case.inputs))
    _programs.assert_same(
        actual,
        expected,
        f"{case.name} acts differently when another instance was used "
        "before it: they share state.",
    )


def _shared_attributes(first: Any, second: Any) -> set[str]:
    base = _registry.base_of(type(first))
    ours = [
        c
        for c in type(first).__mro__
        if c not in base.__mro__ and c.__module__.partition(".")[0] != "keras"
    ]
    names = set(vars(first)) | {name for c in ours for name in vars(c)}
    return {
        name
        for name in names
        if not name.startswith("__")
        and isinstance(value := inspect.getattr_static(first, name), _MUTABLE)
        and value is inspect.getattr_static(second, name, None)
    }


_MUTABLE = (
    list,
    dict,
    set,
    bytearray,
    np.ndarray,
    keras.Variable,
    keras.random.SeedGenerator,
)


def check_gives_the_same_again(case: Case) -> None:
    """A second call with the same input gives the same output."""
    component = case.make()
    _programs.assert_same(
        use(component, case.inputs),
        use(component, case.inputs),
        f"{case.name} gives another output at the second call.",
    )


def use(component: Any, inputs: Any) -> list[np.ndarray]:
    """Runs a component of any kind; returns all numbers it gives."""
    symbol = component if inspect.isfunction(component) else type(component)
    kind = _registry.kind_of(symbol)
    return _programs.arrays_of(_USES[kind](component, inputs))


def _use_layer(layer: Any, inputs: Any) -> Any:
    return [layer(inputs, training=training) for training in (False, True)]


def _use_metric(metric: Any, inputs: Any) -> Any:
    metric.update_state(*inputs)
    return metric.result()


def _use_schedule(schedule: Any, steps: Any) -> Any:
    return [schedule(step) for step in steps or STEPS]


def regression_for(inputs: Any, units: int = 3) -> tuple:
    """Returns the model and data that a callback runs on."""
    return inputs() if inputs else _programs.regression(units=units)


def eager_regression_for(inputs: Any, units: int = 3) -> tuple:
    """Returns the same to be run eagerly: quick, where nothing is compiled."""
    trained = regression_for(inputs, units)
    trained[0].run_eagerly = True
    return trained


def _use_optimizer(optimizer: Any, _: Any) -> Any:
    trained = _programs.regression(optimizer)
    _programs.fit(trained)
    return trained[0].get_weights()


def _use_callback(callback: Any, inputs: Any) -> Any:
    trained = eager_regression_for(inputs)
    history = _programs.fit(trained, [callback])
    return [*map(np.asarray, history.values()), *trained[0].get_weights()]


_USES = {
    "layer": _use_layer,
    "loss": lambda loss, inputs: loss(*inputs),
    "metric": _use_metric,
    "regularizer": lambda regularizer, weight: regularizer(weight),
    "schedule": _use_schedule,
    "callback": _use_callback,
    "optimizer": _use_optimizer,
    "initializer": lambda initializer, shape: initializer(shape),
    "activation": lambda activation, x: activation(x),
}

CONFIG_CHECKS = (
    check_every_argument_is_in_the_config,
    check_config_survives_json,
    check_config_equals_the_arguments_given,
    check_reloads_without_custom_objects,
    check_two_instances_share_no_state,
)
