"""Schedules that rise and fall: one cycle, or many."""

import math
from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.schedules import _shapes

ops = keras.ops

_MODES = ("triangular", "triangular2", "exp_range")


@component(since="0.1")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises to a large learning rate, then falls far below the first one.

    Use it to train fast at rates that would diverge from the start; find the
    peak with `kerascomp.callbacks.LearningRateRangeTest`. The rate climbs
    from `start` to `peak` in `warmup_steps`, then falls to `floor` at
    `total_steps`, which include the warmup, and stays there. With
    `three_phase` it first falls back to `start` in as many steps as it
    climbed, and then to `floor`, as in the paper. The paper lets the momentum
    fall and rise against the rate, which a schedule cannot.

    It counts the steps that it is called with: in an optimizer, micro-steps
    under `gradient_accumulation_steps`; in
    `kerascomp.callbacks.ScheduleLearningRate`, updates.

    Args:
        peak: The largest rate, above 0.
        total_steps: Length in steps, warmup included, at least 1.
        warmup_steps: Steps of the climb, at least 0, less than `total_steps`;
            with `three_phase`, less than half of it.
        start: Rate at step 0, in `[0, peak]`. None means `peak / 25`.
        floor: Rate at the end, in `[0, peak]`.
        annealing: `"cosine"` or `"linear"`, the shape of every phase.
        three_phase: Whether the fall has two phases.

    Call arguments:
        step: Integer or integer tensor of any shape, at least 0.

    Returns:
        Float32, in the shape of `step`. In `[min(start, floor), peak]`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> schedule = OneCycle(
        ...     peak=1.0, total_steps=10, warmup_steps=4, annealing="linear"
        ... )
        >>> [round(float(schedule(step)), 2) for step in (0, 2, 4, 7, 10, 99)]
        [0.04, 0.52, 1.0, 0.5, 0.0, 0.0]

    Reference:
        Smith & Topin, 2018,
        [Super-convergence](https://arxiv.org/abs/1708.07120). With T =
        `total_steps` + 1, it equals torch's `OneCycleLR` with `total_steps`
        T, `pct_start` (`warmup_steps` + 1) / T, and the same phases.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int,
        start: float | None = None,
        floor: float = 0.0,
        annealing: str = "cosine",
        three_phase: bool = False,
    ):
        _shapes.check_rates(peak, start=start, floor=floor)
        _shapes.check_lengths(total_steps, warmup_steps=warmup_steps)
        _validation.one_of("annealing", annealing, ("cosine", "linear"))
        if (1 + three_phase) * warmup_steps >= total_steps:
            bound = "half of `total_steps`" if three_phase else "`total_steps`"
            raise ValueError(
                f"`warmup_steps` must be less than {bound}. Received: "
                f"warmup_steps={warmup_steps}, total_steps={total_steps}"
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.start = start
        self.floor = floor
        self.annealing = annealing
        self.three_phase = three_phase

    def __call__(self, step: Any) -> Any:
        start = self.peak / 25 if self.start is None else self.start
        warm = self.warmup_steps
        if not self.three_phase:
            rate = self._phase(step, warm, self.total_steps, self.peak)
        else:
            rate = ops.where(
                _shapes.since(step, 2 * warm) < 0,
                self._phase(step, warm, 2 * warm, self.peak, start),
                self._phase(step, 2 * warm, self.total_steps, start),
            )
        climb = self._phase(step, 0, warm, start, self.peak)
        return ops.where(_shapes.since(step, warm) < 0, climb, rate)

    def _phase(
        self,
        step: Any,
        begin: int,
        end: int,
        first: float,
        last: float | None = None,
    ) -> Any:
        last = self.floor if last is None else last
        share = _shapes.left(step, begin, end)
        return last + (first - last) * _shapes.DESCENTS[self.annealing](share)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "start": self.start,
            "floor": self.floor,
            "annealing": self.annealing,
            "three_phase": self.three_phase,
        }


@component(since="0.1")
class Cyclical(keras.optimizers.schedules.LearningRateSchedule):
    """Lets the learning rate rise and fall, again and again.

    For runs whose length is not known before: it has no end, and every low
    point is a good place to stop. It climbs linearly from `floor` to `peak` in
    `half_cycle_steps` and falls back in as many. The height above `floor`
    stays (`"triangular"`), halves from cycle to cycle (`"triangular2"`), or
    is multiplied by `decay` at every step (`"exp_range"`, which with
    `decay = 1` is `"triangular"`).

    It counts the steps that it is called with: in an optimizer, micro-steps
    under `gradient_accumulation_steps`; in
    `kerascomp.callbacks.ScheduleLearningRate`, updates.

    Args:
        peak: Largest rate of the first cycle, above 0.
        half_cycle_steps: Steps from `floor` to `peak`, at least 1. The paper
            takes 2 to 8 epochs.
        floor: Smallest rate, in `[0, peak]`.
        mode: `"triangular"`, `"triangular2"` or `"exp_range"`.
        decay: Factor of each step, in (0, 1], for `"exp_range"` alone.

    Call arguments:
        step: Integer or integer tensor of any shape, at least 0.

    Returns:
        Float32, in the shape of `step`. In `[floor, peak]`.

    Raises:
        ValueError: If an argument is out of its range, or `decay` is given to
            another mode.

    Examples:
        >>> schedule = Cyclical(peak=0.5, half_cycle_steps=4, floor=0.1)
        >>> [round(float(schedule(step)), 2) for step in (0, 2, 4, 6, 8, 12)]
        [0.1, 0.3, 0.5, 0.3, 0.1, 0.5]

    Reference:
        Smith, 2015, [Cyclical learning rates for training neural
        networks](https://arxiv.org/abs/1506.01186), section 3. Equals torch's
        `CyclicLR` with `step_size_up=half_cycle_steps`.
    """

    def __init__(
        self,
        peak: float,
        half_cycle_steps: int,
        floor: float = 0.0,
        mode: str = "triangular",
        decay: float = 1.0,
    ):
        _shapes.check_rates(peak, floor=floor)
        _validation.at_least("half_cycle_steps", half_cycle_steps, 1)
        _validation.one_of("mode", mode, _MODES)
        _validation.in_interval("decay", decay, "(0, 1]")
        if decay != 1 and mode != "exp_range":
            raise ValueError(
                '`decay` is for `mode="exp_range"` alone. '
                f"Received: mode={mode!r}, decay={decay}"
            )
        self.peak = peak
        self.half_cycle_steps = half_cycle_steps
        self.floor = floor
        self.mode = mode
        self.decay = decay

    def __call__(self, step: Any) -> Any:
        step = ops.convert_to_tensor(step)
        length = 2 * self.half_cycle_steps
        # Of integers, as long as they are, nothing is rounded.
        place = _shapes.since(ops.mod(step, length))
        share = ops.minimum(place, length - place) / self.half_cycle_steps
        height = (self.peak - self.floor) * share
        if self.mode == "triangular2":
            cycle = _shapes.since(ops.floor_divide(step, length))
            height = height * ops.exp(cycle * -math.log(2))
        elif self.mode == "exp_range":
            # No power of the decay: in float32 it is another number.
            height = height * ops.exp(
                _shapes.since(step) * math.log(self.decay)
            )
        return self.floor + height

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "half_cycle_steps": self.half_cycle_steps,
            "floor": self.floor,
            "mode": self.mode,
            "decay": self.decay,
        }
