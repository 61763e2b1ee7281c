"""Float64 NumPy references of metrics, written from the papers."""

import numpy as np


def geometric_mean(labels, predicted, weights=None, correction=0.0):
    """Sun et al., 2006: the K-th root of the product of K recalls."""
    weights = np.ones(len(labels)) if weights is None else weights
    recalls = [
        np.average(predicted[labels == c] == c, weights=weights[labels == c])
        for c in np.unique(labels[weights > 0])
    ]
    recalls = [recall or correction for recall in recalls]
    return np.prod(recalls) ** (1 / len(recalls))


def calibration_error(confidence, event, bins, weights=None):
    """Guo et al., 2017, with `bins` the number of each sample."""
    weights = np.ones(len(bins)) if weights is None else weights
    error = 0.0
    for number in np.unique(bins[weights > 0]):
        inside = bins == number
        gap = np.average((event - confidence)[inside], weights=weights[inside])
        error += weights[inside].sum() / weights.sum() * abs(gap)
    return error


def equal_width(confidence, count):
    """Guo et al., 2017: bin m is ((m - 1) / M, m / M]."""
    bins = np.ceil(confidence * count) - 1
    return np.maximum(bins, 0).astype(int)


def equal_mass(confidence, count):
    """Nguyen and O'Connor, 2015: sorted, then cut into equal parts."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), count)
    bins = np.empty(len(confidence), int)
    for number, part in enumerate(parts):
        bins[part] = number
    return bins


def pinball(y_true, y_pred, quantile):
    """Koenker and Bassett, 1978, by cases."""
    error = np.asarray(y_true, "float64") - y_pred
    return np.where(error >= 0, quantile * error, (quantile - 1) * error)


def weighted_correlation(x, y, weights):
    """The correlation in a population of those shares."""
    covariance = np.cov(x, y, aweights=weights)
    return covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
