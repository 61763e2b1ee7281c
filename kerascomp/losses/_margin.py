"""Losses of scores that must stay apart."""

from typing import Any

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses import _targets
from kerascomp.losses._base import Loss

ops = keras.ops


@component(since="0.1")
class MulticlassHinge(Loss):
    """Asks that the right class outscores every other one by a margin.

    Use it for a linear classifier with the objective of a support vector
    machine: samples that are right by the margin cost nothing. Scores come
    from a linear layer, without softmax. `keras.losses.CategoricalHinge` is
    `"crammer_singer"` unless all wrong scores are below 0: it takes the
    largest of them for 0 then.

    With s_y the score of the right class, the loss of one sample is

        sum over j != y of max(0, s_j - s_y + margin)^power   weston_watkins
        max over j != y of max(0, s_j - s_y + margin)^power   crammer_singer

    Where a score lies exactly on the margin, the gradient is 0.

    Args:
        margin: Distance that costs nothing, at least 0. In units of the
            scores.
        variant: `"weston_watkins"` sums over the wrong classes,
            `"crammer_singer"` takes the worst of them.
        power: Exponent, at least 1. 2 for the squared hinge.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integers in `[0, classes)`, `(batch, ...)` or
            `(batch, ..., 1)`; or one-hot labels, `(batch, ..., classes)`.
        y_pred: `(batch, ..., classes)`, float. Scores.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If an argument is out of range, or labels and shapes of a
            call do not match.

    Examples:
        >>> loss = MulticlassHinge()
        >>> # max(0, 5.1 - 3.2 + 1) + max(0, -1.7 - 3.2 + 1) = 2.9 + 0
        >>> round(float(loss(np.array([0]), np.array([[3.2, 5.1, -1.7]]))), 4)
        2.9

    Reference:
        Weston & Watkins, 1999, [Support vector machines for multi-class
        pattern recognition](https://www.esann.org/sites/default/files/proceedings/legacy/es1999-461.pdf),
        where the margin is 2; Crammer & Singer, 2001, [On the algorithmic
        implementation of multiclass kernel-based vector
        machines](https://www.jmlr.org/papers/v2/crammer01a.html). PyTorch's
        `MultiMarginLoss` is the first, divided by the number of classes.
    """

    def __init__(
        self,
        margin: float = 1.0,
        variant: str = "weston_watkins",
        power: float = 1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "multiclass_hinge",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("margin", margin, "[0, inf)")
        _validation.one_of(
            "variant", variant, ("weston_watkins", "crammer_singer")
        )
        _validation.in_interval("power", power, "[1, inf)")
        self.margin = margin
        self.variant = variant
        self.power = power

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _targets.classes_last(y_true, y_pred)
        right = ops.expand_dims(_targets.at_class(y_true, y_pred), -1)
        is_wrong = ops.logical_not(_targets.is_class(y_true, y_pred))
        # Not `where`, which takes longer; a rectified score is not infinite.
        element = ops.relu(y_pred - right + self.margin)
        element = element * ops.cast(is_wrong, element.dtype)
        if self.power != 1:
            element = ops.power(element, self.power)
        if self.variant == "crammer_singer":
            return ops.max(element, axis=-1)
        return ops.sum(element, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "variant": self.variant,
            "power": self.power,
        }


@component(since="0.1")
class Perceptron(Loss):
    """Moves the decision boundary for misclassified samples alone.

    Use it to train Rosenblatt's perceptron: with a linear output, a learning
    rate of 1 and one sample a batch, gradient descent is the perceptron
    algorithm. It equals `keras.losses.Hinge` with a margin of 0. Of several
    classes, the perceptron is
    `MulticlassHinge(margin=0, variant="crammer_singer")`.

    The loss of one output is

        max(0, -y_true * y_pred)

    and the loss of one sample is the mean over its last axis. An output of
    exactly 0 counts as wrong, with gradient -y_true, so that weights which
    start at 0 are trained.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ..., outputs)`, any dtype; -1 or 0 for one class, 1
            for the other. The last axis may be left out if there is one
            output.
        y_pred: `(batch, ..., outputs)`, float. Scores.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If the shapes of a call do not match.

    Examples:
        >>> loss = Perceptron()
        >>> # Right by 3, and wrong by 2: (0 + 2) / 2.
        >>> float(loss(np.array([[1, -1]]), np.array([[3.0, 2.0]])))
        1.0

    Reference:
        Rosenblatt, 1958, [The
        perceptron](https://doi.org/10.1037/h0042519); as a loss, Bishop, 2006,
        Pattern recognition and machine learning, equation 4.54.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "perceptron",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _numerics.same_rank(y_true, y_pred)
        ones = ops.ones_like(y_pred)
        side = ops.where(y_true > 0, ones, -ones)
        # Not `relu`: a score of 0 must have a gradient, to leave it.
        slope = ops.where(side * y_pred > 0, ops.zeros_like(side), -side)
        return ops.mean(slope * y_pred, axis=-1)
