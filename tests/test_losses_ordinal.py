"""The numbers of the losses of classes that have an order."""

import keras
import losses_reference as reference
import numpy as np
import pytest
from backend import central_difference
from losses_reference import assert_gradient, slope, values

from kerascomp.losses import CORN, WeightedKappa, corn_probabilities

RTOL = 5e-6
POWERS = {"linear": 1, "quadratic": 2}


@pytest.fixture
def grades(rng):
    labels = rng.integers(0, 4, size=20)
    return labels, rng.normal(size=(20, 4)).astype("float32")


@pytest.mark.parametrize("weights", POWERS)
@pytest.mark.parametrize("from_logits", [False, True])
def test_kappa_equals_the_equation(grades, weights, from_logits):
    labels, logits = grades
    p = reference.softmax(logits.astype("float64"))
    loss = WeightedKappa(weights, from_logits, epsilon=1e-3)
    y_pred = logits if from_logits else p.astype("float32")
    expected = reference.weighted_kappa(labels, p, POWERS[weights], 1e-3)
    for y_true in (labels, labels[:, None], np.eye(4)[labels]):
        received = float(loss(y_true, y_pred))
        assert received == pytest.approx(expected, RTOL, abs=1e-6)


@pytest.mark.parametrize("weights", POWERS)
def test_of_decided_predictions_it_is_one_less_kappa(rng, weights):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predicted = rng.integers(0, 4, size=(2, 30))
    kappa = metrics.cohen_kappa_score(labels, predicted, weights=weights)
    loss = WeightedKappa(weights, epsilon=1e-9)
    received = float(loss(labels, np.eye(4)[predicted]))
    assert np.exp(received) == pytest.approx(1 - kappa, 1e-5)


def test_kappa_counts_samples_by_their_weight(grades):
    labels, logits = grades
    times = np.arange(20) % 3
    loss = WeightedKappa(from_logits=True)
    repeated = float(
        loss(np.repeat(labels, times), np.repeat(logits, times, 0))
    )
    for weight in (times, times[:, None]):
        received = float(loss(labels, logits, sample_weight=weight))
        # The logarithm of a number near 1: what counts is its absolute error.
        assert received == pytest.approx(repeated, abs=1e-6)


def test_kappa_leaves_out_masked_samples(rng):
    labels = rng.integers(0, 4, size=(5, 3))
    logits = rng.normal(size=(5, 3, 4)).astype("float32")
    logits[2:, 1:] = 99
    kept = (logits != 99).all(axis=-1)
    loss = WeightedKappa(from_logits=True)
    received = float(loss(labels, keras.layers.Masking(99.0)(logits)))
    expected = float(loss(labels[kept], logits[kept]))
    assert received == pytest.approx(expected, RTOL)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("weights", POWERS)
def test_kappa_gradient_equals_central_differences(weights, dtype):
    labels = np.array([0, 1, 2, 2, 3, 0])
    logits = np.array(
        [
            [0, 0, 0, 0],
            [0.5, -1, 2, 1],
            [1e4, -1e4, 0, 0],
            [-1e4, 0, 1e4, 1e4],
            [1, 2, 0, -1],
            [1e4, -1e4, 0, 0],
        ]
    )
    assert_gradient(
        lambda **k: WeightedKappa(weights, True, epsilon=1e-3, **k),
        lambda z: reference.weighted_kappa(
            labels, reference.softmax(z), POWERS[weights], 1e-3
        ),
        labels,
        logits,
        dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kappa_is_finite_without_any_disagreement(dtype):
    # Perfect agreement; and one class alone, where nothing is expected.
    for labels in (np.array([0, 1, 2]), np.zeros(3, int)):
        y_pred = np.eye(3, dtype=dtype)[labels]
        loss = WeightedKappa(epsilon=1e-3, dtype=dtype)
        value = float(loss(labels, y_pred))
        assert value == pytest.approx(np.log(1e-3), 1e-3)  # Float16.
        assert np.isfinite(slope(loss, labels, y_pred)).all()


def test_kappa_of_weights_of_zero_is_finite(grades):
    value = WeightedKappa(from_logits=True)(*grades, sample_weight=np.zeros(20))
    assert float(value) == pytest.approx(np.log(1e-6), RTOL)


def test_kappa_reduces_its_one_value(grades):
    shapes = {
        reduction: tuple(
            WeightedKappa(from_logits=True, reduction=reduction)(*grades).shape
        )
        for reduction in ("sum", "sum_over_batch_size", None)
    }
    assert shapes == {"sum": (), "sum_over_batch_size": (), None: (1,)}


@pytest.mark.parametrize("average", ["questions", "samples"])
@pytest.mark.parametrize("classes", [2, 5])
def test_corn_equals_the_equation(rng, average, classes):
    labels = rng.integers(0, classes, size=30)
    logits = 2 * rng.normal(size=(30, classes - 1)).astype("float32")
    expected = reference.corn(labels, logits.astype("float64"), average)
    for y_true in (labels, labels[:, None]):
        received = float(CORN(average)(y_true, logits))
        assert received == pytest.approx(expected, RTOL)


def test_corn_of_two_classes_is_the_binary_crossentropy(rng):
    labels = rng.integers(0, 2, size=(8, 1))
    logits = rng.normal(size=(8, 1)).astype("float32")
    theirs = keras.losses.BinaryCrossentropy(from_logits=True)
    assert float(CORN()(labels, logits)) == pytest.approx(
        float(theirs(labels, logits)), RTOL
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("average", ["questions", "samples"])
def test_corn_gradient_equals_central_differences(average, dtype):
    labels = np.array([0, 1, 2, 3, 3, 0])
    logits = np.array(
        [
            [0, 0, 0],
            [0.5, -1, 2],
            [1e4, -1e4, 0],
            [1e4, 1e4, 1e4],
            [-1e4, 1e4, -1e4],
            [1e4, -1, 1],
        ]
    )
    assert_gradient(
        lambda **k: CORN(average, **k),
        lambda z: reference.corn(labels, z, average) * 6,
        labels,
        logits,
        dtype,
    )


def test_corn_probabilities_are_the_product_of_the_answers(rng):
    logits = rng.normal(size=(4, 3, 5)).astype("float32")
    above = np.cumprod(1 / (1 + np.exp(-logits.astype("float64"))), axis=-1)
    bounds = np.concatenate(
        [np.ones((4, 3, 1)), above, np.zeros((4, 3, 1))], -1
    )
    received = keras.ops.convert_to_numpy(corn_probabilities(logits))
    np.testing.assert_allclose(received, -np.diff(bounds, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_corn_probabilities_of_large_logits_are_decided(dtype):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]], dtype)
    received = corn_probabilities(logits)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(received), np.eye(3)[[1, 0, 2]]
    )


def test_minus_the_logarithm_of_the_probability_is_the_loss(rng):
    labels = rng.integers(0, 4, size=9)
    logits = rng.normal(size=(9, 3)).astype("float32")
    p = keras.ops.convert_to_numpy(corn_probabilities(logits))
    np.testing.assert_allclose(
        values(CORN("samples", reduction=None), labels, logits),
        -np.log(p[np.arange(9), labels]),
        rtol=1e-5,
    )


def test_kappa_gradient_of_probabilities_equals_central_differences(grades):
    labels, logits = grades
    p = reference.softmax(logits.astype("float64")).astype("float32")
    received = slope(WeightedKappa(), labels, p)
    expected = central_difference(
        lambda x: reference.weighted_kappa(labels, x, 2, 1e-6), p, 1e-6
    )
    np.testing.assert_allclose(received, expected, rtol=2e-5, atol=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`weights` must be one of 'linear'"):
        WeightedKappa(weights="cubic")
    with pytest.raises(ValueError, match=r"`epsilon` must be in \(0, inf\)"):
        WeightedKappa(epsilon=0.0)
    with pytest.raises(ValueError, match="`average` must be one of 'question"):
        CORN(average="batch")


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match=r"integers in \[0, 4\)"):
        CORN()(np.array([4]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="`y_true` must hold integer labels"):
        CORN()(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"integers in \[0, 3\)"):
        WeightedKappa()(np.array([3]), np.ones((1, 3)) / 3)
    with pytest.raises(ValueError, match="must hold probabilities"):
        WeightedKappa()(np.array([1]), np.array([[3.0, 1.0, -2.0]]))
    with pytest.raises(ValueError, match="`y_pred` must hold floating-point"):
        WeightedKappa()(np.array([1]), np.array([[0, 1, 0]]))
