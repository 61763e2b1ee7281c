"""What optimizers share that clip gradients on their way to another one."""

from collections.abc import Sequence
from typing import Any

from kerascomp import _compat
from kerascomp._compat import keras

ops = keras.ops


class ClippingOptimizer(keras.optimizers.Optimizer):
    """Hands clipped gradients to the optimizer that it is made around.

    Rate, schedule, weight decay, averages and slots are those of the inner
    optimizer, whose variables follow this one's own in `variables`.

    With `gradient_accumulation_steps`, what is clipped is the mean that the
    inner optimizer is about to apply. It gets zeros until the micro-step that
    makes the update, and then the clipped mean as often as it will divide by.
    """

    def __init__(self, inner_optimizer: Any, name: str | None):
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = _checked(keras.optimizers.get(inner_optimizer))

    def clip(
        self, gradients: list, variables: list, updates: Any
    ) -> Sequence[Any]:
        """Returns the gradients of one update, clipped.

        Args:
            gradients: Float32 tensors, one a variable; unscaled.
            variables: What they are the gradients of.
            updates: Whether this step makes an update; None for always. If
                not, the result is dropped, and state must stay as it is.
        """
        raise NotImplementedError

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        if _compat.replicas() > 1:
            raise ValueError(
                f"{type(self).__name__} works on one replica: each of several "
                "would clip its share of the gradient by a bound of its own. "
                f"Received: {_compat.replicas()} replicas"
            )
        variables = list(variables)
        self.inner_optimizer.build(variables)
        super().build(variables)
        self.micro_steps = self._count_micro_steps()
        if self.micro_steps > 1:
            self.sums = self.add_optimizer_variables(variables, "gradient_sum")

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        if len(grads) == 0:
            return
        if not self.built:
            self.build(trainable_variables)
        known = _compat.optimizer_targets(self)
        variables = (
            known if trainable_variables is None else list(trainable_variables)
        )
        grads = list(grads)
        # Missing ones are the inner optimizer's to report, and those that are
        # new values, as the scales of float8, are no gradients.
        places = [
            place
            for place, (gradient, variable) in enumerate(
                zip(grads, variables, strict=True)
            )
            if gradient is not None
            and not getattr(variable, "overwrite_with_gradient", False)
        ]
        clipped = self._clipped(
            [grads[place] for place in places],
            [variables[place] for place in places],
        )
        for place, gradient in zip(places, clipped, strict=True):
            grads[place] = gradient
        self.inner_optimizer.apply(grads, variables)

    def _clipped(self, gradients: list, variables: list) -> list:
        scale = self.loss_scale_factor or 1.0
        tensors = [_compat.dense(gradient) for gradient in gradients]
        floats = [ops.cast(g, "float32") / scale for g in tensors]
        if self.micro_steps > 1:
            new = self._accumulated(floats, variables)
        else:
            new = list(self.clip(floats, variables, None))
        return [
            ops.cast(value * scale, gradient.dtype)
            for value, gradient in zip(new, tensors, strict=True)
        ]

    def _accumulated(self, gradients: list, variables: list) -> list:
        """Returns zeros, or at an update the clipped sum over its steps."""
        count = super().iterations  # The inner optimizer has its own.
        updates = ops.equal((count + 1) % self.micro_steps, 0)
        sums = [self.sums[self._get_variable_index(v)] for v in variables]
        totals = [
            ops.cast(s, "float32") + g
            for s, g in zip(sums, gradients, strict=True)
        ]
        means = [total / self.micro_steps for total in totals]
        clipped = self.clip(means, variables, updates)
        for each, total in zip(sums, totals, strict=True):
            each.assign(ops.where(updates, ops.zeros_like(total), total))
        count.assign_add(1)
        return [ops.where(updates, c * self.micro_steps, 0.0) for c in clipped]

    def _count_micro_steps(self) -> int:
        optimizers = _compat.optimizers_of(self.inner_optimizer)
        counts = {o.gradient_accumulation_steps or 1 for o in optimizers}
        if len(counts) > 1:
            raise ValueError(
                f"{type(self).__name__} clips what one update applies. Give "
                "all optimizers of a MultiOptimizer the same "
                "`gradient_accumulation_steps`. Received: "
                f"gradient_accumulation_steps={sorted(counts)}"
            )
        return counts.pop()

    @property
    def variables(self) -> list:
        """Its own variables, then those of the inner optimizer."""
        return super().variables + self.inner_optimizer.variables

    @property
    def learning_rate(self) -> Any:
        """That of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def loss_scale_factor(self) -> float | None:
        """That of the inner optimizer."""
        inner = vars(self).get("inner_optimizer")
        return None if inner is None else inner.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: float | None) -> None:
        # Keras' constructor sets it before there is an inner optimizer.
        if "inner_optimizer" in vars(self):
            self.inner_optimizer.loss_scale_factor = factor

    @property
    def iterations(self) -> Any:
        """How many updates the inner optimizer made."""
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Any) -> None:
        self.inner_optimizer.finalize_variable_values(var_list)

    def set_weights(self, weights: Sequence[Any]) -> None:
        own = len(super().variables)
        super().set_weights(weights[:own])
        self.inner_optimizer.set_weights(weights[own:])

    def get_config(self) -> dict[str, Any]:
        # Of Keras' arguments, an optimizer around another one takes its name.
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "ClippingOptimizer":
        inner = keras.saving.deserialize_keras_object(
            config["inner_optimizer"], custom_objects=custom_objects
        )
        return cls(**{**config, "inner_optimizer": inner})


def _checked(optimizer: Any) -> Any:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "`inner_optimizer` must not be a LossScaleOptimizer, whose "
            "gradients are scaled. Put this optimizer inside it: "
            "`LossScaleOptimizer(AutoClip(SGD()))`. "
            f"Received: inner_optimizer={optimizer!r}"
        )
    return optimizer
