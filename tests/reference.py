"""Float64 NumPy references, written from the papers' equations."""

import math

import numpy as np


def smooth_l1(y_true, y_pred, beta):
    """Girshick, 2015, equation 3, with the turning point at `beta`."""
    size = np.abs(np.asarray(y_pred, "float64") - y_true)
    element = np.where(size < beta, size**2 / (2 * beta), size - beta / 2)
    return element.mean(axis=-1)


def smoothed_crossentropy(labels, log_probabilities, smoothing):
    """Szegedy et al., 2016, section 7, with the uniform prior 1 / K."""
    classes = log_probabilities.shape[-1]
    target = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    return -np.sum(target * log_probabilities, axis=-1)


def log_softmax(logits):
    """The logarithm of exp(x) / sum(exp(x)), shifted so as not to overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def scaled_l2(weights, factor, num_samples):
    """Nielsen, 2015, equation 87."""
    return factor / (2 * num_samples) * np.sum(np.square(weights))


def warmup_cosine(
    step,
    peak,
    total_steps,
    warmup_steps=0,
    floor=0.0,
    start=0.0,
    cycles=1,
    cycle_multiplier=1.0,
    cycle_decay=1.0,
):
    """Loshchilov & Hutter, 2017, equation 5, after a linear warmup."""
    if step < warmup_steps:
        return start + (peak - start) * step / warmup_steps
    shares = [cycle_multiplier**i for i in range(cycles)]
    unit = (total_steps - warmup_steps) / sum(shares)
    begin = warmup_steps
    for cycle, share in enumerate(shares):
        length = unit * share
        last = cycle == cycles - 1
        if step < begin + length or last:
            t = min((step - begin) / length, 1)
            top = floor + (peak - floor) * cycle_decay**cycle
            return floor + (top - floor) * (1 + math.cos(math.pi * t)) / 2
        begin += length
    raise AssertionError("there is no cycle")
