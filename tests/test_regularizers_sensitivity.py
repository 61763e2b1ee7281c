"""The penalties on input gradients, by value, gradient and in `fit`."""

import keras
import numpy as np
import pytest
import regularizers_reference as reference
from backend import central_difference

from kerascomp.regularizers import GradientPenalty, JacobianPenalty, ScaledL2

ops = keras.ops
layers = keras.layers


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 3)).astype("float32")


def network(outputs, *between):
    """A network whose reference is `reference.network`."""
    net = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(6, "tanh", bias_initializer="normal"),
            *between,
            layers.Dense(outputs),
        ],
        name="network",
    )
    rng = np.random.default_rng(1)
    net.set_weights([rng.normal(size=w.shape) for w in net.weights])
    return net


def no_loss(y_true, y_pred):
    return 0.0 * ops.sum(y_pred, axis=-1)


def penalty_of(model, x, draws=1):
    """The loss of compiled steps that change no weight."""
    model.compile(keras.optimizers.SGD(0.0), no_loss)
    y = np.zeros((len(x), 1))
    found = [float(model.train_on_batch(x, y)) for _ in range(draws)]
    return found if draws > 1 else found[0]


def compiled_gradients(model, x):
    """The gradients that one compiled step of `fit` takes, and its loss."""
    model.compile(keras.optimizers.SGD(1.0), no_loss)
    before = model.network.get_weights()
    history = model.fit(
        x, np.zeros((len(x), 1)), batch_size=len(x), verbose=0, shuffle=False
    )
    after = model.network.get_weights()
    moves = [b - a for b, a in zip(before, after, strict=True)]
    return moves, history.history["loss"][0]


def assert_follows(model, x, expected):
    """One step follows the gradient of the reference by all weights."""
    weights = model.network.get_weights()
    value = expected(weights)
    moves, loss = compiled_gradients(model, x)
    assert loss == pytest.approx(value, rel=1e-5)
    for place, move in enumerate(moves):

        def of_one(w, place=place):
            return expected([*weights[:place], w, *weights[place + 1 :]])

        slope = central_difference(of_one, weights[place], step=1e-4)
        # Of float32 gradients of gradients.
        np.testing.assert_allclose(move, slope, rtol=1e-3, atol=1e-4)


def test_jacobian_penalty_and_its_gradient_equal_central_differences(x):
    model = JacobianPenalty(network(4), factor=0.3, num_projections=None)
    assert_follows(
        model, x, lambda w: reference.jacobian_penalty(w, x, factor=0.3)
    )


def test_one_projection_of_one_output_is_exact(x):
    model = JacobianPenalty(network(1), factor=0.3, num_projections=1)
    assert_follows(
        model, x, lambda w: reference.jacobian_penalty(w, x, factor=0.3)
    )


def test_projections_have_the_jacobian_as_their_mean(x):
    net = network(4)
    model = JacobianPenalty(net, factor=0.3, num_projections=4, seed=2)
    draws = penalty_of(model, np.tile(x, (200, 1)), draws=5)
    expected = reference.jacobian_penalty(net.get_weights(), x, factor=0.3)
    assert len(set(draws)) == 5
    # 4000 projections of each sample: the standard error is about 0.5 %.
    assert np.mean(draws) == pytest.approx(expected, rel=0.02)


def test_outputs_with_several_axes_count_as_one_vector(x):
    net = network(4)
    shaped = keras.Sequential([keras.Input((3,)), net, layers.Reshape((2, 2))])
    expected = reference.jacobian_penalty(net.get_weights(), x, factor=0.3)
    exact = JacobianPenalty(shaped, factor=0.3, num_projections=None)
    assert penalty_of(exact, x) == pytest.approx(expected, rel=1e-5)
    drawn = JacobianPenalty(shaped, factor=0.3, num_projections=4, seed=2)
    received = penalty_of(drawn, np.tile(x, (400, 1)))
    # 1600 projections of each sample.
    assert received == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("target", [0.0, 1.3])
def test_gradient_penalty_and_its_gradient_equal_central_differences(x, target):
    model = GradientPenalty(
        network(1), factor=0.3, target=target, interpolate=False
    )
    assert_follows(
        model,
        x,
        lambda w: reference.gradient_penalty(w, x, factor=0.3, target=target),
    )


class Points(layers.Layer):
    """Squares the input, so that the gradient tells where it was taken."""

    def call(self, inputs):
        return ops.sum(ops.square(inputs), axis=-1, keepdims=True) / 2


def test_points_lie_between_samples_half_a_batch_apart():
    # The gradient at a point is the point: its norm is the share of the
    # sample with 1, from which the other one is the rest.
    x = np.repeat(np.eye(2, dtype="float32")[:1], 1000, axis=0)
    x[500:] = 0
    model = GradientPenalty(Points(), factor=1.0, target=0.0, seed=4)
    # The mean square of a uniform share is 1/3, with a deviation of 0.01.
    assert penalty_of(model, x) == pytest.approx(1 / 3, abs=0.03)
    constant = np.ones((6, 2), "float32")
    assert penalty_of(model, constant) == pytest.approx(2, rel=1e-5)


def test_a_flat_network_has_finite_gradients(x):
    model = GradientPenalty(network(1), factor=0.3)
    model.network.set_weights([0 * w for w in model.network.get_weights()])
    moves, loss = compiled_gradients(model, x)
    assert loss == pytest.approx(0.3, rel=1e-6)
    assert all(np.isfinite(move).all() for move in moves)


@pytest.mark.parametrize("wrapper", [JacobianPenalty, GradientPenalty])
def test_training_lowers_the_penalty(wrapper, x):
    settings = {"interpolate": False} if wrapper is GradientPenalty else {}
    model = wrapper(network(1), factor=1.0, **settings)
    exact = {JacobianPenalty: reference.jacobian_penalty}.get(
        wrapper,
        lambda w, x, factor: reference.gradient_penalty(w, x, factor, 1.0),
    )
    before = exact(model.network.get_weights(), x, 1.0)
    plain = network(1)
    steps = np.tile(x, (60, 1))
    for each in (model, plain):
        each.compile(keras.optimizers.Adam(0.05), "mse")
        each.fit(steps, steps[:, :1], batch_size=5, shuffle=False, verbose=0)
    after = exact(model.network.get_weights(), x, 1.0)
    assert after < 0.5 * before
    assert after < 0.5 * exact(plain.get_weights(), x, 1.0)


def test_the_penalty_sees_the_noise_of_the_forward_pass(x):
    # Half of the hidden units off, and the rest doubled: the outputs of a
    # linear network are J x.
    net = keras.Sequential(
        [
            keras.Input((1,)),
            layers.Dense(8, use_bias=False, kernel_initializer="ones"),
            layers.Dropout(0.5, seed=3),
            layers.Dense(1, use_bias=False, kernel_initializer="ones"),
        ]
    )
    model = JacobianPenalty(net, factor=2.0, num_projections=None)
    # With zeros as targets the error is the mean of y^2, as is the penalty.
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mse"])
    ones = np.ones((4, 1))
    model.reset_metrics()
    found = [
        model.train_on_batch(ones, 0 * ones, return_dict=True) for _ in range(3)
    ]
    assert len({each["mse"] for each in found}) > 1
    for each in found:
        assert each["loss"] == pytest.approx(2 * each["mse"], rel=1e-5)


def test_batch_normalization_moves_once_a_step(x):
    normalization = layers.BatchNormalization(momentum=0.5)
    net = keras.Sequential([keras.Input((3,)), normalization, layers.Dense(1)])
    for wrapper in (JacobianPenalty, GradientPenalty):
        normalization.moving_mean.assign(np.zeros(3))
        model = wrapper(net, factor=0.1)
        model.compile("sgd", "mse")
        model.train_on_batch(x, np.zeros((5, 1)))
        np.testing.assert_allclose(
            ops.convert_to_numpy(normalization.moving_mean),
            0.5 * x.mean(axis=0),
            rtol=1e-5,
            atol=1e-6,
        )


@pytest.mark.parametrize("wrapper", [JacobianPenalty, GradientPenalty])
def test_losses_inside_the_network_count_once(wrapper, x):
    dense = layers.Dense(1, use_bias=False, kernel_regularizer=ScaledL2(2, 1))
    activity = layers.ActivityRegularization(l2=0.5)
    model = wrapper(
        keras.Sequential([keras.Input((3,)), activity, dense]), factor=0.0
    )
    model.compile("sgd", no_loss)
    # Keras divides penalties of activities by the batch size.
    expected = np.sum(np.square(dense.get_weights()[0].astype("float64")))
    expected += 0.5 * np.sum(np.square(x.astype("float64"))) / len(x)
    received = model.train_on_batch(x, np.zeros((5, 1)))
    assert received == pytest.approx(expected, rel=1e-5)


def test_no_penalty_outside_training(x):
    net = network(2)
    model = JacobianPenalty(net, factor=0.5)
    model.compile("sgd", "mse")
    outputs = net.predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, rtol=1e-6)
    assert model.evaluate(x, outputs, verbose=0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda net: JacobianPenalty(net, factor=0.2, num_projections=None),
        lambda net: GradientPenalty(net, 0.2, target=0.5, interpolate=False),
    ],
    ids=["JacobianPenalty", "GradientPenalty"],
)
def test_a_saved_model_trains_on_alike(make, x, tmp_path):
    model = make(network(1))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    y = np.ones((5, 1))
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    model.reset_metrics()  # Keras 3.14 averages over calls.
    losses = [float(each.train_on_batch(x, y)) for each in (model, twin)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for ours, theirs in zip(
        model.get_weights(), twin.get_weights(), strict=True
    ):
        np.testing.assert_allclose(theirs, ours, rtol=1e-6)


def test_a_part_of_a_model_gets_a_small_jacobian_of_its_own(x):
    inputs = keras.Input((3,))
    scaled = layers.Dense(3, use_bias=False)
    part = JacobianPenalty(network(4), factor=0.3, num_projections=None)
    model = keras.Model(inputs, part(scaled(inputs)))
    model.compile(keras.optimizers.SGD(0.1), no_loss)
    before = scaled.get_weights()[0]
    expected = reference.jacobian_penalty(
        part.network.get_weights(), x @ before, factor=0.3
    )
    received = model.train_on_batch(x, np.zeros((5, 4)))
    assert received == pytest.approx(expected, rel=1e-5)
    # The layers before it learn where the Jacobian is small.
    assert not np.array_equal(scaled.get_weights()[0], before)


def test_trains_in_mixed_precision(x):
    keras.config.set_dtype_policy("mixed_float16")
    net = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2)]
    )
    model = JacobianPenalty(net, factor=0.1, num_projections=2)
    model.compile("sgd", "mse")
    loss = model.fit(x, np.zeros((5, 2)), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert np.isfinite(
        np.concatenate([*map(np.ravel, net.get_weights())])
    ).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JacobianPenalty("net"), "`network` must be a Keras model"),
        (lambda: JacobianPenalty(network(2), -1), "`factor` must be in"),
        (
            lambda: JacobianPenalty(network(2), num_projections=0),
            "`num_projections` must be an integer of at least 1",
        ),
        (lambda: GradientPenalty(network(1), target=-1), "`target` must be"),
        (
            lambda: GradientPenalty(network(1), interpolate=2),
            "`interpolate` must be one of",
        ),
    ],
)
def test_refuses_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_refuses_networks_it_cannot_differentiate(x):
    with pytest.raises(ValueError, match="one number a sample"):
        GradientPenalty(network(2))(x, training=True)
    words = keras.Sequential([layers.Embedding(7, 3), layers.Flatten()])
    with pytest.raises(ValueError, match="inputs must be floats"):
        JacobianPenalty(words)(np.ones((4, 2), "int32"), training=True)
    two = keras.Input((3,)), keras.Input((3,))
    model = keras.Model(two, layers.Add()(two))
    with pytest.raises(ValueError, match="inputs must be one tensor"):
        JacobianPenalty(model)([x, x], training=True)
