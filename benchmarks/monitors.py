"""What it costs to watch a training run.

Plain `fit`, `fit` with one monitor or several, and `fit` with a callback that
computes the gradients once more after every batch, compiled, as is usual, take
turns, some steps each, in random order. Taking turns, they share whatever else
the machine does. What an epoch takes is the sum of its turns, its end
included. The ratio is the median over the epochs of that to plain in the same
epoch, of the time by the clock, and of the time that all the process' threads
computed, which other programs on the machine disturb less. Monitors measure as
often as they do if not told, unless their line says otherwise.

    python benchmarks/monitors.py [--batch 32] [--arms "update ratios"]
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import random
import re
import statistics
import subprocess
import sys
import threading
import time

PLAIN, SECOND_PASS = "plain", "second backward pass"
# Each with the callbacks for a batch like these; a new monitor is a new line.
MONITORS = {
    "gradient norms": lambda c, _: [c.GradientNormMonitor()],
    "gradient flow": lambda c, _: [c.GradientFlowMonitor()],
    "update ratios": lambda c, _: [c.UpdateRatioMonitor()],
    "update ratios, every step": lambda c, _: [c.UpdateRatioMonitor(every=1)],
    "noise scale": lambda c, x: [c.GradientNoiseScale(len(x))],
    "noise scale, every step": lambda c, x: [
        c.GradientNoiseScale(len(x), every=1)
    ],
    "activations": lambda c, x: [c.ActivationMonitor(x)],
    "learning rate": lambda c, _: [c.LearningRateLogger()],
    "default set": lambda c, x: [
        c.GradientNormMonitor(),
        c.UpdateRatioMonitor(),
        c.ActivationMonitor(x),
        c.LearningRateLogger(),
    ],
}


def main():
    """Measures each backend in a process of its own, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", default="tensorflow,jax")
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--arms", default=",".join([*MONITORS, SECOND_PASS]))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400, help="in an epoch")
    parser.add_argument("--turn", type=int, default=10, help="steps in a turn")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    models = arguments.models.split(",")
    arguments.arms = [PLAIN, *re.split(r",(?! )", arguments.arms)]
    if arguments.child:
        results = [measure(m, arguments) for m in models]
        print(json.dumps({"version": versions(), "results": results}))
        return
    lines = []
    for backend in arguments.backends.split(","):
        found = run_child(backend)
        lines.append((found["version"], found["results"]))
    print_table(lines, arguments)


def run_child(backend):
    """Measures in a process of its own: a process has one backend."""
    process = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--child"],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.strip().splitlines()[-1])


def print_table(lines, arguments):
    """Prints the machine and one line an arm."""
    processor = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text())
        processor = names[0] if names else processor
    print(
        f"{processor}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    )
    print(
        f"Batches of {arguments.batch}, epochs of {arguments.steps} steps, "
        f"turns of {arguments.turn}, medians of {arguments.epochs} epochs; in "
        "brackets, the middle half of the ratios."
    )
    row = "{:30} {:5} {:24} {:>8} {:>6} {:16} {:>9}"
    titles = ("backend", "model", "arm", "ms/step", "ratio", "", "CPU ratio")
    print(row.format(*titles))
    for version, results in lines:
        for result in results:
            for arm in arguments.arms:
                low, ratio, high = result["ratio"][arm]
                print(
                    row.format(
                        version,
                        result["model"],
                        arm,
                        f"{result['milliseconds'][arm]:.2f}",
                        f"{ratio:.3f}",
                        f"[{low:.3f}, {high:.3f}]",
                        f"{result['processor ratio'][arm][1]:.3f}",
                    )
                )


def versions():
    """Returns the backend and Keras with their versions."""
    import importlib.metadata

    import keras

    backend = keras.backend.backend()
    packages = {"tensorflow": ("tensorflow", "tensorflow_cpu")}
    for package in packages.get(backend, (backend,)):
        try:
            version = importlib.metadata.version(package)
            return f"{backend} {version}, keras {keras.__version__}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return backend


def measure(name, arguments):
    """Trains one model in all arms by turns, and returns times and ratios."""
    import numpy as np

    batch, steps = arguments.batch, arguments.steps
    rng = np.random.default_rng(0)
    shape = {"mlp": (784,), "cnn": (28, 28, 1)}[name]
    x = rng.normal(size=(steps * batch, *shape)).astype("float32")
    y = rng.integers(0, 10, len(x))
    turns = Turns(arguments)
    threads = []
    for arm in arguments.arms:
        model = build(name)
        own = callbacks_of(arm, model, x[:batch], y[:batch])
        options = {
            "batch_size": batch,
            "epochs": turns.epochs,
            "verbose": 0,
            "callbacks": [*own, turns.callback(arm)],
        }
        threads.append(
            threading.Thread(target=model.fit, args=(x, y), kwargs=options)
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "model": name,
        "milliseconds": {
            arm: 1e3 * statistics.median(seconds) / steps
            for arm, seconds in turns.seconds.items()
        },
        "ratio": ratios(turns.seconds),
        "processor ratio": ratios(turns.processor_seconds),
    }


def callbacks_of(arm, model, x, y):
    """Returns what an arm adds to a plain `fit`."""
    from kerascomp import callbacks

    if arm in MONITORS:
        return MONITORS[arm](callbacks, x)
    return [second_pass(model, x, y)] if arm == SECOND_PASS else []


def ratios(seconds):
    """Returns the quartiles of the ratios to plain in the same round."""
    return {
        arm: statistics.quantiles(
            [s / p for s, p in zip(each, seconds[PLAIN], strict=True)], n=4
        )
        for arm, each in seconds.items()
    }


def build(name):
    """Returns a compiled model."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    body = {
        "mlp": [layers.Dense(512, "relu") for _ in range(4)],
        "cnn": [
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, "relu"),
        ],
    }[name]
    shape = {"mlp": (784,), "cnn": (28, 28, 1)}[name]
    model = keras.Sequential(
        [keras.Input(shape), *body, layers.Dense(10, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


class Turns:
    """Lets one training go on at a time, some steps each, in random order.

    The first epoch, which compiles, is not counted.
    """

    WARMUP = 1

    def __init__(self, arguments):
        self.epochs = arguments.epochs + self.WARMUP
        # Of each epoch that counts, by arm.
        self.seconds = {a: [0.0] * arguments.epochs for a in arguments.arms}
        self.processor_seconds = {a: s[:] for a, s in self.seconds.items()}
        self._steps = arguments.turn
        order = random.Random(0)
        self._queue = collections.deque(
            (epoch, first, arm)
            for epoch in range(self.epochs)
            for first in range(0, arguments.steps, arguments.turn)
            for arm in order.sample(arguments.arms, len(arguments.arms))
        )
        self._turn = threading.Condition()

    def callback(self, arm):
        """Returns what makes the `fit` of an arm wait for its turns."""
        import keras

        current = []

        def begin_epoch(epoch, *_, **__):
            current[:] = [epoch]

        def begin_batch(batch, **_):
            if batch % self._steps == 0:
                if batch:
                    finish(callback._model)
                    self._pass_on(current[0], arm)
                self._wait((current[0], batch, arm))

        callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=begin_epoch,
            on_train_batch_begin=begin_batch,
            on_epoch_end=lambda epoch, _: self._pass_on(epoch, arm),
        )
        return callback

    def _wait(self, turn):
        with self._turn:
            self._turn.wait_for(lambda: self._queue[0] == turn)
        self._start = time.perf_counter(), time.process_time()

    def _pass_on(self, epoch, arm):
        end = time.perf_counter(), time.process_time()
        counted = epoch - self.WARMUP
        if counted >= 0:
            self.seconds[arm][counted] += end[0] - self._start[0]
            self.processor_seconds[arm][counted] += end[1] - self._start[1]
        with self._turn:
            self._queue.popleft()
            self._turn.notify_all()


def finish(model):
    """Waits for the steps that JAX has begun."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        # The lists are Keras' own, which JAX does not look into.
        jax.block_until_ready([*map(list, model._jax_state.values())])


def second_pass(model, x, y):
    """Returns a callback that computes a batch's gradient norms once more."""
    import keras

    compute = {"tensorflow": tensorflow_norms, "jax": jax_norms}
    norms = compute[keras.backend.backend()](model, x, y)
    record = []
    return keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: record.append(norms())
    )


def loss_of():
    """Returns the loss that the model is trained with."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy()


def tensorflow_norms(model, x, y):
    """Returns a function that computes the norms with a `GradientTape`."""
    import tensorflow as tf

    loss = loss_of()

    @tf.function
    def norms():
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        return [tf.norm(g) for g in gradients]

    return lambda: [norm.numpy() for norm in norms()]


def jax_norms(model, x, y):
    """Returns a function that computes the norms with `jax.grad`."""
    import jax

    loss = loss_of()

    def value(trainable, rest):
        return loss(y, model.stateless_call(trainable, rest, x)[0])

    @jax.jit
    def norms(trainable, rest):
        gradients = jax.grad(value)(trainable, rest)
        return [jax.numpy.linalg.norm(g.ravel()) for g in gradients]

    def current():
        model.jax_state_sync()  # As `Callback.model` does.
        trainable = [v.value for v in model.trainable_variables]
        rest = [v.value for v in model.non_trainable_variables]
        return jax.device_get(norms(trainable, rest))

    return current


if __name__ == "__main__":
    main()
