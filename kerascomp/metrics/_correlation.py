"""Correlations of labels with predictions over the data set."""

from typing import Any

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.metrics._base import (
    Metric,
    check_same_shape,
    quotient,
    without_nan,
)
from kerascomp.metrics._buffer import DEFAULT_CAPACITY, Buffer, weight_around

ops = keras.ops

# Kendall's pairs are compared in blocks of so many rows with all rows.
_BLOCK = 64


class PairMetric(Metric):
    """A number of all pairs of a label and a prediction."""

    _direction = "up"

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        y_true, predicted = _numerics.same_rank(
            self.tensor(y_true), self.tensor(y_pred)
        )
        weights = self.weights_of(predicted, y_pred, sample_weight)
        check_same_shape(y_true, predicted)
        true, found, weights = (
            ops.reshape(each, (-1,)) for each in (y_true, predicted, weights)
        )
        weights = without_nan(true, without_nan(found, weights))
        self.add(true, found, weights)

    def add(self, true: Any, found: Any, weights: Any) -> None:
        """Adds labels, predictions and weights, each `(samples,)`."""
        raise NotImplementedError


class RankMetric(PairMetric):
    """A number of pairs that needs all of them.

    They are in its `buffer`.
    """

    buffer: Buffer

    def add(self, true: Any, found: Any, weights: Any) -> None:
        self.buffer.keep(ops.stack([true, found], axis=-1), weights)


@component(since="0.1")
class StreamingPearsonCorrelation(PairMetric):
    """Correlates labels and predictions over the whole data set.

    Use it for regression: 1 if predictions are a rising linear function of
    the labels, whatever their scale and offset. However the data are split
    into batches, the result is that of `scipy.stats.pearsonr` on all of them;
    `keras.metrics.PearsonCorrelation` averages one correlation a row, and is
    NaN on predictions of shape `(batch, 1)`.

    Every element is one pair. For several outputs, use one metric each, or
    outputs of different scale are mixed.

    Means and products of deviations are merged batch by batch, not as sums of
    squares, so that a large mean costs no precision. Such state cannot be
    added up over the replicas of `tf.distribute`.

    Args:
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`. Of the result; state is float32,
            or float64 if this is.

    Call arguments:
        y_true: `(batch,)` or `(batch, ...)`, any dtype.
        y_pred: The same, up to a last axis of length 1.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.
            A weight of 2 is the sample twice.

    Returns:
        A scalar in [-1, 1]. 0 before any data. NaN if labels or predictions
        are constant, as in SciPy, or not finite.

    Raises:
        ValueError: If the shapes of a call do not match.

    Examples:
        >>> metric = StreamingPearsonCorrelation()
        >>> metric.update_state([1.0, 2.0], [2.0, 4.0])
        >>> metric.update_state([3.0], [0.0])
        >>> # Deviations -1, 0, 1 and 0, 2, -2: -2 / sqrt(2 * 8)
        >>> round(float(metric.result()), 4)
        -0.5

    Reference:
        Pearson, 1895, [Note on regression and
        inheritance](https://doi.org/10.1098/rspl.1895.0041). Merged as in Chan
        et al., 1983, [Algorithms for computing the sample
        variance](https://doi.org/10.1080/00031305.1983.10483115).
    """

    def __init__(
        self, name: str = "streaming_pearson_correlation", dtype: Any = None
    ):
        super().__init__(name, dtype)
        self.weight = self.add_state("weight")
        self.mean = self.add_state("mean", 2)
        # Of labels and predictions, and of the two with each other.
        self.products = self.add_state("products", 3)

    def add(self, true: Any, found: Any, weights: Any) -> None:
        weight, mean, products = moments(true, found, weights)
        total = self.weight + weight
        share = ops.divide_no_nan(weight, total)
        step = mean - self.mean
        between = ops.stack(_squares(step[0], step[1]))
        self.products.assign_add(products + self.weight * share * between)
        self.mean.assign_add(share * step)
        self.weight.assign(total)

    def result(self) -> Any:
        value = correlation(self.products, self.weight)
        return self.output(value)


def moments(x: Any, y: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Returns the weight, the means, and the products of the deviations.

    Args:
        x: `(samples,)`.
        y: `(samples,)`.
        weights: `(samples,)`. What has weight 0 may be anything.
    """
    total = ops.sum(weights)
    ends = [_deviations(each, weights, total) for each in (x, y)]
    means, (x, y) = zip(*ends, strict=True)
    products = ops.stack([ops.sum(weights * p) for p in _squares(x, y)])
    return total, ops.stack(means), products


def _deviations(x: Any, weights: Any, total: Any) -> tuple[Any, Any]:
    """Returns the mean, and what differs from it, 0 at weight 0."""
    counted = weights != 0
    # Around one of the values, so that constants have deviations of exactly 0.
    lowest = ops.zeros((1,), dtype=x.dtype) - float("inf")
    center = ops.max(
        ops.concatenate([lowest, ops.where(counted, x, -float("inf"))])
    )
    center = ops.where(center == -float("inf"), 0.0, center)
    deviations = ops.where(counted, x - center, 0.0)
    mean = ops.divide_no_nan(ops.sum(deviations * weights), total)
    return center + mean, ops.where(counted, deviations - mean, 0.0)


def _squares(x: Any, y: Any) -> tuple[Any, Any, Any]:
    return x * x, y * y, x * y


def correlation(products: Any, weight: Any) -> Any:
    """Returns the correlation: NaN if constant, but 0 before any data."""
    products = ops.convert_to_tensor(products)
    deviations = ops.sqrt(products[0]) * ops.sqrt(products[1])
    value = quotient(products[2], deviations, weight)
    return ops.clip(value, -1.0, 1.0)


@component(since="0.1")
class SpearmanCorrelation(RankMetric):
    """Correlates the ranks of labels and predictions.

    Use it where only the order matters, as for scores that sort candidates:
    1 if predictions rise with the labels, by any amounts. Equal values share
    the mean of their ranks, and the result is that of
    `scipy.stats.spearmanr`.

    Ranks need all values, so the metric keeps up to `capacity` samples of
    nonzero weight and is exact for them. If there are more, the result is
    NaN, in eager and in compiled code, until the state is reset: an answer
    from some of the data would pass for one from all. Every result sorts
    `capacity` numbers, which `fit` does after each batch.

    Args:
        capacity: Largest number of samples, at least 1. Takes 12 bytes each.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`. Of the result; values are kept in
            float32, or in float64 if this is. Values that float32 cannot tell
            apart are ties.

    Call arguments:
        y_true: `(batch,)` or `(batch, ...)`, any dtype. Every element is one
            sample.
        y_pred: The same, up to a last axis of length 1.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.
            A weight of 2 is the sample twice.

    Returns:
        A scalar in [-1, 1]. 0 before any data. NaN if labels or predictions
        are constant, as in SciPy, if one is NaN, or beyond `capacity`.

    Raises:
        ValueError: If `capacity` is below 1, or the shapes of a call do not
            match.

    Examples:
        >>> metric = SpearmanCorrelation(capacity=100)
        >>> metric.update_state([1.0, 2.0, 3.0], [10.0, 5.0, 99.0])
        >>> # Ranks 1 2 3 and 2 1 3: 1 - 6 (1 + 1 + 0) / (3 (9 - 1))
        >>> round(float(metric.result()), 4)
        0.5

    Reference:
        Spearman, 1904, [The proof and measurement of association between two
        things](https://doi.org/10.2307/1412159).
    """

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        name: str = "spearman_correlation",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        self.capacity = capacity
        self.buffer = Buffer(self, capacity, width=2)

    def result(self) -> Any:
        weights = ops.convert_to_tensor(self.buffer.weights)
        values = ops.convert_to_tensor(self.buffer.rows)
        weight, _, products = moments(
            _ranks(values[:, 0], weights),
            _ranks(values[:, 1], weights),
            weights,
        )
        value = correlation(products, weight)
        return self.output(self.buffer.or_nan(value))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "capacity": self.capacity}


def _ranks(values: Any, weights: Any) -> Any:
    """Returns the ranks, less the 1/2 that all have."""
    below, at = weight_around(values, weights)
    return below + at / 2


@component(since="0.1")
class KendallTau(RankMetric):
    """Counts how much more often pairs are ordered alike than unlike.

    Use it where only the order matters and its value should have a plain
    meaning: without ties, (tau + 1) / 2 is the chance that predictions order
    two samples as the labels do. With C concordant and D discordant pairs of
    n samples, m the smaller number of distinct values, and pairs counted that
    are not tied in labels or in predictions,

        tau-b = (C - D) / sqrt(pairs untied in x * pairs untied in y)
        tau-c = 2 (C - D) / (n^2 (m - 1) / m)

    as in `scipy.stats.kendalltau`. tau-b reaches 1 for tables with as many
    rows as columns, tau-c for others, too.

    A pair may lie in two batches, so the metric keeps up to `capacity`
    samples of nonzero weight and is exact for them. If there are more, the
    result is NaN, in eager and in compiled code, until the state is reset: an
    answer from some of the data would pass for one from all. Every update
    compares its samples with `capacity` others; a result costs nothing.

    Args:
        variant: `"b"` or `"c"`.
        capacity: Largest number of samples, at least 1. Takes 12 bytes each.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`. Of the result; values are kept in
            float32, or in float64 if this is. Values that float32 cannot tell
            apart are ties.

    Call arguments:
        y_true: `(batch,)` or `(batch, ...)`, any dtype. Every element is one
            sample.
        y_pred: The same, up to a last axis of length 1.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.
            A weight of 2 is the sample twice.

    Returns:
        A scalar in [-1, 1]. 0 before any data. NaN if labels or predictions
        are constant, as in SciPy, if one is NaN, or beyond `capacity`.

    Raises:
        ValueError: If an argument is out of range, or the shapes of a call do
            not match.

    Examples:
        >>> metric = KendallTau(capacity=100)
        >>> metric.update_state([1.0, 2.0, 3.0], [10.0, 5.0, 99.0])
        >>> # Of three pairs, two are ordered alike: (2 - 1) / 3
        >>> round(float(metric.result()), 4)
        0.3333

    Reference:
        Kendall, 1945, [The treatment of ties in ranking
        problems](https://doi.org/10.1093/biomet/33.3.239); tau-c from Stuart,
        1953, [The estimation and comparison of strengths of association in
        contingency tables](https://doi.org/10.1093/biomet/40.1-2.105).
    """

    def __init__(
        self,
        variant: str = "b",
        capacity: int = DEFAULT_CAPACITY,
        name: str = "kendall_tau",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        _validation.one_of("variant", variant, ("b", "c"))
        self.variant = variant
        self.capacity = capacity
        self.buffer = Buffer(self, capacity, width=2)
        self.weight = self.add_state("weight")
        # Agreement, untied in x, untied in y, distinct x, distinct y.
        self.counts = self.add_state("counts", 5)

    def add(self, true: Any, found: Any, weights: Any) -> None:
        first = ops.cast(self.buffer.count, "int32")
        super().add(true, found, weights)
        rows = ops.convert_to_tensor(self.buffer.rows)
        kept = ops.convert_to_tensor(self.buffer.weights)

        def compare(number: Any, counts: Any) -> Any:
            places = ops.arange(_BLOCK, dtype="int32")
            places = first + number * _BLOCK + places
            # The last row holds no sample.
            places = ops.minimum(places, self.capacity)
            return counts + _compared_with_earlier(rows, kept, places)

        samples = ops.shape(weights)[0]
        counts = ops.fori_loop(
            0,
            (samples + _BLOCK - 1) // _BLOCK,
            compare,
            ops.convert_to_tensor(self.counts),
        )
        self.counts.assign(counts)
        self.weight.assign_add(ops.sum(weights))

    def result(self) -> Any:
        counts = ops.convert_to_tensor(self.counts)
        agreement, untied = counts[0], ops.sqrt(counts[1]) * ops.sqrt(counts[2])
        value = quotient(agreement, untied, self.weight)
        if self.variant == "c":
            distinct = ops.minimum(counts[3], counts[4])
            pairs = ops.square(self.weight) * (1 - 1 / distinct) / 2
            # Undefined where tau-b is.
            value = ops.where(
                untied > 0, quotient(agreement, pairs, self.weight), value
            )
        value = ops.clip(value, -1.0, 1.0)
        return self.output(self.buffer.or_nan(value))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "variant": self.variant,
            "capacity": self.capacity,
        }


def _compared_with_earlier(rows: Any, weights: Any, places: Any) -> Any:
    """Counts pairs of the rows at some places with those before each.

    Rows that hold no sample have weight 0.

    Returns:
        Agreement, pairs untied in either column, and the numbers of values
        that do not occur before, in either column.
    """
    block = ops.take(rows, places, axis=0)
    block_weights = ops.take(weights, places)
    every = ops.arange(rows.shape[0], dtype="int32")
    earlier = every < ops.expand_dims(places, 1)
    pairs = ops.expand_dims(block_weights, 1) * weights
    pairs = ops.where(earlier, pairs, 0.0)
    signs, distinct = [], []
    for column in (0, 1):
        mine, others = ops.expand_dims(block[:, column], 1), rows[:, column]
        # Not the sign of the difference: infinities have none.
        sign = ops.cast(mine > others, pairs.dtype)
        sign = sign - ops.cast(mine < others, pairs.dtype)
        signs.append(sign)
        repeated = ops.logical_and(earlier, mine == others)
        fresh = ops.logical_not(ops.any(repeated, axis=1))
        fresh = ops.logical_and(fresh, block_weights != 0)
        distinct.append(ops.sum(ops.cast(fresh, pairs.dtype)))
    x, y = signs
    return ops.stack(
        [
            ops.sum(pairs * x * y),
            ops.sum(pairs * ops.abs(x)),
            ops.sum(pairs * ops.abs(y)),
            *distinct,
        ]
    )
