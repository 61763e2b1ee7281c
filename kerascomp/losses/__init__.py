"""Losses that Keras lacks, for `model.compile(loss=...)`."""

from kerascomp.losses._smooth import (
    SmoothedSparseCategoricalCrossentropy,
    SmoothL1,
)

__all__ = ["SmoothL1", "SmoothedSparseCategoricalCrossentropy"]
