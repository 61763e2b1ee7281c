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
    Case(
        lambda: schedules.WarmupStableDecay(
            peak=0.3,
            total_steps=20,
            decay_steps=7,
            warmup_steps=3,
            decay="cosine",
            floor=0.01,
            start=0.02,
        ),
        range(24),
    ),
    Case(
        lambda: schedules.OneCycle(
            peak=0.3,
            total_steps=20,
            warmup_steps=6,
            start=0.02,
            floor=0.01,
            annealing="linear",
            three_phase=True,
        ),
        range(24),
    ),
    Case(
        lambda: schedules.Cyclical(
            peak=0.3,
            half_cycle_steps=3,
            floor=0.01,
            mode="exp_range",
            decay=0.9,
        ),
        range(15),
    ),
    Case(
        lambda: schedules.Cyclical(0.3, half_cycle_steps=2, mode="triangular2"),
        range(13),
    ),
    Case(
        lambda: schedules.InverseSquareRoot(
            peak=0.3, warmup_steps=3, start=0.02
        ),
        range(9),
    ),
    Case(
        lambda: schedules.Join(
            [0.02, schedules.WarmupCosine(0.3, 9, 2)], boundaries=[4]
        ),
        range(15),
    ),
    Case(
        lambda: schedules.LinearBatchScaling(
            schedules.WarmupCosine(0.3, 18, 6), 24, 16, in_base_steps=False
        ),
        range(20),
    ),
    Case(
        lambda: schedules.SquareRootBatchScaling(
            schedules.WarmupCosine(0.3, 18, 6), 24, 16, in_base_steps=False
        ),
        range(20),
    ),
]
