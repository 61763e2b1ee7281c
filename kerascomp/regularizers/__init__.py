"""Penalties that Keras lacks: on weights, activities and input gradients."""

from kerascomp.regularizers._activities import DeCov, KLSparsity
from kerascomp.regularizers._apply import apply
from kerascomp.regularizers._norms import ScaledL1, ScaledL2
from kerascomp.regularizers._sensitivity import (
    GradientPenalty,
    JacobianPenalty,
)
from kerascomp.regularizers._sparsity import (
    GroupLasso,
    Hoyer,
    SparseGroupLasso,
)
from kerascomp.regularizers._spectrum import (
    NuclearNorm,
    SoftOrthogonality,
    SpectralNorm,
)

__all__ = [
    "DeCov",
    "GradientPenalty",
    "GroupLasso",
    "Hoyer",
    "JacobianPenalty",
    "KLSparsity",
    "NuclearNorm",
    "ScaledL1",
    "ScaledL2",
    "SoftOrthogonality",
    "SparseGroupLasso",
    "SpectralNorm",
    "apply",
]
