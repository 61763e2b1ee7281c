"""Clipping by a percentile of the gradient norms seen so far."""

from collections.abc import Sequence
from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.optimizers._clipping import ClippingOptimizer

ops = keras.ops


@component(since="0.1")
class AutoClip(ClippingOptimizer):
    """Clips gradients at a percentile of the norms seen so far.

    Use it instead of `global_clipnorm` where no one knows the right bound, or
    where it changes in the course of training: it follows the gradients. With
    n the norm of the whole gradient and c the percentile of the norms of the
    last `history_steps` updates, this one included, the gradient becomes

        g * min(1, c / n)

    With `percentile=100` it is the inner optimizer alone. A norm that is not
    finite is passed on, so that it is seen, and does not enter the history.

    It goes round any Keras optimizer, also round a `MultiOptimizer`, whose
    gradients it clips together, and inside a `LossScaleOptimizer`, where
    gradients are unscaled and skipped steps leave no trace; Keras puts it
    there by itself in `mixed_float16`. With `gradient_accumulation_steps` the
    mean over the micro-steps is clipped, as Keras clips, for the memory of one
    more gradient. Sparse gradients of an `Embedding` become dense. Do not set
    `clipnorm` and the like on the inner optimizer, unless the gradient is to
    be clipped twice.

    The history, a float32 for each of its steps, and the inner optimizer's
    state are saved with the model.

    Args:
        inner_optimizer: The optimizer that takes the steps, or its name.
        percentile: Which percentile of the history bounds the norm, in
            (0, 100]; between two norms it is interpolated. 10 in the paper.
        history_steps: How many updates the history holds, at least 1. The
            paper keeps all of them.
        name: As in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If an argument is out of its range, if `inner_optimizer` is
            a `LossScaleOptimizer`, or, when training starts, on more than one
            replica.

    Examples:
        >>> weight = keras.Variable(10.0)
        >>> optimizer = AutoClip(
        ...     keras.optimizers.SGD(1.0), percentile=50, history_steps=3
        ... )
        >>> optimizer.build([weight])
        >>> for gradient in (1.0, 3.0):  # The median of both is 2.
        ...     optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        >>> float(keras.ops.convert_to_numpy(weight))  # 3 is clipped at 2.
        7.0

    Reference:
        Seetharaman et al., 2020, [AutoClip: Adaptive gradient clipping for
        source separation networks](https://arxiv.org/abs/2007.14469). Differs
        in that the history is bounded.
    """

    def __init__(
        self,
        inner_optimizer: Any,
        percentile: float = 10.0,
        history_steps: int = 1000,
        name: str | None = None,
    ):
        _validation.in_interval("percentile", percentile, "(0, 100]")
        _validation.at_least("history_steps", history_steps, 1)
        super().__init__(inner_optimizer, name)
        self.percentile = percentile
        self.history_steps = history_steps

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        self.norms = self.add_variable(
            (self.history_steps,), dtype="float32", name="norms"
        )
        self.norms_seen = self.add_variable((), dtype="int", name="norms_seen")
        super().build(variables)

    def clip(self, gradients: list, variables: list, updates: Any) -> list:
        del variables
        squares = [ops.sum(ops.square(g)) for g in gradients]
        norm = ops.sqrt(ops.sum(ops.stack(squares)))
        enters = ops.isfinite(norm)
        if updates is not None:
            enters = ops.logical_and(enters, updates)
        seen = ops.cast(self.norms_seen, "int32")
        slots = ops.arange(self.history_steps, dtype="int32")
        here = ops.logical_and(enters, slots == seen % self.history_steps)
        norms = ops.where(here, norm, ops.convert_to_tensor(self.norms))
        seen = seen + ops.cast(enters, "int32")
        self.norms.assign(norms)
        self.norms_seen.assign(ops.cast(seen, self.norms_seen.dtype))
        bound = _percentile(norms, self.percentile, seen)
        clips = ops.logical_and(ops.isfinite(norm), norm > bound)
        factor = ops.where(clips, bound / ops.where(clips, norm, 1.0), 1.0)
        return [g * factor for g in gradients]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "percentile": self.percentile,
            "history_steps": self.history_steps,
        }


def _percentile(values: Any, percentile: float, count: Any) -> Any:
    """Returns what NumPy gives for the first `count` values, at least one."""
    places = ops.arange(values.shape[0], dtype="int32")
    count = ops.clip(count, 1, values.shape[0])
    ordered = ops.sort(ops.where(places < count, values, float("inf")))
    position = percentile / 100 * ops.cast(count - 1, "float32")
    low = ops.cast(ops.floor(position), "int32")
    high = ops.minimum(low + 1, count - 1)
    share = position - ops.cast(low, "float32")
    bottom, top = ops.take(ordered, low), ops.take(ordered, high)
    # Not by differences: the largest of all has to come out exactly.
    return bottom * (1 - share) + top * share
