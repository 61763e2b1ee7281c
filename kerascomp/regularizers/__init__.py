"""Weight penalties that Keras lacks, for `kernel_regularizer=...`."""

from kerascomp.regularizers._norms import ScaledL2

__all__ = ["ScaledL2"]
