"""What the layers share that are fitted on data before training."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._compat import keras

ops = keras.ops

# Numbers of an array that are widened to float64 at a time.
BLOCK = 2**20

LARGEST = float(np.finfo("float32").max)


class Preprocessing(keras.layers.Layer):
    """Computes on raw features, in the dtype of the weights.

    The result alone is cast to the compute dtype: 70000 is no number in
    float16, in which mixed precision would hand it over.

    Args:
        **kwargs: As in `keras.layers.Layer`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, self.variable_dtype)
        return ops.cast(self._forward(x), self.compute_dtype)

    def inverse(self, outputs: Any) -> Any:
        """Returns the input that gives an output, in the weights' dtype.

        Args:
            outputs: What the layer returned, or what a model predicts on that
                scale.
        """
        return self._backward(ops.cast(outputs, self.variable_dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def _forward(self, x: Any) -> Any:
        raise NotImplementedError

    def _backward(self, y: Any) -> Any:
        raise NotImplementedError(f"`{type(self).__name__}` has no inverse.")


class Adapting(Preprocessing):
    """Holds statistics of the training data in weights that never train.

    A derived class says what `_shapes` they have, which accumulator of
    `_accumulators` reads the data, and how it is `_fitted`. Until then the
    weights are NaN, which is how a layer knows, however they were loaded,
    that it was not adapted.

    Args:
        statistics: As `get_statistics` returns them, or None to call `adapt`.
        **kwargs: As in `keras.layers.Layer`.
    """

    # What becomes of NaN in the data: "error" or "skip".
    missing = "error"

    def __init__(
        self, statistics: Mapping[str, Any] | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.statistics = statistics
        self._known_as_adapted = False

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Fits the layer to training data, and forgets what it was fitted to.

        Reads one batch after the other. If it raises, the layer stays as it
        was.

        Args:
            data: An array `(samples, ..., features)`; or batches of that
                shape from a `tf.data.Dataset`, `keras.utils.PyDataset`,
                generator or other iterable, where targets that come along,
                as in `(x, y)`, are left alone.
            steps: Batches to read, at least 1, or None for all. Of an array,
                leave it None.

        Raises:
            ValueError: If there are no samples, if shapes do not fit, or if
                the numbers cannot be used; see the class.
            TypeError: If the data is of no such kind.
        """
        accumulator: Any = None
        seen: Any = 0
        shape: Any = None
        for batch in batches(data, steps):
            if shape is None:
                shape = (None, *batch[0].shape[1:])
                self._require_shape(shape)
                accumulator = self._accumulator(shape[-1])
            rows = self._rows(batch[0], shape)
            seen = seen + (~np.isnan(rows)).sum(axis=0)
            self._update(accumulator, rows, batch[1:])
        if shape is None or not np.any(seen):
            raise ValueError("The data to adapt to has no samples.")
        refuse_columns(seen == 0, "hold nothing but missing values")
        self._store(self._fitted(accumulator), shape)

    def get_statistics(self) -> dict[str, np.ndarray]:
        """Returns what was fitted, for `statistics` of another layer."""
        self._require_adapted()
        return {
            name: ops.convert_to_numpy(getattr(self, name))
            for name in self._names()
        }

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        if len(input_shape) < 2 or features is None:
            raise ValueError(
                "The input must have a batch axis and a last axis of known "
                f"length. Received: input_shape={tuple(input_shape)}"
            )
        for name, shape in self._shapes(features).items():
            weight = self.add_weight(
                name=name,
                shape=shape,
                initializer=functools.partial(
                    _constant, value=self._given(name, shape)
                ),
                trainable=False,
                autocast=False,
            )
            setattr(self, name, weight)
        self._features = features
        self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: features})

    def call(self, inputs: Any) -> Any:
        self._require_adapted()
        return super().call(inputs)

    def inverse(self, outputs: Any) -> Any:
        """Returns the input that gives an output, in the weights' dtype.

        Args:
            outputs: What the layer returned, or what a model predicts on that
                scale.

        Raises:
            RuntimeError: If the layer was not adapted.
        """
        self._require_adapted()
        return super().inverse(outputs)

    def get_config(self) -> dict[str, Any]:
        given = self.statistics
        if given is not None:
            given = {name: np.asarray(given[name]).tolist() for name in given}
        return {**super().get_config(), "statistics": given}

    def _shapes(self, features: int) -> dict[str, tuple]:
        """Returns the shape of each statistic, by name."""
        raise NotImplementedError

    def _names(self) -> list[str]:
        """Returns the names of the statistics."""
        return list(self._shapes(self._features))

    def _tensors(self) -> list:
        """Returns the statistics as tensors; some `ops` take no variables."""
        return [
            ops.convert_to_tensor(getattr(self, name)) for name in self._names()
        ]

    def _accumulator(self, features: int) -> Any:
        raise NotImplementedError

    def _update(
        self,
        accumulator: Any,
        rows: np.ndarray,
        others: tuple,  # noqa: ARG002
    ) -> None:
        """Reads a batch: rows of features, and the targets that came along."""
        accumulator.update(rows)

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        """Returns the statistics in float64, from all the data."""
        raise NotImplementedError

    def _check(self, rows: np.ndarray) -> None:
        """Raises if numbers, apart from NaN, cannot be used."""

    def _given(self, name: str, shape: tuple) -> Any:
        """Returns what a weight starts from."""
        if self.statistics is None:
            return np.nan
        value = np.asarray(self.statistics.get(name, np.nan), "float64")
        if value.shape != shape or not np.isfinite(value).all():
            raise ValueError(
                f"`statistics[{name!r}]` must hold finite numbers of shape "
                f"{shape}. Received: {value.tolist()!r}"
            )
        return value

    def _require_shape(self, shape: tuple) -> None:
        if len(shape) < 2:
            raise ValueError(
                "The data to adapt to must have the shape (samples, ..., "
                "features). A data set must be batched. Received: an array "
                f"with {len(shape)} axes"
            )
        if self.built and shape[-1] != self._features:
            raise ValueError(
                f"The layer was built for {self._features} features. "
                f"Received: data with {shape[-1]}"
            )

    def _rows(self, batch: np.ndarray, shape: tuple) -> np.ndarray:
        """Returns a batch as checked float64 numbers `(rows, features)`."""
        if batch.ndim < 2 or batch.shape[-1] != shape[-1]:
            raise ValueError(
                f"All batches must have {shape[-1]} features. Received: a "
                f"batch of shape {batch.shape}"
            )
        rows = as_numbers(batch).reshape(-1, shape[-1])
        refuse_columns(
            (np.abs(rows) > LARGEST).any(axis=0),
            "hold values that are infinite in float32",
        )
        if self.missing == "error":
            refuse_columns(
                np.isnan(rows).any(axis=0),
                "hold missing values (NaN); put `Imputation` in front, or "
                "pass `missing='skip'` where the layer has it",
            )
        self._check(rows)
        return rows

    def _store(self, values: dict[str, np.ndarray], shape: Any) -> None:
        if not self.built:
            self.build(shape)
        for name, value in values.items():
            expected = tuple(getattr(self, name).shape)
            if value.shape != expected:
                raise ValueError(
                    f"The layer was built with {name!r} of shape {expected}, "
                    f"but the data gives {value.shape}. Make a new layer."
                )
            with np.errstate(over="ignore"):
                overflows = ~np.isfinite(value.astype("float32"))
            if overflows.any():
                raise ValueError(
                    f"{name!r} must be finite in float32. Received: "
                    f"{value[overflows].tolist()[:5]}"
                )
        for name, value in values.items():
            getattr(self, name).assign(value)
        self._known_as_adapted = True

    def _require_adapted(self) -> None:
        if self._known_as_adapted:
            return
        if self.built:
            value = _compat.value_of(getattr(self, self._names()[0]))
            # Out of reach, the weights may have been set: NaN will tell.
            if value is None:
                return
            self._known_as_adapted = not np.isnan(value).any()
        if not self._known_as_adapted:
            raise RuntimeError(
                f"The layer {self.name!r} was not adapted. Call "
                "`layer.adapt(training_data)` before it is used, or pass "
                "`statistics` when making it."
            )


def batches(data: Any, steps: int | None = None) -> Iterator[tuple]:
    """Yields the arrays of each batch: inputs, and what comes along.

    Args:
        data: As in `Adapting.adapt`.
        steps: Batches to read, or None for all.
    """
    if steps is not None:
        _validation.at_least("steps", steps, 1)
    for batch in itertools.islice(_source(data), steps):
        together = isinstance(batch, tuple) or (
            isinstance(batch, list) and hasattr(batch[0], "shape")
        )
        parts = batch if together else (batch,)
        yield tuple(as_array(each) for each in parts if each is not None)


def _source(data: Any) -> Iterable:
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        numbers = itertools.count() if count is None else range(count)
        return (data[number] for number in numbers)
    if ops.is_tensor(data) or hasattr(data, "__array__"):
        return blocks(as_array(data))
    if isinstance(data, Iterable) and not isinstance(data, str | tuple | dict):
        return data
    raise TypeError(
        "The data to adapt to must be one array, or an iterable of batches. "
        f"Received: an object of type {type(data).__name__}"
    )


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields an array in parts whose copies take little memory."""
    if not array.ndim:
        raise ValueError("The data to adapt to is a single number.")
    rows = max(1, BLOCK * len(array) // max(array.size, 1))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def as_array(data: Any) -> np.ndarray:
    """Returns an array or tensor of any kind as NumPy has it."""
    if ops.is_tensor(data):
        return ops.convert_to_numpy(data)
    return np.asarray(data)


def as_numbers(array: np.ndarray) -> np.ndarray:
    """Returns an array in float64."""
    try:
        return array.astype("float64")
    except (TypeError, ValueError) as error:
        raise ValueError(
            "The data to adapt to must hold numbers. Turn strings into "
            "integers with `keras.layers.StringLookup`. Received: an array "
            f"of dtype {array.dtype}"
        ) from error


def refuse_columns(bad: Any, what: str) -> None:
    """Raises if columns of the data are bad, and names them."""
    if bad.any():
        columns = np.flatnonzero(bad).tolist()
        raise ValueError(f"The columns {shortened(columns)} {what}.")


def shortened(values: Sequence) -> str:
    """Returns a list as text, its end left out if it is long."""
    values = list(values)
    if len(values) <= 10:
        return str(values)
    return f"{str(values[:10])[:-1]}, ...] ({len(values)} in all)"


def are_equal(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Says where bounds cannot be told apart in float32."""
    return low.astype("float32") == high.astype("float32")


def _constant(shape: tuple, dtype: Any, value: Any) -> Any:
    # A copy: torch cannot assign to a tensor that is broadcast.
    array = np.broadcast_to(np.asarray(value, "float64"), shape).copy()
    return ops.convert_to_tensor(array, dtype)
