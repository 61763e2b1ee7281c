"""Losses that pick the right partner or class by a softmax of similarities."""

import math
from typing import Any

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses import _targets
from kerascomp.losses._base import Loss
from kerascomp.losses._metric_learning import (
    NEVER,
    one_label,
    share_of_anchors,
)

ops = keras.ops


@component(since="0.1")
class NPairs(Loss):
    """Picks the positive of an anchor among those of the whole batch.

    Use it to learn embeddings from pairs: one batch gives each anchor as many
    negatives as there are other labels. The inner products of an anchor with
    all positives are logits; the target is spread evenly over the positives
    of the anchor's label. It equals `tfa.losses.NpairsLoss` with
    `anchors @ positives.T` for `y_pred`.

    Samples of a batch are compared with each other, so the loss depends on
    what is batched together. The value of a sample is the crossentropy of its
    anchor, and a sample weight multiplies it; its positive stays a choice of
    the other anchors, even with weight 0. All reductions are Keras' own.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, the pairs' labels, told apart in
            the loss' dtype: in float32 up to 2^24.
        y_pred: `(batch, 2, features)`, float. Embeddings of the anchor and
            of its positive.

    Returns:
        `(batch,)` before reduction, in the loss' dtype, in nats. At least 0.

    Raises:
        ValueError: If the shapes of a call do not match.

    Examples:
        >>> loss = NPairs()
        >>> pairs = np.array([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0]] * 2])
        >>> # Logits [2, 0] and [0, 1], targets 0 and 1:
        >>> # (log(1 + exp(-2)) + log(1 + exp(-1))) / 2.
        >>> round(float(loss(np.array([5, 6]), pairs)), 4)
        0.2201

    Reference:
        Sohn, 2016, [Improved deep metric learning with multi-class N-pair
        loss objective](https://papers.nips.cc/paper/6200), equation 7,
        without the penalty on the length of the embeddings, and with labels
        that may occur more than once.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "n_pairs",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        _require_views(y_pred, 2)
        labels = one_label(y_true, y_pred)
        same = ops.expand_dims(labels, 1) == labels
        return _choice(ops.cast(same, "float32"), y_pred)


@component(since="0.1")
class NPairsMultilabel(Loss):
    """Picks positives by the number of labels that they share.

    It is `NPairs` for samples with several labels: the target of an anchor is
    spread over the positives in proportion to the labels that both have. With
    one label a sample it equals `NPairs`. An anchor that shares no label with
    any positive, its own included, adds 0 (`tfa.losses.NpairsMultilabelLoss`,
    which it equals otherwise, is NaN then).

    Samples of a batch are compared with each other, so the loss depends on
    what is batched together. The value of a sample is the crossentropy of its
    anchor, and a sample weight multiplies it; its positive stays a choice of
    the other anchors, even with weight 0. All reductions are Keras' own.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, labels)`, 1 for each label of the pair, else 0.
        y_pred: `(batch, 2, features)`, float. Embeddings of the anchor and
            of its positive.

    Returns:
        `(batch,)` before reduction, in the loss' dtype, in nats. At least 0.

    Raises:
        ValueError: If the shapes of a call do not match.

    Examples:
        >>> loss = NPairsMultilabel()
        >>> pairs = np.array([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0]] * 2])
        >>> # Logits [2, 0] and [0, 1], targets [1/2, 1/2] and [1/3, 2/3]:
        >>> # (2.1269 - 1 + 1.3133 - 2/3) / 2.
        >>> round(float(loss(np.array([[1, 0], [1, 1]]), pairs)), 4)
        0.8868

    Reference:
        Sohn, 2016, [Improved deep metric learning with multi-class N-pair
        loss objective](https://papers.nips.cc/paper/6200), equation 7, with
        the targets of TensorFlow Addons for several labels.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "n_pairs_multilabel",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        _require_views(y_pred, 2)
        if len(y_true.shape) != 2:
            raise ValueError(
                "`y_true` must have the shape (batch, labels). "
                f"Received: y_true.shape={tuple(y_true.shape)}"
            )
        labels = _geometry.widened(y_true)
        return _choice(ops.matmul(labels, ops.transpose(labels)), y_pred)


@component(since="0.1")
class SupervisedContrastive(Loss):
    """Pulls together all samples of a label, on the unit sphere.

    Use it to pretrain an encoder with labels, before a linear classifier is
    put on it. With embeddings z divided by their lengths, anchor i costs

        -mean_p log(exp(z_i z_p / temperature) / sum_a exp(z_i z_a / ...))

    over the other embeddings p of its label; a runs over all embeddings but i.
    The loss is the mean over the anchors that have such a p; 0 if none has.
    With a label of its own for each sample and two views it is `NTXent`.

    Samples of a batch are compared with each other, so the loss depends on
    what is batched together: let a batch hold several samples or views of a
    label. The value of a sample is that of its embeddings as anchors, scaled
    so that the mean over the batch is the mean over the anchors that count. A
    sample weight multiplies this value; the sample stays a partner of the
    others, even with weight 0. `reduction="sum"` gives the mean times the
    batch size.

    Args:
        temperature: Divides the cosines, above 0. Small values make the
            hardest negatives count most.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, the samples' labels, told apart in
            the loss' dtype: in float32 up to 2^24.
        y_pred: `(batch, features)`, or `(batch, views, features)` for several
            augmented views of each sample; float. Of any length.

    Returns:
        `(batch,)` before reduction, in the loss' dtype, in nats. At least 0.

    Raises:
        ValueError: If `temperature` is not positive and finite, or the shapes
            of a call do not match.

    Examples:
        >>> loss = SupervisedContrastive(temperature=1.0)
        >>> points = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
        >>> # Anchors 0 and 1, cosines 1 and 0: log(1 + exp(-1)).
        >>> round(float(loss(np.array([7, 7, 8]), points)), 4)
        0.3133

    Reference:
        Khosla et al., 2020, [Supervised contrastive
        learning](https://arxiv.org/abs/2004.11362), equation 2. The authors'
        code multiplies it by temperature / 0.07.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "supervised_contrastive",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("temperature", temperature, "(0, inf)")
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if len(y_pred.shape) == 2:
            y_pred = ops.expand_dims(y_pred, 1)
        _require_views(y_pred)
        return _contrast(one_label(y_true, y_pred), y_pred, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


@component(since="0.1")
class NTXent(Loss):
    """Finds the other view of a sample among all views of the batch.

    Use it to pretrain an encoder without labels: the model embeds two random
    augmentations of each sample. Each view costs the crossentropy of its
    partner among the batch's other 2 n - 1 views, with cosines divided by
    `temperature` as logits. It is `SupervisedContrastive` with a label of its
    own for each sample.

    Samples of a batch are compared with each other, so the loss depends on
    what is batched together, and larger batches are harder. The value of a
    sample is the mean of its two views, and a sample weight multiplies it;
    its views stay choices of the others, even with weight 0. All reductions
    are Keras' own.

    Args:
        temperature: Divides the cosines, above 0. Small values make the
            hardest negatives count most.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ...)`. Ignored: `fit` needs a target, as zeros.
        y_pred: `(batch, 2, features)`, float. Embeddings of the two views,
            of any length.

    Returns:
        `(batch,)` before reduction, in the loss' dtype, in nats. At least 0.

    Raises:
        ValueError: If `temperature` is not positive and finite, or `y_pred`
            has another shape.

    Examples:
        >>> loss = NTXent(temperature=1.0)
        >>> views = np.array([[[1.0, 0.0]] * 2, [[0.0, 2.0]] * 2])
        >>> # Cosines 1, 0 and 0 with the other views: log(1 + 2 * exp(-1)).
        >>> round(float(loss(np.zeros(2), views)), 4)
        0.5514

    Reference:
        Chen et al., 2020, [A simple framework for contrastive learning of
        visual representations](https://arxiv.org/abs/2002.05709), equation 1.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str = "nt_xent",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("temperature", temperature, "(0, inf)")
        self.temperature = temperature

    def call(self, y_true: Any, y_pred: Any) -> Any:  # noqa: ARG002
        _require_views(y_pred, 2)
        samples = ops.arange(ops.shape(y_pred)[0])
        return _contrast(samples, y_pred, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


class _MarginSoftmax(Loss):
    """Crossentropy of scaled cosines, that of the true class made smaller."""

    def __init__(self, margin: float, scale: float, **kwargs: Any):
        super().__init__(**kwargs)
        _validation.in_interval("scale", scale, "(0, inf)")
        self.margin = margin
        self.scale = scale

    def with_margin(self, cosine: Any) -> Any:
        """Returns the cosine of the true class, made smaller."""
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, cosines = _targets.labels_and_scores(y_true, y_pred)
        cosines = _geometry.widened(cosines)
        own = ops.expand_dims(_targets.at_class(labels, cosines), -1)
        is_true = _targets.is_class(labels, cosines)
        logits = ops.where(is_true, self.with_margin(own), cosines) * self.scale
        values = _targets.crossentropy(labels, logits, from_logits=True)
        return ops.cast(values, y_pred.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "scale": self.scale,
        }


@component(since="0.1")
class ArcFace(_MarginSoftmax):
    """Wants the right class ahead by an angle, for face verification.

    Use it on cosines: let the model end with
    `kerascomp.layers.CosineDense(classes)`, which holds the weights, and
    train it with plain `compile` and `fit`. With the angle t of the true
    class, the loss is the softmax crossentropy of

        scale * cos(t + margin) for the true class, scale * cos for others

    With `margin=0` it is `keras.losses.SparseCategoricalCrossentropy` on
    `scale` times the cosines. Where t + margin exceeds a half turn, cos(t) -
    margin * sin(margin) is taken, as in the authors' code: it goes on
    falling.

    Args:
        margin: Angle in radians, in [0, pi / 2].
        scale: Factor of the cosines, above 0.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ...)` or `(batch, ..., 1)`, integers in
            `[0, classes)`.
        y_pred: `(batch, ..., classes)`, float. Cosines, in [-1, 1].

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats. At least
        0. Within 3e-4 of an angle of 0, where the gradient has no bound, that
        of the sine is taken as 0.

    Raises:
        ValueError: If an argument is out of range, a label that can be read
            is no class, or the shapes of a call do not match.

    Examples:
        >>> loss = ArcFace(margin=np.pi / 3, scale=2.0)
        >>> # The right class, at pi / 6, is turned to a right angle: 2 * 0.
        >>> cosines = np.array([[3**0.5 / 2, 0.5]])
        >>> round(float(loss(np.array([0]), cosines)), 4)  # log(1 + exp(1))
        1.3133

    Reference:
        Deng et al., 2019, [ArcFace](https://arxiv.org/abs/1801.07698),
        equation 3.
    """

    def __init__(
        self,
        margin: float = 0.5,
        scale: float = 64.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "arc_face",
        dtype: Any = None,
    ):
        super().__init__(
            margin, scale, name=name, reduction=reduction, dtype=dtype
        )
        _validation.in_interval("margin", margin, f"[0, {math.pi / 2}]")

    def with_margin(self, cosine: Any) -> Any:
        sine = ops.sqrt(ops.maximum(1 - ops.square(cosine), 1e-7))
        turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        return ops.where(cosine > -math.cos(self.margin), turned, beyond)


@component(since="0.1")
class CosFace(_MarginSoftmax):
    """Wants the cosine of the right class ahead by a margin.

    Use it like `ArcFace`, of which it is the version without angles: let the
    model end with `kerascomp.layers.CosineDense(classes)`, which holds the
    weights, and train it with plain `compile` and `fit`. The loss is the
    softmax crossentropy of

        scale * (cos - margin) for the true class, scale * cos for others

    With `margin=0` it is `keras.losses.SparseCategoricalCrossentropy` on
    `scale` times the cosines.

    Args:
        margin: What the right cosine must lead by, in [0, 2).
        scale: Factor of the cosines, above 0.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ...)` or `(batch, ..., 1)`, integers in
            `[0, classes)`.
        y_pred: `(batch, ..., classes)`, float. Cosines, in [-1, 1].

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype, in nats. At least
        0.

    Raises:
        ValueError: If an argument is out of range, a label that can be read
            is no class, or the shapes of a call do not match.

    Examples:
        >>> loss = CosFace(margin=0.5, scale=2.0)
        >>> # Logits 2 * (1 - 0.5) and 2 * 0: log(1 + exp(-1)).
        >>> round(float(loss(np.array([0]), np.array([[1.0, 0.0]]))), 4)
        0.3133

    Reference:
        Wang et al., 2018, [CosFace](https://arxiv.org/abs/1801.09414),
        equation 4.
    """

    def __init__(
        self,
        margin: float = 0.35,
        scale: float = 64.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "cos_face",
        dtype: Any = None,
    ):
        super().__init__(
            margin, scale, name=name, reduction=reduction, dtype=dtype
        )
        _validation.in_interval("margin", margin, "[0, 2)")

    def with_margin(self, cosine: Any) -> Any:
        return cosine - self.margin


def _require_views(y_pred: Any, views: int | None = None) -> None:
    shape = tuple(y_pred.shape)
    if len(shape) != 3 or (views is not None and shape[1] != views):
        axis = "views" if views is None else views
        raise ValueError(
            f"`y_pred` must have the shape (batch, {axis}, features). "
            f"Received: y_pred.shape={shape}"
        )


def _choice(affinity: Any, y_pred: Any) -> Any:
    """Crossentropy of the positives' inner products with an anchor."""
    pairs = _geometry.widened(y_pred)
    anchors, positives = pairs[:, 0], pairs[:, 1]
    affinity = ops.cast(affinity, pairs.dtype)
    target = _geometry.ratio(affinity, ops.sum(affinity, -1, keepdims=True))
    logits = ops.matmul(anchors, ops.transpose(positives))
    values = -ops.sum(target * ops.log_softmax(logits, axis=-1), axis=-1)
    return ops.cast(values, y_pred.dtype)


def _contrast(labels: Any, y_pred: Any, temperature: float) -> Any:
    """Crossentropy of each view's partners among all other views."""
    views, features = y_pred.shape[1:]
    points = ops.reshape(_geometry.widened(y_pred), (-1, features))
    points = _geometry.direction(points)
    labels = ops.repeat(labels, views)
    logits = ops.matmul(points, ops.transpose(points)) / temperature
    rows = ops.arange(ops.shape(points)[0])
    itself = ops.expand_dims(rows, 1) == rows
    partner = (ops.expand_dims(labels, 1) == labels) & ~itself
    partner = ops.cast(partner, logits.dtype)
    count = ops.sum(partner, axis=-1)
    total = ops.logsumexp(
        ops.where(itself, ops.full_like(logits, NEVER), logits), axis=-1
    )
    right = ops.sum(partner * logits, axis=-1) / ops.maximum(count, 1.0)
    shape = (-1, views)
    values = share_of_anchors(
        ops.reshape(total - right, shape), ops.reshape(count > 0, shape)
    )
    return ops.cast(values, y_pred.dtype)
