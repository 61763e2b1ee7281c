"""Trains at large learning rates with a warmup and a cosine.

Each rate is used twice: as a constant, and as the peak of
`kc.callbacks.WarmupCosine`, which reads the number of steps from `fit`. Then
the same course is given to the optimizer as `kc.schedules.WarmupCosine`, which
is saved with the model and continues where it stopped.

    python examples/02_warmup_cosine.py
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np

import kerascomp as kc

BATCH_SIZE = 32


def build(data, learning_rate, seed):
    """Returns a compiled network without any normalization of activations."""
    keras.utils.set_random_seed(seed)
    scale = keras.layers.Normalization()
    scale.adapt(data.train.x)
    hidden = [keras.layers.Dense(64, activation="relu") for _ in range(4)]
    model = keras.Sequential(
        [
            keras.Input(data.input_shape),
            scale,
            *hidden,
            keras.layers.Dense(data.num_classes),
        ]
    )
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(data, rate, warmup, epochs, seed):
    """Returns the validation loss and accuracy after the last epoch."""
    model = build(data, rate, seed)
    callbacks = []
    if warmup:
        callbacks.append(
            kc.callbacks.WarmupCosine(peak=rate, warmup_epochs=epochs / 5)
        )
    history = model.fit(
        data.train.x,
        data.train.y,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(data.validation.x, data.validation.y),
        callbacks=callbacks,
        verbose=0,
    ).history
    return history["val_loss"][-1], history["val_accuracy"][-1]


def compare_rates(data, rates, epochs, seeds):
    """Prints one row a learning rate and course."""
    print(data)
    print(f"SGD with momentum 0.9, {epochs} epochs, mean of {seeds} seeds\n")
    print("   rate  course          validation loss  accuracy (worst seed)")
    for rate in rates:
        for warmup in (False, True):
            runs = np.array(
                [train(data, rate, warmup, epochs, s) for s in range(seeds)]
            )
            loss, accuracy = runs.mean(axis=0)
            name = "warmup, cosine" if warmup else "constant"
            print(
                f"{rate:7g}  {name:14}  {loss:15.3f}  {accuracy:8.1%} "
                f"({runs[:, 1].min():.1%})"
            )


def resume_saved_schedule(data, epochs):
    """Shows that a saved schedule goes on at the step where it stopped."""
    steps = epochs * -(-len(data.train) // BATCH_SIZE)
    schedule = kc.schedules.WarmupCosine(
        peak=0.1, total_steps=steps, warmup_steps=steps // 5
    )
    model = build(data, schedule, seed=0)
    half = epochs // 2
    options = {"batch_size": BATCH_SIZE, "verbose": 0}
    model.fit(data.train.x, data.train.y, epochs=half, **options)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    print(f"\nlearning rate after {half} epochs:", rate_of(model))
    print("the same in the reloaded model:", rate_of(loaded))
    loaded.fit(
        data.train.x,
        data.train.y,
        epochs=epochs,
        initial_epoch=half,
        **options,
    )
    print(f"after all {epochs} epochs:", rate_of(loaded))


def rate_of(model):
    """Returns the current learning rate, rounded."""
    rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate)
    return f"{float(rate):.5f}"


def main():
    """Compares on scikit-learn's digits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    smoke = parser.parse_args().smoke
    data = kc.datasets.load("digits")
    if smoke:
        compare_rates(data, rates=[0.1], epochs=2, seeds=1)
    else:
        rates = [0.01, 0.03, 0.1, 0.2]
        compare_rates(data, rates, epochs=10, seeds=3)
    resume_saved_schedule(data, epochs=2 if smoke else 10)


if __name__ == "__main__":
    main()
