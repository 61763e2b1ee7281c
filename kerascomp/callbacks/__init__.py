"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._range_test import LearningRateRangeTest
from kerascomp.callbacks._rate_logger import LearningRateLogger
from kerascomp.callbacks._schedule import ScheduleLearningRate, WarmupCosine

__all__ = [
    "GradientNormMonitor",
    "ScheduleLearningRate",
    "WarmupCosine",
    "LearningRateRangeTest",
    "LearningRateLogger",
]
