"""Float64 NumPy references of layers, written from the papers' equations.

Images have their channels last.
"""

import math

import numpy as np


def windows(length, pool, stride, padding):
    """Start and end of each window, cut off at the border."""
    if padding == "valid":
        starts = range(0, length - pool + 1, stride)
    else:
        count = math.ceil(length / stride)
        outside = max((count - 1) * stride + pool - length, 0)
        starts = [i * stride - outside // 2 for i in range(count)]
    return [(max(at, 0), min(at + pool, length)) for at in starts]


def max_pool_with_indices(x, pool, strides, padding):
    """The first largest number of each window, and row * width + column."""
    batch, height, width, channels = x.shape
    rows = windows(height, pool[0], strides[0], padding)
    columns = windows(width, pool[1], strides[1], padding)
    shape = (batch, len(rows), len(columns), channels)
    values, indices = np.zeros(shape), np.zeros(shape, int)
    for n, i, j, c in np.ndindex(shape):
        (top, bottom), (left, right) = rows[i], columns[j]
        window = x[n, top:bottom, left:right, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        values[n, i, j, c] = window[row, column]
        indices[n, i, j, c] = (top + row) * width + left + column
    return values, indices


def max_unpool(values, indices, size):
    """The mean of what goes to each place."""
    batch, _, _, channels = values.shape
    sums = np.zeros((batch, size[0] * size[1], channels))
    counts = np.zeros_like(sums)
    for n, i, j, c in np.ndindex(values.shape):
        place = (n, indices[n, i, j, c], c)
        sums[place] += values[n, i, j, c]
        counts[place] += 1
    return (sums / np.maximum(counts, 1)).reshape(batch, *size, channels)


def bin_edges(length, count):
    """He et al., 2014: from floor(i a / n) to ceil((i + 1) a / n)."""
    return [
        slice(
            math.floor(i * length / count), math.ceil((i + 1) * length / count)
        )
        for i in range(count)
    ]


def spatial_pyramid(x, bins, reduce):
    """Level by level, each in reading order."""
    height, width = x.shape[1:3]
    return np.stack(
        [
            reduce(x[:, rows, columns], axis=(1, 2))
            for n, m in bins
            for rows in bin_edges(height, n)
            for columns in bin_edges(width, m)
        ],
        axis=1,
    )


def generalized_mean(x, p, epsilon):
    """Radenovic et al., 2018, over all axes between batch and channels."""
    x = np.maximum(np.asarray(x, "float64"), epsilon)
    axes = tuple(range(1, x.ndim - 1))
    return np.mean(x**p, axis=axes) ** (1 / p)


def blur_pool(x, size, strides):
    """Zhang, 2019: the kernel is an outer product of binomials."""
    binomials = np.array([math.comb(size - 1, i) for i in range(size)])
    kernel = np.outer(binomials, binomials) / binomials.sum() ** 2
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    around = (before, after)
    padded = np.pad(x, ((0, 0), around, around, (0, 0)), "reflect")
    blurred = sum(
        kernel[i, j] * padded[:, i : i + x.shape[1], j : j + x.shape[2]]
        for i in range(size)
        for j in range(size)
    )
    return blurred[:, :: strides[0], :: strides[1]]


def periodic_shuffle(x, rows, columns):
    """Shi et al., 2016, equation 4, for blocks that may be no squares."""
    batch, height, width, depth = x.shape
    channels = depth // (rows * columns)
    output = np.zeros((batch, height * rows, width * columns, channels))
    for i, j, c in np.ndindex(output.shape[1:]):
        of_block = columns * (i % rows) + j % columns
        source = x[:, i // rows, j // columns, channels * of_block + c]
        output[:, i, j, c] = source
    return output


def squeeze_excite(x, first, first_bias, second, second_bias):
    """Hu et al., 2018, equations 2 to 4, with biases."""
    means = x.mean(axis=tuple(range(1, x.ndim - 1)))
    hidden = np.maximum(means @ first + first_bias, 0)
    scale = 1 / (1 + np.exp(-(hidden @ second + second_bias)))
    return x * scale.reshape(len(x), *(1,) * (x.ndim - 2), -1)


def cross(x0, x, kernel, bias):
    """Wang et al., 2017, equation 3, for a vector or a matrix of weights."""
    return x0 * (x @ kernel) + bias + x


def embedding_bag(table, items, weights, combiner):
    """One bag at a time; weights of 0 stand for items that are left out."""
    output = np.zeros((*items.shape[:-1], table.shape[1]))
    for bag in np.ndindex(items.shape[:-1]):
        present = weights[bag] != 0
        vectors, w = table[items[bag]][present], weights[bag][present]
        if not len(w):
            continue
        total = (w[:, None] * vectors).sum(axis=0)
        output[bag] = {
            "sum": total,
            "mean": total / w.sum(),
            "sqrtn": total / np.sqrt((w**2).sum()),
            "max": vectors.max(axis=0),
        }[combiner]
    return output


def sinusoids(steps, features, wavelength):
    """Vaswani et al., 2017, section 3.5."""
    encoding = np.zeros((steps, features))
    for t, number in np.ndindex(encoding.shape):
        even = number - number % 2
        angle = t / wavelength ** (even / features)
        encoding[t, number] = (math.cos if number % 2 else math.sin)(angle)
    return encoding


def gaussian_kernel(x, y, scale):
    """exp(-||x - y||^2 / (2 scale^2)) of all pairs."""
    differences = x[:, None] - y[None]
    return np.exp(-np.sum(differences**2, axis=-1) / (2 * scale**2))


def laplacian_kernel(x, y, scale):
    """exp(-||x - y||_1 / scale) of all pairs."""
    differences = x[:, None] - y[None]
    return np.exp(-np.sum(np.abs(differences), axis=-1) / scale)
