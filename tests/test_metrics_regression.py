"""The numbers of correlations, quantiles and intervals."""

import warnings

import keras
import metrics_reference as reference
import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import sklearn.linear_model
import sklearn.metrics

from kerascomp.metrics import (
    IntervalCoverage,
    IntervalWidth,
    KendallTau,
    PinballLoss,
    SpearmanCorrelation,
    StreamingPearsonCorrelation,
)

ops = keras.ops

# Batches are of equal size, because JAX compiles every operation once a shape;
# the contract splits unequally.
# Float32 sums of hundreds of numbers.
TOLERANCE = {"rtol": 5e-6, "atol": 1e-6}


def tau_c(x, y):
    return scipy.stats.kendalltau(x, y, variant="c")


CORRELATIONS = {
    "pearson": (StreamingPearsonCorrelation, scipy.stats.pearsonr),
    "spearman": (lambda: SpearmanCorrelation(500), scipy.stats.spearmanr),
    "tau-b": (lambda: KendallTau(capacity=500), scipy.stats.kendalltau),
    "tau-c": (lambda: KendallTau("c", capacity=500), tau_c),
}
RANKS = [name for name in CORRELATIONS if name != "pearson"]


def value(metric, y_true, y_pred, weights=None, batches=(None,)):
    """The result after one update, or after one for each part of the data."""
    start = 0
    for end in batches:
        part = slice(start, end)
        some = None if weights is None else weights[part]
        metric.update_state(y_true[part], y_pred[part], sample_weight=some)
        start = end
    return float(metric.result())


@pytest.fixture(scope="module")
def diabetes():
    """Labels of real data, with ties, and predictions of a linear model."""
    x, y = sklearn.datasets.load_diabetes(return_X_y=True)
    model = sklearn.linear_model.LinearRegression().fit(x[::2], y[::2])
    return y, model.predict(x).astype("float32")


@pytest.mark.parametrize("batches", [(None,), (221, None)])
@pytest.mark.parametrize("name", CORRELATIONS)
def test_equals_scipy_on_real_data(diabetes, name, batches):
    make, oracle = CORRELATIONS[name]
    for y_pred in (
        diabetes[1],
        np.round(diabetes[1], -1),
    ):  # Without, with ties.
        np.testing.assert_allclose(
            value(make(), diabetes[0], y_pred, batches=batches),
            oracle(diabetes[0], y_pred).statistic,
            **TOLERANCE,
        )


@pytest.mark.parametrize("name", CORRELATIONS)
def test_equals_scipy_on_small_tables(rng, name):
    make, oracle = CORRELATIONS[name]
    for rows, columns in [(2, 2), (2, 5), (4, 3)]:
        x, y = rng.integers(0, rows, 60), rng.integers(0, columns, 60)
        np.testing.assert_allclose(
            value(make(), x, y), oracle(x, y).statistic, **TOLERANCE
        )


@pytest.mark.parametrize("name", CORRELATIONS)
def test_integer_weights_repeat_samples(rng, name):
    make, oracle = CORRELATIONS[name]
    x, y = rng.integers(0, 6, 50), rng.normal(size=50).astype("float32")
    weights = rng.integers(0, 4, 50)
    np.testing.assert_allclose(
        value(make(), x, y, weights, batches=(25, None)),
        oracle(np.repeat(x, weights), np.repeat(y, weights)).statistic,
        **TOLERANCE,
    )


def test_pearson_takes_any_weights(rng):
    x, y = rng.normal(size=(2, 50)).astype("float32")
    weights = rng.uniform(size=50).astype("float32")
    np.testing.assert_allclose(
        value(StreamingPearsonCorrelation(), x, y, weights, (25, None)),
        reference.weighted_correlation(x, y, weights),
        **TOLERANCE,
    )


@pytest.mark.parametrize("name", CORRELATIONS)
@pytest.mark.parametrize("axes", [(10, 1), (5, 2), (2, 5, 1)])
def test_every_element_is_one_pair(rng, name, axes):
    make, oracle = CORRELATIONS[name]
    x, y = rng.normal(size=(2, *axes)).astype("float32")
    expected = oracle(x.ravel(), y.ravel()).statistic
    np.testing.assert_allclose(value(make(), x, y), expected, **TOLERANCE)
    if axes[-1] == 1:
        np.testing.assert_allclose(
            value(make(), x[..., 0], y), expected, **TOLERANCE
        )


@pytest.mark.parametrize("name", CORRELATIONS)
def test_constants_are_undefined_as_in_scipy(name):
    make, oracle = CORRELATIONS[name]
    rising = np.array([0.1, 0.2, 0.7, 0.9, 1.3])
    # 0.1 has no exact sum: deviations must be exactly 0 nevertheless.
    constant = np.full(5, 0.1)
    for x, y in [(rising, constant), (constant, rising), (constant, constant)]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.isnan(oracle(x, y).statistic)
        assert np.isnan(value(make(), x, y, batches=(2, None)))
    assert np.isnan(value(make(), rising[:1], rising[:1]))


@pytest.mark.parametrize("name", CORRELATIONS)
def test_perfect_order_gives_one_and_minus_one(name):
    make, _ = CORRELATIONS[name]
    x = np.arange(130.0)
    assert value(make(), x, 2 * x - 7, batches=(65, None)) == pytest.approx(
        1, abs=1e-6
    )
    assert value(make(), x, -x) == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_a_large_mean_costs_pearson_no_precision(rng, offset):
    x, noise = rng.normal(size=(2, 1000))
    x, y = (x + offset).astype("float32"), (x + noise).astype("float32")
    # Sums of squares in float32 would have lost everything: 1e8 against 1.
    # The means are rounded to 1e-3, the float32 next to 1e4.
    np.testing.assert_allclose(
        value(StreamingPearsonCorrelation(), x, y, batches=(500, None)),
        scipy.stats.pearsonr(x.astype("float64"), y).statistic,
        rtol=2e-5,
    )


@pytest.mark.parametrize("name", RANKS)
def test_infinite_values_have_ranks(name):
    make, oracle = CORRELATIONS[name]
    x = np.array([1.0, -np.inf, np.inf, np.inf, 3.0])
    y = np.array([2.0, 5.0, -np.inf, np.inf, 1.0])
    finite = np.clip(x, -9, 9), np.clip(y, -9, 9)
    np.testing.assert_allclose(
        value(make(), x, y), oracle(*finite).statistic, **TOLERANCE
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda capacity: SpearmanCorrelation(capacity),
        lambda capacity: KendallTau(capacity=capacity),
        lambda capacity: KendallTau("c", capacity=capacity),
    ],
)
def test_beyond_the_capacity_the_result_is_nan(rng, make):
    x, y = rng.normal(size=(2, 11))
    weights = np.ones(11)
    weights[3] = 0  # It takes no place.
    metric = make(10)
    exact = value(make(99), x, y, weights)
    assert value(metric, x, y, weights, batches=(4, None)) == exact
    assert np.isnan(value(metric, x[:1], y[:1]))
    metric.reset_state()
    assert np.isnan(value(metric, x, y))
    metric.reset_state()
    assert value(metric, x, y, weights) == exact


def test_kendall_of_a_thousand_samples_equals_scipy(rng):
    x = rng.normal(size=1000).astype("float32")
    y = (x + rng.normal(size=1000)).astype("float32")
    np.testing.assert_allclose(
        value(KendallTau(capacity=1000), x, y, batches=(500, None)),
        scipy.stats.kendalltau(x, y).statistic,
        **TOLERANCE,
    )


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_pinball_equals_scikit_learn(diabetes, quantile):
    y_true, y_pred = diabetes
    weights = np.arange(len(y_true)) % 3
    np.testing.assert_allclose(
        value(PinballLoss(quantile), y_true, y_pred, weights, (221, None)),
        sklearn.metrics.mean_pinball_loss(
            y_true, y_pred, alpha=quantile, sample_weight=weights
        ),
        rtol=5e-6,
    )


def test_pinball_of_the_median_is_half_the_absolute_error(diabetes):
    y_true, y_pred = diabetes
    error = keras.metrics.MeanAbsoluteError()
    assert value(PinballLoss(), y_true, y_pred) == pytest.approx(
        value(error, y_true, y_pred) / 2, rel=5e-6
    )


@pytest.mark.parametrize("axes", [(30,), (30, 1), (10, 3)])
def test_pinball_averages_over_quantiles(rng, axes):
    quantiles = [0.1, 0.5, 0.8]
    y_true = rng.normal(size=axes).astype("float32")
    batch = axes[:-1] if axes[-1] == 1 else axes
    y_pred = rng.normal(size=(*batch, 3)).astype("float32")
    expected = reference.pinball(
        y_true.reshape(*batch, 1), y_pred, np.array(quantiles)
    )
    np.testing.assert_allclose(
        value(PinballLoss(quantiles), y_true, y_pred),
        expected.mean(),
        rtol=5e-6,
    )


def test_coverage_and_width_equal_their_definitions(rng):
    y_true = rng.normal(size=40).astype("float32")
    y_pred = rng.normal(size=(40, 3)).astype("float32")  # Some cross.
    weights = rng.integers(0, 3, 40)
    low, high = y_pred[:, 2], y_pred[:, 1]
    inside = (low <= y_true) & (y_true <= high)
    for batches in [(None,), (20, None)]:
        assert value(
            IntervalCoverage(-1, 1), y_true[:, None], y_pred, weights, batches
        ) == pytest.approx(np.average(inside, weights=weights), rel=1e-6)
        assert value(
            IntervalWidth(2, -2), y_true, y_pred, weights, batches
        ) == pytest.approx(np.average(high - low, weights=weights), rel=1e-5)


def test_quantiles_cover_what_they_promise(rng):
    # The 5 % and 95 % quantiles of the normal distribution, from SciPy.
    bounds = np.tile(scipy.stats.norm.ppf([0.05, 0.95]), (20_000, 1))
    y_true = rng.normal(size=20_000)
    # Four standard errors of a share of 0.9.
    assert value(IntervalCoverage(), y_true, bounds) == pytest.approx(
        0.9, abs=4 * np.sqrt(0.9 * 0.1 / 20_000)
    )
    assert value(IntervalWidth(), y_true, bounds) == pytest.approx(
        2 * 1.6448536, rel=1e-5
    )


def test_bounds_belong_to_the_interval():
    bounds = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]])
    metric = IntervalCoverage()
    assert value(metric, np.array([1.0, 2.0, 1.5]), bounds) == pytest.approx(
        2 / 3
    )


@pytest.mark.parametrize("name", CORRELATIONS)
def test_shapes_that_would_broadcast_are_refused(name):
    metric = CORRELATIONS[name][0]()
    with pytest.raises(ValueError, match=r"same shape.*\(4, 3\).*\(4, 1\)"):
        metric.update_state(np.zeros((4, 3)), np.zeros((4, 1)))


@pytest.mark.parametrize(
    ("metric", "shapes"),
    [
        (PinballLoss(0.5), [(4, 3), (4, 1)]),
        (PinballLoss([0.2, 0.8]), [(4,), (4, 3)]),
        (PinballLoss([0.2, 0.8]), [(4, 2), (4, 2)]),
        (IntervalCoverage(), [(4, 2), (4, 2)]),
        (IntervalCoverage(), [(4,), (4,)]),
        (IntervalCoverage(), [(4,), (4, 1)]),
        (IntervalWidth(0, 2), [(4,), (4, 2)]),
        (IntervalWidth(0, -2), [(4,), (4, 2)]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(metric, shapes):
    with pytest.raises(ValueError, match=r"Received: .*\(4"):
        metric.update_state(*map(np.zeros, shapes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PinballLoss(1.0), r"`quantile` must be in \(0, 1\)"),
        (lambda: PinballLoss([0.5, 0.0]), r"`quantile` must be in \(0, 1\)"),
        (lambda: PinballLoss([]), "`quantile` must hold at least one"),
        (lambda: KendallTau("a"), "`variant` must be one of 'b', 'c'"),
        (lambda: KendallTau(capacity=0), "`capacity` must be an integer"),
        (lambda: SpearmanCorrelation(0), "`capacity` must be an integer"),
        (lambda: IntervalWidth(0.5), "`lower` must be an integer"),
        (lambda: IntervalCoverage(0, None), "`upper` must be an integer"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
