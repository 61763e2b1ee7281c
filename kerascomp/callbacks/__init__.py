"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._activations import ActivationMonitor
from kerascomp.callbacks._critical_point import critical_point
from kerascomp.callbacks._curvature import CurvatureMonitor
from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._learning_rate import WarmupCosine
from kerascomp.callbacks._nan import NaNDetective
from kerascomp.callbacks._through_time import GradientThroughTime

__all__ = [
    "GradientNormMonitor",
    "WarmupCosine",
    "ActivationMonitor",
    "GradientThroughTime",
    "CurvatureMonitor",
    "critical_point",
    "NaNDetective",
]
