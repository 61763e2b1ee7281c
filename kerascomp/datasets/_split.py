"""How samples are divided into training, validation and test parts."""

import dataclasses

import numpy as np

from kerascomp import _validation
from kerascomp.datasets._dataset import DataError
from kerascomp.datasets._messages import shortened

TASKS = ("classification", "regression")


@dataclasses.dataclass(frozen=True)
class Options:
    """What the caller chose, checked."""

    task: str | None = None
    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0
    missing: str = "refuse"

    def __post_init__(self) -> None:
        _validation.one_of("task", self.task, (None, *TASKS))
        _validation.one_of("missing", self.missing, ("refuse", "median"))
        for name in ("validation_fraction", "test_fraction"):
            _validation.in_interval(name, getattr(self, name), "(0, 1)")
        if self.validation_fraction + self.test_fraction >= 1:
            raise DataError(
                "`validation_fraction` and `test_fraction` must leave samples "
                "for training: their sum must be below 1. Received: "
                f"validation_fraction={self.validation_fraction!r}, "
                f"test_fraction={self.test_fraction!r}"
            )
        _validation.at_least("seed", self.seed, 0)
        if self.seed >= 2**32:
            raise DataError(
                f"`seed` must be below 2**32. Received: seed={self.seed}"
            )


@dataclasses.dataclass(frozen=True)
class Rows:
    """The row numbers of each part."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    strata: np.ndarray,
    names: tuple[str, ...],
    options: Options,
    num_test: int = 0,
) -> Rows:
    """Divides rows at random, each stratum in the same proportions.

    Args:
        strata: `(samples,)`, integers. Class indices, or zeros.
        names: One a stratum, for messages.
        options: Fractions and seed.
        num_test: If above 0, the last so many rows are the test part, in
            their order, and the others are divided in two.
    """
    divided = strata[: len(strata) - num_test]
    fractions = [options.validation_fraction]
    if not num_test:
        fractions.append(options.test_fraction)
    counts = np.bincount(divided, minlength=len(names))
    _require_enough(counts, names, len(fractions) + 1)
    # The stream of `RandomState` is frozen for ever, that of `Generator` is
    # not: a split must outlive NumPy versions.
    random = np.random.RandomState(options.seed)
    pieces = []
    for stratum, count in enumerate(counts.tolist()):
        rows = random.permutation(np.flatnonzero(divided == stratum))
        pieces.append(np.split(rows, np.cumsum(_sizes(count, fractions))))
    # Shuffled once more, as each piece stands ordered by class.
    validation, *test, train = (
        random.permutation(np.concatenate(part))
        for part in zip(*pieces, strict=True)
    )
    published = np.arange(len(divided), len(strata))
    return Rows(train, validation, *(test or [published]))


def _sizes(total: int, fractions: list[float]) -> list[int]:
    """Every part gets a row, the rest of the rows included."""
    sizes: list[int] = []
    for place, fraction in enumerate(fractions):
        owed = len(fractions) - place
        most = total - sum(sizes) - owed
        sizes.append(min(max(round(fraction * total), 1), most))
    return sizes


def _require_enough(
    counts: np.ndarray, names: tuple[str, ...], num_parts: int
) -> None:
    rare = [
        f"{name!r} has {count}"
        for name, count in zip(names, counts.tolist(), strict=True)
        if count < num_parts
    ]
    if rare and len(names) == 1:
        raise DataError(
            f"{num_parts} parts need at least {num_parts} samples. "
            f"Received: {counts[0]}"
        )
    if rare:
        raise DataError(
            f"Each class needs at least {num_parts} samples, one for each "
            f"part that is split. Received too few in {len(rare)} of "
            f"{len(names)} classes: {shortened(rare)}. Remove or merge these "
            "classes, or pass task='regression' if the target is a quantity."
        )
