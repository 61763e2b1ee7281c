"""Principal components and whitening."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _accumulators, _adapting

ops = keras.ops

# Squared, the share of the largest variance that float32 numbers resolve.
RESOLUTION = float(np.finfo("float32").eps)


@component(since="0.1")
class PCA(_adapting.Adapting):
    """Projects features to the directions in which they vary most.

    Use it to shorten inputs whose features are correlated, or to look at them
    in two dimensions. Scale features of different units first. After
    `layer.adapt(training_data)`, the output is

        (x - mean) components^T [/ sqrt(explained variance) with `whiten`]

    with the eigenvectors of the training data's covariance, of largest
    eigenvalue first, in the rows of `components`. Of the two signs of an
    eigenvector, the one is taken that makes its largest element positive.

    `solver="exact"` sums the covariance of all features in float64, in memory
    of features^2. `"randomized"` sums its products with 2 `dim` + 20 random
    directions, in memory of features times that, and approximates the rest:
    it is exact, too, if the covariance has a lower rank, and close if its
    eigenvalues fall fast. The directions are the same in every run.

    Args:
        dim: Components to keep, at least 1 and at most the number of features
            and of training rows. None for as many as there are features.
        variance_fraction: Share of the variance, in (0, 1), that the kept
            components explain at least, in place of `dim`. The layer must
            then be adapted before a model is built from it.
        whiten: Whether to scale the components to variance 1.
        solver: `"exact"` or `"randomized"`; the latter needs `dim`.
        statistics: `{"mean": (features,), "components": (dim, features),
            "explained_variance": (dim,), "total_variance": ()}` in place of
            `adapt`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers.

    Returns:
        `(batch, ..., dim)`, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If an argument is out of range, if there are fewer features
            or training rows than components, if a component to whiten has no
            variance, or the training data is not finite.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = PCA(dim=1)
        >>> layer.adapt(np.array([[0.0, 1.0], [3.0, 5.0], [6.0, 9.0]]))
        >>> output = layer(np.array([[6.0, 9.0]]))  # 5 from the mean (3, 5).
        >>> round(float(output[0, 0]), 4)
        5.0
        >>> keras.ops.convert_to_numpy(layer.inverse(output)).round(4).tolist()
        [[6.0, 9.0]]

    Reference:
        Hotelling, 1933, *Analysis of a complex of statistical variables into
        principal components*. Randomized: the Nystrom approximation of Tropp
        et al., 2017, [Fixed-rank approximation of a positive-semidefinite
        matrix from streaming data](https://arxiv.org/abs/1706.05736). The
        numbers are those of scikit-learn's `PCA`.
    """

    def __init__(
        self,
        dim: int | None = None,
        variance_fraction: float | None = None,
        whiten: bool = False,
        solver: str = "exact",
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        _validation.at_most_one(dim=dim, variance_fraction=variance_fraction)
        if dim is not None:
            _validation.at_least("dim", dim, 1)
        if variance_fraction is not None:
            _validation.in_interval(
                "variance_fraction", variance_fraction, "(0, 1)"
            )
        _validation.one_of("solver", solver, ("exact", "randomized"))
        if solver == "randomized" and dim is None:
            raise ValueError(
                "`dim` must be given for solver='randomized'. Received: "
                "dim=None"
            )
        self.dim = dim
        self.variance_fraction = variance_fraction
        self.whiten = whiten
        self.solver = solver
        # What `variance_fraction` comes to.
        self._found_dim: int | None = None
        if statistics is not None and variance_fraction is not None:
            self._found_dim = len(statistics.get("components", ()))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "variance_fraction": self.variance_fraction,
            "whiten": self.whiten,
            "solver": self.solver,
        }

    def get_build_config(self) -> dict[str, Any]:
        config = super().get_build_config()
        return config and {**config, "dim": self._found_dim}

    def build_from_config(self, config: dict[str, Any]) -> None:
        self._found_dim = config["dim"]
        super().build_from_config(config)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self._dim(input_shape[-1]))

    def _dim(self, features: int) -> int:
        if self.variance_fraction is not None:
            if self._found_dim is None:
                raise RuntimeError(
                    f"The layer {self.name!r} was not adapted, and learns from "
                    "the data how many components it keeps. Call "
                    "`layer.adapt(training_data)` before building a model."
                )
            return self._found_dim
        if self.dim is not None and self.dim > features:
            raise ValueError(
                f"`dim` must be at most the number of features, {features}. "
                f"Received: dim={self.dim}"
            )
        return self.dim or features

    def _shapes(self, features: int) -> dict[str, tuple]:
        dim = self._dim(features)
        return {
            "mean": (features,),
            "components": (dim, features),
            "explained_variance": (dim,),
            "total_variance": (),
        }

    def _accumulator(self, features: int) -> Any:
        if self.variance_fraction is None:
            width = 2 * self._dim(features) + 20
        if self.solver == "exact" or width >= features:
            return _accumulators.Scatter(features)
        rng = np.random.default_rng(0)
        directions = rng.normal(size=(features, width))
        return _accumulators.Scatter(features, np.linalg.qr(directions)[0])

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        require_variance(accumulator)
        if accumulator.basis is None:
            variances, vectors = eigen(accumulator.covariance)
        else:
            variances, vectors = nystrom(
                accumulator.covariance, accumulator.basis
            )
        total = accumulator.variance
        dim = self._chosen(variances / total, accumulator)
        if self.whiten:
            refuse_singular(variances[:dim], variances[0])
        return {
            "mean": accumulator.mean,
            "components": vectors[:, :dim].T,
            "explained_variance": variances[:dim],
            "total_variance": np.asarray(total),
        }

    def _store(self, values: dict[str, np.ndarray], shape: Any) -> None:
        if not self.built:
            self._found_dim = len(values["components"])
        super()._store(values, shape)

    def _chosen(self, shares: np.ndarray, accumulator: Any) -> int:
        if self.variance_fraction is None:
            dim = self._dim(len(accumulator.mean))
        else:
            # The last sum may round to less than 1.
            reached = np.cumsum(shares[:-1]) > self.variance_fraction
            dim = len(shares) - int(reached.sum())
        if accumulator.count < dim:
            raise ValueError(
                f"{dim} components take at least as many training rows. "
                f"Received: {accumulator.count} rows"
            )
        return dim

    def _forward(self, x: Any) -> Any:
        mean, components, variance, _ = self._tensors()
        y = ops.matmul(x - mean, ops.transpose(components))
        return y / ops.sqrt(variance) if self.whiten else y

    def _backward(self, y: Any) -> Any:
        mean, components, variance, _ = self._tensors()
        y = y * ops.sqrt(variance) if self.whiten else y
        return ops.matmul(y, components) + mean


@component(since="0.1")
class ZCAWhitening(_adapting.Adapting):
    """Makes features uncorrelated with variance 1, changing them least.

    Use it for small images, which still look like images afterwards: of all
    ways to whiten, this one stays nearest to the input. After
    `layer.adapt(training_data)`, with eigenvectors V and eigenvalues D of the
    training data's covariance, the output is

        (x - mean) V (D + epsilon)^(-1/2) V^T

    It is `PCA(whiten=True)` turned back to the input's axes if `epsilon` is 0.
    The covariance is summed in float64, in memory of features^2.

    Args:
        epsilon: Variance added in every direction, at least 0. Raise it where
            features depend on one another, or noise would be blown up.
        statistics: `{"mean": (features,), "whitening": (features, features),
            "coloring": (features, features)}` in place of `adapt`: the matrix
            of the formula and its inverse.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, numbers.

    Returns:
        The shape of the input, in the compute dtype.

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If `epsilon` is negative, or 0 though a direction has no
            variance, or the training data is not finite.
        RuntimeError: If the layer is used before it was adapted.

    Examples:
        >>> layer = ZCAWhitening()
        >>> layer.adapt(np.array([[-3.0, 1.0], [3.0, 1.0], [0.0, -2.0]]))
        >>> output = layer(np.array([[3.0, -3.0]]))  # Variances 9 and 3.
        >>> [round(float(each), 3) for each in output[0]]
        [1.0, -1.732]

    Reference:
        Bell & Sejnowski, 1997, *The independent components of natural scenes
        are edge filters*; Kessy et al., 2018, [Optimal whitening and
        decorrelation](https://arxiv.org/abs/1512.00809).
    """

    def __init__(
        self,
        epsilon: float = 0.0,
        statistics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(statistics, **kwargs)
        _validation.in_interval("epsilon", epsilon, "[0, inf)")
        self.epsilon = epsilon

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}

    def _shapes(self, features: int) -> dict[str, tuple]:
        square = (features, features)
        return {"mean": (features,), "whitening": square, "coloring": square}

    def _accumulator(self, features: int) -> Any:
        return _accumulators.Scatter(features)

    def _fitted(self, accumulator: Any) -> dict[str, np.ndarray]:
        require_variance(accumulator)
        variances, vectors = eigen(accumulator.covariance)
        variances = variances + self.epsilon
        refuse_singular(variances, variances[0])
        deviations = np.sqrt(variances)
        return {
            "mean": accumulator.mean,
            "whitening": vectors / deviations @ vectors.T,
            "coloring": vectors * deviations @ vectors.T,
        }

    def _forward(self, x: Any) -> Any:
        return ops.matmul(x - self.mean, self.whitening)

    def _backward(self, y: Any) -> Any:
        return ops.matmul(y, self.coloring) + self.mean


def eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns eigenvalues, the largest first, and eigenvectors in columns."""
    values, vectors = np.linalg.eigh(covariance)
    # Rounding makes an eigenvalue of 0 negative.
    return np.maximum(values[::-1], 0.0), signed(vectors[:, ::-1])


def nystrom(
    products: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns approximate eigenvalues and eigenvectors of a covariance.

    Args:
        products: The covariance times the basis.
        basis: Orthonormal columns.
    """
    # Shifted by rounding, so that the Cholesky factor exists.
    shift = np.sqrt(len(products)) * np.finfo("float64").eps
    shift *= np.linalg.norm(products, 2)
    shifted = products + shift * basis
    inner = basis.T @ shifted
    factor = np.linalg.cholesky((inner + inner.T) / 2)
    root = np.linalg.solve(factor, shifted.T).T
    vectors, singular, _ = np.linalg.svd(root, full_matrices=False)
    return np.maximum(singular**2 - shift, 0.0), signed(vectors)


def signed(vectors: np.ndarray) -> np.ndarray:
    """Returns columns, the largest element of each made positive."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])


def require_variance(accumulator: Any) -> None:
    """Raises unless there are different rows."""
    if accumulator.count < 2 or not accumulator.variance > 0:
        raise ValueError(
            "The data to adapt to must have at least two different rows. "
            f"Received: {accumulator.count} rows, all the same"
        )


def refuse_singular(variances: np.ndarray, largest: float) -> None:
    """Raises if directions have no variance to divide by."""
    resolved = largest * RESOLUTION**2 * len(variances)
    missing = int((variances <= resolved).sum())
    if missing:
        raise ValueError(
            f"{missing} of {len(variances)} directions have no variance to "
            "divide by: features depend on one another, are constant, or "
            "outnumber the rows. Keep fewer components with `dim`, or add a "
            "variance with `epsilon`, whichever the layer has."
        )
