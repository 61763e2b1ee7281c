"""Norms whose values and gradients are finite wherever the input is."""

from typing import Any

from kerascomp import _geometry
from kerascomp._compat import keras

ops = keras.ops


def wide(x: Any) -> Any:
    """Returns a tensor, of float32 instead of a 16-bit dtype.

    No backend decomposes half matrices on every device.
    """
    return _geometry.widened(ops.convert_to_tensor(x))


def as_matrix(x: Any) -> Any:
    """Returns a weight as a matrix: inputs by outputs, the last axis.

    A convolution kernel `(height, width, channels, filters)` becomes `(height
    * width * channels, filters)`, as in the papers; a vector becomes one row.

    Raises:
        ValueError: If the weight has no axis.
    """
    if len(x.shape) == 0:
        raise ValueError(
            "A weight must have at least one axis to be a matrix. "
            f"Received: x.shape={tuple(x.shape)}"
        )
    return ops.reshape(x, (-1, x.shape[-1]))


def scale_of(x: Any, axis: Any = None) -> Any:
    """Returns the largest absolute value along `axis`, 1 where that is 0.

    Not differentiated: it is for formulas that do not depend on it. The axes
    stay, with length 1.
    """
    size = ops.abs(ops.stop_gradient(x))
    # `initial`: there may be no sample in a batch.
    largest = ops.max(size, axis=axis, keepdims=True, initial=0)
    return ops.where(largest > 0, largest, ops.ones_like(largest))


def norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Returns the Euclidean norm, with gradient 0 where it is 0.

    Squares neither overflow nor underflow, however large or small `x` is.
    """
    scale = scale_of(x, axis)
    squares = ops.sum(ops.square(x / scale), axis=axis, keepdims=True)
    positive = squares > 0
    # The root of 0 has an infinite gradient, even where it is not taken.
    root = ops.sqrt(ops.where(positive, squares, ops.ones_like(squares)))
    value = ops.where(positive, scale * root, ops.zeros_like(root))
    return value if keepdims else ops.squeeze(value, axis=axis)


def spectral_norm(matrix: Any, num_iterations: int | None) -> Any:
    """Returns the largest singular value of a matrix.

    Its gradient is the product of the singular vectors, which are held fixed:
    a decomposition's own gradient divides by the gaps between singular values.

    Args:
        matrix: `(rows, columns)`, float32 or float64.
        num_iterations: Steps of power iteration from a fixed start; None for
            the exact value by a singular value decomposition.
    """
    fixed = ops.stop_gradient(matrix)
    if num_iterations is None:
        left, _, right = ops.svd(fixed, full_matrices=False)
        u, v = left[:, 0], right[0]
    else:
        # Fixed, so that a penalty is a function, and of no pattern that a
        # matrix might be orthogonal to.
        v = ops.cos(ops.arange(1, matrix.shape[1] + 1, dtype=matrix.dtype))
        # Once for all products, whose squares might overflow or underflow.
        fixed = fixed / scale_of(fixed)
        for _ in range(num_iterations):
            u = _unit(ops.matmul(fixed, v))
            v = _unit(ops.matmul(u, fixed))
        u = _unit(ops.matmul(fixed, v))
    u, v = ops.stop_gradient(u), ops.stop_gradient(v)
    return ops.sum(u * ops.matmul(matrix, v))


def _unit(vector: Any) -> Any:
    return ops.divide_no_nan(vector, ops.sqrt(ops.sum(ops.square(vector))))


def nuclear_norm(matrix: Any) -> Any:
    """Returns the sum of the singular values of a matrix.

    Its gradient is that of the singular values that are not 0 but for
    rounding, with the singular vectors held fixed: 0 for a matrix of zeros.
    """
    fixed = ops.stop_gradient(matrix)
    left, values, right = ops.svd(fixed, full_matrices=False)
    precision = 1e-15 if "64" in str(matrix.dtype) else 1e-7
    kept = values > precision * max(matrix.shape) * ops.max(values)
    slope = ops.matmul(left * ops.cast(kept, matrix.dtype), right)
    return ops.sum(ops.stop_gradient(slope) * matrix)
