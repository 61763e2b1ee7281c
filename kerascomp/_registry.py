"""The one list of public components."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from kerascomp._compat import keras

PACKAGE = "kerascomp"  # Written into every saved file: never change it.

Symbol = TypeVar("Symbol")

# A more special base class comes first: a schedule of ours may be both.
_BASES: dict[type, str] = {
    keras.layers.Layer: "layer",
    keras.losses.Loss: "loss",
    keras.metrics.Metric: "metric",
    keras.regularizers.Regularizer: "regularizer",
    keras.optimizers.schedules.LearningRateSchedule: "schedule",
    keras.callbacks.Callback: "callback",
    keras.optimizers.Optimizer: "optimizer",
    keras.initializers.Initializer: "initializer",
}
KINDS = (*_BASES.values(), "activation")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One public component."""

    symbol: Any
    kind: str
    since: str

    @property
    def name(self) -> str:
        """The class or function name."""
        return self.symbol.__name__

    @property
    def path(self) -> str:
        """Where a user finds it, as `losses.SmoothL1`."""
        return f"{self.module}.{self.name}"

    @property
    def module(self) -> str:
        """The public module that holds it, which its kind need not decide.

        A penalty that wraps a network is a layer to Keras.
        """
        package, _, rest = self.symbol.__module__.partition(".")
        ours = package == PACKAGE and rest
        return rest.partition(".")[0] if ours else module_of(self.kind)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.symbol) or "").partition("\n")[0]


_entries: dict[str, Entry] = {}


def component(*, since: str) -> Callable[[Symbol], Symbol]:
    """Makes a class or activation public: listed, tested, reloadable.

    Args:
        since: The first version that has it.

    Returns:
        A decorator that returns its argument unchanged in behavior.

    Raises:
        ValueError: If a component of that name exists in its module, or
            another serializable one has it.
    """

    def register(symbol: Any) -> Any:
        entry = Entry(symbol, kind_of(symbol), since)
        _refuse_duplicates(entry)
        if entry.kind != "callback":  # Callbacks never enter a saved model.
            keras.saving.register_keras_serializable(PACKAGE)(symbol)
        _entries[entry.path] = entry
        return symbol

    return register


def entries() -> tuple[Entry, ...]:
    """Returns all public components, ordered by module and name."""
    # Not needed to load a model, and so not imported with the package.
    importlib.import_module(f"{PACKAGE}.callbacks")
    return tuple(_entries[path] for path in sorted(_entries))


def kind_of(symbol: Any) -> str:
    """Returns the kind of a component, found from its base class."""
    if inspect.isfunction(symbol):
        return "activation"
    return _BASES[base_of(symbol)]


def base_of(symbol: Any) -> type:
    """Returns the Keras base class that decides a component's kind."""
    for base in _BASES:
        if isinstance(symbol, type) and issubclass(symbol, base):
            return base
    raise TypeError(
        f"A component derives from one of {[b.__name__ for b in _BASES]} or "
        f"is an activation function. Received: {symbol!r}"
    )


def module_of(kind: str) -> str:
    """Returns the name of the public module that holds a kind."""
    return {"loss": "losses"}.get(kind, f"{kind}s")


def _refuse_duplicates(entry: Entry) -> None:
    """A saved file knows a component by its name alone."""
    for other in _entries.values():
        clash = other.name == entry.name and (
            other.kind == entry.kind
            or "callback" not in (other.kind, entry.kind)
        )
        if clash:
            raise ValueError(
                f"Two components are called {entry.name!r}: "
                f"{other.symbol} and {entry.symbol}."
            )
