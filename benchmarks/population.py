"""How much faster do many models train as lanes of one program?

Trains the same prebuilt MLPs on digits by `Population`, vectorized and
looped, and one after the other by `fit`. Building the models is not counted,
compiling them is. Run it once per backend:

    KERAS_BACKEND=jax python benchmarks/population.py
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import kerascomp as kc


def build(lane):
    """An MLP whose learning rate and dropout rate are its lane's own."""
    rng = np.random.default_rng(lane)
    keras.utils.set_random_seed(lane % 4)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dropout(rng.uniform(0.1, 0.6)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(10 ** rng.uniform(-4, -1.5)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def best_accuracy(histories):
    """The best validation accuracy of any lane and epoch."""
    return max(max(history["val_accuracy"]) for history in histories)


def by_population(engine):
    """Returns a way to train models, as a function."""

    def train(models, arguments):
        population = kc.population.Population(models, engine=engine)
        return population.fit(**arguments)

    return train


def one_by_one(models, arguments):
    """Trains each model by its own `fit`."""
    return [model.fit(verbose=0, **arguments).history for model in models]


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--sequential", type=int, default=4)
    options = parser.parse_args()
    data = kc.datasets.load("digits")
    arguments = {
        "x": data.train.x,
        "y": data.train.y,
        "batch_size": 64,
        "epochs": options.epochs,
        "validation_data": (data.validation.x, data.validation.y),
    }
    ways = {
        "Population, vectorized": (by_population("vectorized"), options.lanes),
        "Population, looped": (by_population("looped"), options.lanes),
        "Population, auto": (by_population("auto"), options.lanes),
        "fit, one by one": (one_by_one, options.sequential),
    }
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    print(f"{'':24}{'models':>8}{'seconds':>10}{'a model':>10}{'best':>8}")
    for name, (train, lanes) in ways.items():
        models = [build(lane) for lane in range(lanes)]
        start = time.perf_counter()
        best = best_accuracy(train(models, arguments))
        seconds = time.perf_counter() - start
        print(
            f"{name:24}{lanes:8}{seconds:10.2f}{seconds / lanes:10.3f}"
            f"{best:8.3f}"
        )


if __name__ == "__main__":
    main()
