"""Small studies that several test files run."""

import keras
import numpy as np

from kerascomp import datasets, studies

# A space whose points differ, and whose trainings take a moment.
SPACE = {"batch_size": [16, 32], "learning_rate": (1e-3, 1e-1, "log")}


def data():
    """Returns 90 separable points of three classes, split in three."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 30)
    x = rng.normal(size=(90, 2)) + 3 * np.eye(3, 2)[y]
    return datasets.from_arrays(x.astype("float32"), y, name="points")


def build(hp):
    """Returns a compiled softmax regression."""
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile(
        keras.optimizers.SGD(hp.get("learning_rate")),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def study(directory, build=build, **arguments):
    """Returns a study of a few seconds."""
    settings = {"space": SPACE, "max_trials": 2, "epochs": 2, **arguments}
    return studies.Study(build, data(), directory=directory, **settings)
