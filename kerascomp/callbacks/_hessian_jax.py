"""Compilation and second derivatives on JAX."""

from collections.abc import Callable
from typing import Any

import jax

from kerascomp.callbacks._hessian_seeds import noise, noise_state, set_noise

__all__ = [
    "compiled",
    "gradients",
    "hessian_vector_product",
    "noise",
    "noise_state",
    "set_noise",
]


def compiled(function: Callable) -> Callable:
    """Returns the function compiled, for any number of calls."""
    # A new function each time: an equal one, such as the same method, would be
    # found in the cache, with the model that it was traced on.
    return jax.jit(lambda *arguments: function(*arguments))


def gradients(function: Callable, values: list) -> tuple[Any, list]:
    """Returns a scalar function of tensors and its gradients."""
    return jax.value_and_grad(function)(values)


def hessian_vector_product(
    function: Callable, values: list, vectors: list
) -> list:
    """Returns the Hessian of a scalar function times a vector."""
    return jax.jvp(jax.grad(function), (values,), (vectors,))[1]
