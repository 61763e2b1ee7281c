"""Reads `.npz` files."""

import pathlib
import zipfile

import numpy as np

from kerascomp.datasets._build import Features, Source, checked_inputs
from kerascomp.datasets._dataset import DataError

_WHOLE = ("x", "y")
_DIVIDED = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: pathlib.Path) -> Source:
    """Returns `x` and `y`, or the four arrays of a divided data set."""
    arrays = _read(path)
    if not set(_DIVIDED) <= set(arrays):
        features = Features(checked_inputs(arrays["x"], arrays["y"]))
        return Source(path.name, arrays["y"], lambda _: features)
    x, y, x_test, y_test = (arrays[key] for key in _DIVIDED)
    x = checked_inputs(x, y, "x_train")
    x_test = checked_inputs(x_test, y_test, "x_test")
    if x.shape[1:] != x_test.shape[1:] or y.ndim != y_test.ndim:
        raise DataError(
            "Training and test samples must have the same shape. Received: "
            f"x_train {x.shape}, y_train {y.shape}, x_test {x_test.shape}, "
            f"y_test {y_test.shape}."
        )
    features = Features(np.concatenate([x, x_test]))
    return Source(
        path.name,
        np.concatenate([y, y_test]),
        lambda _: features,
        num_test=len(y_test),
    )


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = _DIVIDED if set(_DIVIDED) <= set(file.files) else _WHOLE
            if not set(keys) <= set(file.files):
                raise DataError(
                    f"{path.name} must hold `x` and `y`, or `x_train`, "
                    "`y_train`, `x_test` and `y_test`. Received: "
                    f"{', '.join(file.files) or 'nothing'}. Write it with "
                    "`np.savez(path, x=x, y=y)`."
                )
            return {key: file[key] for key in keys}
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path.name} holds Python objects (dtype object or a "
                "pickle), which can run code when read. Save numbers: "
                "`np.savez(path, x=x.astype('float32'), y=y)`."
            ) from error
        raise DataError(
            f"{path.name} is not a readable .npz file: {error}"
        ) from error
