import gradient_reference as small
import keras
import numpy as np
import pytest

from kerascomp import callbacks

EPOCHS, FACTOR = 3, 2.0


def reference(weights, x, y):
    """Trains by hand; returns the weights after each epoch, and the norms."""
    weights, found, norms = [np.float64(w) for w in weights], [], []
    for epoch in range(EPOCHS):
        below = small.RATE / FACTOR if epoch else 0
        rates = [below, below, small.RATE, small.RATE]
        for start in range(0, len(x), small.BATCH):
            part = slice(start, start + small.BATCH)
            gradients = small.backpropagated(weights, x[part], y[part])
            norms.append([np.linalg.norm(g) for g in gradients])
            weights = [
                w - r * g
                for w, r, g in zip(weights, rates, gradients, strict=True)
            ]
        found.append(weights)
    return found, np.array(norms)


class Epochs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


@pytest.mark.parametrize("monitored_first", [False, True])
def test_groups_thaw_in_turn_at_rates_of_their_own(monitored_first):
    x, y = small.data("mlp")
    model = small.compiled()
    before = model.get_weights()
    monitor, epochs = callbacks.GradientNormMonitor(), Epochs()
    given = [
        callbacks.GradualUnfreezing(["out", "hidden"], [0, 1], FACTOR),
        monitor,
    ]
    if monitored_first:
        given.reverse()
    small.fitted(model, x, y, [*given, epochs], epochs=EPOCHS)
    for old, new in zip(before[:2], epochs.weights[0][:2], strict=True):
        np.testing.assert_array_equal(old, new)
    expected, norms = reference(before, x, y)
    for found, wanted in zip(epochs.weights, expected, strict=True):
        for one, other in zip(found, wanted, strict=True):
            # Float32 updates of 12 steps.
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)
    small.assert_equals_reference(monitor, norms)
    assert int(model.optimizer.iterations) == len(norms)
    trained = model.get_weights()
    small.fitted(model, x, y, [], epochs=1)
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(trained, model.get_weights(), strict=True)
    ]
    assert all(moved)


def with_normalization():
    model = keras.Sequential(
        [
            keras.Input((small.FEATURES,)),
            keras.layers.Dense(3, name="low"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(2, name="high"),
        ]
    )
    # Momentum and decay would move weights without a gradient.
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.1), "mse")
    return model


def test_frozen_normalization_infers_and_keeps_its_statistics():
    x, y = small.data("mlp")
    model = with_normalization()
    expected = model.evaluate(x, y, batch_size=len(x), verbose=0)
    before = model.get_weights()
    thaw = callbacks.GradualUnfreezing(["high"])
    history = small.fitted(model, x, y, [thaw], batch_size=len(x), epochs=1)
    # The loss of the only step is that of the moving statistics.
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)
    for old, new in zip(before[:6], model.get_weights()[:6], strict=True):
        np.testing.assert_array_equal(old, new)
    assert "call" not in vars(model.get_layer("norm"))
    small.fitted(model, x, y, [], epochs=1)
    for old, new in zip(before[:6], model.get_weights()[:6], strict=True):
        assert not np.array_equal(old, new)


def test_layers_are_groups_unless_others_are_given():
    x, y = small.data("mlp")
    model, epochs = with_normalization(), Epochs()
    before = model.get_weights()
    thaw = callbacks.GradualUnfreezing()
    small.fitted(model, x, y, [thaw, epochs], epochs=3)
    moved = [
        [np.array_equal(a, b) for a, b in zip(before, w, strict=True)]
        for w in epochs.weights
    ]
    assert moved == [
        [True] * 6 + [False] * 2,
        [True] * 2 + [False] * 6,
        [False] * 8,
    ]


def test_goes_on_after_an_interruption_or_without_it():
    x, y = small.data("mlp")
    model = small.compiled()
    before = model.get_weights()
    thaw = callbacks.GradualUnfreezing(["out"])

    def interrupt(model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small.fitted(
            model, x, y, [thaw, small.Recorder(interrupt, batch=1, epoch=0)]
        )
    thaw.restore()
    small.fitted(model, x, y, [])
    for old, new in zip(before, model.get_weights(), strict=True):
        assert not np.array_equal(old, new)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 0}, "`factor`"),
        ({"groups": []}, "at least one group"),
        ({"groups": "out"}, "at least one group"),
        ({"unfreeze_epochs": [1, 0]}, "must not fall"),
        ({"unfreeze_epochs": [-1]}, "`unfreeze_epochs`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        callbacks.GradualUnfreezing(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": ["out", "hid"]}, "Received: 'hid'"),
        ({"groups": ["out", "kernel"]}, "must be in one of the `groups`"),
        ({"groups": ["out"], "unfreeze_epochs": [0, 1]}, "one epoch for each"),
        ({"groups": ["out"], "unfreeze_epochs": [2]}, "before training ends"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_training(
    arguments, message
):
    x, y = small.data("mlp")
    model = small.compiled()
    with pytest.raises(ValueError, match=message):
        small.fitted(model, x, y, [callbacks.GradualUnfreezing(**arguments)])
    assert int(model.optimizer.iterations) == 0


def test_a_model_without_weights_is_refused():
    model = small.Subclassed("mlp")
    model.built = False
    thaw = callbacks.GradualUnfreezing(["out"])
    thaw.set_model(model)
    with pytest.raises(ValueError, match="Build it"):
        thaw.on_train_begin()
