"""Losses round another loss."""

from typing import Any

from kerascomp import _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses import _targets
from kerascomp.losses._base import (
    Reduced,
    Wrapper,
    require_floats,
    weight_of_each,
)

ops = keras.ops


@component(since="0.1")
class ConfidencePenalty(Wrapper):
    """Punishes predictions for being certain, whatever the loss.

    Use it against overconfident classifiers, in place of label smoothing: it
    lets the model choose over which classes to spread its doubt. With
    `beta=0` it is the wrapped loss.

    With H = -sum(p log p) the entropy of the predicted probabilities, the loss
    of one sample is

        loss - beta H                      without a threshold
        loss + beta max(0, threshold - H)  with one

    Without a threshold it may be negative.

    Args:
        loss: A loss of class probabilities or logits with a value for each
            sample, as `model.compile` takes it. Its reduction is ignored.
        beta: Strength of the penalty, at least 0.
        threshold: Entropy from which on nothing is punished, above 0, in
            nats. None for no threshold.
        from_logits: Whether `y_pred` holds logits. Otherwise probabilities.
            Must be what the wrapped loss says.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: What the wrapped loss takes.
        y_pred: `(batch, ..., classes)`, float. Logits or probabilities.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats.

    Raises:
        ValueError: If an argument is out of range, the wrapped loss has one
            value for the whole batch, leaves out a class or has another
            `from_logits`, or probabilities lie outside [0, 1].

    Examples:
        >>> inner = keras.losses.SparseCategoricalCrossentropy()
        >>> loss = ConfidencePenalty(inner, beta=0.5)
        >>> value = loss(np.array([1]), np.array([[0.5, 0.5]]))
        >>> round(float(value), 4)  # log(2) - 0.5 * log(2)
        0.3466

    Reference:
        Pereyra et al., 2017, [Regularizing neural networks by penalizing
        confident output distributions](https://arxiv.org/abs/1701.06548),
        section 3, where the term of the threshold has the other sign: a
        misprint, which would reward confidence.
    """

    def __init__(
        self,
        loss: Any,
        beta: float = 0.1,
        threshold: float | None = None,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "confidence_penalty",
        dtype: Any = None,
    ):
        super().__init__(loss, reduction, name, dtype)
        _validation.in_interval("beta", beta, "[0, inf)")
        if threshold is not None:
            _validation.in_interval("threshold", threshold, "(0, inf)")
        inner = getattr(self.loss, "from_logits", from_logits)
        if inner != from_logits:
            raise ValueError(
                "`from_logits` must be that of the wrapped loss. Received: "
                f"from_logits={from_logits}, loss.from_logits={inner}"
            )
        self.beta = beta
        self.threshold = threshold
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if not self.from_logits:
            _targets.require_probabilities(y_pred)
        values = self.values(y_true, y_pred)
        logs = _numerics.log_probabilities(y_pred, self.from_logits)
        entropy = -ops.sum(ops.exp(logs) * logs, axis=-1)
        if self.threshold is None:
            return values - self.beta * entropy
        return values + self.beta * ops.relu(self.threshold - entropy)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta": self.beta,
            "threshold": self.threshold,
            "from_logits": self.from_logits,
        }


@component(since="0.1")
class SequenceLoss(Wrapper):
    """Averages the losses of tokens over sequences of unequal length.

    Use it for translation and tagging, where sequences are padded, and where
    it matters whether a long sequence counts as much as a short one or more.
    Padding is what the mask of `y_pred` leaves out, as of an embedding with
    `mask_zero`, and what has the label `ignore_class`.

    With l the loss of a token, w its weight, n the number of tokens of a
    sequence and B the number of sequences that have any, the reduction
    `"sum_over_batch_size"` is

        sum(w l) / sum(n)       average="tokens"
        sum(sum(w l) / n) / B   average="sequences"
        sum(w l) / batch size   average="batch"

    The first counts tokens alike, the second sequences; the third is the mean
    negative log-likelihood of whole sequences. Padding does not count; tokens
    of weight 0 do. With the reduction `"mean_with_sample_weight"` tokens count
    by their weights, which is TensorFlow Addons' `sequence_loss` with
    `average_across_timesteps` and, for `"tokens"`, `average_across_batch`.
    The reductions `"sum"` and None leave the tokens' losses as they are, and
    those of padding 0.

    Args:
        loss: A loss with a value for each token, as `model.compile` takes it.
            Its reduction is ignored.
        average: `"tokens"`, `"sequences"` or `"batch"`.
        ignore_class: Integer label of padding, or None.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, time)` or `(batch, time, 1)`, integers; whatever the
            wrapped loss takes if there is no `ignore_class`.
        y_pred: `(batch, time, classes)`, float.
        sample_weight: `(batch,)`, `(batch, 1)` or `(batch, time)`.

    Returns:
        `(batch, time)` before reduction, in the loss' dtype.

    Raises:
        ValueError: If `average` is another word, `ignore_class` is no integer,
            or the wrapped loss has no value for each token.

    Examples:
        >>> inner = keras.losses.SparseCategoricalCrossentropy()
        >>> y_true = np.array([[0, 0, 0], [0, -1, -1]])
        >>> # Losses of log 2 for three tokens, and of log 8 for one.
        >>> y_pred = np.array([[[0.5, 0.5]] * 3, [[0.125, 0.875]] * 3])
        >>> for average in ("tokens", "sequences", "batch"):
        ...     loss = SequenceLoss(inner, average, ignore_class=-1)
        ...     round(float(loss(y_true, y_pred) / np.log(2)), 4)
        1.5
        2.0
        3.0

    Reference:
        Sutskever et al., 2014, [Sequence to sequence
        learning](https://arxiv.org/abs/1409.3215), section 3.2, which is
        `average="batch"`.
    """

    def __init__(
        self,
        loss: Any,
        average: str = "tokens",
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "sequence_loss",
        dtype: Any = None,
    ):
        super().__init__(loss, reduction, name, dtype)
        _validation.one_of("average", average, ("tokens", "sequences", "batch"))
        if ignore_class is not None and (
            isinstance(ignore_class, bool) or not isinstance(ignore_class, int)
        ):
            raise ValueError(
                "`ignore_class` must be an integer or None. "
                f"Received: ignore_class={ignore_class!r}"
            )
        self.average = average
        self.ignore_class = ignore_class

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        require_floats(y_pred)
        sample_weight = weight_of_each(sample_weight, y_pred, self.dtype)
        if self.reduction in ("sum", "none", None):
            return super().__call__(y_true, y_pred, sample_weight)
        by_weight = self.reduction == "mean_with_sample_weight"
        tokens = Reduced(self._tokens, None, self.dtype)(
            y_true, y_pred, sample_weight if by_weight else None
        )
        values = Reduced(self.call, None, self.dtype)(
            y_true, y_pred, sample_weight
        )
        mean = Reduced(ops.multiply, "sum_over_batch_size", self.dtype)
        return mean(self._factor(tokens), values)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if self.ignore_class is None:
            values = self.values(y_true, y_pred)
        else:
            is_token = y_true != self.ignore_class
            values = self.values(
                ops.where(is_token, y_true, ops.zeros_like(y_true)), y_pred
            )
            is_token = ops.reshape(is_token, ops.shape(values))
            values = ops.where(is_token, values, ops.zeros_like(values))
        if len(values.shape) < 2:
            raise ValueError(
                "`loss` must have a value for each token, (batch, time). "
                f"Received: {tuple(values.shape)} from loss={self.loss!r}"
            )
        return values

    def _tokens(self, y_true: Any, y_pred: Any) -> Any:
        """Ones for tokens, zeros for padding."""
        ones = ops.ones_like(y_pred[..., 0])
        if self.ignore_class is None:
            return ones
        is_token = ops.cast(y_true != self.ignore_class, ones.dtype)
        return ops.reshape(is_token, ops.shape(ones))

    def _factor(self, tokens: Any) -> Any:
        """What makes a plain mean over the batch the average asked for."""
        ones = ops.ones_like(tokens)
        axes = tuple(range(1, len(tokens.shape)))
        places = ops.sum(ones, axis=axes, keepdims=True)
        if self.average == "batch":
            return ones * places
        if self.average == "tokens":
            return ones * ops.divide_no_nan(ops.sum(ones), ops.sum(tokens))
        length = ops.sum(tokens, axis=axes, keepdims=True)
        is_any = ops.cast(length > 0, ones.dtype)
        share = ops.divide_no_nan(
            ops.sum(ops.ones_like(is_any)), ops.sum(is_any)
        )
        return ones * share * ops.divide_no_nan(places, length)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "average": self.average,
            "ignore_class": self.ignore_class,
        }
