"""Penalties on the size of weights."""

from typing import Any

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class ScaledL1(keras.regularizers.Regularizer):
    """Penalizes absolute weights on the scale of one training sample.

    The counterpart of `ScaledL2` that makes weights sparse: the cost of n
    samples is their mean loss plus `factor / (2 n)` times the sum of absolute
    weights. It equals `keras.regularizers.L1(factor / (2 * num_samples))`.
    Some texts have lambda / n in front instead: pass them as `factor=2 *
    lambda`.

    Args:
        factor: Strength of the penalty, lambda in the literature, at least 0.
        num_samples: Number of training samples, at least 1.

    Call arguments:
        x: A weight tensor of any shape, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative or `num_samples` is below 1.

    Examples:
        >>> penalty = ScaledL1(factor=3.0, num_samples=10)
        >>> value = penalty(np.array([[1.0, -2.0], [3.0, 0.0]]))
        >>> round(float(value), 6)  # 3 / (2 * 10) * (1 + 2 + 3)
        0.9

    Reference:
        Nielsen, 2015, [Neural networks and deep
        learning](http://neuralnetworksanddeeplearning.com/chap3.html),
        equation 95. Differs from it by the 2, as `ScaledL2` has it.
    """

    def __init__(self, factor: float, num_samples: int):
        _validation.in_interval("factor", factor, "[0, inf)")
        _validation.at_least("num_samples", num_samples, 1)
        self.factor = factor
        self.num_samples = num_samples

    def __call__(self, x: Any) -> Any:
        total = ops.sum(_compat.magnitude(ops.convert_to_tensor(x)))
        return self.factor / (2 * self.num_samples) * total

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "num_samples": self.num_samples}


@component(since="0.1")
class ScaledL2(keras.regularizers.Regularizer):
    """Penalizes squared weights on the scale of one training sample.

    Use it when the penalty is stated for the whole training set, as textbooks
    do: the cost of n samples is their mean loss plus `factor / (2 n)` times
    the sum of squared weights. The strength that suits a problem then stays
    about the same when the training set grows. It equals
    `keras.regularizers.L2(factor / (2 * num_samples))`, and its gradient is
    `factor / num_samples` times the weight.

    Args:
        factor: Strength of the penalty, lambda in the literature, at least 0.
        num_samples: Number of training samples, at least 1.

    Call arguments:
        x: A weight tensor of any shape, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative or `num_samples` is below 1.

    Examples:
        >>> penalty = ScaledL2(factor=3.0, num_samples=10)
        >>> value = penalty(np.array([[1.0, -2.0], [3.0, 0.0]]))
        >>> round(float(value), 6)  # 3 / (2 * 10) * (1 + 4 + 9)
        2.1

    Reference:
        Nielsen, 2015, [Neural networks and deep
        learning](http://neuralnetworksanddeeplearning.com/chap3.html),
        equation 87.
    """

    def __init__(self, factor: float, num_samples: int):
        _validation.in_interval("factor", factor, "[0, inf)")
        _validation.at_least("num_samples", num_samples, 1)
        self.factor = factor
        self.num_samples = num_samples

    def __call__(self, x: Any) -> Any:
        return self.factor / (2 * self.num_samples) * ops.sum(ops.square(x))

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "num_samples": self.num_samples}
