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
from kerascomp.layers._cosine import CosineDense
from kerascomp.layers._crf import CRF, ViterbiDecoder
from kerascomp.layers._drop_path import DropPath
from kerascomp.layers._recurrent import LayerNormLSTMCell, PeepholeLSTMCell

__all__ = [
    "DropPath",
    "CosineDense",
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
]
