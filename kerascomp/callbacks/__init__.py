"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._dropout_schedule import DropoutSchedule
from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._learning_rate import WarmupCosine

__all__ = ["GradientNormMonitor", "WarmupCosine", "DropoutSchedule"]
