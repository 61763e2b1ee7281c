"""Tames overconfidence and outliers with two losses.

First a classifier of digits, of whose training labels some are wrong, with
and without label smoothing. Its accuracy rises; its confidence falls below the
accuracy, so calibrate it before you rely on its probabilities. Then a
regression, of whose training targets some are far too large, with the squared
error and with `SmoothL1`.

    python examples/03_losses_and_label_smoothing.py
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np

import kerascomp as kc


def fit(data, y, loss, epochs, seed):
    """Returns a network trained on other targets than the data's own."""
    keras.utils.set_random_seed(seed)
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    model = keras.Sequential(
        [
            keras.Input(data.input_shape),
            scale,
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(data.num_classes or 1),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(data.train.x, y, batch_size=32, epochs=epochs, verbose=0)
    return model


def smoothing_scores(data, share_wrong, smoothing, epochs, seed):
    """Returns accuracy, mean confidence, calibration error and log loss."""
    rng = np.random.default_rng(seed)
    y = data.train.y.copy()
    wrong = rng.random(len(y)) < share_wrong
    y[wrong] = rng.integers(data.num_classes, size=wrong.sum())
    loss = kc.losses.SmoothedSparseCategoricalCrossentropy(
        label_smoothing=smoothing, from_logits=True
    )
    model = fit(data, y, loss, epochs, seed)
    logits = model(data.test.x)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == data.test.y
    true = probabilities[np.arange(len(correct)), data.test.y]
    return (
        correct.mean(),
        confidence.mean(),
        calibration_error(confidence, correct),
        -np.log(true).mean(),
    )


def calibration_error(confidence, correct, bins=10):
    """Returns the mean gap of confidence and accuracy, over equal bins."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return sum(
        abs(confidence[index == b].sum() - correct[index == b].sum())
        for b in range(bins)
    ) / len(correct)


def compare_smoothing(shares, epochs, seeds):
    """Prints one row a share of wrong labels and smoothing."""
    data = kc.datasets.load("digits")
    print(data)
    print(f"Test part, mean of {seeds} seeds\n")
    print(
        "wrong labels  smoothing  accuracy  confidence  calibration error"
        "  log loss"
    )
    for share_wrong in shares:
        for smoothing in (0.0, 0.1, 0.3):
            accuracy, confidence, error, log_loss = np.mean(
                [
                    smoothing_scores(data, share_wrong, smoothing, epochs, s)
                    for s in range(seeds)
                ],
                axis=0,
            )
            print(
                f"{share_wrong:12.0%}  {smoothing:9g}  {accuracy:8.1%}"
                f"  {confidence:10.1%}  {error:17.1%}  {log_loss:8.3f}"
            )


def outlier_scores(data, share_wrong, loss, epochs, seed):
    """Returns the mean absolute error on correct targets, and the model."""
    rng = np.random.default_rng(seed)
    y = data.train.y / 100
    y[rng.random(len(y)) < share_wrong] *= 10
    model = fit(data, y, loss, epochs, seed)
    predicted = 100 * keras.ops.convert_to_numpy(model(data.test.x))[:, 0]
    return np.abs(predicted - data.test.y).mean(), model


def compare_outliers(epochs, seeds):
    """Prints one row a loss, and returns a model with the last one."""
    data = kc.datasets.load("diabetes")
    print(f"\n{data}")
    print(f"Mean absolute error on the test part, mean of {seeds} seeds\n")
    print("loss                  correct targets  5% of them ten times larger")
    losses = {
        "mean squared error": keras.losses.MeanSquaredError(),
        "SmoothL1(beta=1)": kc.losses.SmoothL1(beta=1.0),
        "SmoothL1(beta=0.1)": kc.losses.SmoothL1(beta=0.1),
    }
    for name, loss in losses.items():
        errors = []
        for share in (0.0, 0.05):
            runs = [
                outlier_scores(data, share, loss, epochs, seed)
                for seed in range(seeds)
            ]
            errors.append(np.mean([error for error, _ in runs]))
        print(f"{name:20}  {errors[0]:15.1f}  {errors[1]:27.1f}")
    return runs[-1][1]


def main():
    """Compares, then saves and loads a model with one of the losses."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    smoke = parser.parse_args().smoke
    epochs, seeds = (1, 1) if smoke else (30, 3)
    compare_smoothing((0.2,) if smoke else (0.0, 0.2), epochs, seeds)
    model = compare_outliers(epochs, seeds)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    print(f"\nReloaded with its loss: {loaded.loss.get_config()}")


if __name__ == "__main__":
    main()
