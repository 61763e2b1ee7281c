"""Distances between vectors along the last axis."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from kerascomp import _compat, _geometry, _numerics, _validation
from kerascomp._compat import keras

ops = keras.ops

Function = TypeVar("Function", bound=Callable[..., Any])


def _between_rows(function: Function) -> Function:
    """Prepares the vectors of a distance, and gives the result their dtype."""

    @functools.wraps(function)
    def prepared(x: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        x, y = _geometry.float_tensor(x), _geometry.float_tensor(y)
        _geometry.require_same_length(x=x, y=y)
        dtype = keras.backend.result_type(x.dtype, y.dtype)
        x, y = ops.cast(x, dtype), ops.cast(y, dtype)
        x, y = _geometry.widened(x), _geometry.widened(y)
        return ops.cast(function(x, y, *args, **kwargs), dtype)

    return prepared  # type: ignore[return-value]


@_between_rows
def euclidean(x: Any, y: Any) -> Any:
    """Returns the length of the difference, sqrt(sum (x - y)^2).

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, at least 0.

    Examples:
        >>> float(euclidean(np.array([1.0, 2.0]), np.array([4.0, 6.0])))
        5.0
    """
    return _geometry.length(x - y)


@_between_rows
def squared_euclidean(x: Any, y: Any) -> Any:
    """Returns the squared length of the difference, sum (x - y)^2.

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, at least 0.

    Examples:
        >>> x, y = np.array([1.0, 2.0]), np.array([4.0, 6.0])
        >>> float(squared_euclidean(x, y))
        25.0
    """
    return ops.sum(ops.square(x - y), axis=-1)


@_between_rows
def standardized_euclidean(x: Any, y: Any, variance: Any) -> Any:
    """Returns the Euclidean distance in units of standard deviations.

    That is sqrt(sum (x - y)^2 / variance).

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.
        variance: `(features,)`, above 0: that of the training data.

    Returns:
        `(...)`, float, at least 0.

    Raises:
        ValueError: If a variance is not positive.

    Examples:
        >>> x, y = np.array([1.0, 2.0]), np.array([4.0, 6.0])
        >>> distance = standardized_euclidean(x, y, variance=[9.0, 16.0])
        >>> round(float(distance) ** 2, 4)  # 9 / 9 + 16 / 16
        2.0
    """
    return _geometry.length((x - y) * reciprocal_deviation(variance, x))


@_between_rows
def manhattan(x: Any, y: Any) -> Any:
    """Returns the sum of the absolute differences, sum |x - y|.

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, at least 0.

    Examples:
        >>> float(manhattan(np.array([1.0, 2.0]), np.array([4.0, 6.0])))
        7.0
    """
    return ops.sum(_compat.magnitude(x - y), axis=-1)


@_between_rows
def chebyshev(x: Any, y: Any) -> Any:
    """Returns the largest absolute difference, max |x - y|.

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, at least 0. The gradient is shared between ties.

    Examples:
        >>> float(chebyshev(np.array([1.0, 2.0]), np.array([4.0, 6.0])))
        4.0
    """
    return ops.amax(_compat.magnitude(x - y), axis=-1)


@_between_rows
def minkowski(x: Any, y: Any, p: float) -> Any:
    """Returns the distance of order p, (sum |x - y|^p)^(1/p).

    With `p = 1` it is `manhattan`, with `p = 2` `euclidean`, and as p grows it
    becomes `chebyshev`.

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.
        p: The order, at least 1 and finite.

    Returns:
        `(...)`, float, at least 0.

    Raises:
        ValueError: If `p` is below 1 or infinite.

    Examples:
        >>> x, y = np.array([1.0, 2.0]), np.array([4.0, 6.0])
        >>> round(float(minkowski(x, y, p=3)), 4)  # (27 + 64) ** (1 / 3)
        4.4979
    """
    _validation.in_interval("p", p, "[1, inf)")
    size = _compat.magnitude(x - y)
    # Divided by the largest, no power overflows. The scale cancels out, so
    # that it needs no gradient.
    scale = ops.stop_gradient(ops.amax(size, axis=-1, keepdims=True))
    nothing = scale == 0
    scale = ops.where(nothing, ops.ones_like(scale), scale)
    total = ops.sum(ops.power(size / scale, float(p)), axis=-1)
    nothing, scale = ops.squeeze(nothing, -1), ops.squeeze(scale, -1)
    total = ops.where(nothing, ops.ones_like(total), total)
    root = scale * ops.power(total, 1 / p)
    return ops.where(nothing, ops.zeros_like(root), root)


@_between_rows
def mahalanobis(x: Any, y: Any, inverse_covariance: Any) -> Any:
    """Returns the Euclidean distance after decorrelation.

    That is sqrt((x - y)^T S (x - y)) with the inverse covariance S. With the
    identity it is `euclidean`, with a diagonal `standardized_euclidean`.

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.
        inverse_covariance: `(features, features)`, positive semidefinite.

    Returns:
        `(...)`, float, at least 0.

    Raises:
        ValueError: If `inverse_covariance` has another shape.

    Examples:
        >>> x, y = np.array([1.0, 2.0]), np.array([4.0, 6.0])
        >>> inverse = np.array([[1.0, 0.5], [0.5, 1.0]])
        >>> # 9 + 16 + 2 * 0.5 * 12 = 37
        >>> round(float(mahalanobis(x, y, inverse)) ** 2, 4)
        37.0
    """
    difference = x - y
    turned = ops.matmul(difference, square_matrix(inverse_covariance, x))
    return _geometry.safe_sqrt(ops.sum(turned * difference, axis=-1))


@_between_rows
def cosine(x: Any, y: Any) -> Any:
    """Returns 1 less the cosine of the angle between two vectors.

    Half the squared Euclidean distance between the vectors divided by their
    lengths. A vector of zeros has the distance 1 to every vector, as in
    scikit-learn (SciPy: NaN).

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, in [0, 2].

    Examples:
        >>> x, y = np.array([3.0, 4.0]), np.array([4.0, 3.0])
        >>> round(float(cosine(x, y)), 4)  # 1 - 24 / 25
        0.04
    """
    x, y = _geometry.direction(x), _geometry.direction(y)
    # Not 1 - x * y, whose error is that of 1, however small the distance is.
    half = ops.sum(ops.square(x - y), axis=-1) / 2
    return half + (_is_nothing(x) + _is_nothing(y)) / 2


@_between_rows
def correlation(x: Any, y: Any) -> Any:
    """Returns 1 less Pearson's correlation of two vectors.

    It is `cosine` after the mean of each vector is taken off. A constant
    vector has the distance 1 to every vector (SciPy: NaN).

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, in [0, 2].

    Examples:
        >>> x, y = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
        >>> round(float(correlation(x, y)), 4)
        2.0
    """
    return cosine(centered(x), centered(y))


def hamming(x: Any, y: Any) -> Any:
    """Returns the share of the features that differ.

    Args:
        x: `(..., features)`, of any dtype.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, in [0, 1]. It has no gradient.

    Examples:
        >>> float(hamming(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4])))
        0.25
    """
    x, y = _discrete(x, y)
    return ops.mean(ops.cast(x != y, keras.config.floatx()), axis=-1)


def jaccard(x: Any, y: Any) -> Any:
    """Returns the share of the nonzero features that differ.

    Of the features that are nonzero in one vector or both, it is the share
    that is not equal in both; 0 if both are all zero.

    Args:
        x: `(..., features)`, of any dtype. Usually booleans.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, in [0, 1]. It has no gradient.

    Examples:
        >>> x, y = np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0])
        >>> round(float(jaccard(x, y)), 4)  # 2 of 3
        0.6667
    """
    x, y = _discrete(x, y)
    dtype = keras.config.floatx()
    present = ops.logical_or(x != 0, y != 0)
    differ = ops.sum(ops.cast(x != y, dtype), axis=-1)
    return _geometry.ratio(differ, ops.sum(ops.cast(present, dtype), axis=-1))


@_between_rows
def bray_curtis(x: Any, y: Any) -> Any:
    """Returns the absolute differences over the sums, sum |x-y| / sum |x+y|.

    The distance between two vectors of zeros is 0 (SciPy: NaN).

    Args:
        x: `(..., features)`. Counts or other numbers of at least 0.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, at least 0; in [0, 1] if no number is negative.

    Examples:
        >>> x, y = np.array([1.0, 2.0]), np.array([4.0, 1.0])
        >>> float(bray_curtis(x, y))  # (3 + 1) / (5 + 3)
        0.5
    """
    total = ops.sum(_compat.magnitude(x + y), axis=-1)
    return _geometry.ratio(ops.sum(_compat.magnitude(x - y), axis=-1), total)


@_between_rows
def canberra(x: Any, y: Any) -> Any:
    """Returns the sum of the relative differences, sum |x-y| / (|x|+|y|).

    A feature that is 0 in both vectors adds 0.

    Args:
        x: `(..., features)`.
        y: `(..., features)`. The other axes broadcast with those of `x`.

    Returns:
        `(...)`, float, in [0, features].

    Examples:
        >>> x, y = np.array([1.0, 2.0, 0.0]), np.array([3.0, 2.0, 0.0])
        >>> float(canberra(x, y))
        0.5
    """
    size = _compat.magnitude(x) + _compat.magnitude(y)
    return ops.sum(_geometry.ratio(_compat.magnitude(x - y), size), axis=-1)


def centered(x: Any) -> Any:
    """Returns vectors with their mean taken off."""
    return x - ops.mean(x, axis=-1, keepdims=True)


def reciprocal_deviation(variance: Any, x: Any) -> Any:
    """Returns 1 / sqrt(variance) as a tensor like a row of `x`."""
    variance = ops.convert_to_tensor(variance, dtype=x.dtype)
    _geometry.require_same_length(variance=variance, x=x)
    _numerics.require(variance, lambda v: v > 0, "`variance` must be positive.")
    return 1 / ops.sqrt(variance)


def square_matrix(inverse_covariance: Any, x: Any) -> Any:
    """Returns a matrix that has a row and a column for each feature."""
    matrix = ops.convert_to_tensor(inverse_covariance, dtype=x.dtype)
    features = x.shape[-1]
    if len(matrix.shape) != 2 or {*matrix.shape, features} - {None} != {
        matrix.shape[0]
    }:
        raise ValueError(
            "`inverse_covariance` must have a row and a column for each "
            f"feature. Received: shape {tuple(matrix.shape)} for {features} "
            "features"
        )
    return matrix


def _discrete(x: Any, y: Any) -> tuple[Any, Any]:
    """Tensors of one dtype: float32 would merge large integers."""
    x, y = (
        each
        if isinstance(each, keras.KerasTensor)
        else ops.convert_to_tensor(each)
        for each in (x, y)
    )
    _geometry.require_same_length(x=x, y=y)
    dtype = keras.backend.result_type(x.dtype, y.dtype)
    return ops.cast(x, dtype), ops.cast(y, dtype)


def _is_nothing(x: Any) -> Any:
    return ops.cast(ops.all(x == 0, axis=-1), x.dtype)
