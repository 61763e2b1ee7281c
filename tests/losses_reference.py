"""Float64 NumPy references of losses, written from the papers' equations."""

import keras
import numpy as np
from backend import central_difference, compiled, gradient
from reference import log_softmax


def softmax(logits):
    return np.exp(log_softmax(logits))


def one_hot(labels, classes):
    return np.eye(classes)[labels]


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def pinball(y_true, y_pred, quantile):
    """Koenker & Bassett, 1978, equation 2.1."""
    error = y_true - y_pred
    below = np.where(error < 0, 1.0, 0.0)
    return (error * (quantile - below)).mean(axis=-1)


def gaussian_nll(y_true, mean, variance):
    """Seitzer et al., 2022, equation 2, of each element."""
    return 0.5 * np.log(variance) + (y_true - mean) ** 2 / (2 * variance)


def multiclass_hinge(labels, scores, margin=1.0, power=1):
    """Weston & Watkins, 1999; one term for each wrong class."""
    rows = scores.reshape(-1, scores.shape[-1])
    terms = [
        [
            max(0.0, row[j] - row[label] + margin) ** power
            for j in range(len(row))
            if j != label
        ]
        for row, label in zip(rows, labels.ravel(), strict=True)
    ]
    return np.array(terms).reshape(*labels.shape, -1)


def focal(labels, log_p, alpha, gamma):
    """Lin et al., 2017, equation 5."""
    log_true = np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    weight = np.asarray(alpha)[labels] if np.ndim(alpha) else alpha
    return -weight * (1 - np.exp(log_true)) ** gamma * log_true


def poly(targets, log_p, epsilon):
    """Leng et al., 2022, equation 5 with N = 1."""
    crossentropy = -np.sum(targets * log_p, axis=-1)
    return crossentropy + epsilon * (
        1 - np.sum(targets * np.exp(log_p), axis=-1)
    )


def symmetric(targets, log_p, alpha, beta, log_zero):
    """Wang et al., 2019."""
    with np.errstate(divide="ignore"):
        log_targets = np.maximum(np.log(targets), log_zero)
    forward = -np.sum(targets * log_p, axis=-1)
    return alpha * forward - beta * np.sum(np.exp(log_p) * log_targets, -1)


def asymmetric(y_true, logits, gamma_positive, gamma_negative, margin):
    """Ridnik et al., 2021, equation 7, the mean over the labels."""
    p, rest = np.exp(-softplus(-logits)), np.exp(-softplus(logits))
    present = rest**gamma_positive * softplus(-logits)
    shifted = np.maximum(p - margin, 0)
    # 1 - shifted, without the rounding of 1 - p where p is close to 1.
    log_rest = (
        np.where(
            shifted > 0, np.logaddexp(-softplus(logits), np.log(margin)), 0
        )
        if margin
        else -softplus(logits)
    )
    absent = -(shifted**gamma_negative) * log_rest
    return np.mean(y_true * present + (1 - y_true) * absent, axis=-1)


def sparsemax(z):
    """Martins & Astudillo, 2016: tau by bisection of sum max(0, z - tau) = 1.

    Another way than their algorithm 1.
    """
    low = z.max(axis=-1, keepdims=True) - 1
    high = low + 1
    for _ in range(80):
        middle = (low + high) / 2
        total = np.maximum(z - middle, 0).sum(axis=-1, keepdims=True)
        low = np.where(total > 1, middle, low)
        high = np.where(total > 1, high, middle)
    return np.maximum(z - (low + high) / 2, 0)


def sparsemax_loss(targets, z):
    """Martins & Astudillo, 2016: the conjugate of the squared norm on the
    simplex, plus that of the targets, less their product with the scores.
    """
    p = sparsemax(z)
    conjugate = np.sum(p * z, axis=-1) - 0.5 * np.sum(p**2, axis=-1)
    return (
        conjugate
        + 0.5 * np.sum(targets**2, axis=-1)
        - np.sum(targets * z, axis=-1)
    )


def class_balanced_weights(samples, beta):
    """Cui et al., 2019, scaled to a sum of the classes."""
    weights = (1 - beta) / (1 - beta ** np.asarray(samples, "float64"))
    return weights / weights.sum() * len(samples)


def logit_adjusted(labels, logits, samples, tau):
    """Menon et al., 2021."""
    prior = np.asarray(samples, "float64") / np.sum(samples)
    log_p = log_softmax(logits + tau * np.log(prior))
    return -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]


def balanced_softmax(labels, logits, samples):
    """Ren et al., 2020, equation 3."""
    weighted = np.asarray(samples) * np.exp(logits)
    p = weighted / weighted.sum(axis=-1, keepdims=True)
    return -np.log(np.take_along_axis(p, labels[..., None], -1)[..., 0])


def weighted_kappa(labels, p, power, epsilon, counts=None):
    """de la Torre et al., 2018; sums over samples and classes."""
    samples, classes = p.shape
    counts = np.ones(samples) if counts is None else counts
    cost = np.abs(np.subtract.outer(*[np.arange(classes)] * 2)) ** power
    observed = expected = 0.0
    for n in range(samples):
        observed += counts[n] * cost[labels[n]] @ p[n]
        for m in range(samples):
            expected += counts[n] * counts[m] * cost[labels[n]] @ p[m]
    return np.log(observed / (expected / counts.sum()) + epsilon)


def corn(labels, logits, average):
    """Shi et al., 2023, one conditional subset after another."""
    total, asked = 0.0, 0
    for k in range(logits.shape[-1]):
        subset = labels > k - 1
        z, yes = logits[subset, k], labels[subset] > k
        total -= np.sum(np.where(yes, -softplus(-z), -softplus(-z) - z))
        asked += subset.sum()
    return total / (asked if average == "questions" else len(labels))


def values(loss, *arguments):
    """What a loss gives, as an array."""
    # Compiled: JAX would compile every operation alone, which takes longer.
    return keras.ops.convert_to_numpy(compiled(loss)(*arguments))


def slope(loss, y_true, y_pred):
    """The gradient of a loss with respect to `y_pred`."""
    return gradient(compiled(lambda x: loss(y_true, x)), y_pred)


def assert_gradient(make, reference, y_true, y_pred, dtype="float32", **steps):
    """Compares the gradient of the sum with central differences in float64.

    Args:
        make: Returns the loss, from keyword arguments.
        reference: Gives the values of the samples from `y_pred`.
        y_true: Targets.
        y_pred: The point, of numbers that `dtype` holds exactly.
        dtype: Of the loss and of the point.
        **steps: `step` of the difference.
    """
    loss = make(reduction="sum", dtype=dtype)
    received = slope(loss, y_true, y_pred.astype(dtype))
    expected = central_difference(
        lambda x: np.sum(reference(x)), y_pred, **{"step": 1e-5, **steps}
    )
    assert received.dtype == dtype
    # Float16 has 11 bits, and the functions take a few of them.
    tolerance = 2e-5 if dtype == "float32" else 4e-3
    np.testing.assert_allclose(
        received.astype("float64"), expected, rtol=tolerance, atol=tolerance
    )
