"""Cases of schedules."""

from kerascomp import schedules
from kerascomp.testing import Case

CASES = [
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
]
