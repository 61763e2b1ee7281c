"""Float64 NumPy: dense Hessians, and recurrent layers step by step."""

import numpy as np
from gradient_reference import backpropagated


def dense_hessian(weights, x, y, step=1e-5):
    """Differences of hand-written gradients of the mean squared error."""
    weights = [np.asarray(w, "float64") for w in weights]
    shapes = [w.shape for w in weights]
    cuts = np.cumsum([w.size for w in weights])[:-1]
    flat = np.concatenate([w.ravel() for w in weights])

    def gradient(vector):
        parts = [
            part.reshape(shape)
            for part, shape in zip(np.split(vector, cuts), shapes, strict=True)
        ]
        return np.concatenate([g.ravel() for g in backpropagated(parts, x, y)])

    rows = [
        (gradient(flat + unit) - gradient(flat - unit)) / (2 * step)
        for unit in step * np.eye(flat.size)
    ]
    return (np.array(rows) + np.array(rows).T) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn(weights, x, added):
    """Returns the last state; `added` is put on the state of each step."""
    kernel, recurrent, bias = weights
    h = np.zeros((len(x), kernel.shape[1]))
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ kernel + h @ recurrent + bias) + added[:, t]
    return h


def gru(weights, x, added):
    """Cho et al., 2014, with the reset gate after the product."""
    kernel, recurrent, (bias, recurrent_bias) = weights
    h = np.zeros((len(x), recurrent.shape[0]))
    for t in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, t] @ kernel + bias, 3, axis=1)
        hz, hr, hh = np.split(h @ recurrent + recurrent_bias, 3, axis=1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        h = z * h + (1 - z) * np.tanh(xh + r * hh) + added[:, t]
    return h


def lstm(weights, x, added):
    """Hochreiter and Schmidhuber, 1997, with a forget gate."""
    kernel, recurrent, bias = weights
    h = np.zeros((len(x), recurrent.shape[0]))
    c = np.zeros_like(h)
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c) + added[:, t]
    return h


def simple_rnn_norms(weights, x, y):
    """Norms of the gradients by each state, by hand.

    The loss is the mean squared error of the last state.
    """
    kernel, recurrent, bias = weights
    states = [np.zeros((len(x), kernel.shape[1]))]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ kernel + states[-1] @ recurrent + bias))
    gradient = 2 * (states[-1] - y) / y.size
    norms = [np.linalg.norm(gradient)]
    for h in states[:1:-1]:
        gradient = (gradient * (1 - h**2)) @ recurrent.T
        norms.append(np.linalg.norm(gradient))
    return np.array(norms[::-1])
