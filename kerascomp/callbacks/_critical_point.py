"""The kind of a point where a function is level."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp.callbacks import _capture

ops = keras.ops


@dataclasses.dataclass(frozen=True)
class CriticalPoint:
    """What a function does at a point where its gradient is 0.

    Attributes:
        kind: `"minimum"`, `"maximum"`, `"saddle"` or `"degenerate"`.
        value: Of the function.
        gradient_norm: What is left of the gradient.
        eigenvalues: Of the Hessian, in ascending order.
    """

    kind: str
    value: float
    gradient_norm: float
    eigenvalues: tuple[float, ...]


def critical_point(
    function: Callable[[Any], Any], x: Any, tolerance: float = 1e-4
) -> CriticalPoint:
    """Tells a minimum from a maximum and a saddle, by second derivatives.

    The kind follows from the eigenvalues of the Hessian: all positive at a
    `"minimum"`, all negative at a `"maximum"`, of both signs at a `"saddle"`.
    It is `"degenerate"` where some are 0 and the others of one sign: second
    derivatives do not tell then.

    Args:
        function: Takes a vector, `(n,)`, of the type `keras.config.floatx()`,
            and returns a scalar. Of `keras.ops`, and twice differentiable.
        x: The point, `(n,)`, of at most a few hundred numbers: the Hessian is
            formed.
        tolerance: In (0, 1). Eigenvalues of up to this share of the largest
            absolute one count as 0; and so does a gradient that vanishes
            within this distance of the point, measured in units of the
            length of `x`, or 1 if that is more.

    Returns:
        A frozen data class with the attributes `kind`, `value`,
        `gradient_norm`, and `eigenvalues`, a tuple in ascending order.

    Raises:
        ValueError: If the gradient at `x` is not 0, if a derivative is not
            finite, or if an argument is of another shape or range.

    Examples:
        >>> def function(p):
        ...     x, y, z = p[0], p[1], p[2]
        ...     return x**2 + y**2 + z**2 + 2 * x + 4 * y - 6 * z
        >>> point = critical_point(function, [-1.0, -2.0, 3.0])
        >>> point.kind, point.value, point.eigenvalues
        ('minimum', -14.0, (2.0, 2.0, 2.0))
        >>> critical_point(lambda p: p[0] ** 2 - p[1] ** 2, [0.0, 0.0]).kind
        'saddle'
        >>> critical_point(lambda p: p[0] ** 2 + p[1] ** 4, [0.0, 0.0]).kind
        'degenerate'
    """
    _validation.in_interval("tolerance", tolerance, "(0, 1)")
    start = np.asarray(x, "float64")
    if start.ndim != 1 or start.size == 0:
        raise ValueError(
            "`x` must be a vector of at least one number. Received: x of "
            f"shape {start.shape}"
        )
    value, gradient, hessian = _derivatives(function, start)
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    norm, largest = np.linalg.norm(gradient), np.abs(eigenvalues).max()
    # What a distance of `tolerance` from the point adds to the gradient.
    reach = max(largest, 1.0) * max(np.linalg.norm(start), 1.0)
    if norm > tolerance * reach:
        raise ValueError(
            "`x` must be a point where the gradient is 0. Received: x="
            f"{start.tolist()} with a gradient of norm {norm:.3g}"
        )
    return CriticalPoint(
        _kind(eigenvalues, tolerance * largest),
        value,
        float(norm),
        tuple(eigenvalues.tolist()),
    )


def _derivatives(
    function: Callable, start: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    backend = _capture.backend_file()
    point = ops.convert_to_tensor(start, keras.config.floatx())
    of_list = lambda values: function(values[0])
    shape = tuple(ops.shape(function(point)))
    if shape != ():
        raise ValueError(
            "`function` must return a scalar. Received: a result of shape "
            f"{shape}"
        )
    value, (gradient,) = backend.gradients(of_list, [point])

    def product(point: Any, vector: Any) -> Any:
        return backend.hessian_vector_product(of_list, [point], [vector])[0]

    program = backend.compiled(product)
    rows = [
        program(point, ops.convert_to_tensor(unit, point.dtype))
        for unit in np.eye(start.size)
    ]
    value, gradient, *rows = (
        ops.convert_to_numpy(part).astype("float64")
        for part in (value, gradient, *rows)
    )
    found = (value, gradient, np.stack(rows))
    if not all(np.isfinite(part).all() for part in found):
        raise ValueError(
            "`function` must have finite derivatives at `x`. Received: x="
            f"{start.tolist()} with the value {float(value)}, the gradient "
            f"{gradient.tolist()} and the Hessian {found[2].tolist()}"
        )
    return float(value), gradient, found[2]


def _kind(eigenvalues: np.ndarray, zero: float) -> str:
    rising, falling = (eigenvalues > zero).any(), (eigenvalues < -zero).any()
    if rising and falling:
        return "saddle"
    if (np.abs(eigenvalues) <= zero).any():
        return "degenerate"
    return "minimum" if rising else "maximum"
