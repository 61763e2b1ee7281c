"""Truncated backpropagation through time in plain `fit`."""

import keras
import numpy as np
import pytest
import sequence_reference as reference

from kerascomp.callbacks import ResetStates
from kerascomp.datasets import SequenceChunks

RATE = 0.5


@pytest.fixture
def series(rng):
    """Six sequences of twelve steps, with a target at each step."""
    x = rng.normal(size=(6, 12, 2)).astype("float32")
    y = np.stack([np.cumsum(x[..., 0], 1), np.roll(x[..., 1], 3, 1)], -1)
    return x, y.astype("float32")


def model_of(time, batch_size=None, depth=1):
    """A recurrent model, stateful if it is given a batch size."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.SimpleRNN(
            4, return_sequences=True, stateful=batch_size is not None
        )
        for _ in range(depth)
    ]
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(batch_size, time, 2)),
            *layers,
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.SGD(RATE), "mse")
    return model


def assert_same(received, expected):
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_gradients_end_where_chunks_begin_and_states_go_on(series):
    x, y = series
    chunks = SequenceChunks(x, y, length=4, batch_size=3)
    assert (len(chunks), chunks.chunks) == (6, 3)
    model = model_of(4, 3)
    weights = [w.astype("float64") for w in model.get_weights()[:5]]
    validation = SequenceChunks(x, y, length=4, batch_size=3)
    history = model.fit(
        chunks,
        epochs=2,
        shuffle=False,
        validation_data=validation,
        callbacks=[ResetStates(every=chunks.chunks)],
        verbose=0,
    )
    for _ in range(2):
        for rows in (slice(0, 3), slice(3, 6)):
            state = np.zeros((3, 4))
            for steps in (slice(0, 4), slice(4, 8), slice(8, 12)):
                weights, state = reference.truncated_step(
                    weights, state, x[rows, steps], y[rows, steps], RATE
                )
    received = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    assert_same(received, weights)
    # In validation, too, the states go on, from 0 for each sequence.
    whole = model_of(12)
    whole.set_weights(received)
    expected = whole.evaluate(x, y, batch_size=3, verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(expected, 1e-5)
    reset = ResetStates(every=chunks.chunks)
    parts = model.predict(chunks, callbacks=[reset], verbose=0)
    parts = parts.reshape(2, 3, 3, 4, 2).swapaxes(1, 2).reshape(6, 12, 2)
    np.testing.assert_allclose(parts, whole.predict(x, verbose=0), atol=1e-5)


def test_chunks_as_long_as_the_sequences_are_full_backpropagation(series):
    x, y = series
    chunks = SequenceChunks(x, y, 12, 3, sample_weight=np.ones((6, 12)))
    assert [each.shape for each in chunks[1]] == [(3, 12, 2)] * 2 + [(3, 12)]
    model, twin = model_of(12, 3, depth=2), model_of(12, depth=2)
    model.fit(
        chunks, epochs=2, shuffle=False, callbacks=[ResetStates(1)], verbose=0
    )
    twin.fit(x, y, batch_size=3, epochs=2, shuffle=False, verbose=0)
    assert_same(
        *(
            [keras.ops.convert_to_numpy(w) for w in each.trainable_weights]
            for each in (model, twin)
        )
    )


def test_shuffled_chunks_are_refused(series):
    chunks = SequenceChunks(*series, length=1, batch_size=2)
    model = model_of(1, 2)
    # TensorFlow wraps it into an error of its own.
    with pytest.raises(Exception, match="shuffle=False"):
        model.fit(chunks, callbacks=[ResetStates(12)], verbose=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 5}, r"`length` must divide the 12"),
        ({"batch_size": 4}, r"`batch_size` must divide the 6"),
        ({"length": 0}, r"`length` must be an integer of at least 1"),
        ({"y": np.zeros((6, 11))}, r"y\.shape=\(6, 11\)"),
        ({"sample_weight": np.ones(6)}, r"sample_weight\.shape=\(6,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(series, change, message):
    x, y = series
    arguments = {"x": x, "y": y, "length": 4, "batch_size": 3}
    with pytest.raises(ValueError, match=message):
        SequenceChunks(**{**arguments, **change})


def test_states_that_cannot_be_reset_are_refused(series):
    x, y = series
    with pytest.raises(ValueError, match="`every` must be an integer"):
        ResetStates(0)
    with pytest.raises(ValueError, match="with `stateful=True`"):
        model_of(12).fit(x, y, callbacks=[ResetStates(1)], verbose=0)
    model = model_of(12, 3)
    model.compile("sgd", "mse", steps_per_execution=2)
    with pytest.raises(ValueError, match="steps_per_execution=2"):
        model.fit(x, y, batch_size=3, callbacks=[ResetStates(3)], verbose=0)
