"""Regularizers on models that exist already."""

import keras
import numpy as np
import pytest

from kerascomp.regularizers import GroupLasso, ScaledL2, apply

ops = keras.ops
layers = keras.layers


def of_all_kinds():
    """A model with weights under many names and in nested layers."""
    inputs = keras.Input((8, 6))
    x = layers.Conv1D(4, 3, name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.SeparableConv1D(3, 2, name="separable")(x)
    x = layers.DepthwiseConv1D(2, name="depthwise")(x)
    x = layers.PReLU(name="slope")(x)
    x = layers.TimeDistributed(layers.Dense(5, name="inner"), name="each")(x)
    x = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    x = layers.Bidirectional(layers.GRU(2), name="both")(x)
    head = [keras.Input((4,)), layers.Dense(3, name="out")]
    return keras.Model(inputs, keras.Sequential(head, name="head")(x))


KERNELS = [
    "conv/kernel",
    "separable/depthwise_kernel",
    "separable/pointwise_kernel",
    "depthwise/kernel",
    "each/inner/kernel",
    "lstm/lstm_cell/kernel",
    "lstm/lstm_cell/recurrent_kernel",
    "both/forward_gru/gru_cell/kernel",
    "both/forward_gru/gru_cell/recurrent_kernel",
    "both/backward_gru/gru_cell/kernel",
    "both/backward_gru/gru_cell/recurrent_kernel",
    "head/out/kernel",
]


def small():
    inputs = x = keras.Input((3,))
    for layer in (
        layers.Dense(4, name="hidden"),
        layers.LayerNormalization(name="norm"),
        layers.Dense(2, name="out"),
    ):
        x = layer(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    return model


def total(model):
    return sum(float(ops.convert_to_numpy(loss)) for loss in model.losses)


def squares(model, *paths):
    return sum(
        np.sum(np.square(ops.convert_to_numpy(w).astype("float64")))
        for w in model.weights
        if w.path in paths
    )


def test_all_kernels_and_nothing_else_by_default():
    model = of_all_kinds()
    done = apply(model, {".*": keras.regularizers.L2(0.5)})
    assert list(done) == KERNELS
    assert len(model.losses) == len(KERNELS)
    assert total(model) == pytest.approx(
        0.5 * squares(model, *KERNELS), rel=1e-5
    )


def test_penalties_survive_saving(tmp_path):
    model = of_all_kinds()
    done = apply(model, {".*": GroupLasso(0.5, axis=-2)}, normalization=False)
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    assert len(twin.losses) == len(done) == len(KERNELS)
    assert total(twin) == pytest.approx(total(model), rel=1e-6)


def test_biases_and_normalization_on_demand():
    model = small()
    kernels = ["hidden/kernel", "out/kernel"]
    assert [*apply(model, {".*": "l2"})] == kernels
    done = apply(model, {".*": "l2"}, biases=True)
    assert {*done} == {*kernels, "hidden/bias", "out/bias"}
    done = apply(small(), {".*": "l2"}, normalization=True)
    assert {*done} == {*kernels, "norm/gamma", "norm/beta"}


def test_the_first_rule_that_selects_a_weight_decides():
    model = small()
    first, second = ScaledL2(2.0, 1), ScaledL2(6.0, 1)
    done = apply(model, {"^out/": first, layers.Dense: second})
    assert done == {"hidden/kernel": second, "out/kernel": first}
    assert model.get_layer("hidden").kernel_regularizer is second
    expected = 3 * squares(model, "hidden/kernel")
    expected += squares(model, "out/kernel")
    assert total(model) == pytest.approx(expected, rel=1e-5)


def test_replaces_and_removes():
    model = small()
    apply(model, {layers.Dense: "l1"})
    done = apply(model, {"^out/": None, "^hidden/": ScaledL2(2.0, 1)})
    assert done["out/kernel"] is None
    assert total(model) == pytest.approx(
        squares(model, "hidden/kernel"), rel=1e-5
    )


def test_a_compiled_model_trains_with_the_penalty_from_then_on():
    model = small()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = np.ones((4, 3)), np.zeros((4, 2))
    before = model.train_on_batch(x, y)
    assert model.test_on_batch(x, y) == pytest.approx(before, rel=1e-6)
    apply(model, {layers.Dense: ScaledL2(2.0, 1)})
    added = squares(model, "hidden/kernel", "out/kernel")
    model.reset_metrics()  # Keras 3.14 averages over calls.
    assert model.train_on_batch(x, y) == pytest.approx(before + added, rel=1e-5)
    assert model.test_on_batch(x, y) == pytest.approx(before + added, rel=1e-5)


def test_embeddings_are_kernels_and_shared_layers_count_once():
    words = layers.Embedding(7, 3, name="words")
    inputs = keras.Input((2,)), keras.Input((4,))
    model = keras.Model(
        inputs, [layers.Flatten()(words(each)) for each in inputs]
    )
    done = apply(model, {layers.Embedding: ScaledL2(2.0, 1)})
    assert list(done) == ["words/embeddings"]
    assert len(model.losses) == 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "`rules` must be a dictionary .* not empty"),
        ([("out", "l2")], "`rules` must be a dictionary"),
        ({"(": "l2"}, "layer class or a regular expression"),
        ({3: "l2"}, "layer class or a regular expression"),
        ({str: "l2"}, "layer class or a regular expression"),
        ({"out/kernel": "l3"}, "l3"),
        ({"convolution": "l2"}, r"are \['hidden/kernel', 'out/kernel'\]"),
        ({layers.Conv2D: "l2"}, "Received: rule 'Conv2D'"),
        ({"out/bias": "l2"}, r"only weights of the kinds \['bias'\]"),
        ({"norm": "l2"}, r"only weights of the kinds \['normalization'\]"),
        ({layers.Dense: "l2", "out": "l1"}, "more special rule first"),
    ],
)
def test_refuses_rules_that_select_nothing(rules, message):
    model = small()
    with pytest.raises(ValueError, match=message):
        apply(model, rules)
    assert model.losses == []


def test_refuses_models_without_weights_yet():
    with pytest.raises(ValueError, match="`model` must be built"):
        apply(keras.Sequential([layers.Dense(2)]), {".*": "l2"})


def test_refuses_what_would_be_lost_and_changes_nothing():
    inputs = keras.Input((5, 4))
    x = layers.Dense(4, name="dense", kernel_regularizer="l1")(inputs)
    outputs = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    model = keras.Model(inputs, outputs)
    before = total(model)
    with pytest.raises(ValueError, match=r"Received: \['attention/query/ker"):
        apply(model, {".*": ScaledL2(2.0, 1)})
    assert total(model) == before
    assert isinstance(
        model.get_layer("dense").kernel_regularizer, keras.regularizers.L1
    )
    assert [*apply(model, {layers.Dense: "l2"})] == ["dense/kernel"]


class Subclassed(keras.Model):
    """Makes its layers anew when it is loaded."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_refuses_subclasses_that_make_their_layers_themselves():
    model = Subclassed()
    model(np.ones((2, 3)))
    with pytest.raises(ValueError, match="does not keep them in its config"):
        apply(model, {layers.Dense: "l2"})
    assert model.losses == []
