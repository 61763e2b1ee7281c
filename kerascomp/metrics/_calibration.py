"""How far probabilities are from what happens."""

from typing import Any

import numpy as np

from kerascomp import _numerics, _validation
from kerascomp._compat import keras, segment_sum
from kerascomp._registry import component
from kerascomp.metrics._base import MeanMetric, Metric, quotient, weighted
from kerascomp.metrics._buffer import DEFAULT_CAPACITY, Buffer, weight_around
from kerascomp.metrics._classes import classified

ops = keras.ops

BINNINGS = ("equal_width", "equal_mass", "adaptive")


@component(since="0.1")
class ExpectedCalibrationError(Metric):
    """Measures how far confidence is from accuracy.

    Use it when probabilities are acted on: of the predictions made with
    confidence 0.9, nine in ten should be right. Samples are sorted into bins
    by confidence, and the result is the weighted mean of the gaps,

        sum over bins of (share of samples) * |accuracy - mean confidence|

    `binning` says what is sorted, and how:

    - `"equal_width"` (Guo et al.): bins (0, 1/M], (1/M, 2/M], ... of the
      largest probability; accuracy is the share that the class is right.
    - `"equal_mass"` (Nguyen and O'Connor; AdaECE in later work): as many
      samples in each bin.
    - `"adaptive"` (Nixon et al.; ACE): equal mass for the probability of each
      class, with the share of samples of that class, averaged over classes.
      Low probabilities count, too.

    Equal probabilities stay in one bin, that of the first of them, so that
    the order of the data does not matter; bins then differ in mass.

    The last two need all samples, so the metric keeps up to `capacity` of
    nonzero weight and is exact for them. If there are more, the result is
    NaN, in eager and in compiled code, until the state is reset. Every result
    sorts `capacity` numbers (times the classes if adaptive), which `fit` does
    after each batch. `"equal_width"` has no such limits.

    Args:
        num_classes: Number of classes, at least 2.
        num_bins: Number of bins M, at least 1.
        binning: `"equal_width"`, `"equal_mass"` or `"adaptive"`.
        capacity: Largest number of samples, at least 1. Unused by
            `"equal_width"`.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`. Of the result; state is float32,
            or float64 if this is.

    Call arguments:
        y_true: `(batch, ...)`, or with a last axis of length 1, integers in
            `[0, num_classes)`; or `(batch, ..., num_classes)`, one-hot.
        y_pred: `(batch, ..., num_classes)`, float. Probabilities; or
            `(batch, ..., 1)`, those of class 1 of two.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        A scalar in [0, 1]. 0 before any data. NaN if a prediction was NaN,
        beyond `capacity`, or, in compiled code, if a label is no class or a
        probability outside [0, 1].

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class
            or a probability outside [0, 1].

    Examples:
        >>> metric = ExpectedCalibrationError(num_classes=2, num_bins=2)
        >>> metric.update_state([1, 1, 0, 0], np.array([0.9, 0.8, 0.7, 0.0]))
        >>> # Confidences 0.9, 0.8, 0.7, 1.0 in one bin; three are right.
        >>> round(float(metric.result()), 4)  # |3/4 - 3.4/4|
        0.1

    Reference:
        Guo et al., 2017, [On calibration of modern neural
        networks](https://arxiv.org/abs/1706.04599); Nguyen and
        O'Connor, 2015, [Posterior calibration and exploratory
        analysis](https://arxiv.org/abs/1508.05154); Nixon et al.,
        2019, [Measuring calibration in deep
        learning](https://arxiv.org/abs/1904.01685), with bins weighted by
        their mass, which is equal without ties.
    """

    _direction = "down"

    def __init__(
        self,
        num_classes: int,
        num_bins: int = 15,
        binning: str = "equal_width",
        capacity: int = DEFAULT_CAPACITY,
        name: str = "expected_calibration_error",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        _validation.at_least("num_classes", num_classes, 2)
        _validation.at_least("num_bins", num_bins, 1)
        _validation.one_of("binning", binning, BINNINGS)
        _validation.at_least("capacity", capacity, 1)
        self.num_classes = num_classes
        self.num_bins = num_bins
        self.binning = binning
        self.capacity = capacity
        if binning == "equal_width":
            # Accuracy less confidence, times the weight.
            self.gaps = self.add_state("gaps", num_bins)
            self.weight = self.add_state("weight")
        else:
            pairs = num_classes if binning == "adaptive" else 1
            self.buffer = Buffer(self, capacity, 2 * pairs)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        samples = classified(
            self,
            y_true,
            y_pred,
            sample_weight,
            self.num_classes,
            probabilities=True,
        )
        confidence = samples.probabilities()
        if self.binning == "adaptive":
            event = samples.one_hot()
        else:
            right = samples.labels == samples.predicted(0.5)
            event = ops.cast(right, confidence.dtype)[:, None]
            confidence = _numerics.largest(confidence, -1, keepdims=True)
        if self.binning == "equal_width":
            gaps = weighted((event - confidence)[:, 0], samples.weights)
            edges = ops.convert_to_tensor(
                np.arange(1, self.num_bins) / self.num_bins,
                dtype=self.state_dtype,
            )
            bins = ops.sum(ops.cast(confidence > edges, "int32"), axis=-1)
            self.gaps.assign_add(segment_sum(gaps, bins, self.num_bins))
            self.weight.assign_add(ops.sum(samples.weights))
        else:
            rows = ops.concatenate([confidence, event], axis=-1)
            self.buffer.keep(rows, samples.weights)

    def result(self) -> Any:
        if self.binning == "equal_width":
            gap = ops.sum(ops.abs(self.gaps))
            return self.output(quotient(gap, self.weight, self.weight))
        rows = ops.convert_to_tensor(self.buffer.rows)
        weights = ops.convert_to_tensor(self.buffer.weights)
        columns = ops.transpose(rows)
        pairs = ops.reshape(columns, (2, -1, rows.shape[0]))
        errors = ops.map(
            lambda pair: _equal_mass(pair[0], pair[1], weights, self.num_bins),
            ops.transpose(pairs, (1, 0, 2)),
        )
        return self.output(self.buffer.or_nan(ops.mean(errors)))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "num_bins": self.num_bins,
            "binning": self.binning,
            "capacity": self.capacity,
        }


def _equal_mass(confidence: Any, event: Any, weights: Any, bins: int) -> Any:
    """Returns the error of `(samples,)` confidences in bins of equal mass."""
    total = ops.sum(weights)
    below, _ = weight_around(confidence, weights)
    # Products, not shares: for counts they are exact at the edges.
    edges = total * ops.arange(1, bins, dtype=weights.dtype)
    reached = ops.expand_dims(below * bins, 1) >= edges
    numbers = ops.sum(ops.cast(reached, "int32"), axis=1)
    gaps = segment_sum(weights * (event - confidence), numbers, bins)
    return quotient(ops.sum(ops.abs(gaps)), total, total)


@component(since="0.1")
class BrierScore(MeanMetric):
    """Averages the squared errors of probabilities.

    Use it to judge probabilities, calibration and sharpness at once: it is
    smallest for the true probabilities. For one sample of class c it is

        sum over classes k of (p_k - [k = c])^2

    in [0, 2], halved if `scale_by_half`, which for two classes leaves the
    squared error of the probability of one of them. The numbers are those of
    `sklearn.metrics.brier_score_loss`.

    Args:
        scale_by_half: Whether to halve the sum, into [0, 1]. `"auto"` halves
            for two classes, as is usual for them, and leaves more as in
            Brier's paper.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: `(batch, ...)`, or with a last axis of length 1, integers in
            `[0, classes)`; or `(batch, ..., classes)`, one-hot.
        y_pred: `(batch, ..., classes)`, float. Probabilities; or
            `(batch, ..., 1)`, those of class 1 of two.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        A scalar in [0, 2], or in [0, 1] if halved. 0 before any data. NaN if
        a prediction was NaN, or, in compiled code, if a label is no class or
        a probability outside [0, 1].

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class
            or a probability outside [0, 1].

    Examples:
        >>> metric = BrierScore()
        >>> metric.update_state([1, 0], np.array([0.75, 0.5]))
        >>> float(metric.result())  # (0.25^2 + 0.5^2) / 2
        0.15625

    Reference:
        Brier, 1950, [Verification of forecasts expressed in terms of
        probability](https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2).
    """

    _direction = "down"

    def __init__(
        self,
        scale_by_half: bool | str = "auto",
        name: str = "brier_score",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        _validation.one_of(
            "scale_by_half", scale_by_half, (True, False, "auto")
        )
        self.scale_by_half = scale_by_half

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        samples = classified(
            self, y_true, y_pred, sample_weight, probabilities=True
        )
        errors = samples.probabilities() - samples.one_hot()
        halved = self.scale_by_half
        if halved == "auto":
            halved = samples.num_classes == 2
        scale = 0.5 if halved else 1.0
        score = scale * ops.sum(ops.square(errors), axis=-1)
        self.add(score, samples.weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale_by_half": self.scale_by_half}
