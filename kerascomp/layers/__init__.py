"""Layers that Keras lacks."""

from kerascomp.layers._cosine import CosineDense
from kerascomp.layers._drop_path import DropPath

__all__ = ["DropPath", "CosineDense"]
