"""The numbers of layers that upsample, gate, cross, embed and encode."""

import keras
import numpy as np
import pytest
import structure_reference as reference
from backend import central_difference, gradient
from sklearn import datasets

from kerascomp import initializers, layers

ops = keras.ops


def array(x):
    return ops.convert_to_numpy(x)


def test_subpixel_upsampling_equals_the_definition(rng):
    x = rng.normal(size=(2, 3, 4, 12)).astype("float32")
    for size in (2, (3, 2), (1, 4), 1):
        rows, columns = (size, size) if isinstance(size, int) else size
        expected = reference.periodic_shuffle(x, rows, columns)
        output = array(layers.SubpixelUpsampling2D(size)(x))
        np.testing.assert_array_equal(output, expected)
        first = layers.SubpixelUpsampling2D(size, data_format="channels_first")
        np.testing.assert_array_equal(
            array(first(np.moveaxis(x, -1, 1))), np.moveaxis(expected, -1, 1)
        )
    if hasattr(ops, "depth_to_space"):  # Since Keras 3.15.
        np.testing.assert_array_equal(
            array(ops.depth_to_space(x, 2)),
            array(layers.SubpixelUpsampling2D(2)(x)),
        )
    with pytest.raises(ValueError, match=r"must be a multiple of 5 \* 2"):
        layers.SubpixelUpsampling2D((5, 2))(x)


def test_subpixel_upsampling_from_icnr_is_nearest_upsampling(rng):
    x = rng.normal(size=(2, 5, 4, 3)).astype("float32")
    small = keras.initializers.GlorotUniform(seed=3)
    icnr = initializers.ICNR((2, 3), keras.initializers.GlorotUniform(seed=3))
    one = keras.layers.Conv2D(2, 3, padding="same", kernel_initializer=small)
    many = keras.layers.Conv2D(12, 3, padding="same", kernel_initializer=icnr)
    np.testing.assert_allclose(
        array(layers.SubpixelUpsampling2D((2, 3))(many(x))),
        array(keras.layers.UpSampling2D((2, 3))(one(x))),
        rtol=2e-6,
        atol=1e-6,
    )


def test_squeeze_excite_equals_the_definition(rng):
    for shape in ((2, 5, 6), (2, 3, 4, 6)):
        x = rng.normal(size=shape).astype("float32")
        weights = [
            rng.normal(size=s).astype("float32")
            for s in ((6, 2), (2,), (2, 6), (6,))
        ]
        expected = reference.squeeze_excite(x, *weights)
        for data_format in ("channels_last", "channels_first"):
            layer = layers.SqueezeExcite(3, data_format=data_format)
            first = data_format == "channels_first"
            inputs = np.moveaxis(x, -1, 1) if first else x
            layer.build(inputs.shape)
            layer.set_weights(weights)
            output = array(layer(inputs))
            output = np.moveaxis(output, 1, -1) if first else output
            np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    layer.set_weights([np.zeros_like(w) for w in weights])
    np.testing.assert_allclose(array(layer(inputs)), inputs / 2, rtol=2e-6)
    with pytest.raises(ValueError, match="`reduction` must divide the chann"):
        layers.SqueezeExcite(4)(x)
    with pytest.raises(ValueError, match="channels of the input must be known"):
        layers.SqueezeExcite(4)(keras.Input((3, None)))
    with pytest.raises(ValueError, match="expected min_ndim=3"):
        layers.SqueezeExcite(1)(np.zeros((2, 3), "float32"))


def test_squeeze_excite_with_a_seeded_initializer_draws_two_kernels():
    layer = layers.SqueezeExcite(
        1, kernel_initializer=keras.initializers.HeNormal(seed=1)
    )
    assert layer(np.ones((2, 3, 4), "float32")).shape == (2, 3, 4)
    assert [tuple(w.shape) for w in layer.weights] == [(4, 4), (4,)] * 2


def test_polynomial_crossing_equals_the_definition(rng):
    x0, x = rng.normal(size=(2, 3, 2, 4)).astype("float32")
    for full in (False, True):
        layer = layers.PolynomialCrossing(full)
        layer.build([x0.shape, x.shape])
        kernel = rng.normal(size=(4, 4 if full else 1)).astype("float32")
        bias = rng.normal(size=4).astype("float32")
        layer.set_weights([kernel, bias])
        for inputs, last in (([x0, x], x), (x0, x0)):
            expected = reference.cross(x0, last, kernel, bias)
            np.testing.assert_allclose(
                array(layer(inputs)), expected, rtol=1e-5, atol=1e-6
            )
        received = gradient(
            lambda x, layer=layer: ops.sum(ops.tanh(layer([x0, x]))), x
        )
        expected = central_difference(
            lambda x, w=kernel, b=bias: np.sum(
                np.tanh(reference.cross(x0, x, w, b))
            ),
            x,
        )
        np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)
    zero = layers.PolynomialCrossing(kernel_initializer="zeros")
    np.testing.assert_array_equal(array(zero([x0, x])), x)
    for inputs in ([x0, x[:, :1]], [x0, x, x], [x0, x[..., :2]]):
        with pytest.raises(ValueError, match="of the same shape"):
            layers.PolynomialCrossing()(inputs)
    with pytest.raises(ValueError, match="last axis of the input must be"):
        layers.PolynomialCrossing()(keras.Input((None,)))


def bag(combiner, table, **arguments):
    layer = layers.EmbeddingBag(*table.shape, combiner, **arguments)
    layer.build((None, None))
    layer.set_weights([table])
    return layer


@pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn", "max"])
def test_embedding_bag_equals_the_definition(rng, combiner):
    table = rng.normal(size=(7, 3)).astype("float32")
    items = rng.integers(0, 7, size=(4, 2, 5))
    items[1, 0] = 2  # A bag of padding.
    ones = np.ones(items.shape)

    def assert_equals(output, weights):
        expected = reference.embedding_bag(table, items, weights, combiner)
        np.testing.assert_allclose(
            array(output), expected, rtol=1e-5, atol=1e-6
        )

    for one_bag in (items, items.astype("float32")):
        assert_equals(bag(combiner, table)(one_bag), ones)
    padded = bag(combiner, table, padding_index=2)
    assert_equals(padded(items), items != 2)
    assert array(padded(items))[1, 0].tolist() == [0, 0, 0]
    mask = rng.random(items.shape) < 0.6
    assert_equals(padded(items, mask=mask), mask & (items != 2))
    of_bags = rng.random(items.shape[:2]) < 0.5
    assert_equals(
        bag(combiner, table)(items, mask=of_bags),
        ones * of_bags[..., None],
    )
    weights = rng.uniform(0.5, 2, size=items.shape).astype("float32")
    if combiner == "max":
        with pytest.raises(ValueError, match='another `combiner` than "max"'):
            layers.EmbeddingBag(7, 3, "max")([items, weights])
        return
    assert_equals(bag(combiner, table)([items, weights]), weights)
    assert_equals(padded([items, weights]), weights * (items != 2))


def test_an_embedding_bag_of_one_item_is_an_embedding(rng):
    table = rng.normal(size=(7, 3)).astype("float32")
    items = rng.integers(0, 7, size=(4, 5))
    embedding = keras.layers.Embedding(7, 3)
    embedding.build()
    embedding.set_weights([table])
    for combiner in ("sum", "mean", "sqrtn", "max"):
        np.testing.assert_allclose(
            array(bag(combiner, table)(items[..., None])),
            array(embedding(items)),
            rtol=2e-6,
        )


def test_embedding_bag_takes_a_mask_from_the_layer_before():
    items = np.array([[3.0, 0.0, 5.0]])
    table = np.arange(12, dtype="float32").reshape(6, 2)
    masked = keras.layers.Masking()(items[..., None])
    mask = keras.layers.Masking().compute_mask(items[..., None])
    layer = bag("sum", table)
    expected = table[3] + table[5]
    np.testing.assert_array_equal(array(layer(items, mask=mask))[0], expected)
    output = layer(ops.squeeze(masked, -1), mask=mask)
    assert getattr(output, "_keras_mask", None) is None


def test_embedding_bag_refuses_what_does_not_fit():
    items = np.zeros((2, 3), "int32")
    for arguments in ({"input_dim": 0}, {"output_dim": 0}, {"combiner": "min"}):
        with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must"):
            layers.EmbeddingBag(
                **{"input_dim": 4, "output_dim": 2, **arguments}
            )
    with pytest.raises(ValueError, match="`padding_index` must be below"):
        layers.EmbeddingBag(4, 2, padding_index=4)
    with pytest.raises(ValueError, match="must have the shape of the items"):
        layers.EmbeddingBag(4, 2)([items, np.ones((2, 4), "float32")])
    for wrong in (4, -1):
        with pytest.raises(ValueError, match=r"Items must lie in \[0, 4\)"):
            layers.EmbeddingBag(4, 2)(items + wrong)


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_random_fourier_features_approximate_the_kernel(rng, kernel):
    x = rng.normal(size=(6, 3)).astype("float32")
    exact = getattr(reference, f"{kernel}_kernel")(x, x, 1.7)
    for seed in (0, 1):
        layer = layers.RandomFourierFeatures(
            20_000, kernel, scale=1.7, seed=seed
        )
        features = array(layer(x)).astype("float64")
        # Each product has variance of at most 1 / output_dim; five of them.
        bound = 5 / 20_000**0.5
        np.testing.assert_allclose(features @ features.T, exact, atol=bound)
    assert not layer.trainable_weights
    again = layers.RandomFourierFeatures(20_000, kernel, scale=1.7, seed=1)
    np.testing.assert_array_equal(array(again(x)), features.astype("float32"))
    others = [
        array(layers.RandomFourierFeatures(5, kernel)(x)) for _ in range(2)
    ]
    assert not np.array_equal(*others)


def test_random_fourier_features_keep_their_phases_in_half_precision(rng):
    x = rng.normal(size=(6, 3)).astype("float16")
    whole = layers.RandomFourierFeatures(50, "laplacian", seed=1)
    half = layers.RandomFourierFeatures(
        50, "laplacian", seed=1, dtype="mixed_float16"
    )
    np.testing.assert_allclose(
        array(half(x)), array(whole(x.astype("float32"))), atol=2e-4
    )
    for arguments in ({"output_dim": 0}, {"kernel": "linear"}, {"scale": 0.0}):
        with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must"):
            layers.RandomFourierFeatures(**{"output_dim": 4, **arguments})
    with pytest.raises(ValueError, match="last axis of the input must be"):
        whole.__class__(4)(keras.Input((None,)))


def test_sinusoidal_position_encoding_equals_the_definition(rng):
    for features in (6, 5):
        x = rng.normal(size=(2, 3, 7, features)).astype("float32")
        layer = layers.SinusoidalPositionEncoding(max_wavelength=50)
        expected = x + reference.sinusoids(7, features, 50)
        np.testing.assert_allclose(array(layer(x)), expected, atol=2e-6)
        later = array(layer(x[:, :, 2:], start_index=2))
        np.testing.assert_allclose(later, expected[:, :, 2:], atol=2e-6)
    long = np.zeros((1, 3001, 4), "float16")
    layer = layers.SinusoidalPositionEncoding(dtype="mixed_float16")
    expected = reference.sinusoids(3001, 4, 10_000)
    np.testing.assert_allclose(array(layer(long))[0], expected, atol=2e-3)
    with pytest.raises(ValueError, match=r"must be in \(1, inf\)"):
        layers.SinusoidalPositionEncoding(1.0)
    with pytest.raises(ValueError, match="expected min_ndim=3"):
        layer(long[0])


def trained(model, x, y, loss, steps, rate):
    """Trains on all samples at once; returns the outputs on them."""
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    for _ in range(steps):
        model.train_on_batch(x, y)
    return array(model(x))


def digits(first, last):
    x, y = datasets.load_digits(return_X_y=True)
    return (x[first:last] / 16).astype("float32"), y[first:last]


def accuracy(scores, y):
    return (scores.argmax(axis=-1) == y).mean()


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def with_ones(features):
    return np.c_[array(features), np.ones(len(features))]


def readout(features, y):
    """The best linear map to classes by squared error, as a function."""
    weights = np.linalg.lstsq(with_ones(features), np.eye(10)[y], rcond=None)
    return lambda features: with_ones(features) @ weights[0]


def test_crossing_learns_the_sign_of_a_product():
    """Of two measured features, about which no linear model knows."""
    x = datasets.load_diabetes(scaled=True).data[:, 2:6] * 20
    y = (x[:, 0] * x[:, 1] > 0).astype("float32")
    linear = np.linalg.lstsq(with_ones(x), y, rcond=None)[0]
    baseline = ((with_ones(x) @ linear > 0.5) == y).mean()
    inputs = keras.Input((4,))
    crossed = layers.PolynomialCrossing(full_matrix=True)(inputs)
    crossed = layers.PolynomialCrossing()([inputs, crossed])
    model = keras.Model(
        inputs, keras.layers.Dense(1, activation="sigmoid")(crossed)
    )
    scores = trained(
        model, x.astype("float32"), y, "binary_crossentropy", 80, 0.03
    )
    assert baseline < 0.7
    assert ((scores[:, 0] > 0.5) == y).mean() > 0.85


def test_embedding_bags_learn_digits_from_the_places_of_ink():
    x, y = digits(0, 600)
    items = np.where(x > 0.5, np.arange(64), 64)
    layer = layers.EmbeddingBag(65, 8, padding_index=64)
    # The best that can be read off vectors as they were drawn.
    baseline = accuracy(readout(layer(items), y)(layer(items)), y)
    model = keras.Sequential([layer, keras.layers.Dense(10)])
    scores = trained(model, items, y, crossentropy(), 40, 0.1)
    assert accuracy(scores, y) > max(0.9, baseline + 0.1)


def test_random_fourier_features_learn_their_scale():
    x, y = digits(0, 600)
    held_out, truth = digits(600, 1200)
    layer = layers.RandomFourierFeatures(
        200, scale=0.8, trainable_scale=True, seed=1
    )
    # The best that can be read off features of the scale they start with.
    baseline = accuracy(readout(layer(x), y)(layer(held_out)), truth)
    model = keras.Sequential([layer, keras.layers.Dense(10)])
    trained(model, x, y, crossentropy(), 60, 0.05)
    assert accuracy(array(model(held_out)), truth) > baseline + 0.1
    assert float(array(layer.learned_scale)) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "own",
    [
        lambda: [layers.GeneralizedMeanPooling(1.0, per_channel=True)],
        lambda: [
            layers.SqueezeExcite(4),
            keras.layers.GlobalAveragePooling2D(),
        ],
    ],
    ids=["GeneralizedMeanPooling", "SqueezeExcite"],
)
def test_exponents_and_gates_learn_digits(own):
    """A tenth below the loss of the same network without them."""
    baseline = loss_on_digits([keras.layers.GlobalAveragePooling2D()])
    first, *others = own()
    assert loss_on_digits([first, *others]) < 0.9 * baseline
    if isinstance(first, layers.SqueezeExcite):
        assert array(first.squeeze.bias).any()
    else:
        assert np.abs(array(first.exponent) - 1).max() > 0.1


def loss_on_digits(pooling):
    """Trains what follows a fixed convolution."""
    keras.utils.set_random_seed(0)
    x, y = digits(0, 600)
    images = x.reshape(-1, 8, 8, 1)
    convolution = keras.layers.Conv2D(16, 4, activation="relu", trainable=False)
    model = keras.Sequential([convolution, *pooling, keras.layers.Dense(10)])
    trained(model, images, y, crossentropy(), 200, 0.05)
    return model.evaluate(images, y, verbose=0)
