"""The numbers of the layers."""

import keras
import numpy as np
import pytest
from backend import gradient

from kerascomp.layers import DropPath

ops = keras.ops


def draw(layer, inputs):
    return ops.convert_to_numpy(layer(inputs, training=True))


def test_drop_path_keeps_the_expected_output():
    output = draw(DropPath(rate=0.3, seed=1), np.ones((20_000, 1)))
    # Of one sample the deviation is sqrt(0.3 / 0.7); four of the mean's.
    assert output.mean() == pytest.approx(
        1, abs=4 * (0.3 / 0.7 / 20_000) ** 0.5
    )


def test_drop_path_drops_whole_samples_and_scales_the_others(rng):
    inputs = rng.normal(size=(50, 4, 3)).astype("float32")
    output = draw(DropPath(rate=0.4, seed=1), inputs)
    dropped = (output == 0).all(axis=(1, 2))
    assert 0 < dropped.sum() < 50
    np.testing.assert_allclose(
        output[~dropped], inputs[~dropped] / 0.6, rtol=2e-6
    )


def test_drop_path_with_one_axis_is_dropout_of_samples(rng):
    output = draw(DropPath(rate=0.5, seed=1), np.ones(40, "float32"))
    assert set(output.tolist()) == {0.0, 2.0}


def test_drop_path_is_the_identity_in_inference(rng):
    inputs = rng.normal(size=(5, 4, 3)).astype("float32")
    layer = DropPath(rate=0.9, seed=1)
    for output in (layer(inputs), layer(inputs, training=False)):
        np.testing.assert_array_equal(ops.convert_to_numpy(output), inputs)


def test_drop_path_of_rate_zero_is_the_identity(rng):
    inputs = rng.normal(size=(5, 4, 3)).astype("float32")
    np.testing.assert_array_equal(draw(DropPath(rate=0), inputs), inputs)


def test_drop_path_drops_infinite_branches():
    inputs = np.full((20, 2), np.inf, "float32")
    assert set(draw(DropPath(rate=0.5, seed=1), inputs).ravel()) == {0, np.inf}


def test_drop_path_gradient_is_the_scale_of_each_sample(rng):
    inputs = rng.normal(size=(30, 2)).astype("float32")
    scale = draw(DropPath(rate=0.4, seed=1), np.ones_like(inputs))
    received = gradient(
        lambda x: ops.sum(DropPath(rate=0.4, seed=1)(x, training=True)), inputs
    )
    np.testing.assert_allclose(received, scale, rtol=2e-6)


def test_drop_path_passes_the_mask_on_unchanged(rng):
    inputs = rng.normal(size=(5, 4, 3)).astype("float32")
    inputs[2, 1:] = 0
    received = []

    class Reader(keras.layers.Layer):
        supports_masking = True

        def call(self, inputs, mask=None):
            received.append(ops.convert_to_numpy(mask))
            return inputs

    Reader()(DropPath(rate=0.4)(keras.layers.Masking()(inputs)))
    np.testing.assert_array_equal(received[-1], (inputs != 0).any(axis=-1))


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_drop_path_refuses_a_rate_that_is_no_share(rate):
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\)"):
        DropPath(rate=rate)
