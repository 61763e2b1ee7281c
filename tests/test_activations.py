"""The numbers of the activations."""

import keras
import losses_reference as reference
import numpy as np
import pytest
from backend import central_difference, gradient

from kerascomp.activations import sparsemax


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
