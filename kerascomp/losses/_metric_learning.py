"""Losses on the distances between embeddings."""

from collections.abc import Mapping
from typing import Any

from kerascomp import _geometry, _numerics, _validation, distances
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.distances import _pairwise
from kerascomp.losses._base import Loss

ops = keras.ops

# Those that have a gradient.
DISTANCES = tuple(
    name for name in _pairwise.METRICS if name not in ("hamming", "jaccard")
)

# Far below any exponent, and still finite: exp() of it is 0.
NEVER = -1e30


@component(since="0.1")
class Contrastive(Loss):
    """Pulls similar pairs together and pushes others a margin apart.

    Use it for siamese networks: the model takes two inputs and its output is
    the distance of their embeddings, such as
    `kerascomp.distances.euclidean(left, right)`. With the label y = 1 for
    similar pairs, distance D and margin m, the loss of one pair is

        y D^2 + (1 - y) max(0, m - D)^2

    It equals `tfa.losses.ContrastiveLoss`, and with `similar_label=0` the
    example of keras.io, where 1 means different.

    Args:
        margin: Distance that different pairs should have, above 0.
        similar_label: The label of similar pairs, 1 or 0.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, 0 or 1.
        y_pred: `(batch,)` or `(batch, 1)`, float. Distances, at least 0.

    Returns:
        `(batch,)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If `margin` is not positive and finite, `similar_label` is
            neither 0 nor 1, a label that can be read is neither, or the
            shapes of a call do not match.

    Examples:
        >>> loss = Contrastive(margin=2.0)
        >>> # A similar pair at 0.5, another one at 1.5: (0.25 + 0.25) / 2.
        >>> float(loss(np.array([1, 0]), np.array([0.5, 1.5])))
        0.25

    Reference:
        Hadsell, Chopra & LeCun, 2006, [Dimensionality reduction by learning
        an invariant mapping](https://doi.org/10.1109/CVPR.2006.100), equation
        4, without its factor 1/2 and with 1 for similar pairs instead of 0.
    """

    def __init__(
        self,
        margin: float = 1.0,
        similar_label: int = 1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "contrastive",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        _validation.in_interval("margin", margin, "(0, inf)")
        _validation.one_of("similar_label", similar_label, (0, 1))
        self.margin = margin
        self.similar_label = similar_label

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true, y_pred = _numerics.same_rank(y_true, y_pred)
        if len(y_pred.shape) == 1:
            y_true, y_pred = y_true[:, None], y_pred[:, None]
        _numerics.require(
            y_true,
            lambda y: (y == 0) | (y == 1),
            "`y_true` must hold zeros and ones alone.",
        )
        similar = y_true if self.similar_label else 1 - y_true
        far = ops.square(ops.relu(self.margin - y_pred))
        return ops.mean(
            similar * ops.square(y_pred) + (1 - similar) * far, axis=-1
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "similar_label": self.similar_label,
        }


class _BetweenSamples(Loss):
    """Base class of losses on the distances between a batch's embeddings."""

    def __init__(
        self,
        distance: str,
        distance_arguments: Mapping[str, Any] | None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.one_of("distance", distance, DISTANCES)
        try:
            _pairwise.metric_of(distance, distance_arguments or {})
        except TypeError as error:
            raise ValueError(
                "`distance_arguments` must hold what the distance takes "
                f"besides the vectors: {error}. Received: distance="
                f"{distance!r}, distance_arguments={distance_arguments!r}"
            ) from error
        self.distance = distance
        self.distance_arguments = distance_arguments

    def compare(self, y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
        """Returns distances, positive and negative pairs, `(batch, batch)`.

        Positive pairs have one label, and no sample is paired with itself.
        """
        same = same_label(y_true, y_pred)
        rows = ops.arange(ops.shape(y_pred)[0])
        others = ops.expand_dims(rows, 1) != rows
        between = distances.pairwise(
            _geometry.widened(y_pred),
            metric=self.distance,
            **(self.distance_arguments or {}),
        )
        return between, same & others, ops.logical_not(same)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "distance": self.distance,
            "distance_arguments": self.distance_arguments,
        }


@component(since="0.1")
class TripletSemiHard(_BetweenSamples):
    """Wants every positive nearer than a negative that is not the hardest.

    Use it to learn embeddings of unit length for search and verification
    (end the model with `keras.layers.UnitNormalization()`). Each pair of an
    anchor and another sample of its label, at distance d, meets one negative:
    the nearest that is farther from the anchor than d; if there is none, the
    farthest. With its distance e, the pair costs

        max(0, margin + d - e)

    and the loss is the mean over all pairs of the batch; 0 if there is none.
    With `distance="euclidean"` it is `tfa.losses.TripletSemiHardLoss()`. Time
    and memory grow with the square of the batch, not its cube.

    Samples of a batch are compared with each other, so the loss depends on
    what is batched together: let a batch hold several samples of a label.
    The value of a sample is its share as an anchor, scaled so that the mean
    over the batch is the mean over all pairs. A sample weight multiplies this
    share; the sample stays a positive or a negative of the others, even with
    weight 0. `reduction="sum"` gives the mean times the batch size.

    Args:
        margin: Lead of the positive over the negative, above 0.
        distance: Name of a differentiable distance between rows of
            `kerascomp.distances`.
        distance_arguments: What that distance takes besides the rows, as
            `{"p": 3}`; numbers and lists.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, the samples' labels. In float32
            labels up to 2^24 are told apart, in a half-precision `dtype` of
            the loss up to 2^11 (float16) or 2^8 (bfloat16).
        y_pred: `(batch, features)`, float. Embeddings.

    Returns:
        `(batch,)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If an argument is out of range, or the shapes of a call do
            not match.

    Examples:
        >>> loss = TripletSemiHard(margin=1.0, distance="euclidean")
        >>> points = np.array([[0.0], [1.0], [1.5]])
        >>> # Pairs 0-1 and 1-0: (1 + 1 - 1.5 + 1 + 1 - 0.5) / 2.
        >>> float(loss(np.array([7, 7, 8]), points))
        1.0

    Reference:
        Schroff, Kalenichenko & Philbin, 2015,
        [FaceNet](https://arxiv.org/abs/1503.03832), equations 3 and 4.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance: str = "squared_euclidean",
        distance_arguments: Mapping[str, Any] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "triplet_semi_hard",
        dtype: Any = None,
    ):
        super().__init__(
            distance,
            distance_arguments,
            name=name,
            reduction=reduction,
            dtype=dtype,
        )
        _validation.in_interval("margin", margin, "(0, inf)")
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        between, positive, negative = self.compare(y_true, y_pred)
        count = ops.sum(ops.cast(negative, "int32"), axis=-1, keepdims=True)
        pair, opponent = _semi_hard(ops.stop_gradient(between), negative, count)
        excess = ops.relu(
            self.margin
            + ops.take_along_axis(between, pair, axis=-1)
            - ops.take_along_axis(between, opponent, axis=-1)
        )
        valid = ops.take_along_axis(positive, pair, axis=-1) & (count > 0)
        values = share_of_anchors(excess, valid)
        return ops.cast(values, y_pred.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


def _semi_hard(between: Any, negative: Any, count: Any) -> tuple[Any, Any]:
    """Returns each anchor's samples by distance, and the negative of each.

    The negative is the nearest one farther away, else the farthest. Both are
    indices, `(batch, batch)`; the second means nothing without negatives.
    """
    infinity = ops.full_like(between, float("inf"))
    # Negatives first, by distance: the sort below is stable, so that among
    # ties the negatives come before the positives that they must exceed.
    first = ops.argsort(ops.where(negative, between, infinity), axis=-1)
    order = ops.argsort(ops.take_along_axis(between, first, axis=-1), axis=-1)
    # So many negatives are as near as this sample or nearer: in `first`, the
    # next one has this place.
    passed = ops.cumsum(ops.cast(order < count, "int32"), axis=-1)
    place = ops.maximum(ops.minimum(passed, count - 1), 0)
    return (
        ops.take_along_axis(first, order, axis=-1),
        ops.take_along_axis(first, place, axis=-1),
    )


@component(since="0.1")
class TripletHard(_BetweenSamples):
    """Wants each anchor's farthest positive nearer than any negative.

    Use it to learn embeddings for search and verification where labels are
    clean: one wrong label is always the hardest. An anchor whose farthest
    sample of the same label lies at d and whose nearest of another at e costs

        max(0, margin + d - e), or log(1 + exp(d - e)) with `soft_margin`

    and the loss is the mean over the anchors that have both; 0 if none has.
    With `distance="euclidean"` it is `tfa.losses.TripletHardLoss`, except
    that TFA counts anchors without a positive, and overflows when soft.

    Samples of a batch are compared with each other, so the loss depends on
    what is batched together: let a batch hold several samples of a label. The
    value of a sample is its own as an anchor, scaled so that the mean over
    the batch is the mean over the anchors that count. A sample weight
    multiplies this value; the sample stays a positive or a negative of the
    others, even with weight 0. `reduction="sum"` gives the mean times the
    batch size.

    Args:
        margin: Lead of the positive over the negative, above 0. Has no effect
            with `soft_margin`.
        soft_margin: Whether to go on pulling beyond the margin, ever less.
        distance: Name of a differentiable distance between rows of
            `kerascomp.distances`.
        distance_arguments: What that distance takes besides the rows, as
            `{"p": 3}`; numbers and lists.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, the samples' labels, told apart in
            the loss' dtype: in float32 up to 2^24.
        y_pred: `(batch, features)`, float. Embeddings.

    Returns:
        `(batch,)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If an argument is out of range, or the shapes of a call do
            not match.

    Examples:
        >>> loss = TripletHard(margin=1.0)
        >>> points = np.array([[0.0], [1.0], [1.5]])
        >>> # Anchors 0 and 1: (1 + 1 - 1.5 + 1 + 1 - 0.5) / 2.
        >>> float(loss(np.array([7, 7, 8]), points))
        1.0

    Reference:
        Hermans, Beyer & Leibe, 2017, [In defense of the triplet
        loss](https://arxiv.org/abs/1703.07737), equation 5, and section 2.1
        for the soft margin.
    """

    def __init__(
        self,
        margin: float = 1.0,
        soft_margin: bool = False,
        distance: str = "euclidean",
        distance_arguments: Mapping[str, Any] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "triplet_hard",
        dtype: Any = None,
    ):
        super().__init__(
            distance,
            distance_arguments,
            name=name,
            reduction=reduction,
            dtype=dtype,
        )
        _validation.in_interval("margin", margin, "(0, inf)")
        self.margin = margin
        self.soft_margin = soft_margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        between, positive, negative = self.compare(y_true, y_pred)
        infinity = ops.full_like(between, float("inf"))
        farthest = ops.amax(
            ops.where(positive, between, ops.zeros_like(between)), axis=-1
        )
        nearest = ops.amin(ops.where(negative, between, infinity), axis=-1)
        valid = ops.any(positive, axis=-1) & ops.any(negative, axis=-1)
        nearest = ops.where(valid, nearest, ops.zeros_like(nearest))
        lead = farthest - nearest
        excess = (
            ops.softplus(lead)
            if self.soft_margin
            else ops.relu(self.margin + lead)
        )
        values = share_of_anchors(excess[:, None], valid[:, None])
        return ops.cast(values, y_pred.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "soft_margin": self.soft_margin,
        }


@component(since="0.1")
class LiftedStructure(_BetweenSamples):
    """Compares each positive pair with all negatives of both its samples.

    Use it where the triplets of `TripletHard` are too noisy: all negatives
    count, near ones most. A pair (i, j) of samples with one label at distance
    D_ij costs half the square of max(0, J), where

        J = D_ij + log(sum_k exp(margin - D_ik) + sum_l exp(margin - D_jl))

    over all samples k and l of other labels, and the loss is the mean over
    all positive pairs; 0 if there is none. It equals
    `tfa.losses.LiftedStructLoss`, which is NaN without a positive pair. Time
    and memory grow with the square of the batch.

    Samples of a batch are compared with each other, so the loss depends on
    what is batched together: let a batch hold several samples of a label. The
    value of a sample is its share as first of a pair, scaled so that the mean
    over the batch is the mean over all pairs. A sample weight multiplies this
    share; the sample stays a partner of the others, even with weight 0.
    `reduction="sum"` gives the mean times the batch size.

    Args:
        margin: Distance that negatives should have, above 0.
        distance: Name of a differentiable distance between rows of
            `kerascomp.distances`.
        distance_arguments: What that distance takes besides the rows, as
            `{"p": 3}`; numbers and lists.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch,)` or `(batch, 1)`, the samples' labels, told apart in
            the loss' dtype: in float32 up to 2^24.
        y_pred: `(batch, features)`, float. Embeddings.

    Returns:
        `(batch,)` before reduction, in the loss' dtype. At least 0.

    Raises:
        ValueError: If an argument is out of range, or the shapes of a call do
            not match.

    Examples:
        >>> loss = LiftedStructure(margin=2.0)
        >>> points = np.array([[0.0], [0.0], [1.0]])
        >>> # J = log(2 * exp(2 - 1)) = 1 + log(2).
        >>> round(float(loss(np.array([7, 7, 8]), points)), 4)
        1.4334

    Reference:
        Song et al., 2016, [Deep metric learning via lifted structured feature
        embedding](https://arxiv.org/abs/1511.06452), equation 4.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance: str = "euclidean",
        distance_arguments: Mapping[str, Any] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "lifted_structure",
        dtype: Any = None,
    ):
        super().__init__(
            distance,
            distance_arguments,
            name=name,
            reduction=reduction,
            dtype=dtype,
        )
        _validation.in_interval("margin", margin, "(0, inf)")
        self.margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        between, positive, negative = self.compare(y_true, y_pred)
        never = ops.full_like(between, NEVER)
        near = ops.logsumexp(
            ops.where(negative, self.margin - between, never), axis=-1
        )
        both = ops.logaddexp(near[:, None], near[None, :])
        cost = ops.square(ops.relu(between + both)) / 2
        return ops.cast(share_of_anchors(cost, positive), y_pred.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


def same_label(y_true: Any, y_pred: Any) -> Any:
    """Returns which samples have one label, `(batch, batch)`.

    Raises:
        ValueError: If `y_true` has not one label for each row of `y_pred`, or
            `y_pred` is no matrix.
    """
    if len(y_pred.shape) != 2:
        raise ValueError(
            "`y_pred` must have the shape (batch, features). "
            f"Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    labels = one_label(y_true, y_pred)
    return ops.expand_dims(labels, 1) == labels


def one_label(y_true: Any, y_pred: Any) -> Any:
    """Returns labels of shape `(batch,)`.

    Raises:
        ValueError: If there is not one label for each sample.
    """
    shape, batch = tuple(y_true.shape), y_pred.shape[0]
    if shape[1:] not in ((), (1,)) or (
        None not in (shape[0], batch) and shape[0] != batch
    ):
        raise ValueError(
            "`y_true` must hold one label for each sample. Received: "
            f"y_true.shape={shape}, y_pred.shape={tuple(y_pred.shape)}"
        )
    return ops.reshape(y_true, (-1,))


def share_of_anchors(cost: Any, valid: Any) -> Any:
    """Returns each row's sum, scaled so that their mean is that of all costs.

    Args:
        cost: `(batch, terms)`, float.
        valid: `(batch, terms)`, which terms count. Others may be anything
            finite.

    Returns:
        `(batch,)`. Zeros if no term counts.
    """
    total = ops.sum(ops.where(valid, cost, ops.zeros_like(cost)), axis=-1)
    count = ops.sum(ops.cast(valid, cost.dtype))
    batch = ops.cast(ops.shape(cost)[0], cost.dtype)
    return total * (batch / ops.maximum(count, 1.0))
