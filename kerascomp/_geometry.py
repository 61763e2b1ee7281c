"""Lengths and directions of vectors, with gradients that are finite."""

from typing import Any

from kerascomp._compat import keras

ops = keras.ops


def float_tensor(x: Any) -> Any:
    """Returns numbers as a tensor of floats; integers in Keras' float type."""
    if isinstance(x, keras.KerasTensor):
        return x
    x = ops.convert_to_tensor(x)
    if "float" in keras.backend.standardize_dtype(x.dtype):
        return x
    return ops.cast(x, keras.config.floatx())


def widened(x: Any) -> Any:
    """Returns half precision as float32, and anything else as it is.

    Squares of numbers above 255 overflow in float16.
    """
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x


def safe_sqrt(x: Any) -> Any:
    """Returns the square root, with the gradient 0 at 0.

    Args:
        x: Float tensor, not of half precision. Negative numbers, which only
            rounding makes, count as 0.

    Returns:
        A tensor like `x`. Exact at 0, and above 1e-21 to the last bit.
    """
    # Powers of two: their root is exact, so that the difference at 0 is 0.
    # Fewer steps than two `where`, which matters for large matrices.
    return ops.sqrt(ops.maximum(x, 2.0**-120)) - 2.0**-60


def length(x: Any, keepdims: bool = False) -> Any:
    """Returns the Euclidean length along the last axis, gradient 0 at 0."""
    return safe_sqrt(ops.sum(ops.square(x), axis=-1, keepdims=keepdims))


def ratio(numerator: Any, denominator: Any) -> Any:
    """Returns a quotient, 0 with the gradient 0 where the denominator is."""
    nothing = denominator == 0
    safe = ops.where(nothing, ops.ones_like(denominator), denominator)
    return ops.where(nothing, ops.zeros_like(numerator), numerator) / safe


def direction(x: Any) -> Any:
    """Returns vectors of length 1 along the last axis; 0 stays 0."""
    return ratio(x, length(x, keepdims=True))


def require_same_length(**tensors: Any) -> None:
    """Raises if the last axes of two tensors are known to differ."""
    (_, x), (_, y) = tensors.items()
    shapes = tuple(x.shape), tuple(y.shape)
    lengths = {shape[-1] if shape else "no axis" for shape in shapes} - {None}
    if len(lengths) > 1 or "no axis" in lengths:
        names = " and ".join(f"`{name}`" for name in tensors)
        received = ", ".join(
            f"{name}.shape={shape}"
            for name, shape in zip(tensors, shapes, strict=True)
        )
        raise ValueError(
            f"{names} must have last axes of one length. Received: {received}"
        )
