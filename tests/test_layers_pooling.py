"""The numbers of layers that pool and unpool."""

import importlib

import keras
import numpy as np
import pytest
import structure_reference as reference
from backend import NAME, central_difference, gradient

from kerascomp import layers

ops = keras.ops
FORMATS = ("channels_last", "channels_first")


def array(x):
    return ops.convert_to_numpy(x)


def moved(x, data_format):
    """An array whose channels are last, in the data format."""
    return x if data_format == "channels_last" else np.moveaxis(x, -1, 1)


def run(make, x):
    """The outputs in both data formats, with the channels last."""
    for data_format in FORMATS:
        layer = make(data_format=data_format)
        inputs = [moved(each, data_format) for each in keras.tree.flatten(x)]
        outputs = layer(inputs if isinstance(x, list) else inputs[0])
        first = data_format == "channels_first"
        yield keras.tree.map_structure(
            lambda a, axis=1 if first else -1: np.moveaxis(array(a), axis, -1),
            outputs,
        )


@pytest.mark.parametrize(
    ("pool", "strides", "padding"),
    [
        (2, None, "valid"),
        ((3, 2), (2, 1), "valid"),
        ((3, 2), (2, 1), "same"),
        ((2, 5), (3, 2), "same"),
    ],
)
def test_max_pooling_with_indices_equals_the_definition(
    rng, pool, strides, padding
):
    # Few values, so that there are ties.
    x = rng.integers(-3, 3, size=(2, 7, 6, 3)).astype("float32")
    size = (pool, pool) if isinstance(pool, int) else pool
    expected = reference.max_pool_with_indices(
        x, size, strides or size, padding
    )
    keras_pooled = keras.layers.MaxPooling2D(pool, strides, padding)(x)

    def make(**k):
        return layers.MaxPoolingWithIndices2D(pool, strides, padding, **k)

    for values, indices in run(make, x):
        np.testing.assert_array_equal(values, expected[0])
        np.testing.assert_array_equal(indices, expected[1])
        np.testing.assert_array_equal(values, array(keras_pooled))


def test_indices_are_those_of_torch_and_convert_to_those_of_tensorflow(rng):
    x = rng.normal(size=(2, 7, 6, 3)).astype("float32")
    layer = layers.MaxPoolingWithIndices2D((3, 2), (2, 1))
    _, indices = map(array, layer(x))
    if NAME == "torch":
        functional = importlib.import_module("torch.nn.functional")
        _, theirs = functional.max_pool2d(
            ops.convert_to_tensor(np.moveaxis(x, -1, 1)),
            (3, 2),
            (2, 1),
            return_indices=True,
        )
        np.testing.assert_array_equal(
            np.moveaxis(indices, -1, 1), array(theirs)
        )
    if NAME == "tensorflow":
        nn = importlib.import_module("tensorflow").nn
        _, theirs = nn.max_pool_with_argmax(x, (3, 2), (2, 1), "VALID")
        np.testing.assert_array_equal(indices * 3 + np.arange(3), array(theirs))


def test_max_pooling_with_indices_of_infinities_and_nan():
    lowest = np.full((1, 3, 3, 1), -np.inf, "float32")
    layer = layers.MaxPoolingWithIndices2D(2, padding="same")
    values, indices = map(array, layer(lowest))
    assert (values == -np.inf).all()
    assert indices.ravel().tolist() == [0, 2, 6, 8]
    lowest[0, 1, 1, 0] = np.nan
    values, indices = map(array, layer(lowest))
    assert np.isnan(values[0, 0, 0, 0])
    assert indices[0, 0, 0, 0] == 4


def test_the_gradient_of_max_pooling_goes_where_the_indices_point():
    x = np.zeros((1, 4, 4, 1), "float32")  # Ties: the first gets all.
    layer = layers.MaxPoolingWithIndices2D(2)
    received = gradient(lambda x: ops.sum(layer(x)[0]), x)
    expected = np.zeros((4, 4))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(received[0, :, :, 0], expected)


@pytest.mark.parametrize(
    ("pool", "strides", "padding"),
    [((2, 3), None, "valid"), (3, (1, 2), "same"), (3, 2, "valid")],
)
def test_unpooling_puts_maxima_back_where_they_were(
    rng, pool, strides, padding
):
    x = rng.normal(size=(2, 7, 8, 3)).astype("float32") + 10
    size = (pool, pool) if isinstance(pool, int) else pool
    steps = (strides, strides) if isinstance(strides, int) else strides
    pooled = reference.max_pool_with_indices(x, size, steps or size, padding)
    restored = reference.max_unpool(*pooled, (7, 8))
    at_maxima = restored != 0
    np.testing.assert_allclose(restored[at_maxima], x[at_maxima])
    other = [rng.normal(size=pooled[0].shape), pooled[1]]
    expected = reference.max_unpool(*other, (7, 8))

    def make(**k):
        return layers.MaxUnpooling2D(
            pool, strides, padding, output_size=(7, 8), **k
        )

    for output in run(make, [pooled[0].astype("float32"), pooled[1]]):
        np.testing.assert_allclose(output, restored, rtol=2e-6)
    for output in run(make, [other[0].astype("float32"), other[1]]):
        np.testing.assert_allclose(output, expected, rtol=2e-6, atol=1e-7)


def test_unpooling_finds_the_size_of_images_that_were_pooled_whole(rng):
    for padding, size in (("valid", (7, 8)), ("same", (6, 9))):
        x = rng.normal(size=(2, *size, 3)).astype("float32")
        arguments = ((3, 2), (2, 3), padding)
        pooled = layers.MaxPoolingWithIndices2D(*arguments)(x)
        restored = layers.MaxUnpooling2D(*arguments)(pooled)
        assert tuple(restored.shape) == x.shape
        again = layers.MaxPoolingWithIndices2D(*arguments)(
            ops.where(restored == 0, -np.inf, restored)
        )
        np.testing.assert_array_equal(array(again[0]), array(pooled[0]))
        np.testing.assert_array_equal(array(again[1]), array(pooled[1]))


def test_unpooling_hands_the_gradient_back_to_the_values(rng):
    indices = np.array([0, 5, 5, 7]).reshape(1, 2, 2, 1)
    weight = rng.normal(size=(1, 3, 3, 1)).astype("float32")
    layer = layers.MaxUnpooling2D(2, 1)
    received = gradient(
        lambda v: ops.sum(ops.multiply(layer([v, indices]), weight)),
        rng.normal(size=(1, 2, 2, 1)).astype("float32"),
    )
    w = weight.ravel()
    expected = [w[0], w[5] / 2, w[5] / 2, w[7]]
    np.testing.assert_allclose(received.ravel(), expected, rtol=2e-6)


def test_pooling_and_unpooling_refuse_what_does_not_fit():
    image = np.zeros((1, 3, 5, 1), "float32")
    pool = layers.MaxPoolingWithIndices2D
    unpool = layers.MaxUnpooling2D
    values, indices = np.zeros((2, 1, 1, 2, 1), "float32")
    indices = indices.astype("int32")
    for call, message in (
        (lambda: pool(4)(image), "`pool_size` must not exceed the image"),
        (lambda: pool((1, 2, 3)), "`pool_size` must be an integer or two"),
        (lambda: pool(0), "`pool_size` must be an integer of at least 1"),
        (lambda: pool(2, strides=1.5), "`strides` must be an integer"),
        (lambda: pool(2, padding="SAME"), "`padding` must be one of"),
        (lambda: pool(2, data_format="NHWC"), "`data_format` must be one of"),
        (lambda: pool(2)(image[0]), "expected ndim=4"),
        (
            lambda: unpool(2, output_size=(2, 6))([values, indices]),
            r"has \(1, 3\) windows, the input \(1, 2\)",
        ),
        (lambda: unpool(2)([values, indices[..., :0]]), "the same shape"),
        (lambda: unpool(2)([values, indices + 8]), "must lie in an image"),
        (lambda: unpool(2)([values, indices - 1]), "must lie in an image"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_spatial_pyramid_pooling_equals_the_definition(rng, pooling):
    x = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    bins = ((1, 1), (2, 3), (6, 6))
    reduce = {"max": np.max, "average": np.mean}[pooling]
    expected = reference.spatial_pyramid(x, bins, reduce)

    def make(**k):
        return layers.SpatialPyramidPooling2D((1, (2, 3), 6), pooling, **k)

    for output in run(make, x):
        np.testing.assert_allclose(output, expected, rtol=2e-6, atol=1e-7)
    whole = array(layers.SpatialPyramidPooling2D((1,), pooling)(x))
    of_keras = {
        "max": keras.layers.GlobalMaxPooling2D,
        "average": keras.layers.GlobalAveragePooling2D,
    }[pooling]()(x)
    np.testing.assert_allclose(
        whole[:, 0], array(of_keras), rtol=2e-6, atol=1e-7
    )


def test_spatial_pyramid_pooling_takes_images_of_any_size(rng):
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, layers.SpatialPyramidPooling2D((1, 3))(inputs))
    assert model.output_shape == (None, 10, 2)
    for size in ((4, 9), (2, 3)):
        x = rng.normal(size=(2, *size, 2)).astype("float32")
        np.testing.assert_allclose(
            model.predict_on_batch(x),
            reference.spatial_pyramid(x, ((1, 1), (3, 3)), np.max),
            rtol=2e-6,
        )
    for bins in ((), 3, (0,), ((1, 2, 3),)):
        with pytest.raises(ValueError, match="`bins` must be"):
            layers.SpatialPyramidPooling2D(bins)


def test_generalized_mean_pooling_equals_the_definition(rng):
    x = rng.normal(size=(2, 4, 3, 5)).astype("float32")
    p = np.array([0.5, 1.0, 3.0, 20.0, -2.0])
    for each, powers in ((False, np.array(2.5)), (True, p)):
        expected = reference.generalized_mean(x, powers, 1e-2)
        for data_format in FORMATS:
            layer = layers.GeneralizedMeanPooling(
                per_channel=each, epsilon=1e-2, data_format=data_format
            )
            inputs = moved(x, data_format)
            layer.build(inputs.shape)
            assert np.unique(array(layer.exponent)).tolist() == [3.0]
            layer.exponent.assign(powers)
            # Logarithms and back cost some bits.
            np.testing.assert_allclose(
                array(layer(inputs)), expected, rtol=2e-5
            )


def test_generalized_mean_pooling_lies_between_average_and_maximum(rng):
    for shape, kind in (((3,), "1D"), ((3, 4, 2), "3D")):
        average, maximum = (
            getattr(keras.layers, f"Global{name}Pooling{kind}")()
            for name in ("Average", "Max")
        )
        x = np.exp(rng.normal(size=(2, *shape, 5))).astype("float32")
        low, middle, high = (
            array(layers.GeneralizedMeanPooling(p)(x))
            for p in (1.0, 3.0, 500.0)
        )
        np.testing.assert_allclose(low, array(average(x)), rtol=1e-5)
        # n ** (1 / 500) is 1.006 for 24 numbers.
        np.testing.assert_allclose(high, array(maximum(x)), rtol=1e-2)
        assert (low < middle).all()
        assert (middle < high).all()


def test_generalized_mean_pooling_differentiates_input_and_exponent(rng):
    x = np.exp(rng.normal(size=(1, 3, 2))).astype("float32")
    layer = layers.GeneralizedMeanPooling(2.0)
    layer(x)
    received = gradient(lambda x: ops.sum(ops.square(layer(x))), x)
    expected = central_difference(
        lambda x: np.sum(reference.generalized_mean(x, 2.0, 1e-6) ** 2), x
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)

    def of_exponent(p):
        layer.exponent.assign(2.0)
        mapping = [(layer.exponent, p)]
        with keras.StatelessScope(mapping):
            return ops.sum(layer(x))

    received = gradient(of_exponent, np.array(2.0, "float32"))
    expected = central_difference(
        lambda p: np.sum(reference.generalized_mean(x, p, 1e-6)), 2.0
    )
    np.testing.assert_allclose(received, expected, rtol=1e-4)


def test_generalized_mean_pooling_of_large_half_precision_is_finite():
    x = np.full((1, 4, 2), 60_000, "float16")
    layer = layers.GeneralizedMeanPooling(5.0, dtype="mixed_float16")
    np.testing.assert_allclose(array(layer(x)), 60_000, rtol=1e-3)
    for argument in ({"p": 0.0}, {"epsilon": 0.0}):
        with pytest.raises(ValueError, match=r"must be in \(0, inf\)"):
            layers.GeneralizedMeanPooling(**argument)
    with pytest.raises(ValueError, match="channels of the input must be known"):
        layers.GeneralizedMeanPooling(per_channel=True)(keras.Input((3, None)))


@pytest.mark.parametrize(("size", "strides"), [(3, 2), (4, (1, 3)), (5, 2)])
def test_blur_pooling_equals_the_definition(rng, size, strides):
    x = rng.normal(size=(2, 7, 6, 3)).astype("float32")
    steps = (strides, strides) if isinstance(strides, int) else strides
    expected = reference.blur_pool(x.astype("float64"), size, steps)
    for output in run(lambda **k: layers.BlurPooling2D(size, strides, **k), x):
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_blur_pooling_at_special_sizes(rng):
    x = rng.normal(size=(2, 6, 8, 3)).astype("float32")
    plain = array(layers.BlurPooling2D(1)(x))
    np.testing.assert_array_equal(plain, x[:, ::2, ::2])
    np.testing.assert_allclose(
        array(layers.BlurPooling2D(2)(x)),
        array(keras.layers.AveragePooling2D(2)(x)),
        rtol=2e-6,
        atol=1e-7,
    )
    constant = np.full((1, 5, 4, 2), 3.5, "float32")
    np.testing.assert_array_equal(
        array(
            layers.BlurPooling2D(7, 1)(np.full((1, 5, 4, 2), 3.5, "float32"))
        ),
        constant,
    )
    with pytest.raises(ValueError, match=r"more than `kernel_size // 2`"):
        layers.BlurPooling2D(9)(constant)
    with pytest.raises(ValueError, match="`kernel_size` must be an integer"):
        layers.BlurPooling2D(0)


def test_blur_pooling_hardly_notices_shifts():
    """Shifted by a pixel, a wave changes less than by skipping pixels."""
    steps = np.arange(33)
    wave = np.cos(2 * np.pi * steps / 2.5)
    image = np.tile(wave, (4, 1)).astype("float32")[None, :, :, None]
    change = {}
    for size in (1, 5):
        layer = layers.BlurPooling2D(size)
        first, second = (
            array(layer(image[:, :, at : at + 32])) for at in (0, 1)
        )
        energies = np.array([(first**2).sum(), (second**2).sum()])
        change[size] = np.abs(first - second).mean()
        assert energies.min() > 0
    assert change[5] < change[1] / 4
