"""Finds variables by the layers on their path."""

from collections.abc import Iterable, Sequence
from typing import Any


def path_of(variable: Any) -> str:
    """Returns a path such as `block/dense/kernel`."""
    # A variable of the backend's own has a name alone.
    return getattr(variable, "path", variable.name)


def lies_in(path: str, part: str) -> bool:
    """Whether whole names of a path, in a row, make up `part`."""
    return f"/{part.strip('/')}/" in f"/{path}/"


def check_parts(
    name: str, parts: Iterable[str], variables: Sequence[Any]
) -> None:
    """Raises unless each part lies on the path of some variable."""
    paths = [path_of(variable) for variable in variables]
    for part in parts:
        if not any(lies_in(path, part) for path in paths):
            raise ValueError(
                f"`{name}` must hold names of layers, or parts of the paths "
                f"of variables. Received: {part!r}, which is on none of the "
                f"paths {paths}"
            )
