"""The numbers of residual branches and of activations with state."""

import keras
import numpy as np
import pytest
from backend import gradient

from kerascomp.activations import snake
from kerascomp.layers import TLU, DropPath, Maxout, RReLU, Snake

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


def test_drop_path_can_scale_in_inference_instead(rng):
    inputs = rng.normal(size=(50, 4, 3)).astype("float32")
    layer = DropPath(rate=0.4, scale_at_inference=True, seed=1)
    output = draw(layer, inputs)
    dropped = (output == 0).all(axis=(1, 2))
    assert 0 < dropped.sum() < 50
    np.testing.assert_array_equal(output[~dropped], inputs[~dropped])
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(inputs)), 0.6 * inputs, rtol=2e-6
    )


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_drop_path_refuses_a_rate_that_is_no_share(rate):
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\)"):
        DropPath(rate=rate)


def test_rrelu_is_leaky_relu_without_a_choice(rng):
    inputs = rng.normal(size=(5, 4, 3)).astype("float32")
    expected = ops.convert_to_numpy(
        keras.layers.LeakyReLU(negative_slope=0.3)(inputs)
    )
    fixed, mean = RReLU(0.3, 0.3, seed=1), RReLU(0.2, 0.4, seed=1)
    for output in (draw(fixed, inputs), mean(inputs)):
        np.testing.assert_allclose(
            ops.convert_to_numpy(output), expected, rtol=2e-6
        )
    slopes = draw(mean, np.full((90, 80), -1, "float32"))
    assert -0.4 <= slopes.min() < -0.39 < -0.21 < slopes.max() <= -0.2


@pytest.mark.parametrize("axis", [1, -1])
def test_snake_and_tlu_have_a_number_for_each_channel(rng, axis):
    inputs = rng.normal(size=(5, 4, 3)).astype("float32")
    size = inputs.shape[axis]
    values = np.linspace(0.5, 2, size).astype("float32")
    along = values if axis == -1 else values[:, None]
    waves, cut = Snake(axis=axis), TLU(axis=axis)
    assert tuple(cut(inputs).shape) == tuple(waves(inputs).shape) == (5, 4, 3)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(cut(inputs)), np.maximum(inputs, 0)
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(waves(inputs)), ops.convert_to_numpy(snake(inputs))
    )
    for layer, expected in (
        (waves, inputs + np.sin(along * inputs) ** 2 / along),
        (cut, np.maximum(inputs, along)),
    ):
        layer.weights[0].assign(values)
        np.testing.assert_allclose(
            ops.convert_to_numpy(layer(inputs)), expected, rtol=5e-6, atol=1e-6
        )


def test_tlu_gradient_goes_to_the_threshold_where_it_holds():
    layer = TLU(threshold_initializer=keras.initializers.Constant(0.5))
    layer.build((None, 4))
    received = gradient(
        lambda x: ops.sum(layer(x)), np.array([[0.0, 0.5, 0.6, 2.0]], "float32")
    )
    np.testing.assert_array_equal(received, [[0, 0, 1, 1]])


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_maxout_takes_neighbors_or_strides(rng, axis):
    inputs = rng.normal(size=(5, 6, 12, 18)).astype("float32")
    moved = np.moveaxis(inputs, axis, -1)
    for strided in (False, True):
        groups = (-1, 3) if strided else (3, -1)
        expected = moved.reshape(*moved.shape[:-1], *groups).max(
            axis=-2 if strided else -1
        )
        received = Maxout(3, axis=axis, strided=strided)(inputs)
        np.testing.assert_array_equal(
            ops.convert_to_numpy(received), np.moveaxis(expected, -1, axis)
        )
    size = inputs.shape[axis]
    np.testing.assert_array_equal(
        ops.convert_to_numpy(Maxout(size, axis=axis)(inputs)), inputs
    )


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Maxout(4), (2, 6), "`units` must divide"),
        (Maxout(2), (2, None), "needs to know the length of axis -1"),
        (TLU(axis=0), (2, 3), "not that of the batch"),
        (Snake(axis=3), (2, 3), "must be an axis of the input"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.build(shape)
