"""Cases of losses."""

import numpy as np

from catalog.inputs import LABELS, LOGITS, PREDICTIONS, TARGETS
from kerascomp import losses
from kerascomp.testing import Case

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
        (LABELS, np.exp(LOGITS.swapaxes(1, 2))),
        xfail={
            "check_gradient_is_finite_at_zero": (
                "probabilities that sum to 0 are none, in Keras' too"
            )
        },
    ),
]
