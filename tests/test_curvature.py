"""Eigenvalues and traces against dense float64 Hessians."""

import backend
import keras
import numpy as np
import pytest
from curvature_reference import dense_hessian
from gradient_reference import Subclassed, build, data, fitted

from kerascomp.callbacks import CurvatureMonitor, _curvature, _epochs


class Weights(keras.callbacks.Callback):
    """Keeps the weights that a monitor after it measures."""

    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.model.get_weights())


def test_equals_a_dense_eigendecomposition(tmp_path):
    x, y = data("mlp")
    probe = x[:6], y[:6]
    model = build("mlp")
    model.compile(keras.optimizers.SGD(0.3, momentum=0.5), "mse")
    size = model.count_params()
    exact = CurvatureMonitor(
        probe, num_eigenvalues=3, iterations=size, trace_products=0, every=2
    )
    quick = CurvatureMonitor(probe, iterations=25, trace_products=30, every=2)
    weights = Weights()
    log = fitted(model, x, y, [weights, exact, quick], epochs=3).history
    history = exact.history
    for row, epoch in enumerate((0, 2)):
        hessian = dense_hessian(weights.epochs[epoch], *probe)
        values = np.linalg.eigvalsh(hessian)
        # Products are float32, about 1e-7 of the largest eigenvalue.
        close = {"rtol": 1e-5, "atol": 1e-5 * np.abs(values).max()}
        found = [history["eigenvalues"][k][row] for k in "123"]
        np.testing.assert_allclose(found, values[:-4:-1], **close)
        np.testing.assert_allclose(history["smallest"][row], values[0], **close)
        # The edge is at 2 (1 + 0.5) / 0.3 = 10.
        np.testing.assert_allclose(
            log["stability"][epoch], values[-1] / 10, **close
        )
        np.testing.assert_allclose(log["sharpness"][epoch], values[-1], **close)
        # Ten of 77 directions are exact, and hold most of the trace.
        np.testing.assert_allclose(
            log["hessian_trace"][epoch], np.trace(hessian), rtol=0.1
        )
    np.testing.assert_allclose(history["learning_rate"], [0.3] * 2, rtol=1e-6)
    np.testing.assert_array_equal(history["epoch"], [0, 2])
    assert "hessian_trace" not in history
    np.testing.assert_array_equal(np.isnan(log["sharpness"]), [0, 1, 0])
    exact.to_csv(tmp_path / "record.csv")
    header = (tmp_path / "record.csv").read_text().partition("\n")[0]
    assert "eigenvalues/3" in header
    exact.plot().savefig(tmp_path / "plot.png")


def measured(model, x, y, weight=None, **arguments):
    """Returns the record of a monitor that sees the model as it is."""
    probe = (x, y) if weight is None else (x, y, weight)
    monitor = CurvatureMonitor(probe, **arguments)
    fitted(model, x, y, [monitor], epochs=1)
    return {
        name: found[0]
        for name, found in monitor.history.items()
        if name != "eigenvalues"
    }


def linear(rate=0.0, kernel_regularizer=None, layers=(), **arguments):
    inputs = outputs = keras.Input((2,))
    for layer in layers:
        outputs = layer(outputs)
    dense = keras.layers.Dense(
        1, use_bias=False, kernel_regularizer=kernel_regularizer
    )
    model = keras.Model(inputs, dense(outputs))
    model.compile(keras.optimizers.SGD(rate, **arguments), "mse")
    return model


X, Y = np.array([[2.0, 0.0], [0.0, 4.0]]), np.zeros((2, 1))


def test_the_loss_is_that_of_fit():
    # The loss is (4 a^2 + 16 b^2) / 2.
    plain = measured(linear(), X, Y)
    np.testing.assert_allclose(plain["sharpness"], 16, rtol=1e-5)
    np.testing.assert_allclose(plain["hessian_trace"], 20, rtol=1e-5)
    assert plain["stability"] == 0  # At the rate 0.
    # A penalty of 3 (a^2 + b^2) adds 6.
    penalized = measured(linear(kernel_regularizer="l2"), X, Y)
    np.testing.assert_allclose(penalized["sharpness"], 16.02, rtol=1e-5)
    weighed = measured(linear(), X, Y, np.array([3.0, 0.5]))
    np.testing.assert_allclose(weighed["sharpness"], 12, rtol=1e-5)
    np.testing.assert_allclose(weighed["smallest"], 8, rtol=1e-5)


def test_training_mode_is_an_argument():
    noise = keras.layers.GaussianDropout(0.5, seed=3)
    kept = measured(linear(layers=[noise]), X, Y)
    np.testing.assert_allclose(kept["sharpness"], 16, rtol=1e-5)
    noise = keras.layers.GaussianDropout(0.5, seed=3)
    model = linear(layers=[noise])
    noisy = measured(model, X, Y, training=True)
    # All products saw the same noise, so that there is such a matrix.
    assert noisy["residual"] < 1e-4
    assert abs(noisy["sharpness"] - 16) > 0.1


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ({}, 2 / 0.1),
        ({"momentum": 0.9}, 3.8 / 0.1),
        ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8 / 0.1),
    ],
)
def test_limits_of_stability(arguments, limit):
    optimizer = keras.optimizers.SGD(0.1, **arguments)
    rate, found = _curvature.stability_limit(optimizer)
    np.testing.assert_allclose([rate, found], [0.1, limit], rtol=1e-6)
    # Gradient descent on a parabola of that curvature is at the edge.
    for factor, grows in ((0.98, False), (1.02, True)):
        w, velocity, m = 1.0, 0.0, arguments.get("momentum", 0.0)
        for _ in range(3000):
            gradient = factor * limit * w
            velocity = m * velocity - 0.1 * gradient
            ahead = arguments.get("nesterov", False)
            w += m * velocity - 0.1 * gradient if ahead else velocity
        assert (abs(w) > 1) == grows


def test_lanczos_finds_equal_eigenvalues_and_both_ends(rng):
    spectrum = np.array([9.0, 9.0, 4.0, 1.0, 0.0, -3.0])
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    matrix = basis @ np.diag(spectrum) @ basis.T
    product = lambda v: matrix @ v
    found, residuals = _curvature.lanczos(product, 6, 2, 99, rng)
    np.testing.assert_allclose(found, spectrum, atol=1e-9)
    assert residuals.max() < 1e-6
    identity, _ = _curvature.lanczos(lambda v: 2 * v, 5, 3, 5, rng)
    np.testing.assert_allclose(identity, [2] * 5)
    nothing, _ = _curvature.lanczos(lambda v: 0 * v, 3, 1, 3, rng)
    np.testing.assert_allclose(nothing, [0, 0, 0])
    # The bounds hold where it stops early.
    wide = np.diag(np.linspace(-1, 2, 60) ** 3)
    found, residuals = _curvature.lanczos(lambda v: wide @ v, 60, 1, 12, rng)
    assert len(found) == 12
    assert abs(found[0] - 8) <= residuals[0] + 1e-12 < 0.5


def test_hutch_plus_plus_is_unbiased_and_exact_for_low_rank(rng):
    factor = rng.normal(size=(30, 3))
    low = factor @ factor.T
    trace = _curvature.hutch_plus_plus(lambda v: low @ v, 30, 9, rng)
    np.testing.assert_allclose(trace, np.trace(low), rtol=1e-9)
    full = rng.normal(size=(8, 8))
    full = full + full.T
    estimates = [
        _curvature.hutch_plus_plus(lambda v: full @ v, 8, 6, rng)
        for _ in range(3000)
    ]
    error = np.std(estimates) / np.sqrt(3000)
    assert abs(np.mean(estimates) - np.trace(full)) < 4 * error
    # All directions are spanned: nothing is left to chance.
    trace = _curvature.hutch_plus_plus(lambda v: full @ v, 8, 24, rng)
    np.testing.assert_allclose(trace, np.trace(full), rtol=1e-9)


def test_products_are_symmetric_through_recurrence_and_convolution(rng):
    inputs = keras.Input((6, 2))
    hidden = keras.layers.Conv1D(3, 2, activation="tanh")(inputs)
    hidden = keras.layers.GRU(2)(keras.layers.MaxPooling1D(2)(hidden))
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile("sgd", "mse")
    x, y = rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 1))
    monitor = CurvatureMonitor((x, y))
    monitor.set_model(model)
    monitor.set_params({})
    monitor.on_train_begin()
    values = monitor._pure.values()
    u, v = rng.normal(size=(2, monitor._size))
    left = u @ monitor._times(values, v)
    np.testing.assert_allclose(v @ monitor._times(values, u), left, rtol=1e-4)
    assert abs(left) > 1e-3


def test_unbuilt_models_and_many_weights():
    x, y = data("embedding")
    model = Subclassed("embedding")
    model.compile("adam", "mse", run_eagerly=True)
    record = measured(model, x, y, iterations=40)
    # Gradients of an embedding are sparse on TensorFlow.
    np.testing.assert_allclose(
        record["sharpness"],
        np.linalg.eigvalsh(dense_hessian(model.get_weights(), x, y))[-1],
        # `measured` trained for an epoch at Adam's rate before it looked.
        rtol=1e-3,
    )
    assert record["learning_rate"] == pytest.approx(1e-3)


class Clock:
    """Goes on when told to."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


def test_measuring_takes_a_tenth_of_the_time_if_not_told_how_often(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_epochs, "time", clock)
    monitor = CurvatureMonitor((X, Y))
    measure = monitor._measure

    def measure_for_a_second(model):
        clock.pass_by(1.0)
        return measure(model)

    monkeypatch.setattr(monitor, "_measure", measure_for_a_second)
    train = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: clock.pass_by(4.0)
    )
    linear().fit(X, Y, epochs=12, callbacks=[train, monitor], verbose=0)
    # Two measurements of 1 s fit 20 s of training, which are 5 epochs of 4 s;
    # three fit 30 s, in the 8th, and four 40 s, the 10th.
    np.testing.assert_array_equal(monitor.history["epoch"], [0, 4, 7, 9])


def test_one_program_serves_all_epochs():
    if backend.NAME == "torch":
        pytest.skip("torch compiles nothing")
    traced = []

    def call(inputs):
        traced.append(1)
        return inputs

    model = linear(layers=[keras.layers.Lambda(call)])
    monitor = CurvatureMonitor((X, Y), every=1)
    seen = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(len(traced))

    model.fit(X, Y, epochs=3, callbacks=[monitor, Count()], verbose=0)
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "`every` must be an integer of at least 1"),
        ({"num_eigenvalues": 0}, "`num_eigenvalues` must be"),
        ({"num_eigenvalues": 5, "iterations": 4}, "`iterations` must be"),
        ({"trace_products": 2}, "`trace_products` must be"),
        ({"training": "yes"}, "`training` must be one of"),
        ({"probe_data": X}, "must be a tuple of inputs and targets"),
        ({"probe_data": (X[:0], Y[:0])}, r"at least 1. .*\[\(0, 2\), \(0, 1\)"),
        ({"probe_data": (X, Y[:1])}, r"one length.*\[\(2, 2\), \(1, 1\)\]"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CurvatureMonitor(**{"probe_data": (X, Y), **arguments})


def test_bad_models_are_refused_before_training():
    before = (model := linear(0.1)).get_weights()
    for monitor, message in (
        (
            CurvatureMonitor((np.ones((2, 3)), Y)),
            r"shape \(2, 3\) for inputs of shape \(None, 2\)",
        ),
        (CurvatureMonitor((X, Y), num_eigenvalues=3), "for 2 weights"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y, callbacks=[monitor], verbose=0)
    np.testing.assert_array_equal(model.get_weights(), before)
