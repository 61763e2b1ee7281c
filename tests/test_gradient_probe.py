"""The gradient probe: interruptions, other trainers, devices, refusals."""

import os
import pathlib
import subprocess
import sys

import backend
import keras
import numpy as np
import pytest
from gradient_reference import (
    BATCH,
    EPOCHS,
    FEATURES,
    RATE,
    SAMPLES,
    STANDING,
    STEPS,
    Recorder,
    assert_equals_reference,
    backpropagated,
    build,
    compiled,
    data,
    fitted,
    reference,
    sgd,
)
from keras import ops

from kerascomp.callbacks import GradientNormMonitor, UpdateRatioMonitor

HERE = pathlib.Path(__file__).parent


def interrupt(model):
    raise KeyboardInterrupt


def interrupted(model, x, y, monitors):
    with pytest.raises(KeyboardInterrupt):
        fitted(model, x, y, [*monitors, Recorder(interrupt, epoch=0)])


@pytest.mark.parametrize("again", ["same", "other", "two"])
def test_a_fit_after_an_interrupted_one_is_observed_anew(again):
    x, y = data("mlp")
    model = compiled()
    first, second = GradientNormMonitor(), GradientNormMonitor()
    before = reference(model.get_weights(), x, y)
    interrupted(model, x, y, [first, second])
    # The batch that was interrupted is the third.
    assert_equals_reference(first, before[:3])
    expected = reference(model.get_weights(), x, y)
    monitors = {
        "same": [first],
        "other": [GradientNormMonitor()],
        "two": [second, first],
    }[again]
    fitted(model, x, y, monitors)
    for monitor in monitors:
        assert_equals_reference(monitor, expected)
    assert not hasattr(model.train_function, "kerascomp_probe")
    second.detach()  # May come late, and then changes nothing.
    assert not hasattr(model.train_function, "kerascomp_probe")


def test_detach_cleans_up_after_an_interrupted_fit():
    x, y = data("mlp")
    model = compiled()
    fitted(model, x, y, [])
    found = model.train_function
    monitor = GradientNormMonitor()
    interrupted(model, x, y, [monitor])
    assert model.train_function is not found
    monitor.detach()
    assert model.train_function is found
    assert len(monitor.history["step"]) == 3


@pytest.mark.parametrize("recompiled", [True, False])
def test_plain_training_goes_on_after_an_interrupted_fit(recompiled):
    x, y = data("mlp")
    model = compiled()
    interrupted(model, x, y, [GradientNormMonitor()])
    if recompiled:
        model.compile(model.optimizer, "mse")
        assert model.train_function is None
    weights = model.get_weights()
    log = fitted(model, x, y, [])
    assert list(log.history) == ["loss"]
    # The reference's last row belongs to the weights before the last step.
    monitor = GradientNormMonitor()
    expected = reference(weights, x, y, epochs=EPOCHS + 1)[STEPS:]
    fitted(model, x, y, [monitor], epochs=1)
    assert_equals_reference(monitor, expected)


@pytest.mark.parametrize("steps_per_execution", [1, 70])
def test_long_epochs_overflow_no_buffer(steps_per_execution):
    if backend.NAME == "torch" and steps_per_execution > 1:
        pytest.skip("torch has no steps_per_execution")
    # More rows than any buffer holds, fetched in the midst of the epoch.
    x, y = data("mlp", samples=1500)
    model = build("mlp")
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        steps_per_execution=steps_per_execution,
    )
    weights = model.get_weights()
    expected = reference(weights, x, y, STANDING, batch=1, epochs=1)
    monitors = [GradientNormMonitor(), GradientNormMonitor(every=100)]
    fitted(model, x, y, monitors, batch_size=1, epochs=1)
    assert_equals_reference(monitors[0], expected)
    np.testing.assert_array_equal(
        monitors[1].history["step"], np.arange(0, 1500, 100)
    )


class Twice(keras.Model):
    """Calls its optimizer twice in a training step."""

    if backend.NAME == "jax":

        def train_step(self, state, data):
            _, state = super().train_step(state, data)
            return super().train_step(state, data)

    else:

        def train_step(self, data):
            super().train_step(data)
            return super().train_step(data)


def test_every_call_of_the_optimizer_is_a_step():
    x, y = data("mlp")
    plain = build("mlp")
    model = Twice(plain.input, plain.output)
    model.compile(sgd(), "mse")
    monitor = GradientNormMonitor()
    batches = [slice(s, s + BATCH) for s in range(0, SAMPLES, BATCH)]
    # Each batch twice in a row.
    rows, weights = [], [w.astype("float64") for w in model.get_weights()]
    for batch in (b for b in batches for _ in range(2)):
        gradients = backpropagated(weights, x[batch], y[batch])
        rows.append([np.linalg.norm(g) for g in gradients])
        weights = [
            w - RATE * g for w, g in zip(weights, gradients, strict=True)
        ]
    fitted(model, x, y, [monitor], epochs=1)
    assert_equals_reference(monitor, np.array(rows))


class OwnUpdate(keras.Model):
    """Trains without its optimizer."""

    if backend.NAME == "jax":

        def train_step(self, state, data):
            return {"loss": ops.zeros(())}, state

    else:

        def train_step(self, data):
            return {"loss": ops.zeros(())}


def test_a_step_that_does_not_use_the_optimizer_is_reported():
    x, y = data("mlp")
    plain = build("mlp")
    model = OwnUpdate(plain.input, plain.output)
    model.compile(sgd(), "mse")
    with pytest.warns(UserWarning, match="saw no gradient"):
        log = fitted(model, x, y, [GradientNormMonitor()], epochs=1).history
    assert np.isnan(log["grad_norm"]).all()


def test_layers_of_one_name_are_told_apart():
    inner = [build("mlp"), build("mlp")]
    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Add()([model(inputs) for model in inner])
    model = keras.Model(inputs, outputs)
    model.compile(sgd(), "mse")
    monitor = GradientNormMonitor()
    fitted(model, *data("mlp"), [monitor], epochs=1)
    assert list(monitor.history["layers"]) == [
        "hidden",
        "out",
        "hidden#2",
        "out#2",
    ]
    second = list(monitor.history["variables"])[4:6]
    assert second == ["hidden#2/kernel", "hidden#2/bias"]


def test_wrappers_of_others_are_kept():
    x, y = data("mlp")
    model = build("mlp")
    model.compile(sgd(), "mse", run_eagerly=True)
    method = "stateless_apply" if backend.NAME == "jax" else "apply"
    original, calls = getattr(model.optimizer, method), []

    def foreign(*arguments):
        calls.append(1)
        return original(*arguments)

    vars(model.optimizer)[method] = foreign
    monitor = GradientNormMonitor()
    fitted(model, x, y, [monitor])
    assert len(calls) == len(monitor.history["step"]) == STEPS
    assert vars(model.optimizer)[method] is foreign


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_must_be_a_positive_integer(every):
    with pytest.raises(ValueError, match=f"Received: every={every}"):
        GradientNormMonitor(every=every)


@pytest.mark.parametrize("per_layer", [1, 0, None, "yes"])
def test_per_layer_must_be_a_boolean(per_layer):
    with pytest.raises(ValueError, match=f"Received: per_layer={per_layer!r}"):
        GradientNormMonitor(per_layer=per_layer)


def test_a_model_without_optimizer_is_refused_before_training():
    x, y = data("mlp")
    model = compiled()
    model.optimizer = None
    weights = model.get_weights()
    with pytest.raises(ValueError, match=r"has none\. Received: model="):
        fitted(model, x, y, [GradientNormMonitor()])
    np.testing.assert_array_equal(model.get_weights()[0], weights[0])


def test_layers_frozen_after_compile_are_refused_before_training():
    x, y = data("mlp")
    model = compiled()
    fitted(model, x, y, [], epochs=1)  # Builds the optimizer.
    model.layers[1].trainable = False
    with pytest.raises(ValueError, match=r"compile` again.*'hidden/kernel'"):
        fitted(model, x, y, [GradientNormMonitor()])
    model.compile(sgd(), "mse")
    monitor = GradientNormMonitor()
    fitted(model, x, y, [monitor], epochs=1)
    assert list(monitor.history["layers"]) == ["out"]


def test_the_same_monitor_twice_in_one_fit_is_refused():
    x, y = data("mlp")
    model = compiled()
    monitor = GradientNormMonitor()
    with pytest.raises(ValueError, match="same GradientNormMonitor twice"):
        fitted(model, x, y, [monitor, monitor])
    assert not hasattr(model.train_function, "kerascomp_probe")
    fitted(model, x, y, [monitor])
    assert len(monitor.history["step"]) == STEPS


def test_a_monitor_that_joins_late_is_refused():
    x, y = data("mlp")
    late = UpdateRatioMonitor()

    def join(model):
        late.set_model(model)
        late.set_params(monitor.params)
        late.on_train_begin()

    monitor = GradientNormMonitor()
    with pytest.raises(ValueError, match="joins at step 3"):
        fitted(compiled(), x, y, [monitor, Recorder(join, epoch=0)])


@pytest.mark.skipif(backend.NAME != "jax", reason="NNX belongs to JAX")
def test_nnx_is_refused_before_training(monkeypatch):
    x, y = data("mlp")
    model = compiled()
    monkeypatch.setattr(keras.config, "is_nnx_enabled", lambda: True)
    with pytest.raises(ValueError, match="KERAS_NNX_ENABLED=false"):
        fitted(model, x, y, [GradientNormMonitor()])


# Trains on two devices: a process chooses them before its first operation.
TWO_DEVICES = """
{setup}
import gradient_reference as tests
import numpy as np
from kerascomp.callbacks import GradientNormMonitor, UpdateRatioMonitor
with scope():
    model = tests.build("embedding")
    model.compile(tests.scaled(), "mse")
x, y = tests.data("embedding")
expected = tests.reference(model.get_weights(), x, y)
steps = list(tests.steps_by_hand(model.get_weights(), x, y))
monitors = [GradientNormMonitor(), GradientNormMonitor()]
updates = UpdateRatioMonitor()
tests.fitted(model, x, y, [*monitors, updates])
ratios = [tests.norm(s.updates) / tests.norm(s.weights) for s in steps]
found = updates.history["update_ratio"]
np.testing.assert_allclose(found, ratios, rtol=1e-4)  # Small differences.
for monitor in monitors:
    tests.assert_equals_reference(monitor, expected)
print("equal")
"""
MIRRORED = """
import tensorflow as tf
device = tf.config.list_physical_devices("CPU")[0]
one = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(device, [one, one])
scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
"""
SHARDED = """
import contextlib, jax, keras
assert len(jax.devices()) == 2
keras.distribution.set_distribution(
    keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"])
)
scope = contextlib.nullcontext
"""


def run_on_two_devices(setup, **environment):
    process = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES.format(setup=setup)],
        env={**os.environ, "PYTHONPATH": str(HERE), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.stdout.endswith("equal\n"), process.stderr[-3000:]


@pytest.mark.skipif(
    backend.NAME != "tensorflow", reason="tf.distribute belongs to TensorFlow"
)
def test_replicas_of_a_mirrored_strategy_are_summed():
    # `steps_per_execution` and accumulation fail in Keras without a monitor.
    run_on_two_devices(MIRRORED)


@pytest.mark.skipif(
    backend.NAME != "jax", reason="Keras distributes on JAX alone"
)
def test_gradients_of_distributed_batches_are_whole():
    flags = "--xla_force_host_platform_device_count=2"
    run_on_two_devices(SHARDED, XLA_FLAGS=flags)


@pytest.mark.skipif(
    backend.NAME != "tensorflow", reason="tf.distribute belongs to TensorFlow"
)
def test_other_strategies_are_refused_before_training(monkeypatch):
    class Strategy:
        num_replicas_in_sync = 2

    model = compiled()
    found = model.train_function
    monitor = GradientNormMonitor()
    monitor.set_model(model)
    monkeypatch.setattr(
        type(model), "distribute_strategy", property(lambda _: Strategy())
    )
    with pytest.raises(ValueError, match=r"Received: strategy=.*Strategy"):
        monitor.on_train_begin()
    assert model.train_function is found


def test_only_the_running_backend_is_imported():
    # In a process of its own: other tests import every module.
    program = (
        "import sys, keras, numpy as np, kerascomp as kc\n"
        "model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])\n"
        "model.compile('sgd', 'mse')\n"
        "monitor = kc.callbacks.GradientNormMonitor()\n"
        "model.fit(np.ones((2, 2)), np.ones((2, 1)), callbacks=[monitor])\n"
        "print([name for name in sys.modules if '._probe_' in name])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = str([f"kerascomp.callbacks._probe_{backend.NAME}"])
    assert result.stdout.splitlines()[-1] == expected
