"""What do layers cost beside their formula, and uncertainty beside passes?

Rows as in `components.py`: forward in training mode and gradient to the input,
in one compiled program, against the formula as everyone writes it on the same
weights. Then the seconds of `predict_with_uncertainty` with 50 passes, beside
one compiled call on 50 copies of the data and 50 calls of `predict`.

    KERAS_BACKEND=jax python benchmarks/layers.py [--only dropblock ghost]
"""

import inspect
import statistics
import sys
import time

import components
import keras
from components import normal, ops, row

import kerascomp as kc

OTHERS = len(components.ROWS)
UNIFORM = keras.random.uniform


def layer_row(name, make, direct, *shape, peer="direct formula"):
    """Registers a layer beside a function of its input, weights and seed."""

    def rows():
        x = normal(*shape)
        layer = make()
        layer(x[:2])
        trainable = [v.value for v in layer.trainable_variables]
        others = [v.value for v in layer.non_trainable_variables]
        takes = "training" in inspect.signature(layer.call).parameters
        mode = {"training": True} if takes else {}
        generator = keras.random.SeedGenerator(1)

        def ours(x):
            y, state = layer.stateless_call(trainable, others, x, **mode)
            # What the state becomes is part of the work, its gradient not.
            return ops.sum(y) + sum(
                ops.stop_gradient(ops.sum(ops.cast(s, y.dtype))) for s in state
            )

        def theirs(x):
            with keras.StatelessScope():
                return ops.sum(direct(x, trainable, generator))

        return [x], ours, theirs

    row(name, peer)(rows)


def along(vector, x):
    """A vector along the last axis."""
    return ops.reshape(vector, (*[1] * (len(x.shape) - 1), -1))


def direct_entmax(x):
    """Peters' algorithm, differentiated through the sorting."""
    z = x / 2 - ops.max(x / 2, axis=-1, keepdims=True)
    ordered = -ops.sort(-z, axis=-1)
    rank = ops.arange(1, x.shape[-1] + 1, dtype="float32")
    mean = ops.cumsum(ordered, axis=-1) / rank
    square = ops.cumsum(ordered * ordered, axis=-1) / rank
    root = ops.sqrt(ops.maximum(1 / rank - square + mean**2, 1e-9))
    inside = ops.sum(
        ops.cast(mean - root <= ordered, "int32"), -1, keepdims=True
    )
    tau = ops.take_along_axis(mean - root, inside - 1, axis=-1)
    return ops.square(ops.relu(z - tau))


def direct_rrelu(x, _, seed):
    """A slope for each element."""
    return ops.where(x < 0, UNIFORM(x.shape, 1 / 8, 1 / 3, seed=seed) * x, x)


def direct_path(x, _, seed):
    """A coin for each sample."""
    keep = UNIFORM((x.shape[0], 1, 1, 1), seed=seed) >= 0.2
    return x * ops.cast(keep, "float32") / 0.8


def direct_blocks(x, _, seed):
    """Corners, blocks by pooling, and what is left over its share."""
    n, h, w, c = x.shape
    corners = UNIFORM((n, h - 6, w - 6, c), seed=seed)
    density = 0.1 / 49 * (h * w) / ((h - 6) * (w - 6))
    corners = ops.cast(corners < density, "float32")
    corners = ops.pad(corners, [(0, 0), (6, 6), (6, 6), (0, 0)])
    keep = 1 - ops.max_pool(corners, 7, 1)
    return x * keep / ops.mean(keep)


def direct_concrete(x, weights, seed):
    """The relaxed mask before a dense layer."""
    logit, kernel, bias = weights
    u = UNIFORM(x.shape, 1e-7, 1 - 1e-7, seed=seed)
    rate = ops.sigmoid(logit)
    z = ops.sigmoid((logit + ops.log(u) - ops.log(1 - u)) / 0.1)
    return ops.matmul(x * (1 - z) / (1 - rate), kernel) + bias


def direct_noisy(x, weights, seed):
    """Factorized noise."""
    kernel, kernel_sigma, bias, bias_sigma = weights
    rows, columns = (
        ops.sign(e) * ops.sqrt(ops.abs(e))
        for e in (
            keras.random.normal((n,), seed=seed) for n in (x.shape[-1], 512)
        )
    )
    kernel = kernel + kernel_sigma * rows[:, None] * columns
    return ops.matmul(x, kernel) + bias + bias_sigma * columns


def direct_normalized(x, weights, _):
    """A dense layer with normalized columns."""
    gain, kernel, bias = weights
    length = ops.sqrt(ops.sum(kernel * kernel, axis=0))
    return ops.matmul(x, kernel * (gain / length)) + bias


def direct_standardized(x, weights, _):
    """A convolution with standardized filters."""
    kernel, bias = weights
    mean = ops.mean(kernel, axis=(0, 1, 2))
    kernel = (kernel - mean) / ops.sqrt(ops.var(kernel, (0, 1, 2)) + 1e-5)
    return ops.conv(x, kernel, padding="valid") + bias


def direct_response(x, weights, _):
    """By the root mean square of each channel."""
    gamma, beta = weights
    square = ops.mean(x * x, axis=(1, 2), keepdims=True)
    return gamma * x * ops.rsqrt(square + 1e-6) + beta


def direct_renorm(x, weights, _):
    """Batch normalization and the correction, with new statistics."""
    gamma, beta = weights
    mean, variance = ops.mean(x, (0, 1, 2)), ops.var(x, (0, 1, 2))
    deviation = ops.sqrt(variance + 1e-3)
    moving = (1 + 1e-3) ** 0.5
    r = ops.stop_gradient(ops.clip(deviation / moving, 1 / 3, 3.0))
    d = ops.stop_gradient(ops.clip(mean / moving, -5.0, 5.0))
    return ((x - mean) / deviation * r + d) * gamma + beta


def direct_ghost(x, weights, _):
    """Groups by a reshape."""
    gamma, beta = weights
    parts = ops.reshape(x, (-1, 16, *x.shape[1:]))
    mean = ops.mean(parts, (1, 2, 3), keepdims=True)
    variance = ops.var(parts, (1, 2, 3), keepdims=True)
    y = (parts - mean) * ops.rsqrt(variance + 1e-3)
    return ops.reshape(y, x.shape) * gamma + beta


def direct_reversal(x, _weights, _seed):
    """The usual trick."""
    return ops.stop_gradient(2 * x) - x


@row("entmax15, 1,024 x 512", "direct formula")
def _entmax():
    y = normal(1024, 512)
    return (
        [3 * normal(1024, 512), y],
        lambda x, y: ops.sum(kc.activations.entmax15(x) * y),
        lambda x, y: ops.sum(direct_entmax(x) * y),
    )


IMAGES = (64, 28, 28, 32)
L = kc.layers
layer_row("RReLU, 64 x 28 x 28 x 32", L.RReLU, direct_rrelu, *IMAGES)
layer_row(
    "Snake, 64 x 28 x 28 x 32",
    L.Snake,
    lambda x, w, _: x + ops.sin(w[0] * x) ** 2 / w[0],
    *IMAGES,
)
layer_row(
    "TLU, 64 x 28 x 28 x 32",
    L.TLU,
    lambda x, w, _: ops.maximum(x, along(w[0], x)),
    *IMAGES,
)
layer_row(
    "Maxout, 1,024 x 1,024 to 256",
    lambda: L.Maxout(256),
    lambda x, *_: ops.max(ops.reshape(x, (-1, 256, 4)), axis=-1),
    1024,
    1024,
)
layer_row(
    "DropPath, 64 x 28 x 28 x 32", lambda: L.DropPath(0.2), direct_path, *IMAGES
)
layer_row(
    "DropBlock2D, 64 x 28 x 28 x 32",
    lambda: L.DropBlock2D(0.1, 7),
    direct_blocks,
    *IMAGES,
)
layer_row(
    "GradientReversal, 64 x 28 x 28 x 32",
    L.GradientReversal,
    direct_reversal,
    *IMAGES,
)
layer_row(
    "ConcreteDropout of Dense, 512 x 512 to 512",
    lambda: L.ConcreteDropout(keras.layers.Dense(512)),
    direct_concrete,
    512,
    512,
)
layer_row(
    "NoisyDense, 512 x 512 to 512",
    lambda: L.NoisyDense(512),
    direct_noisy,
    512,
    512,
)
layer_row(
    "WeightNormalization of Dense, 512 x 512 to 512",
    lambda: L.WeightNormalization(keras.layers.Dense(512)),
    direct_normalized,
    512,
    512,
)
layer_row(
    "WeightStandardization of Conv2D, 64 x 28 x 28 x 32",
    lambda: L.WeightStandardization(keras.layers.Conv2D(32, 3)),
    direct_standardized,
    *IMAGES,
)
layer_row(
    "FilterResponseNormalization, 64 x 28 x 28 x 32",
    L.FilterResponseNormalization,
    direct_response,
    *IMAGES,
)
layer_row(
    "BatchRenormalization, 64 x 28 x 28 x 32",
    L.BatchRenormalization,
    direct_renorm,
    *IMAGES,
)
layer_row(
    "GhostBatchNormalization, 64 x 28 x 28 x 32",
    lambda: L.GhostBatchNormalization(16),
    direct_ghost,
    *IMAGES,
)


def zoneout_peer(x, weights, seed):
    """An LSTM cell in the same loop; its states kept by a draw."""
    kernel, recurrent, bias = weights

    def step(h, c, t):
        z = ops.matmul(x[:, t], kernel) + ops.matmul(h, recurrent) + bias
        i, f, g, o = ops.split(z, 4, axis=-1)
        new = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        out = ops.sigmoid(o) * ops.tanh(new)
        keep = UNIFORM((x.shape[0], 256), seed=seed) < 0.1
        return (
            ops.where(keep[:, :128], h, out),
            ops.where(keep[:, 128:], c, new),
        )

    h = c = ops.zeros((x.shape[0], 128))
    for t in range(x.shape[1]):
        h, c = step(h, c, t)
    return h


layer_row(
    "Zoneout of LSTMCell, unrolled, 128 x 12 x 128",
    lambda: keras.layers.RNN(
        L.Zoneout(keras.layers.LSTMCell(128)), unroll=True
    ),
    zoneout_peer,
    128,
    12,
    128,
)


def uncertainty(rounds=9):
    """Prints the seconds of 50 passes in one call, and in others."""
    inputs = keras.Input((64,))
    x = inputs
    for _ in range(2):
        x = keras.layers.Dense(256, activation="relu")(x)
        x = L.MonteCarloDropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    x = normal(256, 64)
    copies = x.repeat(50, axis=0)
    calls = {
        "predict_with_uncertainty, 50 passes of 256": lambda: (
            L.predict_with_uncertainty(model, x, passes=50, batch_size=256)
        ),
        "one compiled call on 50 copies": lambda: model.predict(
            copies, batch_size=len(copies), verbose=0
        ),
        "50 calls of predict": lambda: [
            model.predict(x, batch_size=256, verbose=0) for _ in range(50)
        ],
    }
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    for name, each in seconds.items():
        print(
            f"{name:52} median {1e3 * statistics.median(each):9.1f} ms, "
            f"fastest {1e3 * min(each):9.1f} ms"
        )


if __name__ == "__main__":
    components.main(components.ROWS[OTHERS:])
    if "--only" not in sys.argv:
        uncertainty()
