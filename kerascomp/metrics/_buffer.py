"""A store of samples for metrics that need all of them, and ranks."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras, segment_sum
from kerascomp.metrics._base import Metric

ops = keras.ops

DEFAULT_CAPACITY = 16_384


class Buffer:
    """Keeps up to `capacity` rows of numbers with their weights.

    Its shape is fixed, so that it works in compiled code. Rows of weight 0
    take no place. What comes after it is full is lost, and `or_nan` says so.

    Args:
        metric: The metric whose state holds the rows.
        capacity: Largest number of rows.
        width: Numbers in a row.
    """

    def __init__(self, metric: Metric, capacity: int, width: int):
        _validation.at_least("capacity", capacity, 1)
        self.capacity = capacity
        # The last row, of weight 0, takes what is not kept.
        self.rows = metric.add_state("rows", capacity + 1, width)
        self.weights = metric.add_state("weights", capacity + 1)
        self.count = metric.add_state("count")

    def keep(self, rows: Any, weights: Any) -> None:
        """Stores `(samples, width)` numbers with `(samples,)` weights."""
        counted = weights != 0
        places = ops.cast(self.count, "int32") - 1
        places = places + ops.cumsum(ops.cast(counted, "int32"))
        kept = ops.logical_and(counted, places < self.capacity)
        places = ops.where(kept, places, self.capacity)[:, None]
        weights = ops.where(kept, weights, 0.0)
        rows = ops.where(kept[:, None], rows, 0.0)
        self.rows.assign(ops.scatter_update(self.rows, places, rows))
        self.weights.assign(ops.scatter_update(self.weights, places, weights))
        self.count.assign_add(ops.sum(ops.cast(counted, self.count.dtype)))

    def or_nan(self, result: Any) -> Any:
        """Returns the result, or NaN if a sample found no place."""
        count = ops.convert_to_tensor(self.count)
        return ops.where(count > self.capacity, float("nan"), result)


def weight_around(values: Any, weights: Any) -> tuple[Any, Any]:
    """Returns for each value the weight below it, and at it.

    With weights of 1, below + (at + 1) / 2 is the rank, ties averaged.

    Args:
        values: `(samples,)`.
        weights: `(samples,)`.

    Returns:
        Two tensors `(samples,)`.
    """
    order = ops.argsort(values)
    ordered = ops.take(values, order)
    new = ops.cast(ordered[1:] != ordered[:-1], "int32")
    # Equal values form a group: the first one starts group 0.
    groups = ops.pad(ops.cumsum(new), ((1, 0),))
    at = segment_sum(ops.take(weights, order), groups, values.shape[0])
    below = ops.cumsum(at) - at
    groups = ops.take(groups, ops.argsort(order))
    return ops.take(below, groups), ops.take(at, groups)
