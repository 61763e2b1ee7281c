"""The numbers of the losses of margins."""

import keras
import losses_reference as reference
import numpy as np
import pytest
from backend import gradient
from losses_reference import assert_gradient, slope, values

from kerascomp.losses import MulticlassHinge, Perceptron

RTOL = 2e-6
REDUCE = {"weston_watkins": np.sum, "crammer_singer": np.max}


def expected_hinge(labels, scores, margin, variant, power):
    terms = reference.multiclass_hinge(labels, scores, margin, power)
    return REDUCE[variant](terms, axis=-1)


@pytest.fixture
def classification(rng):
    labels = rng.integers(0, 5, size=(4, 3))
    return labels, rng.normal(size=(4, 3, 5)).astype("float32")


def test_the_hinge_of_the_textbook_is_2_9():
    scores = np.array([[3.2, 5.1, -1.7]])
    for y_true in ([0], [[0]], [[1, 0, 0]]):
        value = float(MulticlassHinge()(np.array(y_true), scores))
        assert value == pytest.approx(2.9, RTOL)


@pytest.mark.parametrize("variant", REDUCE)
@pytest.mark.parametrize(("margin", "power"), [(1.0, 1), (0.3, 2), (0, 1.5)])
def test_hinge_equals_the_equation(classification, variant, margin, power):
    labels, scores = classification
    loss = MulticlassHinge(margin, variant, power, reduction=None)
    expected = expected_hinge(labels, scores, margin, variant, power)
    for y_true in (labels, labels[..., None], reference.one_hot(labels, 5)):
        np.testing.assert_allclose(
            values(loss, y_true, scores), expected, rtol=RTOL, atol=1e-6
        )


def test_hinge_is_scikit_learn_of_the_worst_class(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = rng.normal(size=(20, 4)), np.arange(20) % 4
    loss = MulticlassHinge(variant="crammer_singer")
    assert float(loss(labels, scores)) == pytest.approx(
        metrics.hinge_loss(labels, scores), 1e-5
    )


def test_hinge_is_keras_where_a_wrong_score_is_above_zero(classification):
    labels, scores = classification
    scores = scores + 5
    theirs = keras.losses.CategoricalHinge(reduction=None)
    loss = MulticlassHinge(variant="crammer_singer", reduction=None)
    y_true = reference.one_hot(labels, 5)
    np.testing.assert_allclose(
        values(loss, labels, scores), values(theirs, y_true, scores), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("variant", REDUCE)
def test_hinge_gradient_equals_central_differences(dtype, variant):
    # A tie of the worst two classes, of all three, and large scores.
    scores = np.array(
        [[0, 1, 1], [0.5, -1, 2], [1e4, -1e4, 0], [1e4, 1e4, -1e4], [3, 1, 1]]
    )
    labels = np.array([0, 0, 1, 2, 0])
    assert_gradient(
        lambda **k: MulticlassHinge(0.25, variant, **k),
        lambda x: expected_hinge(labels, x, 0.25, variant, 1),
        labels,
        scores,
        dtype,
    )


def test_squared_hinge_gradient_equals_central_differences():
    scores = np.array([[0.0, 1.0, 1.0], [3.0, 2.0, 1.5], [0.5, -1.0, 2.0]])
    labels = np.array([0, 0, 1])
    assert_gradient(
        lambda **k: MulticlassHinge(power=2, **k),
        lambda x: expected_hinge(labels, x, 1, "weston_watkins", 2),
        labels,
        scores,
    )


@pytest.mark.parametrize("variant", REDUCE)
def test_on_the_margin_the_gradient_is_zero(variant):
    loss = MulticlassHinge(1.0, variant)
    scores = np.array([[2.0, 1.0, 1.0], [0.0, -1.0, -5.0]], "float32")
    assert not slope(loss, np.array([0, 0]), scores).any()


def test_perceptron_is_hinge_without_margin(rng):
    labels = rng.choice([-1, 1], size=(6, 3))
    scores = rng.normal(size=(6, 3)).astype("float32")
    expected = np.maximum(0, -labels * scores).mean(axis=-1)
    for y_true in (labels, (labels + 1) // 2):
        received = values(Perceptron(reduction=None), y_true, scores)
        np.testing.assert_allclose(received, expected, rtol=RTOL)


def test_gradient_descent_is_the_perceptron_algorithm(rng):
    x = rng.normal(size=(40, 3)).astype("float32")
    y = np.where(x @ [1.0, -2.0, 0.5] > 0, 1, -1)
    expected = np.zeros(3)
    weights = np.zeros(3, "float32")
    loss = Perceptron()
    for row, label in zip(x, y, strict=True):
        if label * (expected @ row) <= 0:
            expected = expected + label * row
        weights = weights - gradient(
            lambda w, row=row, label=label: loss(
                np.array([label]),
                keras.ops.sum(w * keras.ops.convert_to_tensor(row))[None],
            ),
            weights,
        )
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-6)


def test_perceptron_of_classes_is_the_hinge_of_the_worst(classification):
    labels, scores = classification
    right = np.take_along_axis(scores, labels[..., None], -1)[..., 0]
    loss = MulticlassHinge(0, "crammer_singer", reduction=None)
    np.testing.assert_allclose(
        values(loss, labels, scores), scores.max(-1) - right, atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_perceptron_gradient_equals_central_differences(dtype):
    y_true = np.array([[1, -1, 1, -1, 1]])
    y_pred = np.array([[0.5, 0.5, -1e4, 1e4, 1e4]])
    assert_gradient(
        Perceptron,
        lambda x: np.maximum(0, -y_true * x).mean(axis=-1),
        y_true,
        y_pred,
        dtype,
    )


@pytest.mark.parametrize(
    "arguments",
    [{"margin": -1.0}, {"variant": "sum"}, {"power": 0.5}],
    ids=str,
)
def test_hinge_refuses_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        MulticlassHinge(**arguments)
