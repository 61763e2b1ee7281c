"""One way to build a component, and what to call it on."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from unittest import mock

from kerascomp import _registry
from kerascomp._compat import keras


@dataclasses.dataclass(frozen=True)
class Case:
    """Says how to build one component and what to call it on.

    The checks of `checks_for(case.kind)` take it as their only argument. Give
    every argument a value that is not its default, because a default survives
    a configuration that forgets it, and inputs whose axes differ in length.

    Args:
        make: Function that returns a new component at each call. For layers,
            losses and metrics it must pass keyword arguments on to the
            constructor, as in `lambda **kwargs: Tversky(alpha=0.3, **kwargs)`;
            the checks use it to set `dtype`, `name` and `reduction`. For
            activations it returns the function.
        inputs: By kind: a layer's first argument, of NumPy arrays; `(y_true,
            y_pred)` of a loss; what `update_state` of a metric takes, without
            weights; a weight for regularizers; the steps, as a sequence, for
            schedules; the shape for initializers; an array for activations.
            Callbacks and optimizers run on a small regression; for callbacks
            a function that returns `(compiled model, x, y)` replaces it.
        xfail: Names of the checks that do not hold, each with the reason. The
            test that runs the checks should treat them as strict.

    Examples:
        >>> case = Case(
        ...     lambda **kwargs: keras.layers.Dropout(0.3, seed=1, **kwargs),
        ...     inputs=np.ones((3, 4, 5), "float32"),
        ... )
        >>> case.kind, case.name
        ('layer', 'Dropout')
        >>> for check in checks_for(case.kind):
        ...     check(case)
    """

    make: Callable[..., Any]
    inputs: Any = None
    xfail: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def symbol(self) -> Any:
        """The class, or for activations the function."""
        made = self.make()
        return made if inspect.isfunction(made) else type(made)

    @property
    def kind(self) -> str:
        """The kind of the component, such as `"layer"`."""
        return _registry.kind_of(self.symbol)

    @property
    def name(self) -> str:
        """The name of the class or function."""
        return self.symbol.__name__


def parameters_of(symbol: Any) -> dict[str, inspect.Parameter]:
    """Returns the named parameters of a constructor, `self` left out."""
    signature = inspect.signature(symbol.__init__)
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {
        name: parameter
        for name, parameter in list(signature.parameters.items())[1:]
        if parameter.kind not in variadic
    }


def inherited_parameters(symbol: Any) -> set[str]:
    """Returns the parameters that every component of the kind takes."""
    return {
        name
        for base in _registry.base_of(symbol).__mro__
        if "__init__" in vars(base)
        for name in parameters_of(base)
    }


def arguments_of(case: Case) -> dict[str, Any]:
    """Returns the constructor arguments that `case.make` gives, by name."""
    symbol = case.symbol
    constructor = symbol.__init__
    signature = inspect.signature(constructor)
    calls: list[dict[str, Any]] = []

    def recording(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is symbol:
            bound = signature.bind(self, *args, **kwargs).arguments
            calls.append(dict(list(bound.items())[1:]))
        constructor(self, *args, **kwargs)

    with mock.patch.object(symbol, "__init__", recording):
        case.make()
    # A component may hold others of its class: the outermost came first.
    given = calls[0]
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            given.update(given.pop(name, {}))
    return given


def untested_arguments(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Finds arguments that no case gives a value other than the default.

    The checks cannot see when a configuration loses such an argument. What
    the Keras base class takes too, such as `name` and `dtype`, is left out:
    the checks set it themselves.

    Args:
        cases: All cases; several may build the same component.

    Returns:
        The names of the arguments by name of the component, empty at best.

    Examples:
        >>> case = Case(lambda **kwargs: keras.layers.Dropout(0.3, **kwargs))
        >>> untested_arguments([case])
        {'Dropout': ['noise_shape', 'seed']}
    """
    tested: dict[Any, set[str]] = {}
    for case in cases:
        if case.kind == "activation":
            continue
        parameters = parameters_of(case.symbol)
        given = arguments_of(case)
        tested.setdefault(case.symbol, set()).update(
            name
            for name in parameters.keys() & given.keys()
            if plain(given[name]) != plain(parameters[name].default)
        )
    untested = {
        symbol.__name__: sorted(
            parameters_of(symbol).keys()
            - tested[symbol]
            - inherited_parameters(symbol)
        )
        for symbol in tested
    }
    return {name: names for name, names in untested.items() if names}


def plain(value: Any) -> Any:
    """Returns a value as JSON would hold it, Keras objects as configs.

    What cannot be saved, as callbacks may take, equals itself alone.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if value is inspect.Parameter.empty:
        return {"no": "default"}
    try:
        return plain(keras.saving.serialize_keras_object(value))
    except TypeError:
        return {"object": id(value)}
