"""Trains many Keras models in one compiled program."""

from kerascomp.population._population import Population

__all__ = ["Population"]
