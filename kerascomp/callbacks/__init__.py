"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._gradient_flow import GradientFlowMonitor
from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._learning_rate import WarmupCosine
from kerascomp.callbacks._noise_scale import GradientNoiseScale
from kerascomp.callbacks._updates import UpdateRatioMonitor

__all__ = [
    "GradientNormMonitor",
    "GradientFlowMonitor",
    "UpdateRatioMonitor",
    "GradientNoiseScale",
    "WarmupCosine",
]
