"""Distances between distributions of which samples are given."""

from typing import Any

from kerascomp import _compat, _geometry, _validation
from kerascomp._compat import keras
from kerascomp.distances._pairwise import pairwise

ops = keras.ops


def wasserstein_1d(
    x: Any, y: Any, x_weights: Any = None, y_weights: Any = None
) -> Any:
    """Returns the mean distance that samples on a line must be moved.

    It is the Wasserstein distance of order 1, also called earth mover's
    distance: the area between the two distribution functions. For equally
    many samples of equal weight it is the mean of |sort(x) - sort(y)|.

    Args:
        x: `(..., n)`, samples of the first distribution.
        y: `(..., m)`, samples of the second. The other axes equal those of
            `x`.
        x_weights: Like `x`, or None for equal weights. At least 0, and not
            all 0; they need not sum to 1.
        y_weights: Like `y`, or None for equal weights.

    Returns:
        `(...)`, float, at least 0, in the unit of the samples.

    Raises:
        ValueError: If there are no samples, or the shapes do not match.

    Examples:
        >>> x, y = np.array([0.0, 1.0, 3.0]), np.array([5.0, 6.0, 8.0])
        >>> round(float(wasserstein_1d(x, y)), 4)
        5.0

    Reference:
        Ramdas et al., 2017, [On Wasserstein two sample
        testing](https://arxiv.org/abs/1509.02237), proposition 1.
    """
    x, y = _geometry.float_tensor(x), _geometry.float_tensor(y)
    dtype = keras.backend.result_type(x.dtype, y.dtype)
    x, y = (_geometry.widened(ops.cast(each, dtype)) for each in (x, y))
    _require_samples(x=x.shape[-1:], y=y.shape[-1:])
    if tuple(x.shape[:-1]) != tuple(y.shape[:-1]):
        raise ValueError(
            "`x` and `y` must have the same shape but for the last axis. "
            f"Received: x.shape={tuple(x.shape)}, y.shape={tuple(y.shape)}"
        )
    places = ops.concatenate([x, y], axis=-1)
    shares = ops.concatenate(
        [
            _shares("x_weights", x_weights, x),
            -_shares("y_weights", y_weights, y),
        ],
        axis=-1,
    )
    order = ops.argsort(ops.stop_gradient(places), axis=-1)
    places = ops.take_along_axis(places, order, axis=-1)
    shares = ops.take_along_axis(shares, order, axis=-1)
    # How far the distribution functions are apart, right of each place.
    apart = _compat.magnitude(ops.cumsum(shares, axis=-1))[..., :-1]
    width = places[..., 1:] - places[..., :-1]
    return ops.cast(ops.sum(apart * width, axis=-1), dtype)


def energy(x: Any, y: Any) -> Any:
    """Returns the energy distance between two sets of samples.

    It is the square root of 2 E|X - Y| - E|X - X'| - E|Y - Y'|, with means
    over all pairs of samples, a sample with itself included. With one feature
    it equals `scipy.stats.energy_distance`.

    Args:
        x: `(n, features)`, samples of the first distribution.
        y: `(m, features)`, samples of the second.

    Returns:
        A scalar, float, at least 0. Its gradient is 0 where it is 0.

    Raises:
        ValueError: If there are no samples, or the shapes do not match.

    Examples:
        >>> x, y = np.array([[0.0], [2.0]]), np.array([[3.0]])
        >>> # 2 * (3 + 1) / 2 - (0 + 2 + 2 + 0) / 4
        >>> round(float(energy(x, y)) ** 2, 4)
        3.0

    Reference:
        Székely & Rizzo, 2013, [Energy
        statistics](https://doi.org/10.1016/j.jspi.2013.03.018), equation 5.
    """
    x, y, dtype = _two_samples(x, y)
    # Exact: the three means nearly cancel where the distributions agree.
    between, first, second = (
        ops.mean(pairwise(a, b, exact=True))
        for a, b in ((x, y), (x, x), (y, y))
    )
    return ops.cast(_geometry.safe_sqrt(2 * between - first - second), dtype)


def mmd(
    x: Any, y: Any, bandwidth: float | None = None, unbiased: bool = False
) -> Any:
    """Returns the squared maximum mean discrepancy of two sets of samples.

    That is E k(X, X') + E k(Y, Y') - 2 E k(X, Y) with the Gaussian kernel
    k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)); scikit-learn's `gamma` is
    1 / (2 bandwidth^2).

    Args:
        x: `(n, features)`, samples of the first distribution.
        y: `(m, features)`, samples of the second.
        bandwidth: In the unit of the samples, above 0. None for the median
            heuristic: the median distance between two of all n + m samples,
            taken as a constant in the gradient.
        unbiased: Whether to leave out the pairs of a sample with itself. The
            mean is then right, and the value may be negative.

    Returns:
        A scalar, float, in [0, 2] unless `unbiased`.

    Raises:
        ValueError: If there are no samples (with `unbiased`: fewer than two),
            the shapes do not match, or `bandwidth` is not positive.

    Examples:
        >>> x, y = np.array([[0.0]]), np.array([[2.0]])
        >>> round(float(mmd(x, y, bandwidth=1.0)), 4)  # 2 - 2 * exp(-2)
        1.7293

    Reference:
        Gretton et al., 2012, [A kernel two-sample
        test](https://jmlr.org/papers/v13/gretton12a.html), equations 3
        (`unbiased`) and 5; the median heuristic is in section 8.
    """
    if bandwidth is not None:
        _validation.in_interval("bandwidth", bandwidth, "(0, inf)")
    x, y, dtype = _two_samples(x, y, 2 if unbiased else 1)
    between, first, second = (
        pairwise(a, b, "squared_euclidean", exact=True)
        for a, b in ((x, y), (x, x), (y, y))
    )
    if bandwidth is None:
        squared = _median_square(between, first, second)
    else:
        squared = ops.full_like(between[0, 0], bandwidth**2)
    kernels = [
        ops.exp(-each / (2 * squared)) for each in (between, first, second)
    ]
    means = [_mean(each, unbiased) for each in kernels[1:]]
    return ops.cast(sum(means) - 2 * ops.mean(kernels[0]), dtype)


def _median_square(between: Any, first: Any, second: Any) -> Any:
    """The squared median distance of two of all samples, 1 if it is 0."""
    pooled = ops.concatenate(
        [
            ops.reshape(_without_itself(first), (-1,)),
            ops.reshape(_without_itself(second), (-1,)),
            ops.reshape(between, (-1,)),
            ops.reshape(between, (-1,)),
        ],
        axis=0,
    )
    ordered = ops.sqrt(ops.maximum(ops.sort(ops.stop_gradient(pooled)), 0.0))
    # The marks of the n + m samples with themselves come first. Every other
    # pair occurs twice, so that the two in the middle have their median.
    themselves = ops.shape(first)[0] + ops.shape(second)[0]
    middle = themselves + (ops.shape(ordered)[0] - themselves) // 2
    median = (ordered[middle - 1] + ordered[middle]) / 2
    return ops.square(ops.where(median > 0, median, ops.ones_like(median)))


def _without_itself(distances: Any) -> Any:
    """Marks the diagonal by -1."""
    rows = ops.arange(ops.shape(distances)[0])
    itself = ops.expand_dims(rows, 1) == rows
    return ops.where(itself, -ops.ones_like(distances), distances)


def _mean(kernel: Any, unbiased: bool) -> Any:
    if not unbiased:
        return ops.mean(kernel)
    count = ops.cast(ops.shape(kernel)[0], kernel.dtype)
    # The kernel of a sample with itself is 1.
    return (ops.sum(kernel) - count) / (count * (count - 1))


def _shares(name: str, weights: Any, samples: Any) -> Any:
    if weights is None:
        return ops.ones_like(samples) / samples.shape[-1]
    weights = ops.convert_to_tensor(weights, dtype=samples.dtype)
    if tuple(weights.shape) != tuple(samples.shape):
        raise ValueError(
            f"`{name}` must have the shape of its samples. Received: "
            f"{name}.shape={tuple(weights.shape)}, expected "
            f"{tuple(samples.shape)}"
        )
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _two_samples(x: Any, y: Any, minimum: int = 1) -> tuple[Any, Any, Any]:
    x, y = _geometry.float_tensor(x), _geometry.float_tensor(y)
    _require_samples(minimum, x=x.shape[:1], y=y.shape[:1])
    dtype = keras.backend.result_type(x.dtype, y.dtype)
    x, y = (_geometry.widened(ops.cast(each, dtype)) for each in (x, y))
    return x, y, dtype


def _require_samples(minimum: int = 1, **counts: Any) -> None:
    for name, count in counts.items():
        if not count or (count[0] is not None and count[0] < minimum):
            raise ValueError(
                f"`{name}` must hold at least {minimum} samples. "
                f"Received: {count[0] if count else 'a scalar'}"
            )
