"""Regularizes with DropPath in residual blocks, and with ScaledL2.

First a deep residual network on a small part of the digits, with more and more
of its branches dropped. Then a penalty on the weights: one `factor` for
`ScaledL2` means the same for training sets of any size, as it is divided by
the number of samples.

    python examples/04_drop_path_and_scaled_l2.py
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np

import kerascomp as kc

BLOCKS = 8


def residual_network(data, rate):
    """Drops later blocks more often, as the authors of DropPath do."""
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    inputs = keras.Input(data.input_shape)
    x = keras.layers.Dense(64)(scale(inputs))
    for block in range(1, BLOCKS + 1):
        branch = keras.layers.LayerNormalization()(x)
        branch = keras.layers.Dense(64, activation="relu")(branch)
        branch = keras.layers.Dense(64)(branch)
        branch = kc.layers.DropPath(rate * block / BLOCKS)(branch)
        x = keras.layers.Add()([x, branch])
    x = keras.layers.LayerNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(data.num_classes)(x))


def penalized_network(data, factor, num_samples):
    """Penalizes all weights of a plain network."""
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    penalty = kc.regularizers.ScaledL2(factor, num_samples)
    return keras.Sequential(
        [
            keras.Input(data.input_shape),
            scale,
            keras.layers.Dense(
                64, activation="relu", kernel_regularizer=penalty
            ),
            keras.layers.Dense(data.num_classes, kernel_regularizer=penalty),
        ]
    )


def train(model, data, num_samples, epochs):
    """Returns the accuracy in training and test, and the test's log loss."""
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = data.train.x[:num_samples], data.train.y[:num_samples]
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
    training, _ = accuracy_and_log_loss(model, x, y)
    return training, *accuracy_and_log_loss(model, data.test.x, data.test.y)


def accuracy_and_log_loss(model, x, y):
    """Measures without the penalty, which `model.evaluate` would include."""
    logits = model(x, training=False)
    log_loss = keras.ops.mean(
        keras.ops.sparse_categorical_crossentropy(y, logits, from_logits=True)
    )
    predicted = keras.ops.convert_to_numpy(keras.ops.argmax(logits, axis=-1))
    return np.mean(predicted == y), keras.ops.convert_to_numpy(log_loss)


def averaged(build, data, num_samples, epochs, seeds):
    """Returns the mean scores over seeds, and the last model."""
    scores = []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        model = build()
        scores.append(train(model, data, num_samples, epochs))
    return np.mean(scores, axis=0), model


def compare_drop_path(data, rates, num_samples, epochs, seeds):
    """Prints one row a rate, and returns the last model."""
    print(f"{BLOCKS} residual blocks, {num_samples} training samples\n")
    print("highest rate  training accuracy  test accuracy  test log loss")
    for rate in rates:
        scores, model = averaged(
            lambda rate=rate: residual_network(data, rate),
            data,
            num_samples,
            epochs,
            seeds,
        )
        print("{:12g}  {:17.1%}  {:13.1%}  {:13.3f}".format(rate, *scores))
    return model


def compare_penalties(data, factors, sizes, epochs, seeds):
    """Prints one row a training size and factor."""
    print("\nsamples  factor  training accuracy  test accuracy  test log loss")
    for size in sizes:
        for factor in factors:
            scores, _ = averaged(
                lambda size=size, factor=factor: penalized_network(
                    data, factor, size
                ),
                data,
                size,
                epochs,
                seeds,
            )
            print(
                "{:7}  {:6g}  {:17.1%}  {:13.1%}  {:13.3f}".format(
                    size, factor, *scores
                )
            )


def main():
    """Compares on scikit-learn's digits; saves and loads a model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    smoke = parser.parse_args().smoke
    epochs, seeds, sizes = (1, 1, [100]) if smoke else (30, 3, [100, 1000])
    factors = (1.0,) if smoke else (0.0, 1.0, 10.0)
    rates = (0.5,) if smoke else (0.0, 0.4, 0.8)
    data = kc.datasets.load("digits")
    print(f"{data}\nMean of {seeds} seeds, {epochs} epochs\n")
    model = compare_drop_path(data, rates, sizes[0], epochs, seeds)
    compare_penalties(data, factors, sizes, epochs, seeds)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    outputs = [
        keras.ops.convert_to_numpy(m(data.test.x)) for m in (model, loaded)
    ]
    difference = np.abs(outputs[0] - outputs[1]).max()
    print(f"\nLargest difference of a reloaded model's outputs: {difference:g}")


if __name__ == "__main__":
    main()
