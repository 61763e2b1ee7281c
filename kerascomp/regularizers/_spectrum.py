"""Penalties on the singular values of weight matrices."""

from typing import Any

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.regularizers import _matrix

ops = keras.ops


@component(since="0.1")
class SpectralNorm(keras.regularizers.Regularizer):
    """Makes a layer less sensitive to perturbations of its input.

    The penalty is `factor / 2` times the square of the largest singular value,
    which bounds how much the layer can stretch its input. Unlike
    `keras.layers.SpectralNormalization`, it does not fix that bound to 1.

    A kernel becomes a matrix of all but the last axis by the last, `(height *
    width * channels, filters)` for a convolution, as in the paper. The norm of
    that matrix is not that of the convolution, which lies below it times
    `sqrt(height * width)`. A vector counts as a matrix of one row.

    Args:
        factor: Strength of the penalty, at least 0.
        num_iterations: Steps of power iteration, at least 1: the value is
            then at most the true one, and close to it unless several singular
            values are nearly as large as the largest. None computes it exactly
            by a singular value decomposition, which takes much longer for
            kernels with hundreds of inputs and outputs.

    Call arguments:
        x: A weight tensor with at least one axis, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative, `num_iterations` is below 1, or
            the weight is a scalar.

    Examples:
        >>> penalty = SpectralNorm(factor=0.1)
        >>> value = penalty(np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        >>> round(float(value), 4)  # 0.1 / 2 * 3^2
        0.45

    Reference:
        Yoshida and Miyato, 2017, [Spectral norm
        regularization](https://arxiv.org/abs/1705.10941). Differs from it in
        the power iteration, which starts anew at each step and takes more
        iterations: a penalty has no state.
    """

    def __init__(self, factor: float = 0.01, num_iterations: int | None = 10):
        _validation.in_interval("factor", factor, "[0, inf)")
        if num_iterations is not None:
            _validation.at_least("num_iterations", num_iterations, 1)
        self.factor = factor
        self.num_iterations = num_iterations

    def __call__(self, x: Any) -> Any:
        matrix = _matrix.as_matrix(_matrix.wide(x))
        value = _matrix.spectral_norm(matrix, self.num_iterations)
        return ops.cast(self.factor / 2 * ops.square(value), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "num_iterations": self.num_iterations}


@component(since="0.1")
class NuclearNorm(keras.regularizers.Regularizer):
    """Makes weight matrices low in rank, so that they can be factorized.

    The penalty is `factor` times the sum of the singular values, which are
    computed by a singular value decomposition at every step: expensive for
    kernels with hundreds of inputs and outputs.

    A kernel becomes a matrix of all but the last axis by the last, `(height *
    width * channels, filters)` for a convolution. A vector counts as a matrix
    of one row, whose only singular value is its norm. The gradient leaves
    singular values of 0 alone, and is 0 if all weights are.

    Args:
        factor: Strength of the penalty, at least 0.

    Call arguments:
        x: A weight tensor with at least one axis, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative or the weight is a scalar.

    Examples:
        >>> penalty = NuclearNorm(factor=0.1)
        >>> value = penalty(np.array([[3.0, 0.0], [0.0, -1.0], [0.0, 0.0]]))
        >>> round(float(value), 4)  # 0.1 * (3 + 1)
        0.4

    Reference:
        Fazel, Hindi and Boyd, 2001, [A rank minimization
        heuristic](https://doi.org/10.1109/ACC.2001.945730), equation 2.
    """

    def __init__(self, factor: float = 0.01):
        _validation.in_interval("factor", factor, "[0, inf)")
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        matrix = _matrix.as_matrix(_matrix.wide(x))
        value = self.factor * _matrix.nuclear_norm(matrix)
        return ops.cast(value, x.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}


@component(since="0.1")
class SoftOrthogonality(keras.regularizers.Regularizer):
    """Pulls the columns of weight matrices towards an orthonormal set.

    Use it to keep signals and gradients of one size through deep networks.
    Unlike `keras.regularizers.OrthogonalRegularizer` it takes kernels of any
    rank, asks for columns of norm 1 as well, and is finite for one row or one
    column. With W the weight as a matrix and I the identity, the penalty is
    `factor` times

        "soft"                 ||W^T W - I||^2, the sum of squares
        "double"               ||W^T W - I||^2 + ||W W^T - I||^2
        "mutual_coherence"     the largest |element| of W^T W - I
        "restricted_isometry"  the largest singular value of W^T W - I

    Written out, "double" is twice "soft" plus a constant: it is "soft" with
    twice the factor. More columns than rows cannot be orthonormal: the first
    two then make the rows orthonormal, and no penalty reaches 0.

    A kernel becomes a matrix of all but the last axis by the last, `(height *
    width * channels, filters)` for a convolution, as in the paper. A vector
    counts as a matrix of one row.

    Args:
        factor: Strength of the penalty, at least 0.
        variant: `"soft"`, `"double"`, `"mutual_coherence"` or
            `"restricted_isometry"`.
        num_iterations: Steps of power iteration of `"restricted_isometry"`, at
            least 1; None for the exact value, as in `SpectralNorm`.

    Call arguments:
        x: A weight tensor with at least one axis, float.

    Returns:
        A scalar in the dtype of `x`. At least 0.

    Raises:
        ValueError: If `factor` is negative, `variant` is unknown,
            `num_iterations` is below 1, or the weight is a scalar.

    Examples:
        >>> penalty = SoftOrthogonality(factor=0.1)
        >>> # W^T W - I is [[3, 0], [0, -1]].
        >>> value = penalty(np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
        >>> round(float(value), 4)  # 0.1 * (9 + 1)
        1.0

    Reference:
        Bansal, Chen and Wang, 2018, [Can we gain more from orthogonality
        regularizations](https://arxiv.org/abs/1810.09102), section 3. Differs
        from it in the power iteration of `"restricted_isometry"`, whose start
        is fixed instead of random.
    """

    def __init__(
        self,
        factor: float = 0.01,
        variant: str = "soft",
        num_iterations: int | None = 10,
    ):
        _validation.in_interval("factor", factor, "[0, inf)")
        _validation.one_of("variant", variant, _VARIANTS)
        if num_iterations is not None:
            _validation.at_least("num_iterations", num_iterations, 1)
        self.factor = factor
        self.variant = variant
        self.num_iterations = num_iterations

    def __call__(self, x: Any) -> Any:
        matrix = _matrix.as_matrix(_matrix.wide(x))
        return ops.cast(self.factor * self._deviation(matrix), x.dtype)

    def _deviation(self, matrix: Any) -> Any:
        rows, columns = matrix.shape
        if self.variant in ("soft", "double"):
            # ||W^T W - I||^2 and ||W W^T - I||^2 differ by columns - rows:
            # the smaller product gives both.
            if rows < columns:
                matrix = ops.transpose(matrix)
            smaller = ops.sum(ops.square(_minus_identity(matrix)))
            if self.variant == "double":
                return 2 * smaller + abs(rows - columns)
            return smaller + max(columns - rows, 0)
        residual = _minus_identity(matrix)
        if self.variant == "mutual_coherence":
            return ops.max(_compat.magnitude(residual))
        return _matrix.spectral_norm(residual, self.num_iterations)

    def get_config(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "variant": self.variant,
            "num_iterations": self.num_iterations,
        }


_VARIANTS = ("soft", "double", "mutual_coherence", "restricted_isometry")


def _minus_identity(matrix: Any) -> Any:
    """Returns W^T W - I."""
    gram = ops.matmul(ops.transpose(matrix), matrix)
    return gram - ops.eye(matrix.shape[1], dtype=gram.dtype)
