"""Layers that Keras lacks."""

from kerascomp.layers._cosine import CosineDense
from kerascomp.layers._decomposition import PCA, ZCAWhitening
from kerascomp.layers._drop_path import DropPath
from kerascomp.layers._imputation import Imputation
from kerascomp.layers._power import PowerTransform
from kerascomp.layers._projection import (
    RandomProjection,
    johnson_lindenstrauss_min_dim,
)
from kerascomp.layers._quantiles import QuantileTransform
from kerascomp.layers._scaling import (
    LogScaling,
    MinMaxScaling,
    RobustScaling,
)
from kerascomp.layers._target_encoding import TargetEncoding

__all__ = [
    "DropPath",
    "CosineDense",
    "MinMaxScaling",
    "RobustScaling",
    "LogScaling",
    "PowerTransform",
    "QuantileTransform",
    "PCA",
    "ZCAWhitening",
    "RandomProjection",
    "johnson_lindenstrauss_min_dim",
    "TargetEncoding",
    "Imputation",
]
