"""The numbers of initializers."""

import keras
import numpy as np
import pytest

from kerascomp import initializers

ops = keras.ops


def array(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_dirac_convolutions_are_the_identity(rng, rank):
    conv = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    x = rng.normal(size=(2, *(5, 6, 4)[:rank], 3)).astype("float32")
    for outputs, size in ((3, 3), (5, (4, 3, 2)[:rank]), (2, 1)):
        layer = conv[rank - 1](
            outputs,
            size,
            padding="same",
            kernel_initializer=initializers.Dirac(gain=2.0),
        )
        output = array(layer(x))
        shared = min(outputs, 3)
        np.testing.assert_allclose(output[..., :shared], 2 * x[..., :shared])
        assert not output[..., shared:].any()


def test_dirac_of_groups_and_of_dense_layers():
    kernel = array(initializers.Dirac(groups=2)((3, 2, 6)))
    assert kernel.sum() == 4
    for group in (0, 1):  # Two inputs and three outputs each.
        np.testing.assert_array_equal(
            kernel[1, :, 3 * group : 3 * group + 3], np.eye(2, 3)
        )
    np.testing.assert_array_equal(
        array(initializers.Dirac(0.5)((3, 4))),
        array(keras.initializers.Identity(0.5)((3, 4))),
    )
    with pytest.raises(ValueError, match="`groups` must divide the output"):
        initializers.Dirac(groups=2)((3, 2, 5))
    with pytest.raises(ValueError, match="at least two axes"):
        initializers.Dirac()((3,))
    with pytest.raises(ValueError, match="`groups` must be an integer"):
        initializers.Dirac(groups=0)


def test_delta_orthogonal_convolutions_keep_norms(rng):
    x = rng.normal(size=(2, 6, 5, 4)).astype("float32")
    for size in (3, (2, 5)):
        layer = keras.layers.Conv2D(
            7,
            size,
            padding="same",
            kernel_initializer=initializers.DeltaOrthogonal(gain=1.5, seed=1),
        )
        np.testing.assert_allclose(
            np.linalg.norm(array(layer(x)), axis=-1),
            1.5 * np.linalg.norm(x, axis=-1),
            rtol=1e-5,
        )
    np.testing.assert_array_equal(
        array(initializers.DeltaOrthogonal(seed=3)((4, 7))),
        array(keras.initializers.Orthogonal(seed=3)((4, 7))),
    )
    with pytest.raises(ValueError, match="as many output channels as input"):
        initializers.DeltaOrthogonal()((3, 3, 4, 2))


def test_icnr_repeats_a_smaller_kernel():
    drawn = array(keras.initializers.HeNormal(seed=1)((3, 3, 5, 2)))
    kernel = array(
        initializers.ICNR((2, 3), keras.initializers.HeNormal(seed=1))(
            (3, 3, 5, 12)
        )
    )
    np.testing.assert_array_equal(kernel, np.tile(drawn, 6))
    one = initializers.ICNR(1, keras.initializers.HeNormal(seed=1))
    np.testing.assert_array_equal(array(one((3, 3, 5, 2))), drawn)
    with pytest.raises(ValueError, match="must be a multiple of 4"):
        initializers.ICNR(2)((3, 3, 5, 6))
    with pytest.raises(ValueError, match="`size` must be an integer"):
        initializers.ICNR(0)


def deep(bias="zeros"):
    """Layers of several kinds, some inside of another model."""
    dense = keras.layers.Dense
    inner = keras.Sequential(
        [dense(12, activation="tanh", bias_initializer=bias) for _ in range(2)],
        name="inner",
    )
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(5, 3, activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(2)(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    outputs = dense(3, activation="softmax", name="last")(inner(x))
    return keras.Model(inputs, outputs)


def outputs_before_activation(model, x):
    """By layer, from the weights, as a chain of models."""
    found = {}
    for layer in keras.tree.flatten(
        [getattr(each, "layers", each) for each in model.layers[1:]]
    ):
        activation = getattr(layer, "activation", None)
        if activation is None:
            x = layer(x)
            continue
        layer.activation = keras.activations.linear
        x = layer(x)
        found[layer.name] = array(x)
        layer.activation = activation
        x = activation(x)
    return found


def test_lsuv_gives_every_layer_unit_variance_on_the_data(rng):
    model = deep()
    x = (3 + 10 * rng.normal(size=(64, 6, 6, 2))).astype("float32")
    biases = [w for w in model.weights if w.name != "kernel"]
    kept = [array(w) for w in biases]
    done = initializers.lsuv(model, x, tolerance=1e-5, seed=1)
    found = outputs_before_activation(model, x)
    assert [each["layer"] for each in done] == [*found]
    assert len(done) == 5
    for each in done:
        assert found[each["layer"]].var() == pytest.approx(1, abs=1e-4)
        assert each["after"] == pytest.approx(1, abs=1e-4)
        assert each["iterations"] in (1, 2)  # Twice for the last bits.
        assert each["converged"]
        assert each["divisor"] == pytest.approx(each["before"] ** 0.5)
        layer = next(
            layer
            for layer in (*model.layers, *model.get_layer("inner").layers)
            if layer.name == each["layer"]
        )
        kernel = array(layer.kernel).reshape(-1, layer.kernel.shape[-1])
        kernel = kernel * each["divisor"]
        smaller = kernel if kernel.shape[0] < kernel.shape[1] else kernel.T
        np.testing.assert_allclose(
            smaller @ smaller.T, np.eye(len(smaller)), atol=1e-5
        )
    for weight, before in zip(biases, kept, strict=True):
        np.testing.assert_array_equal(array(weight), before)
    # Layers are as they were: the softmax is back.
    np.testing.assert_allclose(array(model(x)).sum(-1), 1, rtol=1e-5)
    model.compile("sgd", "mse")
    assert np.isfinite(model.train_on_batch(x, np.zeros((64, 3))))


def test_lsuv_iterates_where_there_are_biases_and_says_where_it_fails(rng):
    x = rng.normal(size=(64, 6, 6, 2)).astype("float32")
    spread = keras.initializers.RandomNormal(stddev=0.5, seed=1)
    done = initializers.lsuv(deep(spread), x, tolerance=1e-3, seed=1)
    assert max(each["iterations"] for each in done) > 1
    assert all(each["converged"] for each in done)
    wide = keras.initializers.RandomNormal(stddev=9.0, seed=1)
    done = initializers.lsuv(deep(wide), x, max_iterations=2, seed=1)
    assert not all(each["converged"] for each in done)


def test_lsuv_keeps_signals_through_many_layers(rng):
    """Where Keras' default start has lost them."""
    x = rng.normal(size=(50, 10)).astype("float32")
    layers = [keras.layers.Dense(10, activation="tanh") for _ in range(15)]
    model = keras.Sequential([keras.Input((10,)), *layers])
    lost = array(model(x)).std()
    initializers.lsuv(model, x, seed=1)
    kept = array(model(x)).std()
    assert lost < 0.4
    assert kept > 0.5


def test_lsuv_refuses_what_it_cannot_scale(rng):
    x = rng.normal(size=(8, 3)).astype("float32")
    model = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`tolerance` must be in"):
        initializers.lsuv(model, x, tolerance=0)
    with pytest.raises(ValueError, match="`max_iterations` must be"):
        initializers.lsuv(model, x, max_iterations=0)
    with pytest.raises(ValueError, match="no dense layer or convolution"):
        initializers.lsuv(keras.Sequential([keras.layers.ReLU()]), x)
    with pytest.raises(ValueError, match="must vary over `x`"):
        initializers.lsuv(model, np.zeros_like(x))
    assert array(model(x)).shape == (8, 2)
