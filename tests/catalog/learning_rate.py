"""Cases of callbacks around the learning rate."""

import keras

from catalog.inputs import FOLDER
from kerascomp import callbacks, schedules
from kerascomp.testing import Case


def stepped(total_steps, low_steps=2):
    """A schedule of Keras, made when the run is known."""
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [low_steps, total_steps - 1], [0.01, 0.05, 0.02]
    )


CASES = [
    Case(
        lambda: callbacks.WarmupCosine(
            peak=0.3,
            warmup_epochs=0.5,
            total_epochs=1.8,
            floor=0.01,
            start=0.02,
            cycles=2,
            cycle_multiplier=1.5,
            cycle_decay=0.8,
        ),
    ),
    Case(
        lambda: callbacks.WarmupCosine(peak=0.3, warmup_steps=2, total_steps=5),
    ),
    Case(
        lambda: callbacks.ScheduleLearningRate(
            schedules.Cyclical(0.3, half_cycle_steps=2, floor=0.01)
        ),
    ),
    Case(
        lambda: callbacks.ScheduleLearningRate(stepped, low_epochs=0.5),
    ),
    Case(
        lambda: callbacks.LearningRateRangeTest(
            minimum=1e-3,
            maximum=0.5,
            steps=5,
            ramp="linear",
            smoothing=0.8,
            stop_factor=3.0,
            suggest="steepest",
        ),
        xfail={
            "check_model_saved_meanwhile_reloads": (
                "the model is given back as it was, not as it was meanwhile"
            ),
        },
    ),
    Case(lambda: callbacks.LearningRateLogger(every=2, log_dir=FOLDER)),
]
