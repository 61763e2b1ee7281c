"""Power transforms, fitted by maximum likelihood."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _accumulators, _adapting, _scaling

ops = keras.ops

CAP = 60.0  # Of exponents; exp(88) is the largest in float32.
GOLDEN = (5**0.5 - 1) / 2


@component(since="0.1")
class PowerTransform(_adapting.Adapting):
    """Makes skewed features look normal, by a power found from the data.

    Use it for features with a long tail, when the right power is not known;
    `LogScaling` is the power 0. After `layer.adapt(training_data)`, a feature
    is transformed with its lambda L, and standardized. Yeo-Johnson:

        x >= 0:   ((1 + x)^L - 1) / L             log(1 + x) for L = 0
        x < 0:    -((1 - x)^(2 - L) - 1) / (2 - L)  -log(1 - x) for L = 2

    Box-Cox, for positive features alone: (x^L - 1) / L, or log(x) for L = 0.

    L maximizes the likelihood of normal data of any mean and variance, which
    is concave, in float64. It is exact up to `max_samples` rows; of more, it
    is that of a random sample of that many, the same in every run.

    The layer holds three numbers a feature, from which it computes without
    the powers themselves: those of features far from 0, such as years, exceed
    what float32 holds.

    Args:
        method: `"yeo-johnson"` or `"box-cox"`.
        standardize: Whether the output has mean 0 and variance 1.
        constant: What becomes of features with one value alone: `"error"`, or
            `"unscaled"` for L = 1 and no division.
        missing: What becomes of NaN: `"error"` in `adapt`, or `"skip"` to fit
            to the other values. A call passes NaN on.
        max_samples: Rows to keep while reading, at least 1. A value takes 8
            bytes, twice.
        statistics: `{"lambdas": ..., "center": ..., "slope": ...}`, each
            `(features,)`, in place of `adapt`: L, the input whose output is
            0, and the output's derivative there.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers. Box-Cox: above 0, where
            eager calls raise; compiled programs, which cannot, give NaN.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument is out of range, or the training data is
            infinite, not positive for Box-Cox, or constant or missing without
            an argument that says so.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = PowerTransform("box-cox", standardize=False)
        >>> layer.adapt(np.exp(np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]])))
        >>> output = layer(np.exp(np.array([[1.5]])))  # The power is 0.
        >>> keras.ops.convert_to_numpy(output).astype("float16").tolist()
        [[1.5]]

    Reference:
        Yeo & Johnson, 2000, *A new family of power transformations to improve
        normality or symmetry*; Box & Cox, 1964, *An analysis of
        transformations*. Marchand et al., 2022,
        [SecureFedYJ](https://arxiv.org/abs/2210.01639), prove the concavity.
        The numbers are those of scikit-learn's `PowerTransformer`.
    """

    def __init__(
        self,
        method: str = "yeo-johnson",
        standardize: bool = True,
        constant: str = "error",
        missing: str = "error",
        max_samples: int = 100_000,
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        _validation.one_of("method", method, ("yeo-johnson", "box-cox"))
        _validation.one_of("constant", constant, ("error", "unscaled"))
        _validation.one_of("missing", missing, ("error", "skip"))
        _validation.at_least("max_samples", max_samples, 1)
        self.method = method
        self.standardize = standardize
        self.constant = constant
        self.missing = missing
        self.max_samples = max_samples

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "method": self.method,
            "standardize": self.standardize,
            "constant": self.constant,
            "missing": self.missing,
            "max_samples": self.max_samples,
        }

    def _shapes(self, features: int) -> dict[str, tuple]:
        return dict.fromkeys(("lambdas", "center", "slope"), (features,))

    def _accumulator(self, features: int) -> Any:
        return _accumulators.Rows(features, self.max_samples)

    def _check(self, rows: np.ndarray) -> None:
        if self.method == "box-cox":
            _adapting.refuse_columns(
                (rows <= 0).any(axis=0),
                "must be above 0 for Box-Cox; use Yeo-Johnson",
            )

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        columns = list(accumulator.columns())
        low = np.array([column.min() for column in columns])
        high = np.array([column.max() for column in columns])
        if self.constant == "error":
            _scaling.refuse_constants(low, high)
        fit = box_cox if self.method == "box-cox" else yeo_johnson
        found = np.array(
            [
                (1.0, column.mean(), 1.0) if equal else fit(column)
                for column, equal in zip(
                    columns, _adapting.are_equal(low, high), strict=True
                )
            ]
        )
        if not self.standardize:
            # Where the transform is 0, and has the derivative 1.
            found[:, 1] = self.method == "box-cox"
            found[:, 2] = 1.0
        return dict(zip(("lambdas", "center", "slope"), found.T, strict=True))

    def _forward(self, x: Any) -> Any:
        if self.method == "box-cox":
            _numerics.require(
                x, lambda a: ~(a <= 0), "`inputs` must be above 0."
            )
            lambdas, center, slope = self._tensors()
            distance = ops.log(x) - ops.log(center)
            return power(lambdas, distance) * center * slope
        above, below = self._halves()
        return ops.where(
            x < 0,
            -below(-ops.where(x < 0, x, ops.zeros_like(x))),
            above(ops.where(x < 0, ops.zeros_like(x), x)),
        )

    def _backward(self, y: Any) -> Any:
        if self.method == "box-cox":
            lambdas, center, slope = self._tensors()
            return center * ops.exp(root(lambdas, y / (center * slope)))
        above, below = self._halves()
        start = above(ops.zeros_like(y))
        return ops.where(y < start, -below(-y, True), above(y, True))

    def _halves(self) -> tuple[Callable, Callable]:
        """The transform of numbers >= 0, and that of their negatives."""
        lambdas, center, slope = self._tensors()
        up = ops.log1p(ops.maximum(center, 0.0))
        down = ops.log1p(ops.maximum(-center, 0.0))
        above = _half(lambdas, slope, up, down)
        return above, _half(2 - lambdas, slope, down, up)


def _half(exponent: Any, slope: Any, here: Any, there: Any) -> Callable:
    """Returns one half of Yeo-Johnson's transform, relative to the center.

    Args:
        exponent: The lambda of this half.
        slope: The output's derivative at the center.
        here: log(1 + |center|) if the center lies in this half, else 0.
        there: The same of the other half.
    """
    # Differences of logarithms: the powers themselves may not be finite. Of a
    # center in the other half they are capped: numbers of this half are then
    # beyond all measure, but must stay finite where they are not selected.
    other = 2 - exponent
    gain = slope * ops.exp(here + ops.minimum((1 - other) * there, CAP))
    distance = ops.minimum(there, CAP / ops.maximum(-other, 1e-6))
    offset = -slope * ops.exp(there) * power(other, -distance)

    def transform(x: Any, inverse: bool = False) -> Any:
        if inverse:
            return ops.expm1(here + root(exponent, (x - offset) / gain))
        return power(exponent, ops.log1p(x) - here) * gain + offset

    return transform


def power(exponent: Any, distance: Any) -> Any:
    """Returns (exp(exponent distance) - 1) / exponent, or its limit at 0."""
    safe = ops.where(exponent == 0, ops.ones_like(exponent), exponent)
    return ops.where(exponent == 0, distance, ops.expm1(safe * distance) / safe)


def root(exponent: Any, value: Any) -> Any:
    """Returns the distance for which `power` gives a value."""
    safe = ops.where(exponent == 0, ops.ones_like(exponent), exponent)
    return ops.where(exponent == 0, value, ops.log1p(safe * value) / safe)


def box_cox(x: np.ndarray) -> tuple[float, float, float]:
    """Returns lambda, center and slope for positive numbers."""
    lambda_, level, slope = _one_sided(np.log(x))
    center = np.exp(level)
    return lambda_, center, slope / center


def yeo_johnson(x: np.ndarray) -> tuple[float, float, float]:
    """Returns lambda, center and slope for any numbers."""
    if x.min() >= 0:
        lambda_, level, slope = _one_sided(np.log1p(x))
        return lambda_, np.expm1(level), slope * np.exp(-level)
    if x.max() <= 0:
        lambda_, center, slope = yeo_johnson(-x)
        return 2 - lambda_, -center, slope
    return _two_sided(x)


def _one_sided(logarithm: np.ndarray) -> tuple[float, float, float]:
    """Fits exp(lambda logarithm): lambda, and center and slope in it."""
    middle = logarithm.mean()
    distance = logarithm - middle

    def likelihood(lambda_: float) -> float:
        # The Jacobian cancels against the common factor of all powers.
        return -_log_deviation(_power(lambda_, distance))

    lambda_ = maximum(likelihood)
    values = _power(lambda_, distance)
    center = _root(lambda_, values.mean())
    slope = np.exp(lambda_ * center) / values.std()
    return lambda_, middle + center, slope


def _two_sided(x: np.ndarray) -> tuple[float, float, float]:
    """Fits numbers on both sides of 0."""
    negative = x < 0
    logarithm = np.log1p(np.abs(x))
    jacobian = np.where(negative, -logarithm, logarithm).mean()

    def transformed(lambda_: float) -> np.ndarray:
        values = np.empty_like(x)
        values[~negative] = _power(lambda_, logarithm[~negative])
        values[negative] = -_power(2 - lambda_, logarithm[negative])
        return values

    def likelihood(lambda_: float) -> float:
        deviation = _log_deviation(transformed(lambda_))
        return lambda_ * jacobian - deviation

    lambda_ = maximum(likelihood)
    values = transformed(lambda_)
    mean, deviation = values.mean(), values.std()
    if mean < 0:
        level = _root(2 - lambda_, -mean)
        slope = np.exp((1 - lambda_) * level) / deviation
        return lambda_, -np.expm1(level), slope
    level = _root(lambda_, mean)
    slope = np.exp((lambda_ - 1) * level) / deviation
    return lambda_, np.expm1(level), slope


def _power(exponent: float, distance: np.ndarray) -> np.ndarray:
    if exponent == 0:
        return distance
    with np.errstate(over="ignore"):
        return np.expm1(exponent * distance) / exponent


def _root(exponent: float, value: float) -> float:
    return value if exponent == 0 else np.log1p(exponent * value) / exponent


def _log_deviation(values: np.ndarray) -> float:
    """The logarithm of the standard deviation, infinite beyond float64."""
    with np.errstate(all="ignore"):
        result = np.log(values.std())
    return np.inf if np.isnan(result) else result


def maximum(function: Callable[[float], float], start: float = 1.0) -> float:
    """Returns where a concave function is largest.

    A step that doubles finds an interval, and the golden section narrows it
    until rounding hides the differences.

    Args:
        function: Of one number.
        start: Where to look first.
    """
    step = 1.0 if function(start + 1e-3) >= function(start) else -1.0
    previous, here, value = start, start, function(start)
    while (following := function(here + step)) > value:
        previous, here, value = here, here + step, following
        step *= 2
    low, high = sorted((previous, here + step))
    if previous == here:
        low, high = min(low, start - 1e-3), max(high, start + 1e-3)
    tolerance = 1e-9 * (1 + abs(here))
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > tolerance:
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
