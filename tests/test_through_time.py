"""Gradients by the states of recurrent layers against float64 NumPy."""

import curvature_reference
import keras
import numpy as np
import pytest
from backend import central_difference
from curvature_reference import simple_rnn_norms

from kerascomp.callbacks import GradientThroughTime, _through_time

SAMPLES, TIME, FEATURES, UNITS = 3, 5, 2, 4


def data(rng, time=TIME):
    x = rng.normal(size=(SAMPLES, time, FEATURES))
    return x, rng.normal(size=(SAMPLES, UNITS))


def standing(*layers, shape=(TIME, FEATURES), rate=0.0):
    """Returns a model that a rate of 0 keeps as it is."""
    inputs = outputs = keras.Input(shape)
    for layer in layers:
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def observed(model, x, y, **arguments):
    monitor = GradientThroughTime((x, y))
    log = model.fit(x, y, callbacks=[monitor], verbose=0, **arguments)
    return monitor, log.history


def float64(layer):
    return [np.asarray(w, "float64") for w in layer.get_weights()]


def test_equals_backpropagation_by_hand(rng, tmp_path):
    x, y = data(rng)
    layer = keras.layers.SimpleRNN(UNITS, bias_initializer="normal", name="rnn")
    model = standing(layer, rate=0.3)
    found, log = [], {}

    class Weights(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.append(float64(self.model))

    monitor = GradientThroughTime((x, y), every=2)
    log = model.fit(
        x, y, epochs=3, callbacks=[Weights(), monitor], verbose=0
    ).history
    expected = np.array([simple_rnn_norms(found[e], x, y) for e in (0, 2)])
    np.testing.assert_allclose(monitor.norms["rnn"], expected, rtol=1e-5)
    slopes = [np.polyfit([4, 3, 2, 1, 0], np.log(n), 1)[0] for n in expected]
    np.testing.assert_allclose(
        monitor.history["decay"]["rnn"], np.exp(slopes), rtol=1e-5
    )
    np.testing.assert_array_equal(monitor.history["epoch"], [0, 2])
    np.testing.assert_array_equal(np.isnan(log["time_decay"]), [0, 1, 0])
    np.testing.assert_allclose(
        monitor.history["norm"]["rnn/3"], expected[:, 3], rtol=1e-5
    )
    monitor.to_csv(tmp_path / "record.csv")
    assert "norm/rnn/4" in (tmp_path / "record.csv").read_text()
    monitor.plot().savefig(tmp_path / "plot.png")


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gates_equal_central_differences(rng, kind):
    x, y = data(rng)
    layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[kind](
        UNITS, bias_initializer="normal", name="rnn"
    )
    model = standing(layer)
    monitor, _ = observed(model, x, y)
    last_state = getattr(curvature_reference, kind)
    weights = float64(layer)
    loss = lambda added: np.mean((last_state(weights, x, added) - y) ** 2)
    gradient = central_difference(loss, np.zeros((SAMPLES, TIME, UNITS)), 1e-5)
    np.testing.assert_allclose(
        monitor.norms["rnn"][0],
        np.sqrt(np.sum(gradient**2, axis=(0, 2))),
        rtol=1e-5,
    )


def test_directions_wrappers_and_several_layers(rng):
    x, y = data(rng)
    rnn = lambda **k: keras.layers.SimpleRNN(UNITS, **k)
    # Both directions, summed; the other layer reads the reversed sequence.
    both = keras.layers.Bidirectional(rnn(name="rnn"), merge_mode="sum")
    inputs = keras.Input((TIME, FEATURES))
    model = keras.Model(inputs, both(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    monitor, log = observed(model, x, y)
    paths = list(monitor.norms)
    assert len(paths) == 2
    assert "forward" in paths[0]
    assert "backward" in paths[1]
    for layer, path, sequence in (
        (both.forward_layer, paths[0], x),
        (both.backward_layer, paths[1], x[:, ::-1]),
    ):
        # What the other direction adds acts as a shift of the targets.
        other = model.predict(x, verbose=0) - last(layer, sequence)
        np.testing.assert_allclose(
            monitor.norms[path][0],
            simple_rnn_norms(float64(layer), sequence, y - other),
            rtol=1e-4,
        )
    decays = [d[0] for d in monitor.history["decay"].values()]
    assert log["time_decay"] == [min(decays)]
    assert log["time_decay_max"] == [max(decays)]


def last(layer, x):
    none = np.zeros((*x.shape[:2], UNITS))
    return curvature_reference.simple_rnn(float64(layer), x, none)


def test_masked_steps_pass_the_gradient_on(rng):
    x, y = data(rng)
    x[:, 3:] = 0.0
    layer = keras.layers.SimpleRNN(UNITS, name="rnn")
    model = standing(keras.layers.Masking(0.0), layer)
    monitor, _ = observed(model, x, y)
    # Masked, a step leaves its state unused.
    norms = monitor.norms["rnn"][0]
    np.testing.assert_allclose(
        norms[:3], simple_rnn_norms(float64(layer), x[:, :3], y), rtol=1e-5
    )
    np.testing.assert_array_equal(norms[3:], [0, 0])


class Projected(keras.layers.Layer):
    """A cell whose output is not its state."""

    state_size, output_size = UNITS, UNITS

    def call(self, inputs, states):
        (state,) = states
        state = 0.5 * state + inputs
        return 3.0 * state, [state]


def test_states_behind_an_output_count_from_the_next_step_on(rng):
    x, y = rng.normal(size=(SAMPLES, TIME, UNITS)), np.zeros((SAMPLES, UNITS))
    model = standing(
        keras.layers.RNN(Projected(), name="rnn"), shape=(TIME, UNITS)
    )
    monitor, _ = observed(model, x, y)
    weights = 0.5 ** np.arange(TIME)[::-1]
    last_state = np.einsum("stu,t->su", x, weights)
    slope = np.linalg.norm(2 * 9 * last_state / y.size)
    np.testing.assert_allclose(
        monitor.norms["rnn"][0],
        [*slope * weights[:-1], 0],  # The last state has no next step.
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("scale", "verdict"),
    [(0.4, "vanishing"), (1.3, "exploding"), (1, "steady")],
)
def test_verdicts(rng, scale, verdict):
    x, y = data(rng, time=20)
    turn, _ = np.linalg.qr(rng.normal(size=(UNITS, UNITS)))
    layer = keras.layers.SimpleRNN(UNITS, activation="linear", name="rnn")
    model = standing(layer, shape=(20, FEATURES))
    kernel, _, bias = layer.get_weights()
    layer.set_weights([kernel, scale * turn, bias])
    monitor, log = observed(model, x, y)
    assert monitor.verdicts == {"rnn": verdict}
    # An orthogonal matrix keeps norms.
    np.testing.assert_allclose(log["time_decay"], [scale], rtol=1e-4)


def test_decay_of_few_numbers():
    assert np.isnan(_through_time.decay_of(np.array([0.0, np.inf, 3.0])))
    assert _through_time.decay_of(np.array([1.0, 0.0, 4.0])) == pytest.approx(
        0.5
    )


class Reader(keras.Model):
    """Subclassed, with token ids and a recurrent layer inside a layer."""

    def __init__(self):
        super().__init__(name="reader")
        self.words = keras.layers.Embedding(9, FEATURES, mask_zero=True)
        self.memory = keras.layers.GRU(UNITS, return_sequences=True, name="gru")
        self.memory_too = keras.layers.LSTM(UNITS, dropout=0.2, name="lstm")

    def call(self, inputs, training=False):
        hidden = self.memory(self.words(inputs), training=training)
        return self.memory_too(hidden, training=training)


def test_subclassed_models_are_left_as_they_were(rng):
    words = rng.integers(0, 9, (SAMPLES, 6))
    y = rng.normal(size=(SAMPLES, UNITS))
    weights = {}
    for kind in ("plain", "observed"):
        keras.utils.set_random_seed(2)
        model = Reader()
        model.compile(keras.optimizers.Adam(0.1), "mse")
        monitors = [GradientThroughTime((words, y))] * (kind == "observed")
        model.fit(words, y, epochs=2, callbacks=monitors, verbose=0)
        weights[kind] = model.get_weights()
    assert list(monitors[0].norms) == ["reader/gru", "reader/lstm"]
    for one, other in zip(*weights.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert "call" not in vars(model.memory)


def test_models_without_recurrence_are_refused(rng):
    x, y = data(rng)
    cells = [keras.layers.LSTMCell(UNITS), keras.layers.GRUCell(UNITS)]
    for layer, name in (
        (keras.layers.GlobalAveragePooling1D(), "GlobalAveragePooling1D"),
        (keras.layers.RNN(cells), "RNN"),
    ):
        model = standing(layer, keras.layers.Dense(UNITS))
        with pytest.raises(
            ValueError, match=f"needs a recurrent layer.*Received: .*{name}"
        ):
            observed(model, x, y)
    with pytest.raises(ValueError, match="`every` must be"):
        GradientThroughTime((x, y), every=0)
    model = standing(keras.layers.GRU(UNITS))
    monitor = GradientThroughTime((x[..., :1], y))
    with pytest.raises(
        ValueError,
        match=r"shape \(3, 5, 1\) for inputs of shape \(None, 5, 2\)",
    ):
        model.fit(x, y, callbacks=[monitor], verbose=0)
