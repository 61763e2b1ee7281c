"""Float64 NumPy references of sequences, written from the papers' equations."""

import itertools

import numpy as np


def paths(emissions, transitions, start, end):
    """All paths of a chain without masked steps, and their scores."""
    steps, tags = emissions.shape
    every = np.array([*itertools.product(range(tags), repeat=steps)], int)
    scores = emissions[np.arange(steps), every].sum(1)
    scores = scores + transitions[every[:, :-1], every[:, 1:]].sum(1)
    return every, scores + start[every[:, 0]] + end[every[:, -1]]


def log_sum_exp(scores):
    highest = scores.max()
    return highest + np.log(np.exp(scores - highest).sum())


def log_norm(*chain):
    """Lafferty et al., 2001: the sum over all paths, one by one."""
    return log_sum_exp(paths(*chain)[1]) if len(chain[0]) else 0.0


def score(tags, *chain):
    if not len(tags):
        return 0.0
    every, scores = paths(*chain)
    return scores[(every == tags).all(1)].item()


def marginals(*chain):
    every, scores = paths(*chain)
    p = np.exp(scores - log_sum_exp(scores))
    tags = np.arange(chain[0].shape[1])
    return np.einsum("p,ptk->tk", p, every[..., None] == tags)


def best(*chain):
    """The best path; of equal ones the smallest, read from the end."""
    every, scores = paths(*chain)
    equal = every[np.isclose(scores, scores.max(), rtol=0, atol=1e-9)]
    return min(equal.tolist(), key=lambda path: path[::-1]), scores.max()


def long_log_norm(emissions, transitions):
    """The forward recursion, Sutton & McCallum, 2012, section 4.1."""
    alpha = emissions[0]
    for row in emissions[1:]:
        through = alpha[:, None] + transitions
        alpha = np.array([log_sum_exp(c) for c in through.T]) + row
    return log_sum_exp(alpha)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalized(x, gain, epsilon):
    variance = x.var(axis=-1, keepdims=True)
    return (
        (x - x.mean(axis=-1, keepdims=True))
        / np.sqrt(variance + epsilon)
        * gain
    )


def layer_norm_lstm(x, weights, epsilon, carry):
    """Ba et al., 2016, supplement: hidden states of all steps."""
    kernel, recurrent, bias, of_x, of_h, of_c, shift = weights
    h = c = np.zeros((len(x), recurrent.shape[0]))
    hidden = []
    for row in x.swapaxes(0, 1):
        gates = normalized(row @ kernel, of_x, epsilon)
        gates = gates + normalized(h @ recurrent, of_h, epsilon) + bias
        i, f, g, o = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        inner = normalized(c, of_c, epsilon) + shift
        h = sigmoid(o) * np.tanh(inner)
        c = inner if carry == "normalized" else c
        hidden.append(h)
    return np.stack(hidden, axis=1)


def peephole_lstm(x, weights):
    """Gers et al., 2002, section 2: hidden states of all steps."""
    kernel, recurrent, bias, (of_i, of_f, of_o) = weights
    h = c = np.zeros((len(x), recurrent.shape[0]))
    hidden = []
    for row in x.swapaxes(0, 1):
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4, axis=-1)
        i, f = sigmoid(i + of_i * c), sigmoid(f + of_f * c)
        c = f * c + i * np.tanh(g)
        h = sigmoid(o + of_o * c) * np.tanh(c)
        hidden.append(h)
    return np.stack(hidden, axis=1)


def truncated_step(weights, state, x, y, rate):
    """One step of gradient descent through one chunk, no further back.

    A plain recurrent layer with tanh and a linear output at each step, squared
    error. Williams & Peng, 1990: errors stop at the state the chunk began with.

    Returns:
        The new weights and the state that the chunk ends with.
    """
    kernel, recurrent, bias, out, shift = weights
    states = [state]
    for row in x.swapaxes(0, 1):
        z = row @ kernel + states[-1] @ recurrent + bias
        states.append(np.tanh(z))
    gradients = [np.zeros_like(w) for w in weights]
    behind = np.zeros_like(state)
    for t in range(x.shape[1])[::-1]:
        error = 2 * (states[t + 1] @ out + shift - y[:, t]) / y.size
        gradients[3] += states[t + 1].T @ error
        gradients[4] += error.sum(0)
        local = (error @ out.T + behind) * (1 - states[t + 1] ** 2)
        gradients[0] += x[:, t].T @ local
        gradients[1] += states[t].T @ local
        gradients[2] += local.sum(0)
        behind = local @ recurrent.T
    new = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    return new, states[-1]
