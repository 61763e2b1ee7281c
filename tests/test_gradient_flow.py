"""Verdicts on networks that are known to be ill, each beside a healthy one."""

import itertools
import warnings

import backend
import keras
import numpy as np
import pytest
from gradient_reference import (
    Recorder,
    compiled,
    data,
    fitted,
    sgd,
    steps_by_hand,
)

from kerascomp.callbacks import (
    GradientFlowMonitor,
    GradientNormMonitor,
    UpdateRatioMonitor,
)
from kerascomp.callbacks._gradient_flow import REMEDIES

WIDTH = 32


def deep(activation, initializer, depth, rate=0.0):
    """A network of equal layers, which does not learn with a rate of 0."""
    inputs = outputs = keras.Input((WIDTH,))
    for number in range(1, depth + 1):
        outputs = keras.layers.Dense(
            WIDTH,
            activation,
            kernel_initializer=initializer,
            name=f"hidden_{number}",
        )(outputs)
    outputs = keras.layers.Dense(1, name="out")(outputs)
    model = keras.Model(inputs, outputs)
    # To trace so many layers takes longer than to run them.
    eager = backend.NAME == "tensorflow"
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=eager)
    return model


def watched(model, batch_size=8, **arguments):
    """Trains for 10 steps; returns the monitors of norms and of flow."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(10 * batch_size, WIDTH)).astype("float32")
    y = rng.normal(size=(len(x), 1)).astype("float32")
    norms, flow = GradientNormMonitor(), GradientFlowMonitor(**arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        log = fitted(
            model, x, y, [norms, flow], batch_size=batch_size, epochs=1
        )
    said = [str(w.message) for w in caught if "gradient" in str(w.message)]
    assert said == [str(finding) for finding in flow.findings]
    return norms.history, flow, log.history


def test_through_20_sigmoids_the_gradient_vanishes():
    # Orthogonal kernels have the spectral norm 1: on its way back through a
    # layer, the gradient of one sample by the inputs of the sigmoids, which is
    # that by the biases, shrinks by the factor 4 at least.
    model = deep("sigmoid", "orthogonal", 20)
    norms, flow, log = watched(model, batch_size=1)
    biases = [
        norms["variables"][f"hidden_{number}/bias"] for number in range(1, 21)
    ]
    # 1e-4: rounding in 20 layers.
    for before, after in itertools.pairwise(biases):
        assert np.all(4 * before <= after * (1 + 1e-4))
    (finding,) = flow.findings
    assert finding[:2] == ("vanishing", "hidden_1")
    for words in ("from 'out' to 'hidden_1'", "ReLU", "BatchNormalization"):
        assert words in flow.verdict
    assert REMEDIES["vanishing"] in flow.verdict
    # Its definition: norms relative to those of the kernels, first to last.
    first, last = (
        norms["variables"][f"{name}/kernel"]
        / np.linalg.norm(model.get_layer(name).get_weights()[0])
        for name in ("hidden_1", "out")
    )
    np.testing.assert_allclose(
        flow.history["layers"]["hidden_1"], first, rtol=1e-5
    )
    powers = 0.9 ** np.arange(10)[::-1]  # Of the moving averages.
    np.testing.assert_allclose(
        log["gradient_flow"], [powers @ first / (powers @ last)], rtol=1e-4
    )
    assert log["gradient_flow"][0] < 4.0**-19 * 100


def test_through_20_rectifiers_with_he_initialization_it_arrives():
    _, flow, log = watched(deep("relu", "he_normal", 20))
    assert flow.findings == ()
    assert flow.verdict.startswith("healthy: the gradient of 'hidden_1'")
    assert 1 / 70 < log["gradient_flow"][0] < 70


@pytest.mark.parametrize("gain", [6, 1])
def test_through_large_weights_it_explodes(gain):
    # Tanh keeps the outputs in bounds, so large weights only act on the way
    # back: through each layer by the root of 36 E[tanh'^2], which is 1.8.
    model = deep("tanh", "glorot_uniform", 20)
    for layer in model.layers[1:-1]:
        kernel, bias = layer.get_weights()
        layer.set_weights([gain * kernel, bias])
    _, flow, log = watched(model)
    if gain == 1:
        assert flow.verdict.startswith("healthy")
        return
    (finding,) = flow.findings
    assert finding[:2] == ("exploding", "hidden_1")
    assert log["gradient_flow"][0] > 70
    assert REMEDIES["exploding"] in flow.verdict


@pytest.mark.parametrize("bias", [-100.0, 0.0])
def test_a_layer_whose_units_never_fire_is_dead(bias):
    model = deep("relu", "he_normal", 3)
    # At 0, where a layer without input would be, a rectifier is flat, too.
    for name, shift in (("hidden_2", bias), ("hidden_3", 0.1)):
        kernel, biases = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel, biases + shift])
    _, flow, _ = watched(model)
    if bias:
        (finding,) = flow.findings
        assert finding[:2] == ("dead", "hidden_2")
        assert "nor 1 before it" in flow.verdict
        assert REMEDIES["dead"] in flow.verdict
    else:
        assert flow.verdict.startswith("healthy")


@pytest.mark.parametrize(("every", "read_every"), [(1, 10), (4, 12), (12, 12)])
def test_weights_are_read_now_and_then(every, read_every):
    # They move, by hand and here, and those of the last reading count.
    x, y = data("mlp")
    model = compiled()
    monitor = GradientFlowMonitor(every=every)
    steps = list(steps_by_hand(model.get_weights(), x, y, epochs=7))
    # A monitor that reads them at other steps changes nothing.
    fitted(model, x, y, [monitor, UpdateRatioMonitor(every=3)], epochs=7)
    due = range(0, len(steps), every)
    expected = [
        np.linalg.norm(steps[n].gradients[2])
        / np.linalg.norm(steps[n - n % read_every].weights[2])
        for n in due
    ]
    np.testing.assert_array_equal(monitor.history["step"], due)
    # 1e-4: float32 updates of 28 steps.
    np.testing.assert_allclose(
        monitor.history["layers"]["out"], expected, rtol=1e-4
    )


def test_nan_needs_no_warmup_and_names_the_layer():
    x, y = data("mlp")
    y[5] = np.nan
    monitor = GradientFlowMonitor()
    with pytest.warns(UserWarning, match=r"'out' is NaN .* at step 1\."):
        fitted(compiled(), x, y, [monitor])
    assert monitor.findings[0].kind == "exploding"


@pytest.mark.parametrize("bad", [1, 16])
def test_skipped_steps_are_normal_unless_all_are(bad):
    x, y = data("mlp")
    y[:bad] = np.nan
    model = compiled()
    model.compile(keras.optimizers.LossScaleOptimizer(sgd()), "mse")
    monitor = GradientFlowMonitor(warmup_steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted(model, x, y, [monitor])
    assert ("All steps" in monitor.verdict) == (bad == 16)
    assert bool(monitor.findings) == (bad == 16)


def vanishing(action, epochs=3):
    """Trains with thresholds that any network meets."""
    x, y = data("mlp")
    monitor = GradientFlowMonitor((1e9, 1e9), warmup_steps=5, action=action)
    recorder = Recorder()
    model = compiled()
    fitted(model, x, y, [monitor, recorder], epochs=epochs)
    return monitor, len(recorder.batch_logs)


def test_it_warns_once_stops_or_raises():
    with pytest.warns(UserWarning, match="vanishes") as caught:
        _, steps = vanishing("warn")
    said = [w for w in caught if "vanishes" in str(w.message)]
    assert (len(said), steps) == (1, 12)
    with pytest.warns(UserWarning, match="vanishes"):
        _, steps = vanishing("stop")
    assert steps == 8  # The first epoch has 4 steps, the warmup 5.
    with pytest.raises(RuntimeError, match="vanishes"):
        vanishing("raise")


def test_an_interrupting_verdict_leaves_the_model_as_found():
    x, y = data("mlp")
    model = compiled()
    monitor = GradientFlowMonitor((1e9, 1e9), warmup_steps=1, action="raise")
    with pytest.raises(RuntimeError, match="vanishes"):
        fitted(model, x, y, [monitor])
    assert not hasattr(model.train_function, "kerascomp_probe")


def test_before_the_warmup_there_is_no_verdict():
    x, y = data("mlp")
    monitor = GradientFlowMonitor((1e9, 1e9), warmup_steps=9)
    fitted(compiled(), x, y, [monitor])
    assert monitor.findings == ()
    assert monitor.verdict.startswith("undecided: 8 of 9 steps")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vanishing": 1e-3}, "must be a tuple of a ratio"),
        ({"vanishing": (0, 1e-4)}, r"must be in \(0, inf\)"),
        ({"exploding": 1}, r"must be in \(1, inf\)"),
        ({"smoothing": 1}, r"must be in \[0, 1\)"),
        ({"warmup_steps": 0}, "Received: warmup_steps=0"),
        ({"action": "cry"}, "Received: action='cry'"),
        ({"every": 0}, "Received: every=0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradientFlowMonitor(**arguments)
