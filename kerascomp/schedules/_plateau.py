"""Schedules that can go on for longer than was planned."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.schedules import _shapes

ops = keras.ops


@component(since="0.1")
class WarmupStableDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Warms up, stays at the peak for most of the run, then decays.

    For runs that may be prolonged: a cosine is fixed to its length, but from
    any point of the plateau a short decay gives about the result of a run
    that was planned to end there. Save a model on the plateau, and train it
    on with a larger `total_steps`. After `total_steps` the rate stays at
    `floor`.

    With x the share of the decay that is over, the height above `floor` falls
    as 1 - x (`"linear"`), (1 + cos(pi x)) / 2 (`"cosine"`) or 1 - sqrt(x)
    (`"1-sqrt"`, the best in the comparison of Hägele et al.). With
    `decay_steps = total_steps - warmup_steps` there is no plateau, and the
    cosine is `WarmupCosine`.

    It counts the steps that it is called with: in an optimizer, micro-steps
    under `gradient_accumulation_steps`; in
    `kerascomp.callbacks.ScheduleLearningRate`, updates.

    Args:
        peak: Rate of the plateau, above 0.
        total_steps: Length in steps, warmup and decay included, at least 1.
        decay_steps: Steps of the decay, at least 0. 10 to 20 % of the total
            are usual.
        warmup_steps: Steps of the linear warmup, at least 0. With the decay,
            at most `total_steps`.
        decay: `"linear"`, `"cosine"` or `"1-sqrt"`.
        floor: Rate at the end, in `[0, peak]`.
        start: Rate at step 0 of the warmup, in `[0, peak]`.

    Call arguments:
        step: Integer or integer tensor of any shape, at least 0.

    Returns:
        Float32, in the shape of `step`. In `[min(start, floor), peak]`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> schedule = WarmupStableDecay(
        ...     peak=0.4, total_steps=20, decay_steps=8, warmup_steps=4
        ... )
        >>> # A quarter of the decay halves the rate: 1 - sqrt(1 / 4).
        >>> [round(float(schedule(step)), 2) for step in (2, 4, 12, 14, 20)]
        [0.2, 0.4, 0.4, 0.2, 0.0]

    Reference:
        Hu et al., 2024, [MiniCPM](https://arxiv.org/abs/2404.06395), section
        4; the shapes of the decay from Hägele et al., 2024, [Scaling laws and
        compute-optimal training beyond fixed training
        durations](https://arxiv.org/abs/2405.18392).
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        decay_steps: int,
        warmup_steps: int = 0,
        decay: str = "1-sqrt",
        floor: float = 0.0,
        start: float = 0.0,
    ):
        _shapes.check_rates(peak, floor=floor, start=start)
        _shapes.check_lengths(
            total_steps, decay_steps=decay_steps, warmup_steps=warmup_steps
        )
        _validation.one_of("decay", decay, tuple(_shapes.DESCENTS))
        if warmup_steps + decay_steps > total_steps:
            raise ValueError(
                "`warmup_steps` and `decay_steps` must be together at most "
                "`total_steps`, which includes them. Received: "
                f"warmup_steps={warmup_steps}, decay_steps={decay_steps}, "
                f"total_steps={total_steps}"
            )
        self.peak = peak
        self.total_steps = total_steps
        self.decay_steps = decay_steps
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.floor = floor
        self.start = start

    def __call__(self, step: Any) -> Any:
        climb = _shapes.climb(step, self.start, self.peak, self.warmup_steps)
        begin = self.total_steps - self.decay_steps
        share = _shapes.left(step, begin, self.total_steps)
        height = (self.peak - self.floor) * _shapes.DESCENTS[self.decay](share)
        return ops.where(
            _shapes.since(step, self.warmup_steps) < 0,
            climb,
            self.floor + height,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "floor": self.floor,
            "start": self.start,
        }


@component(since="0.1")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Warms up, then falls with the square root of the step, without end.

    For training whose length is open, and for transformers as they were first
    trained. The rate climbs linearly from `start` to `peak` in `warmup_steps`
    and is `peak * sqrt(warmup_steps / step)` afterwards: four times the steps
    halve it. With `start = peak` it is constant first, as in T5.

    It counts the steps that it is called with: in an optimizer, micro-steps
    under `gradient_accumulation_steps`; in
    `kerascomp.callbacks.ScheduleLearningRate`, updates.

    Args:
        peak: Rate at the end of the warmup, above 0.
        warmup_steps: Steps of the warmup, at least 1.
        start: Rate at step 0, in `[0, peak]`.

    Call arguments:
        step: Integer or integer tensor of any shape, at least 0.

    Returns:
        Float32, in the shape of `step`. In `[0, peak]`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> schedule = InverseSquareRoot(peak=0.4, warmup_steps=4)
        >>> [round(float(schedule(step)), 2) for step in (0, 2, 4, 16, 64)]
        [0.0, 0.2, 0.4, 0.2, 0.1]

    Reference:
        Vaswani et al., 2017, [Attention is all you
        need](https://arxiv.org/abs/1706.03762), equation 3, with `peak` =
        1 / sqrt(d_model * warmup_steps). There the first update is step 1; here
        it is step 0, at the rate `start`.
    """

    def __init__(self, peak: float, warmup_steps: int, start: float = 0.0):
        _shapes.check_rates(peak, start=start)
        _validation.at_least("warmup_steps", warmup_steps, 1)
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.start = start

    def __call__(self, step: Any) -> Any:
        climb = _shapes.climb(step, self.start, self.peak, self.warmup_steps)
        # Not at step 0, where the root would be infinite.
        later = ops.maximum(_shapes.since(step), float(self.warmup_steps))
        return ops.where(
            _shapes.since(step, self.warmup_steps) < 0,
            climb,
            self.peak * ops.sqrt(self.warmup_steps / later),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "start": self.start,
        }
