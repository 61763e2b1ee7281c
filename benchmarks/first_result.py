"""How long until the first epoch of a population is over?

A fresh process for each measurement: one model trained by `fit` for an epoch,
and a `Population` of so many models trained for an epoch, both from the call
to the return, tracing and compiling included, building not. They take turns;
the ratio is the median over the rounds.

    python benchmarks/first_result.py --backend jax --lanes 2,16,64
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def main():
    """Prints a line for each backend and number of lanes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="tensorflow,jax")
    parser.add_argument("--lanes", default="2,16,64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure(options.child)))
        return
    print("| Backend | Lanes | `fit` of one, s | `Population`, s | Ratio |")
    print("|---|---|---|---|---|")
    for backend in options.backend.split(","):
        for lanes in map(int, options.lanes.split(",")):
            pairs = [
                [run(backend, count) for count in (0, lanes)]
                for _ in range(options.rounds)
            ]
            one, many = map(statistics.median, zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            print(
                f"| {backend} | {lanes} | {one:.2f} | {many:.2f} | "
                f"{ratio:.2f} |",
                flush=True,
            )


def run(backend, lanes):
    """Measures in a process of its own."""
    process = subprocess.run(
        [sys.executable, __file__, "--child", str(lanes)],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.strip().splitlines()[-1])


def measure(lanes):
    """Returns the seconds of an epoch: of one model by `fit` for 0 lanes."""
    import keras

    import kerascomp as kc

    data = kc.datasets.load("digits")
    x, y = data.train.x / 16, data.train.y

    def build(rate):
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input(x.shape[1:]),
                layers.Dense(128, "relu"),
                layers.Dropout(0.3),
                layers.Dense(128, "relu"),
                layers.Dense(10, "softmax"),
            ]
        )
        model.compile(
            keras.optimizers.Adam(rate),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model

    models = [build(1e-3 * (n + 1)) for n in range(max(lanes, 1))]
    population = kc.population.Population(models) if lanes else None
    start = time.perf_counter()
    if population is None:
        models[0].fit(x, y, batch_size=64, verbose=0)
    else:
        population.fit(x, y, batch_size=64)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
