"""Layers that Keras lacks."""

from kerascomp._chains import (
    bio_transitions,
    crf_log_likelihood,
    crf_log_norm,
    crf_marginals,
    crf_sequence_score,
    crf_unpack,
    viterbi_decode,
)
from kerascomp.layers._activations import TLU, Maxout, RReLU, Snake
from kerascomp.layers._attention import SqueezeExcite
from kerascomp.layers._augmentation import (
    RandomJitter,
    RandomScaling,
    SpecAugment,
)
from kerascomp.layers._cosine import CosineDense
from kerascomp.layers._crf import CRF, ViterbiDecoder
from kerascomp.layers._crossing import PolynomialCrossing
from kerascomp.layers._decomposition import PCA, ZCAWhitening
from kerascomp.layers._drop_block import DropBlock1D, DropBlock2D
from kerascomp.layers._drop_path import DropPath
from kerascomp.layers._embedding import EmbeddingBag
from kerascomp.layers._features import RandomFourierFeatures
from kerascomp.layers._gradient_reversal import GradientReversal
from kerascomp.layers._imputation import Imputation
from kerascomp.layers._noisy import NoisyDense
from kerascomp.layers._normalization import (
    BatchRenormalization,
    FilterResponseNormalization,
    GhostBatchNormalization,
)
from kerascomp.layers._pooling import (
    BlurPooling2D,
    GeneralizedMeanPooling,
    SpatialPyramidPooling2D,
)
from kerascomp.layers._position import SinusoidalPositionEncoding
from kerascomp.layers._power import PowerTransform
from kerascomp.layers._projection import (
    RandomProjection,
    johnson_lindenstrauss_min_dim,
)
from kerascomp.layers._quantiles import QuantileTransform
from kerascomp.layers._recurrent import LayerNormLSTMCell, PeepholeLSTMCell
from kerascomp.layers._scaling import LogScaling, MinMaxScaling, RobustScaling
from kerascomp.layers._target_encoding import TargetEncoding
from kerascomp.layers._uncertainty import (
    ConcreteDropout,
    MonteCarloDropout,
    predict_with_uncertainty,
)
from kerascomp.layers._unpooling import MaxPoolingWithIndices2D, MaxUnpooling2D
from kerascomp.layers._upsampling import SubpixelUpsampling2D
from kerascomp.layers._weight_normalization import (
    WeightNormalization,
    WeightStandardization,
    initialize_from_data,
)
from kerascomp.layers._zoneout import Zoneout

__all__ = [
    "DropPath",
    "DropBlock1D",
    "DropBlock2D",
    "Zoneout",
    "MonteCarloDropout",
    "ConcreteDropout",
    "predict_with_uncertainty",
    "NoisyDense",
    "GradientReversal",
    "WeightNormalization",
    "WeightStandardization",
    "initialize_from_data",
    "FilterResponseNormalization",
    "BatchRenormalization",
    "GhostBatchNormalization",
    "RReLU",
    "Snake",
    "TLU",
    "Maxout",
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
    "LayerNormLSTMCell",
    "PeepholeLSTMCell",
    "CRF",
    "ViterbiDecoder",
    "crf_unpack",
    "crf_log_likelihood",
    "crf_log_norm",
    "crf_sequence_score",
    "crf_marginals",
    "viterbi_decode",
    "bio_transitions",
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
