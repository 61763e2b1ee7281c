"""Features spread evenly by their ranks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _accumulators, _adapting, _scaling

ops = keras.ops

# Nearer to 0 or 1 than this, a share has no normal quantile here.
END = 1e-7

# Wichura, 1988, algorithm AS 241, PPND7: numerators and denominators of the
# normal quantile near 1/2 and in the tail, highest power first.
MIDDLE = (
    (59.109374720, 159.29113202, 50.434271938, 3.3871327179),
    (67.187563600, 78.757757664, 17.895169469, 1.0),
)
TAIL = (
    (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777),
    (0.12021132975, 0.73700164250, 1.0),
)


@component(since="0.1")
class QuantileTransform(_adapting.Adapting):
    """Spreads every feature evenly, or normally, by its ranks.

    Use it for features of any odd shape, when only the order of values counts
    and outliers must not. After `layer.adapt(training_data)`, a value becomes
    the share of training values below it, interpolated between `num_quantiles`
    quantiles; a value that several quantiles share, the mean of their shares.
    Values beyond the training data are 0 or 1, which is what the method gives
    them and no accident: extremes cannot be told apart. With a normal output,
    the shares become normal quantiles; 0 and 1 become -5.2 and 5.2, those of
    1e-7 and 1 - 1e-7.

    Quantiles are exact up to `max_samples` rows; of more, they are those of a
    random sample of that many, the same in every run, whose shares are off by
    less than 1.36 / sqrt(max_samples) in 95 of 100 samples (0.0043).

    Args:
        num_quantiles: Quantiles to hold, at least 2 and at most the number of
            training rows.
        output_distribution: `"uniform"` in [0, 1], or `"normal"`.
        constant: What becomes of features with one value alone: `"error"`, or
            `"step"`: 0 up to that value, 1 above.
        missing: What becomes of NaN: `"error"` in `adapt`, or `"skip"` to fit
            to the other values. A call passes NaN on.
        max_samples: Rows to keep while reading, at least `num_quantiles`. A
            value takes 8 bytes, twice.
        statistics: `{"quantiles": ...}`, `(features, num_quantiles)`, rising,
            in place of `adapt`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument is out of range, if there are fewer training
            rows than quantiles, or the training data is infinite, or constant
            or missing without an argument that says so.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = QuantileTransform(num_quantiles=3)
        >>> layer.adapt(np.array([[1.0], [2.0], [1000.0]]))
        >>> output = layer(np.array([[0.0], [1.5], [501.0]]))
        >>> keras.ops.convert_to_numpy(output).tolist()
        [[0.0], [0.25], [0.75]]

    Reference:
        Probability integral transform, with the ties and ends of scikit-learn's
        `QuantileTransformer`. Normal quantiles: Wichura, 1988, algorithm AS
        241.
    """

    def __init__(
        self,
        num_quantiles: int = 256,
        output_distribution: str = "uniform",
        constant: str = "error",
        missing: str = "error",
        max_samples: int = 100_000,
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        _validation.at_least("num_quantiles", num_quantiles, 2)
        _validation.one_of(
            "output_distribution", output_distribution, ("uniform", "normal")
        )
        _validation.one_of("constant", constant, ("error", "step"))
        _validation.one_of("missing", missing, ("error", "skip"))
        _validation.at_least("max_samples", max_samples, num_quantiles)
        self.num_quantiles = num_quantiles
        self.output_distribution = output_distribution
        self.constant = constant
        self.missing = missing
        self.max_samples = max_samples

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_quantiles": self.num_quantiles,
            "output_distribution": self.output_distribution,
            "constant": self.constant,
            "missing": self.missing,
            "max_samples": self.max_samples,
        }

    def _shapes(self, features: int) -> dict[str, tuple]:
        return {"quantiles": (features, self.num_quantiles)}

    def _accumulator(self, features: int) -> Any:
        return _accumulators.Rows(features, self.max_samples)

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        if len(accumulator) < self.num_quantiles:
            raise ValueError(
                f"`num_quantiles` must be at most the number of training rows, "
                f"{len(accumulator)}. Received: "
                f"num_quantiles={self.num_quantiles}"
            )
        shares = np.linspace(0, 1, self.num_quantiles)
        quantiles = np.stack(
            [np.quantile(each, shares) for each in accumulator.columns()]
        )
        if self.constant == "error":
            _scaling.refuse_constants(quantiles[:, 0], quantiles[:, -1])
        return {"quantiles": quantiles}

    def _forward(self, x: Any) -> Any:
        last = self.num_quantiles - 1
        # Quantiles below x, and at most x: they differ at ties.
        left, right = self._rank(x, ops.less), self._rank(x, ops.less_equal)
        below = ops.clip(right - 1, 0, last - 1)
        start, end = self._at(below), self._at(below + 1)
        part = (x - start) / _scaling.nonzero(end - start)
        rank = ops.cast(below, x.dtype) + part
        tied = ops.cast(left + right - 1, x.dtype) / 2
        rank = ops.where(right > left, tied, rank)
        rank = ops.where(right > last, float(last), rank)
        rank = ops.where(left == 0, 0.0, rank)
        if self.output_distribution == "normal":
            # From the nearer end: 1 - share would lose the digits of a tail.
            upper = rank > last / 2
            share = ops.where(upper, last - rank, rank) / last
            tail = normal_quantile(ops.maximum(share, END))
            result = ops.where(upper, -tail, tail)
        else:
            result = rank / last
        return ops.where(ops.isnan(x), x, result)

    def _backward(self, y: Any) -> Any:
        last = self.num_quantiles - 1
        if self.output_distribution == "normal":
            share = (1 + ops.erf(y / 2**0.5)) / 2
        else:
            share = ops.clip(y, 0.0, 1.0)
        rank = ops.where(ops.isnan(y), ops.zeros_like(y), share * last)
        below = ops.clip(ops.cast(ops.floor(rank), "int32"), 0, last - 1)
        start, end = self._at(below), self._at(below + 1)
        part = rank - ops.cast(below, y.dtype)
        return ops.where(ops.isnan(y), y, start + part * (end - start))

    def _at(self, index: Any) -> Any:
        """The quantiles at an index of each feature."""
        offsets = np.arange(self._features, dtype="int32") * self.num_quantiles
        table = ops.reshape(self.quantiles, (-1,))
        return ops.take(table, ops.add(index, offsets), axis=0)

    def _rank(self, x: Any, before: Any) -> Any:
        """Counts the quantiles before each number, by halving."""
        count = ops.zeros_like(x, dtype="int32")
        step = 1 << (self.num_quantiles.bit_length() - 1)
        while step:
            probe = count + step
            inside = ops.minimum(probe, self.num_quantiles)
            found = ops.logical_and(
                probe <= self.num_quantiles, before(self._at(inside - 1), x)
            )
            count = ops.where(found, probe, count)
            step //= 2
        return count


def normal_quantile(share: Any) -> Any:
    """Returns quantiles of the standard normal distribution, to 7 digits.

    Args:
        share: Float tensor in [`END`, 1/2].
    """
    distance = share - 0.5
    near = distance > -0.425
    square = 0.180625 - distance * distance
    middle = distance * _ratio(MIDDLE, square)
    root = ops.sqrt(-ops.log(share)) - 1.6
    return ops.where(near, middle, -_ratio(TAIL, root))


def _ratio(coefficients: tuple, x: Any) -> Any:
    values = []
    for polynomial in coefficients:
        value = ops.zeros_like(x)
        for coefficient in polynomial:
            value = value * x + coefficient
        values.append(value)
    return values[0] / values[1]
