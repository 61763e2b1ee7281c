"""The numbers of metrics of classes and labels."""

import warnings

import keras
import metrics_reference as reference
import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics as sk
from backend import compiled

from kerascomp import metrics

ops = keras.ops

# Float32 counts, which are exact, and a few operations on them.
RTOL = 2e-6


def value(metric, y_true, y_pred, weights=None, batches=(None,)):
    """The result after one update, or after one for each part of the data."""
    start = 0
    for end in batches:
        part = slice(start, end)
        some = None if weights is None else weights[part]
        metric.update_state(y_true[part], y_pred[part], sample_weight=some)
        start = end
    return ops.convert_to_numpy(metric.result())


@pytest.fixture(scope="module", params=["wine", "digits", "breast_cancer"])
def predicted(request):
    """Labels and out-of-sample probabilities of a poor model on real data."""
    load = getattr(sklearn.datasets, f"load_{request.param}")
    x, y = load(return_X_y=True)
    x, train = x[:, :3], np.arange(len(y)) % 3 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sklearn.linear_model.LogisticRegression().fit(
            x[train], y[train]
        )
    probabilities = model.predict_proba(x[~train]).astype("float32")
    weights = np.random.default_rng(2).uniform(0, 3, len(probabilities))
    weights[::5] = 0
    return y[~train], probabilities, weights.astype("float32")


# Each: a metric of the number of classes, and scikit-learn's number.
ORACLES = {
    "matthews": (metrics.MatthewsCorrelation, sk.matthews_corrcoef),
    "kappa": (metrics.CohenKappa, sk.cohen_kappa_score),
    "kappa, linear": (
        lambda classes: metrics.CohenKappa(classes, weights="linear"),
        lambda y, p, **k: sk.cohen_kappa_score(y, p, weights="linear", **k),
    ),
    "kappa, quadratic": (
        lambda classes: metrics.CohenKappa(classes, weights="quadratic"),
        lambda y, p, **k: sk.cohen_kappa_score(y, p, weights="quadratic", **k),
    ),
    "balanced": (metrics.BalancedAccuracy, sk.balanced_accuracy_score),
    "balanced, adjusted": (
        lambda classes: metrics.BalancedAccuracy(classes, adjusted=True),
        lambda y, p, **k: sk.balanced_accuracy_score(y, p, adjusted=True, **k),
    ),
    "geometric mean": (
        metrics.GeometricMeanScore,
        lambda y, p, sample_weight=None: reference.geometric_mean(
            y, p, sample_weight
        ),
    ),
    "zero-one": (lambda _: metrics.ZeroOneLoss(), sk.zero_one_loss),
    **{
        f"confusion, {normalize}": (
            lambda classes, n=normalize: metrics.ConfusionMatrix(classes, n),
            lambda y, p, n=normalize, **k: sk.confusion_matrix(
                y, p, normalize=n, **k
            ),
        )
        for normalize in (None, "true", "pred", "all")
    },
}


@pytest.mark.parametrize("name", ORACLES)
def test_equals_scikit_learn_on_real_data(predicted, name):
    labels, probabilities, weights = predicted
    make, oracle = ORACLES[name]
    classes, half = probabilities.shape[1], len(labels) // 2
    choices = probabilities.argmax(axis=1)
    np.testing.assert_allclose(
        value(make(classes), labels, probabilities, batches=(half, None)),
        oracle(labels, choices),
        rtol=RTOL,
        atol=2e-7,  # Kappa is a difference from 1.
    )
    np.testing.assert_allclose(
        value(make(classes), labels, probabilities, weights, (half, None)),
        oracle(labels, choices, sample_weight=weights),
        rtol=1e-5,  # Sums of hundreds of weights.
        atol=1e-6,
    )


@pytest.mark.parametrize("name", ORACLES)
def test_labels_may_be_sparse_or_one_hot(predicted, name):
    labels, probabilities, _ = predicted
    make, _ = ORACLES[name]
    classes = probabilities.shape[1]
    expected = value(make(classes), labels, probabilities)
    for same in (labels[:, None], np.eye(classes)[labels], labels * 1.0):
        np.testing.assert_array_equal(
            value(make(classes), same, probabilities), expected
        )


@pytest.mark.parametrize("name", ORACLES)
def test_two_classes_may_have_one_score(rng, name):
    make, oracle = ORACLES[name]
    labels, p = rng.integers(0, 2, 40), rng.uniform(size=(40, 1))
    expected = oracle(labels, (p[:, 0] > 0.5).astype(int))
    both = np.concatenate([1 - p, p], axis=1)
    for y_true in (labels, labels[:, None], np.eye(2)[labels]):
        for y_pred in (p, p[:, 0], both):
            np.testing.assert_allclose(
                value(make(2), y_true, y_pred), expected, rtol=RTOL
            )


def test_the_threshold_is_where_class_one_begins():
    logits = np.array([[-2.0], [0.0], [0.25], [3.0]])
    labels = np.array([0, 0, 1, 1])
    right = metrics.ZeroOneLoss(threshold=0.0)
    assert value(right, labels, logits) == 0
    assert value(metrics.ZeroOneLoss(threshold=0.25), labels, logits) == 0.25
    for make in (
        metrics.MatthewsCorrelation,
        metrics.CohenKappa,
        metrics.BalancedAccuracy,
        metrics.GeometricMeanScore,
    ):
        assert value(make(2, threshold=0.0), labels, logits) == 1


# What scikit-learn documents where a number is not defined.
CONSTANT = {
    "labels of one class": ([1, 1, 1, 1], [1, 1, 0, 1]),
    "predictions of one class": ([1, 0, 0, 1], [1, 1, 1, 1]),
    "one class on both sides": ([1, 1, 1, 1], [1, 1, 1, 1]),
    "no positives": ([0, 0, 0, 0], [0, 1, 0, 1]),
    "nothing right": ([0, 0, 1, 1], [1, 1, 0, 0]),
    "a class that is only predicted": ([0, 0, 1, 1], [0, 2, 1, 1]),
}


@pytest.mark.parametrize("case", CONSTANT)
@pytest.mark.parametrize("name", ORACLES)
def test_edge_cases_are_those_of_scikit_learn(case, name):
    labels, choices = map(np.array, CONSTANT[case])
    make, oracle = ORACLES[name]
    extra = {}
    if "confusion" in name or "kappa" in name:
        extra = {"labels": [0, 1, 2]}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = oracle(labels, choices, **extra)
    received = value(make(3), labels, np.eye(3)[choices])
    np.testing.assert_allclose(received, expected, rtol=RTOL)


def test_kappa_keeps_the_distance_across_unused_classes():
    labels, choices = np.array([0, 4, 4, 1]), np.array([0, 4, 1, 4])
    metric = metrics.CohenKappa(5, weights="quadratic")
    np.testing.assert_allclose(
        value(metric, labels, np.eye(5)[choices]),
        sk.cohen_kappa_score(
            labels, choices, weights="quadratic", labels=range(5)
        ),
        rtol=RTOL,
    )


@pytest.mark.parametrize("rare", [10, 1000])
def test_matthews_keeps_its_precision_on_rare_classes(rare):
    # A million samples in float32, where n * hits - ... would cancel.
    matrix = np.array([[10**6, rare // 2], [rare // 5, rare]])
    labels, choices = np.indices((2, 2)).reshape(2, -1)
    counts = matrix.ravel().astype("float32")
    metric = metrics.MatthewsCorrelation(2)
    (tn, fp), (fn, tp) = matrix.tolist()
    expected = (tp * tn - fp * fn) / np.sqrt(
        float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    )
    np.testing.assert_allclose(
        value(metric, labels, np.eye(2)[choices], counts), expected, rtol=RTOL
    )


def test_the_correction_replaces_a_recall_of_zero():
    labels, choices = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    metric = metrics.GeometricMeanScore(3, correction=0.125)
    # Recalls 1/2, 1, and 0.125 for 0: their product is 1/16.
    assert value(metric, labels, np.eye(3)[choices]) == pytest.approx(
        (1 / 16) ** (1 / 3), rel=RTOL
    )


@pytest.fixture
def several(rng):
    """Labels, scores and weights with several labels a sample."""
    labels, scores = rng.integers(0, 2, (30, 4)), rng.normal(size=(30, 4))
    labels[:, 2] = 0  # No positives.
    return labels, scores, rng.integers(0, 3, 30).astype("float64")


LABELLED = {
    "hamming": (metrics.HammingLoss(threshold=0.3), sk.hamming_loss),
    "zero-one": (
        metrics.ZeroOneLoss(multi_label=True, threshold=0.3),
        sk.zero_one_loss,
    ),
    "confusion": (
        metrics.MultiLabelConfusionMatrix(4, threshold=0.3),
        sk.multilabel_confusion_matrix,
    ),
}


@pytest.mark.parametrize("name", LABELLED)
def test_several_labels_equal_scikit_learn(several, name):
    labels, scores, weights = several
    metric, oracle = LABELLED[name]
    metric.reset_state()
    np.testing.assert_allclose(
        value(metric, labels, scores, weights, (11, None)),
        oracle(labels, scores > 0.3, sample_weight=weights),
        rtol=RTOL,
    )


def test_hamming_is_one_minus_keras_binary_accuracy(several):
    labels, scores, _ = several
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.3)
    np.testing.assert_allclose(
        value(metrics.HammingLoss(threshold=0.3), labels, scores),
        1 - value(accuracy, labels, scores),
        rtol=RTOL,
    )


def test_one_hot_labels_give_each_class_against_the_rest(predicted):
    labels, probabilities, _ = predicted
    classes = probabilities.shape[1]
    choices = np.eye(classes)[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(
        value(
            metrics.MultiLabelConfusionMatrix(classes),
            np.eye(classes)[labels],
            choices,
        ),
        sk.multilabel_confusion_matrix(labels, choices.argmax(axis=1)),
    )


CLASS_METRICS = [
    metrics.MatthewsCorrelation(3),
    metrics.CohenKappa(3),
    metrics.BalancedAccuracy(3),
    metrics.GeometricMeanScore(3),
    metrics.ConfusionMatrix(3),
    metrics.ZeroOneLoss(),
    metrics.BrierScore(),
    metrics.ExpectedCalibrationError(3),
]
by_class = pytest.mark.parametrize(
    "metric", CLASS_METRICS, ids=lambda m: type(m).__name__
)


@by_class
@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_the_classes_are_refused(metric, label):
    metric.reset_state()
    y_pred = np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=rf"\[0, 3\).*Received: {label}$"):
        metric.update_state([0, label], y_pred)


@by_class
def test_in_compiled_code_a_label_outside_the_classes_gives_nan(metric):
    metric.reset_state()
    if keras.backend.backend() == "torch":
        return  # Runs eagerly, and raises.
    labels, y_pred = np.array([0, 3]), np.full((2, 3), 1 / 3)
    state = compiled(metric.stateless_update_state)(
        [ops.convert_to_tensor(v) for v in metric.variables],
        *map(ops.convert_to_tensor, (labels, y_pred)),
    )
    received = ops.convert_to_numpy(metric.stateless_result(state))
    assert np.isnan(received).all()


@by_class
def test_classes_in_place_of_scores_are_refused(metric):
    with pytest.raises(ValueError, match=r"not classes\. Received: .*int"):
        metric.update_state([0, 2], np.array([[0, 1, 0], [0, 0, 1]], "int32"))


@by_class
def test_labels_of_another_shape_are_refused(metric):
    with pytest.raises(ValueError, match=r"Received: y_true\.shape=\(4, 2\)"):
        metric.update_state(np.zeros((4, 2)), np.full((4, 3), 1 / 3))


@pytest.mark.parametrize("make", [type(m) for m in CLASS_METRICS[:5]])
def test_the_number_of_classes_must_fit(make):
    with pytest.raises(ValueError, match=r"length 4.*y_pred\.shape=\(2, 3\)"):
        make(4).update_state([0, 1], np.full((2, 3), 1 / 3))
    with pytest.raises(ValueError, match="`num_classes` must be an integer"):
        make(1)
    with pytest.raises(ValueError, match="`threshold` must be in"):
        make(2, threshold=np.nan)


def test_labels_neither_zero_nor_one_are_refused(several):
    labels, scores, _ = several
    for metric, _ in LABELLED.values():
        with pytest.raises(ValueError, match="must hold 0 or 1"):
            metric.update_state(labels + 1, scores)


def test_the_number_of_labels_must_fit(several):
    labels, scores, _ = several
    with pytest.raises(ValueError, match=r"length 5.*Received: 4"):
        metrics.MultiLabelConfusionMatrix(5).update_state(labels, scores)
    with pytest.raises(ValueError, match="`num_labels` must be an integer"):
        metrics.MultiLabelConfusionMatrix(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.CohenKappa(3, weights="cubic"), "`weights` must"),
        (lambda: metrics.ConfusionMatrix(3, normalize="x"), "`normalize` must"),
        (lambda: metrics.GeometricMeanScore(3, 1.5), "`correction` must be in"),
        (lambda: metrics.HammingLoss(np.inf), "`threshold` must be in"),
        (lambda: metrics.ZeroOneLoss(threshold=np.inf), "`threshold` must be"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
