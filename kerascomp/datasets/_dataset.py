"""What a loaded data set is."""

import dataclasses
import functools
import hashlib

import numpy as np

from kerascomp._validation import UserError


class DataError(UserError):
    """Data that cannot be used as they are; the message says what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The samples for one purpose: training, validation or test.

    Args:
        x: `(samples, ...)`, float32.
        y: `(samples,)`. Class indices in `[0, classes)` as int32, or values
            as float32.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Real data in three parts that share no row.

    Made by `load` and `from_arrays`.

    Args:
        name: A known name, a file's name, or what the caller chose.
        task: `"classification"` or `"regression"`.
        train: What models learn from.
        validation: What choices are made on.
        test: What the final result is measured on, and nothing else.
        class_names: One a class, in the order of the class indices. Empty
            for regression.
        feature_names: One a feature. Empty for images and sequences, and
            where the names are unknown.
        notes: Sentences on what was done to the data, or looks odd in them.
    """

    name: str
    task: str
    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None for regression."""
        return len(self.class_names) or None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample, without the batch axis."""
        return self.train.x.shape[1:]

    @property
    def parts(self) -> dict[str, Part]:
        """The three parts by name, in the order train, validation, test."""
        return {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of all values and of how they are split, in hex.

        Equal on every machine; the data set's name does not enter it.
        """
        digest = hashlib.sha256(repr((self.task, self.class_names)).encode())
        for name, part in self.parts.items():
            for array in (part.x, part.y):
                digest.update(repr((name, array.shape)).encode())
                little_endian = array.dtype.newbyteorder("<")
                digest.update(
                    np.ascontiguousarray(array, little_endian).data.cast("B")
                )
        return digest.hexdigest()

    def describe(self) -> str:
        """Returns one paragraph: task, sizes, target, notes, fingerprint."""
        sizes = ", ".join(f"{len(p):,} {n}" for n, p in self.parts.items())
        shape = ", ".join(map(str, self.input_shape))
        sentences = [
            f"{self.name}: {self.task} of inputs ({shape})",
            f"{sizes} samples",
            self._describe_target(),
            *(note.rstrip(".") for note in self.notes),
            f"Fingerprint {self.fingerprint[:12]}",
        ]
        return ". ".join(sentences) + "."

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return f"<Dataset {self.describe()}>"

    def _describe_target(self) -> str:
        y = self.train.y
        if self.task == "regression":
            return (
                f"Target from {y.min():g} to {y.max():g}, mean {y.mean():g}, "
                f"standard deviation {y.std():g} in training"
            )
        shares = np.bincount(y, minlength=len(self.class_names)) / len(y)
        rare, common = int(shares.argmin()), int(shares.argmax())
        if shares[rare] == shares[common]:
            return (
                f"{self.num_classes} classes, each {shares[0]:.1%} of training"
            )
        return (
            f"{self.num_classes} classes, from {shares[rare]:.1%} "
            f"({self.class_names[rare]}) to {shares[common]:.1%} "
            f"({self.class_names[common]}) of training"
        )
