"""The numbers of layers that normalize activities or weights."""

import functools

import keras
import layers_reference as reference
import numpy as np
import pytest
from backend import central_difference, gradient
from layers_reference import digits, nearest_mean

from kerascomp.layers import (
    TLU,
    BatchRenormalization,
    FilterResponseNormalization,
    GhostBatchNormalization,
    Maxout,
    NoisyDense,
    Snake,
    WeightNormalization,
    WeightStandardization,
    initialize_from_data,
)
from kerascomp.testing._programs import Program

ops = keras.ops
k = keras.layers
PiecewiseConstant = keras.optimizers.schedules.PiecewiseConstantDecay


def values(tensor):
    return ops.convert_to_numpy(tensor)


def close(received, expected, rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(values(received), expected, rtol, atol)


# Layers, their input, and the axes of the kernel that belong to outputs.
WRAPPED = [
    (lambda: k.Dense(4), (3, 2, 5), (1,)),
    (lambda: k.Conv1D(4, 2), (3, 6, 5), (2,)),
    (lambda: k.Conv2D(4, (2, 3), groups=2), (3, 5, 6, 2), (3,)),
    (lambda: k.Conv2DTranspose(4, 2), (3, 5, 6, 2), (2,)),
    (lambda: k.DepthwiseConv2D(2, depth_multiplier=3), (3, 5, 6, 2), (2, 3)),
    (lambda: k.EinsumDense("abc,cde->abde", (None, 2, 4)), (3, 2, 5), (1, 2)),
    (lambda: k.EinsumDense("abc,dc->abd", (None, 4)), (3, 2, 5), (0,)),
]


@pytest.mark.parametrize(("make", "shape", "kept"), WRAPPED)
def test_wrappers_compute_with_the_kernel_of_the_paper(rng, make, shape, kept):
    x = rng.normal(size=shape).astype("float32")
    plain, layer = make(), WeightNormalization(make())
    expected = plain(x)
    layer.build(shape)
    layer.layer.set_weights(plain.get_weights())
    v, *rest = plain.get_weights()
    length = np.sqrt(
        (v.astype("float64") ** 2).sum(
            axis=tuple(i for i in range(v.ndim) if i not in kept)
        )
    )
    layer.gain.assign(length)
    close(layer(x), values(expected))
    gain = rng.uniform(0.5, 2, size=length.shape)
    layer.gain.assign(gain)
    plain.set_weights([reference.weight_normalized(v, gain, kept), *rest])
    close(layer(x), values(plain(x)))

    standard = WeightStandardization(make(), epsilon=1e-3)
    standard.build(shape)
    standard.layer.set_weights([v, *rest])
    plain.set_weights([reference.standardized(v, kept, 1e-3), *rest])
    close(standard(x), values(plain(x)), atol=2e-5)
    np.testing.assert_array_equal(standard.layer.get_weights()[0], v)

    if rest:  # A bias, so that means can be 0.
        many = rng.normal(2, 3, size=(40, *shape[1:])).astype("float32")
        layer.initialize(many)
        y = values(layer(many)).reshape(-1, gain.size)
        np.testing.assert_allclose(y.mean(axis=0), 0, atol=2e-5)
        np.testing.assert_allclose(y.std(axis=0), 1, rtol=2e-5)


def test_weight_normalization_of_an_embedding_scales_rows(rng):
    layer = WeightNormalization(k.Embedding(6, 3))
    tokens = np.array([[0, 5], [2, 2]])
    before = values(layer(tokens))
    table = values(layer.layer.embeddings)
    close(before, table[tokens], rtol=1e-5)
    layer.gain.assign(np.arange(1.0, 7.0))
    close(np.linalg.norm(values(layer(tokens)), axis=-1), tokens + 1.0)
    masked = WeightNormalization(k.Embedding(6, 3, mask_zero=True))
    np.testing.assert_array_equal(
        values(masked.compute_mask(tokens)), tokens != 0
    )
    other = WeightNormalization(k.Embedding(6, 3), axis=1)
    other.build((2, 2))
    other.layer.embeddings.assign(table)
    other.gain.assign([1.0, 2.0, 3.0])
    expected = reference.weight_normalized(table, np.array([1.0, 2, 3]), (1,))
    close(other(tokens), expected[tokens])


def test_weight_normalization_gradients_equal_central_differences(rng):
    v, x = rng.normal(size=(5, 3)), rng.normal(size=(4, 5))
    mix = rng.normal(size=(4, 3))
    gain = np.array([0.5, 1.5, 2.0])
    layer = WeightNormalization(k.Dense(3, use_bias=False))
    layer.build((None, 5))
    layer.layer.kernel.assign(v)
    layer.gain.assign(gain)
    kernel = reference.weight_normalized(v, gain, (1,))
    received = gradient(
        lambda x: ops.sum(layer(x) * ops.convert_to_tensor(mix, "float32")),
        x.astype("float32"),
    )
    close(received, mix @ kernel.T)

    # One step of plain descent moves the weights against the gradient.
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, mix)

    def loss(v, gain):
        kernel = reference.weight_normalized(v, gain, (1,))
        return ((x @ kernel - mix) ** 2).mean()

    by_v = central_difference(lambda v: loss(v, gain), v, 1e-5)
    by_gain = central_difference(lambda gain: loss(v, gain), gain, 1e-5)
    close(layer.layer.kernel, v - by_v, rtol=1e-4, atol=1e-5)
    close(layer.gain, gain - by_gain, rtol=1e-4, atol=1e-5)


def test_a_model_is_initialized_layer_by_layer(rng):
    x = rng.normal(1, 2, size=(200, 6, 6, 2)).astype("float32")
    model = keras.Sequential(
        [
            WeightNormalization(k.Conv2D(4, 3, activation="relu")),
            k.Flatten(),
            WeightNormalization(k.Dense(5, activation="tanh")),
            k.Dense(2),
            WeightNormalization(k.Dense(3)),
        ]
    )
    initialize_from_data(model, x)
    y = values(model(x))
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-5)
    first = values(model.layers[0](x))
    # Half of a normal variable is above 0: relu came after normalizing.
    assert first.min() == 0
    assert 0.2 < first.mean() < 0.6
    with pytest.raises(ValueError, match="must have a WeightNormalization"):
        initialize_from_data(k.Dense(3), x)
    with pytest.raises(ValueError, match="multiply their inputs"):
        WeightNormalization(k.Embedding(3, 2)).initialize(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (WeightNormalization(k.Flatten()), (2, 3), "must have one kernel"),
        (WeightNormalization(k.SeparableConv1D(2, 2)), (2, 3, 4), "one kernel"),
        (
            WeightStandardization(k.Dense(2), axis=2),
            (2, 3),
            "axes of the kernel",
        ),
        (FilterResponseNormalization(), (2, 3), "learned_epsilon=True"),
        (GhostBatchNormalization(4, axis=0), (2, 3), "not that of the batch"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.build(shape)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`r_max` must be in \[1, inf\)"):
        BatchRenormalization(r_max=0.5)
    with pytest.raises(ValueError, match=r"`d_max` must be in \[0, inf\)"):
        BatchRenormalization(d_max=-1)
    with pytest.raises(ValueError, match="at least 2"):
        GhostBatchNormalization(1)
    with pytest.raises(ValueError, match="`epsilon` must be in"):
        WeightStandardization(k.Dense(1), epsilon=0)


def test_filter_response_normalization_equals_the_paper(rng):
    x = rng.normal(1, 3, size=(3, 4, 5, 6)).astype("float32")
    gamma, beta = rng.normal(size=(2, 6))
    layer = FilterResponseNormalization(epsilon=1e-3)
    layer(x)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    expected = reference.filter_response(x.astype("float64"), gamma, beta, 1e-3)
    close(layer(x), expected)
    first = FilterResponseNormalization(axis=1, epsilon=1e-3)
    first.build((None, 6, 4, 5))
    first.set_weights(layer.get_weights())
    close(first(np.moveaxis(x, -1, 1)), np.moveaxis(expected, -1, 1))
    received = gradient(lambda x: ops.sum(layer(x)[..., 0] ** 3), x[:1, :2, :2])
    near = central_difference(
        lambda x: (
            reference.filter_response(x, gamma, beta, 1e-3)[..., 0] ** 3
        ).sum(),
        x[:1, :2, :2],
        1e-4,
    )
    close(received, near, rtol=1e-3, atol=1e-4)
    pixel = FilterResponseNormalization(learned_epsilon=True, epsilon=1e-3)
    close(pixel(x[:, 0, 0]), x[:, 0, 0] / np.sqrt(x[:, 0, 0] ** 2 + 1.1e-3))


def test_batch_renormalization_equals_the_paper(rng):
    layer = BatchRenormalization(
        r_max=1.5, d_max=0.7, momentum=0.8, epsilon=1e-2
    )
    moving = [np.zeros(3), np.ones(3)]
    for _ in range(3):
        x = rng.normal([0, 1, 5], [1, 3, 0.1], size=(6, 4, 3))
        expected, moving = reference.batch_renormalized(
            x, moving, 1.5, 0.7, 1e-2, 0.8
        )
        close(layer(x.astype("float32"), training=True), expected, atol=2e-5)
        close(layer.moving_mean, moving[0])
        close(layer.moving_variance, moving[1])
    inference = (x - moving[0]) / np.sqrt(moving[1] + 1e-2)
    close(layer(x.astype("float32")), inference, atol=2e-5)
    # With limits that do not bind, training is what inference was before.
    free = BatchRenormalization(r_max=1e6, d_max=1e6, epsilon=1e-2)
    free.build((None, 4, 3))
    free.moving_mean.assign(moving[0])
    free.moving_variance.assign(moving[1])
    close(free(x.astype("float32"), training=True), inference, atol=2e-5)


def test_batch_renormalization_without_room_is_batch_normalization(rng):
    x = rng.normal(2, 3, size=(6, 4, 3)).astype("float32")
    mask = rng.integers(0, 2, size=(6, 4)).astype(bool)
    for given in (None, mask):
        ours, theirs = (
            make(momentum=0.8, epsilon=1e-2, gamma_initializer="random_normal")
            for make in (
                lambda **kwargs: BatchRenormalization(1.0, 0.0, **kwargs),
                k.BatchNormalization,
            )
        )
        ours.build(x.shape)
        theirs.build(x.shape)
        theirs.set_weights(ours.get_weights())
        expected = theirs(x, training=True, mask=given)
        close(ours(x, training=True, mask=given), values(expected), atol=1e-5)
        for mine, other in zip(
            ours.get_weights(), theirs.get_weights(), strict=True
        ):
            close(mine, other)

    # The batch's statistics are constants where the limits bind or not.
    mix = ops.convert_to_tensor(rng.normal(size=x.shape), "float32")
    layer = BatchRenormalization(1.5, 0.7, epsilon=1e-2)
    layer.build(x.shape)
    received = gradient(lambda x: ops.sum(layer(x, training=True) * mix), x)
    plain = k.BatchNormalization(epsilon=1e-2)
    plain.build(x.shape)
    expected = gradient(lambda x: ops.sum(plain(x, training=True) * mix), x)
    deviation = np.sqrt(x.var(axis=(0, 1)) + 1e-2)
    factor = np.clip(deviation / np.sqrt(1.01), 1 / 1.5, 1.5)
    close(received, expected * factor, rtol=1e-3, atol=1e-5)


def test_limits_of_renormalization_open_by_a_schedule(rng):
    x = rng.normal(5, 30, size=(80, 3)).astype("float32") + 50
    layer = BatchRenormalization(
        r_max=PiecewiseConstant([0], [1.0, 2.0]),
        d_max=PiecewiseConstant([0], [0.0, 0.5]),
        momentum=1.0,
    )
    closed = values(layer(x, training=True))
    layer(x)
    opened = values(layer(x, training=True))
    np.testing.assert_allclose(closed.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(opened.mean(axis=0), 0.5, atol=1e-5)
    np.testing.assert_allclose(opened.std(axis=0), 2, rtol=1e-3)


@pytest.mark.parametrize("batch", [3, 4, 8, 11])
def test_ghost_batch_normalization_normalizes_each_group(rng, batch):
    x = rng.normal(2, 3, size=(batch, 5, 3)).astype("float32")
    for axis in (-1, 1):
        moved = np.moveaxis(x, -1, axis)
        layer = GhostBatchNormalization(
            4, axis=axis, momentum=0.8, epsilon=1e-2
        )
        expected, means, variances = reference.ghost_normalized(
            x.astype("float64"), 4, 1e-2
        )
        expected = np.moveaxis(expected, -1, axis)
        close(layer(moved, training=True), expected, atol=1e-5)
        close(layer.moving_mean, 0.2 * means.mean(axis=0))
        close(layer.moving_variance, 0.8 + 0.2 * variances.mean(axis=0))
    # Where the size of a batch is unknown to the program, too.
    program = Program(functools.partial(layer, training=True), layer)
    close(program.predict([moved], verbose=0), expected, atol=1e-5)


def test_ghost_batches_of_one_group_are_batch_normalization(rng):
    x = rng.normal(2, 3, size=(6, 4, 3)).astype("float32")
    ours, theirs = GhostBatchNormalization(6), k.BatchNormalization()
    close(ours(x, training=True), values(theirs(x, training=True)), atol=1e-5)
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        close(mine, values(other))
    ours.trainable = False
    close(ours(x, training=True), values(ours(x)))


@pytest.mark.slow
def test_convolutions_with_these_layers_learn_digits():
    x, y = digits()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            WeightStandardization(k.Conv2D(12, 3)),
            FilterResponseNormalization(),
            TLU(),
            k.Conv2D(16, 3, strides=2),
            BatchRenormalization(r_max=2.0, d_max=1.0, momentum=0.9),
            Snake(),
            k.Flatten(),
            k.Dense(32),
            GhostBatchNormalization(16, momentum=0.9),
            Maxout(16),
            NoisyDense(16, activation="relu", seed=1),
            WeightNormalization(k.Dense(10)),
        ]
    )
    start = model.get_weights()
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.fit(x[:1200], y[:1200], batch_size=64, epochs=6, verbose=0)
    accuracy = model.evaluate(x[1200:], y[1200:], verbose=0)[1]
    # The nearest class mean finds 87 % of these digits.
    assert nearest_mean(x, y, 1200) < 0.9
    assert accuracy > 0.93
    for old, weight in zip(start, model.weights, strict=True):
        if "seed" not in weight.path:
            assert not np.allclose(old, values(weight), atol=1e-5), weight.path
