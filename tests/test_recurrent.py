"""The numbers of recurrent cells."""

import keras
import numpy as np
import pytest
import sequence_reference as reference

from kerascomp.layers import LayerNormLSTMCell, PeepholeLSTMCell

ops = keras.ops


def numbers(layer, x, **kwargs):
    return ops.convert_to_numpy(layer(x, **kwargs))


def run(cell, x):
    """What a cell gives at all steps, with random weights, and these."""
    layer = keras.layers.RNN(cell, return_sequences=True)
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    drawn = [rng.normal(size=w.shape).astype("float32") for w in cell.weights]
    cell.set_weights(drawn)
    return numbers(layer, x), {
        w.path.split("/", 1)[-1]: v.astype("float64")
        for w, v in zip(cell.weights, drawn, strict=True)
    }


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 6, 3)).astype("float32")


@pytest.mark.parametrize("carry", ["raw", "normalized"])
def test_layer_norm_equals_the_equations(x, carry):
    cell = LayerNormLSTMCell(4, carry=carry, epsilon=0.1)
    received, _ = run(cell, x)
    weights = [
        ops.convert_to_numpy(w).astype("float64")
        for w in (
            cell.kernel,
            cell.recurrent_kernel,
            cell.bias,
            cell.kernel_norm.gamma,
            cell.recurrent_norm.gamma,
            cell.state_norm.gamma,
            cell.state_norm.beta,
        )
    ]
    expected = reference.layer_norm_lstm(x, weights, 0.1, carry)
    np.testing.assert_allclose(received, expected, atol=5e-6)


def test_peepholes_equal_the_equations(x):
    cell = PeepholeLSTMCell(4)
    received, _ = run(cell, x)
    weights = [
        ops.convert_to_numpy(w).astype("float64")
        for w in (cell.kernel, cell.recurrent_kernel, cell.bias, cell.peepholes)
    ]
    expected = reference.peephole_lstm(x, weights)
    np.testing.assert_allclose(received, expected, atol=5e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"use_bias": False, "dropout": 0.5, "recurrent_activation": "relu"},
        {"dropout": 0.3, "recurrent_dropout": 0.4, "activation": "softsign"},
    ],
)
def test_without_peepholes_it_is_the_cell_of_keras(x, options):
    """Dropout included: the same masks, for all steps, from the same seed."""
    keras.utils.set_random_seed(2)
    ours = PeepholeLSTMCell(4, peephole_initializer="zeros", seed=5, **options)
    theirs = keras.layers.LSTMCell(4, seed=5, **options)
    layers = [
        keras.layers.RNN(c, return_sequences=True) for c in (ours, theirs)
    ]
    for layer in layers:
        layer.build(x.shape)
    count = len(theirs.weights)
    names = [w.name for w in theirs.weights]
    kept = [w for w in ours.weights if w.name in names]
    for mine, other in zip(kept, theirs.weights, strict=True):
        if "float" in mine.dtype:
            other.assign(mine)
    assert len(kept) == count
    for training in (False, True):
        a, b = (numbers(layer, x, training=training) for layer in layers)
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert np.abs(a - numbers(layers[0], x)).max() > 0.01


def test_masked_steps_are_skipped(x):
    layer = keras.layers.RNN(LayerNormLSTMCell(4))
    mask = np.array([[1, 1, 0, 1, 0, 0]] * 2, bool)
    np.testing.assert_allclose(
        numbers(layer, x, mask=mask), numbers(layer, x[:, [0, 1, 3]]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "`units` must be an integer"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        ({"recurrent_dropout": -0.1}, r"`recurrent_dropout` must be in"),
        ({"carry": "both"}, "`carry` must be one of"),
        ({"epsilon": 0}, r"`epsilon` must be in \(0, inf\)"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LayerNormLSTMCell(**{"units": 3, **options})


@pytest.mark.extended
@pytest.mark.parametrize("kind", [LayerNormLSTMCell, PeepholeLSTMCell])
def test_it_reads_digits_row_by_row(kind, tmp_path):
    """Better than a linear classifier of the rows' sum, which has no order."""
    datasets = pytest.importorskip("sklearn.datasets")
    linear_model = pytest.importorskip("sklearn.linear_model")
    images, y = datasets.load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype("float32") / 16
    train, test = slice(0, 900), slice(900, None)
    blind = linear_model.LogisticRegression(max_iter=1000)
    blind.fit(images[train].sum(1), y[train])
    baseline = blind.score(images[test].sum(1), y[test])
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.RNN(kind(24, dropout=0.1, recurrent_dropout=0.1)),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    model.fit(images[train], y[train], batch_size=30, epochs=4, verbose=0)
    accuracy = model.evaluate(images[test], y[test], verbose=0)[1]
    assert accuracy > baseline + 0.2
    model.save(tmp_path / "model.keras")
    twin = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        twin.predict(images[:5], verbose=0),
        model.predict(images[:5], verbose=0),
        atol=1e-6,
    )
