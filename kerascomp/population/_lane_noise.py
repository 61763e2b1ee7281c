"""Random numbers with a seed by lane, of arithmetic that vectorizes.

TensorFlow's random functions have no vectorized form for seeds that differ.
Here, each number is a hash of its index and the seed.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.population import _program

ops = keras.ops


@contextlib.contextmanager
def traceable(by_lane: bool) -> Iterator[None]:
    """Replaces random functions of the backend while a step is traced.

    Args:
        by_lane: Whether seeds differ by lane. If not, the noise is the
            backend's own, and only a rate may differ by lane.
    """
    module = _compat.random_functions()
    functions: dict[str, Any] = {"dropout": _dropout}
    if by_lane:
        functions |= {"uniform": _uniform, "normal": _normal}
        refused = set(_compat.RANDOM_FUNCTIONS) - set(functions)
        functions |= {name: _refused(name) for name in refused}
    with _compat.replaced(vars(module), functions):
        yield


def hashed_uniform(seed: Any, shape: Any) -> Any:
    """Returns numbers in [0, 1) that depend on the seed alone.

    Args:
        seed: `(2,)` integers: the seed, and how often it was drawn from.
        shape: Of the result; may hold tensors.

    Returns:
        Float32, with 24 random bits.
    """
    shape = [ops.cast(size, "int32") for size in shape]
    size = ops.prod(ops.stack(shape)) if shape else 1
    seed = ops.cast(ops.bitwise_and(seed, _MASK), "uint32")
    key = _mix(seed[1] + _mix(seed[0] + _word(0x9E3779B9)))
    index = ops.cast(ops.arange(size), "uint32")
    # Two rounds: one would give streams that are permutations of each other.
    bits = _mix(_mix(index + key) + _mix(key + _word(0x85EBCA6B)))
    bits = ops.cast(ops.right_shift(bits, _word(8)), "float32")
    return ops.reshape(bits * 2.0**-24, shape)


_MASK = 0x7FFFFFFF


def _word(value: int) -> Any:
    return ops.convert_to_tensor(value, "uint32")


def _mix(word: Any) -> Any:
    """A 32-bit integer finalizer, with the constants of "lowbias32"."""
    word = ops.bitwise_xor(word, ops.right_shift(word, _word(16)))
    word = word * _word(0x7FEB352D)
    word = ops.bitwise_xor(word, ops.right_shift(word, _word(15)))
    word = word * _word(0x846CA68B)
    return ops.bitwise_xor(word, ops.right_shift(word, _word(16)))


def _uniform(
    shape: Any,
    minval: Any = 0.0,
    maxval: Any = 1.0,
    dtype: Any = None,
    seed: Any = None,
) -> Any:
    numbers = hashed_uniform(_compat.draw_seed(seed), shape)
    numbers = numbers * (maxval - minval) + minval
    return ops.cast(numbers, dtype or keras.config.floatx())


def _normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = None,
    seed: Any = None,
) -> Any:
    """The transform of Box and Muller; half of its numbers are not used."""
    pairs = hashed_uniform(_compat.draw_seed(seed), [2, *shape])
    radius = ops.sqrt(-2.0 * ops.log(1.0 - pairs[0]))
    numbers = radius * ops.cos(2.0 * math.pi * pairs[1]) * stddev + mean
    return ops.cast(numbers, dtype or keras.config.floatx())


def _dropout(
    inputs: Any, rate: Any, noise_shape: Any = None, seed: Any = None
) -> Any:
    sizes = ops.shape(inputs)
    if noise_shape is not None:
        pairs = zip(noise_shape, sizes, strict=True)
        sizes = [size if own is None else own for own, size in pairs]
    # The backend's own dropout tests whether the rate is a plain number.
    keep = keras.random.uniform(sizes, dtype=inputs.dtype, seed=seed) >= rate
    scaled = inputs / ops.cast(1.0 - rate, inputs.dtype)
    # Not `*`: what is dropped may be infinite, and 0 * inf is NaN.
    return ops.where(keep, scaled, ops.zeros_like(inputs))


def _refused(name: str) -> Any:
    def refused(*_: Any, **__: Any) -> Any:
        raise _program.UnsupportedError(f"`keras.random.{name}` with own seeds")

    return refused
