"""Gradients by the input of a network: the one thing `keras.ops` lacks."""

from collections.abc import Callable
from typing import Any

from kerascomp import _compat

Function = Callable[[Any], Any]


def value_and_pullback(
    function: Function, x: Any, twin: Function
) -> tuple[Any, Function]:
    """Returns `function(x)` and what turns a vector v into v^T J.

    J is the Jacobian at x. What the pullback returns can be differentiated
    again, by whatever trains the model.

    Args:
        function: Takes and returns one tensor; may update variables.
        x: Float tensor.
        twin: The same function without updates, run first if at all. On JAX,
            variables must not be assigned while a function is differentiated.
    """
    return _BACKENDS[_compat.backend()](function, x, twin)


def _tensorflow(
    function: Function, x: Any, _: Function
) -> tuple[Any, Function]:
    import tensorflow as tf

    # Persistent: there may be several vectors.
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = function(x)
    return y, lambda v: tape.gradient(
        y, x, v, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def _jax(function: Function, x: Any, twin: Function) -> tuple[Any, Function]:
    import jax

    _, pullback = jax.vjp(twin, x)
    # The compiler merges the two evaluations into one.
    y = function(x)
    return y, lambda v: pullback(v)[0]


def _torch(function: Function, x: Any, _: Function) -> tuple[Any, Function]:
    import torch

    def pullback(v: Any) -> Any:
        (gradient,) = torch.autograd.grad(
            y, x, v, create_graph=True, materialize_grads=True
        )
        return gradient

    # Also where Keras does not record, as in `evaluate`.
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        y = function(x)
    return y, pullback


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
