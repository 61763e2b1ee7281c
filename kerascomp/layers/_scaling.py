"""Other ranges of features."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _accumulators, _adapting

ops = keras.ops


@component(since="0.1")
class MinMaxScaling(_adapting.Adapting):
    """Scales every feature to a range, by its extremes in the training data.

    Use it where inputs must lie between bounds, as in front of a sigmoid.
    One outlier squeezes all other values: `RobustScaling` resists.

    After `layer.adapt(training_data)`, the output is

        low + (x - minimum) / (maximum - minimum) * (high - low)

    New values beyond the extremes leave the range; nothing is clipped.
    `keras.layers.Normalization` gives mean 0 and variance 1 instead.

    Args:
        feature_range: Where the smallest and the largest training value of
            each feature go, `(low, high)` with low < high.
        constant: What becomes of features with one value alone: `"error"`, or
            `"unscaled"` to divide by 1, which puts that value at `low`.
        missing: What becomes of NaN: `"error"` in `adapt`, or `"skip"` to fit
            to the other values. A call passes NaN on.
        statistics: `{"minimum": ..., "maximum": ...}`, each `(features,)`, in
            place of `adapt`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument is out of range, or the training data is
            infinite, or constant or missing without an argument that says so.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = MinMaxScaling(feature_range=(-1.0, 1.0))
        >>> layer.adapt(np.array([[10.0], [30.0], [20.0]]))
        >>> output = layer(np.array([[25.0], [40.0]]))
        >>> keras.ops.convert_to_numpy(output).tolist()
        [[0.5], [2.0]]

    Reference:
        The formula above; it is scikit-learn's `MinMaxScaler`.
    """

    def __init__(
        self,
        feature_range: Sequence[float] = (0.0, 1.0),
        constant: str = "error",
        missing: str = "error",
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        require_increasing("feature_range", feature_range, "(-inf, inf)")
        _validation.one_of("constant", constant, ("error", "unscaled"))
        _validation.one_of("missing", missing, ("error", "skip"))
        self.feature_range = feature_range
        self.constant = constant
        self.missing = missing

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "feature_range": self.feature_range,
            "constant": self.constant,
            "missing": self.missing,
        }

    def _shapes(self, features: int) -> dict[str, tuple]:
        return {"minimum": (features,), "maximum": (features,)}

    def _accumulator(self, features: int) -> Any:
        return _accumulators.Extremes(features)

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        found = {
            "minimum": accumulator.minimum,
            "maximum": accumulator.maximum,
        }
        if self.constant == "error":
            refuse_constants(*found.values())
        return found

    def _span(self) -> Any:
        return nonzero(self.maximum - self.minimum)

    def _forward(self, x: Any) -> Any:
        low, high = self.feature_range
        return low + (x - self.minimum) / self._span() * (high - low)

    def _backward(self, y: Any) -> Any:
        low, high = self.feature_range
        return self.minimum + (y - low) / (high - low) * self._span()


@component(since="0.1")
class RobustScaling(_adapting.Adapting):
    """Centers features at their median and divides by their middle spread.

    Use it for features with outliers, which move neither: after
    `layer.adapt(training_data)`, the output is

        (x - median) / (upper quantile - lower quantile)

    Quantiles interpolate linearly between training values. They are exact up
    to `max_samples` rows; of more, they are those of a random sample of that
    many, the same in every run: of n rows, the quantile q then is one between
    q - 2 s and q + 2 s in 95 of 100 samples, s = sqrt(q (1 - q) / n), or 0.003
    for quartiles of 100,000.

    Args:
        quantile_range: Shares of the values below the lower and the upper
            quantile, in [0, 1]. The quartiles by default.
        unit_variance: Whether to scale normally distributed features to
            variance 1: the output is multiplied by the distance of these
            quantiles in the standard normal distribution.
        constant: What becomes of features whose two quantiles are equal:
            `"error"`, or `"unscaled"` to divide by 1.
        missing: What becomes of NaN: `"error"` in `adapt`, or `"skip"` to fit
            to the other values. A call passes NaN on.
        max_samples: Rows to keep while reading, at least 1. A value takes 8
            bytes, twice.
        statistics: `{"median": ..., "spread": ...}`, each `(features,)`, in
            place of `adapt`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument is out of range, or the training data is
            infinite, or constant or missing without an argument that says so.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = RobustScaling()
        >>> layer.adapt(np.array([[1.0], [2.0], [3.0], [4.0], [500.0]]))
        >>> keras.ops.convert_to_numpy(layer(np.array([[3.0], [5.0]]))).tolist()
        [[0.0], [1.0]]

    Reference:
        The formula above; it is scikit-learn's `RobustScaler`.
    """

    def __init__(
        self,
        quantile_range: Sequence[float] = (0.25, 0.75),
        unit_variance: bool = False,
        constant: str = "error",
        missing: str = "error",
        max_samples: int = 100_000,
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        ends = "(0, 1)" if unit_variance else "[0, 1]"
        require_increasing("quantile_range", quantile_range, ends)
        _validation.one_of("constant", constant, ("error", "unscaled"))
        _validation.one_of("missing", missing, ("error", "skip"))
        _validation.at_least("max_samples", max_samples, 1)
        self.quantile_range = quantile_range
        self.unit_variance = unit_variance
        self.constant = constant
        self.missing = missing
        self.max_samples = max_samples

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "quantile_range": self.quantile_range,
            "unit_variance": self.unit_variance,
            "constant": self.constant,
            "missing": self.missing,
            "max_samples": self.max_samples,
        }

    def _shapes(self, features: int) -> dict[str, tuple]:
        return {"median": (features,), "spread": (features,)}

    def _accumulator(self, features: int) -> Any:
        return _accumulators.Rows(features, self.max_samples)

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        low, high = self.quantile_range
        lower, median, upper = np.transpose(
            [
                np.quantile(column, [low, 0.5, high])
                for column in accumulator.columns()
            ]
        )
        equal = _adapting.are_equal(lower, upper)
        if self.constant == "error":
            refuse_constants(lower, upper)
        spread = np.where(equal, 1.0, upper - lower)
        if self.unit_variance:
            width = NormalDist().inv_cdf(high) - NormalDist().inv_cdf(low)
            spread = np.where(equal, 1.0, spread / width)
        return {"median": median, "spread": spread}

    def _forward(self, x: Any) -> Any:
        return (x - self.median) / self.spread

    def _backward(self, y: Any) -> Any:
        return y * self.spread + self.median


@component(since="0.1")
class LogScaling(_adapting.Preprocessing):
    """Takes logarithms of features that span orders of magnitude.

    Use it for amounts, counts and durations: equal ratios become equal
    differences. It has nothing to fit. The output is, by `method`,

        log           log(x / scale)
        log1p         log(1 + x / scale)
        symmetric     sign(x) log(1 + |x| / scale)

    in logarithms to `base`. `log` needs positive numbers, `log1p` numbers
    above -`scale`: outside, eager calls raise, and compiled programs, which
    cannot, give NaN or infinity. `symmetric` takes all numbers; it is nearly
    linear within `scale` of 0, and `log1p` above 0.

    Args:
        method: `"log"`, `"log1p"` or `"symmetric"`.
        base: Of the logarithm, above 1. None for e.
        scale: Unit of the input, above 0.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, numbers. NaN is passed on.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument or, in eager calls, an input is out of
            range.

    Examples:
        >>> layer = LogScaling("symmetric", base=10.0)
        >>> output = layer(np.array([[-99.0, 0.0, 9.0]]))
        >>> keras.ops.convert_to_numpy(output).round(4).tolist()
        [[-2.0, 0.0, 1.0]]

    Reference:
        The formulas above. Webber, 2013, *A bi-symmetric log transformation
        for wide-range data*, for the symmetric one.
    """

    def __init__(
        self,
        method: str = "log1p",
        base: float | None = None,
        scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.one_of("method", method, ("log", "log1p", "symmetric"))
        if base is not None:
            _validation.in_interval("base", base, "(1, inf)")
        _validation.in_interval("scale", scale, "(0, inf)")
        self.method = method
        self.base = base
        self.scale = scale

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "method": self.method,
            "base": self.base,
            "scale": self.scale,
        }

    def _forward(self, x: Any) -> Any:
        unit = 1.0 if self.base is None else math.log(self.base)
        ratio = x / self.scale
        if self.method == "log":
            _numerics.require(
                x, lambda a: ~(a <= 0), "`inputs` must be above 0."
            )
            return ops.log(ratio) / unit
        if self.method == "log1p":
            _numerics.require(
                x,
                lambda a: ~(a <= -self.scale),
                f"`inputs` must be above {-self.scale}.",
            )
            return ops.log1p(ratio) / unit
        # Not `sign`, whose gradient at 0 would be lost: it is 1 / scale.
        logarithm = ops.log1p(ops.where(ratio < 0, -ratio, ratio)) / unit
        return ops.where(ratio < 0, -logarithm, logarithm)

    def _backward(self, y: Any) -> Any:
        exponent = y * (1.0 if self.base is None else math.log(self.base))
        if self.method == "log":
            return ops.exp(exponent) * self.scale
        if self.method == "log1p":
            return ops.expm1(exponent) * self.scale
        size = ops.expm1(ops.where(exponent < 0, -exponent, exponent))
        return ops.where(exponent < 0, -size, size) * self.scale


def require_increasing(name: str, pair: Any, interval: str) -> None:
    """Raises unless a pair of numbers rises inside an interval."""
    if isinstance(pair, str) or len(pair) != 2 or not pair[0] < pair[1]:
        raise ValueError(
            f"`{name}` must be two numbers, the smaller one first. "
            f"Received: {name}={pair!r}"
        )
    for value in pair:
        _validation.in_interval(name, value, interval)


def refuse_constants(low: np.ndarray, high: np.ndarray) -> None:
    """Raises if bounds of columns are equal."""
    _adapting.refuse_columns(
        _adapting.are_equal(low, high),
        "do not vary between the values that scale them; leave them out, or "
        "see the argument `constant`",
    )


def nonzero(width: Any) -> Any:
    """Returns widths to divide by, 1 for 0."""
    return ops.where(width == 0, ops.ones_like(width), width)
