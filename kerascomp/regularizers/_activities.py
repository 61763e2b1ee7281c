"""Penalties on what units do, for `activity_regularizer=...`."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.regularizers import _matrix

ops = keras.ops


@component(since="0.1")
class KLSparsity(keras.regularizers.Regularizer):
    """Keeps units silent most of the time, as in sparse autoencoders.

    Pass it as `activity_regularizer` of a layer with outputs in [0, 1], such
    as sigmoids. With m the mean activity of a unit over the batch and t the
    `target`, the penalty is `factor` times the sum over units of the
    Kullback-Leibler divergence

        t log(t / m) + (1 - t) log((1 - t) / (1 - m))

    which is 0 where m = t. All axes but the last count as samples. m is kept
    `keras.config.epsilon()` away from 0 and 1, linearly, so that units that
    are always off still learn.

    Args:
        factor: Strength of the penalty, at least 0.
        target: Mean activity that is wanted, in (0, 1).

    Call arguments:
        x: `(batch, ..., units)`, float. Activities; means outside [0, 1] are
            clipped.

    Returns:
        A scalar in the dtype of `x`, in nats. At least 0.

    Raises:
        ValueError: If `factor` is negative or `target` lies outside (0, 1).

    Examples:
        >>> penalty = KLSparsity(factor=1.0, target=0.5)
        >>> value = penalty(np.array([[0.1, 0.5], [0.3, 0.5]]))
        >>> # Means 0.2 and 0.5: 0.5 log(0.5 / 0.2) + 0.5 log(0.5 / 0.8).
        >>> round(float(value), 4)
        0.2231

    Reference:
        Ng, 2011, [Sparse
        autoencoder](https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf),
        section 3, with the mean over the batch for that over the training set.
    """

    def __init__(self, factor: float = 0.1, target: float = 0.05):
        _validation.in_interval("factor", factor, "[0, inf)")
        _validation.in_interval("target", target, "(0, 1)")
        self.factor = factor
        self.target = target

    def __call__(self, x: Any) -> Any:
        activity = _rows(x)
        mean = ops.clip(_sum_over(activity) / _count(activity), 0.0, 1.0)
        epsilon = keras.config.epsilon()
        # Not clipped here: a clipped value has no gradient.
        mean = epsilon + (1 - 2 * epsilon) * mean
        on, off = self.target, 1 - self.target
        divergence = on * ops.log(on / mean) + off * ops.log(off / (1 - mean))
        return ops.cast(self.factor * ops.sum(divergence), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "target": self.target}


@component(since="0.1")
class DeCov(keras.regularizers.Regularizer):
    """Makes the units of a layer vary independently of each other.

    Use it against overfitting, as `activity_regularizer` of a hidden layer.
    With C the covariance matrix of the units over the batch, divided by the
    number of samples, the penalty is

        factor / 2 * (sum of all C_ij^2 - sum of the C_ii^2)

    All axes but the last count as samples. A batch of one sample costs 0.

    Args:
        factor: Strength of the penalty, at least 0. Keras divides what a
            layer's `activity_regularizer` returns by the batch size: the
            paper's strength is `factor / batch_size`.

    Call arguments:
        x: `(batch, ..., units)`, float. Activities.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative.

    Examples:
        >>> penalty = DeCov(factor=0.1)
        >>> # The covariance of the two units is (1 * 2 + 1 * 2) / 2.
        >>> value = penalty(np.array([[1.0, 4.0], [3.0, 8.0]]))
        >>> round(float(value), 4)  # 0.1 / 2 * (2^2 + 2^2)
        0.4

    Reference:
        Cogswell et al., 2016, [Reducing overfitting in deep networks by
        decorrelating representations](https://arxiv.org/abs/1511.06068).
    """

    def __init__(self, factor: float = 0.1):
        _validation.in_interval("factor", factor, "[0, inf)")
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        activity = _rows(x)
        count = _count(activity)
        centered = activity - _sum_over(activity) / count
        covariance = ops.matmul(ops.transpose(centered), centered / count)
        # Not as a difference of sums, which would cancel.
        pairs = 1 - ops.eye(activity.shape[-1], dtype=activity.dtype)
        value = self.factor / 2 * ops.sum(ops.square(covariance * pairs))
        return ops.cast(value, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}


def _rows(x: Any) -> Any:
    """Returns activities as `(samples, units)`."""
    return _matrix.as_matrix(_matrix.wide(x))


def _sum_over(rows: Any) -> Any:
    return ops.sum(rows, axis=0)


def _count(rows: Any) -> Any:
    """Returns the number of rows, 1 if there is none, in their dtype."""
    return ops.maximum(ops.cast(ops.shape(rows)[0], rows.dtype), 1)
