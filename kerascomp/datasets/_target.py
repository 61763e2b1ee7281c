"""What is predicted: classes or a quantity."""

import dataclasses
import math

import numpy as np

from kerascomp.datasets._dataset import DataError

# With more distinct integers than this, a target is taken for a quantity.
MAX_GUESSED_CLASSES = 20


@dataclasses.dataclass(frozen=True)
class Target:
    """What is predicted, encoded for training."""

    task: str
    y: np.ndarray  # int32 class indices or float32 values
    class_names: tuple[str, ...] = ()

    @property
    def strata(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The groups to divide evenly and their names."""
        if self.class_names:
            return self.y, self.class_names
        return np.zeros(len(self.y), "int64"), ("all",)


def encode_target(y: np.ndarray, task: str | None, what: str = "`y`") -> Target:
    """Returns class indices or values, and decides which if not told.

    Args:
        y: `(samples,)`, text, booleans or numbers.
        task: `"classification"`, `"regression"` or None to decide: text,
            booleans, and whole numbers with few distinct values are classes.
        what: How messages call the target.
    """
    values = _checked(y, what)
    distinct = np.unique(values)
    if len(distinct) < 2:
        held = f" {distinct[0].item()!r}" if len(distinct) else "s"
        raise DataError(
            f"{what} must hold at least two different values, or there is "
            f"nothing to predict. Received {len(values)} samples with the "
            f"value{held}."
        )
    if (task or _guess(distinct)) == "regression":
        return Target("regression", _quantity(values, what))
    return _classes(values, distinct, what)


def _checked(y: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        remedy = (
            " Turn one-hot labels into class indices with "
            "`y.argmax(axis=-1)`; several targets at once are not supported."
        )
        raise DataError(
            f"{what} must have the shape (samples,) or (samples, 1). "
            f"Received: shape {values.shape}.{remedy * (values.ndim == 2)}"
        )
    if values.dtype.kind not in "biufU":
        raise DataError(
            f"{what} must hold numbers or text. Received: dtype "
            f"{values.dtype}. Convert it with `y.astype('float32')` or, for "
            "labels, `y.astype(str)`."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        missing = int(np.isnan(values).sum())
        infinite = int(np.isinf(values).sum())
        raise DataError(
            f"{what} must be finite. Received {missing} NaN and {infinite} "
            f"infinite values among {len(values)}. Remove these samples."
        )
    return values


def _guess(distinct: np.ndarray) -> str:
    if distinct.dtype.kind in "bU":
        return "classification"
    few = len(distinct) <= MAX_GUESSED_CLASSES
    return "classification" if few and _whole(distinct) else "regression"


def _whole(distinct: np.ndarray) -> bool:
    return distinct.dtype.kind != "f" or bool(
        np.all(distinct == np.round(distinct))
    )


def _quantity(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind == "U":
        raise DataError(
            f"{what} must hold numbers for task='regression'. Received text, "
            f"such as {values[0].item()!r}."
        )
    with np.errstate(over="ignore"):
        result = values.astype("float32")
    if not np.isfinite(result).all():
        raise DataError(
            f"{what} must fit float32, up to 3.4e38. Received: "
            f"{np.abs(values).max()!r}. Divide it by a constant."
        )
    return result


def _classes(values: np.ndarray, distinct: np.ndarray, what: str) -> Target:
    if not _whole(distinct):
        fraction = next(v for v in distinct.tolist() if v != math.floor(v))
        raise DataError(
            f"{what} must hold whole numbers or text for "
            f"task='classification'. Received: {fraction!r} and "
            f"{len(distinct)} distinct values in all."
        )
    if distinct.dtype.kind == "f":
        distinct = distinct.astype("int64")
    names = tuple(str(label) for label in distinct.tolist())
    indices = np.searchsorted(distinct, values).astype("int32")
    return Target("classification", indices, names)
