"""Penalties that make weights exactly or nearly zero, alone or in groups."""

import math
from collections.abc import Sequence
from typing import Any

from kerascomp import _compat, _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.regularizers import _matrix

ops = keras.ops


@component(since="0.1")
class GroupLasso(keras.regularizers.Regularizer):
    """Drives whole groups of weights to zero, such as units or filters.

    Use it to find out which units, filters or input features a network can do
    without. The penalty is

        factor * sum over groups g of sqrt(size of g) * norm of the weights in g

    Where every group holds one weight it is `keras.regularizers.L1(factor)`.
    The gradient of a group that is 0 is 0. Plain gradient steps leave
    unneeded groups small rather than exactly 0: remove those below a
    threshold.

    Args:
        factor: Strength of the penalty, at least 0.
        axis: The axis that numbers the groups, or several. The default has a
            group for each output unit or filter of a dense or convolution
            kernel; `-2` for each input feature or channel; `(-2, -1)` for
            each pair of channel and filter.

    Call arguments:
        x: A weight tensor that has the axes, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative, `axis` is neither an integer nor
            different integers, or a weight lacks such an axis.

    Examples:
        >>> penalty = GroupLasso(factor=0.1)
        >>> # The columns have norms 5 and 0: 0.1 * sqrt(2) * (5 + 0).
        >>> value = penalty(np.array([[3.0, 0.0], [4.0, 0.0]]))
        >>> round(float(value), 4)
        0.7071

    Reference:
        Yuan and Lin, 2006, [Model selection and estimation in regression with
        grouped variables](https://doi.org/10.1111/j.1467-9868.2005.00532.x),
        equation 2.1, with the identity scaled by the group's size as kernel.
    """

    def __init__(self, factor: float = 0.01, axis: int | Sequence[int] = -1):
        _validation.in_interval("factor", factor, "[0, inf)")
        _check_axis(axis)
        self.factor = factor
        self.axis = axis

    def __call__(self, x: Any) -> Any:
        value = self.factor * _group_norms(_matrix.wide(x), self.axis)
        return ops.cast(value, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "axis": self.axis}


@component(since="0.1")
class SparseGroupLasso(keras.regularizers.Regularizer):
    """Drives groups of weights to zero, and single weights in the others.

    The penalty is

        factor * (l1_fraction * sum of |w|
                  + (1 - l1_fraction) * sum over g of sqrt(size of g) * norm)

    It equals `GroupLasso(factor, axis)` at `l1_fraction=0` and
    `keras.regularizers.L1(factor)` at `l1_fraction=1`.

    Args:
        factor: Strength of the penalty, at least 0.
        l1_fraction: Share of the penalty on single weights, in [0, 1].
        axis: As in `GroupLasso`.

    Call arguments:
        x: A weight tensor that has the axes, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative, `l1_fraction` lies outside [0, 1],
            `axis` is neither an integer nor different integers, or a weight
            lacks such an axis.

    Examples:
        >>> penalty = SparseGroupLasso(factor=0.1, l1_fraction=0.5)
        >>> # 0.1 * (0.5 * (3 + 4) + 0.5 * sqrt(2) * 5)
        >>> value = penalty(np.array([[3.0, 0.0], [4.0, 0.0]]))
        >>> round(float(value), 4)
        0.7036

    Reference:
        Simon et al., 2013, [A sparse-group
        lasso](https://doi.org/10.1080/10618600.2012.681250), equation 3.
    """

    def __init__(
        self,
        factor: float = 0.01,
        l1_fraction: float = 0.5,
        axis: int | Sequence[int] = -1,
    ):
        _validation.in_interval("factor", factor, "[0, inf)")
        _validation.in_interval("l1_fraction", l1_fraction, "[0, 1]")
        _check_axis(axis)
        self.factor = factor
        self.l1_fraction = l1_fraction
        self.axis = axis

    def __call__(self, x: Any) -> Any:
        weight = _matrix.wide(x)
        groups = (1 - self.l1_fraction) * _group_norms(weight, self.axis)
        single = self.l1_fraction * ops.sum(_compat.magnitude(weight))
        return ops.cast(self.factor * (groups + single), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "l1_fraction": self.l1_fraction,
            "axis": self.axis,
        }


@component(since="0.1")
class Hoyer(keras.regularizers.Regularizer):
    """Makes weights sparse without making the large ones small.

    The penalty is the squared ratio of the L1 to the L2 norm,

        factor * (sum of |w|)^2 / (sum of w^2)

    or with `square=False` the ratio itself. It does not change when all
    weights are multiplied by a number: N weights cost from 1, if one of them
    is not 0, to N (or the root of N), if they are all of one size. Weights
    that are all 0 cost 0, with gradient 0; close to that, the gradient grows
    as one over their size.

    Args:
        factor: Strength of the penalty, at least 0.
        square: Whether the ratio is squared, which works better in deep
            networks.

    Call arguments:
        x: A weight tensor of any shape, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative.

    Examples:
        >>> penalty = Hoyer(factor=0.1)
        >>> value = penalty(np.array([[1.0, -3.0], [0.0, 0.0]]))
        >>> round(float(value), 4)  # 0.1 * (1 + 3)^2 / (1 + 9)
        0.16

    Reference:
        Yang et al., 2020, [DeepHoyer](https://arxiv.org/abs/1908.09979),
        *Hoyer-Square*, and *Hoyer* for `square=False`.
    """

    def __init__(self, factor: float = 1e-4, square: bool = True):
        _validation.in_interval("factor", factor, "[0, inf)")
        _validation.one_of("square", square, (True, False))
        self.factor = factor
        self.square = square

    def __call__(self, x: Any) -> Any:
        weight = _matrix.wide(x)
        total = ops.sum(_compat.magnitude(weight))
        # The ratio is the same for weights of the mean size 1, whose squares
        # sum to their number or more, or to 0.
        scale = ops.stop_gradient(total) / max(math.prod(x.shape), 1)
        scale = ops.where(scale > 0, scale, ops.ones_like(scale))
        total = total / scale
        squares = ops.maximum(ops.sum(ops.square(weight / scale)), 0.5)
        value = (
            ops.square(total) / squares
            if self.square
            else total / ops.sqrt(squares)
        )
        return ops.cast(self.factor * value, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "square": self.square}


def _check_axis(axis: Any) -> None:
    several = axis if isinstance(axis, Sequence) else (axis,)
    integers = all(isinstance(a, int) and a is not True for a in several)
    if not (several and integers and len(set(several)) == len(several)):
        raise ValueError(
            "`axis` must be an integer or a sequence of different integers. "
            f"Received: axis={axis!r}"
        )


def _group_norms(x: Any, axis: int | Sequence[int]) -> Any:
    """Returns the sum over groups of their norm times the root of their size.

    Raises:
        ValueError: If `x` lacks one of the axes.
    """
    rank = len(x.shape)
    several = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if not all(-rank <= a < rank for a in several):
        raise ValueError(
            f"The weight must have the axes of the groups. Received: "
            f"axis={axis!r}, x.shape={tuple(x.shape)}"
        )
    numbering = {a % rank for a in several}
    inside = tuple(a for a in range(rank) if a not in numbering)
    if not inside:
        return ops.sum(_compat.magnitude(x))
    size = 1
    for a in inside:
        size *= x.shape[a]
    squares = ops.sum(ops.square(x), axis=inside)
    return size**0.5 * ops.sum(_geometry.safe_sqrt(squares))
