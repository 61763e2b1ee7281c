"""Cases of callbacks."""

import keras

from kerascomp import callbacks
from kerascomp.testing import Case
from kerascomp.testing._programs import regression


def falling(epoch):
    """A dropout rate."""
    return 0.5 / (2 + epoch)


def dropping():
    """A regression with dropout that is steered, and dropout that is not."""
    model, x, y = regression()
    inputs = keras.Input((5,))
    hidden = model.layers[1](inputs)
    hidden = keras.layers.Dropout(0.3, seed=1, name="dropping")(hidden)
    outputs = model.layers[2](keras.layers.GaussianDropout(0.2, seed=2)(hidden))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), "mse")
    return model, x, y


CASES = [
    Case(
        lambda: callbacks.DropoutSchedule(falling, layers=["dropping"]),
        dropping,
    ),
]
