"""Quantiles and prediction intervals."""

import numbers
from collections.abc import Sequence
from typing import Any

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.metrics._base import MeanMetric, check_same_shape, without_nan

ops = keras.ops


@component(since="0.1")
class PinballLoss(MeanMetric):
    """Judges predicted quantiles.

    Use it beside `IntervalCoverage` for quantile regression. For an error
    d = y_true - y_pred and quantile q it is

        q * d        if d >= 0
        (q - 1) * d  otherwise

    averaged over quantiles and samples, as in
    `sklearn.metrics.mean_pinball_loss`. At q = 0.5 it is half the mean
    absolute error.

    Args:
        quantile: A number in (0, 1), or several, one for each output.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: `(batch, ...)`, any dtype.
        y_pred: The same, up to a last axis of length 1. With several
            quantiles, `(batch, ..., quantiles)`.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        A scalar, at least 0. 0 before any data.

    Raises:
        ValueError: If a quantile lies outside (0, 1), there is none, or the
            shapes of a call do not match.

    Examples:
        >>> metric = PinballLoss(quantile=0.9)
        >>> metric.update_state([1.0, 2.0], [0.0, 3.0])
        >>> round(float(metric.result()), 4)  # (0.9 * 1 + 0.1 * 1) / 2
        0.5
        >>> metric = PinballLoss(quantile=[0.1, 0.9])
        >>> metric.update_state([1.0], [[0.0, 3.0]])
        >>> round(float(metric.result()), 4)  # (0.1 * 1 + 0.1 * 2) / 2
        0.15

    Reference:
        Koenker and Bassett, 1978, [Regression
        quantiles](https://doi.org/10.2307/1913643).
    """

    _direction = "down"

    def __init__(
        self,
        quantile: float | Sequence[float] = 0.5,
        name: str = "pinball_loss",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        several = _several(quantile)
        if several is not None and not several:
            raise ValueError(
                "`quantile` must hold at least one number. "
                f"Received: quantile={quantile!r}"
            )
        for each in [quantile] if several is None else several:
            _validation.in_interval("quantile", each, "(0, 1)")
        self.quantile = quantile

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        true, predicted = self.tensor(y_true), self.tensor(y_pred)
        quantiles = _several(self.quantile)
        if quantiles is None:
            true, predicted = _numerics.same_rank(true, predicted)
            check_same_shape(true, predicted)
            losses = _numerics.pinball(true, predicted, self.quantile)
            self.add(losses, self.weights_of(losses, y_pred, sample_weight))
            return
        true = _without_outputs(true, predicted, len(quantiles))
        losses = _numerics.pinball(
            ops.expand_dims(true, -1),
            predicted,
            self.tensor(quantiles),
        )
        losses = ops.mean(losses, axis=-1)
        self.add(losses, self.weights_of(losses, y_pred, sample_weight))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantile": self.quantile}


def _several(quantile: float | Sequence[float]) -> list[float] | None:
    """Returns several quantiles as a list, and None for a single one."""
    return None if isinstance(quantile, numbers.Real) else [*quantile]  # type: ignore[misc]


def _without_outputs(y_true: Any, y_pred: Any, outputs: int | None) -> Any:
    """Returns `y_true` in the shape of `y_pred` without its last axis.

    Raises:
        ValueError: If that is not possible, or the last axis of `y_pred` has
            another length than `outputs`.
    """
    shapes = tuple(y_true.shape), tuple(y_pred.shape)
    if len(shapes[1]) < 2 or (outputs is not None and shapes[1][-1] != outputs):
        raise ValueError(
            "`y_pred` must have the shape `(batch, ..., outputs)`, with one "
            f"output for each quantile. Received: y_pred.shape={shapes[1]}"
        )
    if len(shapes[0]) == len(shapes[1]) and shapes[0][-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    if len(y_true.shape) != len(shapes[1]) - 1:
        raise ValueError(
            "`y_true` must have the shape of `y_pred` without its last axis, "
            f"or 1 there. Received: y_true.shape={shapes[0]}, "
            f"y_pred.shape={shapes[1]}"
        )
    check_same_shape(y_true, y_pred[..., 0])
    return y_true


class IntervalMetric(MeanMetric):
    """A mean of something about a predicted interval."""

    def __init__(self, lower: int, upper: int, name: str, dtype: Any):
        super().__init__(name, dtype)
        for argument, value in (("lower", lower), ("upper", upper)):
            if isinstance(value, bool) or not isinstance(
                value, numbers.Integral
            ):
                raise ValueError(
                    f"`{argument}` must be an integer. "
                    f"Received: {argument}={value!r}"
                )
        self.lower = lower
        self.upper = upper

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        predicted = self.tensor(y_pred)
        true = _without_outputs(self.tensor(y_true), predicted, None)
        outputs = predicted.shape[-1]
        places = [index % outputs for index in (self.lower, self.upper)]
        valid = all(-outputs <= i < outputs for i in (self.lower, self.upper))
        if not valid or places[0] == places[1]:
            raise ValueError(
                "`lower` and `upper` must be two outputs of `y_pred`. "
                f"Received: lower={self.lower}, upper={self.upper}, "
                f"y_pred.shape={tuple(predicted.shape)}"
            )
        low, high = (predicted[..., place] for place in places)
        weights = self.weights_of(low, y_pred, sample_weight)
        for values in (true, low, high):
            weights = without_nan(values, weights)
        self.add(self.of_interval(true, low, high), weights)

    def of_interval(self, true: Any, low: Any, high: Any) -> Any:
        """Returns the number whose mean is the metric."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "lower": self.lower,
            "upper": self.upper,
        }


@component(since="0.1")
class IntervalCoverage(IntervalMetric):
    """Counts how often the truth lies in the predicted interval.

    Use it for models that predict an interval, as by two quantiles: between
    the quantiles 0.05 and 0.95, about 0.9 should lie. Bounds belong to the
    interval; one whose lower bound is above its upper contains nothing.
    Coverage is easily bought by width: see `IntervalWidth`.

    Args:
        lower: Which output is the lower bound. Negative counts from the end.
        upper: Which output is the upper bound. Negative counts from the end.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: `(batch, ...)`, or with a last axis of length 1, any dtype.
        y_pred: `(batch, ..., outputs)`, at least two outputs.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        A scalar in [0, 1]. 0 before any data. NaN if a label or bound is NaN.

    Raises:
        ValueError: If `lower` or `upper` is no output, both are the same, or
            the shapes of a call do not match.

    Examples:
        >>> metric = IntervalCoverage()
        >>> bounds = [[0.0, 2.0], [1.0, 3.0], [2.0, 4.0], [3.0, 5.0]]
        >>> metric.update_state([1.0, 3.0, 4.5, 2.0], bounds)
        >>> float(metric.result())
        0.5

    Reference:
        Khosravi et al., 2011, [Comprehensive review of neural network-based
        prediction intervals](https://doi.org/10.1109/TNN.2011.2162110), *PICP*.
    """

    def __init__(
        self,
        lower: int = 0,
        upper: int = -1,
        name: str = "interval_coverage",
        dtype: Any = None,
    ):
        super().__init__(lower, upper, name, dtype)

    def of_interval(self, true: Any, low: Any, high: Any) -> Any:
        return self.tensor(ops.logical_and(low <= true, true <= high))


@component(since="0.1")
class IntervalWidth(IntervalMetric):
    """Averages the widths of predicted intervals.

    Use it beside `IntervalCoverage`: of two models that cover as much, the
    one with narrower intervals knows more. An interval whose lower bound is
    above its upper has a negative width.

    Args:
        lower: Which output is the lower bound. Negative counts from the end.
        upper: Which output is the upper bound. Negative counts from the end.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: `(batch, ...)`, or with a last axis of length 1, any dtype. Its
            values do not matter, unless NaN.
        y_pred: `(batch, ..., outputs)`, at least two outputs.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        A scalar, in the unit of the target. 0 before any data. NaN if a label
        or bound is NaN.

    Raises:
        ValueError: If `lower` or `upper` is no output, both are the same, or
            the shapes of a call do not match.

    Examples:
        >>> metric = IntervalWidth(lower=0, upper=2)
        >>> metric.update_state([1.0, 3.0], [[0.0, 1.0, 2.0], [1.0, 2.0, 5.0]])
        >>> float(metric.result())  # (2 + 4) / 2
        3.0

    Reference:
        Khosravi et al., 2011, [Comprehensive review of neural network-based
        prediction intervals](https://doi.org/10.1109/TNN.2011.2162110), *MPIW*.
    """

    _direction = "down"

    def __init__(
        self,
        lower: int = 0,
        upper: int = -1,
        name: str = "interval_width",
        dtype: Any = None,
    ):
        super().__init__(lower, upper, name, dtype)

    def of_interval(
        self,
        true: Any,  # noqa: ARG002
        low: Any,
        high: Any,
    ) -> Any:
        return high - low
