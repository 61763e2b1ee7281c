"""Compilation and second derivatives on TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerascomp.callbacks._hessian_seeds import noise, noise_state, set_noise

__all__ = [
    "compiled",
    "gradients",
    "hessian_vector_product",
    "noise",
    "noise_state",
    "set_noise",
]

_ZERO = tf.UnconnectedGradients.ZERO


def compiled(function: Callable) -> Callable:
    """Returns the function compiled, for any number of calls."""
    return tf.function(function, autograph=False, reduce_retracing=True)


def gradients(function: Callable, values: list) -> tuple[Any, list]:
    """Returns a scalar function of tensors and its gradients."""
    with tf.GradientTape() as tape:
        tape.watch(values)
        value = function(values)
    found = tape.gradient(value, values, unconnected_gradients=_ZERO)
    return value, [tf.convert_to_tensor(g) for g in found]


def hessian_vector_product(
    function: Callable, values: list, vectors: list
) -> list:
    """Returns the Hessian of a scalar function times a vector."""
    # Not a ForwardAccumulator: fewer operations know their derivative forward
    # than backward.
    with tf.GradientTape() as tape:
        tape.watch(values)
        _, first = gradients(function, values)
        slope = tf.add_n(
            [tf.reduce_sum(g * v) for g, v in zip(first, vectors, strict=True)]
        )
    second = tape.gradient(slope, values, unconnected_gradients=_ZERO)
    return [tf.convert_to_tensor(g) for g in second]
