"""Float64 NumPy references of distances, embeddings and boxes."""

import itertools
import math

import numpy as np


def length(x):
    return np.sqrt(np.sum(np.square(x), axis=-1))


def unit(x):
    return x / length(x)[..., None]


def jensen_shannon(p, q):
    """Endres & Schindelin, 2003, with 0 log 0 = 0."""
    middle = (p + q) / 2
    divergences = [
        np.sum(np.where(a > 0, a * np.log(np.where(a > 0, a, 1) / middle), 0))
        for a in (p, q)
    ]
    return math.sqrt(sum(divergences) / 2)


def mmd(x, y, bandwidth, unbiased):
    """Gretton et al., 2012, equations 3 and 5, pair by pair."""

    def mean(a, b, skip):
        return np.mean(
            [
                np.exp(-np.sum((u - v) ** 2) / (2 * bandwidth**2))
                for i, u in enumerate(a)
                for j, v in enumerate(b)
                if not (skip and i == j)
            ]
        )

    return mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)


def energy(x, y):
    """Székely & Rizzo, 2013, equation 5, pair by pair."""
    between, first, second = (
        np.mean([[length(u - v) for u in a] for v in b])
        for a, b in ((x, y), (x, x), (y, y))
    )
    return math.sqrt(2 * between - first - second)


def contrastive(y_true, distance, margin):
    """Hadsell et al., 2006, equation 4 without 1/2; 1 means similar."""
    far = np.maximum(margin - distance, 0) ** 2
    return y_true * distance**2 + (1 - y_true) * far


def positive_pairs(labels):
    return [
        (a, p)
        for a, p in itertools.permutations(range(len(labels)), 2)
        if labels[a] == labels[p]
    ]


def triplet_semi_hard(labels, distance, margin):
    """Schroff et al., 2015, section 3.2; the farthest where none is."""
    costs = []
    for a, p in positive_pairs(labels):
        others = distance[a][labels != labels[a]]
        if len(others):
            farther = others[others > distance[a, p]]
            chosen = farther.min() if len(farther) else others.max()
            costs.append(max(0, margin + distance[a, p] - chosen))
    return np.mean(costs) if costs else 0.0


def triplet_hard(labels, distance, margin, soft):
    """Hermans et al., 2017, equation 5."""
    costs = []
    for a, label in enumerate(labels):
        same = labels == label
        same[a] = False
        other = labels != label
        if same.any() and other.any():
            lead = distance[a][same].max() - distance[a][other].min()
            costs.append(
                np.logaddexp(0, lead) if soft else max(0, margin + lead)
            )
    return np.mean(costs) if costs else 0.0


def lifted_structure(labels, distance, margin):
    """Song et al., 2016, equation 4."""
    costs = []
    for i, j in positive_pairs(labels):
        total = sum(
            np.sum(np.exp(margin - distance[k][labels != labels[k]]))
            for k in (i, j)
        )
        if total:
            costs.append(max(0, np.log(total) + distance[i, j]) ** 2 / 2)
        else:
            costs.append(0.0)
    return np.mean(costs) if costs else 0.0


def n_pairs(affinity, anchors, positives):
    """Sohn, 2016, equation 7, as a crossentropy, one value an anchor."""
    logits = anchors @ positives.T
    log_p = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    target = affinity / affinity.sum(axis=1, keepdims=True)
    return -np.sum(target * log_p, axis=1)


def supervised_contrastive(labels, points, temperature):
    """Khosla et al., 2020, equation 2: the mean over anchors with partners."""
    z = unit(points)
    costs = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        partners = [p for p in others if labels[p] == labels[i]]
        if partners:
            total = sum(np.exp(z[i] @ z[a] / temperature) for a in others)
            costs.append(
                -np.mean(
                    [
                        np.log(np.exp(z[i] @ z[p] / temperature) / total)
                        for p in partners
                    ]
                )
            )
    return np.mean(costs) if costs else 0.0


def arc_face(labels, cosines, margin, scale):
    """Deng et al., 2019, equation 3, one value a sample."""
    rows = np.arange(len(labels))
    logits = scale * cosines
    angle = np.arccos(cosines[rows, labels])
    logits[rows, labels] = scale * np.cos(angle + margin)
    return np.log(np.exp(logits).sum(axis=1)) - logits[rows, labels]


def cos_face(labels, cosines, margin, scale):
    """Wang et al., 2018, equation 4, one value a sample."""
    rows = np.arange(len(labels))
    logits = scale * cosines
    logits[rows, labels] -= scale * margin
    return np.log(np.exp(logits).sum(axis=1)) - logits[rows, labels]


def box_loss(kind, true, predicted):
    """Rezatofighi et al., 2019; Zheng et al., 2020; one "xyxy" box each."""
    (a, b, c, d), (e, f, g, h) = true, predicted
    shared = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    union = (c - a) * (d - b) + (g - e) * (h - f) - shared
    width, height = max(c, g) - min(a, e), max(d, h) - min(b, f)
    overlap = shared / union
    if kind == "GIoU":
        return 1 - overlap + (width * height - union) / (width * height)
    centers = ((a + c - e - g) ** 2 + (b + d - f - h) ** 2) / 4
    value = 1 - overlap + centers / (width**2 + height**2)
    if kind == "DIoU":
        return value
    turn = math.atan((c - a) / (d - b)) - math.atan((g - e) / (h - f))
    v = 4 / math.pi**2 * turn**2
    return value + (v / (1 - overlap + v) * v if v else 0)
