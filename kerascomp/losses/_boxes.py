"""Losses on the overlap of boxes."""

import math
from typing import Any, NamedTuple

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses._base import Loss

ops = keras.ops

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh")


class _Side(NamedTuple):
    """Where boxes begin and end along one axis of the image.

    Each number is a tensor of its own, which computes faster than one tensor
    that has an axis for them.
    """

    low: Any
    high: Any

    @property
    def size(self) -> Any:
        return self.high - self.low


class _Pair(NamedTuple):
    """What a penalty is made of.

    Attributes:
        true: The sides of the target.
        predicted: The sides of the prediction.
        hull: Sizes of the smallest box round both.
        union: Area.
        overlap: Intersection over union.
    """

    true: list[_Side]
    predicted: list[_Side]
    hull: list
    union: Any
    overlap: Any


class _Overlap(Loss):
    """Base class: 1 less the intersection over union, and a penalty."""

    def __init__(self, bounding_box_format: str, **kwargs: Any):
        super().__init__(**kwargs)
        _validation.one_of("bounding_box_format", bounding_box_format, FORMATS)
        self.bounding_box_format = bounding_box_format

    def call(self, y_true: Any, y_pred: Any) -> Any:
        for name, boxes in (("y_true", y_true), ("y_pred", y_pred)):
            if not boxes.shape or boxes.shape[-1] != 4:
                raise ValueError(
                    f"`{name}` must hold 4 numbers a box on the last axis. "
                    f"Received: {name}.shape={tuple(boxes.shape)}"
                )
        if len(y_true.shape) != len(y_pred.shape):
            raise ValueError(
                "`y_true` and `y_pred` must have the same shape. Received: "
                f"y_true.shape={tuple(y_true.shape)}, "
                f"y_pred.shape={tuple(y_pred.shape)}"
            )
        # Areas and squares of pixels overflow in half precision.
        true = self._sides(_geometry.widened(y_true))
        predicted = self._sides(_geometry.widened(y_pred))
        # Negative where the boxes are apart.
        common = [
            _smaller(t.high, p.high) - _larger(t.low, p.low)
            for t, p in zip(true, predicted, strict=True)
        ]
        sizes, own = _sizes(true), _sizes(predicted)
        hull = [a + b - c for a, b, c in zip(sizes, own, common, strict=True)]
        shared = math.prod(map(ops.relu, common))
        union = math.prod(sizes) + math.prod(own) - shared
        overlap = _geometry.ratio(shared, union)
        penalty = self.penalty(_Pair(true, predicted, hull, union, overlap))
        return ops.cast(1 - overlap + penalty, y_pred.dtype)

    def penalty(self, pair: _Pair) -> Any:
        """Returns what is added to 1 less the overlap."""
        raise NotImplementedError

    def _sides(self, boxes: Any) -> list[_Side]:
        numbers = ops.unstack(ops.moveaxis(boxes, -1, 0), 4)
        return [self._side(*numbers[axis::2]) for axis in range(2)]

    def _side(self, first: Any, second: Any) -> _Side:
        if self.bounding_box_format == "center_xywh":
            first = first - second / 2
        if self.bounding_box_format in ("xywh", "center_xywh"):
            second = first + second
        # A box that is turned inside out is empty.
        return _Side(first, ops.maximum(first, second))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bounding_box_format": self.bounding_box_format,
        }


@component(since="0.1")
class GIoU(_Overlap):
    """Trains boxes by their overlap, and pulls apart ones together.

    Use it for box regression instead of a loss on coordinates: it does not
    depend on the boxes' size, and has a gradient where boxes do not overlap.
    With the intersection I, the union U and the area C of the smallest box
    round both, the loss of one box is

        1 - I / U + (C - U) / C

    It equals `tfa.losses.GIoULoss` with the format "yxyx". A quotient 0 / 0
    counts as 0; a box with right < left or bottom < top is empty.

    Args:
        bounding_box_format: `"xyxy"` (left, top, right, bottom), `"yxyx"`,
            `"xywh"` (left, top, width, height) or `"center_xywh"`, as in
            `keras.layers`. Relative coordinates give the same.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ..., 4)`, boxes.
        y_pred: `(batch, ..., 4)`, float. Boxes.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. In [0, 2].

    Raises:
        ValueError: If the format is unknown, or the shapes of a call do not
            match.

    Examples:
        >>> loss = GIoU(bounding_box_format="xyxy")
        >>> y_true, y_pred = (
        ...     np.array([[0.0, 0, 2, 2]]),
        ...     np.array([[1, 1, 3, 3.0]]),
        ... )
        >>> round(float(loss(y_true, y_pred)), 4)  # 1 - 1 / 7 + 2 / 9
        1.0794

    Reference:
        Rezatofighi et al., 2019, [Generalized intersection over
        union](https://arxiv.org/abs/1902.09630), algorithm 1.
    """

    def __init__(
        self,
        bounding_box_format: str = "xyxy",
        reduction: str | None = "sum_over_batch_size",
        name: str = "giou",
        dtype: Any = None,
    ):
        super().__init__(
            bounding_box_format, name=name, reduction=reduction, dtype=dtype
        )

    def penalty(self, pair: _Pair) -> Any:
        around = math.prod(pair.hull)
        return _geometry.ratio(around - pair.union, around)


@component(since="0.1")
class DIoU(_Overlap):
    """Trains boxes by their overlap and the distance of their centers.

    Use it for box regression: where boxes do not overlap it moves the center
    straight to its target, which `GIoU` does on a detour. With the distance d
    of the centers and the diagonal c of the smallest box round both, the loss
    of one box is

        1 - IoU + d^2 / c^2

    A quotient 0 / 0 counts as 0; a box with right < left or bottom < top is
    empty, and its center its first corner.

    Args:
        bounding_box_format: `"xyxy"` (left, top, right, bottom), `"yxyx"`,
            `"xywh"` (left, top, width, height) or `"center_xywh"`, as in
            `keras.layers`. Relative coordinates give another value unless the
            image is square.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ..., 4)`, boxes.
        y_pred: `(batch, ..., 4)`, float. Boxes.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. In [0, 2].

    Raises:
        ValueError: If the format is unknown, or the shapes of a call do not
            match.

    Examples:
        >>> loss = DIoU(bounding_box_format="xyxy")
        >>> y_true, y_pred = (
        ...     np.array([[0.0, 0, 2, 2]]),
        ...     np.array([[1, 1, 3, 3.0]]),
        ... )
        >>> round(float(loss(y_true, y_pred)), 4)  # 1 - 1 / 7 + 2 / 18
        0.9683

    Reference:
        Zheng et al., 2020, [Distance-IoU loss](https://arxiv.org/abs/1911.08287),
        equation 7.
    """

    def __init__(
        self,
        bounding_box_format: str = "xyxy",
        reduction: str | None = "sum_over_batch_size",
        name: str = "diou",
        dtype: Any = None,
    ):
        super().__init__(
            bounding_box_format, name=name, reduction=reduction, dtype=dtype
        )

    def penalty(self, pair: _Pair) -> Any:
        return _center_distance(pair)


@component(since="0.1")
class CIoU(_Overlap):
    """Trains boxes by overlap, distance of centers and aspect ratio.

    Use it for box regression where shapes matter, as detectors do today. It
    is `DIoU` plus a * v, where

        v = 4 / pi^2 * (atan(w_true / h_true) - atan(w / h))^2
        a = v / (1 - IoU + v)

    and a is taken as a constant in the gradient, as in the paper. A quotient
    0 / 0 counts as 0; a box with right < left or bottom < top is empty, and
    its center its first corner. The angle of a point is that of a square.

    Args:
        bounding_box_format: `"xyxy"` (left, top, right, bottom), `"yxyx"`,
            `"xywh"` (left, top, width, height) or `"center_xywh"`, as in
            `keras.layers`. Relative coordinates give another value unless the
            image is square.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: `(batch, ..., 4)`, boxes.
        y_pred: `(batch, ..., 4)`, float. Boxes.

    Returns:
        `(batch, ...)` before reduction, in the loss' dtype. In [0, 3).

    Raises:
        ValueError: If the format is unknown, or the shapes of a call do not
            match.

    Examples:
        >>> loss = CIoU(bounding_box_format="xywh")
        >>> y_true, y_pred = (
        ...     np.array([[0.0, 0, 2, 2]]),
        ...     np.array([[0, 0, 2, 0.0]]),
        ... )
        >>> # IoU 0, d^2 / c^2 = 1 / 8, v = 4 / pi^2 * (pi / 4)^2 = 1 / 4,
        >>> # a = (1 / 4) / (5 / 4): 1 + 1 / 8 + 1 / 5 * 1 / 4.
        >>> round(float(loss(y_true, y_pred)), 4)
        1.175

    Reference:
        Zheng et al., 2020, [Distance-IoU loss](https://arxiv.org/abs/1911.08287),
        equations 9 to 11, with the gradient that they have, not the one
        without the factor 1 / (w^2 + h^2) of the authors' code.
    """

    def __init__(
        self,
        bounding_box_format: str = "xyxy",
        reduction: str | None = "sum_over_batch_size",
        name: str = "ciou",
        dtype: Any = None,
    ):
        super().__init__(
            bounding_box_format, name=name, reduction=reduction, dtype=dtype
        )

    def penalty(self, pair: _Pair) -> Any:
        turned = _angle(_sizes(pair.true)) - _angle(_sizes(pair.predicted))
        shape = 4 / math.pi**2 * ops.square(turned)
        rest = 1 - pair.overlap + shape
        weight = ops.stop_gradient(_geometry.ratio(shape, rest))
        return _center_distance(pair) + weight * shape


def _sizes(sides: list[_Side]) -> list:
    return [side.size for side in sides]


def _angle(sizes: list) -> Any:
    """The angle of the diagonal; that of a square for a point."""
    point = ops.logical_and(*(size == 0 for size in sizes))
    return ops.arctan2(
        *(ops.where(point, ops.ones_like(size), size) for size in sizes)
    )


def _center_distance(pair: _Pair) -> Any:
    """Squared distance of the centers over that of the hull's corners."""
    apart = [
        t.low + t.high - p.low - p.high
        for t, p in zip(pair.true, pair.predicted, strict=True)
    ]
    return _geometry.ratio(
        sum(map(ops.square, apart)) / 4, sum(map(ops.square, pair.hull))
    )


# Both ways round: on TensorFlow the gradient of a tie goes to the first
# argument. With half to each, as here, a perfect box has the gradient 0.
def _larger(a: Any, b: Any) -> Any:
    return (ops.maximum(a, b) + ops.maximum(b, a)) / 2


def _smaller(a: Any, b: Any) -> Any:
    return (ops.minimum(a, b) + ops.minimum(b, a)) / 2
