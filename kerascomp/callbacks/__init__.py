"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._gradient_flow import GradientFlowMonitor
from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._noise_scale import GradientNoiseScale
from kerascomp.callbacks._range_test import LearningRateRangeTest
from kerascomp.callbacks._rate_logger import LearningRateLogger
from kerascomp.callbacks._schedule import ScheduleLearningRate, WarmupCosine
from kerascomp.callbacks._updates import UpdateRatioMonitor

__all__ = [
    "WarmupCosine",
    "ScheduleLearningRate",
    "LearningRateRangeTest",
    "LearningRateLogger",
    "GradientNormMonitor",
    "GradientFlowMonitor",
    "UpdateRatioMonitor",
    "GradientNoiseScale",
]
