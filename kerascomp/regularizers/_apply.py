"""Puts regularizers on the weights of a model that exists already."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kerascomp import _compat
from kerascomp._compat import keras


def apply(
    model: Any,
    rules: Mapping[str | type, Any],
    *,
    biases: bool = False,
    normalization: bool = False,
) -> dict[str, Any]:
    """Puts regularizers on the kernels of a model that is built already.

    Use it on pretrained models, whose layers were made without. The penalties
    appear in `model.losses`, in the loss of `fit`, and in the saved model.
    A model that is compiled need not be compiled again.

    Kernels are the weights with two or more axes that are neither biases nor
    parts of a normalization layer, embeddings included. Each gets the
    regularizer of the first rule that selects it, in place of the one that it
    may have; the others are left as they are.

    Args:
        model: A built model.
        rules: Regularizers by what they are for: a layer class, or a regular
            expression that is searched for in the paths of weights, such as
            `r"head/.*kernel"`; the paths of a `keras.Sequential` model start
            with its name. A regularizer may be None, which takes away the one
            there is.
        biases: Whether rules select biases too.
        normalization: Whether rules select the scales and offsets of
            normalization layers too.

    Returns:
        The regularizer that each weight got, by path, in the model's order.

    Raises:
        ValueError: If the model is not built, a rule is not of that kind or
            selects no weight, or the configuration of the model would lose a
            regularizer: then nothing is changed.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Dense(3, name="out")]
        ... )
        >>> model.layers[0].set_weights([np.ones((2, 3)), np.ones(3)])
        >>> done = apply(model, {keras.layers.Dense: ScaledL2(2.0, 10)})
        >>> list(done)
        ['sequential.../out/kernel']
        >>> loss = keras.ops.convert_to_numpy(model.losses[0])
        >>> round(float(loss), 4)  # 2 / (2 * 10) * 6
        0.6
    """
    if not model.built:
        raise ValueError(
            "`model` must be built: call it, or `model.build(input_shape)`. "
            f"Received: model={model!r}"
        )
    read = _read(rules)
    weights = list(_weights_of(model))
    kinds = {"kernel"}
    kinds |= {"bias"} if biases else set()
    kinds |= {"normalization"} if normalization else set()
    chosen = _choose(read, weights, kinds)
    _require_kept(model, [weight for weight, _ in chosen])
    for weight, regularizer in chosen:
        weight.set(regularizer)
    # Compiled programs hold the losses of when they were traced.
    model.train_function = model.test_function = None
    return {weight.path: regularizer for weight, regularizer in chosen}


@dataclasses.dataclass(frozen=True)
class _Weight:
    """A weight, and the attribute of its layer that is saved for it."""

    layer: Any
    variable: Any
    attribute: str

    @property
    def path(self) -> str:
        return self.variable.path

    @property
    def kind(self) -> str:
        if isinstance(self.layer, _NORMALIZATIONS):
            return "normalization"
        if "bias" in self.attribute:
            return "bias"
        several = len(self.variable.shape) > 1
        slope = isinstance(self.layer, keras.layers.PReLU)
        return "kernel" if several and not slope else "other"

    @property
    def state(self) -> tuple[Any, Any]:
        return getattr(self.layer, self.attribute), self.variable.regularizer

    def set(self, regularizer: Any) -> None:
        self.restore((regularizer, regularizer))

    def restore(self, state: tuple[Any, Any]) -> None:
        # The layer's is saved, the variable's is added to the losses.
        setattr(self.layer, self.attribute, state[0])
        self.variable.regularizer = state[1]


_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)
_SUFFIX = "_regularizer"


def _weights_of(layer: Any) -> Iterator[_Weight]:
    """Yields all weights that take a regularizer, each once."""
    seen: set[int] = set()
    stack = [layer]
    while stack:
        layer = stack.pop()
        inner = _compat.sublayers(layer)
        stack.extend(reversed(inner))
        inside = {id(v) for each in inner for v in each.weights}
        for variable in layer.weights:
            if id(variable) in seen | inside:
                continue
            seen.add(id(variable))
            attribute = _attribute_for(layer, variable.name)
            if attribute:
                yield _Weight(layer, variable, attribute)


def _attribute_for(layer: Any, name: str) -> str | None:
    """Returns the attribute with the regularizer of a weight of that name."""
    short = name.removesuffix("_kernel")  # As in `recurrent_regularizer`.
    for attribute in (f"{name}{_SUFFIX}", f"{short}{_SUFFIX}"):
        if attribute in vars(layer):
            return attribute
    # The kernel of a depthwise convolution has its `depthwise_regularizer`.
    others = [
        each
        for each in vars(layer)
        if each.endswith(_SUFFIX)
        and each not in (f"bias{_SUFFIX}", f"activity{_SUFFIX}")
        and not hasattr(layer, each.removesuffix(_SUFFIX))
    ]
    return others[0] if name == "kernel" and len(others) == 1 else None


_Rules = list[tuple[Any, Any]]


def _read(rules: Any) -> _Rules:
    """Returns the rules with patterns compiled and regularizers made."""
    if not isinstance(rules, Mapping) or not rules:
        raise ValueError(
            "`rules` must be a dictionary of regularizers by layer class or "
            f"regular expression, and not empty. Received: rules={rules!r}"
        )
    return [
        (_selector(key), keras.regularizers.get(value))
        for key, value in rules.items()
    ]


def _selector(key: Any) -> Any:
    if isinstance(key, type) and issubclass(key, keras.layers.Layer):
        return key
    try:
        return re.compile(key)
    except (TypeError, re.error) as error:
        raise ValueError(
            "A rule must be for a layer class or a regular expression. "
            f"Received: {key!r} ({error})"
        ) from error


def _selects(selector: Any, weight: _Weight) -> bool:
    if isinstance(selector, type):
        return isinstance(weight.layer, selector)
    return selector.search(weight.path) is not None


def _choose(
    rules: _Rules, weights: list[_Weight], kinds: set[str]
) -> list[tuple[_Weight, Any]]:
    """Returns the selected weights, each with its regularizer."""
    chosen = []
    idle = dict(enumerate(rules))
    for weight in weights:
        if weight.kind not in kinds:
            continue
        for place, (selector, regularizer) in enumerate(rules):
            if _selects(selector, weight):
                chosen.append((weight, regularizer))
                idle.pop(place, None)
                break
    for selector, _ in idle.values():
        raise ValueError(_why_idle(selector, weights, kinds))
    return chosen


def _why_idle(selector: Any, weights: list[_Weight], kinds: set[str]) -> str:
    name = getattr(selector, "pattern", None) or selector.__name__
    found = [w for w in weights if _selects(selector, w)]
    left_out = [w for w in found if w.kind not in kinds]
    if len(left_out) < len(found):
        why = "An earlier rule takes all weights that it could select: put "
        why += "the more special rule first"
    elif left_out:
        kinds_found = sorted({w.kind for w in left_out})
        why = f"It selects only weights of the kinds {kinds_found}, which are "
        why += "left alone unless `biases` or `normalization` asks for them"
    else:
        paths = [w.path for w in weights if w.kind in kinds]
        why = f"The weights that take a regularizer are {paths}"
    return f"Every rule must select a weight. {why}. Received: rule {name!r}"


class _Mark(keras.regularizers.Regularizer):
    """Tells which regularizers a model's configuration holds."""

    def __init__(self, number: int):
        self.number = number

    def get_config(self) -> dict[str, Any]:
        return {"number": self.number}


def _require_kept(model: Any, weights: list[_Weight]) -> None:
    """Raises if the model's configuration would lose a regularizer."""
    before = [weight.state for weight in weights]
    try:
        for number, weight in enumerate(weights):
            weight.set(_Mark(number))
        kept = _marks_in(_configuration(model))
    finally:
        for weight, state in zip(weights, before, strict=True):
            weight.restore(state)
    lost = [w.path for n, w in enumerate(weights) if n not in kept]
    if lost:
        raise ValueError(
            "The rules must select weights whose regularizers are saved with "
            "the model: those below are made by a layer or model that does "
            "not keep them in its configuration. Pass it the regularizer when "
            f"it is constructed, or leave them out. Received: {lost}"
        )


def _configuration(model: Any) -> Any:
    try:
        return keras.saving.serialize_keras_object(model.get_config())
    except NotImplementedError:  # A subclass that cannot be saved.
        return {}


def _marks_in(config: Any) -> set[int]:
    if isinstance(config, Mapping):
        if config.get("class_name") == _Mark.__name__:
            return {config["config"]["number"]}
        config = list(config.values())
    if not isinstance(config, list | tuple):
        return set()
    return {mark for each in config for mark in _marks_in(each)}
