"""Update ratios against training by hand, and against Keras' own updates."""

import backend
import keras
import numpy as np
import pytest
from gradient_reference import (
    EPOCHS,
    RATE,
    Mode,
    Subclassed,
    build,
    compiled,
    data,
    fitted,
    norm,
    scaled,
    sgd,
    steps_by_hand,
)

from kerascomp.callbacks import (
    GradientFlowMonitor,
    GradientNormMonitor,
    UpdateRatioMonitor,
)

GRAPH = {} if backend.NAME == "torch" else {"steps_per_execution": 3}
JIT = {} if backend.NAME == "torch" else {"jit_compile": True}
MODES = {
    "plain": (Mode(compile=GRAPH), "embedding", 1),
    "every third": (Mode(compile=GRAPH), "mlp", 3),
    "every third, compiled": (Mode(scaled, JIT), "embedding", 3),
    "accumulation, eager": (
        Mode(
            lambda: sgd(gradient_accumulation_steps=3),
            {"run_eagerly": True},
            micro_steps=3,
        ),
        "mlp",
        1,
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_equals_training_by_hand(name):
    mode, kind, every = MODES[name]
    x, y = data(kind)
    model = build(kind)
    model.compile(mode.optimizer(), "mse", **mode.compile)
    steps = list(steps_by_hand(model.get_weights(), x, y, mode))
    monitor = UpdateRatioMonitor(every=every)
    log = fitted(model, x, y, [monitor, GradientNormMonitor(every=every)])
    measured = steps[::every]
    history = monitor.history
    np.testing.assert_array_equal(
        history["step"], np.arange(0, len(steps), every)
    )
    expected = np.array([norm(s.updates) / norm(s.weights) for s in measured])
    # 1e-4: an update is the difference of float32 weights.
    np.testing.assert_allclose(history["update_ratio"], expected, rtol=1e-4)
    places = {"words": [0], "hidden": [-4, -3], "out": [-2, -1]}
    for layer, ratios in history["layers"].items():
        own = [
            norm([s.updates[n] for n in places[layer]])
            / norm([s.weights[n] for n in places[layer]])
            for s in measured
        ]
        np.testing.assert_allclose(ratios, own, rtol=1e-4)
    epoch = history["step"] >= len(steps) // EPOCHS
    moved = expected[epoch & (expected > 0)]
    np.testing.assert_allclose(
        log.history["update_ratio"][-1], moved.mean(), rtol=1e-4
    )
    table = np.stack(list(history["layers"].values()))[:, epoch]
    np.testing.assert_allclose(
        log.history["update_ratio_max"][-1], table.max(), rtol=1e-6
    )


def test_momentum_decay_and_constraints_count():
    class Halved(keras.constraints.Constraint):
        def __call__(self, w):
            return w / 2

    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, use_bias=False, kernel_constraint=Halved()),
        ]
    )
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    before = model.get_weights()[0].astype("float64")
    monitor = UpdateRatioMonitor()
    fitted(model, x, y, [monitor], epochs=1)
    after = model.get_weights()[0].astype("float64")
    np.testing.assert_allclose(
        monitor.history["update_ratio"],
        [np.linalg.norm(after - before) / np.linalg.norm(before)],
        rtol=1e-5,
    )


def test_plain_sgd_is_the_rate_times_gradient_over_weights():
    x, y = data("embedding")
    model = Subclassed("embedding")
    model.compile(sgd(), "mse")
    norms, updates = GradientNormMonitor(), UpdateRatioMonitor()
    for _ in range(2):  # A second fit starts a new record.
        fitted(model, x, y, [norms, updates], epochs=1)
    weights = norm([w.astype("float64") for w in model.get_weights()])
    expected = RATE * norms.history["grad_norm"][-1] / weights
    # The weights are those after the last step, which moved them by a tenth.
    np.testing.assert_allclose(
        updates.history["update_ratio"][-1], expected, rtol=0.1
    )
    assert len(updates.history["step"]) == 4


def test_zero_weights_have_no_ratio():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")]
    )
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    monitor = UpdateRatioMonitor()
    log = fitted(model, x, y, [monitor], epochs=1).history
    np.testing.assert_array_equal(monitor.history["update_ratio"], [np.nan])
    assert np.isnan(log["update_ratio"]).all()


def trained(callbacks, steps, **optimizer):
    """Trains for an epoch of so many steps."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, **optimizer), "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(steps, 3)), rng.normal(size=(steps, 2))
    model.fit(x, y, 1, shuffle=False, verbose=0, callbacks=callbacks)


@pytest.mark.parametrize(
    ("steps", "accumulates", "expected"),
    [(39, None, 1), (40, None, 2), (105, None, 5), (105, 5, 6), (90, 2, 5)],
)
def test_an_epoch_is_measured_about_20_times(steps, accumulates, expected):
    monitor = UpdateRatioMonitor()
    trained([monitor], steps, gradient_accumulation_steps=accumulates)
    measured = monitor.history["step"]
    np.testing.assert_array_equal(measured, np.arange(0, steps, expected))
    assert monitor.history["update_ratio"].any()


def test_monitors_of_different_steps_see_what_they_would_alone():
    alone = GradientNormMonitor(), UpdateRatioMonitor(every=3)
    for monitor in alone:
        trained([monitor], 14)
    together = (
        GradientNormMonitor(),
        UpdateRatioMonitor(every=3),
        GradientFlowMonitor(every=2),
    )
    trained(together, 14)
    names = ("grad_norm", "update_ratio")
    for one, other, name in zip(alone, together, names, strict=False):
        np.testing.assert_array_equal(
            other.history["step"], one.history["step"]
        )
        np.testing.assert_allclose(
            other.history[name], one.history[name], rtol=1e-6
        )
    np.testing.assert_array_equal(
        together[2].history["step"], np.arange(0, 14, 2)
    )
    for ratios in together[2].history["layers"].values():
        assert (ratios > 0).all()


@pytest.mark.parametrize("every", [0, True, 1.5])
def test_every_must_be_a_positive_integer(every):
    with pytest.raises(ValueError, match=f"Received: every={every}"):
        UpdateRatioMonitor(every=every)


def test_the_model_is_left_as_found():
    x, y = data("mlp")
    model = compiled()
    fitted(model, x, y, [], epochs=1)
    found = model.train_function, set(vars(model.optimizer))
    fitted(model, x, y, [UpdateRatioMonitor()], epochs=1)
    assert (model.train_function, set(vars(model.optimizer))) == found
