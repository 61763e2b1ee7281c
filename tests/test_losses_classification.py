"""The numbers of the variants of the crossentropy."""

import functools

import keras
import losses_reference as reference
import numpy as np
import pytest
from losses_reference import assert_gradient, slope, values
from reference import log_softmax

from kerascomp.losses import (
    AsymmetricLoss,
    BalancedSoftmax,
    LogitAdjusted,
    PolyLoss,
    SparseCategoricalFocalCrossentropy,
    SparsemaxLoss,
    SymmetricCrossentropy,
)

# Float32 softmax and sums of a few dozen numbers.
RTOL = 5e-6
ALPHA = [0.1, 0.5, 1.0, 1.5, 2.0]
COUNTS = [40, 3, 12, 7, 1]

# How to make each loss from logits, and its reference of dense targets; with
# the class of the samples where it takes integers alone.
LOSSES = {
    "focal": (
        functools.partial(
            SparseCategoricalFocalCrossentropy, 0.4, 1.5, from_logits=True
        ),
        lambda q, z: reference.focal(q.argmax(-1), log_softmax(z), 0.4, 1.5),
    ),
    "focal with a root": (
        functools.partial(
            SparseCategoricalFocalCrossentropy, ALPHA, 0.5, from_logits=True
        ),
        lambda q, z: reference.focal(q.argmax(-1), log_softmax(z), ALPHA, 0.5),
    ),
    "poly": (
        functools.partial(PolyLoss, 2.0, from_logits=True),
        lambda q, z: reference.poly(q, log_softmax(z), 2.0),
    ),
    "poly below 0": (
        functools.partial(PolyLoss, -1.0, from_logits=True),
        lambda q, z: reference.poly(q, log_softmax(z), -1.0),
    ),
    "symmetric": (
        functools.partial(
            SymmetricCrossentropy, 0.3, 0.7, -5.0, from_logits=True
        ),
        lambda q, z: reference.symmetric(q, log_softmax(z), 0.3, 0.7, -5.0),
    ),
    "sparsemax": (SparsemaxLoss, reference.sparsemax_loss),
    "adjusted": (
        functools.partial(LogitAdjusted, COUNTS, 0.7),
        lambda q, z: reference.logit_adjusted(q.argmax(-1), z, COUNTS, 0.7),
    ),
    "balanced": (
        functools.partial(BalancedSoftmax, COUNTS),
        lambda q, z: reference.logit_adjusted(q.argmax(-1), z, COUNTS, 1.0),
    ),
}
OF_ONE_HOT = [name for name in LOSSES if "focal" not in name]
OF_SOFT = ["poly", "symmetric", "sparsemax"]
OF_PROBABILITIES = ["focal", "focal with a root", "poly", "symmetric"]


@pytest.fixture
def classification(rng):
    labels = rng.integers(0, 5, size=(4, 3))
    return labels, 2 * rng.normal(size=(4, 3, 5)).astype("float32")


@pytest.mark.parametrize("name", LOSSES)
def test_equals_the_equation(classification, name):
    make, exact = LOSSES[name]
    labels, logits = classification
    expected = exact(np.eye(5)[labels], logits.astype("float64"))
    for y_true in (labels, labels[..., None]):
        np.testing.assert_allclose(
            values(make(reduction=None), y_true, logits),
            expected,
            rtol=RTOL,
            atol=1e-6,
        )


@pytest.mark.parametrize("name", OF_ONE_HOT)
def test_one_hot_labels_equal_integers(classification, name):
    loss = LOSSES[name][0](reduction=None)
    labels, logits = classification
    np.testing.assert_allclose(
        values(loss, np.eye(5)[labels], logits),
        values(loss, labels, logits),
        rtol=RTOL,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", OF_SOFT)
def test_soft_labels_equal_the_equation(rng, classification, name):
    make, exact = LOSSES[name]
    targets = reference.softmax(rng.normal(size=(4, 3, 5)))
    logits = classification[1]
    np.testing.assert_allclose(
        values(make(reduction=None), targets, logits),
        exact(targets, logits.astype("float64")),
        rtol=RTOL,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_probabilities_equal_their_logits(classification, name):
    partial = LOSSES[name][0]
    labels, logits = classification
    arguments = {**partial.keywords, "from_logits": False, "reduction": None}
    loss = partial.func(*partial.args, **arguments)
    probabilities = reference.softmax(logits.astype("float64"))
    np.testing.assert_allclose(
        values(loss, labels, probabilities.astype("float32")),
        values(partial(reduction=None), labels, logits),
        rtol=2e-5,  # 1 - p of a probability close to 1.
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_equals_central_differences(name, dtype):
    make, exact = LOSSES[name]
    # Ties, a sparsemax edge, saturated right and wrong samples.
    logits = np.array(
        [
            [0, 0, 0, 0, 0],
            [0.5, -1, 2, 0, 1],
            [1, 0, 0.5, -4, -4],
            [1e4, -1e4, 0, 0, 0],
            [1e4, -1e4, 0, 0, 0],
            [-1e4, 1e4, 1e4, 0, -1e4],
        ]
    )
    labels = np.array([0, 2, 1, 0, 1, 2])
    assert_gradient(
        make,
        lambda z: exact(np.eye(5)[labels], z),
        labels,
        logits,
        dtype,
    )


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("alpha", [0.25, ALPHA])
def test_focal_is_keras_on_one_hot_labels(classification, alpha, from_logits):
    labels, logits = classification
    y_pred = logits if from_logits else reference.softmax(logits)
    arguments = {
        "alpha": alpha,
        "gamma": 1.5,
        "from_logits": from_logits,
        "reduction": None,
    }
    theirs = keras.losses.CategoricalFocalCrossentropy(**arguments)
    ours = SparseCategoricalFocalCrossentropy(**arguments)
    expected = values(theirs, np.eye(5, dtype="float32")[labels], y_pred)
    # 1 - p of a probability close to 1, in theirs.
    np.testing.assert_allclose(
        values(ours, labels, y_pred), expected, rtol=1e-4, atol=1e-6
    )
    moved = SparseCategoricalFocalCrossentropy(**arguments, axis=1)
    np.testing.assert_allclose(
        values(moved, labels, np.moveaxis(y_pred, -1, 1)),
        values(ours, labels, y_pred),
        rtol=RTOL,
    )


@pytest.mark.parametrize(
    "loss",
    [
        SparseCategoricalFocalCrossentropy(1.0, 0.0, True, reduction=None),
        PolyLoss(0.0, True, reduction=None),
        SymmetricCrossentropy(1.0, 0.0, from_logits=True, reduction=None),
        LogitAdjusted(COUNTS, 0.0, reduction=None),
        BalancedSoftmax([7] * 5, reduction=None),
    ],
    ids=lambda loss: loss.name,
)
def test_without_its_idea_it_is_the_crossentropy(classification, loss):
    theirs = keras.losses.SparseCategoricalCrossentropy(True, reduction=None)
    np.testing.assert_allclose(
        values(loss, *classification),
        values(theirs, *classification),
        rtol=RTOL,
        atol=1e-6,
    )


def test_balanced_softmax_equals_the_equation(classification):
    labels, logits = classification
    np.testing.assert_allclose(
        values(BalancedSoftmax(COUNTS, reduction=None), labels, logits),
        reference.balanced_softmax(labels, logits.astype("float64"), COUNTS),
        rtol=RTOL,
    )


GAMMAS = [(0.0, 0.0, 0.0), (0.0, 4.0, 0.05), (0.5, 0.5, 0.2), (1.0, 2.0, 0.0)]


@pytest.mark.parametrize("numbers", GAMMAS)
@pytest.mark.parametrize("from_logits", [False, True])
def test_asymmetric_equals_the_equation(rng, numbers, from_logits):
    logits = 3 * rng.normal(size=(6, 4, 3)).astype("float32")
    y_true = rng.integers(0, 2, size=(6, 4, 3))
    y_pred = logits if from_logits else 1 / (1 + np.exp(-logits))
    loss = AsymmetricLoss(*numbers, from_logits=from_logits, reduction=None)
    np.testing.assert_allclose(
        values(loss, y_true, y_pred),
        reference.asymmetric(y_true, logits.astype("float64"), *numbers),
        rtol=2e-5,  # 1 - p of a probability close to 1.
        atol=1e-6,
    )


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_asymmetric_with_equal_gammas_is_keras_focal(rng, gamma):
    logits = rng.normal(size=(6, 4)).astype("float32")
    y_true = rng.integers(0, 2, size=(6, 4))
    loss = AsymmetricLoss(gamma, gamma, 0.0, True, reduction=None)
    theirs = (
        keras.losses.BinaryFocalCrossentropy(
            gamma=gamma, from_logits=True, reduction=None
        )
        if gamma
        else keras.losses.BinaryCrossentropy(True, reduction=None)
    )
    np.testing.assert_allclose(
        values(loss, y_true, logits), values(theirs, y_true, logits), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("numbers", GAMMAS)
def test_asymmetric_gradient_equals_central_differences(numbers, dtype):
    point = [0.0, 1.0, -2.0, -4.0, 1e4, -1e4]
    logits = np.array([point, point])
    y_true = np.array([[0] * 6, [1] * 6])
    assert_gradient(
        functools.partial(AsymmetricLoss, *numbers, from_logits=True),
        lambda z: reference.asymmetric(y_true, z, *numbers),
        y_true,
        logits,
        dtype,
    )


def test_absent_labels_within_the_margin_cost_nothing():
    loss = AsymmetricLoss(0.0, 0.5, 0.25)
    y_pred = np.array([[0.0, 0.1, 0.2, 0.25]], "float32")
    y_true = np.zeros((1, 4))
    assert float(loss(y_true, y_pred)) == 0
    received = slope(loss, y_true, y_pred)
    # On the edge, the root is taken of 1e-7 instead of 0.
    np.testing.assert_allclose(received, np.zeros((1, 4)), atol=1e-4)


def test_sparsemax_gradient_is_probabilities_less_targets(classification):
    labels, logits = classification
    loss = SparsemaxLoss(reduction="sum")
    received = slope(loss, labels, logits)
    expected = reference.sparsemax(logits.astype("float64"))
    expected -= np.eye(5)[labels]
    np.testing.assert_allclose(received, expected, rtol=RTOL, atol=1e-6)


def test_sparsemax_loss_is_zero_once_the_class_leads_by_one():
    logits = np.array([[1, 0, -7], [5000.5, 5001.5, 100]], "float32")
    assert float(SparsemaxLoss()(np.array([0, 1]), logits)) == 0


def test_masked_classes_leave_the_sparsemax_loss_finite():
    logits = np.array([[1.0, 0.5, -np.inf]], "float32")
    loss = SparsemaxLoss()
    expected = reference.sparsemax_loss(np.eye(2)[:1], logits[:, :2])
    assert float(loss(np.array([0]), logits)) == pytest.approx(
        float(expected[0]), RTOL
    )
    assert np.isfinite(slope(loss, np.array([0]), logits)).all()


@pytest.mark.parametrize("name", ["poly", "sparsemax", "balanced"])
def test_masked_steps_do_not_count(classification, name):
    labels, logits = classification
    logits[1, 1:] = 99
    masked = keras.layers.Masking(99.0)(logits)
    kept = (logits != 99).all(axis=-1)
    make = LOSSES[name][0]
    expected = values(make(reduction=None), labels, logits)[kept].mean()
    assert float(make()(labels, masked)) == pytest.approx(expected, RTOL)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (SparseCategoricalFocalCrossentropy, {"alpha": -0.1}),
        (SparseCategoricalFocalCrossentropy, {"alpha": [0.1, -0.1]}),
        (SparseCategoricalFocalCrossentropy, {"gamma": -1.0}),
        (PolyLoss, {"epsilon": -1.5}),
        (SymmetricCrossentropy, {"alpha": -1.0}),
        (SymmetricCrossentropy, {"beta": -1.0}),
        (SymmetricCrossentropy, {"log_zero": 0.0}),
        (AsymmetricLoss, {"gamma_positive": -1.0}),
        (AsymmetricLoss, {"gamma_negative": np.nan}),
        (AsymmetricLoss, {"margin": 1.0}),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(kind, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be in"):
        kind(**arguments)


def test_focal_wants_one_alpha_a_class():
    loss = SparseCategoricalFocalCrossentropy(alpha=[0.5, 0.5])
    with pytest.raises(
        ValueError, match="`alpha` must have one entry for each"
    ):
        loss(np.array([0]), np.array([[0.2, 0.3, 0.5]]))


@pytest.mark.parametrize("label", [-1, 3, 0.5])
def test_labels_outside_the_classes_are_refused(label):
    for loss in (PolyLoss(), SparseCategoricalFocalCrossentropy()):
        with pytest.raises(ValueError, match=r"integers in \[0, 3\)") as error:
            loss(np.array([0, label]), np.full((2, 3), 1 / 3))
        assert f"Received: {label}" in str(error.value)


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_what_is_no_probability_is_refused(value):
    y_pred = np.array([[0.5, value]])
    for loss in (PolyLoss(), AsymmetricLoss(), SymmetricCrossentropy()):
        with pytest.raises(
            ValueError, match="must hold probabilities"
        ) as error:
            loss(np.array([[0, 1]]), y_pred)
        assert f"Received: {value}" in str(error.value)


@pytest.mark.parametrize("shape", [(3,), (4, 2), (2, 4), (4, 3, 1)])
def test_targets_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="`y_true` must have the shape"):
        PolyLoss()(np.zeros(shape), np.full((4, 3), 1 / 3))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two or more classes"):
        PolyLoss()(np.zeros((4, 1)), np.ones((4, 1)))


def test_focal_refuses_one_hot_labels():
    with pytest.raises(ValueError, match="`y_true` must hold integer labels"):
        SparseCategoricalFocalCrossentropy()(np.eye(3), np.full((3, 3), 1 / 3))
