"""Cases of callbacks that look into the model."""

import keras
import numpy as np

from catalog.inputs import FOLDER
from kerascomp import callbacks
from kerascomp.testing import Case

# The probes have as many features and targets as the regression of the checks.
X = np.random.default_rng(1).normal(size=(7, 5)).astype("float32")
Y = np.random.default_rng(2).normal(size=(7, 2)).astype("float32")
SEQUENCES = np.random.default_rng(3).normal(size=(7, 4, 5)).astype("float32")


def recurrent(units=3):
    inputs = keras.Input((4, 5))
    hidden = keras.layers.SimpleRNN(units)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden), name="recurrent")
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), "mse")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 4, 5)).astype("float32")
    y = generator.normal(size=(12, 2)).astype("float32")
    return model, x, y


CASES = [
    Case(
        lambda: callbacks.ActivationMonitor(
            X.copy(),
            every=2,
            batch_size=4,
            saturation_distance=0.1,
            near_zero=0.2,
            log_dir=FOLDER,
        ),
    ),
    Case(
        lambda: callbacks.CurvatureMonitor(
            (X, Y),
            num_eigenvalues=2,
            iterations=9,
            trace_products=6,
            every=2,
            training=True,
            log_dir=FOLDER,
        ),
    ),
    Case(
        lambda: callbacks.GradientThroughTime(
            (SEQUENCES, Y), every=2, log_dir=FOLDER
        ),
        recurrent,
    ),
    Case(lambda: callbacks.NaNDetective(FOLDER, every=2)),
]
