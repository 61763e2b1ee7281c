"""Puts the preprocessing of a table into the model, saves and serves it.

The wines of scikit-learn get gaps and a category, by a rule: every fifth value
of magnesium is missing, and each wine has a lot number that says nothing about
it. Networks train without the lot, with lots encoded from all samples, and with
lots encoded out of fold; their test losses are compared. Then one model takes
raw rows, and a fresh process that has nothing but its file predicts the same.

    python examples/12_preprocessing_in_the_model.py
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

import kerascomp as kc

MAGNESIUM, LOTS = 4, 60

SERVE = """
import sys
import keras, numpy as np
import kerascomp
folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.keras")
with np.load(folder + "/rows.npz") as rows:
    served = model.predict([rows["numbers"], rows["lots"]], verbose=0)
np.save(folder + "/served.npy", served)
"""


def raw_rows(part, seed):
    """Returns numbers with gaps, and lot numbers."""
    numbers = part.x.astype("float32")
    numbers[::5, MAGNESIUM] = np.nan
    lots = np.random.default_rng(seed).integers(LOTS, size=(len(numbers), 1))
    return numbers, lots.astype("float32")


def numeric_layers(numbers):
    """Returns layers for the numbers, each adapted behind the one before."""
    fill = kc.layers.Imputation("median", indicator=True)
    fill.adapt(numbers)
    power = kc.layers.PowerTransform(constant="unscaled")
    power.adapt(fill(numbers))
    return keras.Sequential([fill, power])


def train(numbers, codes, y, num_classes, epochs):
    """Returns a network that takes raw numbers, and codes of the lots."""
    inputs = keras.Input(numbers.shape[1:]), keras.Input(codes.shape[1:])
    x = numeric_layers(numbers)(inputs[0])
    x = keras.layers.Concatenate()([x, inputs[1]])
    x = keras.layers.Dense(16, activation="relu")(x)
    network = keras.Model(inputs, keras.layers.Dense(num_classes)(x))
    network.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    network.fit([numbers, codes], y, batch_size=16, epochs=epochs, verbose=0)
    return network


def with_encoding(network, encode):
    """Puts the encoding in front of a trained network."""
    numbers = keras.Input(network.inputs[0].shape[1:])
    lots = keras.Input((1,))
    return keras.Model([numbers, lots], network([numbers, encode(lots)]))


def log_loss(model, rows, y):
    """Returns the mean crossentropy of the predictions."""
    logits = model.predict(rows, verbose=0)
    losses = keras.ops.sparse_categorical_crossentropy(y, logits, True)
    return float(keras.ops.mean(losses))


def compare(data, epochs, seeds):
    """Prints the test loss of each way, and returns the last honest model."""
    found = {"without lots": [], "all samples": [], "out of fold": []}
    for seed in range(seeds):
        numbers, lots = raw_rows(data.train, seed)
        test = raw_rows(data.test, seed + seeds)
        encode = kc.layers.TargetEncoding(LOTS, data.num_classes)
        honest = encode.adapt_and_encode(lots, data.train.y, seed=seed)
        leaking = keras.ops.convert_to_numpy(encode(lots))
        nothing = np.zeros_like(honest)
        codes = dict(zip(found, (nothing, leaking, honest), strict=True))
        for name, code in codes.items():
            keras.utils.set_random_seed(seed)
            y, classes = data.train.y, data.num_classes
            network = train(numbers, code, y, classes, epochs)
            model = with_encoding(network, encode)
            if name == "without lots":
                zeros = np.zeros((len(test[0]), classes))
                loss = log_loss(network, [test[0], zeros], data.test.y)
            else:
                loss = log_loss(model, list(test), data.test.y)
            found[name].append(loss)
    for name, losses in found.items():
        spread = np.std(losses, ddof=1) / seeds**0.5 if seeds > 1 else 0.0
        print(f"{name:14} {np.mean(losses):.3f} +- {spread:.3f}")
    return model, test


def main():
    """Compares the codes; saves the model and serves it elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    smoke = parser.parse_args().smoke
    epochs, seeds = (1, 1) if smoke else (20, 3)
    data = kc.datasets.load("wine")
    print(f"{data}\nTest log loss, mean of {seeds} seeds, standard error\n")
    model, (numbers, lots) = compare(data, epochs, seeds)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model.save(folder / "model.keras")
        np.savez(folder / "rows.npz", numbers=numbers, lots=lots)
        subprocess.run([sys.executable, "-c", SERVE, name], check=True)
        served = np.load(folder / "served.npy")
    here = model.predict([numbers, lots], verbose=0)
    difference = np.abs(served - here).max()
    print(f"\nLargest difference of a fresh process's outputs: {difference:g}")


if __name__ == "__main__":
    main()
