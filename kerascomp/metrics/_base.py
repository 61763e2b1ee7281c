"""What all metrics share: state, sample weights, and bad input."""

from typing import Any

from kerascomp import _numerics
from kerascomp._compat import keras

ops = keras.ops


class Metric(keras.metrics.Metric):
    """Keras' base class, with state that half precision does not limit."""

    # "up" or "down" is better. Keras' callbacks read it with `mode="auto"`, and
    # raise without; there is no public name for it.
    _direction: str

    def __init__(self, name: str, dtype: Any):
        super().__init__(name=name, dtype=dtype)
        # Float16 counts to 2048, and bfloat16 to 256.
        self.state_dtype = "float64" if self.dtype == "float64" else "float32"

    def add_state(self, name: str, *shape: int) -> Any:
        """Returns a new variable that starts, and is reset to, zero."""
        return self.add_variable(
            shape, "zeros", dtype=self.state_dtype, name=name
        )

    def tensor(self, values: Any) -> Any:
        """Returns numbers as a tensor of the state's dtype."""
        return ops.cast(ops.convert_to_tensor(values), self.state_dtype)

    def output(self, value: Any) -> Any:
        """Returns a result in the metric's dtype."""
        return ops.cast(value, self.dtype)

    def weights_of(self, shape_of: Any, y_pred: Any, sample_weight: Any) -> Any:
        """Returns one weight for each element of `shape_of`.

        Args:
            shape_of: A tensor with the shape of the result.
            y_pred: The predictions as they were passed, for Keras' mask.
            sample_weight: None, or weights of shape `(batch,)` or
                `(batch, 1)`, or with more of the axes of `shape_of`.
        """
        weights = ops.ones_like(shape_of, dtype=self.state_dtype)
        if sample_weight is not None:
            given = self.tensor(sample_weight)
            given = required(given >= 0, given, given, _WEIGHTS)
            weights = weights * _expanded(given, shape_of, "sample_weight")
        if not ops.is_tensor(y_pred):  # A loss takes a list for many outputs.
            y_pred = ops.convert_to_tensor(y_pred)
        mask = _KerasMask(dtype=self.state_dtype)(y_pred, y_pred)
        return weights * _expanded(mask, shape_of, "mask")


_WEIGHTS = "`sample_weight` must hold numbers of at least 0."


class _KerasMask(keras.losses.Loss):
    """Reads Keras' mask off a tensor: 1, or 0 where it is masked.

    The functions that read it are private, and attributes do not hold it on
    every backend. A loss that is not reduced is multiplied by the mask.
    """

    def __init__(self, dtype: str):
        super().__init__(name="mask", reduction=None, dtype=dtype)

    def call(self, _: Any, y_pred: Any) -> Any:
        several = len(y_pred.shape) > 1
        return ops.ones_like(y_pred[..., 0] if several else y_pred)


class MeanMetric(Metric):
    """The weighted mean of a number for each sample."""

    def __init__(self, name: str, dtype: Any):
        super().__init__(name, dtype)
        self.total = self.add_state("total")
        self.weight = self.add_state("weight")

    def add(self, values: Any, weights: Any) -> None:
        """Adds numbers, of any shape, and as many weights."""
        self.total.assign_add(ops.sum(weighted(values, weights)))
        self.weight.assign_add(ops.sum(weights))

    def result(self) -> Any:
        return self.output(quotient(self.total, self.weight, self.weight))


def check_same_shape(y_true: Any, y_pred: Any) -> None:
    """Raises where broadcasting would hide that shapes differ."""
    shapes = tuple(y_true.shape), tuple(y_pred.shape)
    pairs = zip(*shapes, strict=True)
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(
            "`y_true` and `y_pred` must have the same shape, but for axes of "
            f"classes or outputs. Received: {shapes[0]} and {shapes[1]}"
        )


def weighted(values: Any, weights: Any) -> Any:
    """Returns the product, 0 at weight 0 even where a value is not finite."""
    return ops.where(weights == 0, 0.0, values) * weights


def quotient(numerator: Any, denominator: Any, seen: Any) -> Any:
    """Divides: NaN where both are 0, but 0 where `seen` is, before any data."""
    # JAX compares no variables.
    numerator, denominator, seen = map(
        ops.convert_to_tensor, (numerator, denominator, seen)
    )
    return ops.where(
        seen == 0, 0.0, numerator / ops.where(seen == 0, 1.0, denominator)
    )


def required(good: Any, weights: Any, values: Any, message: str) -> Any:
    """Refuses bad samples where they can be seen, and marks them elsewhere.

    Compiled code can raise nothing. There, a bad sample gets the weight NaN,
    which makes the result NaN. A sample of weight 0 is never bad.

    Args:
        good: Boolean tensor like `weights`.
        weights: The samples' weights.
        values: What is good or bad, for the message; one or more a sample.
        message: What is required.

    Returns:
        The weights, NaN for bad samples.

    Raises:
        ValueError: If a sample is bad and execution is eager.
    """
    seen = _numerics.readable(good), _numerics.readable(weights)
    if seen[0] is not None and seen[1] is not None:
        wrong = ~seen[0] & (seen[1] != 0)
        if wrong.any():
            found = ops.convert_to_numpy(values)[wrong][0]
            raise ValueError(f"{message} Received: {found!s}")
        return weights
    return marked(ops.logical_not(good), weights)


def without_nan(values: Any, weights: Any) -> Any:
    """Returns the weights, NaN for samples that hold a NaN.

    Comparisons and `argmax` take NaN for a number; a diverged model shall not
    look like a bad one.
    """
    bad = ops.isnan(values)
    if len(values.shape) > len(weights.shape):
        bad = ops.any(bad, axis=-1)
    return marked(bad, weights)


def marked(bad: Any, weights: Any) -> Any:
    """Returns the weights, NaN for bad samples, unless they weigh nothing."""
    return ops.where(ops.logical_and(bad, weights != 0), float("nan"), weights)


def _expanded(given: Any, shape_of: Any, name: str) -> Any:
    """Returns a tensor that broadcasts to `shape_of` from the first axis."""
    shapes = tuple(given.shape), tuple(shape_of.shape)
    rank = len(shapes[1])
    if len(shapes[0]) == rank + 1 and shapes[0][-1] == 1:
        given = ops.squeeze(given, axis=-1)
    while len(given.shape) < rank:
        given = ops.expand_dims(given, -1)
    axes = zip(given.shape, shapes[1], strict=False)
    fits = all(None in pair or pair[0] in (1, pair[1]) for pair in axes)
    if len(given.shape) > rank or not fits:
        raise ValueError(
            f"`{name}` must have the shape {shapes[1]} of the samples, or "
            f"leave out axes at the end. Received: {name}.shape={shapes[0]}"
        )
    return given
