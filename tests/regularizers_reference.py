"""Float64 NumPy references of the regularizers, from their papers."""

import numpy as np


def matrix(weights):
    """A convolution kernel as (height * width * channels, filters)."""
    weights = np.asarray(weights, "float64")
    filters = weights.shape[-1]
    return weights.reshape(weights.size // filters, filters)


def group_lasso(weights, factor, axis):
    """Yuan & Lin, 2006, equation 2.1: each group in a loop."""
    weights = np.asarray(weights, "float64")
    axes = sorted(a % weights.ndim for a in np.atleast_1d(axis))
    groups = np.moveaxis(weights, axes, range(len(axes)))
    groups = groups.reshape(*groups.shape[: len(axes)], -1)
    total = 0.0
    for index in np.ndindex(*groups.shape[:-1]):
        group = groups[index]
        total += np.sqrt(group.size) * np.sqrt(np.sum(group**2))
    return factor * total


def sparse_group_lasso(weights, factor, l1_fraction, axis):
    """Simon et al., 2013, equation 3."""
    return l1_fraction * factor * np.abs(weights).sum() + (
        1 - l1_fraction
    ) * group_lasso(weights, factor, axis)


def hoyer(weights, factor, square):
    """Yang et al., 2020."""
    weights = np.asarray(weights, "float64")
    ratio = np.abs(weights).sum() / np.sqrt((weights**2).sum())
    return factor * (ratio**2 if square else ratio)


def singular_values(weights):
    """From the eigenvalues of the smaller product with the transpose."""
    w = matrix(weights)
    gram = w @ w.T if len(w) < w.shape[1] else w.T @ w
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))


def spectral_norm(weights, factor):
    """Yoshida & Miyato, 2017, of one layer."""
    return factor / 2 * singular_values(weights).max() ** 2


def nuclear_norm(weights, factor):
    """Fazel et al., 2001, equation 2."""
    return factor * singular_values(weights).sum()


def soft_orthogonality(weights, factor, variant):
    """Bansal et al., 2018, section 3."""
    w = matrix(weights)
    columns = w.T @ w - np.eye(w.shape[1])
    rows = w @ w.T - np.eye(len(w))
    value = {
        "soft": np.sum(columns**2),
        "double": np.sum(columns**2) + np.sum(rows**2),
        "mutual_coherence": np.abs(columns).max(),
        "restricted_isometry": np.abs(np.linalg.eigvalsh(columns)).max(),
    }
    return factor * value[variant]


def kl_sparsity(activity, factor, target):
    """Ng, 2011, section 3."""
    m = matrix(activity).mean(axis=0)
    on = target * np.log(target / m)
    off = (1 - target) * np.log((1 - target) / (1 - m))
    return factor * np.sum(on + off)


def decov(activity, factor):
    """Cogswell et al., 2016."""
    c = np.atleast_2d(np.cov(matrix(activity), rowvar=False, bias=True))
    return factor / 2 * (np.sum(c**2) - np.sum(np.diag(c) ** 2))


def network(weights, x):
    """Two dense layers with a hyperbolic tangent between."""
    w1, b1, w2, b2 = (np.asarray(w, "float64") for w in weights)
    return np.tanh(x @ w1 + b1) @ w2 + b2


def jacobians(weights, x, step=1e-4):
    """`(samples, outputs, inputs)` of the network, by central differences."""
    x = np.asarray(x, "float64")
    columns = []
    for feature in range(x.shape[1]):
        delta = np.zeros(x.shape[1])
        delta[feature] = step
        change = network(weights, x + delta) - network(weights, x - delta)
        columns.append(change / (2 * step))
    return np.stack(columns, axis=-1)


def jacobian_penalty(weights, x, factor):
    """Hoffman et al., 2019."""
    j = jacobians(weights, x)
    return factor / 2 * np.mean(np.sum(j**2, axis=(1, 2)))


def gradient_penalty(weights, x, factor, target):
    """Gulrajani et al., 2017, equation 3, at the points x."""
    slope = jacobians(weights, x)[:, 0]
    size = np.sqrt(np.sum(slope**2, axis=-1))
    return factor * np.mean((size - target) ** 2)
