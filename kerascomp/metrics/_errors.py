"""Shares of what was predicted wrong."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.metrics._base import MeanMetric
from kerascomp.metrics._classes import classified, labelled

ops = keras.ops


@component(since="0.1")
class ZeroOneLoss(MeanMetric):
    """Counts the share of samples that are not predicted right.

    Use it where a sample is right or wrong as a whole: for classes it is 1
    minus accuracy, for several labels a sample is wrong if any of its labels
    is (1 minus the exact match ratio). The numbers are those of
    `sklearn.metrics.zero_one_loss`.

    Args:
        multi_label: Whether samples have several yes-or-no labels. Otherwise
            one class.
        threshold: Above which a score predicts a label, or a single score
            class 1. 0 for logits. Unused with one score a class.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: `(batch, ...)`, or with a last axis of length 1, integers in
            `[0, classes)`; or `(batch, ..., classes)`, one-hot. If
            `multi_label`, `(batch, ..., labels)`, 0 or 1.
        y_pred: `(batch, ..., classes)`, float. Probabilities or logits, of
            which the largest is the prediction; or `(batch, ..., 1)`, those of
            class 1 of two. If `multi_label`, `(batch, ..., labels)`.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        A scalar in [0, 1]. 0 before any data. NaN if a prediction was NaN,
        or, in compiled code, a label is out of range.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class.

    Examples:
        >>> y_true = np.array([[1, 0, 1], [0, 1, 0]])
        >>> y_pred = np.array([[0.9, 0.2, 0.3], [0.1, 0.8, 0.4]])
        >>> metric = ZeroOneLoss(multi_label=True)
        >>> metric.update_state(y_true, y_pred)
        >>> float(metric.result())  # The first sample misses its last label.
        0.5

    Reference:
        Dembczynski et al., 2012, [On label dependence and loss minimization in
        multi-label classification](https://doi.org/10.1007/s10994-012-5285-8),
        *subset 0/1 loss*.
    """

    _direction = "down"

    def __init__(
        self,
        multi_label: bool = False,
        threshold: float = 0.5,
        name: str = "zero_one_loss",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        _validation.in_interval("threshold", threshold, "(-inf, inf)")
        self.multi_label = multi_label
        self.threshold = threshold

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        if self.multi_label:
            rows = labelled(self, y_true, y_pred, sample_weight, self.threshold)
            wrong = ops.any(rows.labels != rows.predicted, axis=-1)
            self.add(self.tensor(wrong), rows.weights)
        else:
            samples = classified(self, y_true, y_pred, sample_weight)
            wrong = samples.labels != samples.predicted(self.threshold)
            self.add(self.tensor(wrong), samples.weights)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "multi_label": self.multi_label,
            "threshold": self.threshold,
        }


@component(since="0.1")
class HammingLoss(MeanMetric):
    """Counts the share of labels that are predicted wrong.

    Use it for samples with several yes-or-no labels, where one wrong label of
    ten costs a tenth. It is `sklearn.metrics.hamming_loss` of label matrices,
    and 1 minus `keras.metrics.BinaryAccuracy`, but for sample weights, which
    may be `(batch, 1)`. For exclusive classes both libraries' Hamming loss is
    the share of wrong samples: take `ZeroOneLoss`.

    Args:
        threshold: Above which a score predicts a label. 0 for logits.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`.

    Call arguments:
        y_true: `(batch, ..., labels)`, 0 or 1.
        y_pred: `(batch, ..., labels)`, float. Probabilities or logits.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        A scalar in [0, 1]. 0 before any data. NaN if a prediction was NaN,
        or, in compiled code, a label neither 0 nor 1.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is neither 0
            nor 1.

    Examples:
        >>> metric = HammingLoss()
        >>> metric.update_state(
        ...     [[1, 0], [0, 1]], np.array([[0.9, 0.2], [0.7, 0.8]])
        ... )
        >>> float(metric.result())  # One of four.
        0.25

    Reference:
        Schapire and Singer, 2000,
        [BoosTexter](https://doi.org/10.1023/A:1007649029923).
    """

    _direction = "down"

    def __init__(
        self,
        threshold: float = 0.5,
        name: str = "hamming_loss",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        _validation.in_interval("threshold", threshold, "(-inf, inf)")
        self.threshold = threshold

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        rows = labelled(self, y_true, y_pred, sample_weight, self.threshold)
        wrong = self.tensor(rows.labels != rows.predicted)
        self.add(ops.mean(wrong, axis=-1), rows.weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}
