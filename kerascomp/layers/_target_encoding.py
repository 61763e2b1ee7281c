"""Categories by the targets they come with."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _adapting

ops = keras.ops

# The rows of an encoding behind those of its categories.
MISSING, UNKNOWN = 0, 1


@component(since="0.1")
class TargetEncoding(_adapting.Adapting):
    """Turns each category into the mean target of its training samples.

    Use it for categories too many for one-hot columns, such as post codes. A
    category of n samples with mean m, against the mean M of all targets,
    becomes

        s m + (1 - s) M

    so that rare ones say little: with `smoothing="auto"`, s is n V / (n V +
    v), of the variances V of all targets and v within the category; with a
    number, n / (n + smoothing), as if that many samples at M were added.

    Categories are integers, as `keras.layers.StringLookup` or `IntegerLookup`
    give them. Missing ones, NaN or negative, are a category of their own.
    Those without training samples, and numbers that are no category, get M.

    A category of one sample knows that sample's target: a network that trains
    on its own encodings learns to trust them too much, and fails on new data.
    Train it on what `adapt_and_encode` returns, where each sample is encoded
    from the others; put the layer in front of the trained network afterwards.

    Args:
        num_categories: Number of integers, from 0, that stand for categories,
            at least 1, the same for each column.
        num_classes: For targets that are one of at least 3 integers from 0:
            each column becomes `num_classes` columns, of the share of each
            class. None for numbers, and for targets of 0 and 1.
        smoothing: `"auto"`, or a number of samples, at least 0.
        statistics: `{"encodings": ...}`, `(columns, num_categories + 2,
            num_classes or 1)`, in place of `adapt`; the last two rows are of
            missing and of unknown categories.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., columns)`, integers, or floats for NaN.

    Returns:
        The shape of the input, or `(batch, ..., columns * num_classes)`, the
        classes of the first column first; in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument is out of range, or the data to adapt to has
            numbers that are no category, or no targets that fit.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = TargetEncoding(num_categories=3, smoothing=2.0)
        >>> layer.adapt(np.array([[0], [0], [1], [1]]), y=[5, 7, 0, 0])
        >>> output = layer(np.array([[0], [1], [2]]))
        >>> keras.ops.convert_to_numpy(output).tolist()
        [[4.5], [1.5], [3.0]]

    Reference:
        Micci-Barreca, 2001, *A preprocessing scheme for high-cardinality
        categorical attributes in classification and prediction problems*,
        equations 3 to 7. The numbers are those of scikit-learn's
        `TargetEncoder`.
    """

    missing = "skip"

    def __init__(
        self,
        num_categories: int,
        num_classes: int | None = None,
        smoothing: float | str = "auto",
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        _validation.at_least("num_categories", num_categories, 1)
        if num_classes is not None:
            _validation.at_least("num_classes", num_classes, 3)
        if smoothing != "auto":
            _validation.in_interval("smoothing", smoothing, "[0, inf)")
        self.num_categories = num_categories
        self.num_classes = num_classes
        self.smoothing = smoothing

    def adapt(self, data: Any, steps: int | None = None, y: Any = None) -> None:
        """Fits the layer to training data, and forgets what it was fitted to.

        Reads one batch after the other. If it raises, the layer stays as it
        was.

        Args:
            data: An array `(samples, columns)` with targets in `y`; or batches
                `(x, y)` from a `tf.data.Dataset`, `keras.utils.PyDataset`,
                generator or other iterable.
            steps: Batches to read, at least 1, or None for all.
            y: `(samples,)`, for an array.

        Raises:
            ValueError: If there are no samples, if shapes do not fit, or if
                the numbers cannot be used; see the class.
            TypeError: If the data is of no such kind.
        """
        if y is not None:
            data = _pairs(_adapting.as_array(data), _adapting.as_array(y))
        super().adapt(data, steps)

    def adapt_and_encode(
        self, x: Any, y: Any, folds: Any = 5, seed: int | None = None
    ) -> np.ndarray:
        """Adapts to all samples, and encodes each from other ones.

        The samples are cut into folds, and those of a fold get the encodings
        that all other folds give, the mean of all targets included. Their own
        targets have no part in it.

        Args:
            x: Array `(samples, columns)`.
            y: Array `(samples,)`.
            folds: Number of folds, at least 2, drawn at random and of equal
                sizes; or the number of each sample's fold, `(samples,)`.
            seed: Integer that draws the folds, or None.

        Returns:
            What the network behind the layer should be trained on, float32, of
            the shape of a call's result.
        """
        x, y = _adapting.as_array(x), _adapting.as_array(y)
        _require_pairs(x, y)
        folds = _folds(folds, len(x), seed)
        encoded: Any = None
        for fold in np.unique(folds):
            inside = folds == fold
            twin = type(self)(
                self.num_categories, self.num_classes, self.smoothing
            )
            twin.adapt(x[~inside], y=y[~inside])
            part = ops.convert_to_numpy(twin(x[inside]))
            if encoded is None:
                encoded = np.empty((len(x), *part.shape[1:]), "float32")
            encoded[inside] = part
        self.adapt(x, y=y)
        return encoded

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_categories": self.num_categories,
            "num_classes": self.num_classes,
            "smoothing": self.smoothing,
        }

    def compute_output_shape(self, input_shape: Any) -> Any:
        columns = input_shape[-1]
        return (*input_shape[:-1], columns and columns * self._targets())

    def _targets(self) -> int:
        return self.num_classes or 1

    def _shapes(self, features: int) -> dict[str, tuple]:
        rows = self.num_categories + 2
        return {"encodings": (features, rows, self._targets())}

    def _accumulator(self, features: int) -> Any:
        # Missing values are the last category.
        groups = self.num_categories + 1
        return _GroupMoments(features, groups, self._targets())

    def _rows(self, batch: np.ndarray, shape: tuple) -> np.ndarray:
        numbers = _adapting.as_numbers(batch)
        return super()._rows(np.where(numbers < 0, np.nan, numbers), shape)

    def _check(self, rows: np.ndarray) -> None:
        present = ~np.isnan(rows)
        known = (rows < self.num_categories) & (rows == np.floor(rows))
        bad = rows[present & ~known]
        if bad.size:
            raise ValueError(
                "Categories must be integers below num_categories="
                f"{self.num_categories}. Received: "
                f"{_adapting.shortened(np.unique(bad).tolist())}"
            )

    def _update(
        self, accumulator: Any, rows: np.ndarray, others: tuple
    ) -> None:
        if not others:
            raise ValueError(
                "`TargetEncoding` adapts to inputs and targets: pass `y`, or "
                "batches `(x, y)`. Received: inputs alone"
            )
        groups = np.where(np.isnan(rows), self.num_categories, rows)
        accumulator.update(groups.astype(int), self._numbers(others[0], rows))

    def _numbers(self, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns targets `(samples, targets)`, one-hot for classes."""
        _require_pairs(rows, y)
        y = _adapting.as_numbers(y).reshape(-1)
        if self.num_classes is None:
            bad = y[~np.isfinite(y)]
            required = "finite numbers"
        else:
            classes = np.arange(self.num_classes)
            bad = y[~np.isin(y, classes)]
            required = f"integers below num_classes={self.num_classes}"
        if bad.size:
            found = _adapting.shortened(np.unique(bad).tolist())
            raise ValueError(f"`y` must hold {required}. Received: {found}")
        if self.num_classes is None:
            return y[:, None]
        return (y[:, None] == classes).astype("float64")

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        count = accumulator.count[..., None]
        prior, variance = accumulator.total()
        if self.smoothing == "auto":
            with np.errstate(invalid="ignore"):
                within = accumulator.squares / np.maximum(count, 1.0)
                share = variance * count / (variance * count + within)
        else:
            with np.errstate(invalid="ignore"):
                share = count / (count + self.smoothing)
        # Of no samples, or if no target differs from any other.
        share = np.where(np.isnan(share) | (count == 0), 0.0, share)
        encodings = share * accumulator.mean + (1 - share) * prior
        unknown = np.broadcast_to(prior, encodings[:, :1].shape)
        return {"encodings": np.concatenate([encodings, unknown], axis=1)}

    def _forward(self, x: Any) -> Any:
        columns, targets = self._features, self._targets()
        missing = ops.logical_or(ops.isnan(x), x < 0)
        known = ops.logical_and(x < self.num_categories, x == ops.floor(x))
        row = ops.where(known, x, float(self.num_categories + UNKNOWN))
        row = ops.where(missing, float(self.num_categories + MISSING), row)
        offsets = np.arange(columns, dtype="int32") * (self.num_categories + 2)
        table = ops.reshape(self.encodings, (-1, targets))
        index = ops.add(ops.cast(row, "int32"), offsets)
        encoded = ops.take(table, index, axis=0)
        shape = (*ops.shape(x)[:-1], columns * targets)
        return ops.reshape(encoded, shape)


class _GroupMoments:
    """Count, mean and squared deviations of targets in each category."""

    def __init__(self, columns: int, groups: int, targets: int):
        self.count = np.zeros((columns, groups))
        self.mean = np.zeros((columns, groups, targets))
        self.squares = np.zeros((columns, groups, targets))

    def update(self, groups: np.ndarray, targets: np.ndarray) -> None:
        """Reads categories `(samples, columns)` and their targets."""
        for column, ids in enumerate(groups.T):
            for target, values in enumerate(targets.T):
                self._merge(column, target, ids, values)
            self.count[column] += self._sums(ids)

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and variance of all targets, each `(targets,)`."""
        count = self.count[0][:, None]
        total = count.sum()
        mean = (count * self.mean[0]).sum(axis=0) / total
        between = count * np.square(self.mean[0] - mean)
        return mean, (self.squares[0] + between).sum(axis=0) / total

    def _merge(
        self, column: int, target: int, ids: np.ndarray, values: np.ndarray
    ) -> None:
        """Chan, Golub & LeVeque's update, for each category."""
        count, before = self._sums(ids), self.count[column]
        mean = self._sums(ids, values) / np.maximum(count, 1.0)
        squares = self._sums(ids, np.square(values - mean[ids]))
        total = np.maximum(before + count, 1.0)
        shift = np.where(count > 0, mean - self.mean[column, :, target], 0.0)
        self.mean[column, :, target] += shift * count / total
        squares += np.square(shift) * before * count / total
        self.squares[column, :, target] += squares

    def _sums(self, ids: np.ndarray, weights: Any = None) -> np.ndarray:
        size = self.count.shape[1]
        return np.bincount(ids, weights, minlength=size).astype("float64")


def _require_pairs(x: np.ndarray, y: np.ndarray) -> None:
    if x.ndim != 2 or y.shape not in ((len(x),), (len(x), 1)):
        raise ValueError(
            "Inputs must have the shape (samples, columns), and targets "
            f"(samples,). Received: {x.shape} and {y.shape}"
        )


def _pairs(x: np.ndarray, y: np.ndarray) -> Iterator[tuple]:
    _require_pairs(x, y)
    start = 0
    for block in _adapting.blocks(x):
        yield block, y[start : start + len(block)]
        start += len(block)


def _folds(folds: Any, samples: int, seed: int | None) -> np.ndarray:
    """Returns the number of each sample's fold."""
    if np.ndim(folds) == 0:
        _validation.at_least("folds", folds, 2)
        order = np.random.default_rng(seed).permutation(samples)
        numbers = order % folds
    else:
        numbers = _adapting.as_array(folds)
    if len(numbers) != samples or len(np.unique(numbers)) < 2:
        raise ValueError(
            "`folds` must cut the samples into at least 2 folds. Received: "
            f"{len(np.unique(numbers))} folds of {len(numbers)} numbers, and "
            f"{samples} samples"
        )
    return numbers
