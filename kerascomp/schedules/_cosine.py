"""A warmup, then cosines."""

from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.schedules import _shapes

ops = keras.ops


@component(since="0.1")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Warms the learning rate up, then lowers it along a cosine.

    The usual schedule for training from scratch. The rate climbs linearly
    from `start` to `peak`, then falls to `floor` along half a cosine; with
    `cycles` above 1 it jumps back to the peak and falls again (warm restarts).
    After `total_steps` it stays at `floor`. With one cycle it equals
    `keras.optimizers.schedules.CosineDecay`, whose `decay_steps` leave the
    warmup out; with `warmup_steps = 0` and more cycles it equals
    `CosineDecayRestarts` over the same cycles. Unlike either, it knows its
    total length, warmup and restarts included.

    With W = `warmup_steps`, a cycle of C steps and t steps into it,

        start + (peak - start) * step / W                 while warming up
        floor + (top - floor) * (1 + cos(pi * t / C)) / 2       afterwards

    where top is `peak` in the first cycle and, above `floor`, shrinks by the
    factor `cycle_decay` with each further one.

    It counts the steps that it is called with: in an optimizer, micro-steps
    under `gradient_accumulation_steps`; in the callback
    `kerascomp.callbacks.WarmupCosine`, which reads its lengths from `fit`,
    updates.

    Args:
        peak: Learning rate at the end of the warmup, above 0.
        total_steps: Length in steps, warmup and all cycles included, at
            least 1.
        warmup_steps: Steps of the warmup, in `[0, total_steps)`.
        floor: Learning rate at the end, in `[0, peak]`.
        start: Learning rate at step 0 of the warmup, in `[0, peak]`.
        cycles: Number of cosine cycles, at least 1.
        cycle_multiplier: Length of each cycle over that of the one before,
            at least 1.
        cycle_decay: Height of each cycle above `floor` over that of the one
            before, in (0, 1].

    Call arguments:
        step: Integer or integer tensor of any shape, at least 0.

    Returns:
        Float32, in the shape of `step`. In `[min(start, floor), peak]`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> schedule = WarmupCosine(peak=0.4, total_steps=12, warmup_steps=4)
        >>> [round(float(schedule(step)), 3) for step in (0, 2, 4, 8, 12, 99)]
        [0.0, 0.2, 0.4, 0.2, 0.0, 0.0]

    Reference:
        Loshchilov & Hutter, 2017, [SGDR](https://arxiv.org/abs/1608.03983),
        equation 5; warmup as in Goyal et al., 2017,
        [Accurate, large minibatch SGD](https://arxiv.org/abs/1706.02677),
        section 2.2. Differs from SGDR by the warmup and by `cycle_decay`.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        floor: float = 0.0,
        start: float = 0.0,
        cycles: int = 1,
        cycle_multiplier: float = 1.0,
        cycle_decay: float = 1.0,
    ):
        _shapes.check_lengths(total_steps, warmup_steps=warmup_steps)
        _shapes.check_rates(peak, floor=floor, start=start)
        _validation.at_least("cycles", cycles, 1)
        _validation.in_interval(
            "cycle_multiplier", cycle_multiplier, "[1, inf)"
        )
        _validation.in_interval("cycle_decay", cycle_decay, "(0, 1]")
        if warmup_steps >= total_steps:
            raise ValueError(
                "`warmup_steps` must be less than `total_steps`, which "
                f"includes them. Received: warmup_steps={warmup_steps}, "
                f"total_steps={total_steps}"
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.floor = floor
        self.start = start
        self.cycles = cycles
        self.cycle_multiplier = cycle_multiplier
        self.cycle_decay = cycle_decay

    def __call__(self, step: Any) -> Any:
        climb = _shapes.climb(step, self.start, self.peak, self.warmup_steps)
        warming = _shapes.since(step, self.warmup_steps) < 0
        return ops.where(warming, climb, self._cosine(_shapes.since(step)))

    def _cosine(self, step: Any) -> Any:
        begins = self._cycle_begins()
        # The number of restarts passed, which no logarithm can round wrong.
        passed = ops.expand_dims(step, -1) >= begins[1:-1]
        cycle = ops.sum(ops.cast(passed, "int32"), axis=-1)
        begin = ops.take(begins[:-1], cycle)
        end = ops.take(begins[1:], cycle)
        left = ops.clip((end - step) / (end - begin), 0.0, 1.0)
        decay = ops.power(self.cycle_decay, ops.cast(cycle, "float32"))
        height = (self.peak - self.floor) * decay
        return self.floor + height * _shapes.cosine(left)

    def _cycle_begins(self) -> Any:
        """The first step of each cycle, and last the end of all."""
        lengths = float(self.cycle_multiplier) ** np.arange(self.cycles)
        shares = np.concatenate([[0.0], np.cumsum(lengths) / np.sum(lengths)])
        begins = self.warmup_steps + shares * (
            self.total_steps - self.warmup_steps
        )
        return ops.convert_to_tensor(begins.astype("float32"))

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "floor": self.floor,
            "start": self.start,
            "cycles": self.cycles,
            "cycle_multiplier": self.cycle_multiplier,
            "cycle_decay": self.cycle_decay,
        }
