"""Batches of arrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.population import _program

tree = keras.tree


class Data:
    """Samples in memory, cut into batches.

    Args:
        x: Array, or nested arrays, `(samples, ...)`.
        y: The same, or None.
        weight: None, `(samples,)`, or `(lanes, samples)`.
        batch_size: Samples in a batch; the last may be smaller.
        lanes: How many lanes there are.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        weight: Any = None,
        batch_size: int | None = None,
        lanes: int = 1,
    ):
        self.x = tree.map_structure(_array, x)
        self.y = None if y is None else tree.map_structure(_array, y)
        sizes = {len(a) for a in tree.flatten(self.x)}
        sizes |= {len(a) for a in tree.flatten(self.y) if a is not None}
        if len(sizes) != 1:
            raise ValueError(
                "All arrays of `x` and `y` must have the same number of "
                f"samples. Received: {sorted(sizes)} samples"
            )
        self.samples = sizes.pop()
        self.weight = None if weight is None else _array(weight)
        self.by_lane = weight is not None and self._has_lanes(lanes)
        self.batch_size = batch_size or 32
        self.steps = -(-self.samples // self.batch_size)

    def _has_lanes(self, lanes: int) -> bool:
        shape = () if self.weight is None else self.weight.shape
        if shape == (self.samples,):
            return False
        if shape == (lanes, self.samples):
            return True
        raise ValueError(
            "`sample_weight` must have the shape (samples,) or (lanes, "
            f"samples), here ({self.samples},) or ({lanes}, {self.samples}). "
            f"Received: sample_weight.shape={shape}"
        )

    def of_lanes(self, lanes: Any) -> "Data":
        """The same data for some of the lanes."""
        if not self.by_lane or self.weight is None:
            return self
        own = Data(self.x, self.y, None, self.batch_size)
        own.weight, own.by_lane = self.weight[lanes], True
        return own

    def batches(self, order: np.ndarray | None = None) -> Iterator:
        """Yields all batches, in an order of the samples."""
        for start in range(0, self.samples, self.batch_size):
            index: Any = slice(start, start + self.batch_size)
            if order is not None:
                index = order[index]
            yield self._batch(index)

    def first(self) -> _program.Batch:
        """The batch that programs are built and timed with."""
        return self._batch(slice(0, self.batch_size))

    def _batch(self, index: Any) -> _program.Batch:
        take = lambda array: None if array is None else array[index]
        weight = None if self.weight is None else self.weight[..., index]
        return _program.Batch(
            tree.map_structure(take, self.x),
            tree.map_structure(take, self.y),
            weight,
            self.by_lane,
        )


def weights_of_classes(y: Any, class_weight: dict[int, float]) -> np.ndarray:
    """Returns the weight of each sample's class, 1 for classes not named."""
    labels = np.asarray(y)
    if labels.ndim > 1:
        one_hot = labels.shape[-1] != 1
        labels = labels.argmax(-1) if one_hot else labels.squeeze(-1)
    labels = np.round(labels).astype("int32")
    classes, inverse = np.unique(labels, return_inverse=True)
    weights = [class_weight.get(int(label), 1.0) for label in classes]
    return np.array(weights, keras.config.floatx())[inverse.ravel()]


def _array(value: Any) -> np.ndarray:
    array = keras.ops.convert_to_numpy(value)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(keras.config.floatx(), copy=False)
    return array
