"""Nets that turn NaN in a known place, and their healthy twins."""

import json
import pathlib

import backend
import keras
import numpy as np
import pytest
from keras import ops

from kerascomp.callbacks import GradientNormMonitor, NaNDetective, WarmupCosine

BATCH, STEPS = 4, 6


class Log(keras.layers.Layer):
    def call(self, inputs):
        return ops.log(inputs)


class Root(keras.layers.Layer):
    """The square root, whose slope at 0 is infinite."""

    def call(self, inputs):
        return ops.sqrt(inputs)


class RootOfWeight(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(
            shape=(), initializer="zeros", name="scale"
        )

    def call(self, inputs):
        return inputs + ops.sqrt(self.scale)


def network(*middle, optimizer=None, **compile_arguments):
    """Returns a model whose first layer is the identity of 3 features."""
    inputs = keras.Input((3,))
    first = keras.layers.Dense(
        3, kernel_initializer="identity", name="first", trainable=False
    )
    hidden = first(inputs)
    for layer in middle:
        hidden = layer(hidden)
    outputs = keras.layers.Dense(2, name="out")(hidden)
    model = keras.Model(inputs, outputs)
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(optimizer, "mse", **compile_arguments)
    return model


def data(bad=None, row=18):
    """Positive numbers; one is `bad`, in the fifth of the six batches."""
    rng = np.random.default_rng(5)
    x = rng.uniform(1, 2, size=(BATCH * STEPS, 3)).astype("float32")
    y = rng.normal(size=(BATCH * STEPS, 2)).astype("float32")
    if bad is not None:
        x[row, 1] = bad
    return x, y


def caught(model, x, y=None, every=4, callbacks=(), **arguments):
    """Returns the detective of a fit that raised, and its files."""
    folder = pathlib.Path(arguments.pop("folder"))
    detective = NaNDetective(folder, every=every)
    settings = {"batch_size": BATCH} if y is not None else {}
    with pytest.raises(FloatingPointError, match="In epoch") as raised:
        model.fit(
            *([x] if y is None else [x, y]),
            callbacks=[detective, *callbacks],
            shuffle=False,
            verbose=0,
            **({"epochs": 2} | settings | arguments),
        )
    assert str(folder) in str(raised.value)
    found = json.loads((folder / "finding.json").read_text())
    assert found["kind"] == detective.finding.kind
    assert np.isfinite(model.get_weights()[0]).all()
    batch = dict(np.load(folder / "batch.npz"))
    return detective.finding, batch


def weights_after(model_maker, x, y, steps):
    """The weights of a twin that trained for some steps, and stopped."""
    keras.utils.set_random_seed(0)
    model = model_maker()
    if steps:
        rows = slice(0, BATCH * steps)
        model.fit(x[rows], y[rows], batch_size=BATCH, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("every", [1, 4, 100])
def test_names_the_layer_and_saves_what_reproduces_it(tmp_path, every):
    x, y = data(-1.0)
    # Dropout draws the same again; the norm of batches has weights of its own.
    make = lambda: network(
        keras.layers.Activation("linear", name="before"),
        Log(name="logarithm"),
        keras.layers.BatchNormalization(name="scale"),
        keras.layers.Dropout(0.3, name="noise"),
    )
    expected = weights_after(make, x, y, 4)
    keras.utils.set_random_seed(0)
    model = make()
    finding, batch = caught(
        *(model, x, y, every),
        folder=tmp_path,
        callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup", 3)],
    )
    assert (finding.epoch, finding.step) == (0, 4)
    assert (finding.kind, finding.layer) == ("output", "logarithm")
    assert (finding.nan, finding.infinite, finding.size) == (1, 0, 12)
    np.testing.assert_array_equal(batch["x"], x[16:20])
    np.testing.assert_array_equal(batch["y"], y[16:20])
    assert "sample_weight" not in batch
    # The model, and the file, have the weights before the step.
    twin = make()
    twin.load_weights(tmp_path / "weights.weights.h5")
    for got in (model.get_weights(), twin.get_weights()):
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    # Only the end of training would delete it.
    assert list((tmp_path / "backup").iterdir())


def test_healthy_training_is_left_alone(tmp_path):
    x, y = data()
    weights = {}
    for kind in ("plain", "observed"):
        keras.utils.set_random_seed(0)
        model = network(Log(), optimizer=keras.optimizers.Adam(0.05))
        detective = NaNDetective(tmp_path / "nothing", every=4)
        norms = GradientNormMonitor()
        rate = WarmupCosine(0.1, warmup_epochs=1)
        callbacks = [norms, rate] + [detective] * (kind == "observed")
        for _ in range(2):
            model.fit(
                *(x, y),
                batch_size=5,  # The last batch has 4.
                epochs=2,
                validation_data=(x, y),
                callbacks=callbacks,
                verbose=0,
            )
        weights[kind] = [*model.get_weights(), norms.history["grad_norm"]]
        assert not hasattr(model.train_function, "kerascomp_detective")
    for one, other in zip(*weights.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert detective.finding is None
    assert not (tmp_path / "nothing").exists()


def test_gradients_are_searched_backward(tmp_path):
    # 0 is no harm on the way there.
    x, y = data(0.0, row=2)
    scale = keras.layers.Dense(3, kernel_initializer="identity", name="scale")
    finding, _ = caught(
        network(scale, Root(name="root"), keras.layers.Activation("tanh")),
        *(x, y),
        folder=tmp_path / "input",
    )
    assert (finding.kind, finding.layer) == ("gradient", "root")
    assert finding.tensor == "the gradient by the input of root"
    finding, _ = caught(
        network(RootOfWeight(name="own")), *data(), folder=tmp_path / "weight"
    )
    assert (finding.kind, finding.layer, finding.step) == ("gradient", "own", 0)
    assert finding.tensor == "the gradient by own/scale"


def test_infinite_gradients_behind_clipping_are_seen(tmp_path):
    x, y = data(0.0)
    scale = keras.layers.Dense(3, kernel_initializer="identity", name="scale")
    optimizer = keras.optimizers.SGD(0.0, clipvalue=0.1)
    # Clipped, the weights stay finite, and all would go on.
    finding, _ = caught(
        network(scale, Root(name="root"), optimizer=optimizer),
        *(x, y),
        folder=tmp_path,
    )
    assert (finding.kind, finding.step) == ("gradient", 4)


def test_updates_are_looked_at_last(tmp_path):
    x, y = data()
    finding, _ = caught(
        network(optimizer=keras.optimizers.SGD(3e38)),
        *(x, 10 * y),
        folder=tmp_path,
        every=1,
    )
    assert (finding.kind, finding.layer, finding.step) == ("weight", "out", 0)
    assert "after the update" in finding.tensor
    assert finding.infinite > 0


@pytest.mark.parametrize("where", ["x", "y", "sample_weight", "loss"])
def test_data_and_loss_are_told_apart(tmp_path, where):
    x, y = data(np.nan if where == "x" else None)
    weight = np.ones(len(x))
    if where == "y":
        y[17, 0] = np.inf
    elif where == "sample_weight":
        weight[18] = np.nan
    elif where == "loss":
        y[17, 0] = 1e30  # Its square is beyond float32, its error is not.
    finding, batch = caught(
        *(network(), x, y), folder=tmp_path, sample_weight=weight
    )
    kinds = {
        "x": ("input", "the input data"),
        "y": ("target", "the targets"),
        "sample_weight": ("target", "the sample weights"),
        "loss": ("loss", "the loss"),
    }
    assert (finding.kind, finding.tensor) == kinds[where]
    assert (finding.step, finding.layer) == (4, "")
    assert batch["sample_weight"].shape == (4,)


@pytest.mark.parametrize("how", ["generator", "tf.data", "steps", "eager"])
def test_all_sources_and_ways_to_train(tmp_path, how):
    x, y = data(-1.0, row=22)  # In the last batch.
    options = {}
    if how == "eager":
        options = {"run_eagerly": True}
    elif how == "steps":
        if backend.NAME == "torch":
            pytest.skip("Keras: `steps_per_execution` must be 1 on torch")
        options = {"steps_per_execution": 4}
    model = network(Log(name="logarithm"), **options)
    batches = [
        (x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)
    ]
    source, targets = x, y
    if how == "generator":  # Of unknown length.
        source, targets = (batch for batch in batches), None
    elif how == "tf.data":
        tf = pytest.importorskip("tensorflow")
        source = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
        targets = None
    finding, batch = caught(
        *(model, source, targets), every=100, folder=tmp_path, epochs=1
    )
    assert (finding.layer, finding.step) == ("logarithm", 5)
    np.testing.assert_array_equal(batch["x"], x[20:])


class Unbuilt(keras.Model):
    """Fails in its own call, between two layers."""

    def __init__(self):
        super().__init__(name="whole")
        self.first = keras.layers.Dense(3, name="first")
        self.last = keras.layers.Dense(2, name="last")

    def call(self, inputs):
        hidden = ops.exp(1000.0 * self.first(inputs["a"]))
        return self.last(hidden) + inputs["b"]


def test_subclassed_models_with_several_inputs(tmp_path):
    rng = np.random.default_rng(0)
    inputs = {"a": rng.normal(size=(12, 5)), "b": rng.normal(size=(12, 2))}
    inputs["a"][:8] *= 1e-3
    model = Unbuilt()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    finding, batch = caught(model, inputs, inputs["b"], folder=tmp_path)
    # `first` is fine, so that it happened before `last` came to an end.
    assert (finding.kind, finding.layer) == ("output", "whole/last")
    assert finding.step == 2
    assert batch["x_0"].shape == (4, 5)
    assert batch["x_1"].shape == (4, 2)


def test_steps_that_loss_scaling_skips_are_no_mistake(tmp_path):
    x, y = data()
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=1e38
    )
    model = network(optimizer=scaled)
    detective = NaNDetective(tmp_path)
    model.fit(x, 100 * y, callbacks=[detective], verbose=0, epochs=2)
    assert detective.finding is None
    assert float(ops.convert_to_numpy(scaled.dynamic_scale)) < 1e38


def test_what_does_not_come_again_is_said(tmp_path):
    x, y = data()

    class Spoil(keras.callbacks.Callback):
        """Assigns a weight between two looks."""

        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                variable = self.model.trainable_variables[0]
                variable.assign(ops.full(variable.shape, np.nan))

    finding, _ = caught(network(), x, y, folder=tmp_path, callbacks=[Spoil()])
    assert (finding.kind, finding.step) == ("unknown", 0)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`every` must be an integer"):
        NaNDetective("folder", every=0)
