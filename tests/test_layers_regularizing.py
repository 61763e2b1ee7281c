"""The numbers of layers that draw, drop, or turn gradients around."""

import backend
import keras
import layers_reference as reference
import numpy as np
import pytest
from backend import central_difference, gradient
from layers_reference import digits, nearest_mean

from kerascomp import activations, layers
from kerascomp.callbacks import DropoutSchedule
from kerascomp.layers import (
    ConcreteDropout,
    DropBlock1D,
    DropBlock2D,
    DropPath,
    GradientReversal,
    MonteCarloDropout,
    NoisyDense,
    Zoneout,
    predict_with_uncertainty,
)

ops = keras.ops
k = keras.layers


def values(tensor):
    return ops.convert_to_numpy(tensor)


def drawn(seed, shape, number=0, function=keras.random.uniform):
    """What a layer's generator gives at its call of that number."""
    generator = keras.random.SeedGenerator(seed)
    for _ in range(number):
        generator.next()
    return values(function(shape, seed=generator)).astype("float64")


@pytest.mark.parametrize("shared", [False, True])
def test_drop_block_equals_the_paper_for_the_corners_drawn(rng, shared):
    x = rng.normal(size=(3, 7, 9, 4)).astype("float32")
    layer = DropBlock2D(0.3, block_size=(2, 3), shared=shared, seed=5)
    noise = drawn(5, (3, 6, 7, 1 if shared else 4))
    # Equation 1, with a side of its own for each axis.
    density = 0.3 / 6 * (7 * 9) / (6 * 7)
    corners = np.broadcast_to(noise < density, (3, 6, 7, 4))
    expected = reference.drop_block(x.astype("float64"), corners, (2, 3))
    np.testing.assert_allclose(
        values(layer(x, training=True)), expected, rtol=1e-5
    )
    first = DropBlock2D(
        0.3, (2, 3), shared=shared, data_format="channels_first", seed=5
    )
    received = first(np.moveaxis(x, -1, 1), training=True)
    np.testing.assert_allclose(
        np.moveaxis(values(received), 1, -1), expected, rtol=1e-5
    )
    for same in (layer(x), DropBlock2D(0, 2)(x, training=True)):
        np.testing.assert_array_equal(values(same), x)


def test_drop_block_of_one_step_drops_as_dropout_does():
    ones = np.ones((50, 60, 70), "float32")
    y = values(DropBlock1D(0.3, 1, seed=1)(ones, training=True))
    kept = (y > 0).mean()
    # Of 210,000 draws the deviation is sqrt(0.3 * 0.7 / 210,000) = 0.001.
    assert kept == pytest.approx(0.7, abs=0.004)
    np.testing.assert_allclose(y[y > 0], 1 / kept, rtol=1e-5)
    blocks = values(DropBlock1D(0.2, 5, seed=1)(ones, training=True)) > 0
    # Overlaps keep a little more than 0.8.
    assert 0.79 < blocks.mean() < 0.86
    everything = np.full((2, 5, 1), np.inf, "float32")
    y = values(DropBlock1D(0.9, 5, seed=2)(everything, training=True))
    assert set(y.ravel().tolist()) <= {0, np.inf}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropBlock2D(1.0, 2), r"`rate` must be in \[0, 1\)"),
        (lambda: DropBlock2D(0.1, (2, 3, 4)), "an integer or 2 of them"),
        (lambda: DropBlock1D(0.1, 0), "`block_size` must be an integer"),
        (lambda: DropBlock2D(0.1, 2, data_format="last"), "must be one of"),
        (lambda: DropBlock2D(0.1, 5).build((2, 4, 9, 1)), "must fit into"),
        (lambda: DropBlock1D(0.1, 2).build((2, 4, 9, 1)), "with 3 axes"),
        (lambda: MonteCarloDropout(-0.1), r"`rate` must be in \[0, 1\]"),
        (lambda: ConcreteDropout(k.Dense(1), initial_rate=1.0), "initial_rate"),
        (lambda: ConcreteDropout(k.Flatten()).build((2, 3)), "one kernel"),
        (lambda: NoisyDense(0), "`units` must be an integer"),
        (lambda: NoisyDense(2, deviation=-1), "`deviation` must be in"),
        (lambda: NoisyDense(2).build((2, None)), "must be known"),
        (lambda: GradientReversal(-1), r"`factor` must be in \[0, inf\)"),
        (lambda: GradientReversal(ramp_steps=0), "`ramp_steps` must be"),
        (lambda: Zoneout(k.LSTMCell(2), (0.1,)), "one for each state"),
        (lambda: Zoneout(k.GRUCell(2), 1.2), r"`rate` must be in \[0, 1\]"),
        (lambda: Zoneout(k.GRUCell(2, dropout=0.1)), "no dropout of its own"),
        (lambda: Zoneout(k.StackedRNNCells([k.GRUCell(2)])), "wrap each cell"),
        (lambda: Zoneout(k.Dense(2)), "must be a cell"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("factorized", [False, True])
def test_noisy_dense_equals_the_paper_for_the_noise_drawn(rng, factorized):
    x = rng.normal(size=(4, 3)).astype("float32")
    layer = NoisyDense(5, factorized=factorized, seed=9)
    plain = values(layer(x))
    mean, sigma, bias, bias_sigma = (
        values(w).astype("float64") for w in layer.weights[:4]
    )
    assert layer.weights[0].shape == (3, 5)
    start = 0.5 / 3**0.5 if factorized else 0.017
    np.testing.assert_allclose([sigma[0, 0], bias_sigma[0]], start, rtol=1e-6)
    reach = (1 if factorized else 3) ** 0.5 / 3**0.5
    assert 0.5 * reach < np.abs(mean).max() <= reach
    np.testing.assert_allclose(plain, x @ mean + bias, rtol=1e-5, atol=1e-6)
    if factorized:  # Section 3b: f(x) = sgn(x) sqrt(|x|).
        noise = drawn(9, (8,), function=keras.random.normal)
        noise = np.sign(noise) * np.sqrt(np.abs(noise))
        kernel_noise, bias_noise = np.outer(noise[:3], noise[3:]), noise[3:]
    else:
        kernel_noise = drawn(9, (3, 5), function=keras.random.normal)
        bias_noise = drawn(9, (5,), 1, keras.random.normal)
    expected = (
        x @ (mean + sigma * kernel_noise) + bias + bias_sigma * bias_noise
    )
    received = values(layer(x, training=True))
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_gradient_reversal_passes_values_and_turns_gradients(rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    for factor in (0.0, 0.7):
        layer = GradientReversal(factor)
        np.testing.assert_array_equal(values(layer(x)), x)
        received = gradient(lambda x: ops.sum(layer(x) ** 2), x)  # noqa: B023
        np.testing.assert_allclose(received, -factor * 2 * x, rtol=2e-6)
    ramp = GradientReversal(0.5, ramp_steps=10)
    ramp.build(x.shape)
    for step in (0, 3, 10, 20):
        ramp.steps.assign(step)
        p = min(step / 10, 1)
        received = gradient(lambda x: ops.sum(ramp(x)), x)
        expected = -0.5 * (2 / (1 + np.exp(-10 * p)) - 1)
        np.testing.assert_allclose(received, expected, rtol=1e-5)
    ramp(x, training=True)
    ramp(x)
    assert int(values(ramp.steps)) == 21


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell"])
def test_zoneout_keeps_states_as_the_paper_says(rng, cell):
    x = rng.normal(size=(3, 4)).astype("float32")
    plain = getattr(k, cell)(6)
    count = 2 if cell == "LSTMCell" else 1
    old = [rng.normal(size=(3, 6)).astype("float32") for _ in range(count)]
    rates = (0.3, 0.6)[:count]
    layer = Zoneout(plain, rate=rates, seed=4)
    layer.build((3, 4))
    place = np.array([[254, 255, 7, 9]] * 3, "float32")
    _, new = plain(x, old)
    new = [values(each) for each in (new if count == 2 else [*new])]
    output, states = layer(x, [*old, place])
    for i, rate in enumerate(rates):
        expected = reference.zoneout(old[i], new[i], rate)
        np.testing.assert_allclose(values(states[i]), expected, atol=1e-6)
    np.testing.assert_array_equal(values(output), values(states[0]))
    output, states = layer(x, [*old, place], training=True)
    for i, rate in enumerate(rates):
        keep = values(states[i]) == old[i]
        assert 0 < keep.mean() < 1
        expected = reference.zoneout(old[i], new[i], rate, keep)
        np.testing.assert_allclose(values(states[i]), expected, atol=1e-6)
    np.testing.assert_array_equal(values(output), values(states[0]))
    np.testing.assert_array_equal(values(states[-1])[0], [255, 255, 7, 9])
    _, states = layer(x, states, training=True)
    np.testing.assert_array_equal(values(states[-1])[0], [0, 0, 7, 9])


def test_zoneout_in_a_recurrent_layer_draws_anew_at_every_step(rng):
    x = np.zeros((40, 9, 2), "float32")

    class Counter(keras.layers.Layer):
        """A cell whose state is the number of steps that changed it."""

        state_size = output_size = 5

        def call(self, inputs, states):
            new = states[0] + 1.0
            return new, [new]

    rnn = k.RNN(Zoneout(Counter(), 0.4, seed=1), return_sequences=True)
    steps = np.diff(values(rnn(x, training=True)), axis=1, prepend=0)
    assert set(np.unique(steps).tolist()) == {0, 1}
    # Of 1,800 draws the deviation is 0.0115; and no two steps are alike.
    assert steps.mean() == pytest.approx(0.6, abs=0.05)
    assert len({steps[:, i].tobytes() for i in range(9)}) == 9
    again = values(rnn(x, training=True))
    assert not np.array_equal(again, np.cumsum(steps, axis=1))
    np.testing.assert_allclose(
        values(rnn(x))[0, :, 0], 0.6 * np.arange(1, 10), rtol=1e-5
    )
    # Without zoneout it is the cell; masks stop samples as they do there.
    plain, cell = k.GRU(3, reset_after=True), k.GRUCell(3)
    same = k.RNN(Zoneout(cell, 0.0))
    x = rng.normal(size=(4, 6, 2)).astype("float32")
    mask = np.arange(6) < np.array([[6], [2], [4], [1]])
    for layer in (plain, same):
        layer.build(x.shape)
    cell.set_weights(plain.get_weights())
    np.testing.assert_allclose(
        values(same(x, mask=mask)), values(plain(x, mask=mask)), atol=1e-6
    )


def test_concrete_dropout_equals_the_paper(rng):
    x = rng.normal(size=(6, 4)).astype("float32")
    layer = ConcreteDropout(
        k.Dense(3),
        weight_factor=0.01,
        entropy_factor=0.1,
        initial_rate=0.3,
        temperature=0.2,
        seed=2,
    )
    layer.build(x.shape)
    kernel = values(layer.layer.kernel).astype("float64")
    keep = reference.concrete_keep(drawn(2, (6, 4)), 0.3, 0.2)
    np.testing.assert_allclose(
        values(layer(x, training=True)), (x * keep) @ kernel, atol=1e-5
    )
    np.testing.assert_allclose(values(layer(x)), x @ kernel, atol=1e-5)
    expected = reference.concrete_penalty(kernel, 0.3, 4, 0.01, 0.1)
    np.testing.assert_allclose(values(layer.losses[-1]), expected, rtol=1e-5)

    # The rate moves against the gradient of loss and penalty together.
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = float(values(layer.logit))
    generator = keras.random.SeedGenerator(2)
    generator.state.assign(layer.seed_generator.state)
    u = values(keras.random.uniform((6, 4), seed=generator)).astype("float64")

    def loss(logit):
        rate = 1 / (1 + np.exp(-logit))
        y = (x * reference.concrete_keep(u, rate, 0.2)) @ kernel
        return (y**2).mean() + reference.concrete_penalty(
            kernel, rate, 4, 0.01, 0.1
        )

    model.train_on_batch(x, np.zeros((6, 3)))
    expected = before - central_difference(loss, before, 1e-5)
    np.testing.assert_allclose(values(layer.logit), expected, rtol=1e-3)


def test_concrete_dropout_drops_channels_of_images(rng):
    x = np.ones((2, 5, 5, 3), "float32")
    layer = ConcreteDropout(
        k.Conv2D(2, 1, kernel_initializer="ones"), initial_rate=0.5, seed=2
    )
    y = values(layer(x, training=True))
    np.testing.assert_allclose(y, np.broadcast_to(y[:, :1, :1], y.shape))
    assert len(np.unique(y.round(3))) > 1


def uncertain():
    """A model with dropout of several kinds and batch normalization."""
    inputs = keras.Input((6, 4))
    x = k.Dense(8)(inputs)
    x = k.BatchNormalization()(x)
    x = DropPath(0.2, seed=1)(k.Dropout(0.3, seed=2)(x))
    x = k.GRU(5, dropout=0.2, seed=3)(x)
    x = k.Dense(4)(MonteCarloDropout(0.1, seed=4)(x))
    return keras.Model(inputs, {"y": x, "z": k.Dense(2)(x)})


def test_uncertainty_is_that_of_many_passes_with_dropout_alone(rng):
    x = rng.normal(size=(7, 6, 4)).astype("float32")
    model = uncertain()
    for weight in model.layers[2].weights:  # Unlike those of any batch.
        weight.assign(rng.uniform(0.5, 2, size=weight.shape))
    before = model.get_weights()
    mean, variance = predict_with_uncertainty(
        model, x, passes=1000, batch_size=4, seed=3
    )
    again = predict_with_uncertainty(
        model, x, passes=1000, batch_size=4, seed=3
    )
    other = predict_with_uncertainty(model, x, passes=1000, batch_size=4)
    np.testing.assert_array_equal(mean["y"], again.mean["y"])
    assert not np.array_equal(mean["y"], other.mean["y"])
    for old, new, weight in zip(
        before, model.get_weights(), model.weights, strict=True
    ):
        if "seed" not in weight.path:
            np.testing.assert_array_equal(old, new)

    # The same by hand: dropout in training mode, the rest not.
    copies = np.repeat(x, 1000, axis=0)
    model.layers[2].trainable = False
    y = values(model(copies, training=True)["y"]).reshape(7, 1000, 4)
    error = y.std(axis=1) / 1000**0.5
    assert mean["y"].shape == variance["y"].shape == (7, 4)
    assert variance["z"].shape == (7, 2)
    assert np.all(np.abs(mean["y"] - y.mean(axis=1)) < 6 * error)
    # Few units make heavy tails: each variance is known to about a tenth.
    np.testing.assert_allclose(variance["y"], y.var(axis=1), rtol=0.5)
    # In prediction all is as it was, but for what is always random.
    plain = keras.Model(model.inputs, model.layers[5].output)
    np.testing.assert_array_equal(
        plain.predict(x, verbose=0), plain.predict(x, verbose=0)
    )


def test_one_pass_of_uncertainty_has_no_variance_and_rates_may_change(rng):
    x = rng.normal(size=(5, 300)).astype("float32")
    dropout = k.Dropout(0.5, seed=1)
    model = keras.Sequential([keras.Input((300,)), dropout])
    mean, variance = predict_with_uncertainty(model, x, passes=1)
    np.testing.assert_array_equal(variance, 0)
    kept = mean != 0
    np.testing.assert_allclose(mean[kept], 2 * x[kept], rtol=1e-6)
    dropout.rate = 0.2
    mean, _ = predict_with_uncertainty(model, x, passes=1)
    assert (mean == 0).mean() == pytest.approx(0.2, abs=0.05)
    assert "__kerascomp_passes__" not in str(model.get_config())


@pytest.mark.parametrize(
    ("layer", "passes", "message"),
    [
        (k.Dense(2), 2, "must have a layer with dropout"),
        (k.Dropout(0.0), 2, "must have a layer with dropout"),
        (
            k.Dropout(0.5, noise_shape=(1, 4)),
            2,
            "begin `noise_shape` with None",
        ),
        (k.Dropout(0.5), 0, "`passes` must be an integer of at least 1"),
    ],
)
def test_models_without_uncertainty_are_refused(layer, passes, message):
    model = keras.Sequential([keras.Input((4,)), layer])
    with pytest.raises(ValueError, match=message):
        predict_with_uncertainty(model, np.ones((2, 4)), passes=passes)


def dropping(layers, jit_compile=False):
    """A model whose output is its input with dropout, and its data."""
    inputs = keras.Input((10, 500))
    x = inputs
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit_compile)
    return model, np.ones((4, 10, 500), "float32")


@pytest.mark.parametrize(
    "layer",
    [
        lambda: k.Dropout(0.5, seed=1),
        lambda: k.SpatialDropout1D(0.5, seed=1),
        lambda: DropBlock1D(0.5, 1, seed=1),
        lambda: k.AlphaDropout(0.5, seed=1),
        lambda: k.GaussianDropout(0.5, seed=1),
    ],
)
def test_dropout_follows_its_schedule(layer):
    model, x = dropping([layer()])
    rates = [0.0, 0.1, 0.4, 0.4]
    history = model.fit(
        x,
        x,
        epochs=4,
        verbose=0,
        callbacks=[DropoutSchedule(lambda epoch: rates[epoch])],
    ).history
    assert history["dropout_rate"] == rates
    if isinstance(model.layers[1], k.AlphaDropout):
        assert history["loss"][0] < 1e-9 < history["loss"][1]
    else:
        # With ones, the squared error is the variance: rate / (1 - rate).
        expected = [rate / (1 - rate) for rate in rates]
        deviation = (
            0.35 if isinstance(model.layers[1], k.SpatialDropout1D) else 0.1
        )
        np.testing.assert_allclose(history["loss"], expected, rtol=deviation)
    assert model.layers[1].rate == 0.5
    assert model.evaluate(x, x, verbose=0) == 0
    late = model.fit(x, x, verbose=0).history["loss"][0]
    assert late == pytest.approx(1, rel=0.35) or isinstance(
        model.layers[1], k.AlphaDropout
    )


@keras.saving.register_keras_serializable("tests")
class Watch(keras.layers.Layer):
    """Counts how often Python runs it."""

    runs = 0

    def call(self, inputs):
        Watch.runs += 1
        return inputs


def test_schedules_trace_no_more_than_they_must(tmp_path):
    path = tmp_path / "model.keras"
    runs = []
    for rates in ([0.1] * 6, [0.1, 0.1, 0.2, 0.3, 0.3, 0.3]):
        model, x = dropping(
            [k.Dropout(0.5, seed=1), DropPath(0.5, seed=2), Watch()], "auto"
        )
        Watch.runs = 0
        schedule = DropoutSchedule(lambda epoch, rates=rates: rates[epoch])
        saving = keras.callbacks.ModelCheckpoint(path)
        model.fit(x, x, epochs=6, verbose=0, callbacks=[schedule, saving])
        runs.append(Watch.runs)
    constant, changing = runs
    assert changing == backend.traces(constant, programs=3)
    twin = keras.saving.load_model(path)
    assert [layer.rate for layer in twin.layers[1:3]] == [0.3, 0.3]
    assert [layer.rate for layer in model.layers[1:3]] == [0.5, 0.5]


def test_schedules_refuse_what_they_cannot_set():
    model, x = dropping([k.Dropout(0.5)])
    for callback, message in (
        (DropoutSchedule(lambda _: 1.0), r"`rate` must be in \[0, 1\)"),
        (DropoutSchedule(lambda _: 0.1, layers=["none"]), "not found"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, x, verbose=0, callbacks=[callback])
    model, x = dropping([k.Dropout(0.0)])
    with pytest.raises(ValueError, match="made with a rate of 0"):
        model.fit(x, x, verbose=0, callbacks=[DropoutSchedule(lambda _: 0.1)])
    with pytest.raises(TypeError, match="must be a function of the epoch"):
        DropoutSchedule(0.1)


@pytest.mark.slow
def test_layers_that_drop_learn_digits(tmp_path):
    x, y = digits()
    rows = keras.Input((8, 8, 1))
    image = k.Conv2D(12, 3, activation="relu", padding="same")(rows)
    image = k.MaxPooling2D()(DropBlock2D(0.1, 2, seed=1)(image))
    image = k.Flatten()(image)
    state = k.Reshape((8, 8))(rows)
    state = k.RNN(Zoneout(k.GRUCell(16), 0.1, seed=2))(state)
    both = k.Concatenate()([image, state])
    both = ConcreteDropout(k.Dense(24, activation="relu"), seed=3)(both)
    both = k.Dense(10, activation="softmax")(both)
    model = keras.Model(rows, both)
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    model.fit(x[:1200], y[:1200], batch_size=64, epochs=7, verbose=0)
    found = model.predict(x[1200:], verbose=0)
    right = found.argmax(axis=-1) == y[1200:]
    assert nearest_mean(x, y, 1200) < 0.9
    assert right.mean() > 0.93
    concrete = next(
        layer for layer in model.layers if isinstance(layer, ConcreteDropout)
    )
    assert abs(float(values(concrete.rate)) - 0.1) > 1e-3
    # Wrong answers are less certain than right ones.
    _, variance = predict_with_uncertainty(model, x[1200:], passes=20, seed=1)
    spread = variance.mean(axis=-1)
    assert spread[~right].mean() > spread[right].mean()

    path = tmp_path / "model.keras"
    model.save(path)
    twin = keras.saving.load_model(path)
    np.testing.assert_allclose(
        twin.predict(x[1200:], verbose=0), found, atol=1e-5
    )


@pytest.mark.skipif(
    backend.NAME != "tensorflow", reason="exports are for TensorFlow to serve"
)
@pytest.mark.slow
def test_exported_models_run_on_tensorflow(rng, tmp_path):
    inputs = keras.Input((6, 4))
    x = layers.WeightNormalization(k.Conv1D(6, 3, padding="same"))(inputs)
    x = layers.BatchRenormalization()(x)
    x = layers.Snake()(layers.DropPath(0.2, scale_at_inference=True)(x))
    x = layers.WeightStandardization(k.Conv1D(6, 3, padding="same"))(x)
    x = layers.FilterResponseNormalization()(x)
    x = DropBlock1D(0.2, 2)(layers.RReLU()(layers.TLU()(x)))
    x = k.RNN(Zoneout(k.LSTMCell(5), 0.2))(x)
    x = layers.GhostBatchNormalization(4)(x)
    x = ConcreteDropout(k.Dense(8))(GradientReversal(0.5, ramp_steps=3)(x))
    x = NoisyDense(4, activation=activations.entmax15)(layers.Maxout(4)(x))
    model = keras.Model(inputs, x)
    model.export(tmp_path / "served", verbose=False)
    x = rng.normal(size=(3, 6, 4)).astype("float32")
    np.testing.assert_allclose(
        backend.served(tmp_path / "served", x),
        model.predict(x, verbose=0),
        atol=1e-5,
    )
