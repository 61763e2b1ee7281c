"""Optimizers that Keras lacks, most of them around one that it has."""

from kerascomp.optimizers._adaptive import AdaptiveGradientClipping
from kerascomp.optimizers._auto_clip import AutoClip

__all__ = ["AdaptiveGradientClipping", "AutoClip"]
