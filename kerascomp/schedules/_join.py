"""Schedules one after the other."""

from collections.abc import Sequence
from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.schedules import _rates

ops = keras.ops


@component(since="0.1")
class Join(keras.optimizers.schedules.LearningRateSchedule):
    """Runs schedules one after the other, each from its own step 0.

    The schedule i runs from the step `boundaries[i - 1]` on, and there its
    own count begins. Its length is that of its parts; the last one runs on.
    With numbers in place of schedules it equals
    `keras.optimizers.schedules.PiecewiseConstantDecay`, whose boundaries are
    the last steps of each part, where these are the first of the next.

    It counts the steps that it is called with: in an optimizer, micro-steps
    under `gradient_accumulation_steps`; in
    `kerascomp.callbacks.ScheduleLearningRate`, updates.

    Args:
        schedules: At least one; schedules of kerascomp or of Keras, or
            numbers above 0 for constant rates.
        boundaries: The first step of each schedule but the first: at least
            1, increasing.

    Call arguments:
        step: Integer or integer tensor, at least 0, of any shape that all of
            the schedules take.

    Returns:
        Float32, in the shape of `step`.

    Raises:
        ValueError: If the boundaries do not increase, or there is not one
            between any two schedules; if a number is not above 0.

    Examples:
        >>> halved = keras.optimizers.schedules.ExponentialDecay(0.4, 1, 0.5)
        >>> schedule = Join([0.1, halved], boundaries=[3])
        >>> [round(float(schedule(step)), 3) for step in (0, 2, 3, 4, 5)]
        [0.1, 0.1, 0.4, 0.2, 0.1]

    Reference:
        As `join_schedules` of [Optax](https://optax.readthedocs.io).
    """

    def __init__(self, schedules: Sequence[Any], boundaries: Sequence[int]):
        for rate in schedules:
            _rates.check("schedules", rate)
        if len(schedules) != len(boundaries) + 1:
            raise ValueError(
                "`boundaries` must be one less than `schedules`. Received: "
                f"{len(boundaries)} boundaries of {len(schedules)} schedules"
            )
        for boundary in boundaries:
            _validation.at_least("boundaries", boundary, 1)
        if any(b <= a for a, b in zip(boundaries, boundaries[1:])):  # noqa: B905, RUF007
            raise ValueError(
                f"`boundaries` must increase. Received: boundaries={boundaries}"
            )
        self.schedules = list(schedules)
        self.boundaries = list(boundaries)

    def __call__(self, step: Any) -> Any:
        step = ops.convert_to_tensor(step)
        rate = _rates.at(self.schedules[0], step)
        for begin, schedule in zip(
            self.boundaries, self.schedules[1:], strict=True
        ):
            # Not below 0, where a schedule need not be defined.
            own = _rates.at(schedule, ops.maximum(step - begin, 0))
            rate = ops.where(step >= begin, own, rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        return {
            "schedules": [_rates.serialized(rate) for rate in self.schedules],
            "boundaries": self.boundaries,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Join":
        schedules = [_rates.deserialized(rate) for rate in config["schedules"]]
        return cls(schedules, config["boundaries"])
