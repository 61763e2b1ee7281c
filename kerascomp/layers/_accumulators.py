"""Statistics of data that is read batch by batch, in float64.

Each is the same for any cut into batches, up to the rounding of sums. NaN
counts as missing where a class says so.
"""

from collections.abc import Iterator

import numpy as np


class Extremes:
    """The smallest and the largest value of each column; skips NaN."""

    def __init__(self, features: int):
        self.minimum = np.full(features, np.nan)
        self.maximum = np.full(features, np.nan)

    def update(self, rows: np.ndarray) -> None:
        """Reads a batch `(rows, features)`."""
        if len(rows):
            self.minimum = np.fmin(self.minimum, np.fmin.reduce(rows))
            self.maximum = np.fmax(self.maximum, np.fmax.reduce(rows))


class Means:
    """The mean of each column; skips NaN."""

    def __init__(self, features: int):
        self._count = np.zeros(features)
        self.mean = np.zeros(features)

    def update(self, rows: np.ndarray) -> None:
        """Reads a batch `(rows, features)`."""
        present = ~np.isnan(rows)
        self._count += present.sum(axis=0)
        difference = np.where(present, rows - self.mean, 0.0).sum(axis=0)
        # A column without any value so far keeps 0.
        self.mean += difference / np.maximum(self._count, 1.0)


class Rows:
    """The rows themselves, or a sample of them if there are many.

    Up to `max_samples` rows are all kept. Of more, every row is kept with the
    same probability: those with the smallest of random numbers that depend on
    the row's place alone. Memory is that of twice as many.
    """

    def __init__(self, features: int, max_samples: int):
        self._max = max_samples
        self._rng = np.random.default_rng(0)
        self._keys = [np.empty(0)]
        self._rows = [np.empty((0, features))]
        self._held = 0

    def update(self, rows: np.ndarray) -> None:
        """Reads a batch `(rows, features)`."""
        self._keys.append(self._rng.random(len(rows)))
        self._rows.append(rows)
        self._held += len(rows)
        if self._held > 2 * self._max:
            self._thin()

    def columns(self) -> Iterator[np.ndarray]:
        """Yields the values of each column that are not NaN."""
        self._thin()
        for column in self._rows[0].T:
            yield column[~np.isnan(column)]

    def __len__(self) -> int:
        return min(self._held, self._max)

    def _thin(self) -> None:
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows)
        if len(rows) > self._max:
            kept = np.argpartition(keys, self._max - 1)[: self._max]
            kept.sort()  # In the order of the data.
            keys, rows = keys[kept], rows[kept]
        self._keys, self._rows, self._held = [keys], [rows], len(rows)


class Scatter:
    """Mean and sums of products of all pairs of columns.

    Chan, Golub & LeVeque, 1979, *Updating formulae and a pairwise algorithm
    for computing sample variances*, for matrices. With a `basis`, the products
    with its columns alone, in as much memory as it takes itself.
    """

    def __init__(self, features: int, basis: np.ndarray | None = None):
        self.count = 0
        self.mean = np.zeros(features)
        self.basis = basis
        width = features if basis is None else basis.shape[1]
        self._products = np.zeros((features, width))
        self._squares = 0.0

    def update(self, rows: np.ndarray) -> None:
        """Reads a batch `(rows, features)`."""
        if not len(rows):
            return
        mean = rows.mean(axis=0)
        shift = mean - self.mean
        total = self.count + len(rows)
        weight = self.count * len(rows) / total
        for centered, factor in ((rows - mean, 1.0), (shift[None], weight)):
            right = centered if self.basis is None else centered @ self.basis
            self._products += factor * (centered.T @ right)
            self._squares += factor * np.square(centered).sum()
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, times the basis if there is one."""
        return self._products / (self.count - 1)

    @property
    def variance(self) -> float:
        """The sum of the unbiased variances of all columns."""
        return float(self._squares / (self.count - 1))
