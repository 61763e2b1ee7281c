"""What do components cost beside the nearest Keras or direct formula?

Each row is a component and a peer that does the same or nearly so, on one
batch: forward and gradient in one compiled program (not compiled on torch,
whose training is eager), a call each by turns, so that they share whatever
else the machine does. The ratio is the median over the rounds of component to
peer in the same round; in brackets, the middle half of the ratios; last, the
ratio of the fastest calls, which a busy machine changes least. Run it once per
backend:

    KERAS_BACKEND=jax python benchmarks/components.py [--only triplet poly]

A row is added by a function under `@row(name, peer)` that returns what the
two take and the two functions; see below. Metrics and regularizers are in
`metrics_and_regularizers.py`.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kerascomp as kc

ops = keras.ops

ROWS = []
RNG = np.random.default_rng(0)


def row(name, peer, backward=True):
    """Registers a row.

    Args:
        name: What is measured, and on what sizes.
        peer: What it is measured against.
        backward: Whether the gradient to the first array is taken, too.

    Returns:
        A decorator of a function that returns `(arrays, component, peer)`:
        NumPy arrays, and two functions of them.
    """

    def register(make):
        ROWS.append((name, peer, backward, make))
        return make

    return register


def normal(*shape):
    """Standard normal numbers in float32."""
    return RNG.normal(size=shape).astype("float32")


def unit(*shape):
    """Vectors of length 1."""
    x = normal(*shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def labels(count, batch=1024):
    """Integer labels."""
    return RNG.integers(0, count, batch).astype("int32")


def direct_squares(x, y):
    """Squared distances as everyone writes them."""
    squares = ops.sum(x * x, -1, keepdims=True) + ops.sum(y * y, -1)
    product = ops.matmul(x, ops.transpose(y))
    return ops.maximum(squares - 2 * product, 0.0)


def direct_distances(x):
    """Distances within a batch, kept off 0 for the gradient."""
    return ops.sqrt(ops.maximum(direct_squares(x, x), 1e-12))


@row("pairwise 10,000 x 10,000 x 64", "one matrix product", backward=False)
def _pairwise_large():
    return (
        [normal(10_000, 64), normal(10_000, 64)],
        kc.distances.pairwise,
        lambda x, y: ops.matmul(x, ops.transpose(y)),
    )


@row("pairwise 1,024 x 1,024 x 128", "direct formula")
def _pairwise():
    return (
        [normal(1024, 128), normal(1024, 128)],
        lambda x, y: ops.sum(kc.distances.pairwise(x, y)),
        lambda x, y: ops.sum(
            ops.sqrt(ops.maximum(direct_squares(x, y), 1e-12))
        ),
    )


@row("pairwise manhattan 1,024 x 1,024 x 32", "differences at once")
def _pairwise_manhattan():
    return (
        [normal(1024, 32), normal(1024, 32)],
        lambda x, y: ops.sum(kc.distances.pairwise(x, y, "manhattan")),
        lambda x, y: ops.sum(ops.abs(x[:, None] - y)),
    )


@row("euclidean, 65,536 x 64", "direct formula")
def _euclidean():
    return (
        [normal(65536, 64), normal(65536, 64)],
        lambda x, y: ops.sum(kc.distances.euclidean(x, y)),
        lambda x, y: ops.sum(ops.sqrt(ops.sum(ops.square(x - y), axis=-1))),
    )


@row("Contrastive, 65,536", "direct formula")
def _contrastive():
    def direct(distance, y):
        far = ops.square(ops.maximum(1.0 - distance, 0.0))
        return ops.mean(y * ops.square(distance) + (1 - y) * far)

    loss = kc.losses.Contrastive()
    y = labels(2, 65536).astype("float32")
    return [np.abs(normal(65536)), y], lambda d, y: loss(y, d), direct


def direct_triplet_hard(x, y):
    """Hermans' loss as everyone writes it."""
    distance = direct_distances(x)
    same = y[:, None] == y
    positive = ops.max(ops.where(same, distance, 0.0), axis=-1)
    negative = ops.min(ops.where(same, float("inf"), distance), axis=-1)
    return ops.mean(ops.relu(1.0 + positive - negative))


@row("TripletHard, 1,024 x 128", "direct formula")
def _triplet_hard():
    loss = kc.losses.TripletHard()
    return (
        [unit(1024, 128), labels(64)],
        lambda x, y: loss(y, x),
        direct_triplet_hard,
    )


def tiled_triplet_semi_hard(x, y):
    """TensorFlow Addons' way: a (batch, batch, batch) tensor."""
    distance = direct_squares(x, x)
    same = y[:, None] == y
    others = ops.logical_not(ops.eye(x.shape[0], dtype="bool"))
    infinity = float("inf")
    far = (distance[:, None, :] > distance[:, :, None]) & ~same[:, None, :]
    nearest = ops.min(ops.where(far, distance[:, None, :], infinity), axis=-1)
    last = ops.max(ops.where(same, -infinity, distance), -1, keepdims=True)
    chosen = ops.where(nearest < infinity, nearest, last)
    cost = ops.relu(1.0 + distance - chosen)
    pairs = ops.cast(same & others, "float32")
    return ops.sum(cost * pairs) / ops.sum(pairs)


@row("TripletSemiHard, 512 x 128", "(batch, batch, batch) tensor")
def _triplet_semi_hard():
    loss = kc.losses.TripletSemiHard()
    return (
        [unit(512, 128), labels(32, 512)],
        lambda x, y: loss(y, x),
        tiled_triplet_semi_hard,
    )


@row("LiftedStructure, 1,024 x 128", "formula that cannot overflow")
def _lifted_structure():
    def direct(x, y):
        distance = direct_distances(x)
        same = y[:, None] == y
        near = ops.logsumexp(ops.where(same, -1e9, 1.0 - distance), axis=-1)
        joint = ops.logaddexp(near[:, None], near) + distance
        others = ops.logical_not(ops.eye(x.shape[0], dtype="bool"))
        pairs = ops.cast(same & others, "float32")
        cost = ops.square(ops.relu(joint)) * pairs / 2
        return ops.sum(cost) / ops.sum(pairs)

    loss = kc.losses.LiftedStructure()
    return [unit(1024, 128), labels(64)], lambda x, y: loss(y, x), direct


@row("NPairs, 1,024 x 2 x 128", "direct formula")
def _n_pairs():
    def direct(x, y):
        same = ops.cast(y[:, None] == y, "float32")
        target = same / ops.sum(same, axis=-1, keepdims=True)
        logits = ops.matmul(x[:, 0], ops.transpose(x[:, 1]))
        return ops.mean(
            ops.categorical_crossentropy(target, logits, from_logits=True)
        )

    loss = kc.losses.NPairs()
    return [unit(1024, 2, 128), labels(64)], lambda x, y: loss(y, x), direct


def direct_contrast(x, y, temperature):
    """Khosla's loss as everyone writes it."""
    x = x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
    logits = ops.matmul(x, ops.transpose(x)) / temperature
    itself = ops.eye(x.shape[0])
    pairs = ops.cast(y[:, None] == y, "float32") - itself
    total = ops.logsumexp(logits - 1e9 * itself, axis=-1, keepdims=True)
    right = ops.sum(pairs * (logits - total), axis=-1)
    return -ops.mean(right / ops.maximum(ops.sum(pairs, axis=-1), 1.0))


@row("SupervisedContrastive, 1,024 x 128", "direct formula")
def _supervised_contrastive():
    loss = kc.losses.SupervisedContrastive()
    return (
        [normal(1024, 128), labels(64)],
        lambda x, y: loss(y, x),
        lambda x, y: direct_contrast(x, y, 0.1),
    )


@row("NTXent, 1,024 x 2 x 128", "direct formula")
def _nt_xent():
    loss = kc.losses.NTXent()
    return (
        [normal(1024, 2, 128), np.repeat(np.arange(1024, dtype="int32"), 2)],
        lambda x, y: loss(y[::2], x),
        lambda x, y: direct_contrast(ops.reshape(x, (-1, 128)), y, 0.5),
    )


def direct_margin(x, y, turn):
    """With the cosine of the true class replaced by `turn` of it."""
    target = ops.take_along_axis(x, y[:, None], axis=-1)
    is_class = ops.one_hot(y, x.shape[-1], dtype="bool")
    logits = 64 * ops.where(is_class, turn(target), x)
    return ops.mean(
        ops.sparse_categorical_crossentropy(y, logits, from_logits=True)
    )


def _margin_row(loss, turn):
    return (
        [np.tanh(normal(1024, 1000)), labels(1000)],
        lambda x, y: loss(y, x),
        lambda x, y: direct_margin(x, y, turn),
    )


@row("ArcFace, 1,024 x 1,000", "direct formula")
def _arc_face():
    return _margin_row(
        kc.losses.ArcFace(margin=0.5),
        lambda cosine: ops.cos(ops.arccos(cosine) + 0.5),
    )


@row("CosFace, 1,024 x 1,000", "direct formula")
def _cos_face():
    return _margin_row(kc.losses.CosFace(0.35), lambda cosine: cosine - 0.35)


def direct_giou(x, y):
    """GIoU as in TensorFlow Addons, whose quotients 0 / 0 are 0, too."""

    def area(low, high):
        sides = [
            ops.maximum(h - a, 0.0) for a, h in zip(low, high, strict=True)
        ]
        return sides[0] * sides[1]

    a, b = ([each[..., n] for n in range(4)] for each in (x, y))
    lows = [
        [f(p, q) for p, q in zip(a[:2], b[:2], strict=True)]
        for f in (ops.maximum, ops.minimum)
    ]
    highs = [
        [f(p, q) for p, q in zip(a[2:], b[2:], strict=True)]
        for f in (ops.minimum, ops.maximum)
    ]
    shared, around = map(area, lows, highs)
    union = area(a[:2], a[2:]) + area(b[:2], b[2:]) - shared
    overlap = ops.divide_no_nan(shared, union)
    return ops.mean(1 - overlap + ops.divide_no_nan(around - union, around))


@row("GIoU, 65,536 boxes", "as in TensorFlow Addons")
def _giou():
    corner, size = normal(2, 65536, 2), np.abs(normal(2, 65536, 2)) + 0.1
    boxes = np.concatenate([corner, corner + size], axis=-1)
    loss = kc.losses.GIoU()
    return [boxes[0], boxes[1]], lambda x, y: loss(y, x), direct_giou


def loss_row(name, loss, arrays, direct, peer="direct formula"):
    """Registers a loss beside the mean of what its formula gives."""

    def make():
        return (
            list(arrays()),
            lambda x, y: loss(y, x),
            lambda x, y: ops.mean(direct(x, y)),
        )

    row(name, peer)(make)


def targets():
    """Predictions and targets of a regression."""
    return normal(1024, 64), normal(1024, 64)


def scores(classes=1000, batch=1024):
    """Logits, and the classes that they should be."""
    return normal(batch, classes), labels(classes, batch)


def at(y, x):
    """What each row has at its class."""
    return ops.take_along_axis(x, y[:, None], axis=-1)[:, 0]


def crossentropy(x, y):
    """Keras' own, of logits."""
    return ops.sparse_categorical_crossentropy(y, x, from_logits=True)


def direct_gaussian(x, y):
    """From the mean and the logarithm of the variance."""
    mean, log_variance = x[:, :64], x[:, 64:]
    values = log_variance + (y - mean) ** 2 * ops.exp(-log_variance)
    return ops.mean(0.5 * values, axis=-1)


def direct_hinge(x, y):
    """Weston and Watkins' sum; the true class adds the margin, taken off."""
    return ops.sum(ops.relu(x - at(y, x)[:, None] + 1.0), axis=-1) - 1.0


def direct_smoothed(x, y):
    """Of the true class and of all."""
    logs = ops.log_softmax(x, axis=-1)
    return -0.9 * at(y, logs) - 0.1 * ops.mean(logs, axis=-1)


def direct_focal(x, y):
    """Of the logarithm at the true class."""
    log = at(y, ops.log_softmax(x, axis=-1))
    return -0.25 * (1 - ops.exp(log)) ** 2 * log


def direct_poly(x, y):
    """As in the paper's listing."""
    return crossentropy(x, y) + 1 - at(y, ops.softmax(x, axis=-1))


def direct_symmetric(x, y):
    """With the reverse term of one-hot labels in closed form."""
    right = at(y, ops.softmax(x, axis=-1))
    return 0.1 * crossentropy(x, y) + 4.0 * (1 - right)


def direct_asymmetric(x, y):
    """As in the authors' code."""
    p = ops.sigmoid(x)
    rest = ops.minimum(1 - p + 0.05, 1.0)
    logs = y * ops.log(ops.maximum(p, 1e-8))
    logs = logs + (1 - y) * ops.log(ops.maximum(rest, 1e-8))
    right = p * y + rest * (1 - y)
    return -logs * ops.power(1 - right, 4.0 * (1 - y))


def direct_sparsemax(x, y):
    """Martins' loss from its sorted logits."""
    z = -ops.sort(-x, axis=-1)
    sums = ops.cumsum(z, axis=-1)
    rank = ops.arange(1, x.shape[-1] + 1, dtype="float32")
    inside = ops.cast(1 + rank * z > sums, "float32")
    size = ops.sum(inside, axis=-1, keepdims=True)
    tau = (ops.sum(z * inside, axis=-1, keepdims=True) - 1) / size
    squares = ops.where(x > tau, x * x - tau * tau, 0.0)
    return 0.5 * ops.sum(squares, axis=-1) + 0.5 - at(y, x)


def direct_confidence(x, y):
    """Keras' loss, less the entropy of the softmax."""
    logs = ops.log_softmax(x, axis=-1)
    return crossentropy(x, y) + 0.1 * ops.sum(ops.exp(logs) * logs, axis=-1)


COUNTS = [1 + 5 * k for k in range(1000)]


def direct_class_balanced(x, y):
    """With the weights worked out in advance."""
    inverse = 1 / (1 - 0.999 ** np.array(COUNTS))
    weights = ops.convert_to_tensor(inverse / inverse.mean(), "float32")
    return ops.take(weights, y) * crossentropy(x, y)


def direct_logit_adjusted(x, y):
    """With the logarithms worked out in advance."""
    offsets = np.log(np.array(COUNTS) / sum(COUNTS))
    return crossentropy(x + ops.convert_to_tensor(offsets, "float32"), y)


def direct_kappa(x, y):
    """As in TensorFlow Addons, from logits."""
    p, q = ops.softmax(x, axis=-1), ops.one_hot(y, 10)
    grade = np.arange(10.0)
    costs = ops.convert_to_tensor((grade[:, None] - grade) ** 2, "float32")
    observed = ops.sum(ops.matmul(q, costs) * p)
    margins = ops.matmul(ops.sum(q, 0)[None], costs) * ops.sum(p, 0)
    return ops.log(observed * x.shape[0] / ops.sum(margins) + 1e-6)


def direct_corn(x, y):
    """All questions at once, those not asked masked."""
    y, question = y[:, None], ops.arange(9)
    losses = ops.where(y > question, -ops.log_sigmoid(x), ops.softplus(x))
    asked = ops.cast(y >= question, "float32")
    return ops.sum(losses * asked) / ops.sum(asked)


loss_row(
    "SmoothL1, 1,024 x 64",
    kc.losses.SmoothL1(),
    targets,
    lambda x, y: keras.losses.Huber()(y, x),
    "Keras' Huber",
)
loss_row(
    "Pinball, 1,024 x 64",
    kc.losses.Pinball(0.9),
    targets,
    lambda x, y: ops.maximum(0.9 * (y - x), -0.1 * (y - x)),
)
loss_row(
    "GaussianNegativeLogLikelihood, 1,024 x 64",
    kc.losses.GaussianNegativeLogLikelihood(),
    lambda: (normal(1024, 128), normal(1024, 64)),
    direct_gaussian,
)
loss_row(
    "LeastSquares, 1,024 x 64",
    kc.losses.LeastSquares(),
    targets,
    lambda x, y: ops.sum(ops.square(x - y), axis=-1),
)
loss_row(
    "MulticlassHinge, 1,024 x 1,000",
    kc.losses.MulticlassHinge(),
    scores,
    direct_hinge,
)
loss_row(
    "Perceptron, 1,024 x 64",
    kc.losses.Perceptron(),
    lambda: (normal(1024, 64), np.sign(normal(1024, 64))),
    lambda x, y: keras.losses.Hinge()(y, x),
    "Keras' Hinge",
)
loss_row(
    "SmoothedSparseCategoricalCrossentropy, 1,024 x 1,000",
    kc.losses.SmoothedSparseCategoricalCrossentropy(from_logits=True),
    scores,
    direct_smoothed,
)
loss_row(
    "SparseCategoricalFocalCrossentropy, 1,024 x 1,000",
    kc.losses.SparseCategoricalFocalCrossentropy(from_logits=True),
    scores,
    direct_focal,
)
loss_row(
    "PolyLoss, 1,024 x 1,000",
    kc.losses.PolyLoss(from_logits=True),
    scores,
    direct_poly,
)
loss_row(
    "SymmetricCrossentropy, 1,024 x 1,000",
    kc.losses.SymmetricCrossentropy(from_logits=True),
    scores,
    direct_symmetric,
)
loss_row(
    "AsymmetricLoss, 1,024 x 1,000",
    kc.losses.AsymmetricLoss(from_logits=True),
    lambda: (normal(1024, 1000), (normal(1024, 1000) > 2).astype("float32")),
    direct_asymmetric,
)
loss_row(
    "SparsemaxLoss, 1,024 x 100",
    kc.losses.SparsemaxLoss(),
    lambda: scores(100),
    direct_sparsemax,
)
loss_row(
    "ConfidencePenalty, 1,024 x 1,000",
    kc.losses.ConfidencePenalty(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        from_logits=True,
    ),
    scores,
    direct_confidence,
)
loss_row(
    "ClassBalanced, 1,024 x 1,000",
    kc.losses.ClassBalanced(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), COUNTS
    ),
    scores,
    direct_class_balanced,
)
loss_row(
    "LogitAdjusted, 1,024 x 1,000",
    kc.losses.LogitAdjusted(COUNTS),
    scores,
    direct_logit_adjusted,
)
loss_row(
    "WeightedKappa, 4,096 x 10",
    kc.losses.WeightedKappa(from_logits=True),
    lambda: scores(10, 4096),
    direct_kappa,
)
loss_row(
    "CORN, 4,096 x 9",
    kc.losses.CORN(),
    lambda: (normal(4096, 9), labels(10, 4096)),
    direct_corn,
)


def compiled(function, backward):
    """Returns a function of arrays that waits for what the program gives."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def both(x, *rest):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x, *rest)
            return value, tape.gradient(value, x)

        program = tf.function(both if backward else function, jit_compile=False)
        return lambda arrays: tf.nest.map_structure(
            lambda tensor: tf.reshape(tensor, [-1])[:1].numpy(),
            program(*arrays),
        )
    if backend == "jax":
        import jax

        program = jax.jit(
            jax.value_and_grad(function) if backward else function
        )
        return lambda arrays: jax.block_until_ready(program(*arrays))
    import torch

    def eager(arrays):
        # Training on torch is eager.
        x = arrays[0].detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            value = function(x, *arrays[1:])
        return torch.autograd.grad(value, x) if backward else value

    return eager


def measure(make, backward, rounds):
    """Returns the seconds of both, call by call."""
    arrays, *functions = make()
    arrays = [ops.convert_to_tensor(array) for array in arrays]
    programs = [compiled(function, backward) for function in functions]
    for program in (*programs, *programs):
        program(arrays)
    seconds = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            programs[which](arrays)
            seconds[which].append(time.perf_counter() - start)
    return seconds


def main(rows):
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--only", nargs="*", default=[""], help="parts of the rows' names"
    )
    options = parser.parse_args()
    print(
        f"Keras {keras.__version__} on {keras.backend.backend()}, "
        f"{os.cpu_count()} cores, {options.rounds} rounds"
    )
    line = "{:52} {:30} {:>8} {:>8} {:>6}  {:14} {:>6}"
    print(
        line.format(
            "component", "peer", "ms", "peer ms", "ratio", "", "fastest"
        )
    )
    for name, peer, backward, make in rows:
        if not any(part.lower() in name.lower() for part in options.only):
            continue
        ours, theirs = measure(make, backward, options.rounds)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        print(
            line.format(
                name,
                peer,
                f"{1e3 * statistics.median(ours):.2f}",
                f"{1e3 * statistics.median(theirs):.2f}",
                f"{ratio:.2f}",
                f"[{low:.2f}, {high:.2f}]",
                f"{min(ours) / min(theirs):.2f}",
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(ROWS)
