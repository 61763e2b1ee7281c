"""Losses for classes that have an order."""

from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses import _targets
from kerascomp.losses._base import Loss, Reduced, require_floats, weight_of_each

ops = keras.ops


@component(since="0.1")
class WeightedKappa(Loss):
    """Trains for agreement that counts how far off a class is.

    Use it for grades, where two classes off is worse than one, and where
    Cohen's kappa judges the model. Kappa belongs to a set of samples: batches
    should be large, and without reduction there is still one value a batch.

    With costs c_ij of |i - j| or its square, targets q and probabilities p,
    the loss of a batch of n samples is

        log(observed / expected + epsilon)

        observed = sum over samples of sum over i, j of c_ij q_i p_j
        expected = sum over i, j of c_ij sum(q_i) sum(p_j) / n

    where observed / expected is 1 - kappa, and 0 if both are.

    Args:
        weights: `"linear"` or `"quadratic"` costs.
        from_logits: Whether `y_pred` holds logits. Otherwise probabilities.
        epsilon: Keeps the logarithm finite at perfect agreement, above 0.
        reduction: As in `keras.losses.Loss`, of the one value.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`. Sums over the batch are float32 at
            least.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot labels, `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`, float. Logits or probabilities.
        sample_weight: `(batch, ...)` or `(batch, 1)`. Counts a sample so many
            times.

    Returns:
        `(1,)` before reduction, in the loss' dtype. At least log(epsilon);
        below 0 for more agreement than by chance.

    Raises:
        ValueError: If an argument is out of range, or labels, probabilities
            or shapes of a call do not fit.

    Examples:
        >>> loss = WeightedKappa(weights="linear", epsilon=1e-9)
        >>> y_true = np.array([0, 0, 2, 2])
        >>> y_pred = np.eye(3)[[0, 1, 2, 2]]
        >>> # Observed 1; expected (2 * (1 + 2 * 2) + 2 * (2 + 1)) / 4 = 4.
        >>> round(float(loss(y_true, y_pred)), 4)  # log(1 / 4)
        -1.3863

    Reference:
        de la Torre et al., 2018, [Weighted kappa loss function for multi-class
        classification of ordinal
        data](https://doi.org/10.1016/j.patrec.2017.05.018).
        TensorFlow Addons' `WeightedKappaLoss` is the same for probabilities
        and one-hot labels.
    """

    def __init__(
        self,
        weights: str = "quadratic",
        from_logits: bool = False,
        epsilon: float = 1e-6,
        reduction: str | None = "sum_over_batch_size",
        name: str = "weighted_kappa",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.one_of("weights", weights, ("linear", "quadratic"))
        _validation.in_interval("epsilon", epsilon, "(0, inf)")
        self.weights = weights
        self.from_logits = from_logits
        self.epsilon = epsilon

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        require_floats(y_pred)
        # Not `super()`: weights and masks belong into the sums.
        sample_weight = weight_of_each(sample_weight, y_pred, self.dtype)
        counts = Reduced(_ones, None, self.dtype)(y_true, y_pred, sample_weight)
        y_true, y_pred = (
            ops.convert_to_tensor(each, self.dtype) for each in (y_true, y_pred)
        )
        value = ops.expand_dims(self._of_batch(y_true, y_pred, counts), 0)
        return Reduced(_second, self.reduction, self.dtype)(value, value)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self._of_batch(y_true, y_pred, _ones(y_true, y_pred))

    def _of_batch(self, y_true: Any, y_pred: Any, counts: Any) -> Any:
        y_true, y_pred = _targets.classes_last(y_true, y_pred)
        classes = y_pred.shape[-1]
        exact = "float64" if self.dtype == "float64" else "float32"
        if not _targets.is_one_hot(y_true, y_pred):
            y_true = ops.one_hot(y_true, classes, dtype=exact)
        q, p = (
            ops.cast(ops.reshape(each, (-1, classes)), exact)
            for each in (y_true, y_pred)
        )
        if self.from_logits:
            p = ops.softmax(p, axis=-1)
        else:
            _targets.require_probabilities(p)
        counts = ops.cast(ops.reshape(counts, (-1, 1)), exact)
        costs = ops.convert_to_tensor(self._costs(classes), exact)
        expected_costs = ops.matmul(q * counts, costs)
        observed = ops.sum(expected_costs * p)
        marginal = ops.sum(expected_costs, axis=0) * ops.sum(p * counts, axis=0)
        expected = _over(ops.sum(marginal), ops.sum(counts))
        value = ops.log(_over(observed, expected) + self.epsilon)
        return ops.cast(value, self.dtype)

    def _costs(self, classes: int) -> np.ndarray:
        power = {"linear": 1, "quadratic": 2}[self.weights]
        place = np.arange(classes) / (classes - 1)
        return np.abs(place[:, None] - place) ** power

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weights": self.weights,
            "from_logits": self.from_logits,
            "epsilon": self.epsilon,
        }


def _ones(y_true: Any, y_pred: Any) -> Any:  # noqa: ARG001
    return ops.ones_like(y_pred[..., 0])


def _second(y_true: Any, y_pred: Any) -> Any:  # noqa: ARG001
    return y_pred


def _over(numerator: Any, denominator: Any) -> Any:
    """Divides; 0 over 0 is 0, with a finite gradient."""
    safe = ops.where(denominator == 0, ops.ones_like(denominator), denominator)
    return numerator / safe


@component(since="0.1")
class CORN(Loss):
    """Learns classes with an order as a chain of yes-or-no questions.

    Use it for grades and ratings. For K classes the model has K - 1 logits,
    from a plain linear layer: the k-th says whether the class is above k, of
    samples for which it is not below. `corn_probabilities` of the logits
    are probabilities of the classes, which always fit together.

    The questions of a sample of class y are those with k <= y; the answer is
    yes for k < y. The sum over its questions is

        -log sigmoid(z_k) for k < y, -log(1 - sigmoid(z_y)) for k = y

    and `average="questions"`, the paper's, divides the sum over the batch by
    the number of its questions. Without reduction, the value of a sample is
    scaled so that the mean over the batch is that; `average="samples"` leaves
    the sums alone, which makes samples independent of their batch.

    Args:
        average: `"questions"` or `"samples"`.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ...)` or `(batch, ..., 1)`, integers in
            `[0, classes)`.
        y_pred: `(batch, ..., classes - 1)`, float. Logits.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats. At least
        0.

    Raises:
        ValueError: If `average` is another word, or labels or shapes of a
            call do not fit.

    Examples:
        >>> loss = CORN()
        >>> # Three questions in all, each with an even answer: log(2).
        >>> y_true, logits = np.array([0, 2]), np.zeros((2, 2))
        >>> round(float(loss(y_true, logits)), 4)
        0.6931
        >>> round(float(CORN(average="samples")(y_true, logits)), 4)  # * 3 / 2
        1.0397

    Reference:
        Shi et al., 2023, [Deep neural networks for rank-consistent ordinal
        regression based on conditional
        probabilities](https://arxiv.org/abs/2111.08851), *CORN*.
    """

    def __init__(
        self,
        average: str = "questions",
        reduction: str | None = "sum_over_batch_size",
        name: str = "corn",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.one_of("average", average, ("questions", "samples"))
        self.average = average

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels = self._labels(y_true, y_pred)
        question = ops.arange(y_pred.shape[-1], dtype=labels.dtype)
        is_yes = question < labels
        log_answer = ops.log_sigmoid(ops.where(is_yes, y_pred, -y_pred))
        is_asked = question <= labels
        losses = ops.where(is_asked, -log_answer, ops.zeros_like(y_pred))
        values = ops.sum(losses, axis=-1)
        if self.average == "samples":
            return values
        # Half precision cannot count a batch.
        asked = ops.mean(ops.sum(ops.cast(is_asked, "float32"), axis=-1))
        return values / ops.cast(asked, values.dtype)

    def _labels(self, y_true: Any, y_pred: Any) -> Any:
        """Returns `(batch, ..., 1)` integers."""
        if len(y_true.shape) == len(y_pred.shape) - 1:
            y_true = ops.expand_dims(y_true, -1)
        shapes = tuple(y_true.shape), tuple(y_pred.shape)
        if len(shapes[0]) != len(shapes[1]) or shapes[0][-1] != 1:
            raise ValueError(
                "`y_true` must hold integer labels, one axis less than "
                f"`y_pred`. Received: y_true.shape={shapes[0]}, "
                f"y_pred.shape={shapes[1]}"
            )
        _targets.require_labels(y_true, y_pred.shape[-1] + 1)
        return ops.cast(y_true, "int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "average": self.average}


def corn_probabilities(y_pred: Any) -> Any:
    """Turns the logits of a model trained with `CORN` into probabilities.

    The most probable class is their `argmax`. The paper predicts the median:
    the first class with which their `cumsum` reaches 0.5.

    Args:
        y_pred: `(batch, ..., classes - 1)`, float. Logits.

    Returns:
        `(batch, ..., classes)` probabilities, in the dtype of `y_pred`.

    Examples:
        >>> # Above 0 with 1 / 2; then above 1 with 3 / 4.
        >>> p = corn_probabilities(np.array([[0.0, np.log(3)]]))
        >>> [round(float(each), 3) for each in p[0]]
        [0.5, 0.125, 0.375]

    Reference:
        Shi et al., 2023, [Deep neural networks for rank-consistent ordinal
        regression based on conditional
        probabilities](https://arxiv.org/abs/2111.08851), by the chain rule of
        probabilities.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    log_above = ops.cumsum(ops.log_sigmoid(y_pred), axis=-1)
    reached = ops.concatenate(
        [ops.ones_like(y_pred[..., :1]), ops.exp(log_above)], axis=-1
    )
    stops = ops.concatenate(
        [ops.sigmoid(-y_pred), ops.ones_like(y_pred[..., :1])], axis=-1
    )
    return reached * stops
