"""Values in place of missing ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _accumulators, _adapting

ops = keras.ops


@component(since="0.1")
class Imputation(_adapting.Adapting):
    """Fills in missing values, and can say where it did.

    Use it in front of layers that cannot do with NaN, which are nearly all:
    one missing number makes a prediction, and in training all weights, NaN.
    After `layer.adapt(training_data)`, a missing value becomes the mean, the
    median or the most frequent of the others in its column.

    The mean is exact. The others are up to `max_samples` rows; of more, they
    are those of a random sample of that many, the same in every run.

    Args:
        strategy: `"mean"`, `"median"`, `"most_frequent"` (of several, the
            smallest), or `"constant"`, which needs no `adapt`.
        fill_value: For `"constant"`: a number, or one for each feature.
        indicator: Whether to append one column a feature, 1 where its value
            was missing: that it was may say more than any filling.
        missing_value: A number that stands for missing values, beside NaN,
            such as -1. None for NaN alone.
        max_samples: Rows to keep while reading, at least 1, for the median and
            the most frequent value. A value takes 8 bytes, twice.
        statistics: `{"fill": ...}`, `(features,)`, in place of `adapt`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers.

    Returns:
        The shape of the input, or `(batch, ..., 2 features)` with `indicator`,
        in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument is out of range, or the training data is
            infinite or has a column of missing values alone.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = Imputation("median", indicator=True)
        >>> layer.adapt(np.array([[1.0], [np.nan], [2.0], [9.0]]))
        >>> output = layer(np.array([[np.nan], [5.0]]))
        >>> keras.ops.convert_to_numpy(output).tolist()
        [[2.0, 1.0], [5.0, 0.0]]

    Reference:
        Little & Rubin, 2019, *Statistical analysis with missing data*, chapter
        4. The numbers are those of scikit-learn's `SimpleImputer`; its
        indicator leaves out columns without missing values.
    """

    missing = "skip"

    def __init__(
        self,
        strategy: str = "mean",
        fill_value: float | Sequence[float] | None = None,
        indicator: bool = False,
        missing_value: float | None = None,
        max_samples: int = 100_000,
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        _validation.one_of("strategy", strategy, tuple(_FITS))
        if (strategy == "constant") != (fill_value is not None):
            raise ValueError(
                "`fill_value` belongs to strategy='constant'. Received: "
                f"strategy={strategy!r}, fill_value={fill_value!r}"
            )
        if missing_value is not None:
            _validation.in_interval(
                "missing_value", missing_value, "(-inf, inf)"
            )
        _validation.at_least("max_samples", max_samples, 1)
        self.strategy = strategy
        self.fill_value = fill_value
        self.indicator = indicator
        self.missing_value = missing_value
        self.max_samples = max_samples

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "strategy": self.strategy,
            "fill_value": self.fill_value,
            "indicator": self.indicator,
            "missing_value": self.missing_value,
            "max_samples": self.max_samples,
        }

    def compute_output_shape(self, input_shape: Any) -> Any:
        if not self.indicator:
            return input_shape
        features = input_shape[-1]
        return (*input_shape[:-1], features and 2 * features)

    def _shapes(self, features: int) -> dict[str, tuple]:
        return {"fill": (features,)}

    def _given(self, name: str, shape: tuple) -> Any:
        if self.strategy != "constant" or self.statistics is not None:
            return super()._given(name, shape)
        value = np.asarray(self.fill_value, "float64")
        if value.shape not in ((), shape) or not np.isfinite(value).all():
            raise ValueError(
                "`fill_value` must be a finite number, or one for each of "
                f"{shape[0]} features. Received: fill_value={self.fill_value}"
            )
        return value

    def _accumulator(self, features: int) -> Any:
        if self.strategy == "constant":
            raise ValueError("strategy='constant' has nothing to adapt to.")
        if self.strategy == "mean":
            return _accumulators.Means(features)
        return _accumulators.Rows(features, self.max_samples)

    def _rows(self, batch: np.ndarray, shape: tuple) -> np.ndarray:
        if self.missing_value is not None:
            numbers = _adapting.as_numbers(batch)
            batch = np.where(numbers == self.missing_value, np.nan, numbers)
        return super()._rows(batch, shape)

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        return {"fill": _FITS[self.strategy](accumulator)}

    def _forward(self, x: Any) -> Any:
        missing = ops.isnan(x)
        if self.missing_value is not None:
            missing = ops.logical_or(missing, x == self.missing_value)
        filled = ops.where(missing, *self._tensors(), x)
        if not self.indicator:
            return filled
        return ops.concatenate([filled, ops.cast(missing, x.dtype)], axis=-1)


def _most_frequent(column: np.ndarray) -> float:
    values, counts = np.unique(column, return_counts=True)
    return values[counts.argmax()]


_FITS: dict[str, Any] = {
    "mean": lambda means: means.mean,
    "median": lambda rows: np.array([*map(np.median, rows.columns())]),
    "most_frequent": lambda rows: np.array(
        [*map(_most_frequent, rows.columns())]
    ),
    "constant": None,
}
