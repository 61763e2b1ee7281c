"""Trains on imbalanced classes with four losses, and compares them fairly.

Of three of the digits' ten classes nine samples in ten are left out of the
training part; the test part stays as it is. Each loss trains the same networks
from the same ten seeds, all as lanes of one program, so that differences are
taken within a seed. No loss wins everywhere: the first table shows what each
buys, and what it costs in calibration; the second, which differences are more
than luck.

    python examples/07_imbalanced_classes.py
"""

import argparse

import keras
import numpy as np
from scipy import stats

import kerascomp as kc

RARE = (1, 5, 8)


def thinned(part, rng, share=0.1):
    """Returns inputs and labels with few samples left of the rare classes."""
    keep = ~np.isin(part.y, RARE) | (rng.random(len(part.y)) < share)
    return part.x[keep], part.y[keep]


def losses(counts):
    """The losses by name."""
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return {
        "crossentropy": plain,
        "ClassBalanced": kc.losses.ClassBalanced(plain, counts, beta=0.99),
        "LogitAdjusted": kc.losses.LogitAdjusted(counts),
        "focal": kc.losses.SparseCategoricalFocalCrossentropy(
            alpha=1.0, gamma=2.0, from_logits=True
        ),
    }


def network(x, num_classes, loss, seed):
    """Starts from the same weights for every loss."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Rescaling(1 / x.max()),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(num_classes),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), loss)
    return model


def scores(logits, y):
    """Returns balanced accuracy, correlation and calibration error."""
    num_classes = logits.shape[-1]
    p = keras.ops.softmax(logits)
    metrics = (
        kc.metrics.BalancedAccuracy(num_classes),
        kc.metrics.MatthewsCorrelation(num_classes),
        kc.metrics.ExpectedCalibrationError(num_classes, num_bins=10),
    )
    for metric in metrics:
        metric.update_state(y, p)
    return [float(metric.result()) for metric in metrics]


def interval(values):
    """Returns the mean and the half width of its 95 % interval."""
    error = stats.sem(values)
    return np.mean(values), stats.t.ppf(0.975, len(values) - 1) * error


def line(name, runs):
    """One row of a table: mean and interval of each score."""
    cells = [interval(column) for column in np.transpose(runs)]
    text = "  ".join(f"{mean:+7.3f} +- {half:.3f}" for mean, half in cells)
    return f"{name:16}  {text}"


def main():
    """Trains all losses and seeds at once, and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    smoke = parser.parse_args().smoke
    epochs, seeds = (1, 2) if smoke else (20, 10)
    data = kc.datasets.load("digits")
    x, y = thinned(data.train, np.random.default_rng(0))
    counts = np.bincount(y, minlength=data.num_classes).tolist()
    print(f"Training samples per class: {counts}")
    found = {}
    for name, loss in losses(counts).items():
        models = [
            network(x, data.num_classes, loss, seed) for seed in range(seeds)
        ]
        population = kc.population.Population(models, engine="vectorized")
        population.fit(x, y, batch_size=64, epochs=epochs)
        logits = population.predict(data.test.x)
        found[name] = [scores(lane, data.test.y) for lane in logits]
    heading = "balanced accuracy  Matthews corr.     calibration error"
    print(f"\nTest part, mean of {seeds} seeds and 95 % interval\n")
    print(f"{'':16}  {heading}")
    for name, runs in found.items():
        print(line(name, runs))
    print("\nDifference to the crossentropy, seed by seed\n")
    print(f"{'':16}  {heading}")
    for name, runs in found.items():
        if name != "crossentropy":
            print(line(name, np.subtract(runs, found["crossentropy"])))


if __name__ == "__main__":
    main()
