"""The numbers of the distances between distributions."""

import distances_reference as reference
import keras
import numpy as np
import pytest
import scipy.spatial
import scipy.special
import scipy.stats
from backend import central_difference, gradient

from kerascomp import distances

ops = keras.ops

RTOL = 2e-6


@pytest.fixture
def shares(rng):
    return [rng.dirichlet(np.ones(5), size=3).astype("float32") for _ in "pq"]


ORACLES = {
    "kl": lambda p, q: np.sum(scipy.special.rel_entr(p, q)),
    "jensen_shannon": reference.jensen_shannon,
    "total_variation": lambda p, q: np.abs(p - q).sum() / 2,
    "hellinger": lambda p, q: np.sqrt(1 - np.sum(np.sqrt(p * q))),
}


@pytest.mark.parametrize("name", ORACLES)
def test_equals_the_definition(shares, name):
    p, q = shares
    p[0, 1], q[1, 2] = 0, 0
    if name == "kl":
        q[1, 2] = 0.1  # It is infinite otherwise.
    p, q = (
        (a / a.sum(axis=1, keepdims=True, dtype="float64")).astype("float32")
        for a in (p, q)
    )
    received = ops.convert_to_numpy(getattr(distances, name)(p, q))
    expected = [
        ORACLES[name](a, b)
        for a, b in zip(p.astype("float64"), q.astype("float64"), strict=True)
    ]
    # Float32 shares sum to 1 within 1e-7, which Hellinger's oracle needs.
    np.testing.assert_allclose(received, expected, rtol=5e-6)


def test_jensen_shannon_equals_scipy(shares):
    p, q = shares
    np.testing.assert_allclose(
        ops.convert_to_numpy(distances.jensen_shannon(p, q)),
        scipy.spatial.distance.jensenshannon(p, q, axis=1),
        rtol=RTOL,
    )


@pytest.mark.parametrize("step", [1e-2, 1e-3, 1e-5])
def test_jensen_shannon_keeps_its_digits_near_zero(step):
    p = np.array([0.5, 0.5])
    q = np.array([0.5 + step, 0.5 - step])
    p, q = p.astype("float32"), q.astype("float32")
    received = float(distances.jensen_shannon(p, q))
    p32, q32 = p.astype("float64"), q.astype("float64")
    # With u = +-(q - p) / (q + p): sums of u^2 (1 + u^2 / 6) (p + q) / 4.
    u = (p32 - q32) / (p32 + q32)
    expected = np.sqrt(np.sum((p32 + q32) * u**2 * (1 + u**2 / 6)) / 4)
    assert received == pytest.approx(expected, rel=5e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_gradient_equals_central_differences(shares, name):
    p, q = shares
    expected = central_difference(
        lambda point: sum(
            ORACLES_FREE[name](a, b) for a, b in zip(point, q, strict=True)
        ),
        p,
        step=1e-6,
    )
    received = gradient(
        lambda point: ops.sum(getattr(distances, name)(point, q)), p
    )
    np.testing.assert_allclose(received, expected, rtol=2e-5, atol=2e-5)


# Moved off the simplex one number at a time, Hellinger needs its long form.
ORACLES_FREE = ORACLES | {
    "hellinger": lambda p, q: reference.length(np.sqrt(p) - np.sqrt(q)) / 2**0.5
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradient_is_finite_at_zeros_and_where_equal(name, dtype):
    p = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5]], dtype)
    q = np.array([[1, 0, 0], [0.25, 0.75, 0], [0.25, 0.25, 0.5]], dtype)
    function = getattr(distances, name)
    value = ops.convert_to_numpy(function(p, q))
    assert value.dtype == dtype
    np.testing.assert_allclose(value[[0, 2]], 0, atol=1e-7)
    for slope in (
        gradient(lambda x: ops.sum(function(x, q)), p),
        gradient(lambda x: ops.sum(function(p, x)), q),
    ):
        assert np.isfinite(slope).all()


def test_kl_is_infinite_for_what_is_impossible_under_q():
    value = distances.kl(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    assert float(value) == np.inf


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("bad", [-0.1, 1.5])
def test_what_is_no_probability_is_refused(name, bad):
    with pytest.raises(ValueError, match="`q` must hold probabilities"):
        getattr(distances, name)(np.array([0.5, 0.5]), np.array([bad, 0.5]))


@pytest.mark.parametrize("weighted", [False, True])
def test_wasserstein_equals_scipy(rng, weighted):
    x, y = rng.normal(size=(2, 9)), rng.normal(1, 2, size=(2, 6))
    y[0, 2] = x[0, 3]  # A tie.
    weights = [rng.uniform(size=a.shape) for a in (x, y)] if weighted else ()
    received = distances.wasserstein_1d(
        x.astype("float32"), y.astype("float32"), *weights
    )
    expected = [
        scipy.stats.wasserstein_distance(*(a[row] for a in (x, y, *weights)))
        for row in (0, 1)
    ]
    np.testing.assert_allclose(
        ops.convert_to_numpy(received), expected, rtol=RTOL
    )


def test_wasserstein_gradient_equals_central_differences(rng):
    x, y = (rng.normal(size=n).astype("float32") for n in (5, 3))
    expected = central_difference(
        lambda point: scipy.stats.wasserstein_distance(point, y), x, step=1e-6
    )
    received = gradient(lambda p: distances.wasserstein_1d(p, y), x)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_energy_of_numbers_equals_scipy(rng):
    x, y = (rng.normal(size=n).astype("float32") for n in (9, 6))
    received = float(distances.energy(x[:, None], y[:, None]))
    expected = scipy.stats.energy_distance(x, y)
    assert received == pytest.approx(expected, rel=1e-5)


def test_energy_of_vectors_equals_the_definition(rng):
    x, y = (rng.normal(size=(n, 3)).astype("float32") for n in (5, 4))
    expected = central_difference(
        lambda point: reference.energy(point, y.astype("float64")), x
    )
    np.testing.assert_allclose(
        gradient(lambda p: distances.energy(p, y), x),
        expected,
        rtol=1e-4,
        atol=1e-5,
    )
    assert float(distances.energy(x, y)) == pytest.approx(
        reference.energy(x.astype("float64"), y), rel=1e-5
    )


@pytest.mark.parametrize("name", ["energy", "mmd"])
def test_the_same_samples_have_no_distance_and_no_slope(rng, name):
    x = rng.normal(size=(5, 3)).astype("float32")
    function = getattr(distances, name)
    # The root of what rounding leaves of a sum of distances.
    assert float(function(x, x)) == pytest.approx(0, abs=2e-3)
    assert np.isfinite(gradient(lambda p: function(p, x), x)).all()


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("bandwidth", [0.8, None])
@pytest.mark.parametrize("sizes", [(5, 4), (5, 5)])
def test_mmd_equals_the_definition(rng, unbiased, bandwidth, sizes):
    x, y = (rng.normal(size=(n, 3)).astype("float32") for n in sizes)
    pooled = np.concatenate([x, y]).astype("float64")
    median = np.median(scipy.spatial.distance.pdist(pooled))
    expected = reference.mmd(
        x.astype("float64"), y, bandwidth or median, unbiased
    )
    received = distances.mmd(x, y, bandwidth=bandwidth, unbiased=unbiased)
    # The kernels' means nearly cancel.
    assert float(received) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: distances.mmd(x[:0], x), "`x` must hold at least 1"),
        (lambda x: distances.mmd(x, x[:1], unbiased=True), "`y` must hold"),
        (lambda x: distances.mmd(x, x, bandwidth=0.0), "`bandwidth` must be"),
        (lambda x: distances.energy(x, x[:0]), "`y` must hold at least 1"),
        (lambda x: distances.energy(x, x[:, :1]), "last axes of one length"),
        (lambda x: distances.wasserstein_1d(x, x[:1]), "must have the same"),
        (lambda x: distances.wasserstein_1d(x, x[:, :0]), "`y` must hold"),
        (
            lambda x: distances.wasserstein_1d(x, x, np.ones(3)),
            "`x_weights` must have the shape",
        ),
    ],
)
def test_bad_samples_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((4, 3), "float32"))
