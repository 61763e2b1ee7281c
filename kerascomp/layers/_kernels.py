"""Finds the kernel of a layer, and computes with another in its place."""

import contextlib
from collections.abc import Iterator
from typing import Any

from kerascomp import _compat
from kerascomp._compat import keras

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def kernel_of(layer: Any) -> Any:
    """Returns the variable that holds the kernel of a built layer.

    Raises:
        ValueError: If it has none, or more than one.
    """
    for name in ("kernel", "embeddings"):
        found = getattr(layer, name, None)
        if isinstance(found, keras.Variable):
            return found
    raise ValueError(
        "`layer` must have one kernel, as Dense, EinsumDense, Embedding, "
        "convolutions and depthwise convolutions have, neither quantized nor "
        f"with LoRA. Received: layer={layer!r}"
    )


def config_of(layer: Any) -> dict[str, Any]:
    """Returns a wrapped layer as saved, the same before it is built and after.

    The wrapper builds it.
    """
    config = dict(keras.saving.serialize_keras_object(layer))
    config.pop("build_config", None)
    return config


def output_axes(layer: Any, rank: int) -> tuple[int, ...]:
    """Returns the axes of a kernel that tell its outputs apart."""
    if isinstance(layer, keras.layers.EinsumDense):
        _, kernel, output = _einsum_parts(layer)
        return tuple(i for i, letter in enumerate(kernel) if letter in output)
    if isinstance(layer, keras.layers.Embedding):
        return (0,)
    if isinstance(layer, _DEPTHWISE):
        return (rank - 2, rank - 1)
    return (rank - 2,) if isinstance(layer, _TRANSPOSED) else (rank - 1,)


def feature_axes(layer: Any, rank: int) -> tuple[int, ...]:
    """Returns the axes of an output that belong to those of the kernel.

    In the order of `output_axes`; depthwise convolutions have both in one.
    """
    if isinstance(layer, keras.layers.EinsumDense):
        _, kernel, output = _einsum_parts(layer)
        letters = [letter for letter in kernel if letter in output]
        # From the end: what an ellipsis stands for comes first.
        return tuple(rank - len(output) + output.index(c) for c in letters)
    first = getattr(layer, "data_format", None) == "channels_first"
    return (1,) if first else (rank - 1,)


def _einsum_parts(layer: Any) -> tuple[str, str, str]:
    inputs, _, output = layer.equation.replace(" ", "").partition("->")
    inputs, _, kernel = inputs.partition(",")
    return inputs, kernel, output.replace("...", "")


@contextlib.contextmanager
def replaced(layer: Any, kernel: Any, **others: Any) -> Iterator[None]:
    """Lets a layer compute with another kernel, and other attributes.

    The attribute is found by its value: `kernel` is a property that cannot be
    set. Outside, all variables stay where they are.
    """
    variable = kernel_of(layer)
    names = [name for name, v in vars(layer).items() if v is variable]
    new = {**dict.fromkeys(names, kernel), **others}
    with _compat.replaced(vars(layer), new):
        yield
