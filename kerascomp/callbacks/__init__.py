"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._learning_rate import WarmupCosine
from kerascomp.callbacks._states import ResetStates

__all__ = ["GradientNormMonitor", "WarmupCosine", "ResetStates"]
