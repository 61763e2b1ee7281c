"""What each training of a trial sees: all of a part, or folds of two."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerascomp.datasets import Dataset, Part


@dataclasses.dataclass(frozen=True)
class Parts:
    """Training and validation data of lanes.

    Attributes:
        x: Training inputs.
        y: Their targets.
        validation: `(x, y)`.
        samples: Indices of each lane's training samples; None for all.
        validation_samples: The same for the validation data.
    """

    x: Any
    y: Any
    validation: tuple
    samples: list[np.ndarray] | None = None
    validation_samples: list[np.ndarray] | None = None


def parts(
    data: Dataset, folds: int | None, seed: int, numbers: Sequence[int]
) -> Parts:
    """Returns what lanes see.

    Args:
        data: Its test part is never seen.
        folds: Folds of a cross-validation over training and validation part;
            None for the parts as they are.
        seed: Decides the folds.
        numbers: Of each lane, which fold it is validated on.
    """
    train, validation = data.train, data.validation
    if folds is None:
        return Parts(train.x, train.y, (validation.x, validation.y))
    x = np.concatenate([train.x, validation.x])
    y = np.concatenate([train.y, validation.y])
    pairs = _split(x, y, folds, seed, stratified=bool(data.num_classes))
    return Parts(
        x,
        y,
        (x, y),
        [pairs[number][0] for number in numbers],
        [pairs[number][1] for number in numbers],
    )


def validation(data: Dataset, folds: int | None, seed: int, run: int) -> Part:
    """Returns what one run of a trial is validated on.

    Args:
        data: As of `parts`.
        folds: As of `parts`.
        seed: As of `parts`.
        run: The number of the run: its fold, or its seed.
    """
    if folds is None:
        return data.validation
    seen = parts(data, folds, seed, [run])
    (samples,) = seen.validation_samples or []
    x, y = seen.validation
    return Part(x[samples], y[samples])


def _split(
    x: np.ndarray, y: np.ndarray, folds: int, seed: int, stratified: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn import model_selection

    make = (
        model_selection.StratifiedKFold if stratified else model_selection.KFold
    )
    splitter = make(folds, shuffle=True, random_state=seed)
    return list(splitter.split(x, y))
