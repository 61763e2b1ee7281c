"""Layers that Keras lacks."""

from kerascomp.layers._attention import SqueezeExcite
from kerascomp.layers._augmentation import (
    RandomJitter,
    RandomScaling,
    SpecAugment,
)
from kerascomp.layers._cosine import CosineDense
from kerascomp.layers._crossing import PolynomialCrossing
from kerascomp.layers._drop_path import DropPath
from kerascomp.layers._embedding import EmbeddingBag
from kerascomp.layers._features import RandomFourierFeatures
from kerascomp.layers._pooling import (
    BlurPooling2D,
    GeneralizedMeanPooling,
    SpatialPyramidPooling2D,
)
from kerascomp.layers._position import SinusoidalPositionEncoding
from kerascomp.layers._unpooling import MaxPoolingWithIndices2D, MaxUnpooling2D
from kerascomp.layers._upsampling import SubpixelUpsampling2D

__all__ = [
    "DropPath",
    "CosineDense",
    "MaxPoolingWithIndices2D",
    "MaxUnpooling2D",
    "SpatialPyramidPooling2D",
    "GeneralizedMeanPooling",
    "BlurPooling2D",
    "SubpixelUpsampling2D",
    "SqueezeExcite",
    "PolynomialCrossing",
    "EmbeddingBag",
    "RandomFourierFeatures",
    "SinusoidalPositionEncoding",
    "SpecAugment",
    "RandomJitter",
    "RandomScaling",
]
