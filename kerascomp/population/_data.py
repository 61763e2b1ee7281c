"""Batches, from arrays in memory or from what makes them one by one."""

import collections
import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.population import _program

tree = keras.tree


class Arrays:
    """Samples in memory, cut into batches.

    Args:
        x: Array, or nested arrays, `(samples, ...)`.
        y: The same, or None.
        weight: None, `(samples,)`, or `(lanes, samples)`.
        batch_size: Samples in a batch; the last may be smaller.
        lanes: How many lanes there are.

    Attributes:
        order: The samples of a pass over the data, as a function of its
            number: `(n,)` for all lanes, `(lanes, n)` by lane, or None.
        steps_per_epoch: Batches in an epoch; None is a pass over the data.
    """

    order: Callable[[int], np.ndarray | None]
    is_spent = False
    description = "arrays"

    def __init__(
        self,
        x: Any,
        y: Any = None,
        weight: Any = None,
        batch_size: int | None = None,
        lanes: int = 1,
    ):
        self.x = tree.map_structure(_array, x)
        self.y = None if y is None else tree.map_structure(_array, y)
        sizes = {len(a) for a in tree.flatten(self.x)}
        sizes |= {len(a) for a in tree.flatten(self.y) if a is not None}
        if len(sizes) != 1:
            raise ValueError(
                "All arrays of `x` and `y` must have the same number of "
                f"samples. Received: {sorted(sizes)} samples"
            )
        self.samples = sizes.pop()
        if not self.samples:
            raise ValueError("There must be samples. Received: 0 samples")
        self.weight = None if weight is None else _array(weight)
        self.weight_by_lane = weight is not None and self._has_lanes(lanes)
        self.batch_size = batch_size or 32
        self.used = self.samples  # In a pass over the data.
        self.orders: Orders | None = None
        self.order = lambda _: None
        self.steps_per_epoch: int | None = None

    def _has_lanes(self, lanes: int) -> bool:
        shape = () if self.weight is None else self.weight.shape
        if shape == (self.samples,):
            return False
        if shape == (lanes, self.samples):
            return True
        raise ValueError(
            "`sample_weight` must have the shape (samples,) or (lanes, "
            f"samples), here ({self.samples},) or ({lanes}, {self.samples}). "
            f"Received: sample_weight.shape={shape}"
        )

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return self.steps_per_epoch or self._steps_of_pass

    @property
    def _steps_of_pass(self) -> int:
        return -(-self.used // self.batch_size)

    def of_lanes(self, lanes: Any, batch_size: int | None = None) -> "Arrays":
        """The same data for some of the lanes."""
        own = Arrays(self.x, self.y, None, batch_size or self.batch_size)
        own.weight, own.weight_by_lane = self.weight, self.weight_by_lane
        if self.weight is not None and self.weight_by_lane:
            own.weight = self.weight[lanes]
        own.steps_per_epoch = self.steps_per_epoch
        own.orders = self.orders
        if self.orders is not None:
            own.used = self.orders.size(lanes[0])
            own.order = self.orders.of_lanes(lanes)
        return own

    def use(self, orders: "Orders") -> None:
        """Sets which samples the lanes see, and in which order."""
        self.orders = orders

    def size(self, lane: int) -> int:
        """The number of samples that a lane sees."""
        return self.used if self.orders is None else self.orders.size(lane)

    def epoch(
        self, number: int = 0, first: int = 0
    ) -> Iterator[_program.Batch]:
        """Yields the batches of an epoch.

        With `steps_per_epoch`, an epoch goes on where the one before stopped,
        and ends with the pass over the data, as in `fit`.

        Args:
            number: Of the epoch.
            first: The epoch that training began with.
        """
        steps, whole = self.steps, self._steps_of_pass
        turn, part = divmod(number - first, -(-whole // steps))
        order = self.order(first + turn)
        for step in range(part * steps, min((part + 1) * steps, whole)):
            yield self._batch(step, order)

    def first(self) -> _program.Batch:
        """The batch that programs are built and timed with."""
        return self._batch(0, self.order(0))

    def _batch(self, step: int, order: np.ndarray | None) -> _program.Batch:
        index: Any = slice(step * self.batch_size, (step + 1) * self.batch_size)
        if order is not None:
            index = order[..., index]
        by_lane = order is not None and order.ndim == 2
        take = lambda array: None if array is None else array[index]
        weight, weight_by_lane = self.weight, self.weight_by_lane
        if weight is not None and weight_by_lane and by_lane:
            weight = np.take_along_axis(weight, index, axis=1)
        elif weight is not None:
            weight = weight[..., index]
            weight_by_lane |= by_lane
        x, y = tree.map_structure(take, (self.x, self.y))
        return _program.Batch(x, y, weight, by_lane, weight_by_lane)


class Orders:
    """Which samples each lane sees, in which order.

    Args:
        samples: How many there are.
        seeds: The seed of each lane's order, None for the order as it is.
        subsets: The indices of each lane's samples; None for all.
    """

    def __init__(
        self,
        samples: int,
        seeds: Sequence[int | None],
        subsets: Sequence[np.ndarray] | None = None,
    ):
        self._all = np.arange(samples)
        self._seeds = list(seeds)
        self._subsets = subsets

    def size(self, lane: int) -> int:
        """The number of samples that a lane sees."""
        return len(self._all if self._subsets is None else self._subsets[lane])

    def of_lanes(
        self, lanes: Sequence[int]
    ) -> Callable[[int], np.ndarray | None]:
        """Returns the order of a pass over the data, by its number.

        It is `(lanes, n)`, or `(n,)` if these lanes have it in common, or
        None for all samples as they are. All lanes see the same number.
        """
        seeds = [self._seeds[lane] for lane in lanes]
        common = len(set(seeds)) == 1 and self._subsets is None
        if common and seeds[0] is None:
            return lambda _: None
        if common:
            return lambda number: self._of_lane(lanes[0], number)
        return lambda number: np.stack(
            [self._of_lane(lane, number) for lane in lanes]
        )

    def _of_lane(self, lane: int, number: int) -> np.ndarray:
        own = self._all if self._subsets is None else self._subsets[lane]
        seed = self._seeds[lane]
        if seed is None:
            return own
        return np.random.default_rng((seed, number)).permutation(own)


class Stream:
    """Batches from a `tf.data.Dataset`, a `PyDataset` or another iterable.

    Args:
        source: Yields `x`, `(x, y)` or `(x, y, sample_weight)`, of arrays or
            tensors with an axis of samples.
        class_weight: As in `keras.Model.fit`.
        shuffle: Whether to reorder the batches of a `PyDataset`.
        seed: For that.

    Attributes:
        steps_per_epoch: Batches in an epoch; None is a pass over the data.
    """

    def __init__(
        self,
        source: Any,
        class_weight: dict[int, float] | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ):
        self._source = self._asked = source
        self._class_weight = class_weight
        self._shuffle, self._seed = shuffle, seed
        self.steps_per_epoch: int | None = None
        self._first: _program.Batch | None = None
        self._epochs: Iterator | None = None
        self._next = 0  # The epoch that `_epochs` yields next.
        self._of_groups: dict[tuple[int, ...], Stream] = {}
        if not isinstance(source, keras.utils.PyDataset | Iterable):
            raise ValueError(
                "Data must be arrays, nested arrays, or yield batches. "
                f"Received: {source!r}"
            )

    @property
    def steps(self) -> int | None:
        """The number of batches in an epoch, None if it is not known yet."""
        return self.steps_per_epoch or _length(self._source)

    @property
    def description(self) -> str:
        """The source, as errors show it."""
        return repr(self._asked)

    @property
    def is_spent(self) -> bool:
        """Whether it can be iterated over once only."""
        return isinstance(self._source, Iterator)

    def of_lanes(self, lanes: Any, batch_size: int | None = None) -> "Stream":
        """All lanes see the same batches, of the size in which they come."""
        del batch_size
        if self.is_spent:
            return self
        # Each group comes by by itself, and may pause in the midst of a pass.
        return self._of_groups.setdefault(tuple(lanes), copy.copy(self))

    def size(self, lane: int) -> None:
        """The number of samples that a lane sees: the same for all."""

    def epoch(
        self, number: int = 0, first: int = 0
    ) -> Iterator[_program.Batch]:
        """Yields the batches of an epoch, see `Arrays.epoch`."""
        if self._epochs is None or number < self._next:
            self._epochs, self._next = self._cut(first), first
        while self._next < number:  # What another group went through.
            collections.deque(next(self._epochs), maxlen=0)
            self._next += 1
        self._next += 1
        return next(self._epochs)

    def _cut(self, first: int) -> Iterator[Iterator[_program.Batch]]:
        """Yields the epochs, each to be read to its end before the next."""
        for number in itertools.count(first):
            batches = self._pass(number)
            batch = next(batches, None)
            if batch is None:
                raise ValueError(
                    "The data ended before the training did. Lower "
                    "`steps_per_epoch` or `epochs`, or pass data that can be "
                    f"iterated over again. Received: {self._asked!r}"
                )
            while batch is not None:
                rest = itertools.chain([batch], batches)
                yield itertools.islice(rest, self.steps_per_epoch)
                batch = next(batches, None)

    def first(self) -> _program.Batch:
        """The batch that programs are built and timed with."""
        if self._first is None:
            iterator = self._pass(0)
            self._first = next(iterator, None)
            if self._first is None:
                raise ValueError(
                    f"There must be batches. Received: {self._asked!r}, "
                    "which yields none"
                )
            if self.is_spent:  # The batch has to be trained on, too.
                rest = self._source
                self._source = itertools.chain([self._first], rest)
        return self._first

    def _pass(self, number: int) -> Iterator[_program.Batch]:
        for given in self._given(number):
            if isinstance(given, _program.Batch):
                yield given
            else:
                yield self._batch(given)

    def _given(self, number: int) -> Iterator:
        if not isinstance(self._source, keras.utils.PyDataset):
            # Through a chain: an abandoned `yield from` closes a generator.
            yield from itertools.chain(self._source)
            return
        count = self._source.num_batches
        self._source.on_epoch_begin()
        if count is None:
            order: Any = itertools.count()
        elif self._shuffle:
            order = np.random.default_rng((self._seed, number))
            order = order.permutation(count)
        else:
            order = range(count)
        for index in order:
            yield self._source[int(index)]
        self._source.on_epoch_end()

    def _batch(self, given: Any) -> _program.Batch:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(given)
        x = tree.map_structure(_array, x)
        y = None if y is None else tree.map_structure(_array, y)
        if self._class_weight is not None:
            if weight is not None:
                refuse_two_weights()
            weight = weights_of_classes(y, self._class_weight)
        weight = None if weight is None else _array(weight)
        return _program.Batch(x, y, weight)


Source = Arrays | Stream


def is_stream(x: Any) -> bool:
    """Whether data are batches, instead of arrays of samples."""
    if isinstance(x, keras.utils.PyDataset):
        return True
    arrays = tree.flatten(x)
    return len(arrays) == 1 and not hasattr(arrays[0], "__array__")


def split(x: Any, y: Any, weight: Any, fraction: float) -> tuple[tuple, tuple]:
    """Cuts the last samples off, as `validation_split` of `fit` does."""
    samples = len(tree.flatten(x)[0])
    cut = int(samples * (1 - fraction))
    if not 0 < cut < samples:
        raise ValueError(
            "`validation_split` must leave samples on both sides. Received: "
            f"validation_split={fraction} of {samples} samples"
        )
    take = lambda index: (
        tree.map_structure(lambda a: a[index], x),
        None if y is None else tree.map_structure(lambda a: a[index], y),
        None if weight is None else _array(weight)[..., index],
    )
    return take(slice(None, cut)), take(slice(cut, None))


def weights_of_classes(y: Any, class_weight: dict[int, float]) -> np.ndarray:
    """Returns the weight of each sample's class, 1 for classes not named."""
    if y is None or keras.tree.is_nested(y):
        raise ValueError(
            "`class_weight` weighs the classes of a single array of targets. "
            f"Received: y of type {type(y).__name__}"
        )
    labels = np.asarray(y)
    if labels.ndim > 1:
        one_hot = labels.shape[-1] != 1
        labels = labels.argmax(-1) if one_hot else labels.squeeze(-1)
    labels = np.round(labels).astype("int32")
    classes, inverse = np.unique(labels, return_inverse=True)
    weights = [class_weight.get(int(label), 1.0) for label in classes]
    return np.array(weights, keras.config.floatx())[inverse.ravel()]


def refuse_two_weights() -> None:
    """Raises: the two kinds of weights exclude each other."""
    raise ValueError(
        "Pass either `class_weight` or `sample_weight`, or multiply them. "
        "Received: both"
    )


def _array(value: Any) -> np.ndarray:
    array = keras.ops.convert_to_numpy(value)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(keras.config.floatx(), copy=False)
    return array


def _length(source: Any) -> int | None:
    """The number of batches that a source says it has."""
    if isinstance(source, keras.utils.PyDataset):
        return source.num_batches
    try:
        return len(source)
    except TypeError:  # It does not know, or has no end.
        return None
