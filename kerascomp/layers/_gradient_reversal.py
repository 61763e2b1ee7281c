"""Turns gradients around."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _scheduled

ops = keras.ops


@component(since="0.1")
class GradientReversal(keras.layers.Layer):
    """Passes its input on, and the gradient back with its sign changed.

    Use it between features and a classifier of what the features must not
    tell, such as the domain of a sample: the classifier learns to tell it, the
    features to hide it, in plain `compile` and `fit`. The output is the input,
    in training and in inference; the gradient is multiplied by `-factor`. With
    `factor = 0` it is `keras.ops.stop_gradient`.

    Args:
        factor: At least 0, or a `LearningRateSchedule` of the number of
            training steps that came before.
        ramp_steps: Number of training steps, at least 1, in which the factor
            grows from 0 to nearly all of `factor`, as in the paper: it is
            multiplied by `2 / (1 + exp(-10 p)) - 1` where p is the share of
            these steps that is done. None for all of it from the start.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.
        training: Whether the step counts.

    Returns:
        The input.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If `factor` is negative or `ramp_steps` is below 1.

    Examples:
        >>> features = keras.Input((8,))
        >>> label = keras.layers.Dense(3, name="label")(features)
        >>> domain = keras.layers.Dense(1)(GradientReversal(0.5)(features))
        >>> model = keras.Model(features, [label, domain])

    Reference:
        Ganin & Lempitsky, 2015, [Unsupervised domain adaptation by
        backpropagation](https://arxiv.org/abs/1409.7495), section 3.
    """

    def __init__(
        self, factor: Any = 1.0, ramp_steps: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if ramp_steps is not None:
            _validation.at_least("ramp_steps", ramp_steps, 1)
        self.factor = _scheduled.read("factor", factor, "[0, inf)")
        self.ramp_steps = ramp_steps
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:  # noqa: ARG002
        changes = isinstance(self.factor, _scheduled.Schedule)
        self._counts = changes or self.ramp_steps is not None
        if self._counts:
            self.steps = _scheduled.count_steps(self)

    def call(self, inputs: Any, training: bool = False) -> Any:
        factor = ops.cast(self._factor_now(), inputs.dtype)
        if training and self._counts:
            self.steps.assign(self.steps + 1)
        # The difference is 0, and its gradient is not.
        fixed = ops.stop_gradient(inputs)
        return fixed - factor * (inputs - fixed)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "factor": _scheduled.config(self.factor),
            "ramp_steps": self.ramp_steps,
        }

    def _factor_now(self) -> Any:
        if not self._counts:
            return self.factor
        factor = _scheduled.at(self.factor, self.steps.value)
        if self.ramp_steps is None:
            return factor
        done = ops.minimum(
            ops.cast(self.steps.value, "float32") / self.ramp_steps, 1.0
        )
        # 2 / (1 + exp(-10 p)) - 1, without cancellation.
        return factor * ops.tanh(5.0 * done)
