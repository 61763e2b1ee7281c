"""What do metrics and regularizers cost beside the direct formula?

Measured and printed as by `components.py`. The formulas of metrics know no
sample weights, nor do they mark labels that are no class and predictions that
are NaN; those of regularizers overflow where squares of weights do.

    KERAS_BACKEND=jax python benchmarks/metrics_and_regularizers.py
"""

import components
import keras
import numpy as np
from components import labels, normal, ops, row

import kerascomp as kc

OTHERS = len(components.ROWS)


def metric_row(name, metric, arrays, direct, peer="direct formula, one batch"):
    """Registers an update and a result, beside a formula for one batch."""
    row(name, peer, backward=False)(
        lambda: (list(arrays()), updated(metric), direct)
    )


def updated(metric, arrange=lambda x, y: (x, y)):
    """Returns a function of predictions and labels: an update and a result."""

    def result(x, y):
        x, y = arrange(x, y)
        state = [v.value for v in metric.variables]
        state = metric.stateless_update_state(state, y, x)
        return metric.stateless_result(state)

    return result


def shares():
    """Probabilities of 10 classes, and labels."""
    exponents = np.exp(normal(65536, 10))
    return exponents / exponents.sum(-1, keepdims=True), labels(10, 65536)


def direct_confusion(x, y):
    """The confusion matrix by a segment sum."""
    cells = y * 10 + ops.cast(ops.argmax(x, axis=-1), "int32")
    counts = ops.segment_sum(ops.ones_like(x[:, 0]), cells, 100)
    return ops.reshape(counts, (10, 10))


def direct_matthews(x, y):
    """From the counts, as everyone writes it."""
    matrix = direct_confusion(x, y)
    true, found, total = ops.sum(matrix, 1), ops.sum(matrix, 0), ops.sum(matrix)
    covariance = ops.trace(matrix) * total - ops.sum(true * found)
    spread = ops.sqrt(total**2 - ops.sum(true**2))
    return covariance / spread / ops.sqrt(total**2 - ops.sum(found**2))


def direct_calibration(x, y):
    """Sums of 15 bins of equal width."""
    confidence = ops.max(x, axis=-1)
    right = ops.cast(ops.cast(ops.argmax(x, -1), "int32") == y, "float32")
    bins = ops.cast(ops.ceil(confidence * 15), "int32") - 1
    return ops.sum(ops.abs(ops.segment_sum(right - confidence, bins, 15)))


def direct_pearson(x, y):
    """Of the deviations from the means."""
    x, y = x - ops.mean(x), y - ops.mean(y)
    return ops.sum(x * y) / ops.sqrt(ops.sum(x * x) * ops.sum(y * y))


def direct_spearman(x, y):
    """Of the ranks, without ties."""
    ranks = [ops.argsort(ops.argsort(each)) for each in (x, y)]
    return direct_pearson(*[ops.cast(each, "float32") for each in ranks])


def direct_kendall(x, y):
    """From all pairs at once."""
    signs = [ops.sign(each[:, None] - each) for each in (x, y)]
    untied = [ops.sum(ops.abs(sign)) for sign in signs]
    return ops.sum(signs[0] * signs[1]) / ops.sqrt(untied[0] * untied[1])


def column(size):
    """Two vectors that rise together, more or less."""
    x = normal(size)
    return x, x + normal(size)


metric_row(
    "ConfusionMatrix, 65,536 x 10",
    kc.metrics.ConfusionMatrix(10),
    shares,
    direct_confusion,
)
metric_row(
    "MatthewsCorrelation, 65,536 x 10",
    kc.metrics.MatthewsCorrelation(10),
    shares,
    direct_matthews,
)
metric_row(
    "ExpectedCalibrationError, 65,536 x 10",
    kc.metrics.ExpectedCalibrationError(10),
    shares,
    direct_calibration,
)
metric_row(
    "BrierScore, 65,536 x 10",
    kc.metrics.BrierScore(),
    shares,
    updated(
        keras.metrics.MeanSquaredError(),
        lambda x, y: (x, ops.one_hot(y, 10)),
    ),
    "Keras' MeanSquaredError",
)
metric_row(
    "StreamingPearsonCorrelation, 65,536",
    kc.metrics.StreamingPearsonCorrelation(),
    lambda: column(65536),
    # Which averages over rows.
    updated(
        keras.metrics.PearsonCorrelation(), lambda x, y: (x[None], y[None])
    ),
    "Keras' PearsonCorrelation",
)
metric_row(
    "SpearmanCorrelation, 16,384",
    kc.metrics.SpearmanCorrelation(capacity=16384),
    lambda: column(16384),
    direct_spearman,
)
metric_row(
    "KendallTau, 4,096",
    kc.metrics.KendallTau(capacity=4096),
    lambda: column(4096),
    direct_kendall,
)


def penalty_row(name, penalty, direct, shape=(1024, 512)):
    """Registers a regularizer beside its formula."""
    row(name, "direct formula")(lambda: ([normal(*shape)], penalty, direct))


def direct_groups(x):
    """The norm of each column."""
    return 0.01 * 1024**0.5 * ops.sum(ops.sqrt(ops.sum(ops.square(x), axis=0)))


def direct_spectral(x):
    """Ten steps of power iteration."""
    v = ops.ones_like(x[0])
    fixed = ops.stop_gradient(x)
    for _ in range(10):
        u = ops.matmul(fixed, v)
        v = ops.matmul(u / ops.norm(u), fixed)
        v = v / ops.norm(v)
    u = ops.matmul(fixed, v)
    return 0.005 * ops.sum(u / ops.norm(u) * ops.matmul(x, v)) ** 2


def direct_orthogonality(x):
    """The distance of the Gram matrix to the identity."""
    gram = ops.matmul(ops.transpose(x), x)
    return 0.01 * ops.sum(ops.square(gram - ops.eye(x.shape[1])))


def direct_nuclear(x):
    """The sum of the singular values, and its gradient U V."""
    left, _, right = ops.svd(ops.stop_gradient(x), full_matrices=False)
    return 0.01 * ops.sum(ops.matmul(left, right) * x)


def direct_sparsity(x):
    """Of the mean activities."""
    mean = ops.clip(ops.mean(x, axis=0), 1e-7, 1 - 1e-7)
    on, off = 0.05 * ops.log(0.05 / mean), 0.95 * ops.log(0.95 / (1 - mean))
    return 0.1 * ops.sum(on + off)


def direct_decov(x):
    """Covariances without the variances."""
    x = x - ops.mean(x, axis=0)
    covariance = ops.matmul(ops.transpose(x), x) / x.shape[0]
    variances = ops.sum(ops.square(ops.diagonal(covariance)))
    return 0.05 * (ops.sum(ops.square(covariance)) - variances)


penalty_row(
    "ScaledL2, 1,024 x 512",
    kc.regularizers.ScaledL2(1.0, num_samples=1000),
    lambda x: 0.0005 * ops.sum(ops.square(x)),
)
penalty_row(
    "ScaledL1, 1,024 x 512",
    kc.regularizers.ScaledL1(1.0, num_samples=1000),
    lambda x: 0.0005 * ops.sum(ops.abs(x)),
)
penalty_row(
    "GroupLasso, 1,024 x 512", kc.regularizers.GroupLasso(), direct_groups
)
penalty_row(
    "SparseGroupLasso, 1,024 x 512",
    kc.regularizers.SparseGroupLasso(),
    lambda x: 0.5 * direct_groups(x) + 0.005 * ops.sum(ops.abs(x)),
)
penalty_row(
    "Hoyer, 1,024 x 512",
    kc.regularizers.Hoyer(),
    lambda x: 1e-4 * ops.sum(ops.abs(x)) ** 2 / ops.sum(ops.square(x)),
)
penalty_row(
    "SpectralNorm, 1,024 x 512",
    kc.regularizers.SpectralNorm(),
    direct_spectral,
)
penalty_row(
    "SoftOrthogonality, 1,024 x 512",
    kc.regularizers.SoftOrthogonality(),
    direct_orthogonality,
)
penalty_row(
    "NuclearNorm, 256 x 128",
    kc.regularizers.NuclearNorm(),
    direct_nuclear,
    (256, 128),
)
penalty_row(
    "KLSparsity, 1,024 x 512", kc.regularizers.KLSparsity(), direct_sparsity
)
penalty_row("DeCov, 1,024 x 512", kc.regularizers.DeCov(), direct_decov)


if __name__ == "__main__":
    components.main(components.ROWS[OTHERS:])
