"""Data that a callback goes through by itself, whatever holds it."""

from collections.abc import Iterator
from typing import Any

from kerascomp._compat import keras

tree = keras.tree


def check(name: str, data: Any) -> None:
    """Raises unless data can be gone through more than once."""
    if _is_arrays(data):
        lengths = {len(array) for array in tree.flatten(data)}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(
                f"`{name}` must hold arrays of one length, at least 1. "
                f"Received: lengths {sorted(lengths)}"
            )
    elif not _is_indexed(data) and (
        not hasattr(data, "__iter__") or iter(data) is data
    ):
        raise ValueError(
            f"`{name}` must be arrays, or batches that can be gone through "
            "more than once, as a `tf.data.Dataset` or a "
            f"`keras.utils.PyDataset`. Received: {name}={type(data).__name__}"
        )


def batches(data: Any, batch_size: int) -> Iterator[tuple[Any, Any, Any]]:
    """Yields `(x, y, sample_weight)` of checked data, None for what lacks.

    Args:
        data: An array, or a structure of them, as `x`; a tuple of arrays, as
            `(x, y)` or `(x, y, sample_weight)`; or batches of either, as a
            data set or a list of tuples.
        batch_size: Of arrays. Other data is batched already.
    """
    if _is_arrays(data):
        for start in range(0, len(tree.flatten(data)[0]), batch_size):
            part = slice(start, start + batch_size)
            batch = tree.map_structure(lambda array, p=part: array[p], data)
            yield keras.utils.unpack_x_y_sample_weight(batch)
        return
    found = (
        map(data.__getitem__, range(len(data))) if _is_indexed(data) else data
    )
    for batch in found:
        yield keras.utils.unpack_x_y_sample_weight(batch)


def size_of(x: Any) -> int:
    """Returns the number of samples in a batch."""
    return int(tree.flatten(x)[0].shape[0])


def _is_arrays(data: Any) -> bool:
    if isinstance(data, list) and all(isinstance(e, tuple) for e in data):
        return False  # A list of arrays has several inputs, one of tuples not.
    leaves = tree.flatten(data)
    return bool(leaves) and all(
        hasattr(leaf, "shape") and hasattr(leaf, "__getitem__")
        for leaf in leaves
    )


def _is_indexed(data: Any) -> bool:
    return isinstance(data, keras.utils.PyDataset)
