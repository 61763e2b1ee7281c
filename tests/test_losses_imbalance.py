"""The numbers of the losses of classes that are not equally common."""

import keras
import losses_reference as reference
import numpy as np
import pytest
from losses_reference import assert_gradient, slope, values
from reference import log_softmax

from kerascomp.losses import (
    BalancedSoftmax,
    ClassBalanced,
    LogitAdjusted,
    PolyLoss,
)

RTOL = 5e-6
COUNTS = [400, 3, 12, 7, 1]


def crossentropy(**arguments):
    return keras.losses.SparseCategoricalCrossentropy(True, **arguments)


@pytest.fixture
def classification(rng):
    labels = rng.integers(0, 5, size=(4, 3))
    return labels, rng.normal(size=(4, 3, 5)).astype("float32")


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 1 - 1e-9])
def test_class_balanced_multiplies_by_the_weights(classification, beta):
    labels, logits = classification
    weights = reference.class_balanced_weights(COUNTS, beta)
    loss = ClassBalanced(crossentropy(), COUNTS, beta, reduction=None)
    np.testing.assert_allclose(
        values(loss, labels, logits),
        weights[labels] * values(crossentropy(reduction=None), labels, logits),
        rtol=RTOL,
    )


def test_weights_go_from_equal_to_one_over_the_share():
    per_class = np.eye(5)
    constant = keras.losses.MeanSquaredError()
    zeros = np.zeros((5, 5), "float32")
    for beta, ratio in ((0.0, 1.0), (1 - 1e-12, 400.0)):
        loss = ClassBalanced(constant, COUNTS, beta, reduction=None)
        weights = values(loss, per_class, zeros)
        assert weights[4] / weights[0] == pytest.approx(ratio, 1e-5)


def test_the_effective_number_of_the_paper():
    # Two samples of overlap beta count as 1 + beta: weights 1 to 1 + beta.
    loss = ClassBalanced("mean_squared_error", [1, 2], 0.5, reduction=None)
    weights = values(loss, np.eye(2), np.zeros((2, 2), "float32"))
    assert weights[0] / weights[1] == pytest.approx(1.5, RTOL)


@pytest.mark.parametrize("form", ["integers", "column", "one-hot", "binary"])
def test_class_balanced_reads_every_form_of_labels(rng, form):
    labels = np.array([0, 1, 1, 0, 1, 1])
    logits = rng.normal(size=(6, 1)).astype("float32")
    both = np.concatenate([0 * logits, logits], axis=-1)
    inner = {
        "integers": (crossentropy(), labels, both),
        "column": (crossentropy(), labels[:, None], both),
        "one-hot": (
            keras.losses.CategoricalCrossentropy(True),
            np.eye(2)[labels],
            both,
        ),
        "binary": (keras.losses.BinaryCrossentropy(True), labels, logits),
    }
    loss, y_true, y_pred = inner[form]
    weights = reference.class_balanced_weights([9, 2], 0.9)[labels]
    log_p = log_softmax(both.astype("float64"))[np.arange(6), labels]
    np.testing.assert_allclose(
        values(
            ClassBalanced(loss, [9, 2], 0.9, reduction=None), y_true, y_pred
        ),
        -weights * log_p,
        rtol=RTOL,
    )


def test_soft_labels_have_the_mean_weight(rng):
    targets = reference.softmax(rng.normal(size=(6, 5)))
    logits = rng.normal(size=(6, 5)).astype("float32")
    weights = reference.class_balanced_weights(COUNTS, 0.99)
    inner = keras.losses.CategoricalCrossentropy(True)
    loss = ClassBalanced(inner, COUNTS, 0.99, reduction=None)
    log_p = log_softmax(logits.astype("float64"))
    np.testing.assert_allclose(
        values(loss, targets, logits),
        -(targets @ weights) * np.sum(targets * log_p, axis=-1),
        rtol=RTOL,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_class_balanced_gradient_equals_central_differences(dtype):
    labels = np.array([0, 4, 1, 2])
    logits = np.array(
        [
            [0, 0, 0, 0, 0],
            [0.5, -1, 2, 0, 1],
            [1e4, -1e4, 0, 0, 0],
            [-1e4, 1e4, 1e4, 0, 0],
        ]
    )
    weights = reference.class_balanced_weights([9, 3, 12, 7, 5], 0.9)[labels]
    assert_gradient(
        lambda **k: ClassBalanced(crossentropy(), [9, 3, 12, 7, 5], 0.9, **k),
        lambda z: -weights * log_softmax(z)[np.arange(4), labels],
        labels,
        logits,
        dtype,
    )


def test_samples_weigh_as_without_the_wrapper(classification):
    labels, logits = classification
    weight = np.arange(12.0).reshape(4, 3)
    inner = crossentropy(reduction="sum")
    loss = ClassBalanced(inner, [7] * 5, 0.9)
    expected = np.mean(
        weight * values(crossentropy(reduction=None), labels, logits)
    )
    # The wrapper's reduction counts, not the inner one's.
    received = loss(labels, logits, sample_weight=weight)
    assert float(received) == pytest.approx(expected, RTOL)


def test_the_best_adjusted_model_predicts_the_balanced_class():
    # Of two classes, 9 to 1, at a point where each is as likely as the other
    # in a balanced set, training leaves logits that are equal.
    loss = LogitAdjusted([9, 1])
    labels = np.array([0] * 9 + [1])
    received = slope(loss, labels, np.zeros((10, 2), "float32"))
    np.testing.assert_allclose(received.sum(axis=0), [0, 0], atol=1e-6)


def test_offsets_are_not_lost_beside_large_logits():
    loss = BalancedSoftmax([3, 1])
    logits = np.full((1, 2), 3e4, "float16")
    value = BalancedSoftmax([3, 1], dtype="float16")(np.array([1]), logits)
    assert float(value) == pytest.approx(np.log(4), 1e-3)  # Float16.
    value = loss(np.array([1]), np.full((1, 2), 1e8, "float32"))
    assert float(value) == pytest.approx(np.log(4), RTOL)


KINDS = [
    lambda counts: ClassBalanced(crossentropy(), counts),
    LogitAdjusted,
    BalancedSoftmax,
]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_classes_without_samples_are_refused(make, count):
    with pytest.raises(ValueError, match="`samples_per_class` must be an int"):
        make([5, count])


@pytest.mark.parametrize("make", KINDS)
def test_counts_may_be_an_array(make):
    loss = make(np.bincount([0, 0, 1, 2]))
    assert loss.get_config()["samples_per_class"] == [2, 1, 1]
    with pytest.raises(ValueError, match="two or more classes"):
        make([5])


@pytest.mark.parametrize("make", KINDS)
def test_counts_must_fit_the_classes(make):
    with pytest.raises(ValueError, match="one entry for each of the 3 classes"):
        make([5, 1])(np.array([0, 1]), np.zeros((2, 3)))


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"`beta` must be in \[0, 1\)"):
        ClassBalanced("mean_squared_error", [1, 2], beta=1.0)
    with pytest.raises(ValueError, match=r"`tau` must be in \[0, inf\)"):
        LogitAdjusted([1, 2], tau=-1.0)
    loss = ClassBalanced(PolyLoss(), [1, 2])
    with pytest.raises(ValueError, match=r"integers in \[0, 2\)"):
        loss(np.array([2]), np.array([[0.5, 0.5]]))
