"""Float64 NumPy references of layers, written from the papers' equations.

And real data to train them on, with a baseline.
"""

import itertools
import math

import numpy as np
from sklearn.datasets import load_digits


def entmax15(x):
    """Peters et al., 2019: max(0, z / 2 - tau)^2 of sum 1, by bisection."""
    z = np.asarray(x, "float64") / 2
    low = z.max(axis=-1, keepdims=True) - 1
    high = z.max(axis=-1, keepdims=True)
    for _ in range(80):
        tau = (low + high) / 2
        above = np.sum(np.maximum(z - tau, 0) ** 2, -1, keepdims=True) > 1
        low, high = np.where(above, tau, low), np.where(above, high, tau)
    return np.maximum(z - low, 0) ** 2


def drop_block(x, corners, size):
    """Ghiasi et al., 2018, algorithm 1, of corners that were drawn.

    Args:
        x: `(batch, height, width, channels)`.
        corners: `(batch, places, places, channels)`, 1 where a block begins.
        size: Height and width of a block.
    """
    mask = np.ones_like(x)
    for b, i, j, c in zip(*np.nonzero(corners), strict=True):
        mask[b, i : i + size[0], j : j + size[1], c] = 0
    return x * mask * mask.size / mask.sum()


def zoneout(old, new, rate, keep=None):
    """Krueger et al., 2017, section 3; the mean if nothing was drawn."""
    if keep is None:
        return rate * old + (1 - rate) * new
    return np.where(keep, old, new)


def weight_normalized(v, gain, kept):
    """Salimans & Kingma, 2016, equation 2, one length a kept index."""
    result = np.zeros_like(v)
    for place in itertools.product(*(range(v.shape[axis]) for axis in kept)):
        index = [slice(None)] * v.ndim
        for axis, i in zip(kept, place, strict=True):
            index[axis] = i
        part = v[tuple(index)]
        result[tuple(index)] = gain[place] * part / math.sqrt((part**2).sum())
    return result


def standardized(v, kept, epsilon):
    """Qiao et al., 2019, section 3.2, one mean and variance a kept index."""
    others = tuple(i for i in range(v.ndim) if i not in kept)
    mean = v.mean(axis=others, keepdims=True)
    variance = ((v - mean) ** 2).mean(axis=others, keepdims=True)
    return (v - mean) / np.sqrt(variance + epsilon)


def filter_response(x, gamma, beta, epsilon):
    """Singh & Krishnan, 2020, equations 1 to 3, channels last."""
    axes = tuple(range(1, x.ndim - 1))
    nu = (x**2).mean(axis=axes, keepdims=True)
    return gamma * x / np.sqrt(nu + epsilon) + beta


def batch_renormalized(x, moving, r_max, d_max, epsilon, momentum):
    """Ioffe, 2017, algorithm 1, over all axes but the last.

    Returns:
        The outputs, and the moving mean and variance after it.
    """
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    deviation = np.sqrt(variance + epsilon)
    moving_deviation = np.sqrt(moving[1] + epsilon)
    r = np.clip(deviation / moving_deviation, 1 / r_max, r_max)
    d = np.clip((mean - moving[0]) / moving_deviation, -d_max, d_max)
    moved = [
        momentum * old + (1 - momentum) * new
        for old, new in zip(moving, (mean, variance), strict=True)
    ]
    return (x - mean) / deviation * r + d, moved


def ghost_normalized(x, size, epsilon):
    """Hoffer et al., 2017, algorithm 1; what is left joins the last group.

    Returns:
        The outputs, and the mean and variance of each group.
    """
    groups = max(len(x) // size, 1)
    ends = [*(size * np.arange(1, groups)), len(x)]
    outputs, means, variances = [], [], []
    for part in np.split(x, ends[:-1]):
        axes = tuple(range(x.ndim - 1))
        means.append(part.mean(axis=axes))
        variances.append(part.var(axis=axes))
        outputs.append((part - means[-1]) / np.sqrt(variances[-1] + epsilon))
    return np.concatenate(outputs), np.array(means), np.array(variances)


def concrete_penalty(kernel, rate, features, weight_factor, entropy_factor):
    """Gal et al., 2017, equations 3 and 4, without constants."""
    entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    return (
        weight_factor * (kernel**2).sum() / (1 - rate)
        - entropy_factor * features * entropy
    )


def concrete_keep(u, rate, temperature):
    """Gal et al., 2017, equation 5: 1 - z, over 1 - p."""
    odds = np.log(rate) - np.log(1 - rate) + np.log(u) - np.log(1 - u)
    z = 1 / (1 + np.exp(-odds / temperature))
    return (1 - z) / (1 - rate)


def digits():
    """Images of 8 x 8 pixels in [0, 1], shuffled, and their digits."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    return x[order], labels[order]


def nearest_mean(x, y, split):
    """The accuracy of choosing the class whose mean is nearest."""
    x = x.reshape(len(x), -1)
    means = np.array(
        [x[:split][y[:split] == c].mean(axis=0) for c in range(10)]
    )
    distances = ((x[split:, None] - means) ** 2).sum(axis=-1)
    return (distances.argmin(axis=-1) == y[split:]).mean()
