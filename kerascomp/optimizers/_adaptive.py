"""Clipping of each unit's gradient by the size of its weights."""

from collections.abc import Sequence
from typing import Any

from kerascomp import _paths, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.optimizers._clipping import ClippingOptimizer

ops = keras.ops


@component(since="0.1")
class AdaptiveGradientClipping(ClippingOptimizer):
    """Clips each unit's gradient in proportion to the unit's weights.

    Use it to train without batch normalization, or at large batch sizes and
    rates: what matters is the size of a step beside the weights it changes,
    and one bound then serves layers of every size. The gradient G of the
    weights W of one unit becomes, with the Euclidean norms of both,

        G * min(1, factor * max(norm(W), epsilon) / norm(G))

    A unit is a slice along the last axis: a column of a `Dense` kernel, a
    filter of a convolution, in each case with its fan-in. A vector or a single
    number, as a bias or a gain, counts as one unit. With `factor=inf` it is
    the inner optimizer alone. A gradient that is not finite is passed on.

    It goes round any Keras optimizer, also round a `MultiOptimizer`, and
    inside a `LossScaleOptimizer`, where gradients are unscaled; Keras puts it
    there by itself in `mixed_float16`. With `gradient_accumulation_steps` the
    mean over the micro-steps is clipped, as Keras clips, for the memory of one
    more gradient. Sparse gradients of an `Embedding` become dense.

    Its only state is that of the inner optimizer, and of accumulation; it is
    saved with the model.

    Args:
        inner_optimizer: The optimizer that takes the steps, or its name.
        factor: Largest norm of a unit's gradient over that of its weights,
            above 0. 0.01 in the paper, and the larger the batch, the smaller.
        epsilon: What the norm of weights counts at least, above 0, so that
            weights that start at zero can move.
        exclude: Names of layers whose gradients stay as they are, or parts
            of the paths of variables, as `"head"` or `"block/dense/bias"`.
            The paper excludes the last linear layer.
        name: As in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If an argument is out of its range, if `inner_optimizer` is
            a `LossScaleOptimizer`, or, when training starts, if `exclude`
            names no variable, or on more than one replica.

    Examples:
        >>> weight = keras.Variable([3.0, 4.0])  # Of norm 5.
        >>> optimizer = AdaptiveGradientClipping(
        ...     keras.optimizers.SGD(1.0), factor=0.1
        ... )
        >>> optimizer.build([weight])
        >>> optimizer.apply([keras.ops.convert_to_tensor([0.0, 8.0])])
        >>> keras.ops.convert_to_numpy(weight).tolist()  # 8 becomes 0.1 * 5.
        [3.0, 3.5]

    Reference:
        Brock et al., 2021, [High-performance large-scale image recognition
        without normalization](https://arxiv.org/abs/2102.06171), equation 3.
    """

    def __init__(
        self,
        inner_optimizer: Any,
        factor: float = 0.01,
        epsilon: float = 1e-3,
        exclude: Sequence[str] = (),
        name: str | None = None,
    ):
        _validation.in_interval("factor", factor, "(0, inf]")
        _validation.in_interval("epsilon", epsilon, "(0, inf)")
        if isinstance(exclude, str):
            raise ValueError(
                "`exclude` must be a sequence of names. "
                f"Received: exclude={exclude!r}"
            )
        super().__init__(inner_optimizer, name)
        self.factor = factor
        self.epsilon = epsilon
        self.exclude = tuple(exclude)

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        _paths.check_parts("exclude", self.exclude, variables)
        super().build(variables)

    def clip(self, gradients: list, variables: list, updates: Any) -> list:
        del updates  # There is no state.
        return [
            gradient
            if self._excludes(variable)
            else self._unit_wise(gradient, variable)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]

    def _excludes(self, variable: Any) -> bool:
        path = _paths.path_of(variable)
        return any(_paths.lies_in(path, part) for part in self.exclude)

    def _unit_wise(self, gradient: Any, variable: Any) -> Any:
        weights = ops.cast(ops.convert_to_tensor(variable), "float32")
        bound = self.factor * ops.maximum(_norms(weights), self.epsilon)
        norms = _norms(gradient)
        clips = ops.logical_and(ops.isfinite(norms), norms > bound)
        ratios = bound / ops.where(clips, norms, 1.0)
        return gradient * ops.where(clips, ratios, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "factor": self.factor,
            "epsilon": self.epsilon,
            "exclude": list(self.exclude),
        }


def _norms(values: Any) -> Any:
    """Returns the norms of the units, to be broadcast over them."""
    rank = len(values.shape)
    axes = tuple(range(rank - 1)) if rank > 1 else None
    return ops.sqrt(ops.sum(ops.square(values), axis=axes, keepdims=True))
