"""Callbacks that steer and observe `model.fit`."""

from kerascomp.callbacks._activations import ActivationMonitor
from kerascomp.callbacks._averaging import StochasticWeightAveraging
from kerascomp.callbacks._confusion import ConfusionMatrix
from kerascomp.callbacks._critical_point import critical_point
from kerascomp.callbacks._curvature import CurvatureMonitor
from kerascomp.callbacks._dashboard import Dashboard
from kerascomp.callbacks._dropout_schedule import DropoutSchedule
from kerascomp.callbacks._gradient_flow import GradientFlowMonitor
from kerascomp.callbacks._gradients import GradientNormMonitor
from kerascomp.callbacks._nan import NaNDetective
from kerascomp.callbacks._noise_scale import GradientNoiseScale
from kerascomp.callbacks._range_test import LearningRateRangeTest
from kerascomp.callbacks._rate_logger import LearningRateLogger
from kerascomp.callbacks._schedule import ScheduleLearningRate, WarmupCosine
from kerascomp.callbacks._states import ResetStates
from kerascomp.callbacks._through_time import GradientThroughTime
from kerascomp.callbacks._time_stopping import TimeStopping
from kerascomp.callbacks._unfreezing import GradualUnfreezing
from kerascomp.callbacks._updates import UpdateRatioMonitor

__all__ = [
    "GradientNormMonitor",
    "GradientFlowMonitor",
    "UpdateRatioMonitor",
    "GradientNoiseScale",
    "ActivationMonitor",
    "GradientThroughTime",
    "CurvatureMonitor",
    "critical_point",
    "NaNDetective",
    "ConfusionMatrix",
    "Dashboard",
    "LearningRateLogger",
    "LearningRateRangeTest",
    "ScheduleLearningRate",
    "WarmupCosine",
    "DropoutSchedule",
    "GradualUnfreezing",
    "StochasticWeightAveraging",
    "TimeStopping",
    "ResetStates",
]
