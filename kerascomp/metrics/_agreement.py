"""Numbers read off the confusion matrix."""

from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.metrics._base import quotient
from kerascomp.metrics._confusion import ConfusionMetric

ops = keras.ops


@component(since="0.1")
class MatthewsCorrelation(ConfusionMetric):
    """Correlates predicted with true classes, fair to rare classes.

    Use it where classes are imbalanced: always predicting the frequent class
    scores 0, whatever its share. 1 is perfect, 0 no better than chance. For
    two classes it is the correlation of two 0-1 variables,

        (tp tn - fp fn) / sqrt((tp+fp) (tp+fn) (tn+fp) (tn+fn))

    and for K classes the sum over classes of (tp tn - fp fn), over

        sqrt(sum over k of t_k (n - t_k)) * sqrt(sum over k of p_k (n - p_k))

    with n samples, t_k of class k, and p_k predicted as class k. It is 0 if
    all labels or all predictions are one class, as in
    `sklearn.metrics.matthews_corrcoef`.

    Args:
        num_classes: Number of classes, at least 2.
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
        A scalar in [-1, 1]. 0 before any data. NaN if a prediction was NaN,
        or, in compiled code, a label no class.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class.

    Examples:
        >>> metric = MatthewsCorrelation(num_classes=2)
        >>> metric.update_state([1, 1, 1, 0], np.array([0.9, 0.8, 0.3, 0.1]))
        >>> # tp 2, fn 1, tn 1: 2 / sqrt(2 * 3 * 1 * 2)
        >>> round(float(metric.result()), 4)
        0.5774

    Reference:
        Gorodkin, 2004, [Comparing two K-category
        assignments](https://doi.org/10.1016/j.compbiolchem.2004.09.006), *R_K*.
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        threshold: float = 0.5,
        name: str = "matthews_correlation",
        dtype: Any = None,
    ):
        super().__init__(num_classes, threshold, name, dtype)

    def of_matrix(self, matrix: Any) -> Any:
        total = ops.sum(matrix)
        true, predicted = ops.sum(matrix, axis=1), ops.sum(matrix, axis=0)
        hits = ops.diagonal(matrix)
        misses, alarms = true - hits, predicted - hits
        others = total - true - alarms
        # Shares, because products of counts overflow. Not from n * hits - ...,
        # which cancels where one class has nearly all samples.
        shares = [
            ops.divide_no_nan(counts, total)
            for counts in (hits, misses, alarms, others)
        ]
        tp, fn, fp, tn = shares
        covariance = ops.sum(tp * tn - fp * fn)
        deviations = [
            ops.sqrt(ops.sum(a * b))
            for a, b in ((tp + fn, fp + tn), (tp + fp, fn + tn))
        ]
        value = ops.divide_no_nan(covariance, deviations[0] * deviations[1])
        return ops.clip(value, -1.0, 1.0)


@component(since="0.1")
class CohenKappa(ConfusionMetric):
    """Measures agreement beyond what chance would give.

    Use it for labels of two raters, and with `"quadratic"` weights for ordinal
    classes such as grades, where a miss by two counts four times a miss by
    one. 1 is perfect, 0 what independent raters reach. With the matrix C of
    counts, E of the counts expected from its margins, and penalties w,

        1 - (sum of w_ij C_ij) / (sum of w_ij E_ij)

    It is NaN if labels and predictions are all of one class, because chance
    agrees perfectly, too: the value of `sklearn.metrics.cohen_kappa_score`,
    whose other numbers it has with `labels=range(num_classes)`. Without
    `labels`, scikit-learn closes the gaps that unused classes leave between
    ordinal ones.

    Args:
        num_classes: Number of classes, at least 2.
        weights: Penalty of class i taken for class j: None for 1, `"linear"`
            for |i - j|, `"quadratic"` for (i - j)^2.
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
        A scalar, at most 1. 0 before any data. NaN if undefined (see above),
        if a prediction was NaN, or, in compiled code, a label no class.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class.

    Examples:
        >>> metric = CohenKappa(num_classes=2)
        >>> metric.update_state([1, 1, 0, 0], np.array([0.9, 0.8, 0.7, 0.1]))
        >>> # Disagreement 1/4, expected 2/4 * 1/4 + 2/4 * 3/4 = 1/2.
        >>> float(metric.result())
        0.5

    Reference:
        Cohen, 1968, [Weighted kappa](https://doi.org/10.1037/h0026256).
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        weights: str | None = None,
        threshold: float = 0.5,
        name: str = "cohen_kappa",
        dtype: Any = None,
    ):
        super().__init__(num_classes, threshold, name, dtype)
        _validation.one_of("weights", weights, (None, "linear", "quadratic"))
        self.weights = weights

    def of_matrix(self, matrix: Any) -> Any:
        penalties = self._penalties(matrix.dtype)
        total = ops.sum(matrix)
        true = ops.divide_no_nan(ops.sum(matrix, axis=1), total)
        predicted = ops.divide_no_nan(ops.sum(matrix, axis=0), total)
        expected = ops.expand_dims(true, 1) * predicted
        observed = ops.divide_no_nan(matrix, total)
        disagreement = quotient(
            ops.sum(penalties * observed), ops.sum(penalties * expected), total
        )
        return ops.where(ops.equal(total, 0), 0.0, 1 - disagreement)

    def _penalties(self, dtype: Any) -> Any:
        classes = np.arange(self.num_classes)
        distances = np.abs(classes[:, None] - classes)
        power = {None: 0, "linear": 1, "quadratic": 2}[self.weights]
        penalties = np.where(distances > 0, distances**power, 0)
        return ops.convert_to_tensor(penalties, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.weights}


@component(since="0.1")
class BalancedAccuracy(ConfusionMetric):
    """Averages the recall of the classes, so that each counts alike.

    Use it where classes are imbalanced: always predicting the frequent one of
    two classes scores 1/2, whatever its share. On balanced classes it is
    accuracy. Classes that do not occur among the labels are left out, as in
    `sklearn.metrics.balanced_accuracy_score`.

    Args:
        num_classes: Number of classes, at least 2.
        adjusted: Whether to rescale so that chance, 1 over the number of
            classes that occur, becomes 0 and perfection stays 1. NaN if only
            one class occurs, as in scikit-learn.
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
        A scalar in [0, 1], or in [-1, 1] if adjusted. 0 before any data. NaN
        if a prediction was NaN, or, in compiled code, a label no class.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class.

    Examples:
        >>> metric = BalancedAccuracy(num_classes=2)
        >>> metric.update_state([1, 1, 1, 0], np.array([0.9, 0.8, 0.7, 0.6]))
        >>> float(metric.result())  # (3/3 + 0/1) / 2
        0.5

    Reference:
        Brodersen et al., 2010, [The balanced accuracy and its posterior
        distribution](https://doi.org/10.1109/ICPR.2010.764).
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        adjusted: bool = False,
        threshold: float = 0.5,
        name: str = "balanced_accuracy",
        dtype: Any = None,
    ):
        super().__init__(num_classes, threshold, name, dtype)
        self.adjusted = adjusted

    def of_matrix(self, matrix: Any) -> Any:
        recalls, occurs = _recalls(matrix)
        classes = ops.sum(occurs)
        score = quotient(ops.sum(recalls * occurs), classes, classes)
        if not self.adjusted:
            return score
        chance = ops.divide_no_nan(ops.ones_like(classes), classes)
        return quotient(score - chance, 1 - chance, classes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "adjusted": self.adjusted}


@component(since="0.1")
class GeometricMeanScore(ConfusionMetric):
    """Multiplies the recalls of the classes, so that none may be given up.

    Use it where classes are imbalanced and a model that never finds one of
    them is useless: it scores 0. For K classes it is the K-th root of the
    product of their recalls, for two the root of sensitivity times
    specificity. Classes that do not occur among the labels are left out.
    imbalanced-learn's `geometric_mean_score` gives classes that are predicted
    only a recall of 0, and is otherwise the same.

    Args:
        num_classes: Number of classes, at least 2.
        correction: Recall of a class that is never found, in [0, 1]. Above 0,
            one lost class does not hide the others.
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
        A scalar in [0, 1]. 0 before any data. NaN if a prediction was NaN,
        or, in compiled code, a label no class.

    Raises:
        ValueError: If an argument is out of range, shapes do not match,
            predictions are integers, or, in eager code, a label is no class.

    Examples:
        >>> metric = GeometricMeanScore(num_classes=2)
        >>> scores = np.array([0.9, 0.3, 0.2, 0.1, 0.7])
        >>> metric.update_state([1, 1, 1, 1, 0], 1 - scores)
        >>> # Recalls 3/4 and 0/1 with scores, 3/4 and 1/1 with 1 - scores.
        >>> round(float(metric.result()), 4)  # sqrt(3/4 * 1)
        0.866

    Reference:
        Kubat and Matwin, 1997, [Addressing the curse of imbalanced training
        sets](https://dblp.org/rec/conf/icml/KubatM97.html); the
        K-th root follows Sun et al., 2006, [Boosting for learning multiple
        classes](https://doi.org/10.1109/ICDM.2006.29).
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: int,
        correction: float = 0.0,
        threshold: float = 0.5,
        name: str = "geometric_mean_score",
        dtype: Any = None,
    ):
        super().__init__(num_classes, threshold, name, dtype)
        _validation.in_interval("correction", correction, "[0, 1]")
        self.correction = correction

    def of_matrix(self, matrix: Any) -> Any:
        recalls, occurs = _recalls(matrix)
        recalls = ops.where(recalls == 0, self.correction, recalls)
        classes = ops.sum(occurs)
        # The logarithm of 0 is what it should be here: its exponential is 0.
        logarithms = ops.log(ops.where(occurs == 0, 1.0, recalls))
        mean = quotient(ops.sum(logarithms), classes, classes)
        return ops.where(ops.equal(classes, 0), 0.0, ops.exp(mean))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "correction": self.correction}


def _recalls(matrix: Any) -> tuple[Any, Any]:
    """Returns the classes' recalls, and 1 for classes that occur, else 0."""
    true = ops.sum(matrix, axis=1)
    recalls = ops.divide_no_nan(ops.diagonal(matrix), true)
    return recalls, ops.cast(true != 0, matrix.dtype)
