"""The numbers of the losses on boxes."""

import distances_reference as reference
import keras
import numpy as np
import pytest
from backend import central_difference, gradient

from kerascomp import losses

ops = keras.ops

KINDS = ["GIoU", "DIoU", "CIoU"]
kinds = pytest.mark.parametrize("kind", KINDS)
# Left, top, right, bottom: overlapping, inside, touching, apart, alike.
TRUE = np.array(
    [[0, 0, 4, 2], [0, 0, 9, 8], [0, 0, 2, 3], [1, 1, 2, 3], [1, 2, 4, 8]],
    "float32",
)
PREDICTED = np.array(
    [[1, -1, 5, 1], [2, 1, 5, 3], [2, 1, 5, 2], [7, 5, 9, 6], [1, 2, 4, 8]],
    "float32",
)


def values(loss, y_true, y_pred):
    return ops.convert_to_numpy(loss(y_true, y_pred))


def expected(kind, y_pred):
    pairs = zip(TRUE.astype("float64"), y_pred, strict=True)
    return np.array([reference.box_loss(kind, *pair) for pair in pairs])


def in_format(name, boxes):
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    width, height = right - left, bottom - top
    numbers = {
        "xyxy": (left, top, right, bottom),
        "yxyx": (top, left, bottom, right),
        "xywh": (left, top, width, height),
        "center_xywh": (left + width / 2, top + height / 2, width, height),
    }
    return np.stack(numbers[name], axis=-1)


@kinds
@pytest.mark.parametrize("name", ["xyxy", "yxyx", "xywh", "center_xywh"])
def test_loss_equals_the_equation(kind, name):
    loss = getattr(losses, kind)(bounding_box_format=name, reduction=None)
    np.testing.assert_allclose(
        values(loss, in_format(name, TRUE), in_format(name, PREDICTED)),
        expected(kind, PREDICTED.astype("float64")),
        rtol=2e-6,
        atol=1e-7,
    )


@kinds
def test_gradient_equals_central_differences(kind):
    loss = getattr(losses, kind)(reduction="sum")
    received = gradient(lambda p: loss(TRUE, p), PREDICTED)
    # Without the touching box, where the reference has a corner; CIoU takes
    # its weight as a constant, so that it is compared where shapes agree.
    rows = [0, 1, 3, 4] if kind != "CIoU" else [4]
    difference = central_difference(
        lambda p: expected(kind, p).sum(), PREDICTED, step=1e-5
    )
    np.testing.assert_allclose(
        received[rows], difference[rows], rtol=1e-4, atol=1e-5
    )
    assert np.isfinite(received).all()


def test_the_weight_of_the_shape_is_a_constant_in_the_gradient():
    loss = losses.CIoU(reduction="sum")

    def shape(predicted):
        sizes = predicted[:, 2:] - predicted[:, :2], TRUE[:, 2:] - TRUE[:, :2]
        turn = np.subtract(*(np.arctan(s[:, 0] / s[:, 1]) for s in sizes))
        return 4 / np.pi**2 * turn**2

    point = PREDICTED.astype("float64")
    v = shape(point)
    rest = expected("DIoU", point)
    weight = np.divide(
        expected("CIoU", point) - rest, v, out=np.zeros(5), where=v > 0
    )
    difference = central_difference(
        lambda p: np.sum(expected("DIoU", p) + weight * shape(p)), point
    )
    received = gradient(lambda p: loss(TRUE, p), PREDICTED)
    rows = [0, 1, 3, 4]
    np.testing.assert_allclose(
        received[rows], difference[rows], rtol=1e-4, atol=1e-3
    )


@kinds
def test_a_perfect_box_costs_nothing(kind):
    loss = getattr(losses, kind)(reduction=None)
    np.testing.assert_array_equal(values(loss, TRUE, TRUE), np.zeros(5))


@kinds
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_degenerate_and_large_boxes_are_finite(kind, dtype):
    y_pred = np.array(
        [
            [0, 0, 0, 0],
            [3, 3, 1, 1],
            [0, 0, 4, 0],
            [0, 0, 0, 4],
            [-1e4, -1e4, 1e4, 1e4],
            [1e4, 1e4, -1e4, -1e4],
        ],
        dtype,
    )
    loss = getattr(losses, kind)(reduction="sum", dtype=dtype)
    for y_true in (np.zeros_like(y_pred), y_pred, y_pred[::-1].copy()):
        assert np.isfinite(values(loss, y_true, y_pred))
        slope = gradient(lambda p, y_true=y_true: loss(y_true, p), y_pred)
        assert np.isfinite(slope).all()


@kinds
def test_boxes_that_are_apart_have_a_gradient(kind):
    loss = getattr(losses, kind)()
    slope = gradient(lambda p: loss(TRUE[3:4], p), PREDICTED[3:4])
    # Growing to the left and to the top brings the box nearer.
    assert (slope[0, :2] > 0).all()


@kinds
def test_relative_coordinates_give_the_same_on_square_images(kind):
    loss = getattr(losses, kind)()
    assert float(loss(TRUE / 16, PREDICTED / 16)) == pytest.approx(
        float(loss(TRUE, PREDICTED)), rel=1e-6
    )


@kinds
def test_bad_input_is_refused(kind):
    make = getattr(losses, kind)
    with pytest.raises(ValueError, match="`bounding_box_format` must be one"):
        make(bounding_box_format="coco")
    with pytest.raises(ValueError, match="`y_pred` must hold 4 numbers"):
        make()(TRUE, PREDICTED[:, :3])
    with pytest.raises(ValueError, match="must have the same shape"):
        make()(TRUE, PREDICTED[:, None])


def test_a_box_turned_inside_out_is_empty():
    # In a hull of area 4, which the other box fills: 1 - 0 / 4 + 0.
    value = losses.GIoU()(
        np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[2.0, 2.0, 0.0, 0.0]])
    )
    assert float(value) == 1.0
