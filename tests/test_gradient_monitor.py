"""Gradient norms against a float64 NumPy reference, however one trains."""

import copy

import backend
import keras
import numpy as np
import pytest
from gradient_reference import (
    BATCH,
    EPOCHS,
    FEATURES,
    NAMES,
    RATE,
    STANDING,
    STEPS,
    InitialWeights,
    Mode,
    Recorder,
    Subclassed,
    assert_equals_reference,
    build,
    compiled,
    data,
    fitted,
    norm,
    reference,
    scaled,
    sgd,
    steps_by_hand,
)
from keras import ops

from kerascomp.callbacks import GradientNormMonitor


def multi():
    mapping = keras.optimizers.OptimizerMap(sgd())
    mapping["out/.*"] = keras.optimizers.SGD(RATE / 10)
    return keras.optimizers.MultiOptimizer(mapping)


def clipped_each(gradients):
    norms = [np.linalg.norm(g) for g in gradients]
    return [g * min(1, 0.1 / n) for g, n in zip(gradients, norms, strict=True)]


def clipped_together(gradients):
    return [g * min(1, 0.1 / norm(gradients)) for g in gradients]


def clipped_values(gradients):
    return [np.clip(g, -0.01, 0.01) for g in gradients]


JIT = {"jit_compile": True}
# On TensorFlow, Keras clips an embedding by a norm that does not sum the
# duplicate rows, so the weights leave the reference after one step. And it
# cannot divide an embedding's gradient by a `loss_scale_factor`.
DENSE = ("mlp",) if backend.NAME == "tensorflow" else ("mlp", "embedding")
MODES = {
    "plain": Mode(),
    "run_eagerly": Mode(compile={"run_eagerly": True}),
    "jit_compile": Mode(compile=JIT),
    "steps_per_execution": Mode(compile={"steps_per_execution": 3}),
    "steps_per_execution_jit": Mode(compile={"steps_per_execution": 3} | JIT),
    "clipnorm": Mode(lambda: sgd(clipnorm=0.1), clip=clipped_each, kinds=DENSE),
    "global_clipnorm": Mode(
        lambda: sgd(global_clipnorm=0.1), clip=clipped_together, kinds=DENSE
    ),
    "clipvalue": Mode(
        lambda: sgd(clipvalue=0.01), clip=clipped_values, kinds=DENSE
    ),
    "loss_scale_factor": Mode(
        lambda: sgd(loss_scale_factor=1024.0), kinds=DENSE
    ),
    "loss_scale_optimizer": Mode(scaled),
    "loss_scale_optimizer_jit": Mode(scaled, JIT),
    "accumulation": Mode(
        lambda: sgd(gradient_accumulation_steps=3), micro_steps=3
    ),
}
if hasattr(keras.optimizers, "MultiOptimizer"):  # New in Keras 3.15.
    MODES["multi_optimizer"] = Mode(multi, out_rate=RATE / 10)


def cases():
    for name, mode in MODES.items():
        for kind in mode.kinds:
            marks = []
            if backend.NAME == "torch":
                if "steps_per_execution" in mode.compile:
                    # Keras: "`steps_per_execution` must be 1 with the
                    # PyTorch backend."
                    continue
                if "jit_compile" in mode.compile:
                    marks = [pytest.mark.slow]  # Its compiler takes a minute.
            yield pytest.param(mode, kind, id=f"{name}-{kind}", marks=marks)


@pytest.mark.parametrize(("mode", "kind"), list(cases()))
def test_equals_hand_written_backpropagation(mode, kind):
    x, y = data(kind, samples=14)  # The last batch of an epoch has 2.
    model = build(kind)
    model.compile(mode.optimizer(), "mse", **mode.compile)
    expected = reference(model.get_weights(), x, y, mode)
    monitor = GradientNormMonitor()
    log = fitted(model, x, y, [monitor]).history
    assert_equals_reference(monitor, expected, NAMES[kind])
    total = np.linalg.norm(expected, axis=1).reshape(EPOCHS, -1)
    np.testing.assert_allclose(log["grad_norm"], total.mean(1), rtol=1e-5)
    np.testing.assert_allclose(log["grad_norm_max"], total.max(1), rtol=1e-5)
    assert monitor.nonfinite_steps == 0
    assert monitor.without_gradient == ()
    layers = monitor.history["layers"]
    assert list(layers) == list(
        dict.fromkeys(n.split("/")[0] for n in NAMES[kind])
    )
    np.testing.assert_allclose(
        layers["out"], np.linalg.norm(expected[:, -2:], axis=1), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("how", "scaling"),
    [({}, True), ({"run_eagerly": True}, False), (JIT, True)],
    ids=["plain", "run_eagerly", "jit_compile"],
)
def test_unbuilt_models_are_observed_from_their_first_step(how, scaling):
    if backend.NAME == "torch" and how == JIT:
        pytest.skip("torch.compile is covered by the slow cases")
    # With rate 0 the weights after a step are those before it.
    optimizer = keras.optimizers.SGD(0.0)
    if scaling:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    x, y = data("embedding")
    model = Subclassed("embedding")
    model.compile(optimizer, "mse", **how)
    monitor, initial = GradientNormMonitor(), InitialWeights()
    fitted(model, x, y, [monitor, initial], epochs=1)
    expected = reference(initial.weights, x, y, STANDING, epochs=1)
    names = [f"outer/{name}" for name in NAMES["embedding"]]
    assert_equals_reference(monitor, expected, names)


def test_mixed_precision_norms_are_unscaled():
    keras.config.set_dtype_policy("mixed_float16")
    x, y = data("embedding")
    model = compiled("embedding")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    expected = reference(model.get_weights(), x, y)
    monitor = GradientNormMonitor()
    fitted(model, x, y, [monitor])
    # float16 carries 11 bits, and 8 steps depend on each other.
    np.testing.assert_allclose(
        monitor.history["grad_norm"],
        np.linalg.norm(expected, axis=1),
        rtol=2e-2,
    )


def test_half_precision_gradients_are_squared_in_float32():
    inputs = keras.Input((16,), dtype="float16")
    layer = keras.layers.Dense(1, kernel_initializer="zeros", dtype="float16")
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    monitor = GradientNormMonitor()
    x, y = np.ones((1, 16), "float16"), np.full((1, 1), -100, "float16")
    fitted(model, x, y, [monitor], epochs=1)
    # Each gradient is 2 * 100 * 1; the sum of 17 squares, 680000, is far
    # beyond the largest float16, 65504.
    assert layer.kernel.dtype == "float16"
    np.testing.assert_allclose(
        monitor.history["grad_norm"], [200 * np.sqrt(17)], rtol=1e-6
    )


def test_large_layers_lose_no_digits():
    # A plain float32 sum of 4e6 squares loses the fifth digit.
    width = 2000
    rng = np.random.default_rng(4)
    x = rng.random((1, width), "float32")
    y = rng.random((1, width), "float32")
    inputs = keras.Input((width,))
    layer = keras.layers.Dense(
        width, use_bias=False, kernel_initializer="zeros"
    )
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    monitor = GradientNormMonitor()
    fitted(model, x, y, [monitor], epochs=1)
    # The gradient is the outer product of x and -2 y / width.
    x, y = x.astype("float64"), y.astype("float64")
    expected = np.linalg.norm(x) * np.linalg.norm(2 * y / width)
    np.testing.assert_allclose(
        monitor.history["grad_norm"], [expected], rtol=1e-6
    )


def generator(x, y):
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


@pytest.mark.parametrize("source", ["generator", "tf.data"])
def test_generators_and_datasets_are_observed(source):
    x, y = data("mlp")
    model = compiled()
    expected = reference(model.get_weights(), x, y, epochs=1)
    if source == "tf.data":
        tf = pytest.importorskip("tensorflow")
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    else:
        batches = generator(x, y)
    monitor = GradientNormMonitor()
    model.fit(batches, callbacks=[monitor], verbose=0)
    assert_equals_reference(monitor, expected)


def test_data_of_unknown_length_adds_no_steps():
    tf = pytest.importorskip("tensorflow")
    x, y = data("mlp")
    shapes = (None, FEATURES), (None, 2)
    batches = tf.data.Dataset.from_generator(
        lambda: generator(x, y),
        output_signature=tuple(tf.TensorSpec(shape) for shape in shapes),
    )
    model = compiled()
    expected = reference(model.get_weights(), x, y)
    monitor = GradientNormMonitor()
    # The end of the data is found by asking for one batch too many.
    model.fit(batches, epochs=EPOCHS, callbacks=[monitor], verbose=0)
    assert_equals_reference(monitor, expected)


def test_validation_adds_no_steps():
    x, y = data("mlp")
    model = compiled()
    expected = reference(model.get_weights(), x, y)
    monitor = GradientNormMonitor()
    fitted(model, x, y, [monitor], validation_data=(x, y))
    assert_equals_reference(monitor, expected)


def test_a_second_fit_starts_a_new_record():
    x, y = data("mlp")
    model = compiled()
    fitted(model, x, y, [])  # Compiles a step that knows of no monitor.
    monitor = GradientNormMonitor()
    for _ in range(2):
        expected = reference(model.get_weights(), x, y)
        fitted(model, x, y, [monitor])
        assert_equals_reference(monitor, expected)


def test_model_and_optimizer_are_left_as_found():
    x, y = data("mlp")
    model = build("mlp")
    model.compile(keras.optimizers.Adam(), "mse")
    fitted(model, x, y, [])
    before = {owner: dict(vars(owner)) for owner in (model, model.optimizer)}
    count = len(model.optimizer.variables)
    fitted(model, x, y, [GradientNormMonitor(), GradientNormMonitor()])
    assert len(model.optimizer.variables) == count
    assert set(vars(model)) == set(before[model])
    assert set(vars(model.optimizer)) == set(before[model.optimizer])
    # What was compiled before is found again, and not compiled anew.
    assert model.train_function is before[model]["train_function"]


def test_batch_logs_are_left_alone():
    x, y = data("mlp")
    model = build("mlp")
    model.compile(sgd(), "mse", metrics=["mae"])
    recorder = Recorder()
    log = fitted(model, x, y, [recorder, GradientNormMonitor()])
    assert all(set(logs) == {"loss", "mae"} for logs in recorder.batch_logs)
    assert list(log.history) == ["loss", "mae", "grad_norm", "grad_norm_max"]


def contents(path):
    """Returns all arrays of a weights file by name."""
    h5py = pytest.importorskip("h5py")
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return arrays


def test_files_saved_while_attached_are_the_same(tmp_path):
    x, y = data("embedding")
    found = {}
    for name in ("plain", "monitored"):
        keras.utils.clear_session()
        keras.utils.set_random_seed(7)
        model = build("embedding")
        model.compile(keras.optimizers.Adam(), "mse")
        monitors = [GradientNormMonitor()] if name == "monitored" else []
        whole, weights = (
            tmp_path / f"{name}.keras",
            tmp_path / f"{name}.weights.h5",
        )

        def save(model, whole=whole, weights=weights):
            model.save(whole)
            model.save_weights(weights)

        fitted(model, x, y, [*monitors, Recorder(save)])
        loaded = keras.saving.load_model(whole)
        state = [ops.convert_to_numpy(v) for v in loaded.optimizer.variables]
        found[name] = contents(weights), loaded.to_json(), state
    assert found["plain"][0].keys() == found["monitored"][0].keys()
    for key, value in found["plain"][0].items():
        np.testing.assert_allclose(found["monitored"][0][key], value, rtol=1e-6)
    assert found["plain"][1] == found["monitored"][1]
    assert found["plain"][2][0] == 7  # Steps that Adam had made.
    for one, other in zip(
        found["plain"][2], found["monitored"][2], strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-9)


def test_copies_of_the_optimizer_are_ordinary_optimizers():
    x, y = data("mlp")
    model = compiled()
    copies = []
    recorder = Recorder(
        lambda model: copies.append(copy.deepcopy(model.optimizer))
    )
    monitor = GradientNormMonitor()
    fitted(model, x, y, [monitor, recorder])
    variable = keras.Variable([1.0])
    copies[0].build([variable])
    copies[0].apply([ops.ones((1,))])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), [1 - RATE])
    assert len(monitor.history["step"]) == STEPS


def test_two_monitors_share_one_probe_and_see_the_same():
    x, y = data("mlp")
    model = compiled()
    expected = reference(model.get_weights(), x, y)
    every_step, every_third = (
        GradientNormMonitor(),
        GradientNormMonitor(every=3),
    )
    # One leaves early; the other goes on.
    recorder = Recorder(lambda model: every_third.detach(), batch=1)
    fitted(model, x, y, [every_step, every_third, recorder])
    assert_equals_reference(every_step, expected)
    np.testing.assert_array_equal(every_third.history["step"], [0, 3])
    np.testing.assert_allclose(
        every_third.history["grad_norm"],
        every_step.history["grad_norm"][[0, 3]],
    )


def test_only_every_third_step_is_recorded():
    x, y = data("mlp")
    model = compiled()
    expected = reference(model.get_weights(), x, y)
    monitor = GradientNormMonitor(every=3)
    log = fitted(model, x, y, [monitor]).history
    total = np.linalg.norm(expected, axis=1)
    np.testing.assert_array_equal(monitor.history["step"], [0, 3, 6])
    np.testing.assert_allclose(
        monitor.history["grad_norm"], total[[0, 3, 6]], rtol=1e-5
    )
    # The first epoch has steps 0 to 3, the second 4 to 7.
    np.testing.assert_allclose(
        log["grad_norm"], [total[[0, 3]].mean(), total[6]], rtol=1e-5
    )


def test_an_epoch_without_recorded_steps_logs_nan():
    x, y = data("mlp")
    model = compiled()
    log = fitted(model, x, y, [GradientNormMonitor(every=6)], epochs=3).history
    # Steps 0 and 6 are in the first two of the epochs of 4 steps.
    np.testing.assert_array_equal(np.isnan(log["grad_norm"]), [0, 0, 1])
    np.testing.assert_array_equal(np.isnan(log["grad_norm_max"]), [0, 0, 1])


def test_without_per_layer_only_the_whole_norm_is_kept():
    x, y = data("mlp")
    model = compiled()
    monitor = GradientNormMonitor(per_layer=False)
    fitted(model, x, y, [monitor])
    assert set(monitor.history) == {"step", "grad_norm"}
    assert len(monitor.history["grad_norm"]) == STEPS


class HalfUsed(keras.layers.Layer):
    """Has a weight that the output does not depend on."""

    def build(self, input_shape):
        self.spare = self.add_weight(shape=(3,), name="spare")
        self.factor = self.add_weight(
            shape=(), initializer="ones", name="factor"
        )

    def call(self, inputs):
        return inputs * self.factor


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_without_gradient_do_not_spoil_the_others():
    x, y = data("mlp")
    plain = build("mlp")
    outputs = HalfUsed(name="half")(plain.output)
    model = keras.Model(plain.input, outputs)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    weights = plain.get_weights()
    monitor = GradientNormMonitor()
    fitted(model, x[:BATCH], y[:BATCH], [monitor], epochs=1)
    h = np.tanh(x[:BATCH].astype("float64") @ weights[0] + weights[1])
    out = h @ weights[2] + weights[3]
    # Derivative of the loss by the factor that multiplies the output.
    factor = np.sum(2 * (out - y[:BATCH]) * out) / out.size
    others = reference(weights, x[:BATCH], y[:BATCH], epochs=1)
    history = monitor.history
    np.testing.assert_allclose(
        history["grad_norm"],
        np.hypot(np.linalg.norm(others), factor),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        history["layers"]["half"], [abs(factor)], rtol=1e-5
    )
    spare = history["variables"]["half/spare"]
    if backend.NAME == "jax":  # It has no missing gradients, but zeros.
        assert monitor.without_gradient == ()
        np.testing.assert_array_equal(spare, [0])
    else:
        assert monitor.without_gradient == ("half/spare",)
        np.testing.assert_array_equal(spare, [np.nan])
    assert monitor.nonfinite_steps == 0


@pytest.mark.parametrize("every", [1, 2])
def test_nonfinite_steps_are_counted_and_left_out_of_the_mean(every):
    x, y = data("mlp")
    y = y.copy()
    y[5] = np.nan  # In the second batch of each epoch.
    model = build("mlp")
    # This optimizer skips such steps, so that the others stay finite.
    model.compile(keras.optimizers.LossScaleOptimizer(sgd(), 64.0), "mse")
    monitor = GradientNormMonitor(every=every)
    log = fitted(model, x, y, [monitor]).history
    # Of every second step, none is bad: it is not even computed.
    assert monitor.nonfinite_steps == (EPOCHS if every == 1 else 0)
    assert monitor.skipped_steps == monitor.nonfinite_steps
    norms = monitor.history["grad_norm"]
    bad = np.isin(monitor.history["step"], [1, 5])
    np.testing.assert_array_equal(np.isnan(norms), bad)
    np.testing.assert_allclose(
        np.mean(log["grad_norm"]), norms[~bad].mean(), rtol=1e-6
    )
    np.testing.assert_allclose(
        max(log["grad_norm_max"]), norms[~bad].max(), rtol=1e-6
    )


def clipped_loosely(gradients):
    """Leaves some steps as they are."""
    return [g * min(1, 2.5 / norm(gradients)) for g in gradients]


ACCUMULATING = {"gradient_accumulation_steps": 3}
CLIPPING = {
    "norm of each": Mode(lambda: sgd(clipnorm=0.1), clip=clipped_each),
    "norm of all, accumulating": Mode(
        lambda: sgd(global_clipnorm=2.5, **ACCUMULATING),
        clip=clipped_loosely,
        micro_steps=3,
    ),
    "value, accumulating, scaled": Mode(
        lambda: keras.optimizers.LossScaleOptimizer(
            sgd(clipvalue=0.01, **ACCUMULATING), initial_scale=64.0
        ),
        clip=clipped_values,
        micro_steps=3,
    ),
}


@pytest.mark.parametrize("name", CLIPPING)
def test_clipping_is_counted_at_updates(name):
    mode = CLIPPING[name]
    x, y = data("mlp")
    model = build("mlp")
    model.compile(mode.optimizer(), "mse")
    steps = list(steps_by_hand(model.get_weights(), x, y, mode))
    groups = {"first": "hidden", "last": ["out", "hidden/bias"]}
    monitor = GradientNormMonitor(groups=groups)
    log = fitted(model, x, y, [monitor]).history
    expected = np.array(
        [
            np.nan if s.means is None else norm(s.clipped) / norm(s.means)
            for s in steps
        ]
    )
    history = monitor.history
    np.testing.assert_allclose(history["clip_factor"], expected, rtol=1e-5)
    factors = np.split(expected, EPOCHS)[-1]
    factors = factors[np.isfinite(factors)]
    clipped = factors[factors < 1]
    np.testing.assert_allclose(
        [log["clipped_fraction"][-1], log["clip_factor"][-1]],
        [len(clipped) / len(factors), np.mean([*clipped] or [1])],
        rtol=1e-5,
    )
    for group, places in (("first", [0, 1]), ("last", [1, 2, 3])):
        norms = [norm([s.gradients[n] for n in places]) for s in steps]
        np.testing.assert_allclose(history["groups"][group], norms, rtol=1e-5)
        mean = np.split(np.array(norms), EPOCHS)[-1].mean()
        np.testing.assert_allclose(
            log[f"grad_norm_{group}"][-1], mean, rtol=1e-5
        )


def test_optimizers_that_do_not_clip_have_no_clip_factor():
    x, y = data("mlp")
    monitor = GradientNormMonitor()
    log = fitted(compiled(), x, y, [monitor], epochs=1).history
    assert "clip_factor" not in monitor.history
    assert list(log) == ["loss", "grad_norm", "grad_norm_max"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"none": "decoder"}, "No trainable variable belongs to the group"),
        ({"bad": "("}, "must be a regular expression"),
        ({"bad": [1]}, "must be a regular expression"),
        ({}, "must be a dictionary"),
        ("hidden", "must be a dictionary"),
    ],
)
def test_bad_groups_are_refused_before_training(groups, message):
    x, y = data("mlp")
    model = compiled()
    with pytest.raises(ValueError, match=message):
        fitted(model, x, y, [GradientNormMonitor(groups=groups)])
    assert not hasattr(model.train_function, "kerascomp_probe")
