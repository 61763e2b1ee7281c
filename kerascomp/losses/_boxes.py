"""Losses on the overlap of boxes."""

import math
from typing import Any, NamedTuple

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.losses._base import Loss

ops = keras.ops

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh")


class _Boxes(NamedTuple):
    """First and last corners of boxes, `(2, ...)`; none lies before the other.

    The axes of the image come first, which compute faster than last; in which
    order does not matter to any of the losses.
    """

    low: Any
    high: Any

    @property
    def size(self) -> Any:
        return self.high - self.low

    @property
    def area(self) -> Any:
        size = self.size
        return size[0] * size[1]


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
        true = self._corners(_geometry.widened(y_true))
        predicted = self._corners(_geometry.widened(y_pred))
        shared = _intersection(true, predicted).area
        union = true.area + predicted.area - shared
        overlap = _geometry.ratio(shared, union)
        penalty = self.penalty(true, predicted, overlap, union)
        return ops.cast(1 - overlap + penalty, y_pred.dtype)

    def penalty(
        self, true: _Boxes, predicted: _Boxes, overlap: Any, union: Any
    ) -> Any:
        """Returns what is added to 1 less the overlap."""
        raise NotImplementedError

    def _corners(self, boxes: Any) -> _Boxes:
        boxes = ops.moveaxis(boxes, -1, 0)
        first, second = boxes[:2], boxes[2:]
        if self.bounding_box_format == "center_xywh":
            first = first - second / 2
        if self.bounding_box_format in ("xywh", "center_xywh"):
            second = first + second
        # A box that is turned inside out is empty.
        return _Boxes(first, ops.maximum(first, second))

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

    def penalty(
        self,
        true: _Boxes,
        predicted: _Boxes,
        overlap: Any,  # noqa: ARG002
        union: Any,
    ) -> Any:
        around = _hull(true, predicted).area
        return _geometry.ratio(around - union, around)


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

    def penalty(
        self,
        true: _Boxes,
        predicted: _Boxes,
        overlap: Any,  # noqa: ARG002
        union: Any,  # noqa: ARG002
    ) -> Any:
        return _center_distance(true, predicted)


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

    def penalty(
        self,
        true: _Boxes,
        predicted: _Boxes,
        overlap: Any,
        union: Any,  # noqa: ARG002
    ) -> Any:
        shape = 4 / math.pi**2 * ops.square(_angle(true) - _angle(predicted))
        weight = ops.stop_gradient(_geometry.ratio(shape, 1 - overlap + shape))
        return _center_distance(true, predicted) + weight * shape


def _angle(boxes: _Boxes) -> Any:
    """The angle of the diagonal; that of a square for a point."""
    size = boxes.size
    point = ops.all(size == 0, axis=0, keepdims=True)
    size = ops.where(point, ops.ones_like(size), size)
    return ops.arctan2(size[0], size[1])


def _center_distance(true: _Boxes, predicted: _Boxes) -> Any:
    """Squared distance of the centers over that of the hull's corners."""
    apart = true.low + true.high - predicted.low - predicted.high
    diagonal = _hull(true, predicted).size
    return _geometry.ratio(
        ops.sum(ops.square(apart), axis=0) / 4,
        ops.sum(ops.square(diagonal), axis=0),
    )


def _intersection(true: _Boxes, predicted: _Boxes) -> _Boxes:
    low = _larger(true.low, predicted.low)
    return _Boxes(low, ops.maximum(low, _smaller(true.high, predicted.high)))


def _hull(true: _Boxes, predicted: _Boxes) -> _Boxes:
    return _Boxes(
        _smaller(true.low, predicted.low), _larger(true.high, predicted.high)
    )


# Both ways round: on TensorFlow the gradient of a tie goes to the first
# argument. With half to each, as here, a perfect box has the gradient 0.
def _larger(a: Any, b: Any) -> Any:
    return (ops.maximum(a, b) + ops.maximum(b, a)) / 2


def _smaller(a: Any, b: Any) -> Any:
    return (ops.minimum(a, b) + ops.minimum(b, a)) / 2
