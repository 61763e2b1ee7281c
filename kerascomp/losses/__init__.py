"""Losses that Keras lacks, for `model.compile(loss=...)`."""

from kerascomp.losses._boxes import CIoU, DIoU, GIoU
from kerascomp.losses._classification import (
    AsymmetricLoss,
    PolyLoss,
    SparseCategoricalFocalCrossentropy,
    SparsemaxLoss,
    SymmetricCrossentropy,
)
from kerascomp.losses._crf import CRFNegativeLogLikelihood
from kerascomp.losses._imbalance import (
    BalancedSoftmax,
    ClassBalanced,
    LogitAdjusted,
)
from kerascomp.losses._margin import MulticlassHinge, Perceptron
from kerascomp.losses._metric_learning import (
    Contrastive,
    LiftedStructure,
    TripletHard,
    TripletSemiHard,
)
from kerascomp.losses._metric_learning_softmax import (
    ArcFace,
    CosFace,
    NPairs,
    NPairsMultilabel,
    NTXent,
    SupervisedContrastive,
)
from kerascomp.losses._ordinal import CORN, WeightedKappa, corn_probabilities
from kerascomp.losses._regression import (
    GaussianNegativeLogLikelihood,
    LeastSquares,
    Pinball,
)
from kerascomp.losses._smooth import (
    SmoothedSparseCategoricalCrossentropy,
    SmoothL1,
)
from kerascomp.losses._wrappers import ConfidencePenalty, SequenceLoss

__all__ = [
    "SmoothL1",
    "Pinball",
    "GaussianNegativeLogLikelihood",
    "LeastSquares",
    "MulticlassHinge",
    "Perceptron",
    "SmoothedSparseCategoricalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "PolyLoss",
    "SymmetricCrossentropy",
    "AsymmetricLoss",
    "SparsemaxLoss",
    "ConfidencePenalty",
    "SequenceLoss",
    "CRFNegativeLogLikelihood",
    "ClassBalanced",
    "LogitAdjusted",
    "BalancedSoftmax",
    "WeightedKappa",
    "CORN",
    "corn_probabilities",
    "Contrastive",
    "TripletSemiHard",
    "TripletHard",
    "LiftedStructure",
    "NPairs",
    "NPairsMultilabel",
    "SupervisedContrastive",
    "NTXent",
    "ArcFace",
    "CosFace",
    "GIoU",
    "DIoU",
    "CIoU",
]
