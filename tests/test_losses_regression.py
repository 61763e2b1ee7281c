"""The numbers of the losses of regression."""

import keras
import losses_reference as reference
import numpy as np
import pytest
from backend import central_difference, gradient
from losses_reference import assert_gradient, slope, values

from kerascomp.losses import (
    GaussianNegativeLogLikelihood,
    LeastSquares,
    Pinball,
)

# Float32 sums of a few dozen numbers.
RTOL = 2e-6
DTYPES = ("float32", "float16")


@pytest.fixture
def regression(rng):
    return [rng.normal(size=(4, 3, 2)).astype("float32") for _ in range(2)]


@pytest.mark.parametrize("quantile", [0.001, 0.3, 0.999])
def test_pinball_equals_the_equation(regression, quantile):
    y_true, y_pred = regression
    np.testing.assert_allclose(
        values(Pinball(quantile, reduction=None), y_true, y_pred),
        reference.pinball(y_true, y_pred, quantile),
        rtol=RTOL,
    )


def test_pinball_at_one_half_is_half_the_absolute_error(regression):
    half = keras.losses.MeanAbsoluteError(reduction=None)
    np.testing.assert_allclose(
        values(Pinball(0.5, reduction=None), *regression),
        values(half, *regression) / 2,
        rtol=RTOL,
    )


@pytest.mark.parametrize("keeps_axis", [False, True])
def test_several_quantiles_have_a_prediction_each(rng, keeps_axis):
    quantiles = [0.1, 0.5, 0.8]
    y_true = rng.normal(size=(5, 2)).astype("float32")
    y_pred = rng.normal(size=(5, 2, 3)).astype("float32")
    expected = np.mean(
        [
            reference.pinball(y_true[..., None], y_pred[..., i, None], q)
            for i, q in enumerate(quantiles)
        ],
        axis=0,
    )
    target = y_true[..., None] if keeps_axis else y_true
    loss = Pinball(quantiles, reduction=None)
    np.testing.assert_allclose(values(loss, target, y_pred), expected, RTOL)


def test_the_constant_of_least_pinball_loss_is_the_quantile(rng):
    sample = rng.normal(size=201).astype("float32")
    loss = Pinball([0.25, 0.75], reduction=None)
    constants = np.quantile(sample, [0.25, 0.75]).astype("float32")
    slopes = gradient(
        lambda x: keras.ops.sum(
            loss(sample, keras.ops.ones((201, 1)) * x[None])
        ),
        constants,
    )
    # One of 201 samples lies on the quantile, and its slope is 0.
    assert np.all(np.abs(slopes) <= 0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pinball_gradient_equals_central_differences(dtype):
    y_true = np.array([[0.0, 0.0, 0.0, 0.0, 2.0]])
    y_pred = np.array([[0.5, -0.5, 1e4, -1e4, 0.0]])
    assert_gradient(
        lambda **k: Pinball(0.25, **k),
        lambda x: reference.pinball(y_true, x, 0.25),
        y_true,
        y_pred,
        dtype,
    )


def test_an_exact_prediction_has_no_pinball_gradient():
    point = np.ones((2, 3), "float32")
    for quantile in (0.1, [0.1, 0.5, 0.9]):
        loss = Pinball(quantile)
        y_true = point if quantile == 0.1 else point[:, :1]
        received = slope(loss, y_true, point)
        assert not received.any()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("spread", ["log_variance", "variance"])
def test_gaussian_likelihood_equals_the_equation(rng, beta, full, spread):
    y_true, mean, log_variance = rng.normal(size=(3, 4, 3, 2)).astype("float32")
    second = log_variance if spread == "log_variance" else np.exp(log_variance)
    loss = GaussianNegativeLogLikelihood(beta, full, spread, reduction=None)
    element = reference.gaussian_nll(y_true, mean, np.exp(log_variance))
    element = element + full * 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(
        values(loss, y_true, np.concatenate([mean, second], -1)),
        np.mean(np.exp(beta * log_variance) * element, axis=-1),
        rtol=1e-5,
        atol=1e-6,
    )


def test_full_gaussian_likelihood_is_the_density_of_scipy(rng):
    stats = pytest.importorskip("scipy.stats")
    y_true, mean, log_variance = rng.normal(size=(3, 5, 1))
    loss = GaussianNegativeLogLikelihood(full=True, reduction=None)
    density = stats.norm(mean, np.exp(log_variance / 2)).logpdf(y_true)
    y_pred = np.concatenate([mean, log_variance], -1).astype("float32")
    # Both shapes of one target.
    for target in (y_true, y_true[:, 0]):
        np.testing.assert_allclose(
            values(loss, target.astype("float32"), y_pred),
            -density[:, 0],
            rtol=1e-5,
        )


def test_gaussian_likelihood_of_variance_one_is_half_the_squared_error(
    regression,
):
    y_true, y_pred = regression
    mse = keras.losses.MeanSquaredError(reduction=None)
    loss = GaussianNegativeLogLikelihood(reduction=None)
    np.testing.assert_allclose(
        values(loss, y_true, np.concatenate([y_pred, 0 * y_pred], -1)),
        values(mse, y_true, y_pred) / 2,
        rtol=RTOL,
    )


@pytest.mark.parametrize("spread", ["log_variance", "variance"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_gaussian_gradient_holds_the_weight_constant(rng, beta, spread):
    y_true, mean, log_variance = rng.normal(size=(3, 3, 2))
    is_log = spread == "log_variance"
    second = log_variance if is_log else np.exp(log_variance)
    weight = np.exp(beta * log_variance)

    def weighted(point):
        variance = np.exp(point[:, 2:]) if is_log else point[:, 2:]
        nll = reference.gaussian_nll(y_true, point[:, :2], variance)
        return np.mean(weight * nll, axis=-1)

    assert_gradient(
        lambda **k: GaussianNegativeLogLikelihood(beta, spread=spread, **k),
        weighted,
        y_true,
        np.concatenate([mean, second], -1),
    )


def test_with_beta_one_the_mean_has_the_gradient_of_the_squared_error(rng):
    y_true, mean, log_variance = rng.normal(size=(3, 6, 1)).astype("float32")
    loss = GaussianNegativeLogLikelihood(beta=1.0, reduction="sum")
    y_pred = np.concatenate([mean, log_variance], -1)
    received = slope(loss, y_true, y_pred)[:, :1]
    np.testing.assert_allclose(received, mean - y_true, rtol=1e-5)


@pytest.mark.parametrize("spread", ["log_variance", "variance"])
def test_variances_out_of_bounds_are_held_but_can_come_back(spread):
    # The bounds are 1/4 and 4; the errors are 2, the targets 0.
    outside = np.array([[2.0, -1e4], [2.0, 1e4]], "float32")
    bounds = np.log([0.25, 4]) if spread == "log_variance" else [0.25, 4]
    inside = np.array([[2.0, bounds[0]], [2.0, bounds[1]]])
    loss = GaussianNegativeLogLikelihood(
        spread=spread, epsilon=0.25, reduction="sum"
    )
    y_true = np.zeros((2, 1), "float32")

    def exact(point):
        variance = point[:, 1:]
        if spread == "log_variance":
            variance = np.exp(variance)
        return reference.gaussian_nll(y_true, point[:, :1], variance).sum()

    assert float(loss(y_true, outside)) == pytest.approx(exact(inside), RTOL)
    received = slope(loss, y_true, outside)
    np.testing.assert_allclose(
        received, central_difference(exact, inside, 1e-6), rtol=1e-5, atol=1e-6
    )
    # Up where the error is larger than the deviation, down where it is not.
    assert received[0, 1] < 0


def test_least_squares_is_the_mean_squared_error_times_the_outputs(regression):
    y_true, y_pred = regression
    mse = keras.losses.MeanSquaredError(reduction=None)
    np.testing.assert_allclose(
        values(LeastSquares(reduction=None), y_true, y_pred),
        2 * values(mse, y_true, y_pred),
        rtol=RTOL,
    )
    total = float(LeastSquares(reduction="sum")(y_true, y_pred))
    exact = np.sum((y_true.astype("float64") - y_pred) ** 2)
    assert total == pytest.approx(exact, RTOL)


@pytest.mark.parametrize("dtype", DTYPES)
def test_least_squares_gradient_is_twice_the_error(dtype):
    y_true = np.array([[0.0, 1.0, -2.0]])
    y_pred = np.array([[0.0, 0.5, 100.0]], dtype)
    loss = LeastSquares(dtype=dtype)
    received = slope(loss, y_true, y_pred)
    np.testing.assert_array_equal(received, [[0, -1, 204]])


@pytest.mark.parametrize("loss", [Pinball(0.2), LeastSquares()])
def test_one_output_may_leave_out_its_axis(rng, loss):
    y_true, y_pred = rng.normal(size=(2, 6, 1)).astype("float32")
    assert float(loss(y_true[:, 0], y_pred)) == float(loss(y_true, y_pred))


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        (Pinball(0.2), 2),
        (Pinball([0.2, 0.8]), 2),
        (LeastSquares(), 2),
        (GaussianNegativeLogLikelihood(), 2),
    ],
    ids=["Pinball", "quantiles", "LeastSquares", "Gaussian"],
)
def test_masked_steps_do_not_count(rng, loss, outputs):
    y_true = rng.normal(size=(3, 4, 1)).astype("float32")
    y_pred = rng.normal(size=(3, 4, outputs)).astype("float32")
    if (
        isinstance(loss, LeastSquares)
        or loss.get_config().get("quantile") == 0.2
    ):
        y_true = np.repeat(y_true, 2, axis=-1)
    y_pred[1, 2:] = 99
    y_pred[2, 1:] = 99
    masked = keras.layers.Masking(99.0)(y_pred)
    each = type(loss).from_config({**loss.get_config(), "reduction": None})
    kept = (y_pred != 99).all(axis=-1)
    expected = values(each, y_true, y_pred)[kept].mean()
    assert float(loss(y_true, masked)) == pytest.approx(expected, RTOL)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -1.0, [0.5, 1.5]])
def test_pinball_refuses_what_is_no_quantile(quantile):
    with pytest.raises(ValueError, match=r"`quantile` must be in \(0, 1\)"):
        Pinball(quantile)


@pytest.mark.parametrize("quantile", [[], [0.9, 0.1], [0.5, 0.5]])
def test_quantiles_must_ascend(quantile):
    with pytest.raises(ValueError, match="`quantile` must be one number or"):
        Pinball(quantile)


def test_pinball_wants_one_prediction_a_quantile():
    for shape in ((4, 2), (4, 3, 3), (4,)):
        with pytest.raises(ValueError, match="one entry for each quantile"):
            Pinball([0.1, 0.5, 0.9])(np.zeros((4, 1)), np.zeros(shape))


@pytest.mark.parametrize(
    "arguments",
    [{"beta": 1.5}, {"spread": "deviation"}, {"epsilon": 0.0}],
    ids=str,
)
def test_gaussian_refuses_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        GaussianNegativeLogLikelihood(**arguments)


def test_gaussian_wants_two_numbers_a_target():
    loss = GaussianNegativeLogLikelihood()
    with pytest.raises(ValueError, match="means and as many spreads"):
        loss(np.zeros((4, 1)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="two numbers for each target"):
        loss(np.zeros((4, 3)), np.zeros((4, 4)))


def test_integer_predictions_are_refused():
    with pytest.raises(ValueError, match="`y_pred` must hold floating-point"):
        LeastSquares()(np.zeros((4, 1)), np.zeros((4, 1), "int32"))
