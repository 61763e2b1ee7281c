"""Cases of metrics."""

import numpy as np

from catalog.inputs import PREDICTIONS, TARGETS
from kerascomp import metrics
from kerascomp.testing import Case

_rng = np.random.default_rng(12)
CLASSES = _rng.integers(0, 5, size=(4, 3))
SCORES = _rng.normal(size=(4, 3, 5)).astype("float32")
BITS = (SCORES > 0.1).astype("int32")
BITS[1, 0] = 1 - BITS[1, 0]  # What is wrong, and so are not all.
PROBABILITIES = np.exp(SCORES) / np.exp(SCORES).sum(-1, keepdims=True)

CLASSIFIED = (CLASSES, SCORES)
BINARY = (BITS[:, 0, :1], SCORES[:, 0, :1])
LABELLED = (BITS, SCORES)
PAIRS = (TARGETS, PREDICTIONS)
INTERVALS = (TARGETS[..., 0], PREDICTIONS)

CASES = [
    Case(
        lambda **k: metrics.MatthewsCorrelation(
            num_classes=2, threshold=0.1, **k
        ),
        BINARY,
    ),
    Case(
        lambda **k: metrics.CohenKappa(
            num_classes=5, weights="quadratic", threshold=0.1, **k
        ),
        CLASSIFIED,
    ),
    Case(
        lambda **k: metrics.BalancedAccuracy(
            num_classes=5, adjusted=True, threshold=0.1, **k
        ),
        CLASSIFIED,
    ),
    Case(
        lambda **k: metrics.GeometricMeanScore(
            num_classes=5, correction=0.1, threshold=0.1, **k
        ),
        CLASSIFIED,
    ),
    Case(
        lambda **k: metrics.ConfusionMatrix(
            num_classes=5, normalize="true", threshold=0.1, **k
        ),
        CLASSIFIED,
    ),
    Case(
        lambda **k: metrics.MultiLabelConfusionMatrix(
            num_labels=5, threshold=0.1, **k
        ),
        LABELLED,
    ),
    Case(
        lambda **k: metrics.ZeroOneLoss(multi_label=True, threshold=0.1, **k),
        LABELLED,
    ),
    Case(lambda **k: metrics.ZeroOneLoss(**k), CLASSIFIED),
    Case(lambda **k: metrics.HammingLoss(threshold=0.1, **k), LABELLED),
    *(
        Case(
            lambda binning=binning, **k: metrics.ExpectedCalibrationError(
                num_classes=5, num_bins=3, binning=binning, capacity=20, **k
            ),
            (CLASSES, PROBABILITIES),
        )
        for binning in ("equal_width", "equal_mass", "adaptive")
    ),
    Case(
        lambda **k: metrics.BrierScore(scale_by_half=True, **k),
        (CLASSES, PROBABILITIES),
    ),
    Case(lambda **k: metrics.StreamingPearsonCorrelation(**k), PAIRS),
    Case(lambda **k: metrics.SpearmanCorrelation(capacity=30, **k), PAIRS),
    Case(lambda **k: metrics.KendallTau(variant="c", capacity=30, **k), PAIRS),
    Case(lambda **k: metrics.PinballLoss(quantile=0.3, **k), PAIRS),
    Case(lambda **k: metrics.PinballLoss(quantile=[0.3, 0.8], **k), INTERVALS),
    Case(
        lambda **k: metrics.IntervalCoverage(lower=1, upper=0, **k), INTERVALS
    ),
    Case(lambda **k: metrics.IntervalWidth(lower=1, upper=0, **k), INTERVALS),
]
