"""Losses of numbers: quantiles, distributions, sums of squares."""

import math
from collections.abc import Sequence
from typing import Any

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses._base import Loss

ops = keras.ops


@component(since="0.1")
class Pinball(Loss):
    """Trains a model to predict quantiles instead of the mean.

    Use it for prediction intervals: with `quantile=[0.05, 0.5, 0.95]` and
    three outputs the model gives a median and a 90 % interval. At
    `quantile=0.5` it is half of the mean absolute error.

    An error d = y_true - y_pred costs

        quantile * d          if the prediction is too low
        (1 - quantile) * -d   if it is too high

    and the loss of one sample is the mean over its last axis. The gradient of
    a prediction that is exact is 0.

    Args:
        quantile: Number in (0, 1), or a list of such numbers in ascending
            order, one for each entry of the last axis of `y_pred`.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Of one quantile `(batch, ..., outputs)`, any dtype; the last
            axis may be left out if there is one output. Of several
            `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: Of one quantile `(batch, ..., outputs)`, of several
            `(batch, ..., quantiles)`, float.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If a quantile lies outside (0, 1), they do not ascend, or
            the shapes of a call do not match.

    Examples:
        >>> loss = Pinball(quantile=0.9)
        >>> # 10 too low and 10 too high: (0.9 * 10 + 0.1 * 10) / 2.
        >>> round(
        ...     float(loss(np.array([[10.0, 0.0]]), np.array([[0.0, 10.0]]))), 6
        ... )
        5.0
        >>> loss = Pinball(quantile=[0.1, 0.9])
        >>> value = loss(np.array([5.0]), np.array([[3.0, 6.0]]))
        >>> round(float(value), 6)  # (0.1 * 2 + 0.1 * 1) / 2
        0.15

    Reference:
        Koenker & Bassett, 1978, [Regression
        quantiles](https://doi.org/10.2307/1913643), equation 2.1.
    """

    def __init__(
        self,
        quantile: float | Sequence[float] = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "pinball",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if isinstance(quantile, Sequence):
            quantile = list(quantile)
            for each in quantile:
                _validation.in_interval("quantile", each, "(0, 1)")
            if not quantile or quantile != sorted(set(quantile)):
                raise ValueError(
                    "`quantile` must be one number or several that ascend. "
                    f"Received: quantile={quantile!r}"
                )
        else:
            _validation.in_interval("quantile", quantile, "(0, 1)")
        self.quantile = quantile

    def call(self, y_true: Any, y_pred: Any) -> Any:
        quantile: Any = self.quantile
        if isinstance(quantile, list):
            if len(y_true.shape) == len(y_pred.shape) - 1:
                y_true = ops.expand_dims(y_true, -1)
            self._check_shapes(y_true, y_pred)
            quantile = ops.convert_to_tensor(quantile, y_pred.dtype)
        else:
            y_true, y_pred = _numerics.same_rank(y_true, y_pred)
        element = _numerics.pinball(y_true, y_pred, quantile)
        return ops.mean(element, axis=-1)

    def _check_shapes(self, y_true: Any, y_pred: Any) -> None:
        shapes = tuple(y_true.shape), tuple(y_pred.shape)
        fits = _numerics.same_shape(shapes[0], (*shapes[1][:-1], 1))
        count = len(self.quantile)  # type: ignore[arg-type]
        if not fits or shapes[1][-1] != count:
            raise ValueError(
                "`y_pred` must have one entry for each quantile on its last "
                "axis, and `y_true` the same shape without that axis or with "
                f"length 1. Received: quantile={self.quantile}, "
                f"y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
            )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantile": self.quantile}


@component(since="0.1")
class GaussianNegativeLogLikelihood(Loss):
    """Trains a model to predict a mean and how far off it may be.

    Use it for regression with noise that depends on the input. The model has
    two numbers for each target: the means first, then the logarithms of the
    variances, straight from a linear layer. With constant variance 1 it is
    half of the mean squared error.

    The loss of one target with error d and variance v is

        v^beta * (log(v) + d^2 / v) / 2

    where v^beta counts as a constant in the gradient. With `beta = 0` that is
    the negative logarithm of the normal density, up to log(2 pi) / 2, which
    `full` adds. It neglects samples that it first fits badly; `beta = 0.5`
    mends this, and with `beta = 1` the gradient of the mean is that of the
    squared error. The loss of one sample is the mean over its targets.

    Variances are held in [`epsilon`, 1 / `epsilon`]; the gradient passes these
    bounds, so that a variance can come back.

    Args:
        beta: Exponent of the weight, in [0, 1].
        full: Whether to add log(2 pi) / 2.
        spread: What the second half of `y_pred` holds, `"log_variance"` or
            `"variance"`.
        epsilon: Smallest variance, in (0, 1). In the squared unit of the
            target.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`. Squares of large errors do not fit
            into half precision.

    Call arguments:
        y_true: `(batch, ..., outputs)`, any dtype; the last axis may be left
            out if there is one output.
        y_pred: `(batch, ..., 2 * outputs)`, float.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats.

    Raises:
        ValueError: If an argument is out of range, or the shapes of a call do
            not match.

    Examples:
        >>> loss = GaussianNegativeLogLikelihood(spread="variance")
        >>> value = loss(np.array([[5.0]]), np.array([[2.0, 4.0]]))
        >>> round(float(value), 4)  # (log(4) + 3^2 / 4) / 2
        1.8181

    Reference:
        Seitzer et al., 2022, [On the pitfalls of heteroscedastic uncertainty
        estimation](https://arxiv.org/abs/2203.09168), equations 2 and 5. With
        `spread="variance"` and `beta=0` it is PyTorch's `GaussianNLLLoss`.
    """

    def __init__(
        self,
        beta: float = 0.0,
        full: bool = False,
        spread: str = "log_variance",
        epsilon: float = 1e-6,
        reduction: str | None = "sum_over_batch_size",
        name: str = "gaussian_negative_log_likelihood",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("beta", beta, "[0, 1]")
        _validation.one_of("spread", spread, ("log_variance", "variance"))
        _validation.in_interval("epsilon", epsilon, "(0, 1)")
        self.beta = beta
        self.full = full
        self.spread = spread
        self.epsilon = epsilon

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if y_pred.shape[-1] is None or y_pred.shape[-1] % 2:
            raise ValueError(
                "`y_pred` must hold means and as many spreads on its last "
                f"axis. Received: y_pred.shape={tuple(y_pred.shape)}"
            )
        mean, spread = ops.split(y_pred, 2, axis=-1)
        y_true, mean = _numerics.same_rank(y_true, mean)
        if not _numerics.same_shape(y_true.shape, mean.shape):
            raise ValueError(
                "`y_pred` must have two numbers for each target on its last "
                f"axis. Received: y_true.shape={tuple(y_true.shape)}, "
                f"y_pred.shape={tuple(y_pred.shape)}"
            )
        spread = ops.reshape(spread, ops.shape(mean))
        log_variance = self._log_variance(spread)
        # The root first: the inverse variance alone may overflow.
        error = (y_true - mean) * ops.exp(-0.5 * log_variance)
        element = 0.5 * (log_variance + ops.square(error))
        if self.full:
            element = element + 0.5 * math.log(2 * math.pi)
        if self.beta:
            weight = ops.exp(self.beta * log_variance)
            element = ops.stop_gradient(weight) * element
        return ops.mean(element, axis=-1)

    def _log_variance(self, spread: Any) -> Any:
        if self.spread == "variance":
            return ops.log(_held(spread, self.epsilon, 1 / self.epsilon))
        bound = -math.log(self.epsilon)
        return _held(spread, -bound, bound)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta": self.beta,
            "full": self.full,
            "spread": self.spread,
            "epsilon": self.epsilon,
        }


def _held(x: Any, low: float, high: float) -> Any:
    """Clips the values and lets the gradient through."""
    # The difference is exactly 0, and its gradient 1.
    return ops.stop_gradient(ops.clip(x, low, high)) + (
        x - ops.stop_gradient(x)
    )


@component(since="0.1")
class LeastSquares(Loss):
    """Sums squared errors over the outputs of a sample.

    Use it where the formula of a book or paper has the sum of squares. It
    equals `keras.losses.MeanSquaredError` times the number of outputs, so a
    learning rate that suits the one is too large or small for the other; with
    `reduction="sum"` it is the residual sum of squares of the batch. With one
    output, and the default reduction, the two are the same.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`. Squares of errors above 256 do not
            fit into half precision.

    Call arguments:
        y_true: `(batch, ..., outputs)`, any dtype; the last axis may be left
            out if there is one output.
        y_pred: `(batch, ..., outputs)`, float.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If the shapes of a call do not match.

    Examples:
        >>> y_true, y_pred = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])
        >>> float(LeastSquares()(y_true, y_pred))  # 9 + 16
        25.0
        >>> float(keras.losses.MeanSquaredError()(y_true, y_pred))
        12.5

    Reference:
        Bishop, 2006, Pattern recognition and machine learning, equation 1.2,
        which takes half of it.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "least_squares",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _numerics.same_rank(y_true, y_pred)
        return ops.sum(ops.square(y_pred - y_true), axis=-1)
