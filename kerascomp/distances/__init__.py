"""Distances between vectors and between distributions, differentiable.

Those between rows take two arrays whose last axis holds the features and whose
other axes broadcast; `pairwise` gives all pairs of rows. They accept NumPy
arrays, tensors and the symbolic tensors of a functional model, and their
gradient is finite everywhere, at distance 0 too, where it is 0. Half precision
is computed in float32 and returned in half precision.
"""

from kerascomp.distances._distributions import (
    hellinger,
    jensen_shannon,
    kl,
    total_variation,
)
from kerascomp.distances._pairwise import pairwise
from kerascomp.distances._rows import (
    bray_curtis,
    canberra,
    chebyshev,
    correlation,
    cosine,
    euclidean,
    hamming,
    jaccard,
    mahalanobis,
    manhattan,
    minkowski,
    squared_euclidean,
    standardized_euclidean,
)
from kerascomp.distances._samples import energy, mmd, wasserstein_1d

__all__ = [
    "pairwise",
    "euclidean",
    "squared_euclidean",
    "standardized_euclidean",
    "manhattan",
    "chebyshev",
    "minkowski",
    "mahalanobis",
    "cosine",
    "correlation",
    "hamming",
    "jaccard",
    "bray_curtis",
    "canberra",
    "kl",
    "jensen_shannon",
    "total_variation",
    "hellinger",
    "wasserstein_1d",
    "energy",
    "mmd",
]
