"""Cases of optimizers."""

import keras

from kerascomp import optimizers
from kerascomp.testing import Case

CASES = [
    Case(
        lambda: optimizers.AutoClip(
            keras.optimizers.SGD(0.05, momentum=0.5, name="inner"),
            percentile=35.0,
            history_steps=4,
        )
    ),
    Case(
        lambda: optimizers.AdaptiveGradientClipping(
            keras.optimizers.Adam(0.02, name="inner"),
            factor=0.03,
            epsilon=0.02,
            exclude=["bias"],
        ),
    ),
]
