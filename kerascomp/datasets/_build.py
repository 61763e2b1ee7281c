"""From raw values to a checked and divided data set."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from kerascomp.datasets._dataset import DataError, Dataset, Part
from kerascomp.datasets._split import Options, split
from kerascomp.datasets._target import encode_target


@dataclasses.dataclass(frozen=True)
class Features:
    """The inputs of all samples, still in one array."""

    x: np.ndarray
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Source:
    """Raw values as a reader found them.

    Args:
        name: The data set's name.
        y: The targets of all samples.
        features: Called with the training rows, as categories and medians
            are learned from these alone.
        num_test: Number of samples at the end that are the published test
            part. 0 if there is none.
        class_names: If not given, the labels themselves.
        target: How messages call the target.
    """

    name: str
    y: np.ndarray
    features: Callable[[np.ndarray], Features]
    num_test: int = 0
    class_names: tuple[str, ...] = ()
    target: str = "`y`"


def build(source: Source, options: Options) -> Dataset:
    """Returns the data set, its parts chosen by the options."""
    target = encode_target(source.y, options.task, source.target)
    strata, names = target.strata
    known = source.class_names and target.task == "classification"
    class_names = source.class_names if known else target.class_names
    rows = split(strata, class_names or names, options, source.num_test)
    features = source.features(rows.train)

    def part(chosen: np.ndarray) -> Part:
        # Images stay bytes until here: as float32 they are four times larger.
        x = features.x[chosen].astype("float32", copy=False)
        return Part(x, target.y[chosen])

    return Dataset(
        name=source.name,
        task=target.task,
        train=part(rows.train),
        validation=part(rows.validation),
        test=part(rows.test),
        class_names=class_names,
        feature_names=features.names,
        notes=features.notes,
    )


def checked_inputs(x: Any, y: Any, what: str = "x") -> np.ndarray:
    """Returns inputs as an array of numbers, refused if not usable.

    Args:
        x: `(samples, ...)`, numbers. Bytes of the shape
            `(samples, height, width)` are images and get a channel axis.
        y: The targets, for their number.
        what: How messages call the inputs.
    """
    values, targets = _regular(x, what), _regular(y, "y")
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"`{what}` must hold real numbers. Received: dtype "
            f"{values.dtype}. Convert it with `{what}.astype('float32')`."
        )
    if values.ndim < 2:
        raise DataError(
            f"`{what}` must have the shape (samples, features) or more axes. "
            f"Received: shape {values.shape}. Turn a single feature into a "
            f"column with `{what}[:, None]`."
        )
    if targets.ndim and len(values) != len(targets):
        raise DataError(
            f"`{what}` must have as many samples as its targets. Received: "
            f"{len(values)} samples and {len(targets)} targets."
        )
    if 0 in values.shape:
        raise DataError(
            f"`{what}` must not be empty. Received: shape {values.shape}."
        )
    if values.dtype.kind == "f":
        _refuse_non_finite(values, what)
    if values.dtype == np.uint8 and values.ndim == 3:
        return values[..., None]
    return values


def _regular(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise DataError(
            f"`{what}` must be a regular array, each sample of the same "
            f"shape. NumPy says: {error}"
        ) from error


def _refuse_non_finite(values: np.ndarray, what: str) -> None:
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype("float32", copy=False))
    if not bad.any():
        return
    rows = bad.reshape(len(bad), -1).any(axis=1)
    columns = ""
    if values.ndim == 2:
        found = np.flatnonzero(bad.any(axis=0))
        shown = ", ".join(map(str, found[:10]))
        columns = f" in columns {shown}{', ...' * (len(found) > 10)}"
    raise DataError(
        f"`{what}` must be finite in float32. Received {int(bad.sum())} NaN "
        f"or infinite values in {int(rows.sum())} of {len(values)} "
        f"samples{columns}. Remove these samples or fill the gaps."
    )
