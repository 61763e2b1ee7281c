"""Learning-rate schedules that Keras lacks, for any optimizer.

All are pure functions of the step, and count what Keras counts: updates, or
under `gradient_accumulation_steps` micro-steps. To give their lengths in
epochs, and to count updates always, use them through
`kerascomp.callbacks.ScheduleLearningRate`.
"""

from kerascomp.schedules._batch_scaling import (
    LinearBatchScaling,
    SquareRootBatchScaling,
)
from kerascomp.schedules._cosine import WarmupCosine
from kerascomp.schedules._cyclical import Cyclical, OneCycle
from kerascomp.schedules._join import Join
from kerascomp.schedules._plateau import InverseSquareRoot, WarmupStableDecay
from kerascomp.schedules._plot import plot

__all__ = [
    "WarmupCosine",
    "WarmupStableDecay",
    "OneCycle",
    "Cyclical",
    "InverseSquareRoot",
    "Join",
    "LinearBatchScaling",
    "SquareRootBatchScaling",
    "plot",
]
