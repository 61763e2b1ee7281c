"""Cases of callbacks."""

from kerascomp import callbacks
from kerascomp.testing import Case

CASES = [
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
]
