"""What becomes of a learning rate at another batch size."""

import math
from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.schedules import _rates, _shapes


class _BatchScaling(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate times a factor, perhaps after as many samples."""

    def __init__(
        self,
        learning_rate: Any,
        batch_size: int,
        base_batch_size: int,
        in_base_steps: bool = True,
    ):
        _rates.check("learning_rate", learning_rate)
        _validation.at_least("batch_size", batch_size, 1)
        _validation.at_least("base_batch_size", base_batch_size, 1)
        if not isinstance(in_base_steps, bool):
            raise ValueError(
                "`in_base_steps` must be True or False. "
                f"Received: in_base_steps={in_base_steps!r}"
            )
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.base_batch_size = base_batch_size
        self.in_base_steps = in_base_steps

    @property
    def ratio(self) -> float:
        """The batch size over that for which the rate was found."""
        return self.batch_size / self.base_batch_size

    @property
    def factor(self) -> float:
        """What the learning rate is multiplied by."""
        raise NotImplementedError

    def __call__(self, step: Any) -> Any:
        if self.in_base_steps:
            step = _shapes.since(step) * self.ratio
        return self.factor * _rates.at(self.learning_rate, step)

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": _rates.serialized(self.learning_rate),
            "batch_size": self.batch_size,
            "base_batch_size": self.base_batch_size,
            "in_base_steps": self.in_base_steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        rate = _rates.deserialized(config["learning_rate"])
        return cls(**{**config, "learning_rate": rate})


@component(since="0.1")
class LinearBatchScaling(_BatchScaling):
    """Carries the learning rate of SGD over to another batch size.

    With a batch k times as large, the rate is k times as large: as many
    samples move the weights as far. It is meant for SGD with or without
    momentum, which stays as it is; needs a warmup where k is large; and fails
    beyond some batch size, which depends on the task.

    The batch size is that of an update: under `gradient_accumulation_steps`,
    all samples between two updates.

    Args:
        learning_rate: What was found at `base_batch_size`: a number above 0,
            or a schedule.
        batch_size: Samples of an update now, at least 1.
        base_batch_size: Samples of an update then, at least 1. With both
            equal, nothing changes.
        in_base_steps: Whether the lengths of the schedule were counted then.
            They are reached after as many samples, that is in 1 / k of the
            steps: epochs stay what they were. False for lengths in steps of
            `batch_size`.

    Call arguments:
        step: Integer or integer tensor, at least 0. It may reach the schedule
            as a float32 with a fraction.

    Returns:
        Float32, in the shape of `step`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> found = WarmupCosine(peak=0.1, total_steps=800, warmup_steps=80)
        >>> schedule = LinearBatchScaling(found, 256, base_batch_size=32)
        >>> # 8 times the batch: warm after 10 steps, at 8 times the rate.
        >>> [round(float(schedule(step)), 3) for step in (5, 10, 100)]
        [0.4, 0.8, 0.0]

    Reference:
        Goyal et al., 2017, [Accurate, large minibatch
        SGD](https://arxiv.org/abs/1706.02677), section 2.1.
    """

    @property
    def factor(self) -> float:
        return self.ratio


@component(since="0.1")
class SquareRootBatchScaling(_BatchScaling):
    """Carries the learning rate of Adam over to another batch size.

    With a batch k times as large, the rate is sqrt(k) times as large, and the
    moments and epsilon of the optimizer change as well: `adam` returns them.
    For Adam, AdamW and RMSprop, whose `rho` is `beta_2` here. `weight_decay`
    is multiplied by the rate in Keras and needs the factor sqrt(k) as well to
    shrink the weights as much over as many samples.

    The batch size is that of an update: under `gradient_accumulation_steps`,
    all samples between two updates.

    Args:
        learning_rate: As in `LinearBatchScaling`.
        batch_size: As in `LinearBatchScaling`.
        base_batch_size: As in `LinearBatchScaling`.
        in_base_steps: As in `LinearBatchScaling`.

    Call arguments:
        step: As in `LinearBatchScaling`.

    Returns:
        Float32, in the shape of `step`.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> rate = SquareRootBatchScaling(0.001, 128, base_batch_size=32)
        >>> optimizer = keras.optimizers.Adam(rate, **rate.adam())
        >>> round(float(rate(0)), 6)  # A batch 4 times as large.
        0.002
        >>> round(optimizer.beta_1, 6), round(optimizer.beta_2, 6)
        (0.6, 0.996)

    Reference:
        Malladi et al., 2022, [On the SDEs and scaling rules for adaptive
        gradient algorithms](https://arxiv.org/abs/2205.10287), the square
        root scaling rules of RMSprop and Adam.
    """

    @property
    def factor(self) -> float:
        return math.sqrt(self.ratio)

    def adam(
        self,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ) -> dict[str, float]:
        """Carries the other arguments of Adam over to the batch size.

        With a batch k times as large, 1 - beta becomes k (1 - beta), so that
        the moments remember as many samples, and epsilon is divided by
        sqrt(k).

        Args:
            beta_1: What was found at `base_batch_size`, in [0, 1).
            beta_2: The same for the second moment.
            epsilon: The same for the constant in the denominator, above 0.

        Returns:
            `beta_1`, `beta_2` and `epsilon` for `keras.optimizers.Adam`.

        Raises:
            ValueError: If an argument is out of its range, or the batch is
                too large for a beta: k (1 - beta) is above 1.
        """
        _validation.in_interval("epsilon", epsilon, "(0, inf)")
        return {
            "beta_1": self._remembering("beta_1", beta_1),
            "beta_2": self._remembering("beta_2", beta_2),
            "epsilon": epsilon / self.factor,
        }

    def _remembering(self, name: str, beta: float) -> float:
        _validation.in_interval(name, beta, "[0, 1)")
        forgets = self.ratio * (1 - beta)
        if forgets > 1 + 1e-12:  # 10 * (1 - 0.9) is 1 but for rounding.
            raise ValueError(
                f"`{name}` cannot follow a batch {self.ratio:g} times as "
                f"large: it forgets everything beyond {1 / (1 - beta):g} "
                f"times. Received: {name}={beta}"
            )
        return max(1 - forgets, 0.0)
