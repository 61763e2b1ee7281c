"""Distances between discrete distributions along the last axis."""

import functools
from typing import Any

from kerascomp import _compat, _geometry, _numerics
from kerascomp._compat import keras
from kerascomp.distances._rows import Function, _between_rows

ops = keras.ops


def _between_distributions(function: Function) -> Function:
    """Prepares probabilities, and refuses what can be seen to be none."""
    measured = _between_rows(function)

    @functools.wraps(function)
    def checked(p: Any, q: Any) -> Any:
        for name, value in (("p", p), ("q", q)):
            message = f"`{name}` must hold probabilities, in [0, 1]."
            _numerics.require_probabilities(value, message)
        return measured(p, q)

    return checked  # type: ignore[return-value]


@_between_distributions
def kl(p: Any, q: Any) -> Any:
    """Returns the Kullback-Leibler divergence, sum p log(p / q), in nats.

    An outcome that is impossible under p adds 0 and has the gradient 0. One
    that is possible under p alone makes the divergence infinite, as in SciPy;
    `keras.losses.KLDivergence` clips probabilities instead.

    Args:
        p: `(..., outcomes)`, probabilities that sum to 1.
        q: `(..., outcomes)`. The other axes broadcast with those of `p`.

    Returns:
        `(...)`, float, at least 0.

    Raises:
        ValueError: If a number that can be read lies outside [0, 1], or the
            lengths differ.

    Examples:
        >>> p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
        >>> round(float(kl(p, q)), 4)  # 0.5 * log(2) + 0.5 * log(2 / 3)
        0.1438

    Reference:
        Kullback & Leibler, 1951, [On information and
        sufficiency](https://doi.org/10.1214/aoms/1177729694).
    """
    possible = p > 0
    safe = ops.where(possible, p, ops.ones_like(p))
    # An impossible outcome must not divide: its gradient would be NaN.
    other = ops.where(possible, q, ops.ones_like(q))
    logs = ops.log(safe) - ops.log(other)
    return ops.sum(ops.where(possible, p * logs, ops.zeros_like(p)), axis=-1)


@_between_distributions
def jensen_shannon(p: Any, q: Any) -> Any:
    """Returns the Jensen-Shannon distance, in the root of nats.

    It is the square root of (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2,
    as in SciPy: a metric. Its square is the Jensen-Shannon divergence.

    Args:
        p: `(..., outcomes)`, probabilities that sum to 1.
        q: `(..., outcomes)`. The other axes broadcast with those of `p`.

    Returns:
        `(...)`, float, in [0, sqrt(log 2)]. The gradient is 0 where p = q,
        and for outcomes of probability 0 under p or q.

    Raises:
        ValueError: If a number that can be read lies outside [0, 1], or the
            lengths differ.

    Examples:
        >>> p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        >>> round(float(jensen_shannon(p, q)) ** 2, 4)  # log(2)
        0.6931

    Reference:
        Endres & Schindelin, 2003, [A new metric for probability
        distributions](https://doi.org/10.1109/TIT.2003.813506).
    """
    # With u = (p - q) / (p + q) an outcome adds (p + q) / 4 times
    # (1 + u) log(1 + u) + (1 - u) log(1 - u): it does not cancel near u = 0.
    total = p + q
    u = _geometry.ratio(p - q, total)
    element = _times_log(1 + u) + _times_log(1 - u)
    small = ops.abs(u) < 0.1
    near = ops.where(small, u, ops.zeros_like(u))
    series = ops.square(near) * (
        1 + near**2 * (1 / 6 + near**2 * (1 / 15 + near**2 / 28))
    )
    element = ops.where(small, series, element)
    return _geometry.safe_sqrt(ops.sum(total * element, axis=-1) / 4)


@_between_distributions
def total_variation(p: Any, q: Any) -> Any:
    """Returns half the sum of the absolute differences, sum |p - q| / 2.

    It is the largest difference that p and q can make between the
    probabilities of an event.

    Args:
        p: `(..., outcomes)`, probabilities that sum to 1.
        q: `(..., outcomes)`. The other axes broadcast with those of `p`.

    Returns:
        `(...)`, float, in [0, 1].

    Raises:
        ValueError: If a number that can be read lies outside [0, 1], or the
            lengths differ.

    Examples:
        >>> p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
        >>> float(total_variation(p, q))
        0.25

    Reference:
        Levin & Peres, 2017, [Markov chains and mixing
        times](https://pages.uoregon.edu/dlevin/MARKOV/), proposition 4.2.
    """
    return ops.sum(_compat.magnitude(p - q), axis=-1) / 2


@_between_distributions
def hellinger(p: Any, q: Any) -> Any:
    """Returns the Hellinger distance, sqrt(sum (sqrt p - sqrt q)^2 / 2).

    Args:
        p: `(..., outcomes)`, probabilities that sum to 1.
        q: `(..., outcomes)`. The other axes broadcast with those of `p`.

    Returns:
        `(...)`, float, in [0, 1]. The gradient is 0 where p = q, and for
        outcomes of probability 0.

    Raises:
        ValueError: If a number that can be read lies outside [0, 1], or the
            lengths differ.

    Examples:
        >>> p, q = np.array([1.0, 0.0]), np.array([0.25, 0.75])
        >>> round(float(hellinger(p, q)) ** 2, 4)  # (0.25 + 0.75) / 2
        0.5

    Reference:
        Le Cam & Yang, 2000, [Asymptotics in
        statistics](https://doi.org/10.1007/978-1-4612-1166-2), section 3.1.
    """
    roots = _geometry.safe_sqrt(p) - _geometry.safe_sqrt(q)
    return _geometry.length(roots) * 0.5**0.5


def _times_log(x: Any) -> Any:
    """The product x log x, 0 with the gradient 0 at x = 0."""
    positive = x > 0
    safe = ops.where(positive, x, ops.ones_like(x))
    return ops.where(positive, x, ops.zeros_like(x)) * ops.log(safe)
