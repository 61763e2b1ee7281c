"""Losses for classes that are not equally common."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses import _targets
from kerascomp.losses._base import Loss, Wrapper

ops = keras.ops


@component(since="0.1")
class ClassBalanced(Wrapper):
    """Weighs the samples of rare classes more, round any loss.

    Use it when a few classes hold most of the samples and `class_weight` of
    `fit`, one over the class' share, is too strong. `beta` goes from equal
    weights (0) to that (towards 1): a sample adds the less the more of its
    class there are, as if they covered each other.

    The loss of one sample of a class with n samples is multiplied by

        (1 - beta) / (1 - beta^n)

    scaled so that the weights of all classes have mean 1.

    Args:
        loss: A loss with a value for each sample, as `model.compile` takes
            it. Its reduction is ignored.
        samples_per_class: Number of training samples of each class, in the
            order of the labels, each at least 1.
        beta: In [0, 1). 1 - 1 / N as a rule, with N the number of samples
            after which one more adds nothing: 0.9, 0.99, 0.999, 0.9999.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot or soft labels of the shape of
            `y_pred`, `(batch, ..., classes)`, which get the mean of their
            classes' weights. In the form that the wrapped loss takes.
        y_pred: What the wrapped loss takes. Of two classes also
            `(batch, 1)`.

    Returns:
        What the wrapped loss returns before reduction, in the loss' dtype.

    Raises:
        ValueError: If an argument is out of range, or labels lie outside the
            classes.

    Examples:
        >>> inner = keras.losses.SparseCategoricalCrossentropy()
        >>> loss = ClassBalanced(inner, samples_per_class=[3, 1], beta=0.5)
        >>> # Weights 0.5 / 0.875 and 1, times 2 / (1 + 0.5 / 0.875).
        >>> value = loss(np.array([1]), np.array([[0.5, 0.5]]))
        >>> round(float(value / np.log(2)), 4)
        1.2727

    Reference:
        Cui et al., 2019, [Class-balanced loss based on effective number of
        samples](https://arxiv.org/abs/1901.05555), section 4.
    """

    def __init__(
        self,
        loss: Any,
        samples_per_class: Iterable[int],
        beta: float = 0.999,
        reduction: str | None = "sum_over_batch_size",
        name: str = "class_balanced",
        dtype: Any = None,
    ):
        super().__init__(loss, reduction, name, dtype)
        _validation.in_interval("beta", beta, "[0, 1)")
        self.samples_per_class = _targets.counts(
            "samples_per_class", samples_per_class
        )
        self.beta = beta

    def call(self, y_true: Any, y_pred: Any) -> Any:
        values = self.values(y_true, y_pred)
        return values * self._weight(y_true, y_pred, values)

    def _weight(self, y_true: Any, y_pred: Any, values: Any) -> Any:
        """Returns the weights of the samples, in the shape of the values."""
        weights = ops.convert_to_tensor(self._weights(), values.dtype)
        classes = len(self.samples_per_class)
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] != 1:
            _targets.require_one_a_class(
                "samples_per_class", self.samples_per_class, y_true.shape[-1]
            )
            return ops.sum(y_true * weights, axis=-1)
        if y_pred.shape[-1] != 1 or classes != 2:
            _targets.require_one_a_class(
                "samples_per_class", self.samples_per_class, y_pred.shape[-1]
            )
        _targets.require_labels(y_true, classes)
        weights = ops.take(weights, ops.cast(y_true, "int32"), axis=0)
        return ops.reshape(weights, ops.shape(values))

    def _weights(self) -> np.ndarray:
        samples = np.array(self.samples_per_class, "float64")
        if self.beta == 0:
            return np.ones_like(samples)
        # Close to 1, 1 - beta^n would lose its digits.
        inverse = -1 / np.expm1(samples * math.log(self.beta))
        return inverse / inverse.mean()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "samples_per_class": self.samples_per_class,
            "beta": self.beta,
        }


def _adjusted_crossentropy(
    samples_per_class: list[int], tau: float, y_true: Any, y_pred: Any
) -> Any:
    """Crossentropy of logits plus `tau` times the log of the class shares."""
    y_true, logits = _targets.classes_last(y_true, y_pred)
    _targets.require_one_a_class(
        "samples_per_class", samples_per_class, logits.shape[-1]
    )
    counts = np.array(samples_per_class, "float64")
    offsets = tau * np.log(counts / counts.max())
    # Beside large logits the offsets would be lost in rounding.
    largest = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
    shifted = logits - largest
    half = keras.backend.standardize_dtype(logits.dtype).endswith("16")
    # A `tau` that differs between the lanes of a population is a tensor.
    known = isinstance(offsets, np.ndarray)
    if not known or offsets.min() < (-6 if half else -60):
        # Never above 0. Between sums, this keeps TensorFlow from adding the
        # offsets to `largest` first.
        shifted = ops.where(shifted > 0, ops.zeros_like(shifted), shifted)
        adjusted = shifted + ops.convert_to_tensor(offsets, logits.dtype)
        return _targets.crossentropy(y_true, adjusted, from_logits=True)
    # As factors that do not vanish, they need no second maximum.
    factors = ops.convert_to_tensor(np.exp(offsets), logits.dtype)
    total = ops.log(ops.sum(ops.exp(shifted) * factors, axis=-1))
    own = _targets.of_classes(offsets, y_true, shifted)
    if _targets.is_one_hot(y_true, shifted):
        own = own + ops.sum(y_true * shifted, axis=-1)
        total = ops.sum(y_true, axis=-1) * total
    else:
        own = own + _targets.at_class(y_true, shifted)
    return ops.relu(total - own)  # Rounding may lead below 0.


@component(since="0.1")
class LogitAdjusted(Loss):
    """Trains for balanced accuracy on unbalanced classes.

    Use it when rare classes matter as much as common ones. The model learns to
    outweigh the offsets that training adds to its logits; predict with the
    logits as they are, whose largest is then the class that minimizes the
    balanced error. At `tau=0` it is the crossentropy, at `tau=1` it is
    `BalancedSoftmax`.

    With n the number of samples of a class and N of all, the loss of one
    sample is the crossentropy of the logits

        z + tau log(n / N)

    Args:
        samples_per_class: Number of training samples of each class, in the
            order of the labels, each at least 1.
        tau: Strength of the adjustment, at least 0. 1 is consistent for the
            balanced error.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot or soft labels,
            `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats. At least
        0.

    Raises:
        ValueError: If an argument is out of range, or labels or shapes of a
            call do not fit.

    Examples:
        >>> loss = LogitAdjusted(samples_per_class=[9, 1], tau=0.5)
        >>> # Odds of 3 to 1 for the common class: -log(1 / 4).
        >>> round(float(loss(np.array([1]), np.array([[0.0, 0.0]]))), 4)
        1.3863

    Reference:
        Menon et al., 2021, [Long-tail learning via logit
        adjustment](https://arxiv.org/abs/2007.07314), *logit adjusted loss*.
    """

    def __init__(
        self,
        samples_per_class: Iterable[int],
        tau: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "logit_adjusted",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.samples_per_class = _targets.counts(
            "samples_per_class", samples_per_class
        )
        _validation.in_interval("tau", tau, "[0, inf)")
        self.tau = tau

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return _adjusted_crossentropy(
            self.samples_per_class, self.tau, y_true, y_pred
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "samples_per_class": self.samples_per_class,
            "tau": self.tau,
        }


@component(since="0.1")
class BalancedSoftmax(Loss):
    """Counts each class' samples in the softmax, in training alone.

    Use it when rare classes matter as much as common ones, and you want no
    number to tune. Predict with the logits as they are. It is
    `LogitAdjusted` at `tau=1`, derived from Bayes' rule for a test set of
    balanced classes; with equal numbers of samples it is the crossentropy.

    With n_j the number of samples of class j, the loss of one sample of class
    y is

        -log(n_y exp(z_y) / sum over j of n_j exp(z_j))

    Args:
        samples_per_class: Number of training samples of each class, in the
            order of the labels, each at least 1.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot or soft labels,
            `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats. At least
        0.

    Raises:
        ValueError: If a number of samples is below 1, or labels or shapes of
            a call do not fit.

    Examples:
        >>> loss = BalancedSoftmax(samples_per_class=[3, 1])
        >>> value = loss(np.array([1]), np.array([[0.0, 0.0]]))
        >>> round(float(value), 4)  # -log(1 / (3 + 1))
        1.3863

    Reference:
        Ren et al., 2020, [Balanced meta-softmax for long-tailed visual
        recognition](https://arxiv.org/abs/2007.10740), equation 3.
    """

    def __init__(
        self,
        samples_per_class: Iterable[int],
        reduction: str | None = "sum_over_batch_size",
        name: str = "balanced_softmax",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.samples_per_class = _targets.counts(
            "samples_per_class", samples_per_class
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return _adjusted_crossentropy(
            self.samples_per_class, 1.0, y_true, y_pred
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "samples_per_class": self.samples_per_class,
        }
