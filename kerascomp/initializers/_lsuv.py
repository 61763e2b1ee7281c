"""Weights that give the outputs of layers unit variance on given data."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._compat import keras

ops = keras.ops

_LAYERS = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)


def lsuv(
    model: Any,
    x: Any,
    tolerance: float = 0.01,
    max_iterations: int = 10,
    seed: int | None = None,
) -> list[dict[str, Any]]:
    """Initializes a model so that its layers' outputs have variance 1 on data.

    Use it before `fit`, with a batch of the training data, for deep networks
    without normalization: neither signals nor gradients shrink or grow from
    layer to layer. Kernels become orthonormal; then, in the order in which the
    layers run, each is divided by the standard deviation of what its layer
    gives before its activation, until the variance is 1. One pass does it.
    Biases stay as they are; so do layers other than `Dense`, `EinsumDense` and
    convolutions (plain, transposed, depthwise), and what a
    `keras.layers.Wrapper` wraps. Dropout is off, and batch normalization uses
    its moving statistics.

    Args:
        model: A model, compiled or not. Its weights are changed. If an error
            is raised halfway, some have been.
        x: Inputs of one batch, as `model(x)` takes them; some hundred samples.
        tolerance: How far the variance may be from 1, above 0.
        max_iterations: Most divisions of a kernel, at least 1. One is enough
            where the bias is 0, as it is by default.
        seed: Integer, or None for a seed that differs at every run.

    Returns:
        One dictionary a layer, in the order in which they run: `layer`, its
        name; `before` and `after`, the variances of its output with the
        orthonormal kernel and in the end; `divisor`, what that kernel was
        divided by; `iterations`; `converged`. A layer that runs several times
        is measured the first time.

    Raises:
        ValueError: If an argument is out of range, the model has no such
            layer, or the output of a layer is constant or not finite.

    Examples:
        >>> model = keras.Sequential(
        ...     [
        ...         keras.layers.Dense(30, activation="relu"),
        ...         keras.layers.Dense(1),
        ...     ]
        ... )
        >>> x = 5 * np.random.default_rng(0).normal(size=(200, 8))
        >>> [round(done["after"], 4) for done in lsuv(model, x)]
        [1.0, 1.0]
        >>> bool(abs(np.var(model.predict(x, verbose=0)) - 1) < 1e-4)
        True

    Reference:
        Mishkin & Matas, 2016, [All you need is a good
        init](https://arxiv.org/abs/1511.06422), algorithm 1.
    """
    _validation.in_interval("tolerance", tolerance, "(0, inf)")
    _validation.at_least("max_iterations", max_iterations, 1)
    model(x, training=False)  # Builds it.
    done: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        for layer in _measurable(model):
            normalizing = _Normalizing(
                layer, done, tolerance, max_iterations, seed
            )
            stack.enter_context(
                _compat.replaced(vars(layer), {"call": normalizing})
            )
        model(x, training=False)
    if not done:
        raise ValueError(
            "The model runs no dense layer or convolution. "
            f"Received: model={model!r}"
        )
    return done


def _measurable(layer: Any) -> Iterator[Any]:
    """The layers with a kernel that are inside of a layer."""
    for inner in _compat.sublayers(layer):
        if isinstance(inner, _LAYERS):
            yield inner
        elif not isinstance(inner, keras.layers.Wrapper):
            yield from _measurable(inner)


class _Normalizing:
    """The `call` of a layer that first sets its kernel, once."""

    def __init__(
        self,
        layer: Any,
        done: list[dict[str, Any]],
        tolerance: float,
        max_iterations: int,
        seed: int | None,
    ):
        self.layer = layer
        self.original = layer.call
        self.done = done
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.seed = seed
        self.first = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.first:
            self.first = False
            self.normalize(inputs)
        return self.original(inputs, *args, **kwargs)

    def normalize(self, inputs: Any) -> None:
        """Algorithm 1 for one layer."""
        kernel = self.layer.kernel
        orthonormal = keras.initializers.Orthogonal(
            seed=None if self.seed is None else self.seed + len(self.done)
        )
        kernel.assign(orthonormal(kernel.shape, dtype=kernel.dtype))
        before = variance = self.variance(inputs)
        divisor, iterations = 1.0, 0
        while (
            abs(variance - 1) >= self.tolerance
            and iterations < self.max_iterations
        ):
            deviation = variance**0.5
            kernel.assign(kernel.value / deviation)
            divisor *= deviation
            iterations += 1
            variance = self.variance(inputs)
        self.done.append(
            {
                "layer": self.layer.name,
                "before": before,
                "after": variance,
                "divisor": divisor,
                "iterations": iterations,
                "converged": abs(variance - 1) < self.tolerance,
            }
        )

    def variance(self, inputs: Any) -> float:
        """Of what the layer gives before its activation."""
        linear = {"activation": keras.activations.linear}
        with _compat.replaced(vars(self.layer), linear):
            outputs = ops.convert_to_numpy(self.original(inputs))
        variance = float(np.var(outputs.astype("float64")))
        if not 0 < variance < float("inf"):
            raise ValueError(
                f"The output of layer {self.layer.name!r} must vary over `x`, "
                f"and be finite. Received: variance {variance}"
            )
        return variance
