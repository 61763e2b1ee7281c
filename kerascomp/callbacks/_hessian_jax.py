"""Compilation and second derivatives on JAX."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable) -> Callable:
    """Returns the function compiled, for any number of calls."""
    return jax.jit(function)


def gradients(function: Callable, values: list) -> tuple[Any, list]:
    """Returns a scalar function of tensors and its gradients."""
    return jax.value_and_grad(function)(values)


def hessian_vector_product(
    function: Callable, values: list, vectors: list
) -> list:
    """Returns the Hessian of a scalar function times a vector."""
    return jax.jvp(jax.grad(function), (values,), (vectors,))[1]
