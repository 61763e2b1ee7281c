"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._averaging import StochasticWeightAveraging
from kerascomp.callbacks._confusion import ConfusionMatrix
from kerascomp.callbacks._dashboard import Dashboard
from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._learning_rate import WarmupCosine
from kerascomp.callbacks._time_stopping import TimeStopping
from kerascomp.callbacks._unfreezing import GradualUnfreezing

__all__ = [
    "ConfusionMatrix",
    "Dashboard",
    "GradientNormMonitor",
    "GradualUnfreezing",
    "StochasticWeightAveraging",
    "TimeStopping",
    "WarmupCosine",
]
