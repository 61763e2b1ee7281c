"""Initializers that Keras lacks, and one that looks at data."""

from kerascomp.initializers._convolution import ICNR, DeltaOrthogonal, Dirac
from kerascomp.initializers._lsuv import lsuv

__all__ = ["Dirac", "DeltaOrthogonal", "ICNR", "lsuv"]
