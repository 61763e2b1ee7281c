"""Weight files of many models alike, faster than one by one."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerascomp import _files
from kerascomp._compat import keras

# Where a variable's bytes lie in a file: the offset, and how many.
_Places = dict[int, tuple[int, int]]


class WeightFiles:
    """Writes what `model.save_weights` writes.

    Keras takes longer to lay a small file out than to train an epoch. Files of
    models of one structure differ in nothing but the numbers, so those of
    later ones are put into a copy of an earlier one. Where it is not certain
    which number belongs where, Keras writes the file.
    """

    def __init__(self) -> None:
        self._known: dict[Any, tuple[bytes, _Places]] = {}

    def save(self, model: Any, path: Path) -> None:
        """Writes the weights and the optimizer's state of a model.

        Args:
            model: Built.
            path: Ends in `.weights.h5`; an existing file is replaced.
        """
        key = _structure(model)
        known = self._known.get(key)
        if known is not None:
            content = _filled(*known, _arrays(model))
            _files.write_bytes(path, content)
            return
        with _files.atomic_path(path) as temporary:
            model.save_weights(temporary, overwrite=True)
            template = Path(temporary).read_bytes()
        places = _places(template, _arrays(model))
        if places is not None:
            self._known = {key: (template, places)}


def _arrays(model: Any) -> list[np.ndarray]:
    variables = [*model.variables, *model.optimizer.variables]
    # Once each: an optimizer's variables may be among those of its model.
    unique = {id(variable): variable for variable in variables}
    return [keras.ops.convert_to_numpy(v) for v in unique.values()]


def _structure(model: Any) -> Any:
    """Equal for models whose files are laid out alike."""
    variables = [
        # Without the numbers that Keras appends to names: they go on counting
        # from one model to the next.
        (re.sub(r"_\d+(?=[/_]|$)", "", v.path), tuple(v.shape), str(v.dtype))
        for v in [*model.variables, *model.optimizer.variables]
    ]
    return tuple(_types(model)), tuple(variables)


def _types(layer: Any) -> Iterator[type]:
    yield type(layer)
    for inner in getattr(layer, "layers", ()):
        yield from _types(inner)


def _filled(
    template: bytes, places: _Places, arrays: list[np.ndarray]
) -> bytes:
    content = bytearray(template)
    for index, (start, size) in places.items():
        content[start : start + size] = arrays[index].tobytes()
    return bytes(content)


def _places(template: bytes, arrays: list[np.ndarray]) -> _Places | None:
    """Finds every number of a file in the arrays; None if that is in doubt."""
    owners: dict[Any, list[int]] = {}
    for index, array in enumerate(arrays):
        owners.setdefault(_content(array), []).append(index)
    places: _Places = {}
    with h5py.File(io.BytesIO(template), "r") as file:
        datasets: list[h5py.Dataset] = []
        file.visititems(
            lambda _, item: (
                datasets.append(item)
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
        for dataset in datasets:
            offset = dataset.id.get_offset()
            own = owners.get(_content(dataset[()]), [])
            if offset is None or len(own) != 1 or own[0] in places:
                return None
            places[own[0]] = offset, dataset.id.get_storage_size()
    return places


def _content(array: Any) -> Any:
    array = np.asarray(array)
    return array.shape, array.dtype.str, array.tobytes()
