"""Confusion matrices."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras, segment_sum
from kerascomp._registry import component
from kerascomp.metrics._base import Metric, weighted
from kerascomp.metrics._classes import classified, labelled

ops = keras.ops

NORMALIZATIONS = (None, "true", "pred", "all")


class ConfusionMetric(Metric):
    """A number computed from the confusion matrix of the data set."""

    def __init__(
        self, num_classes: int, threshold: float, name: str, dtype: Any
    ):
        super().__init__(name, dtype)
        _validation.at_least("num_classes", num_classes, 2)
        _validation.in_interval("threshold", threshold, "(-inf, inf)")
        self.num_classes = num_classes
        self.threshold = threshold
        self.matrix = self.add_state("matrix", num_classes, num_classes)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        samples = classified(
            self, y_true, y_pred, sample_weight, self.num_classes
        )
        cells = samples.labels * self.num_classes
        cells = cells + samples.predicted(self.threshold)
        # A product of one-hot matrices would be rounded to the 11 bits that
        # GPUs multiply with.
        counts = segment_sum(samples.weights, cells, self.num_classes**2)
        # NaN, the mark of a bad sample, spreads to all cells.
        counts = counts + 0 * ops.sum(samples.weights)
        self.matrix.assign_add(ops.reshape(counts, self.matrix.shape))

    def result(self) -> Any:
        return self.output(self.of_matrix(ops.convert_to_tensor(self.matrix)))

    def of_matrix(self, matrix: Any) -> Any:
        """Returns the metric of `matrix[true class, predicted class]`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "threshold": self.threshold,
        }


@component(since="0.1")
class ConfusionMatrix(ConfusionMetric):
    """Counts how often each class is taken for each other one.

    Use it to see which classes are confused, where accuracy is one number.
    Row i, column j holds the weight of the samples of class i that were
    predicted as class j; its diagonal is what was right. The numbers are those
    of `sklearn.metrics.confusion_matrix(labels=range(num_classes))`.

    Args:
        num_classes: Number of classes, at least 2.
        normalize: None for counts; `"true"` divides each row by its sum (the
            diagonal then holds the recalls), `"pred"` each column (precision),
            `"all"` everything by the total. A sum of 0 gives 0.
        threshold: Above which a single score means class 1. 0 for logits.
            Unused with one score a class.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`. Of the result; counts are float32
            and exact up to 16.7 million samples, or float64 if this is.

    Call arguments:
        y_true: `(batch, ...)`, or with a last axis of length 1, integers in
            `[0, num_classes)`; or `(batch, ..., num_classes)`, one-hot.
        y_pred: `(batch, ..., num_classes)`, float. Probabilities or logits,
            of which the largest is the prediction; or `(batch, ..., 1)`, those
            of class 1 of two.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        `(num_classes, num_classes)`. NaN throughout if a prediction was NaN,
        or, in compiled code, a label no class.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class.

    Examples:
        >>> metric = ConfusionMatrix(num_classes=2)
        >>> metric.update_state([0, 1, 1, 1], np.array([0.2, 0.9, 0.6, 0.3]))
        >>> keras.ops.convert_to_numpy(metric.result()).tolist()
        [[1.0, 0.0], [1.0, 2.0]]

    Reference:
        Provost and Kohavi, 1998, [Glossary of
        terms](https://doi.org/10.1023/A:1017181826899), *confusion matrix*.
    """

    def __init__(
        self,
        num_classes: int,
        normalize: str | None = None,
        threshold: float = 0.5,
        name: str = "confusion_matrix",
        dtype: Any = None,
    ):
        super().__init__(num_classes, threshold, name, dtype)
        _validation.one_of("normalize", normalize, NORMALIZATIONS)
        self.normalize = normalize

    def of_matrix(self, matrix: Any) -> Any:
        if self.normalize is None:
            return matrix
        axis = {"true": 1, "pred": 0, "all": None}[self.normalize]
        total = ops.sum(matrix, axis=axis, keepdims=True)
        return ops.divide_no_nan(matrix, total)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalize": self.normalize}


@component(since="0.1")
class MultiLabelConfusionMatrix(Metric):
    """Counts the four outcomes of each label of a multi-label model.

    Use it to see which labels are missed and which are raised in vain. For
    label k, `result()[k]` is

        [[true negatives,  false positives],
         [false negatives, true positives]]

    as in `sklearn.metrics.multilabel_confusion_matrix`. One-hot labels of
    exclusive classes give each class against the rest.

    Args:
        num_labels: Number of labels, at least 1.
        threshold: Above which a score predicts a label. 0 for logits.
        name: As in `keras.metrics.Metric`.
        dtype: As in `keras.metrics.Metric`. Of the result; counts are float32
            and exact up to 16.7 million samples, or float64 if this is.

    Call arguments:
        y_true: `(batch, ..., num_labels)`, 0 or 1.
        y_pred: `(batch, ..., num_labels)`, float. Probabilities or logits.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, ...)`, at least 0.

    Returns:
        `(num_labels, 2, 2)`. NaN throughout if a prediction was NaN, or, in
        compiled code, a label neither 0 nor 1.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is neither 0
            nor 1.

    Examples:
        >>> metric = MultiLabelConfusionMatrix(num_labels=2)
        >>> metric.update_state(
        ...     [[0, 1], [1, 1]], np.array([[0.7, 0.9], [0.8, 0.1]])
        ... )
        >>> keras.ops.convert_to_numpy(metric.result()).tolist()
        [[[0.0, 1.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]]

    Reference:
        Tsoumakas et al., 2010, [Mining multi-label
        data](https://doi.org/10.1007/978-0-387-09823-4_34).
    """

    def __init__(
        self,
        num_labels: int,
        threshold: float = 0.5,
        name: str = "multi_label_confusion_matrix",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        _validation.at_least("num_labels", num_labels, 1)
        _validation.in_interval("threshold", threshold, "(-inf, inf)")
        self.num_labels = num_labels
        self.threshold = threshold
        self.counts = self.add_state("counts", num_labels, 2, 2)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        samples = labelled(self, y_true, y_pred, sample_weight, self.threshold)
        found = samples.labels.shape[-1]
        if found != self.num_labels:
            raise ValueError(
                f"The last axis of `y_true` and `y_pred` must have length "
                f"{self.num_labels}, the number of labels. Received: {found}"
            )
        weights = samples.weights[:, None]
        cells = [
            ops.sum(weighted(actual * predicted, weights), axis=0)
            for actual in (1 - samples.labels, samples.labels)
            for predicted in (1 - samples.predicted, samples.predicted)
        ]
        counts = ops.stack(cells, axis=-1)
        self.counts.assign_add(ops.reshape(counts, self.counts.shape))

    def result(self) -> Any:
        return self.output(self.counts)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "threshold": self.threshold,
        }
