"""Clipping by the papers' formulas, in float64 NumPy."""

import numpy as np


def auto_clip(gradients, percentile, history, history_steps):
    """Returns the clipped gradients of one step; adds to the history."""
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
    history.append(norm)
    bound = np.percentile(history[-history_steps:], percentile)
    return [g * min(1, bound / norm) for g in gradients]


def unit_wise(gradient, weights, factor, epsilon):
    """Returns a gradient clipped by adaptive gradient clipping."""
    gradient, weights = np.float64(gradient), np.float64(weights)
    axes = tuple(range(weights.ndim - 1)) if weights.ndim > 1 else None
    size = np.sqrt(np.sum(weights**2, axis=axes, keepdims=True))
    norm = np.sqrt(np.sum(gradient**2, axis=axes, keepdims=True))
    bound = factor * np.maximum(size, epsilon)
    return np.where(norm > bound, gradient * bound / norm, gradient)
