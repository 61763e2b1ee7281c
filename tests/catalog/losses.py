"""Cases of losses."""

import keras
import numpy as np

from catalog.inputs import LABELS, LOGITS, PREDICTIONS, TARGETS
from kerascomp import losses
from kerascomp.testing import Case

SCORES = LOGITS.swapaxes(1, 2)  # (4, 3, 5): classes last.
PROBABILITIES = np.exp(SCORES) / np.exp(SCORES).sum(axis=-1, keepdims=True)
SHARES = 1 / (1 + np.exp(-PREDICTIONS))
# Truncated to integers, as the contract does, all of them are 0.
SMALL = 0.3 * np.tanh(TARGETS[..., :1])
COUNTS = [40, 3, 12, 7, 1]


def crossentropy(from_logits):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


CASES = [
    Case(lambda **k: losses.SmoothL1(beta=0.3, **k), (TARGETS, PREDICTIONS)),
    Case(
        lambda **k: losses.SmoothedSparseCategoricalCrossentropy(
            label_smoothing=0.2, from_logits=True, axis=1, **k
        ),
        (LABELS, LOGITS),
    ),
    Case(
        lambda **k: losses.SmoothedSparseCategoricalCrossentropy(
            label_smoothing=0.3, **k
        ),
        (LABELS, PROBABILITIES),
    ),
    Case(lambda **k: losses.Pinball(0.2, **k), (TARGETS, PREDICTIONS)),
    Case(lambda **k: losses.Pinball([0.2, 0.9], **k), (SMALL, PREDICTIONS)),
    Case(
        lambda **k: losses.GaussianNegativeLogLikelihood(
            beta=0.3, full=True, spread="variance", epsilon=0.1, **k
        ),
        (SMALL, PREDICTIONS),
    ),
    Case(lambda **k: losses.LeastSquares(**k), (TARGETS, PREDICTIONS)),
    Case(
        lambda **k: losses.MulticlassHinge(
            margin=0.7, variant="crammer_singer", power=1.5, **k
        ),
        (LABELS, SCORES),
    ),
    Case(lambda **k: losses.Perceptron(**k), (TARGETS > 0, PREDICTIONS)),
    Case(
        lambda **k: losses.SparseCategoricalFocalCrossentropy(
            alpha=[0.1, 0.2, 0.3, 0.4, 0.5],
            gamma=0.5,
            from_logits=True,
            axis=1,
            **k,
        ),
        (LABELS, LOGITS),
    ),
    Case(
        lambda **k: losses.SparseCategoricalFocalCrossentropy(
            alpha=0.4, gamma=1.5, **k
        ),
        (LABELS, PROBABILITIES),
    ),
    Case(
        lambda **k: losses.PolyLoss(epsilon=2.0, from_logits=True, **k),
        (LABELS, SCORES),
    ),
    Case(
        lambda **k: losses.SymmetricCrossentropy(
            alpha=0.3, beta=0.7, log_zero=-5.0, from_logits=True, **k
        ),
        (LABELS, SCORES),
    ),
    Case(
        lambda **k: losses.AsymmetricLoss(
            gamma_positive=0.5,
            gamma_negative=3.0,
            margin=0.1,
            from_logits=True,
            **k,
        ),
        (SHARES, PREDICTIONS),
    ),
    Case(
        lambda **k: losses.AsymmetricLoss(gamma_negative=0.5, **k),
        (np.round(SHARES), SHARES),
    ),
    Case(lambda **k: losses.SparsemaxLoss(**k), (LABELS, SCORES)),
    Case(
        lambda **k: losses.ConfidencePenalty(
            crossentropy(from_logits=True),
            beta=0.3,
            threshold=1.2,
            from_logits=True,
            **k,
        ),
        (LABELS, SCORES),
    ),
    Case(
        lambda **k: losses.SequenceLoss(
            crossentropy(from_logits=True),
            average="sequences",
            ignore_class=2,
            **k,
        ),
        (LABELS, SCORES),
    ),
    Case(
        lambda **k: losses.ClassBalanced(
            losses.PolyLoss(epsilon=2.0, from_logits=True),
            samples_per_class=COUNTS,
            beta=0.9,
            **k,
        ),
        (LABELS, SCORES),
    ),
    Case(
        lambda **k: losses.LogitAdjusted(COUNTS, tau=0.7, **k),
        (LABELS, SCORES),
    ),
    Case(lambda **k: losses.BalancedSoftmax(COUNTS, **k), (LABELS, SCORES)),
    Case(
        lambda **k: losses.WeightedKappa(
            weights="linear", from_logits=True, epsilon=1e-3, **k
        ),
        (LABELS, SCORES),
        xfail=dict.fromkeys(
            (
                "check_unreduced_shape_is_batch",
                "check_samples_do_not_mix",
            ),
            "kappa belongs to the batch, and so does its one value",
        ),
    ),
    Case(
        lambda **k: losses.CORN(average="samples", **k),
        (np.minimum(LABELS, 3), SCORES[..., 1:]),
    ),
    Case(
        lambda **k: losses.CORN(**k),
        (np.minimum(LABELS, 3), SCORES[..., 1:]),
        xfail={
            "check_samples_do_not_mix": (
                "the paper divides by the number of questions of the batch"
            )
        },
    ),
]
