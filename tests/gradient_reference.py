"""A small model, its gradients by hand, and a float64 NumPy training run."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

SAMPLES, BATCH, EPOCHS = 16, 4, 2
STEPS = 4 * EPOCHS
WORDS, FEATURES = 7, 12
RATE = 0.3
NAMES = {
    "mlp": ["hidden/kernel", "hidden/bias", "out/kernel", "out/bias"],
    "embedding": [
        "words/embeddings",
        "hidden/kernel",
        "hidden/bias",
        "out/kernel",
        "out/bias",
    ],
}


def sgd(**arguments):
    return keras.optimizers.SGD(RATE, **arguments)


def scaled():
    # The scale grows twice in the course of the test.
    return keras.optimizers.LossScaleOptimizer(
        sgd(), initial_scale=2.0**12, dynamic_growth_steps=3
    )


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way to train, and what it changes in the reference."""

    optimizer: Callable = sgd
    compile: dict = dataclasses.field(default_factory=dict)
    clip: Callable = list
    micro_steps: int = 1
    out_rate: float = RATE
    kinds: tuple = ("mlp", "embedding")


def data(kind, samples=SAMPLES):
    rng = np.random.default_rng(3)
    # 4 of 7 words a sample, 4 samples a batch: every batch repeats some.
    x = (
        rng.integers(0, WORDS, (samples, 4)).astype("int32")
        if kind == "embedding"
        else rng.normal(size=(samples, FEATURES)).astype("float32")
    )
    return x, rng.normal(size=(samples, 2)).astype("float32")


def layers_of(kind):
    first = [
        keras.layers.Embedding(WORDS, 3, name="words"),
        keras.layers.Flatten(),
    ]
    return [
        *(first if kind == "embedding" else []),
        keras.layers.Dense(5, "tanh", bias_initializer="normal", name="hidden"),
        keras.layers.Dense(2, bias_initializer="normal", name="out"),
    ]


def build(kind):
    shape = (4,) if kind == "embedding" else (FEATURES,)
    inputs = outputs = keras.Input(shape)
    for layer in layers_of(kind):
        outputs = layer(outputs)
    model = keras.Model(inputs, outputs)
    if kind == "embedding":  # Its default is too close to 0.
        model.layers[1].set_weights(
            [np.random.default_rng(5).normal(size=(WORDS, 3))]
        )
    return model


def backpropagated(weights, x, y):
    """Returns the gradients of the mean squared error, by hand."""
    *words, w1, b1, w2, b2 = weights
    a = words[0][x].reshape(len(x), -1) if words else x.astype("float64")
    h = np.tanh(a @ w1 + b1)
    d_out = 2 * (h @ w2 + b2 - y) / y.size
    d_hidden = d_out @ w2.T * (1 - h**2)
    gradients = [a.T @ d_hidden, d_hidden.sum(0), h.T @ d_out, d_out.sum(0)]
    if words:
        d_words = np.zeros_like(words[0])
        np.add.at(d_words, x, (d_hidden @ w1.T).reshape(*x.shape, 3))
        gradients.insert(0, d_words)
    return gradients


@dataclasses.dataclass
class Step:
    """A step of training by hand; lists are by variable.

    Attributes:
        gradients: Of the batch.
        weights: Before the step.
        means: What was accumulated, None without an update.
        clipped: The same after clipping.
        updates: What was added to the weights.
    """

    gradients: list
    weights: list
    means: list | None = None
    clipped: list | None = None
    updates: list | None = None


def steps_by_hand(weights, x, y, mode=None, batch=BATCH, epochs=EPOCHS):
    """Trains in float64 and yields every step."""
    mode = mode or Mode()
    weights = [np.asarray(w, "float64") for w in weights]
    rates = [RATE] * (len(weights) - 2) + [mode.out_rate] * 2
    waiting = []
    for start in [*range(0, len(x), batch)] * epochs:
        part = slice(start, start + batch)
        step = Step(backpropagated(weights, x[part], y[part]), weights)
        waiting.append(step.gradients)
        step.updates = [0 * w for w in weights]
        if len(waiting) == mode.micro_steps:
            step.means = [np.mean(g, 0) for g in zip(*waiting, strict=True)]
            step.clipped = mode.clip(step.means)
            step.updates = [
                -r * g for r, g in zip(rates, step.clipped, strict=True)
            ]
            waiting = []
        weights = [w + u for w, u in zip(weights, step.updates, strict=True)]
        yield step


def reference(weights, x, y, mode=None, batch=BATCH, epochs=EPOCHS):
    """Returns each step's norms, `(steps, variables)`, training by hand."""
    steps = steps_by_hand(weights, x, y, mode, batch, epochs)
    return np.array(
        [[np.linalg.norm(g) for g in step.gradients] for step in steps]
    )


def norm(tensors):
    """Returns the norm of all elements of a list."""
    return np.sqrt(sum(np.sum(t**2) for t in tensors))


class Subclassed(keras.Model):
    """Has no variables before its first step on TensorFlow."""

    def __init__(self, kind):
        super().__init__(name="outer")
        self.parts = layers_of(kind)

    def call(self, inputs):
        for layer in self.parts:
            inputs = layer(inputs)
        return inputs


class InitialWeights(keras.callbacks.Callback):
    """Reads the weights where the model may only just have got them."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0 and not hasattr(self, "weights"):
            self.weights = self.model.get_weights()


# For training with a rate of 0.
STANDING = Mode(clip=lambda gradients: [0 * g for g in gradients])


def compiled(kind="mlp"):
    model = build(kind)
    model.compile(sgd(), "mse")
    return model


def fitted(model, x, y, callbacks, **arguments):
    arguments = {"batch_size": BATCH, "epochs": EPOCHS} | arguments
    return model.fit(
        x, y, shuffle=False, verbose=0, callbacks=callbacks, **arguments
    )


def assert_equals_reference(monitor, expected, names=None):
    # 1e-5: float32 forward, backward and updates of up to 8 steps.
    history = monitor.history
    np.testing.assert_array_equal(history["step"], np.arange(len(expected)))
    found = np.stack(list(history["variables"].values()), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        history["grad_norm"], np.linalg.norm(expected, axis=1), rtol=1e-5
    )
    if names:
        assert list(history["variables"]) == names


class Recorder(keras.callbacks.Callback):
    """Runs a function in the middle of training, and keeps the batch logs."""

    def __init__(self, function=lambda model: None, batch=2, epoch=1):
        super().__init__()
        self.function, self.at = function, (epoch, batch)
        self.batch_logs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.batch_logs.append(dict(logs))
        if (self.epoch, batch) == self.at:
            self.function(self.model)
