"""The numbers of the activations."""

import keras
import layers_reference
import losses_reference as reference
import numpy as np
import pytest
from backend import central_difference, gradient

from kerascomp.activations import (
    entmax15,
    lisht,
    rrelu,
    snake,
    sparsemax,
    squared_relu,
)

ops = keras.ops
X = np.array([-7.0, -2.5, -0.3, 0.0, 0.4, 1.7, 9.0])


def of(function, x=X):
    return ops.convert_to_numpy(function(np.asarray(x, "float32")))


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_sparsemax_equals_the_projection(rng, axis):
    x = 2 * rng.normal(size=(4, 6, 5)).astype("float32")
    received = keras.ops.convert_to_numpy(sparsemax(x, axis=axis))
    moved = np.moveaxis(x, axis, -1).astype("float64")
    expected = np.moveaxis(reference.sparsemax(moved), -1, axis)
    np.testing.assert_allclose(received, expected, rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(received.sum(axis), 1, rtol=1e-6)
    assert (received == 0).any()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sparsemax_holds_at_ties_edges_and_large_scores(dtype):
    x = [[0, 0, 0, 0], [1, 0, 1, 0], [1e4, -1e4, 1e4, 0], [2, 1, 0, -np.inf]]
    expected = [[0.25] * 4, [0.5, 0, 0.5, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0]]
    received = keras.ops.convert_to_numpy(sparsemax(np.array(x, dtype)))
    np.testing.assert_array_equal(received, expected)


def test_many_scores_in_half_precision_sum_to_one():
    received = keras.ops.convert_to_numpy(
        sparsemax(np.zeros((1, 4096), "float16"))
    )
    np.testing.assert_array_equal(received, np.full((1, 4096), 2.0**-12))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sparsemax_gradient_equals_central_differences(dtype):
    # Supports of 1, 2 and all; ties; large scores.
    x = np.array(
        [[3, 0, 1, 0], [1, 0.5, -3, -4], [0, 0, 0, 0], [1e4, 1e4, -1e4, 0]]
    )
    weights = np.array([0.5, -1.0, 2.0, 1.0])

    def projected(point):
        return np.sum(reference.sparsemax(point) * weights)

    received = gradient(
        lambda point: keras.ops.sum(
            sparsemax(point) * keras.ops.convert_to_tensor(weights, dtype)
        ),
        x.astype(dtype),
    )
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    np.testing.assert_allclose(
        received, central_difference(projected, x, 1e-5), atol=tolerance
    )


@pytest.mark.parametrize("axis", [-1, 0])
def test_entmax15_equals_bisection_and_sums_to_one(rng, axis):
    x = 3 * rng.normal(size=(40, 6, 50)).astype("float32")
    received = of(lambda x: entmax15(x, axis=axis), x)
    moved = np.moveaxis(x, axis, -1)
    expected = np.moveaxis(layers_reference.entmax15(moved), -1, axis)
    np.testing.assert_allclose(received, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(received.sum(axis), 1, rtol=2e-6)
    assert (received == 0).any()
    # Of two scores it has a closed form: p = q^2, 1 - p = (q - d / 2)^2.
    pair = of(entmax15, [[1.4, 1.0]])
    np.testing.assert_allclose(pair, [[0.64, 0.36]], rtol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_entmax15_holds_at_ties_edges_and_large_scores(dtype):
    x = [[0, 0, 0, 0], [1, -9, 1, -9], [1e4, -1e4, 1e4, 0], [2, 0, 0, -np.inf]]
    expected = [[0.25] * 4, [0.5, 0, 0.5, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0]]
    received = ops.convert_to_numpy(entmax15(np.array(x, dtype)))
    np.testing.assert_allclose(received, expected, atol=1e-6)
    many = ops.convert_to_numpy(entmax15(np.zeros((1, 4096), dtype)))
    np.testing.assert_allclose(many, np.full((1, 4096), 2.0**-12), rtol=1e-3)


def test_entmax15_gradient_equals_central_differences():
    # Supports of 1, 2, 3 and all; ties; large scores.
    x = np.array(
        [[3, 0, 0.9, 0], [1, 0.5, -3, -4], [0, 0, 0, 0], [9, 8.7, 8, 1.0]]
    )
    weights = np.array([0.5, -1.0, 2.0, 1.0])
    received = gradient(
        lambda x: ops.sum(
            entmax15(x) * ops.convert_to_tensor(weights, "float32")
        ),
        x.astype("float32"),
    )
    expected = central_difference(
        lambda x: np.sum(layers_reference.entmax15(x) * weights), x, 1e-5
    )
    np.testing.assert_allclose(received, expected, atol=1e-5)
    # Rows sum to 1 wherever they are: the gradient does not see a shift.
    np.testing.assert_allclose(received.sum(-1), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (lisht, lambda x: x * np.tanh(x)),
        (squared_relu, lambda x: np.maximum(x, 0) ** 2),
        (lambda x: snake(x, 1.7), lambda x: x + np.sin(1.7 * x) ** 2 / 1.7),
        (lambda x: snake(x, -0.6), lambda x: x + np.sin(0.6 * x) ** 2 / -0.6),
        (rrelu, lambda x: np.where(x < 0, x * (1 / 8 + 1 / 3) / 2, x)),
        (
            lambda x: rrelu(x, 0.3, 0.3, True, 1),
            lambda x: np.where(x < 0, 0.3 * x, x),
        ),
    ],
)
def test_values_and_gradients_equal_the_formula(function, reference):
    np.testing.assert_allclose(of(function), reference(X), rtol=2e-6, atol=1e-7)
    x = X[X != 0]
    received = gradient(lambda x: ops.sum(function(x)), x.astype("float32"))
    expected = central_difference(lambda x: reference(x).sum(), x, 1e-6)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_snake_of_frequency_zero_is_the_identity_and_can_leave_it():
    np.testing.assert_array_equal(
        of(lambda x: snake(x, 0.0)), X.astype("float32")
    )
    received = gradient(
        lambda a: ops.sum(snake(ops.convert_to_tensor(X, "float32"), a)),
        np.float32(0.0),
    )
    np.testing.assert_allclose(received, (X**2).sum(), rtol=2e-6)


def test_rrelu_draws_a_slope_for_each_element():
    x = np.full((200, 50), -2.0, "float32")
    slopes = of(lambda x: rrelu(x, 0.1, 0.4, training=True, seed=3), x) / -2
    assert slopes.min() >= 0.1
    assert slopes.max() <= 0.4
    assert len(np.unique(slopes)) > 9_000
    deviation = 0.3 / 12**0.5 / 100
    assert slopes.mean() == pytest.approx(0.25, abs=4 * deviation)
    with pytest.raises(ValueError, match=r"`upper` must be in \[0.5, inf\)"):
        rrelu(x, 0.5, 0.2)
