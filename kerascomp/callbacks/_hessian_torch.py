"""Second derivatives on torch, where nothing is compiled."""

from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable) -> Callable:
    """Returns the function as it is: the compiler of torch takes minutes."""
    return function


def gradients(function: Callable, values: list) -> tuple[Any, list]:
    """Returns a scalar function of tensors and its gradients."""
    value, found = _recorded(function, _leaves(values), create_graph=False)
    return value.detach(), found


def hessian_vector_product(
    function: Callable, values: list, vectors: list
) -> list:
    """Returns the Hessian of a scalar function times a vector."""
    leaves = _leaves(values)
    _, first = _recorded(function, leaves, create_graph=True)
    with torch.enable_grad():
        slope = sum((g * v).sum() for g, v in zip(first, vectors, strict=True))
        if not slope.requires_grad:  # The function is linear.
            return [torch.zeros_like(leaf) for leaf in leaves]
        return list(torch.autograd.grad(slope, leaves, materialize_grads=True))


def _leaves(values: list) -> list:
    return [value.detach().requires_grad_() for value in values]


def _recorded(
    function: Callable, leaves: list, create_graph: bool
) -> tuple[Any, list]:
    # Also where Keras does not record, as in `evaluate`.
    with torch.enable_grad():
        value = function(leaves)
        if not value.requires_grad:
            return value, [torch.zeros_like(leaf) for leaf in leaves]
        found = torch.autograd.grad(
            value, leaves, create_graph=create_graph, materialize_grads=True
        )
    return value, list(found)
