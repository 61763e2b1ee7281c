"""Measures what it costs to look into a model while it trains.

`fit` with `NaNDetective`, at several values of `every`, and plain `fit` take
turns on one model, and the CPU time of the whole process is compared: the
ratio is the median over the rounds. The monitors that look at the end of
epochs are measured by the CPU time of one measurement, after the first, which
compiles.

    KERAS_BACKEND=jax python benchmarks/inspection_cost.py
"""

import argparse
import statistics
import tempfile
import time

import keras
import numpy as np

import kerascomp as kc

ROUNDS, STEPS, BATCH = 15, 60, 128
INTERVALS = (1, 10, 50)


def perceptron():
    """Returns a compiled MLP with 0.9 million weights."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(512, "relu") for _ in range(3)]
    model = keras.Sequential(
        [keras.Input((784,)), *hidden, keras.layers.Dense(10)]
    )
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def cost_of_detective(x, y, rounds):
    """Prints the ratio of CPU time for each interval."""
    model = perceptron()

    def seconds(every):
        folder = tempfile.gettempdir()
        watching = [kc.callbacks.NaNDetective(folder, every)] if every else []
        start = time.process_time()
        model.fit(x, y, batch_size=BATCH, callbacks=watching, verbose=0)
        return time.process_time() - start

    arms = (0, *INTERVALS)
    for every in arms:
        seconds(every)  # Compiles.
    taken = [{every: seconds(every) for every in arms} for _ in range(rounds)]
    plain = statistics.median(t[0] for t in taken) / STEPS
    print(f"plain fit: {1e3 * plain:.1f} ms of CPU time a step")
    for every in INTERVALS:
        ratio = statistics.median(t[every] / t[0] for t in taken)
        print(f"NaNDetective, every={every:<3}: {ratio:.3f} times as much")


def cost_of_monitors(x, y):
    """Prints the CPU time of one measurement of each monitor."""
    model = perceptron()
    probe = x[:256], y[:256]
    monitors = (
        kc.callbacks.ActivationMonitor(probe[0]),
        kc.callbacks.CurvatureMonitor(
            probe, iterations=20, trace_products=0, every=1
        ),
        kc.callbacks.CurvatureMonitor(
            probe, iterations=2, trace_products=12, every=1
        ),
    )
    for monitor, what in zip(
        monitors,
        ("activations", "20 iterations for the sharpness", "12 for the trace"),
        strict=True,
    ):
        monitor.set_model(model)
        monitor.set_params({})
        monitor.on_train_begin()
        taken = []
        for epoch in range(3):
            start = time.process_time()
            monitor.on_epoch_end(epoch)
            taken.append(time.process_time() - start)
        print(f"{what}: {1e3 * min(taken[1:]):.0f} ms of CPU time")


def main():
    """Measures the backend that runs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    x = generator.normal(size=(STEPS * BATCH, 784)).astype("float32")
    y = generator.integers(0, 10, len(x))
    print(f"keras {keras.__version__} on {keras.backend.backend()}")
    cost_of_detective(x, y, arguments.rounds)
    cost_of_monitors(x, y)


if __name__ == "__main__":
    main()
