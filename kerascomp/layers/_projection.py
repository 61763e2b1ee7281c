"""Random projections, and the dimension that keeps distances."""

import math
from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _adapting

ops = keras.ops


@component(since="0.1")
class RandomProjection(_adapting.Preprocessing):
    """Shortens features by a random matrix that nearly keeps distances.

    Use it for many features, where principal components would take too long:
    there is nothing to fit. `johnson_lindenstrauss_min_dim` says how many
    dimensions keep all distances of a data set. The output is x R^T, with
    elements of R drawn once, when the layer is built:

        gaussian   normal, mean 0, variance 1 / dim
        sparse     sqrt(1 / (density dim)) times 1, -1 or 0, with the
                   probabilities density / 2, density / 2 and 1 - density

    Args:
        dim: Dimensions of the output, at least 1 and at most the features.
        method: `"gaussian"` or `"sparse"`.
        density: Share of elements that are not 0, in (0, 1], for `"sparse"`.
            None for 1 / 3.
        seed: Integer, or None for another matrix in every new layer.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers.

    Returns:
        `(batch, ..., dim)`, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Seed:
        Draws the matrix, not the output: calls of one layer agree. The matrix
        is saved with the model.

    Raises:
        ValueError: If an argument is out of range, or there are fewer features
            than dimensions.

    Examples:
        >>> layer = RandomProjection(dim=300, seed=1)
        >>> output = layer(np.ones((1, 1000)))  # Of length sqrt(1000).
        >>> abs(float(keras.ops.norm(output)) / 1000**0.5 - 1) < 0.2
        True

    Reference:
        Johnson & Lindenstrauss, 1984, *Extensions of Lipschitz mappings into a
        Hilbert space*; Achlioptas, 2003, *Database-friendly random
        projections* (density 1 / 3); Li et al., 2006, *Very sparse random
        projections* (density 1 / sqrt(features)).
    """

    def __init__(
        self,
        dim: int,
        method: str = "gaussian",
        density: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.at_least("dim", dim, 1)
        _validation.one_of("method", method, ("gaussian", "sparse"))
        if density is not None:
            _validation.in_interval("density", density, "(0, 1]")
            if method != "sparse":
                raise ValueError(
                    "`density` belongs to method='sparse'. Received: "
                    f"method={method!r}, density={density}"
                )
        self.dim = dim
        self.method = method
        self.density = density
        self.seed = seed

    def build(self, input_shape: Any) -> None:
        features = input_shape[-1]
        if features is None or features < self.dim:
            raise ValueError(
                f"The input must have a last axis of at least dim={self.dim}. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.components = self.add_weight(
            name="components",
            shape=(self.dim, features),
            initializer=self._draw,
            trainable=False,
            autocast=False,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "method": self.method,
            "density": self.density,
            "seed": self.seed,
        }

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.dim)

    def inverse(self, outputs: Any) -> Any:
        """Returns the shortest input that gives an output.

        Args:
            outputs: What the layer returned. The rows of its matrix must be
                independent, which only a very sparse one fails to be.
        """
        return super().inverse(outputs)

    def _draw(self, shape: tuple, dtype: Any = None) -> Any:
        if self.method == "gaussian":
            deviation = self.dim**-0.5
            return keras.random.normal(
                shape, stddev=deviation, dtype=dtype, seed=self.seed
            )
        density = 1 / 3 if self.density is None else self.density
        uniform = keras.random.uniform(shape, dtype=dtype, seed=self.seed)
        zero = ops.zeros_like(uniform)
        size = zero + (density * self.dim) ** -0.5
        signed = ops.where(uniform < density / 2, -size, size)
        return ops.where(uniform < density, signed, zero)

    def _forward(self, x: Any) -> Any:
        return ops.matmul(x, ops.transpose(self.components))

    def _backward(self, y: Any) -> Any:
        square = ops.matmul(self.components, ops.transpose(self.components))
        return ops.matmul(y, ops.linalg.solve(square, self.components))


def johnson_lindenstrauss_min_dim(num_samples: int, epsilon: float) -> int:
    """Returns the dimension that keeps all distances of a data set.

    Projected at random to that many dimensions, squared distances between any
    two samples change by a factor in (1 - epsilon, 1 + epsilon), with a
    probability that is not small. It depends on the number of samples alone,
    4 log(n) / (epsilon^2 / 2 - epsilon^3 / 3), and may exceed the number of
    features, which then need no projection.

    Args:
        num_samples: Samples, at least 1.
        epsilon: Relative error of squared distances, in (0, 1).

    Returns:
        A number of dimensions, rounded down as in scikit-learn.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> johnson_lindenstrauss_min_dim(1_000_000, epsilon=0.5)
        663

    Reference:
        Dasgupta & Gupta, 1999, *An elementary proof of the
        Johnson-Lindenstrauss lemma*, theorem 2.1.
    """
    _validation.at_least("num_samples", num_samples, 1)
    _validation.in_interval("epsilon", epsilon, "(0, 1)")
    return int(4 * math.log(num_samples) / (epsilon**2 / 2 - epsilon**3 / 3))
