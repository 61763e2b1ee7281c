"""One case for each component: how to build it, and what to call it on.

No argument has its default value, no two axes have the same length: a lost
argument or a swapped axis would go unnoticed.
"""

import numpy as np

from kerascomp import callbacks, layers, losses, regularizers, schedules
from kerascomp.testing import Case

_rng = np.random.default_rng(7)


def _normal(*shape):
    return _rng.normal(size=shape).astype("float32")


FEATURES = _normal(3, 4, 5)
TARGETS, PREDICTIONS = _normal(4, 3, 2), _normal(4, 3, 2)
LABELS, LOGITS = _rng.integers(0, 5, size=(4, 3)), _normal(4, 5, 3)
KERNEL = _normal(2, 3, 5)

CASES = [
    Case(lambda **k: layers.DropPath(rate=0.4, seed=3, **k), FEATURES),
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
    Case(lambda: regularizers.ScaledL2(factor=0.7, num_samples=9), KERNEL),
    Case(
        lambda: schedules.WarmupCosine(
            peak=0.3,
            total_steps=20,
            warmup_steps=3,
            floor=0.01,
            start=0.02,
            cycles=2,
            cycle_multiplier=1.5,
            cycle_decay=0.8,
        ),
        range(24),
    ),
    Case(
        lambda: callbacks.WarmupCosine(
            peak=0.3,
            warmup_epochs=0.5,
            total_epochs=1.8,
            floor=0.01,
            start=0.02,
            cycles=2,
            cycle_multiplier=1.5,
            cycle_decay=0.8,
        ),
    ),
    Case(
        lambda: callbacks.WarmupCosine(peak=0.3, warmup_steps=2, total_steps=5),
    ),
    Case(lambda: callbacks.GradientNormMonitor(per_layer=False, every=2)),
]
