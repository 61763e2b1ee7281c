"""The tests' only place that asks which backend runs."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On JAX, the suite spends most of its time compiling programs that run once.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import keras
import numpy as np

NAME = keras.backend.backend()


def gradient(function, x):
    """Returns the gradient of a scalar function at a NumPy array."""
    if NAME == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        result = tape.gradient(value, x)
    elif NAME == "jax":
        import jax

        result = jax.grad(function)(jax.numpy.asarray(x))
    else:
        import torch

        x = torch.tensor(x, requires_grad=True)
        (result,) = torch.autograd.grad(function(x), x)
    return keras.ops.convert_to_numpy(result)


def compiled(function):
    """Returns the function compiled by the backend.

    On torch it stays eager: its compiler takes minutes.
    """
    if NAME == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if NAME == "jax":
        import jax

        return jax.jit(function)
    return function


def traces(once, programs):
    """Returns how often Python runs a layer if there are several programs.

    Args:
        once: How often it does with one program.
        programs: How many there would be if numbers were constants of them, as
            they are on JAX. Programs of TensorFlow read variables, and torch
            runs Python at every step.
    """
    return once * programs if NAME == "jax" else once


def served(path, x):
    """Returns what a SavedModel at `path` gives for `x`, without Keras."""
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # Its variables live as long.
    return loaded.serve(tf.constant(x)).numpy()


def central_difference(function, x, step=1e-3):
    """Returns the gradient of a float64 NumPy function by differences."""
    x = np.asarray(x, "float64")
    result = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        delta = np.zeros_like(x)
        delta[index] = step
        result[index] = (function(x + delta) - function(x - delta)) / (2 * step)
    return result


def dataset(x, batch_size):
    """Returns batches as the data set of the backend, of pairs with x twice.

    JAX has none of its own: a generator.
    """
    if NAME == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((x, x)).batch(batch_size)
    if NAME == "torch":
        import torch

        x = torch.from_numpy(x)
        pairs = torch.utils.data.TensorDataset(x, x)
        return torch.utils.data.DataLoader(pairs, batch_size)
    import jax

    slices = range(0, len(x), batch_size)
    parts = (
        jax.numpy.asarray(x[start : start + batch_size]) for start in slices
    )
    return ((part, part) for part in parts)
