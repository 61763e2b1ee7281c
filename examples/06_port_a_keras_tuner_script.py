"""Runs a KerasTuner script both ways: what differs is the import of the tuner.

KerasTuner builds, traces and runs one model after the other. With the tuner of
`kerascomp`, trials that differ in learning rate and dropout train at once, as
one program. All else is the same: the arguments, the search, the results, and
the files, which KerasTuner can open again.

    python examples/06_port_a_keras_tuner_script.py
    python examples/06_port_a_keras_tuner_script.py --smoke    # a few seconds
"""

import argparse
import importlib.util
import tempfile
import time

import keras
import keras_tuner

import kerascomp as kc
from kerascomp import tuners


def build(hp):
    """Returns a compiled classifier of 8 x 8 digits, given as 64 numbers."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dropout(hp.Float("dropout", 0.0, 0.6)),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def search(random_search, data, trials, epochs):
    """Searches with one of the two classes; returns the seconds a trial."""
    tuner = random_search(
        build,
        objective="val_accuracy",
        max_trials=trials,
        seed=1,
        directory=tempfile.mkdtemp(),
        project_name="digits",
    )
    began = time.perf_counter()
    tuner.search(
        data.train.x,
        data.train.y,
        batch_size=32,
        epochs=epochs,
        validation_data=(data.validation.x, data.validation.y),
        verbose=0,
    )
    seconds = (time.perf_counter() - began) / trials
    best = tuner.get_best_hyperparameters()[0].values
    _, accuracy = tuner.get_best_models()[0].evaluate(
        data.test.x, data.test.y, verbose=0
    )
    chosen = ", ".join(f"{name} {value:.3g}" for name, value in best.items())
    print(
        f"{random_search.__module__.partition('.')[0]:12} {trials:3} trials, "
        f"{seconds:6.3f} s a trial; best {chosen}, test accuracy "
        f"{accuracy:.3f}",
        flush=True,
    )
    return seconds


def main():
    """Times both, KerasTuner with fewer trials: each takes equally long."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    arguments = parser.parse_args()

    data = kc.datasets.load("digits")
    epochs = 1 if arguments.smoke else 10
    own = search(
        tuners.RandomSearch, data, 4 if arguments.smoke else 64, epochs
    )
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow and not importlib.util.find_spec("tensorboard"):
        print("On TensorFlow, KerasTuner needs TensorBoard, which is missing.")
        return
    theirs = search(
        keras_tuner.RandomSearch, data, 2 if arguments.smoke else 8, epochs
    )
    print(f"{theirs / own:.1f} times as fast")


if __name__ == "__main__":
    main()
