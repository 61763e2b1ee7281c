"""Callbacks that observe the curvature of the loss."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _capture, _epochs

ops = keras.ops

# Lanczos ends when the residuals of all wanted eigenvalues are below this
# share of the largest in absolute value: float32 products carry no more.
_TOLERANCE = 1e-5

Product = Callable[[np.ndarray], np.ndarray]


@component(since="0.1")
class CurvatureMonitor(_epochs.EpochMonitor):
    """Records how sharply the loss curves, against the learning rate.

    Use it to choose a learning rate, and to see why training becomes
    unstable: gradient descent with the rate lr diverges along a direction
    whose curvature is above 2 / lr. Measured are, of the Hessian of the loss
    on a fixed probe batch, the largest eigenvalues and the smallest, by
    Lanczos iterations with full reorthogonalization, and the trace, by
    Hutch++. The Hessian is that of the loss that `fit` lowers, regularization
    included, by all trainable weights together; it is never formed. What is
    computed are products with vectors, each a few gradients of the probe batch,
    by one program (compiled, but on torch). On a GPU, the fused LSTM and GRU of
    TensorFlow have no second derivative: build them with `use_cudnn=False`.

    Each epoch's logs get `sharpness`, the largest eigenvalue;
    `hessian_trace`; and `stability`, the largest eigenvalue over the one at
    which training with the current learning rate becomes unstable: above 1 it
    is. The limit is 2 / lr; (2 + 2m) / lr with the momentum m of `SGD`; and
    (2 + 2m) / (1 + 2m) / lr with Nesterov momentum. It holds for `SGD` on the
    whole training set. Small batches become unstable sooner, and optimizers
    that scale each weight by itself, as Adam does, follow another limit: for
    them, take `stability` for a scale only. In epochs without a measurement,
    all are NaN.

    Args:
        probe_data: Inputs and targets as a tuple `(x, y)` or `(x, y,
            sample_weight)`. Class weights of `fit` are not applied.
        num_eigenvalues: How many of the largest eigenvalues, at least 1.
        iterations: The most Lanczos iterations, at least 2 and
            `num_eigenvalues`, each a product and 8 bytes a weight. With as
            many as there are weights, the eigenvalues are exact; with fewer,
            several equal ones may be found once.
        trace_products: Products for the trace, 0 or at least 3. With 0 there
            is no trace; with three times as many as the Hessian has
            eigenvalues that are not 0, it is exact.
        every: Measure every how many epochs, at least 1, beginning with the
            first. None for the first, and then as often as measuring takes a
            tenth of the time at most.
        training: Whether the model is called as in training. The default is
            inference: no dropout, moving statistics in batch normalization.
            In training, the noise is the same for all products, and the
            statistics are those of the probe batch.
        log_dir: As in `GradientNormMonitor`.

    Attributes:
        history: The record of the current or last `fit`: `history["epoch"]`,
            the epochs measured; `sharpness`, `hessian_trace`, `stability` as
            in the logs; `smallest`, the smallest eigenvalue;
            `history["eigenvalues"]`, a dictionary from `"1"`, the largest, on
            to their values; `residual`, the largest bound of their errors;
            and `learning_rate`, the largest of the optimizer's. All are NumPy
            arrays.

    Saved state:
        None. After training, the model is what it was.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if the model cannot be called on the probe data,
            has no trainable weights, or more eigenvalues are asked for.

    Examples:
        >>> dense = keras.layers.Dense(1, use_bias=False)
        >>> model = keras.Sequential([keras.Input((2,)), dense])
        >>> model.compile(keras.optimizers.SGD(0.25), "mse")
        >>> x, y = np.array([[2.0, 0.0], [0.0, 4.0]]), np.zeros((2, 1))
        >>> monitor = CurvatureMonitor((x, y), num_eigenvalues=2)
        >>> log = model.fit(x, y, callbacks=[monitor], verbose=0)
        >>> # The loss is (4 a^2 + 16 b^2) / 2: its Hessian has 4 and 16.
        >>> {
        ...     k: round(float(v[0]), 3)
        ...     for k, v in monitor.history["eigenvalues"].items()
        ... }
        {'1': 16.0, '2': 4.0}
        >>> round(log.history["hessian_trace"][0], 3)
        20.0
        >>> round(log.history["stability"][0], 3)  # 16 over 2 / 0.25
        2.0

    Reference:
        Cohen et al., 2021, [Gradient descent on neural networks typically
        occurs at the edge of stability](https://arxiv.org/abs/2103.00065), for
        the limits; Meyer et al., 2021, [Hutch++: optimal stochastic trace
        estimation](https://arxiv.org/abs/2010.09649), algorithm 1.
    """

    logged = ("sharpness", "hessian_trace", "stability")
    plotted = "eigenvalues"
    quantity = "eigenvalue"

    def __init__(
        self,
        probe_data: Any,
        num_eigenvalues: int = 1,
        iterations: int = 30,
        trace_products: int = 12,
        every: int | None = None,
        training: bool = False,
        log_dir: str | os.PathLike | None = None,
    ):
        super().__init__(probe_data, every, log_dir)
        _validation.at_least("num_eigenvalues", num_eigenvalues, 1)
        _validation.at_least("iterations", iterations, max(2, num_eigenvalues))
        if trace_products != 0:
            _validation.at_least("trace_products", trace_products, 3)
        _validation.one_of("training", training, (True, False))
        self.num_eigenvalues = num_eigenvalues
        self.iterations = iterations
        self.trace_products = trace_products
        self.training = training

    def _start(self, model: Any) -> None:
        shapes = [tuple(v.shape) for v in self._pure.trainable]
        self._size = sum(int(np.prod(shape)) for shape in shapes)
        if self._size < self.num_eigenvalues:
            raise ValueError(
                "`num_eigenvalues` must be at most the number of trainable "
                f"weights. Received: num_eigenvalues={self.num_eigenvalues} "
                f"for {self._size} weights"
            )
        self._program = _capture.backend_file().compiled(self._product)

    def _measure(self, model: Any) -> dict[str, Any]:
        values = self._pure.values()
        product = lambda vector: self._times(values, vector)
        generator = np.random.default_rng(0)
        found, residuals = lanczos(
            product,
            self._size,
            self.num_eigenvalues,
            self.iterations,
            generator,
        )
        largest = found[: self.num_eigenvalues]
        rate, limit = stability_limit(model.optimizer)
        row = {
            "sharpness": largest[0],
            "smallest": found[-1],
            "stability": largest[0] / limit,
            "learning_rate": rate,
            "residual": residuals[: self.num_eigenvalues].max(),
            "eigenvalues": {str(k + 1): v for k, v in enumerate(largest)},
        }
        if self.trace_products:
            row["hessian_trace"] = hutch_plus_plus(
                product, self._size, self.trace_products, generator
            )
        return row

    def _times(self, values: Any, vector: np.ndarray) -> np.ndarray:
        parts, start = [], 0
        for value in values[0]:
            end = start + int(np.prod(value.shape))
            part = vector[start:end].reshape(tuple(value.shape))
            parts.append(ops.convert_to_tensor(part, value.dtype))
            start = end
        product = self._program(values, self._batch, parts)
        flat = [ops.convert_to_numpy(p).reshape(-1) for p in product]
        return np.concatenate(flat).astype("float64")

    def _product(self, values: Any, batch: _capture.Batch, vectors: Any) -> Any:
        """What is compiled."""
        trainable, others = values

        def loss(trainable: list) -> Any:
            return self._pure.loss(
                (trainable, others), batch, training=self.training
            )

        return _capture.backend_file().hessian_vector_product(
            loss, list(trainable), list(vectors)
        )


def stability_limit(optimizer: Any) -> tuple[float, float]:
    """Returns the largest learning rate, and the curvature it can stand.

    Of several optimizers, the smallest limit.
    """
    found = []
    for each in _compat.optimizers_of(optimizer):
        rate = float(ops.convert_to_numpy(each.learning_rate))
        # No other optimizer's `momentum` is that of the heavy ball.
        sgd = isinstance(each, keras.optimizers.SGD)
        momentum = each.momentum if sgd else 0.0
        factor = 2 + 2 * momentum
        if sgd and each.nesterov:
            factor /= 1 + 2 * momentum
        found.append((rate, factor / rate if rate > 0 else np.inf))
    return max(rate for rate, _ in found), min(limit for _, limit in found)


def lanczos(
    product: Product,
    size: int,
    count: int,
    iterations: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Approximates eigenvalues of a symmetric matrix at both ends.

    Args:
        product: The matrix times a vector.
        size: Length of the vectors.
        count: How many of the largest must be found.
        iterations: The most products.
        generator: Draws the first vector.

    Returns:
        The approximations in descending order, as many as there were
        iterations, and the bounds of their errors.
    """
    iterations = min(iterations, size)
    basis = np.zeros((iterations, size))
    diagonal, off = np.zeros(iterations), np.zeros(iterations)
    vector = _direction(generator.normal(size=size), basis[:0])
    for step in range(iterations):
        basis[step] = vector
        image = product(vector)
        diagonal[step] = vector @ image
        rest = _orthogonal(image, basis[: step + 1])
        off[step] = np.linalg.norm(rest)
        values, residuals = _ritz(diagonal[: step + 1], off[: step + 1])
        scale = np.abs(values).max()
        if step + 1 == iterations:
            break
        if off[step] <= 1e-12 * scale or scale == 0:
            # The vectors so far hold all their images. There may be more of
            # an eigenvalue outside.
            off[step] = 0.0
            rest = generator.normal(size=size)
        elif iterations < size and step + 1 > count:
            worst = residuals[[*range(count), -1]].max()
            if worst <= _TOLERANCE * scale:
                break
        vector = _direction(rest, basis[: step + 1])
    return values, residuals


def _ritz(
    diagonal: np.ndarray, off: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    inner = off[:-1]
    matrix = np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1)
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1], (off[-1] * np.abs(vectors[-1]))[::-1]


def _orthogonal(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    # Twice is enough: what one pass leaves is rounding (Parlett).
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


def _direction(vector: np.ndarray, basis: np.ndarray) -> np.ndarray:
    vector = _orthogonal(vector, basis)
    return vector / np.linalg.norm(vector)


def hutch_plus_plus(
    product: Product, size: int, count: int, generator: np.random.Generator
) -> float:
    """Estimates the trace of a symmetric matrix without bias.

    Args:
        product: The matrix times a vector.
        size: Length of the vectors.
        count: The most products, at least 3.
        generator: Draws the vectors.

    Returns:
        The estimate. Exact if the rank is at most a third of `count`.
    """
    third = min(count // 3, size)
    signs = lambda: generator.choice([-1.0, 1.0], size=(third, size))
    images = np.stack([product(s) for s in signs()])
    span, _ = np.linalg.qr(images.T)
    trace = sum(q @ product(q) for q in span.T)
    if third == size:
        return float(trace)
    rest = signs()
    rest = rest - rest @ span @ span.T
    return float(trace + sum(g @ product(g) for g in rest) / third)
