"""Metrics that Keras lacks, for `model.compile(metrics=...)`.

All are exact however the data are split into batches. Give them as
`weighted_metrics` to have them use `sample_weight` and `class_weight` of
`fit`. Samples that Keras masks do not count.
"""

from kerascomp.metrics._agreement import (
    BalancedAccuracy,
    CohenKappa,
    GeometricMeanScore,
    MatthewsCorrelation,
)
from kerascomp.metrics._calibration import BrierScore, ExpectedCalibrationError
from kerascomp.metrics._confusion import (
    ConfusionMatrix,
    MultiLabelConfusionMatrix,
)
from kerascomp.metrics._correlation import (
    KendallTau,
    SpearmanCorrelation,
    StreamingPearsonCorrelation,
)
from kerascomp.metrics._crf import ViterbiAccuracy
from kerascomp.metrics._errors import HammingLoss, ZeroOneLoss
from kerascomp.metrics._intervals import (
    IntervalCoverage,
    IntervalWidth,
    PinballLoss,
)

__all__ = [
    "MatthewsCorrelation",
    "CohenKappa",
    "BalancedAccuracy",
    "GeometricMeanScore",
    "ConfusionMatrix",
    "MultiLabelConfusionMatrix",
    "ZeroOneLoss",
    "HammingLoss",
    "ViterbiAccuracy",
    "ExpectedCalibrationError",
    "BrierScore",
    "StreamingPearsonCorrelation",
    "SpearmanCorrelation",
    "KendallTau",
    "PinballLoss",
    "IntervalCoverage",
    "IntervalWidth",
]
