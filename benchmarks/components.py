"""What do components cost beside the nearest Keras or direct formula?

Each row is a component and a peer that does the same or nearly so, on one
batch: forward and gradient in one compiled program, a call each by turns, so
that they share whatever else the machine does. The ratio is the median over
the rounds of component to peer in the same round; in brackets, the middle half
of the ratios. Run it once per backend:

    KERAS_BACKEND=jax python benchmarks/components.py [--only triplet]

A row is added by a function under `@row(name, peer)` that returns what the
two take and the two functions; see below.
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


@row("TripletSemiHard, 1,024 x 128", "TripletHard, direct formula")
def _triplet_semi_hard():
    loss = kc.losses.TripletSemiHard()
    return (
        [unit(1024, 128), labels(64)],
        lambda x, y: loss(y, x),
        direct_triplet_hard,
    )


@row("TripletSemiHard, 256 x 128", "(batch, batch, batch) tensor")
def _triplet_semi_hard_tiled():
    loss = kc.losses.TripletSemiHard()
    return (
        [unit(256, 128), labels(16, 256)],
        lambda x, y: loss(y, x),
        tiled_triplet_semi_hard,
    )


@row("LiftedStructure, 1,024 x 128", "direct formula")
def _lifted_structure():
    def direct(x, y):
        distance = direct_distances(x)
        same = y[:, None] == y
        total = ops.sum(ops.where(same, 0.0, ops.exp(1.0 - distance)), axis=-1)
        joint = ops.log(total[:, None] + total) + distance
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


def _margin_row(loss):
    def direct(x, y):
        return ops.mean(
            ops.sparse_categorical_crossentropy(y, 64 * x, from_logits=True)
        )

    cosines = np.tanh(normal(1024, 1000))
    return [cosines, labels(1000)], lambda x, y: loss(y, x), direct


@row("ArcFace, 1,024 x 1,000", "SparseCategoricalCrossentropy")
def _arc_face():
    return _margin_row(kc.losses.ArcFace())


@row("CosFace, 1,024 x 1,000", "SparseCategoricalCrossentropy")
def _cos_face():
    return _margin_row(kc.losses.CosFace())


def direct_giou(x, y):
    """GIoU as everyone writes it."""
    left = ops.maximum(x[..., :2], y[..., :2])
    right = ops.minimum(x[..., 2:], y[..., 2:])
    shared = ops.prod(ops.maximum(right - left, 0.0), axis=-1)
    areas = [ops.prod(b[..., 2:] - b[..., :2], axis=-1) for b in (x, y)]
    union = sum(areas) - shared
    low = ops.minimum(x[..., :2], y[..., :2])
    high = ops.maximum(x[..., 2:], y[..., 2:])
    around = ops.prod(high - low, axis=-1)
    return ops.mean(1 - shared / union + (around - union) / around)


@row("GIoU, 65,536 boxes", "direct formula")
def _giou():
    corner, size = normal(2, 65536, 2), np.abs(normal(2, 65536, 2)) + 0.1
    boxes = np.concatenate([corner, corner + size], axis=-1)
    loss = kc.losses.GIoU()
    return [boxes[0], boxes[1]], lambda x, y: loss(y, x), direct_giou


def compiled(function, backward):
    """Returns a function of arrays that waits for what the program gives."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def both(x, *rest):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x, *rest)
            return value, tape.gradient(value, x)

        program = tf.function(both if backward else function, jit_compile=False)
        return lambda arrays: tf.nest.map_structure(
            lambda tensor: tensor[..., :1].numpy(), program(*arrays)[-1:]
        )
    import jax

    program = jax.jit(jax.value_and_grad(function) if backward else function)
    return lambda arrays: jax.block_until_ready(program(*arrays))


def measure(make, backward, rounds):
    """Returns the median seconds of both, and the quartiles of their ratio."""
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
    ratios = [ours / theirs for ours, theirs in zip(*seconds, strict=True)]
    return *map(statistics.median, seconds), statistics.quantiles(ratios, n=4)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--only", default="", help="part of the rows' names")
    options = parser.parse_args()
    print(
        f"Keras {keras.__version__} on {keras.backend.backend()}, "
        f"{os.cpu_count()} cores, {options.rounds} rounds"
    )
    line = "{:40} {:32} {:>9} {:>9} {:>7}  {}"
    print(line.format("component", "peer", "ms", "peer ms", "ratio", ""))
    for name, peer, backward, make in ROWS:
        if options.only.lower() not in name.lower():
            continue
        ours, theirs, (low, ratio, high) = measure(
            make, backward, options.rounds
        )
        print(
            line.format(
                name,
                peer,
                f"{1e3 * ours:.2f}",
                f"{1e3 * theirs:.2f}",
                f"{ratio:.2f}",
                f"[{low:.2f}, {high:.2f}]",
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
