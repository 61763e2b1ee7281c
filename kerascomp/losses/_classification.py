"""Variants of the crossentropy."""

import math
from collections.abc import Sequence
from typing import Any

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses import _targets
from kerascomp.losses._base import Loss

ops = keras.ops


def _power(base: Any, exponent: float) -> Any:
    """Returns a power of shares, with a finite gradient at 0."""
    if exponent in (1, 2, 4):  # The usual ones, which need no logarithm.
        for _ in range(int(exponent) // 2):
            base = ops.square(base)
        return base
    # The slope of a root is infinite at 0, and NaN once multiplied by 0. What
    # is cut off here, the losses multiply by something smaller still.
    half = keras.backend.standardize_dtype(base.dtype) == "float16"
    return ops.power(ops.maximum(base, 1e-4 if half else 1e-7), exponent)


@component(since="0.1")
class SparseCategoricalFocalCrossentropy(Loss):
    """Weighs hard samples more than easy ones, for integer labels.

    Use it when most samples are easy and outnumber the rest, as background
    does in images. It equals `keras.losses.CategoricalFocalCrossentropy` on
    the one-hot encoded labels without building them, but that Keras clips
    probabilities of logits at 1e-7. With `gamma=0` and `alpha=1` it is
    `keras.losses.SparseCategoricalCrossentropy`.

    With p the probability of the true class, the loss of one sample is

        -alpha (1 - p)^gamma log p

    Args:
        alpha: Factor, at least 0, or a list with one for each class.
        gamma: How strongly easy samples are weighed down, at least 0.
        from_logits: Whether `y_pred` holds logits. Otherwise probabilities.
        axis: The axis of `y_pred` that holds the classes.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ...)`, or with length 1 along `axis`, integers in
            `[0, classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits or probabilities.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats. At least
        0.

    Raises:
        ValueError: If an argument is negative, or labels, probabilities or
            shapes of a call do not fit.

    Examples:
        >>> loss = SparseCategoricalFocalCrossentropy(alpha=1.0, gamma=2.0)
        >>> value = loss(np.array([1]), np.array([[0.2, 0.8]]))
        >>> round(float(value), 6)  # -0.2^2 * log(0.8)
        0.008926

    Reference:
        Lin et al., 2017, [Focal loss for dense object
        detection](https://arxiv.org/abs/1708.02002), equation 5.
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "sparse_categorical_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        several = isinstance(alpha, Sequence)
        for each in alpha if several else [alpha]:  # type: ignore[union-attr]
            _validation.in_interval("alpha", each, "[0, inf)")
        _validation.in_interval("gamma", gamma, "[0, inf)")
        self.alpha = list(alpha) if several else alpha  # type: ignore[arg-type]
        self.gamma = gamma
        self.from_logits = from_logits
        self.axis = axis

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, y_pred = _targets.labels_and_scores(y_true, y_pred, self.axis)
        hard = _targets.crossentropy(labels, y_pred, self.from_logits)
        alpha: Any = self.alpha
        if isinstance(alpha, list):
            _targets.require_one_a_class("alpha", alpha, y_pred.shape[-1])
            alpha = _targets.of_classes(alpha, labels, y_pred)
        return alpha * _power(-ops.expm1(-hard), self.gamma) * hard

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "gamma": self.gamma,
            "from_logits": self.from_logits,
            "axis": self.axis,
        }


@component(since="0.1")
class PolyLoss(Loss):
    """Adds a linear term to the crossentropy, tuned by one number.

    Use it where the crossentropy works and one more number may be tuned:
    above 0 it keeps pushing samples that are right already, below 0 it lets
    go of them. At `epsilon=0` it is the crossentropy.

    With p the probability of the true class, the loss of one sample is

        -log p + epsilon (1 - p)

    which changes the first coefficient of the expansion of -log p in powers of
    1 - p.

    Args:
        epsilon: What is added to that coefficient, at least -1.
        from_logits: Whether `y_pred` holds logits. Otherwise probabilities.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot or soft labels,
            `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits or probabilities.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype.  At least 0.

    Raises:
        ValueError: If `epsilon` is below -1, or labels, probabilities or
            shapes of a call do not fit.

    Examples:
        >>> value = PolyLoss(epsilon=2.0)(np.array([1]), np.array([[0.2, 0.8]]))
        >>> round(float(value), 4)  # -log(0.8) + 2 * 0.2
        0.6231

    Reference:
        Leng et al., 2022, [PolyLoss](https://arxiv.org/abs/2204.12511),
        equation 5 with N = 1 (Poly-1).
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "poly_loss",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("epsilon", epsilon, "[-1, inf)")
        self.epsilon = epsilon
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _targets.classes_last(y_true, y_pred)
        hard = _targets.crossentropy(y_true, y_pred, self.from_logits)
        miss = _targets.miss(y_true, y_pred, hard, self.from_logits)
        return hard + self.epsilon * miss

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "from_logits": self.from_logits,
        }


@component(since="0.1")
class SymmetricCrossentropy(Loss):
    """Tolerates wrong labels in the training data.

    Use it when some labels are wrong: the second term is bounded, so that a
    sample which contradicts its label cannot pull as hard as it does in the
    crossentropy. With `alpha=1` and `beta=0` it is the crossentropy.

    With targets q and predictions p, the loss of one sample is

        -alpha sum(q log p) - beta sum(p log q)

    where the logarithm of 0 is `log_zero`. For one-hot targets the second sum
    is `log_zero` times 1 - p of the true class.

    Args:
        alpha: Factor of the crossentropy, at least 0. Fits the labels.
        beta: Factor of the reverse crossentropy, at least 0. Resists them.
        log_zero: Stands for log 0, below 0; A in the paper. Logarithms of
            soft targets are cut off there.
        from_logits: Whether `y_pred` holds logits. Otherwise probabilities.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot or soft labels,
            `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits or probabilities.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If an argument is out of range, or labels, probabilities
            or shapes of a call do not fit.

    Examples:
        >>> loss = SymmetricCrossentropy(alpha=0.5, beta=2.0, log_zero=-4.0)
        >>> value = loss(np.array([1]), np.array([[0.2, 0.8]]))
        >>> round(float(value), 4)  # -0.5 * log(0.8) + 2 * 4 * 0.2
        1.7116

    Reference:
        Wang et al., 2019, [Symmetric cross entropy for robust learning with
        noisy labels](https://arxiv.org/abs/1908.06112).
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        log_zero: float = -4.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "symmetric_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("alpha", alpha, "[0, inf)")
        _validation.in_interval("beta", beta, "[0, inf)")
        _validation.in_interval("log_zero", log_zero, "(-inf, 0)")
        self.alpha = alpha
        self.beta = beta
        self.log_zero = log_zero
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _targets.classes_last(y_true, y_pred)
        forward = _targets.crossentropy(y_true, y_pred, self.from_logits)
        return self.alpha * forward + self.beta * self._reverse(
            y_true, y_pred, forward
        )

    def _reverse(self, y_true: Any, y_pred: Any, forward: Any) -> Any:
        if not _targets.is_one_hot(y_true, y_pred):
            return self.log_zero * ops.expm1(-forward)
        probabilities = ops.exp(
            _numerics.log_probabilities(y_pred, self.from_logits)
        )
        logs = ops.log(ops.maximum(y_true, math.exp(self.log_zero)))
        return -ops.sum(probabilities * logs, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "log_zero": self.log_zero,
            "from_logits": self.from_logits,
        }


@component(since="0.1")
class AsymmetricLoss(Loss):
    """Weighs down the many absent labels of multi-label samples.

    Use it when a sample has few of many possible labels: the easy negatives,
    which dominate the crossentropy, hardly count, and those below `margin` not
    at all, which also forgives labels that are missing. With both gammas and
    the margin 0 it is `keras.losses.BinaryCrossentropy`; with equal gammas and
    no margin, `keras.losses.BinaryFocalCrossentropy`.

    With p the predicted probability of a label, its loss is

        -(1 - p)^gamma_positive log p   if the sample has it
        -q^gamma_negative log(1 - q)    otherwise, q = max(p - margin, 0)

    and the loss of one sample is the mean over its last axis.

    Args:
        gamma_positive: Focus on hard labels that are present, at least 0.
        gamma_negative: Focus on hard labels that are absent, at least 0. The
            larger of the two as a rule.
        margin: Probability that an absent label may have, in [0, 1).
        from_logits: Whether `y_pred` holds logits. Otherwise probabilities.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ..., labels)`, any dtype. 0 or 1, or shares between.
        y_pred: `(batch, ..., labels)`, float. Logits or probabilities.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If an argument is out of range, or probabilities or shapes
            of a call do not fit.

    Examples:
        >>> loss = AsymmetricLoss(gamma_negative=2.0, margin=0.1)
        >>> value = loss(np.array([[1, 0]]), np.array([[0.5, 0.3]]))
        >>> # (-log(0.5) - 0.2^2 * log(0.8)) / 2
        >>> round(float(value), 4)
        0.351

    Reference:
        Ridnik et al., 2021, [Asymmetric loss for multi-label
        classification](https://arxiv.org/abs/2009.14119), equation 7. Takes
        the mean over the labels where the paper sums: multiply by their
        number for the same gradient.
    """

    def __init__(
        self,
        gamma_positive: float = 0.0,
        gamma_negative: float = 4.0,
        margin: float = 0.05,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "asymmetric_loss",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("gamma_positive", gamma_positive, "[0, inf)")
        _validation.in_interval("gamma_negative", gamma_negative, "[0, inf)")
        _validation.in_interval("margin", margin, "[0, 1)")
        self.gamma_positive = gamma_positive
        self.gamma_negative = gamma_negative
        self.margin = margin
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _numerics.same_rank(y_true, y_pred)
        if not self.from_logits:
            _targets.require_probabilities(y_pred)
        log_p, log_rest = _numerics.binary_log_probabilities(
            y_pred, self.from_logits
        )
        present = -log_p
        if self.gamma_positive:
            # As a power of 1 - p, the factor has no finite slope at p = 1.
            present = present * ops.exp(self.gamma_positive * log_rest)
        if self.margin:
            absent = self._beyond_margin(y_pred)
        else:
            absent = -ops.exp(self.gamma_negative * log_p) * log_rest
        return ops.mean(y_true * present + (1 - y_true) * absent, axis=-1)

    def _beyond_margin(self, y_pred: Any) -> Any:
        p = ops.sigmoid(y_pred) if self.from_logits else y_pred
        # Not 1 - p, which is 0 in half precision where it need not be.
        rest = ops.sigmoid(-y_pred) if self.from_logits else 1 - y_pred
        shifted = ops.relu(p - self.margin)
        rest = ops.minimum(rest + self.margin, 1.0)
        return -_power(shifted, self.gamma_negative) * ops.log(rest)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gamma_positive": self.gamma_positive,
            "gamma_negative": self.gamma_negative,
            "margin": self.margin,
            "from_logits": self.from_logits,
        }


@component(since="0.1")
class SparsemaxLoss(Loss):
    """Trains a model whose output activation is sparsemax.

    Use it for probabilities that are exactly 0 for unlikely classes. It takes
    the numbers before the activation; `kerascomp.activations.sparsemax` of
    them are the probabilities. Its gradient is the probabilities less the
    targets, as that of the crossentropy is with softmax, and it is 0 once the
    true class leads every other one by 1.

    With targets q and probabilities p = sparsemax(z), which are above 0 on a
    support S and there equal z - tau, the loss of one sample is

        sum over S of (z^2 - tau^2) / 2 + sum(q^2) / 2 - sum(q z)

    Args:
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot or soft labels,
            `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If labels or shapes of a call do not fit.

    Examples:
        >>> # p = [0.8, 0.2, 0], tau = 0.2:
        >>> # (1 + 0.16) / 2 - 0.2^2 + 1 / 2 - 0.4, for the second class
        >>> loss = SparsemaxLoss()
        >>> value = loss(np.array([1]), np.array([[1.0, 0.4, -3.0]]))
        >>> round(float(value), 4)
        0.64

    Reference:
        Martins & Astudillo, 2016, [From softmax to
        sparsemax](https://arxiv.org/abs/1602.02068), section 3.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "sparsemax_loss",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _targets.classes_last(y_true, y_pred)
        p = _numerics.sparsemax(y_pred)
        # On the support (z^2 - tau^2) is p (2 z - p), which squares no large
        # number; and moving all of z moves nothing but rounding errors.
        z = y_pred - ops.stop_gradient(ops.max(y_pred, -1, keepdims=True))
        # Below -1, where p is 0, z may be infinite: masked classes are.
        conjugate = ops.sum(p * (ops.maximum(z, -1.0) - 0.5 * p), axis=-1)
        if _targets.is_one_hot(y_true, y_pred):
            norm = ops.sum(ops.square(y_true), axis=-1)
            return conjugate + 0.5 * norm - ops.sum(y_true * z, axis=-1)
        return conjugate + 0.5 - _targets.at_class(y_true, z)
