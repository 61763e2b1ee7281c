"""Activations against float64 NumPy, and nets that have the illness."""

import backend
import keras
import numpy as np
import pytest
from keras import ops

from kerascomp.callbacks import ActivationMonitor, _activations

FEATURES = 6


def network(rate=0.0):
    """Rectifier, tanh and sigmoid, one after the other."""
    inputs = keras.Input((FEATURES,), name="features")
    hidden = keras.layers.Dense(
        5, "relu", bias_initializer="normal", name="rectified"
    )(inputs)
    hidden = keras.layers.Dense(4, "tanh", name="squashed")(hidden)
    outputs = keras.layers.Dense(3, "sigmoid", name="out")(hidden)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def outputs_of(model, x):
    """The outputs of `network`, by hand."""
    w1, b1, w2, b2, w3, b3 = (np.float64(w) for w in model.get_weights())
    rectified = np.maximum(x @ w1 + b1, 0)
    squashed = np.tanh(rectified @ w2 + b2)
    out = 1 / (1 + np.exp(-(squashed @ w3 + b3)))
    return {"rectified": rectified, "squashed": squashed, "out": out}


def data(rng, samples=10):
    return rng.normal(size=(samples, FEATURES)), rng.random((samples, 3))


@pytest.mark.parametrize("batch_size", [None, 4])
def test_equals_statistics_of_outputs_computed_by_hand(
    rng, batch_size, tmp_path
):
    x, y = data(rng)
    model = network(rate=0.5)
    seen = []

    class Weights(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(outputs_of(self.model, x))

    monitor = ActivationMonitor(
        x, batch_size=batch_size, saturation_distance=0.3, near_zero=0.1
    )
    log = model.fit(
        x, y, epochs=2, callbacks=[Weights(), monitor], verbose=0
    ).history
    history = monitor.history
    assert list(history["mean"]) == ["rectified", "squashed", "out"]
    for epoch, outputs in enumerate(seen):
        assert_moments(history, epoch, outputs)
        dead = (outputs["rectified"] == 0).all(0)
        assert history["dead"]["rectified"][epoch] == dead.mean()
        saturated = {
            "squashed": np.abs(outputs["squashed"]) >= 0.7,
            "out": np.abs(outputs["out"] - 0.5) >= 0.2,
        }
        for path, expected in saturated.items():
            np.testing.assert_allclose(
                history["saturated"][path][epoch], expected.mean(), rtol=1e-6
            )
        together = np.concatenate([s.ravel() for s in saturated.values()])
        np.testing.assert_allclose(
            log["saturated_fraction"][epoch], together.mean(), rtol=1e-6
        )
    np.testing.assert_array_equal(monitor.dead_units["rectified"], dead)
    monitor.to_csv(tmp_path / "record.csv")
    assert "mean/squashed" in (tmp_path / "record.csv").read_text()
    monitor.plot().savefig(tmp_path / "plot.png")


def assert_moments(history, epoch, outputs):
    """The record of an epoch equals what NumPy makes of the outputs."""
    for path, values in outputs.items():
        for name, expected in (
            ("mean", values.mean()),
            ("variance", values.var()),
            ("near_zero", (np.abs(values) < 0.1).mean()),
        ):
            np.testing.assert_allclose(
                history[name][path][epoch], expected, rtol=1e-5
            )


def fitted(model, x, y, **arguments):
    monitor = ActivationMonitor(x, **arguments)
    log = model.fit(x, y, callbacks=[monitor], verbose=0)
    return monitor, {name: found[0] for name, found in log.history.items()}


def test_dead_units_are_told_from_living_ones(rng):
    x, y = data(rng, samples=200)
    model = network()
    kernel, bias = model.get_layer("rectified").get_weights()
    _, log = fitted(model, x, y)
    assert log["dead_fraction"] == 0
    bias[[1, 3]] = -100.0
    model.get_layer("rectified").set_weights([kernel, bias])
    monitor, log = fitted(model, x, y)
    assert log["dead_fraction"] == 0.4
    np.testing.assert_array_equal(
        monitor.dead_units["rectified"], [False, True, False, True, False]
    )


def test_saturated_outputs_are_told_from_others(rng):
    x, y = data(rng, samples=200)
    model = network()
    _, log = fitted(model, x, y)
    assert log["saturated_fraction"] < 0.05
    kernel, bias = model.get_layer("out").get_weights()
    model.get_layer("out").set_weights([1000 * kernel, bias])
    monitor, _ = fitted(model, x, y)
    assert monitor.history["saturated"]["out"][0] > 0.95
    assert monitor.history["saturated"]["squashed"][0] < 0.1


def test_channels_are_units(rng):
    images = rng.random((4, 5, 6, 2))
    inputs = keras.Input(images.shape[1:])
    conv = keras.layers.Conv2D(3, 2, name="conv")
    hidden = keras.layers.ReLU(name="rectifier")(conv(inputs))
    hidden = ops.relu(ops.tanh(hidden - 0.5))
    outputs = keras.layers.GlobalMaxPooling2D()(hidden)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    kernel = np.zeros((2, 2, 2, 3))
    kernel[0, 0, 0] = [1, -1, 1]  # Of numbers in (0, 1).
    conv.set_weights([kernel, np.array([0, 0, -0.999])])
    monitor, log = fitted(model, images, np.zeros((4, 3)))
    # The third is alive somewhere only if a number is beyond 0.999.
    third = not (images[:, :-1, :-1, 0] > 0.999).any()
    dead = monitor.dead_units
    assert dead["rectifier"].tolist() == [False, True, third]
    # Operations of a functional model are seen, too.
    assert dead["relu"].tolist() == [False, True, True]
    assert log["dead_fraction"] == np.mean([0, 1, third, 0, 1, 1])
    assert "conv" not in dead
    assert "tanh" in monitor.history["saturated"]


class Block(keras.layers.Layer):
    """A layer of layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(3, "relu", name="inner")

    def call(self, inputs):
        return 2 * self.inner(inputs)


class Halves(keras.layers.Layer):
    """Returns two outputs."""

    def call(self, inputs):
        return inputs[:, :1, 0], inputs[:, 1:, 0]


class Branching(keras.Model):
    """Shares a layer, returns two outputs, and holds what loops."""

    def __init__(self):
        super().__init__(name="branching")
        self.block = Block(name="block")
        self.shared = keras.layers.Dense(3, "tanh", name="shared")
        self.each = keras.layers.TimeDistributed(
            keras.layers.Dense(2, "relu"), name="each"
        )
        self.halves = Halves(name="halves")
        self.noise = keras.layers.Dropout(0.5, name="noise")
        self.scale = keras.layers.BatchNormalization(name="scale")

    def call(self, inputs, training=False):
        hidden = self.shared(self.shared(self.block(inputs)))
        hidden = self.scale(self.noise(hidden, training=training))
        steps = self.each(ops.stack([hidden, hidden, hidden], 1))
        first, others = self.halves(steps)
        return first + others


def test_subclassed_unbuilt_models_at_any_depth(rng):
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    weights = {}
    for kind in ("plain", "observed"):
        keras.utils.set_random_seed(1)
        model = Branching()
        model.compile(keras.optimizers.Adam(0.01), "mse")
        monitor = ActivationMonitor(x)
        watching = [monitor] * (kind == "observed")
        model.fit(x, y, epochs=2, callbacks=watching, verbose=0)
        weights[kind] = model.get_weights()
    for one, other in zip(*weights.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    mean = monitor.history["mean"]
    paths = [path.removeprefix("branching/") for path in mean]
    assert paths == [
        "block/inner",
        "block",
        "shared",
        "shared@2",
        "noise",
        "scale",
        "each",
        "halves:0",
        "halves:1",
    ]
    np.testing.assert_array_equal(monitor.history["epoch"], [0, 1])
    # Inference: nothing is dropped, and the outputs are those of `shared`.
    found = {path: mean["branching/" + path][1] for path in paths}
    assert found["noise"] == found["shared@2"] != found["shared"]
    assert set(monitor.history["saturated"]) == {
        "branching/shared",
        "branching/shared@2",
    }


@pytest.mark.parametrize("source", ["generator", "tf.data"])
def test_the_source_of_the_training_data_does_not_matter(rng, source):
    x, y = data(rng)
    if source == "tf.data":
        tf = pytest.importorskip("tensorflow")
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    else:
        batches = ((x[i : i + 4], y[i : i + 4]) for i in (0, 4))
    monitor = ActivationMonitor({"features": x} if source == "generator" else x)
    network().fit(batches, callbacks=[monitor], verbose=0)
    np.testing.assert_array_equal(monitor.history["epoch"], [0])


def test_every_third_epoch_with_one_program(rng):
    x, y = data(rng)
    traced = []

    def call(inputs):
        traced.append(1)
        return inputs

    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(3, "relu")(keras.layers.Lambda(call)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    counts = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(len(traced))

    monitor = ActivationMonitor(x, every=3)
    log = model.fit(
        x, y, epochs=7, callbacks=[monitor, Count()], verbose=0
    ).history
    np.testing.assert_array_equal(monitor.history["epoch"], [0, 3, 6])
    np.testing.assert_array_equal(
        np.isnan(log["dead_fraction"]), [0, 1, 1, 0, 1, 1, 0]
    )
    assert len(set(counts)) == 1 or backend.NAME == "torch"


def test_what_layers_are_judged_by():
    activations = {
        keras.layers.Dense(1, "relu"): "relu",
        keras.layers.Activation("tanh"): "tanh",
        keras.layers.ReLU(): "relu",
        keras.layers.ReLU(max_value=6): "relu",
        keras.layers.ReLU(negative_slope=0.1): None,
        keras.layers.SimpleRNN(1): "tanh",
        keras.layers.GRU(1): None,
        keras.layers.Dropout(0.5): None,
    }
    for layer, expected in activations.items():
        assert _activations.activation_of(layer) == expected
    axes = [
        _activations._unit_axis(keras.layers.Conv2D(1, 1, data_format=order), 4)
        for order in ("channels_first", "channels_last")
    ]
    assert axes == [1, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "`every` must be an integer of at least 1"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"saturation_distance": 0.5}, "`saturation_distance` must be in"),
        ({"near_zero": 0}, "`near_zero` must be in"),
        ({"probe_data": np.ones((0, 6))}, r"at least 1. .*\[\(0, 6\)\]"),
        ({"probe_data": []}, "at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ActivationMonitor(**{"probe_data": np.ones((2, 6)), **arguments})


def test_probes_that_do_not_fit_are_refused_before_training(rng):
    x, y = data(rng)
    model = network(rate=1.0)
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"of shape \(10, 5\) for inputs of shape \(None, 6\)"
    ):
        model.fit(x, y, callbacks=[ActivationMonitor(x[:, 1:])], verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    subclassed = Branching()
    # On TensorFlow, `fit` builds it only after the callbacks have begun.
    subclassed(x[:, :3])
    subclassed.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match=r"cannot be called on `probe_data`. .*\(10, 6, 1\)"
    ):
        subclassed.fit(
            *(x[:, :3], y[:, :2]),
            callbacks=[ActivationMonitor(x[..., None])],
            verbose=0,
        )
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, ops.cast(inputs > 0, "int32"))
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="no layer whose outputs are float"):
        model.fit(x, x, callbacks=[ActivationMonitor(x)], verbose=0)
