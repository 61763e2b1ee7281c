"""Second derivatives on torch, where nothing is compiled."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def noise_state() -> Any:
    """Returns the state of the noise besides the variables.

    Keras draws dropout without a seed from the generators of torch.
    """
    on_devices = torch.cuda.get_rng_state_all() if _has_devices() else []
    return torch.get_rng_state(), on_devices


def set_noise(state: Any) -> None:
    """Puts a state back."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


@contextlib.contextmanager
def noise(state: Any) -> Iterator[None]:
    """Runs a block that leaves the noise outside as it would have been.

    Args:
        state: What the block begins with; None for the same each time.
    """
    found = noise_state()
    try:
        if state is None:
            torch.manual_seed(0)
        else:
            set_noise(state)
        yield
    finally:
        set_noise(found)


def _has_devices() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


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
