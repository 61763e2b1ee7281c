"""Components, gradient monitors and studies for Keras 3.

The components register themselves when this package is imported, so that
saved models that use them load without `custom_objects`. Callbacks, which are
never saved with a model, and what needs optional packages, such as
`kerascomp.studies`, are imported when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kerascomp import (
    activations,
    distances,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from kerascomp._registry import entries
from kerascomp._version import __version__

if TYPE_CHECKING:
    from kerascomp import (
        callbacks,
        datasets,
        export,
        population,
        studies,
        testing,
        tuners,
    )

__all__ = [
    "__version__",
    "activations",
    "callbacks",
    "datasets",
    "distances",
    "entries",
    "export",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "population",
    "regularizers",
    "schedules",
    "studies",
    "testing",
    "tuners",
]

_LAZY = (
    "callbacks",
    "datasets",
    "export",
    "population",
    "studies",
    "testing",
    "tuners",
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"kerascomp.{name}")
    raise AttributeError(f"module 'kerascomp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
