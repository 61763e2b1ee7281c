"""The numbers of the distances between rows."""

import distances_reference as reference
import keras
import numpy as np
import pytest
from backend import central_difference, compiled, gradient
from scipy.spatial import distance as scipy_distance

from kerascomp import distances

ops = keras.ops

# Float32 sums of a few numbers; by a matrix product, of their squares.
RTOL, PRODUCT_RTOL = 1e-6, 1e-5
VARIANCE = np.array([0.5, 1.0, 2.0, 3.0])
INVERSE = np.array(
    [[2, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 3, 1], [0, 0, 1, 1]], "float64"
)
METRICS = {
    "euclidean": ("euclidean", {}, {}),
    "squared_euclidean": ("sqeuclidean", {}, {}),
    "standardized_euclidean": (
        "seuclidean",
        {"variance": VARIANCE},
        {"V": VARIANCE},
    ),
    "manhattan": ("cityblock", {}, {}),
    "chebyshev": ("chebyshev", {}, {}),
    "minkowski": ("minkowski", {"p": 3.5}, {"p": 3.5}),
    "mahalanobis": (
        "mahalanobis",
        {"inverse_covariance": INVERSE},
        {"VI": INVERSE},
    ),
    "cosine": ("cosine", {}, {}),
    "correlation": ("correlation", {}, {}),
    "hamming": ("hamming", {}, {}),
    "jaccard": ("jaccard", {}, {}),
    "bray_curtis": ("braycurtis", {}, {}),
    "canberra": ("canberra", {}, {}),
}
SMOOTH = [name for name in METRICS if name not in ("hamming", "jaccard")]
BY_PRODUCT = [
    "euclidean",
    "squared_euclidean",
    "standardized_euclidean",
    "mahalanobis",
    "cosine",
    "correlation",
]


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


def scipy_pairs(metric, x, y):
    name, _, arguments = METRICS[metric]
    x, y = x.astype("float64"), y.astype("float64")
    if metric == "jaccard":
        x, y = x != 0, y != 0
    return scipy_distance.cdist(x, y, name, **arguments)


def scipy_row(metric, x, y):
    return scipy_pairs(metric, x[None], y[None])[0, 0]


@pytest.fixture
def rows(rng):
    return [rng.normal(size=(n, 4)).astype("float32") for n in (11, 7)]


def discrete(metric, arrays):
    if metric in SMOOTH:
        return arrays
    return [(a > 0).astype("int32") for a in arrays]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("max_elements", [1, 70, 2**24])
def test_pairwise_equals_scipy(rows, metric, exact, max_elements):
    x, y = discrete(metric, rows)
    received = distances.pairwise(
        x,
        y,
        metric,
        exact=exact,
        max_elements=max_elements,
        **METRICS[metric][1],
    )
    by_product = metric in BY_PRODUCT and not exact
    np.testing.assert_allclose(
        numbers(received),
        scipy_pairs(metric, x, y),
        rtol=PRODUCT_RTOL if by_product else RTOL,
        atol=1e-6 if by_product else 0,
    )


@pytest.mark.parametrize("metric", METRICS)
def test_rows_are_compared_along_the_last_axis(rows, metric):
    x, y = discrete(metric, [rows[0][:6].reshape(3, 2, 4), rows[1][:2]])
    function = getattr(distances, metric)
    received = numbers(function(x, y, **METRICS[metric][1]))
    assert received.shape == (3, 2)
    expected = [
        [scipy_row(metric, x[i, j], y[j]) for j in (0, 1)] for i in range(3)
    ]
    np.testing.assert_allclose(received, expected, rtol=RTOL)


@pytest.mark.parametrize("metric", SMOOTH)
@pytest.mark.parametrize("exact", [False, True])
def test_pairwise_gradient_equals_central_differences(rows, metric, exact):
    x, y = rows[0][:3], rows[1][:2]
    weights = np.arange(1.0, 7).reshape(3, 2).astype("float32")
    expected = central_difference(
        lambda point: np.sum(weights * scipy_pairs(metric, point, y)),
        x,
        step=1e-6,
    )
    received = gradient(
        lambda point: ops.sum(
            ops.convert_to_tensor(weights)
            * distances.pairwise(
                point,
                y,
                metric,
                exact=exact,
                max_elements=16,
                **METRICS[metric][1],
            )
        ),
        x,
    )
    # The differences of float64 have about eight digits.
    np.testing.assert_allclose(received, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("metric", SMOOTH)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("place", [0.0, 1.0, 1e4, -1e4])
def test_gradient_is_finite_at_distance_zero(metric, dtype, place):
    row = np.full(4, place, dtype)
    function = getattr(distances, metric)
    arguments = METRICS[metric][1]
    value = function(row, row, **arguments)
    assert keras.backend.standardize_dtype(value.dtype) == dtype
    has_no_angle = metric == "correlation" or (metric == "cosine" and not place)
    # The length of (place, ...) is rounded once.
    assert float(value) == pytest.approx(1.0 if has_no_angle else 0.0, abs=1e-6)
    slope = gradient(lambda x: function(x, row, **arguments), row)
    np.testing.assert_allclose(slope, np.zeros(4), atol=1e-6)


@pytest.mark.parametrize("metric", SMOOTH)
def test_large_rows_have_finite_gradients(metric):
    x = np.array([1e4, -1e4, 0, 1], "float32")
    y = np.array([-1e4, -1e4, 5, 1], "float32")
    function, arguments = getattr(distances, metric), METRICS[metric][1]
    expected = scipy_row(metric, x, y)
    received = float(function(x, y, **arguments))
    assert received == pytest.approx(expected, rel=1e-6)
    slope = gradient(lambda point: function(point, y, **arguments), x)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("metric", ["euclidean", "chebyshev", "minkowski"])
def test_distances_of_large_halves_do_not_overflow(metric):
    x, y = np.full((1, 4), 1e4, "float16"), np.zeros((1, 4), "float16")
    value = getattr(distances, metric)(x, y, **METRICS[metric][1])
    expected = scipy_row(metric, x[0], y[0])
    assert float(value[0]) == pytest.approx(expected, rel=1e-3)  # Float16.


def test_the_gradient_of_chebyshev_is_shared_between_ties():
    x, y = np.array([2.0, -2.0, 1.0], "float32"), np.zeros(3, "float32")
    received = gradient(lambda point: distances.chebyshev(point, y), x)
    np.testing.assert_array_equal(received, [0.5, -0.5, 0.0])


def test_minkowski_joins_manhattan_and_chebyshev(rows):
    x, y = rows[0][0], rows[1][0]
    first, second, high = (
        float(distances.minkowski(x, y, p=p)) for p in (1, 2, 300)
    )
    assert first == pytest.approx(float(distances.manhattan(x, y)), rel=RTOL)
    assert second == pytest.approx(float(distances.euclidean(x, y)), rel=RTOL)
    # The sum has at most 4 terms: 4 ** (1 / 300) is 1.005.
    assert high == pytest.approx(float(distances.chebyshev(x, y)), rel=5e-3)


def test_cosine_of_a_vector_of_zeros_is_one_as_in_scikit_learn(rows):
    pairs = pytest.importorskip("sklearn.metrics.pairwise")
    x = np.concatenate([rows[0][:2], np.zeros((1, 4), "float32")])
    expected = pairs.cosine_distances(x, rows[1])
    for exact in (False, True):
        received = distances.pairwise(x, rows[1], "cosine", exact=exact)
        np.testing.assert_allclose(numbers(received), expected, atol=1e-6)


def test_cosine_of_close_vectors_keeps_its_digits():
    x, y = np.array([1.0, 1e-4]), np.array([1.0, 0.0])
    received = float(distances.cosine(x.astype("float32"), y.astype("float32")))
    assert received == pytest.approx(1 - 1 / np.sqrt(1 + 1e-8), rel=1e-4)


def test_large_integers_are_told_apart():
    x, y = np.array([2**24, 1]), np.array([2**24 + 1, 1])
    assert float(distances.hamming(x, y)) == 0.5
    assert float(distances.jaccard(x, y)) == 0.5


@pytest.mark.parametrize("metric", SMOOTH)
def test_rows_have_the_distance_zero_to_themselves(rows, metric):
    x = np.abs(rows[0]) + 100  # Far from the origin.
    received = distances.pairwise(x, metric=metric, **METRICS[metric][1])
    diagonal = np.diagonal(numbers(received))
    np.testing.assert_allclose(diagonal, 0, atol=1e-6)


def test_the_product_form_is_as_accurate_as_stated(rng):
    x = (rng.normal(size=(50, 4)) + 1000).astype("float32")
    y = (x + 0.1 * rng.normal(size=x.shape)).astype("float32")
    expected = scipy_distance.cdist(x.astype("float64"), y, "sqeuclidean")
    received = numbers(distances.pairwise(x, y, "squared_euclidean"))
    center = x.mean(axis=0, dtype="float64")
    size = reference.length(x - center)[:, None] + reference.length(y - center)
    assert np.max(np.abs(received - expected) / size**2) < 5e-7


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_shapes_may_be_unknown_when_compiled(rows, metric):
    x, y = rows

    class Program(keras.Model):
        def call(self, inputs):
            return distances.pairwise(*inputs, metric=metric, max_elements=64)

    specs = [keras.KerasTensor((None, 4)) for _ in (x, y)]
    program = Program()
    program(specs)
    received = program.predict_on_batch([x, y[: len(x)]])
    np.testing.assert_allclose(
        received, scipy_pairs(metric, x, y), rtol=PRODUCT_RTOL
    )


def test_compiled_equals_eager(rows):
    for metric in ("euclidean", "manhattan"):
        run = compiled(
            lambda x, y, metric=metric: distances.pairwise(
                x, y, metric, max_elements=64
            )
        )
        np.testing.assert_allclose(
            numbers(run(*map(ops.convert_to_tensor, rows))),
            scipy_pairs(metric, *rows),
            rtol=PRODUCT_RTOL,
        )


def test_distances_work_in_functional_models(rows):
    left, right = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([left, right], distances.euclidean(left, right))
    x, y = rows[0][:7], rows[1]
    np.testing.assert_allclose(
        model.predict_on_batch([x, y]), reference.length(x - y), rtol=RTOL
    )


def test_a_function_may_be_the_metric(rows):
    received = distances.pairwise(*rows, lambda x, y: ops.sum(x * y, axis=-1))
    np.testing.assert_allclose(
        numbers(received), rows[0] @ rows[1].T, rtol=RTOL, atol=RTOL
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: distances.euclidean(x, x[:, :3]), "last axes of one length"),
        (lambda x: distances.hamming(x, x[:, :3]), "last axes of one length"),
        (lambda x: distances.minkowski(x, x, p=0.5), r"`p` must be in \[1"),
        (
            lambda x: distances.standardized_euclidean(x, x, [1, 1, 1, 0.0]),
            "`variance` must be positive",
        ),
        (
            lambda x: distances.standardized_euclidean(x, x, [1.0]),
            "last axes of one length",
        ),
        (
            lambda x: distances.mahalanobis(x, x, np.eye(3)),
            "`inverse_covariance` must have a row",
        ),
        (lambda x: distances.pairwise(x, metric="l3"), "`metric` must be one"),
        (lambda x: distances.pairwise(x[0]), "must have two axes"),
        (
            lambda x: distances.pairwise(x, max_elements=0),
            "`max_elements` must be an integer",
        ),
    ],
)
def test_bad_input_is_refused(rows, call, message):
    with pytest.raises(ValueError, match=message):
        call(rows[0])


def test_arguments_of_a_metric_must_be_its_own(rows):
    with pytest.raises(TypeError, match="'p'"):
        distances.pairwise(rows[0], metric="minkowski")
    with pytest.raises(TypeError, match="'q'"):
        distances.pairwise(rows[0], q=3)
