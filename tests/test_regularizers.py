"""The numbers of the regularizers."""

import keras
import numpy as np
import pytest
import reference
from backend import central_difference, gradient

from kerascomp.regularizers import ScaledL2


@pytest.fixture
def weights(rng):
    return rng.normal(size=(2, 3, 5)).astype("float32")


def test_scaled_l2_equals_the_equation(weights):
    received = float(ScaledL2(0.7, 9)(weights))
    expected = reference.scaled_l2(weights.astype("float64"), 0.7, 9)
    assert received == pytest.approx(expected, rel=2e-6)


def test_scaled_l2_is_keras_l2_over_twice_the_samples(weights):
    expected = float(keras.regularizers.L2(0.7 / (2 * 9))(weights))
    assert float(ScaledL2(0.7, 9)(weights)) == pytest.approx(expected, rel=2e-6)


def test_scaled_l2_gradient_is_factor_over_samples_times_weight(weights):
    weights[0] = 0
    received = gradient(ScaledL2(0.7, 9), weights)
    np.testing.assert_allclose(received, 0.7 / 9 * weights, rtol=2e-6)
    # A quadratic: central differences are exact but for rounding.
    np.testing.assert_allclose(
        received,
        central_difference(lambda w: reference.scaled_l2(w, 0.7, 9), weights),
        rtol=2e-6,
        atol=1e-9,
    )


def test_scaled_l2_of_a_factor_of_zero_is_zero(weights):
    assert float(ScaledL2(0.0, 9)(weights)) == 0


def test_scaled_l2_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"`factor` must be in \[0, inf\)"):
        ScaledL2(factor=-0.1, num_samples=9)
    for count in (0, 2.5, True):
        with pytest.raises(ValueError, match="`num_samples` must be an int"):
            ScaledL2(factor=0.1, num_samples=count)
