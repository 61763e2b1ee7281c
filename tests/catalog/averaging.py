"""Cases of callbacks that average, unfreeze, stop, count and show."""

import numpy as np

from catalog.inputs import FOLDER, normal
from kerascomp import callbacks
from kerascomp.testing import Case

FEATURES = normal(7, 5)


class _Monitor:
    def __init__(self):
        self.history = {"epoch": np.arange(2), "distance": np.ones(2)}


MONITOR = _Monitor()

CASES = [
    Case(
        lambda: callbacks.StochasticWeightAveraging(
            start_epoch=1,
            period_epochs=2,
            data=FEATURES.copy(),
            batch_size=3,
            learning_rate=0.02,
        ),
    ),
    Case(
        lambda: callbacks.StochasticWeightAveraging(start_epoch=0),
        xfail={
            "check_model_saved_meanwhile_reloads": (
                "a checkpoint holds the weights that train, not their mean"
            )
        },
    ),
    Case(
        lambda: callbacks.GradualUnfreezing(
            groups=["kernel", ("bias",)], unfreeze_epochs=[0, 1], factor=3.0
        ),
    ),
    Case(
        lambda: callbacks.TimeStopping(
            seconds=1e4, within_epoch=False, across_fits=True, verbose=1
        )
    ),
    Case(
        lambda: callbacks.Dashboard(
            path=f"{FOLDER}/page.html",
            monitors=[MONITOR],
            title="A <run>",
        )
    ),
    Case(
        lambda: callbacks.ConfusionMatrix(
            data=(FEATURES.copy(), np.array([0, 1, 1, 0, 1, 0, 0])),
            class_names=("cat", "dog"),
            threshold=0.1,
            batch_size=3,
            every=2,
        ),
    ),
]
