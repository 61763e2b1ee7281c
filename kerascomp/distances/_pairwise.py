"""Distances between all pairs of rows."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp.distances import _rows

ops = keras.ops

METRICS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        _rows.euclidean,
        _rows.squared_euclidean,
        _rows.standardized_euclidean,
        _rows.manhattan,
        _rows.chebyshev,
        _rows.minkowski,
        _rows.mahalanobis,
        _rows.cosine,
        _rows.correlation,
        _rows.hamming,
        _rows.jaccard,
        _rows.bray_curtis,
        _rows.canberra,
    )
}


def pairwise(
    x: Any,
    y: Any = None,
    metric: str | Callable[[Any, Any], Any] = "euclidean",
    exact: bool = False,
    max_elements: int = 2**24,
    **arguments: Any,
) -> Any:
    """Returns the distances between all rows of two matrices.

    The metrics `euclidean`, `squared_euclidean`, `standardized_euclidean`,
    `mahalanobis`, `cosine` and `correlation` come from one matrix product,
    as |x|^2 - 2 x y + |y|^2 after the mean row is taken off. That is many
    times faster than differences, but what is subtracted limits the accuracy:
    a squared distance is off by about 1e-7 times the squared distance of the
    rows from their mean in float32, so a Euclidean distance below about 3e-4
    times that is noise; a cosine distance is off by 1e-7. On accelerators
    that multiply float32 in TensorFloat-32 replace 1e-7 by 1e-3. Where close
    rows matter, use `exact=True`, which subtracts row from row.

    The other metrics always subtract. They do so in chunks of rows, also in
    the gradient, which computes each chunk again: no
    `(rows of x, rows of y, features)` tensor is made.

    Args:
        x: `(n, features)`.
        y: `(m, features)`, or None for `x`. Then the distance of a row to
            itself is 0 to the last bit.
        metric: The name of a function of `kerascomp.distances` between rows,
            or a function like them, which broadcasts.
        exact: Whether to subtract rows where a matrix product would do.
        max_elements: Bound on the numbers of a chunk's differences, at least
            1. One row at a time is the smallest chunk.
        **arguments: What the metric takes besides the rows, as `p=3`.

    Returns:
        `(n, m)`, float, in the dtype of the rows.

    Raises:
        ValueError: If the shapes do not match, or there is no such metric.
        TypeError: If the metric's arguments are missing or unknown.

    Examples:
        >>> x, y = np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 4.0]])
        >>> keras.ops.convert_to_numpy(pairwise(x, y)).tolist()
        [[4.0], [5.0]]
        >>> block = pairwise(x, y, "minkowski", p=1)
        >>> keras.ops.convert_to_numpy(block).tolist()
        [[4.0], [7.0]]
    """
    _validation.at_least("max_elements", max_elements, 1)
    function = metric_of(metric, arguments)
    same = y is None
    x = ops.convert_to_tensor(x)
    y = x if same else ops.convert_to_tensor(y)
    _require_matrices(x, y)
    product = None if exact or callable(metric) else _PRODUCTS.get(metric)
    if product is None:
        return _by_differences(function, x, y, max_elements)
    x, y = _geometry.float_tensor(x), _geometry.float_tensor(y)
    dtype = keras.backend.result_type(x.dtype, y.dtype)
    x, y = (_geometry.widened(ops.cast(each, dtype)) for each in (x, y))
    distances = product(x, y, **arguments)
    if same:
        rows = ops.arange(ops.shape(x)[0])
        itself = ops.expand_dims(rows, 1) == rows
        distances = ops.where(itself, ops.zeros_like(distances), distances)
    return ops.cast(distances, dtype)


def metric_of(
    metric: str | Callable[..., Any], arguments: Mapping[str, Any]
) -> Callable[[Any, Any], Any]:
    """Returns a metric as a function of two tensors.

    Raises:
        ValueError: If there is no metric of the name.
        TypeError: If its arguments are missing or unknown.
    """
    if not callable(metric):
        _validation.one_of("metric", metric, METRICS)
        metric = METRICS[metric]
    inspect.signature(metric).bind(None, None, **arguments)
    return functools.partial(metric, **arguments)


def _require_matrices(x: Any, y: Any) -> None:
    if len(x.shape) != 2 or len(y.shape) != 2:
        raise ValueError(
            "`x` and `y` must have two axes, rows and features. Received: "
            f"x.shape={tuple(x.shape)}, y.shape={tuple(y.shape)}"
        )
    _geometry.require_same_length(x=x, y=y)


def _by_differences(
    function: Callable[..., Any], x: Any, y: Any, max_elements: int
) -> Any:
    def chunk(rows: Any) -> Any:
        return function(ops.expand_dims(rows, 1), ops.expand_dims(y, 0))

    row = ops.shape(y)[0] * ops.shape(y)[1]
    sizes = (row, ops.shape(x)[0])
    if not all(isinstance(n, int) or ops.is_tensor(n) for n in sizes):
        return chunk(x)  # JAX traces an unknown size for its shape alone.
    if isinstance(row, int):
        limit = max(1, max_elements // max(1, row))
    else:
        limit = ops.maximum(1, max_elements // ops.maximum(row, 1))
    return _by_chunks(chunk, x, limit)


def _by_chunks(function: Callable[[Any], Any], x: Any, limit: Any) -> Any:
    """Applies a function to at most `limit` rows of `x` at a time.

    Args:
        function: Makes `(rows, m)` of `(rows, features)`.
        x: `(n, features)`.
        limit: Number of rows, an integer or a scalar tensor.
    """
    count = ops.shape(x)[0]
    known = isinstance(count, int) and isinstance(limit, int)
    if known and count <= limit:
        return function(x)
    # Chunks of equal size that need no padding are worth a few more.
    chunks = -(-count // limit)
    if known:
        exact = (k for k in range(chunks, 2 * chunks) if count % k == 0)
        chunks = next(exact, chunks)
    rows = -(-count // chunks) if known else limit
    padded = ops.minimum(ops.arange(chunks * rows), count - 1)
    parts = x if known and chunks * rows == count else ops.take(x, padded, 0)
    parts = ops.reshape(parts, (chunks, rows, x.shape[1]))
    result = ops.map(keras.remat(function), parts)
    result = ops.reshape(result, (chunks * rows, ops.shape(result)[-1]))
    return result if known and chunks * rows == count else result[:count]


def _quadratic(
    x: Any,
    y: Any,
    finish: Callable[[Any], Any],
    turn: Callable[[Any], Any] = lambda rows: rows,
) -> Any:
    """Applies `finish` to (x - y)^T S (x - y), where S x is `turn(x)`.

    The squares of the rows go into the product as two more features, so that
    no other step passes over the whole matrix.
    """
    # Distances do not depend on the origin, their error does.
    origin = ops.stop_gradient(ops.mean(x, axis=0, keepdims=True))
    x, y = x - origin, y - origin
    turned = turn(x)
    squares = [
        ops.sum(each * rows, axis=-1, keepdims=True)
        for each, rows in ((turned, x), (turn(y), y))
    ]
    ones = [ops.ones_like(each) for each in squares]
    left = ops.concatenate([-2 * turned, squares[0], ones[0]], axis=-1)
    right = ops.concatenate([y, ones[1], squares[1]], axis=-1)
    return finish(_product(left, right))


def _product(x: Any, y: Any) -> Any:
    return ops.matmul(x, ops.transpose(y))


def _standardized(x: Any, y: Any, variance: Any) -> Any:
    factor = _rows.reciprocal_deviation(variance, x)
    return _quadratic(x * factor, y * factor, _geometry.safe_sqrt)


def _mahalanobis(x: Any, y: Any, inverse_covariance: Any) -> Any:
    matrix = _rows.square_matrix(inverse_covariance, x)
    symmetric = (matrix + ops.transpose(matrix)) / 2
    return _quadratic(
        x, y, _geometry.safe_sqrt, lambda rows: ops.matmul(rows, symmetric)
    )


def _cosine(x: Any, y: Any) -> Any:
    return ops.relu(
        1 - _product(_geometry.direction(x), _geometry.direction(y))
    )


_PRODUCTS: dict[str, Callable[..., Any]] = {
    "euclidean": lambda x, y: _quadratic(x, y, _geometry.safe_sqrt),
    "squared_euclidean": lambda x, y: _quadratic(x, y, ops.relu),
    "standardized_euclidean": _standardized,
    "mahalanobis": _mahalanobis,
    "cosine": _cosine,
    "correlation": lambda x, y: _cosine(_rows.centered(x), _rows.centered(y)),
}
