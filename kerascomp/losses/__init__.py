"""Losses that Keras lacks, for `model.compile(loss=...)`."""

from kerascomp.losses._boxes import CIoU, DIoU, GIoU
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
from kerascomp.losses._smooth import (
    SmoothedSparseCategoricalCrossentropy,
    SmoothL1,
)

__all__ = [
    "SmoothL1",
    "SmoothedSparseCategoricalCrossentropy",
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
