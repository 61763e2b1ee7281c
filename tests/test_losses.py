"""The numbers of the losses."""

import keras
import numpy as np
import pytest
import reference
from backend import central_difference, gradient

from kerascomp import losses
from kerascomp.losses import SmoothedSparseCategoricalCrossentropy, SmoothL1

# Float32 sums of a few dozen numbers.
RTOL = 2e-6


@pytest.fixture
def regression(rng):
    return [rng.normal(size=(4, 3, 2)).astype("float32") for _ in range(2)]


@pytest.fixture
def classification(rng):
    labels = rng.integers(0, 5, size=(4, 3))
    return labels, rng.normal(size=(4, 3, 5)).astype("float32")


def probabilities_of(logits):
    return np.exp(reference.log_softmax(logits))


def values(loss, y_true, y_pred):
    return keras.ops.convert_to_numpy(loss(y_true, y_pred))


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_smooth_l1_equals_the_equation(regression, beta):
    y_true, y_pred = regression
    np.testing.assert_allclose(
        values(SmoothL1(beta, reduction=None), y_true, y_pred),
        reference.smooth_l1(y_true, y_pred, beta),
        rtol=RTOL,
    )


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_smooth_l1_is_huber_over_beta(regression, beta):
    y_true, y_pred = regression
    huber = keras.losses.Huber(delta=beta, reduction=None)
    np.testing.assert_allclose(
        values(SmoothL1(beta, reduction=None), y_true, y_pred),
        values(huber, y_true, y_pred) / beta,
        rtol=RTOL,
    )


def test_smooth_l1_tends_to_the_mean_absolute_error(regression):
    y_true, y_pred = regression
    np.testing.assert_allclose(
        values(SmoothL1(beta=1e-7), y_true, y_pred),
        np.mean(np.abs(y_pred - y_true)),
        rtol=RTOL,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_smooth_l1_gradient_equals_central_differences(dtype):
    # 0.25 is the kink; large errors must not overflow in half precision.
    errors = [0.0, 0.125, -0.125, 0.25, -0.25, 0.75, 1e4, -1e4]
    y_pred = np.array([errors], dtype)
    y_true = np.zeros((1, 8), dtype)
    loss = SmoothL1(beta=0.25, dtype=dtype)
    expected = central_difference(
        lambda point: reference.smooth_l1(y_true, point, 0.25).mean(),
        y_pred,
        step=1e-6,
    )
    received = gradient(lambda point: loss(y_true, point), y_pred)
    assert received.dtype == dtype
    # The step of the difference, over 4 beta, at the kink.
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_smoothing_turns_one_hot_into_the_worked_example():
    # Smoothing 0.1 turns [0, 1] into [0.05, 0.95]: with log-probabilities
    # -1 and 0 in turn, the loss reads off one target each.
    loss = SmoothedSparseCategoricalCrossentropy(0.1)
    probability = np.exp(-1.0)
    y_pred = np.array([[probability, 1 - probability]])
    rest = -np.log(1 - probability)
    expected = 0.05 * 1.0 + 0.95 * rest
    assert float(loss(np.array([1]), y_pred)) == pytest.approx(expected, RTOL)
    expected = 0.95 * 1.0 + 0.05 * rest
    assert float(loss(np.array([0]), y_pred)) == pytest.approx(expected, RTOL)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("from_logits", [False, True])
def test_smoothed_equals_the_equation(classification, smoothing, from_logits):
    labels, logits = classification
    y_pred = logits if from_logits else probabilities_of(logits)
    loss = SmoothedSparseCategoricalCrossentropy(
        smoothing, from_logits=from_logits, reduction=None
    )
    np.testing.assert_allclose(
        values(loss, labels, y_pred),
        reference.smoothed_crossentropy(
            labels, reference.log_softmax(logits.astype("float64")), smoothing
        ),
        rtol=RTOL,
    )


@pytest.mark.parametrize("from_logits", [False, True])
def test_smoothed_equals_keras_on_one_hot_labels(classification, from_logits):
    labels, logits = classification
    y_pred = logits if from_logits else probabilities_of(logits)
    dense = keras.losses.CategoricalCrossentropy(
        label_smoothing=0.2, from_logits=from_logits, reduction=None
    )
    loss = SmoothedSparseCategoricalCrossentropy(
        0.2, from_logits=from_logits, reduction=None
    )
    np.testing.assert_allclose(
        values(loss, labels, y_pred),
        values(dense, np.eye(5, dtype="float32")[labels], y_pred),
        rtol=RTOL,
    )


@pytest.mark.parametrize("from_logits", [False, True])
def test_without_smoothing_it_equals_keras_sparse(classification, from_logits):
    labels, logits = classification
    y_pred = logits if from_logits else probabilities_of(logits)
    sparse = keras.losses.SparseCategoricalCrossentropy(
        from_logits=from_logits, reduction=None
    )
    loss = SmoothedSparseCategoricalCrossentropy(
        0.0, from_logits=from_logits, reduction=None
    )
    np.testing.assert_allclose(
        values(loss, labels, y_pred), values(sparse, labels, y_pred), rtol=RTOL
    )


@pytest.mark.parametrize("from_logits", [False, True])
def test_classes_may_stand_on_another_axis(classification, from_logits):
    labels, logits = classification
    y_pred = logits if from_logits else probabilities_of(logits)
    last, first = (
        SmoothedSparseCategoricalCrossentropy(
            0.2, from_logits=from_logits, axis=axis, reduction=None
        )
        for axis in (-1, 1)
    )
    expected = values(last, labels, y_pred)
    turned = np.moveaxis(y_pred, -1, 1)
    for y_true in (labels, labels[:, None]):
        np.testing.assert_allclose(
            values(first, y_true, turned), expected, rtol=RTOL
        )


def test_labels_may_keep_an_axis_of_length_one(classification):
    labels, logits = classification
    loss = SmoothedSparseCategoricalCrossentropy(0.2, from_logits=True)
    assert float(loss(labels[..., None], logits)) == float(loss(labels, logits))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_smoothed_gradient_equals_central_differences(dtype):
    logits = np.array(
        [[0, 0, 0], [0.5, -1, 2], [1e4, -1e4, 0], [-1e4, 1e4, 1e4]], dtype
    )
    labels = np.array([0, 2, 0, 1])
    loss = SmoothedSparseCategoricalCrossentropy(
        0.25, from_logits=True, reduction="sum", dtype=dtype
    )
    expected = central_difference(
        lambda point: reference.smoothed_crossentropy(
            labels, reference.log_softmax(point), 0.25
        ).sum(),
        logits,
        step=1e-5,
    )
    received = gradient(lambda point: loss(labels, point), logits)
    # Float16 has 11 bits, and a few of them go to softmax.
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    np.testing.assert_allclose(received, expected, atol=tolerance)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.inf, np.nan])
def test_smooth_l1_refuses_a_beta_that_is_not_positive(beta):
    with pytest.raises(ValueError, match=r"`beta` must be in \(0, inf\)"):
        SmoothL1(beta=beta)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_must_be_a_share(smoothing):
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0"):
        SmoothedSparseCategoricalCrossentropy(label_smoothing=smoothing)


SPARSE = {
    "ArcFace": losses.ArcFace(),
    "LogitAdjusted": losses.LogitAdjusted([1, 2, 3]),
    "LogitAdjusted, steep": losses.LogitAdjusted([1, 2, 3], tau=100),
    "MulticlassHinge": losses.MulticlassHinge(),
    "MulticlassHinge, largest": losses.MulticlassHinge(
        variant="crammer_singer"
    ),
    "Poly": losses.PolyLoss(from_logits=True),
    "Smoothed": SmoothedSparseCategoricalCrossentropy(from_logits=True),
    "Focal": losses.SparseCategoricalFocalCrossentropy(from_logits=True),
    "Sparsemax": losses.SparsemaxLoss(),
    "Symmetric": losses.SymmetricCrossentropy(from_logits=True),
}


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("name", SPARSE)
def test_compiled_code_takes_no_label_outside_the_classes(name, label):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh")])
    model.compile("sgd", SPARSE[name])
    y = np.array([0, 1, 2, label])
    try:
        history = model.fit(np.ones((4, 2)), y, verbose=0)
    except Exception:  # Each backend that can tell has an error of its own.
        return
    assert np.isnan(history.history["loss"])
