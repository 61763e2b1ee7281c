"""The numbers of calibration and of the Brier score."""

import keras
import metrics_reference as reference
import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics as sk
from backend import compiled

from kerascomp.metrics import BrierScore, ExpectedCalibrationError

ops = keras.ops

# Sums of a hundred float32 gaps, which partly cancel.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def value(metric, *arrays, weights=None):
    metric.update_state(*arrays, sample_weight=weights)
    return float(metric.result())


@pytest.fixture
def samples(rng):
    """Labels, float32 probabilities without ties, and weights."""
    logits = rng.normal(size=(120, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = rng.integers(0, 4, 120)
    weights = rng.uniform(0, 2, 120).astype("float32")
    weights[::7] = 0
    return labels, probabilities.astype("float32"), weights


def top(labels, probabilities):
    """Confidence, and whether the predicted class is right, in float64."""
    confidence = probabilities.max(axis=1).astype("float64")
    return confidence, (probabilities.argmax(axis=1) == labels) * 1.0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_equal_width_equals_the_equation(samples, num_bins, weighted):
    labels, probabilities, weights = samples
    weights = weights if weighted else None
    confidence, right = top(labels, probabilities)
    bins = reference.equal_width(confidence, num_bins)
    np.testing.assert_allclose(
        value(
            ExpectedCalibrationError(4, num_bins),
            labels,
            probabilities,
            weights=weights,
        ),
        reference.calibration_error(confidence, right, bins, weights),
        **TOLERANCE,
    )


@pytest.mark.parametrize(
    ("binning", "strategy"),
    [("equal_width", "uniform"), ("equal_mass", "quantile")],
)
def test_equals_scikit_learn_calibration_curve(samples, binning, strategy):
    labels, probabilities, _ = samples
    confidence, right = top(labels, probabilities)
    accuracy, mean = sklearn.calibration.calibration_curve(
        right, confidence, n_bins=10, strategy=strategy
    )
    counts = np.full(10, 12)  # 120 samples in 10 bins of equal mass.
    if strategy == "uniform":
        counts, _ = np.histogram(confidence, np.linspace(0, 1, 11))
        counts = counts[counts > 0]
    np.testing.assert_allclose(
        value(
            ExpectedCalibrationError(4, 10, binning, capacity=120),
            labels,
            probabilities,
        ),
        np.sum(counts / 120 * np.abs(accuracy - mean)),
        **TOLERANCE,
    )


@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_equal_mass_cuts_the_sorted_samples_into_equal_parts(samples, num_bins):
    labels, probabilities, _ = samples
    number = num_bins * 8  # Parts of equal size, as the paper has them.
    labels, probabilities = labels[:number], probabilities[:number]
    confidence, right = top(labels, probabilities)
    bins = reference.equal_mass(confidence, num_bins)
    np.testing.assert_allclose(
        value(
            ExpectedCalibrationError(4, num_bins, "equal_mass"),
            labels,
            probabilities,
        ),
        reference.calibration_error(confidence, right, bins),
        **TOLERANCE,
    )


@pytest.mark.parametrize("num_bins", [1, 5, 15])
def test_adaptive_averages_over_classes_and_equal_parts(samples, num_bins):
    labels, probabilities, _ = samples
    errors = [
        # Nixon et al., 2019: the mean over ranges and classes.
        np.abs((event - confidence)[bins == number].mean())
        for k in range(4)
        for confidence, event in [
            (probabilities[:, k].astype("float64"), labels == k)
        ]
        for bins in [reference.equal_mass(confidence, num_bins)]
        for number in range(num_bins)
    ]
    metric = ExpectedCalibrationError(4, num_bins, "adaptive", capacity=200)
    np.testing.assert_allclose(
        value(metric, labels, probabilities), np.mean(errors), **TOLERANCE
    )


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass", "adaptive"])
def test_one_score_stands_for_two_classes(rng, binning):
    labels, p = rng.integers(0, 2, 40), rng.uniform(size=(40, 1))
    p = p.astype("float32")
    one, two = (ExpectedCalibrationError(2, 5, binning) for _ in range(2))
    np.testing.assert_allclose(
        value(one, labels, p),
        value(two, labels, np.concatenate([1 - p, p], axis=1)),
        **TOLERANCE,
    )


def test_an_edge_belongs_to_the_bin_below():
    # Confidence 1/2, both wrong: one bin of gap 1/2 if the edge is below.
    metric = ExpectedCalibrationError(3, 2)
    y_pred = np.array([[0.5, 0.25, 0.25], [0.375, 0.375, 0.25]])
    # In one bin the gaps -1/2 and 5/8 cancel in part: 1/8 over 2.
    assert value(metric, [1, 0], y_pred) == pytest.approx(0.0625)


@pytest.mark.parametrize("binning", ["equal_mass", "adaptive"])
def test_the_order_of_ties_does_not_matter(rng, binning):
    labels = rng.integers(0, 2, 60)
    p = rng.integers(1, 4, (60, 1)) / 4
    order = rng.permutation(60)
    one, two = (ExpectedCalibrationError(2, 4, binning) for _ in range(2))
    assert value(one, labels, p) == pytest.approx(
        value(two, labels[order], p[order]), rel=1e-6
    )


@pytest.mark.parametrize("binning", ["equal_mass", "adaptive"])
def test_beyond_the_capacity_the_result_is_nan(samples, binning):
    labels, probabilities, _ = samples
    metric = ExpectedCalibrationError(4, 5, binning, capacity=10)
    weights = np.ones(12)
    weights[:2] = 0  # They take no place.
    exact = value(metric, labels[:12], probabilities[:12], weights=weights)
    other = ExpectedCalibrationError(4, 5, binning, capacity=99)
    assert exact == value(other, labels[2:12], probabilities[2:12])
    assert np.isnan(value(metric, labels[:1], probabilities[:1]))
    metric.reset_state()
    assert np.isfinite(value(metric, labels[:1], probabilities[:1]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale_by_half", ["auto", True, False])
@pytest.mark.parametrize("classes", [2, 4])
def test_brier_equals_scikit_learn(samples, classes, scale_by_half, weighted):
    labels, probabilities, weights = samples
    labels, weights = labels % classes, weights if weighted else None
    probabilities = probabilities[:, :classes].astype("float64")
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        value(
            BrierScore(scale_by_half), labels, probabilities, weights=weights
        ),
        sk.brier_score_loss(
            labels,
            probabilities,
            sample_weight=weights,
            scale_by_half=scale_by_half,
            labels=range(classes),
        ),
        rtol=2e-6,
    )


def test_brier_of_one_score_equals_scikit_learn(rng):
    labels, p = rng.integers(0, 2, 40), rng.uniform(size=40)
    expected = sk.brier_score_loss(labels, p)
    for y_pred in (p, p[:, None]):
        assert value(BrierScore(), labels, y_pred) == pytest.approx(
            expected, rel=2e-6
        )


@pytest.mark.parametrize(
    "make", [BrierScore, lambda: ExpectedCalibrationError(3)]
)
def test_logits_are_refused(make):
    y_pred = np.array([[0.2, 0.3, 0.5], [-1.0, 2.0, 0.0]], "float32")
    message = r"probabilities in \[0, 1\]. Received: \[-1"
    with pytest.raises(ValueError, match=message):
        make().update_state([0, 1], y_pred)
    if keras.backend.backend() == "torch":
        return  # Runs eagerly, and raises.
    metric = make()
    state = compiled(metric.stateless_update_state)(
        [ops.convert_to_tensor(v) for v in metric.variables],
        *map(ops.convert_to_tensor, (np.array([0, 1]), y_pred)),
    )
    assert np.isnan(ops.convert_to_numpy(metric.stateless_result(state)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "`num_classes` must be an integer of at least 2"),
        ({"num_bins": 0}, "`num_bins` must be an integer of at least 1"),
        ({"binning": "equal"}, "`binning` must be one of"),
        ({"capacity": 0}, "`capacity` must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExpectedCalibrationError(**{"num_classes": 3, **arguments})


def test_the_scale_of_brier_is_a_choice_of_three():
    with pytest.raises(ValueError, match="`scale_by_half` must be one of"):
        BrierScore(scale_by_half="never")
