"""The numbers of losses round another loss, and how they reload."""

import json

import keras
import losses_reference as reference
import numpy as np
import pytest
from losses_reference import assert_gradient, values
from reference import log_softmax

from kerascomp.losses import (
    ClassBalanced,
    ConfidencePenalty,
    PolyLoss,
    SequenceLoss,
    SmoothedSparseCategoricalCrossentropy,
    SmoothL1,
    WeightedKappa,
)

RTOL = 5e-6


def crossentropy(from_logits=True, **arguments):
    return keras.losses.SparseCategoricalCrossentropy(from_logits, **arguments)


@pytest.fixture
def classification(rng):
    labels = rng.integers(0, 5, size=(4, 3))
    return labels, rng.normal(size=(4, 3, 5)).astype("float32")


def penalized(labels, logits, beta, threshold):
    """Pereyra et al., 2017, section 3: crossentropy and entropy."""
    log_p = log_softmax(np.asarray(logits, "float64"))
    hard = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    entropy = -np.sum(np.exp(log_p) * log_p, axis=-1)
    if threshold is None:
        return hard - beta * entropy
    return hard + beta * np.maximum(0, threshold - entropy)


@pytest.mark.parametrize("threshold", [None, 1.3])
@pytest.mark.parametrize("from_logits", [False, True])
def test_penalty_equals_the_equation(classification, threshold, from_logits):
    labels, logits = classification
    y_pred = logits if from_logits else reference.softmax(logits)
    inner = crossentropy(from_logits)
    loss = ConfidencePenalty(inner, 0.4, threshold, from_logits, reduction=None)
    np.testing.assert_allclose(
        values(loss, labels, y_pred),
        penalized(labels, logits, 0.4, threshold),
        rtol=2e-5,  # Differences of loss and entropy.
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("threshold", [None, 1.0])
def test_penalty_gradient_equals_central_differences(threshold, dtype):
    logits = np.array(
        [[0, 0, 0], [0.5, -1, 2], [1e4, -1e4, 0], [-1e4, 1e4, 1e4], [3, 0, 0]]
    )
    labels = np.array([0, 2, 1, 1, 0])
    assert_gradient(
        lambda **k: ConfidencePenalty(
            crossentropy(), 0.4, threshold, from_logits=True, **k
        ),
        lambda z: penalized(labels, z, 0.4, threshold),
        labels,
        logits,
        dtype,
    )


def test_label_smoothing_is_a_penalty_of_the_reverse_divergence():
    # At a uniform prediction, where both divergences are 0, the values agree
    # up to the entropy that the penalty takes away.
    labels, logits = np.array([0, 2]), np.zeros((2, 3))
    smoothed = SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)
    loss = ConfidencePenalty(crossentropy(), 0.1, from_logits=True)
    assert float(loss(labels, logits)) == pytest.approx(
        float(smoothed(labels, logits)) - 0.1 * np.log(3), RTOL
    )


# Losses of four tokens and of one: 1 2 3 4, and 10.
TOKENS = np.array([[1.0, 2, 3, 4], [10, 99, 99, 99]])
PRESENT = np.array([[1, 1, 1, 1], [1, 0, 0, 0]])
WEIGHTS = np.array([[1.0, 0, 1, 2], [3, 5, 5, 5]])
AVERAGES = {
    "tokens": (20 / 5, (1 + 3 + 8 + 30) / 5, (1 + 3 + 8 + 30) / 7),
    "sequences": ((2.5 + 10) / 2, (3 + 30) / 2, (3 + 10) / 2),
    "batch": (20 / 2, (12 + 30) / 2, (12 + 30) / 2),
}


def token_error(y_true, y_pred):
    return keras.ops.abs(y_pred[..., 0])


def padded(marks):
    """Predictions whose padding a mask tells, or labels do."""
    if marks == "mask":
        y_pred = np.where(PRESENT, TOKENS, 0)[..., None].astype("float32")
        return np.zeros((2, 4)), keras.layers.Masking(0.0)(y_pred), None
    return np.where(PRESENT, 3, 7), TOKENS[..., None].astype("float32"), 7


@pytest.mark.parametrize("marks", ["mask", "label"])
@pytest.mark.parametrize("average", AVERAGES)
def test_sequences_average_as_by_hand(average, marks):
    y_true, y_pred, ignored = padded(marks)
    plain, weighed, by_weight = AVERAGES[average]
    loss = SequenceLoss(token_error, average, ignored)
    assert float(loss(y_true, y_pred)) == pytest.approx(plain, RTOL)
    for target in (y_true, y_true[..., None]):
        received = loss(target, y_pred, sample_weight=WEIGHTS)
        assert float(received) == pytest.approx(weighed, RTOL)
    loss = SequenceLoss(
        token_error, average, ignored, reduction="mean_with_sample_weight"
    )
    received = loss(y_true, y_pred, sample_weight=WEIGHTS)
    assert float(received) == pytest.approx(by_weight, RTOL)


@pytest.mark.parametrize("marks", ["mask", "label"])
@pytest.mark.parametrize("average", AVERAGES)
def test_without_a_mean_tokens_keep_their_losses(average, marks):
    y_true, y_pred, ignored = padded(marks)
    loss = SequenceLoss(token_error, average, ignored, reduction=None)
    expected = PRESENT * TOKENS
    np.testing.assert_array_equal(values(loss, y_true, y_pred), expected)
    loss = SequenceLoss(token_error, average, ignored, reduction="sum")
    assert float(loss(y_true, y_pred)) == 20
    weight = np.array([2.0, 3.0])
    received = loss(y_true, y_pred, sample_weight=weight)
    assert float(received) == np.sum(expected * weight[:, None])


def test_without_padding_tokens_average_as_keras_does(classification):
    loss = SequenceLoss(crossentropy())
    expected = float(crossentropy()(*classification))
    assert float(loss(*classification)) == pytest.approx(expected, RTOL)


def test_tokens_average_as_keras_with_an_ignored_class(classification):
    labels, logits = classification
    labels = np.where(labels == 2, -1, labels)
    theirs = crossentropy(ignore_class=-1)
    loss = SequenceLoss(crossentropy(), ignore_class=-1)
    assert float(loss(labels, logits)) == pytest.approx(
        float(theirs(labels, logits)), RTOL
    )


@pytest.mark.parametrize("average", AVERAGES)
def test_a_batch_of_padding_has_no_loss(average):
    loss = SequenceLoss(crossentropy(), average, ignore_class=0)
    assert float(loss(np.zeros((2, 3)), np.ones((2, 3, 5)))) == 0


def test_sequence_gradient_equals_central_differences():
    labels = np.array([[0, 2, -1], [1, -1, -1]])
    logits = np.array(
        [
            [[0, 0, 0], [1e4, -1e4, 0], [5, 1, 2]],
            [[0.5, 2, -1], [1e4, 0, 0], [0, 0, 0]],
        ]
    )

    def exact(z):
        log_p = log_softmax(z)
        return -(log_p[0, 0, 0] + log_p[0, 1, 2]) / 4 - log_p[1, 0, 1] / 2

    # The sum of all averages' one value: `reduction` is the caller's.
    def make(reduction, dtype):
        return SequenceLoss(crossentropy(), "sequences", -1, dtype=dtype)

    for dtype in ("float32", "float16"):
        assert_gradient(make, exact, labels, logits, dtype)


WRAPPERS = [
    lambda loss, **k: ConfidencePenalty(loss, 0.3, 1.0, True, **k),
    lambda loss, **k: SequenceLoss(loss, "sequences", 2, **k),
    lambda loss, **k: ClassBalanced(loss, [4, 2, 9, 3, 1], 0.9, **k),
]
INNER = {
    "Keras": crossentropy,
    "kerascomp": lambda: PolyLoss(2.0, from_logits=True),
    "wrapped": lambda: ClassBalanced(
        PolyLoss(2.0, from_logits=True), [1, 2, 3, 4, 5], 0.5
    ),
}


@pytest.mark.parametrize("make", WRAPPERS)
@pytest.mark.parametrize("inner", INNER)
def test_wrappers_reload_with_their_loss(tmp_path, classification, make, inner):
    labels, logits = classification
    loss = make(INNER[inner]())
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    twin = keras.saving.deserialize_keras_object(json.loads(text))
    model = keras.Sequential([keras.Input((3, 5)), keras.layers.Identity()])
    model.compile("sgd", loss)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").loss
    for each in (twin, loaded):
        assert type(each.loss) is type(loss.loss)
        assert each.get_config() == loss.get_config()
        assert float(each(labels, logits)) == float(loss(labels, logits))


@pytest.mark.parametrize("make", WRAPPERS)
def test_wrappers_take_what_compile_takes(classification, make):
    labels, logits = classification
    by_name = make("mean_absolute_error")
    y_true = logits + 1
    if isinstance(by_name, SequenceLoss):
        by_name = SequenceLoss("mean_absolute_error")
    elif isinstance(by_name, ClassBalanced):
        y_true = np.eye(5)[labels]
    text = json.dumps(keras.saving.serialize_keras_object(by_name))
    twin = keras.saving.deserialize_keras_object(json.loads(text))
    assert float(twin(y_true, logits)) == float(by_name(y_true, logits))


@pytest.mark.parametrize("make", WRAPPERS)
def test_wrappers_refuse_what_has_no_value_a_sample(classification, make):
    with pytest.raises(ValueError, match="`loss` must be a loss"):
        make(None)
    with pytest.raises(ValueError, match="must not leave out a class"):
        make(crossentropy(ignore_class=1))
    with pytest.raises(ValueError, match="a value for each sample"):
        make(WeightedKappa(from_logits=True))(*classification)


def test_bad_arguments_are_refused():
    for arguments in ({"beta": -1.0}, {"threshold": 0.0}):
        (name,) = arguments
        with pytest.raises(ValueError, match=f"`{name}` must be in"):
            ConfidencePenalty(crossentropy(False), **arguments)
    with pytest.raises(ValueError, match="that of the wrapped loss"):
        ConfidencePenalty(crossentropy(), from_logits=False)
    with pytest.raises(ValueError, match="`average` must be one of 'tokens'"):
        SequenceLoss(crossentropy(), "mean")
    with pytest.raises(ValueError, match="`ignore_class` must be an integer"):
        SequenceLoss(crossentropy(), ignore_class=1.5)


def test_a_sequence_loss_needs_tokens(rng):
    loss = SequenceLoss(SmoothL1())
    with pytest.raises(ValueError, match="a value for each token"):
        loss(rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))
