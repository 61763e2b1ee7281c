"""The numbers of the penalties on weights and activities."""

import functools

import keras
import numpy as np
import pytest
import regularizers_reference as reference
from backend import NAME, central_difference, gradient

from kerascomp import regularizers

ops = keras.ops

VARIANTS = ("soft", "double", "mutual_coherence", "restricted_isometry")


def pair(name, function, fixed=(), **arguments):
    """A penalty, and its reference without the arguments in `fixed`."""
    known = {k: v for k, v in arguments.items() if k not in fixed}
    return pytest.param(
        getattr(regularizers, name)(**arguments),
        functools.partial(function, **known),
        id="-".join([name, *map(str, arguments.values())]),
    )


PENALTIES = [
    pair("GroupLasso", reference.group_lasso, factor=0.7, axis=-1),
    pair("GroupLasso", reference.group_lasso, factor=0.7, axis=-2),
    pair("GroupLasso", reference.group_lasso, factor=0.7, axis=(0, -1)),
    pair(
        "SparseGroupLasso",
        reference.sparse_group_lasso,
        factor=0.7,
        l1_fraction=0.3,
        axis=[1],
    ),
    pair("Hoyer", reference.hoyer, factor=0.7, square=True),
    pair("Hoyer", reference.hoyer, factor=0.7, square=False),
    pair(
        "SpectralNorm",
        reference.spectral_norm,
        ["num_iterations"],
        factor=0.7,
        num_iterations=None,
    ),
    pair(
        "SpectralNorm",
        reference.spectral_norm,
        ["num_iterations"],
        factor=0.7,
        num_iterations=60,
    ),
    pair("NuclearNorm", reference.nuclear_norm, factor=0.7),
    *(
        pair(
            "SoftOrthogonality",
            reference.soft_orthogonality,
            ["num_iterations"],
            factor=0.7,
            variant=variant,
            num_iterations=None,
        )
        for variant in VARIANTS
    ),
    pair("DeCov", reference.decov, factor=0.7),
]
# Convolution, fewer rows than columns, one row, one column.
SHAPES = [(2, 3, 4, 5), (3, 7), (1, 5), (5, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("penalty", "expected"), PENALTIES)
def test_value_and_gradient_equal_the_equation(penalty, expected, shape, rng):
    weights = rng.normal(size=shape).astype("float32")
    value = expected(weights)
    assert float(ops.convert_to_numpy(penalty(weights))) == pytest.approx(
        value, rel=1e-5, abs=1e-6
    )
    slope = central_difference(expected, weights, step=1e-5)
    np.testing.assert_allclose(
        gradient(penalty, weights),
        slope,
        rtol=1e-4,
        # Of the largest: the smallest are sums that cancel in float32.
        atol=2e-5 * max(1, np.abs(slope).max()),
    )


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        pair("KLSparsity", reference.kl_sparsity, factor=0.7, target=0.2),
        pair("DeCov", reference.decov, factor=0.7),
    ],
)
@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 5)], ids=str)
def test_activity_penalties_equal_the_equation(penalty, expected, shape, rng):
    activity = rng.uniform(0.1, 0.9, size=shape).astype("float32")
    received = float(ops.convert_to_numpy(penalty(activity)))
    assert received == pytest.approx(expected(activity), rel=1e-5)
    np.testing.assert_allclose(
        gradient(penalty, activity),
        central_difference(expected, activity, step=1e-5),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 4)], ids=str)
@pytest.mark.parametrize(("penalty", "expected"), PENALTIES)
def test_gradient_of_a_weight_of_zeros_is_zero(penalty, expected, shape):
    received = gradient(penalty, np.zeros(shape, "float32"))
    np.testing.assert_array_equal(received, np.zeros(shape))


@pytest.mark.parametrize("size", [1e-12, 1e4, 1e12])
@pytest.mark.parametrize("name", ["GroupLasso", "Hoyer", "NuclearNorm"])
def test_norms_keep_their_precision_at_any_size(name, size, rng):
    weights = rng.normal(size=(4, 3)).astype("float32")
    penalty = getattr(regularizers, name)(factor=1.0)
    power = 0 if name == "Hoyer" else 1
    received = float(
        ops.convert_to_numpy(penalty((weights * size).astype("float32")))
    )
    expected = float(ops.convert_to_numpy(penalty(weights))) * size**power
    assert received == pytest.approx(expected, rel=1e-5, abs=0)
    assert np.isfinite(gradient(penalty, weights * np.float32(size))).all()


@pytest.mark.parametrize("name", ["GroupLasso", "Hoyer", "NuclearNorm"])
def test_gradients_of_the_smallest_weights_are_finite(name, rng):
    weights = rng.normal(size=(4, 3)).astype("float32") * np.float32(1e-30)
    penalty = getattr(regularizers, name)(factor=1.0)
    assert np.isfinite(gradient(penalty, weights)).all()


def test_a_ratio_of_norms_is_the_same_for_the_smallest_weights(rng):
    weights = rng.normal(size=(4, 3)).astype("float32")
    penalty = regularizers.Hoyer(factor=1.0)
    small, large = (
        float(ops.convert_to_numpy(penalty(weights * np.float32(size))))
        for size in (1e-30, 1)
    )
    assert small == pytest.approx(large, rel=1e-5)


@pytest.mark.parametrize("name", ["GroupLasso", "Hoyer", "SpectralNorm"])
def test_large_half_precision_weights_have_finite_penalties(name):
    weights = np.full((4, 3), 1e4, "float16")
    weights[::2] *= -1
    penalty = getattr(regularizers, name)(factor=1e-6)
    assert np.isfinite(ops.convert_to_numpy(penalty(weights)))
    assert np.isfinite(gradient(penalty, weights)).all()


def test_a_group_of_zeros_beside_others_has_gradient_zero(rng):
    weights = rng.normal(size=(4, 3)).astype("float32")
    weights[:, 1] = 0
    received = gradient(regularizers.GroupLasso(0.5), weights)
    length = np.sqrt(np.sum(weights[:, [0, 2]] ** 2, axis=0))
    np.testing.assert_array_equal(received[:, 1], np.zeros(4))
    np.testing.assert_allclose(
        received[:, [0, 2]], 0.5 * 2 * weights[:, [0, 2]] / length, rtol=1e-5
    )


@pytest.mark.parametrize(
    "penalty",
    [
        regularizers.ScaledL1(factor=2 * 9 * 0.3, num_samples=9),
        regularizers.GroupLasso(factor=0.3, axis=(0, 1)),
        regularizers.SparseGroupLasso(factor=0.3, l1_fraction=1.0),
    ],
    ids=lambda penalty: type(penalty).__name__,
)
def test_equals_keras_l1(penalty, rng):
    weights = rng.normal(size=(4, 3)).astype("float32")
    expected = keras.regularizers.L1(0.3)
    assert float(ops.convert_to_numpy(penalty(weights))) == pytest.approx(
        float(ops.convert_to_numpy(expected(weights))), rel=2e-6
    )
    weights[1] = 0
    np.testing.assert_allclose(
        gradient(penalty, weights), 0.3 * np.sign(weights), rtol=2e-6
    )


def test_scaled_l1_equals_the_equation():
    weights = np.array([[1.5, -2.0], [0.0, 4.0]], "float32")
    received = float(ops.convert_to_numpy(regularizers.ScaledL1(3, 5)(weights)))
    assert received == pytest.approx(3 / (2 * 5) * 7.5, rel=2e-6)


def test_sparse_group_lasso_without_l1_is_group_lasso(rng):
    weights = rng.normal(size=(2, 3, 4)).astype("float32")
    received = regularizers.SparseGroupLasso(0.3, 0.0, axis=1)(weights)
    expected = regularizers.GroupLasso(0.3, axis=1)(weights)
    np.testing.assert_allclose(
        ops.convert_to_numpy(received), ops.convert_to_numpy(expected), 2e-6
    )


def test_power_iteration_comes_from_below(rng):
    weights = rng.normal(size=(40, 30)).astype("float32")
    exact = reference.spectral_norm(weights, 1.0)
    values = [
        float(ops.convert_to_numpy(regularizers.SpectralNorm(1.0, n)(weights)))
        for n in (1, 3, 10, 40)
    ]
    assert values == sorted(values)
    assert values[-1] <= exact * (1 + 1e-6)
    # Of a random matrix, whose singular values lie close.
    assert values[2] > 0.95 * exact


def test_nuclear_norm_of_low_rank_leaves_zero_singular_values_alone(rng):
    left, right = rng.normal(size=(6, 2)), rng.normal(size=(2, 4))
    weights = (left @ right).astype("float32")
    u, s, v = np.linalg.svd(weights.astype("float64"), full_matrices=False)
    assert s[2] < 1e-5 < s[1]
    np.testing.assert_allclose(
        gradient(regularizers.NuclearNorm(1.0), weights),
        u[:, :2] @ v[:2],
        atol=1e-5,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_orthonormal_columns_are_perfect(variant, rng):
    columns, _ = np.linalg.qr(rng.normal(size=(6, 3)))
    penalty = regularizers.SoftOrthogonality(1.0, variant)
    constant = 3.0 if variant == "double" else 0.0  # 6 rows, of rank 3.
    received = float(ops.convert_to_numpy(penalty(columns.astype("float32"))))
    assert received == pytest.approx(constant, abs=1e-5)


def test_soft_orthogonality_of_one_row_is_finite_unlike_that_of_keras():
    row = np.array([[0.6, 0.8]], "float32")
    theirs = keras.regularizers.OrthogonalRegularizer(1.0)(row)
    assert np.isnan(ops.convert_to_numpy(theirs))
    ours = regularizers.SoftOrthogonality(1.0)(row)
    # W^T W - I has the eigenvalues 0 and -1.
    assert float(ops.convert_to_numpy(ours)) == pytest.approx(1, rel=1e-5)


def test_kl_sparsity_is_zero_at_its_target():
    activity = np.tile(np.float32([[0.0], [0.4]]), (3, 5))
    received = regularizers.KLSparsity(1.0, 0.2)(activity)
    assert float(ops.convert_to_numpy(received)) == pytest.approx(0, abs=1e-6)


def test_kl_sparsity_wakes_units_that_are_always_off():
    slope = gradient(
        regularizers.KLSparsity(1.0, 0.2), np.full((4, 3), 1e-9, "float32")
    )
    assert np.isfinite(slope).all()
    assert (slope < -1).all()


def test_decov_of_one_sample_is_zero(rng):
    sample = rng.normal(size=(1, 4)).astype("float32")
    assert float(ops.convert_to_numpy(regularizers.DeCov(1.0)(sample))) == 0


def test_keras_divides_the_penalty_of_activities_by_the_batch_size(rng):
    layer = keras.layers.Dense(
        4,
        activation="sigmoid",
        activity_regularizer=regularizers.KLSparsity(0.7, 0.2),
    )
    model = keras.Sequential([keras.Input((3,)), layer])
    x = rng.normal(size=(6, 3)).astype("float32")
    outputs = ops.convert_to_numpy(model(x))
    (loss,) = model.losses
    assert float(ops.convert_to_numpy(loss)) == pytest.approx(
        reference.kl_sparsity(outputs, 0.7, 0.2) / len(x), rel=1e-5
    )


@pytest.mark.skipif(NAME == "torch", reason="has no XLA")
@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (regularizers.NuclearNorm(0.3), reference.nuclear_norm),
        (regularizers.SpectralNorm(0.3, None), reference.spectral_norm),
    ],
    ids=["NuclearNorm", "SpectralNorm"],
)
def test_decompositions_train_under_xla(penalty, expected, rng):
    inputs = keras.Input((3,))
    layer = keras.layers.Dense(4, use_bias=False, kernel_regularizer=penalty)
    model = keras.Model(inputs, 0.0 * layer(inputs))
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=True)
    before = ops.convert_to_numpy(layer.kernel)
    loss = model.train_on_batch(np.ones((2, 3)), np.zeros((2, 4)))
    assert loss == pytest.approx(expected(before, 0.3), rel=1e-5)
    slope = central_difference(lambda w: expected(w, 0.3), before, step=1e-5)
    np.testing.assert_allclose(
        before - ops.convert_to_numpy(layer.kernel), slope, atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ScaledL1", {"factor": -1, "num_samples": 2}, "`factor` must be in"),
        ("ScaledL1", {"factor": 1, "num_samples": 0}, "`num_samples` must be"),
        ("GroupLasso", {"factor": -0.1}, r"`factor` must be in \[0, inf\)"),
        ("GroupLasso", {"axis": (1, 1)}, "different integers"),
        ("GroupLasso", {"axis": ()}, "different integers"),
        ("GroupLasso", {"axis": 1.5}, "different integers"),
        ("SparseGroupLasso", {"l1_fraction": 1.1}, "`l1_fraction` must be in"),
        ("SparseGroupLasso", {"axis": "last"}, "different integers"),
        ("Hoyer", {"factor": float("nan")}, "`factor` must be in"),
        ("Hoyer", {"square": "yes"}, "`square` must be one of"),
        ("SpectralNorm", {"num_iterations": 0}, "`num_iterations` must be"),
        ("NuclearNorm", {"factor": -1}, "`factor` must be in"),
        ("SoftOrthogonality", {"variant": "hard"}, "`variant` must be one of"),
        ("SoftOrthogonality", {"num_iterations": 0}, "`num_iterations` must"),
        ("KLSparsity", {"target": 0.0}, r"`target` must be in \(0, 1\)"),
        ("DeCov", {"factor": -1}, "`factor` must be in"),
    ],
)
def test_refuses_bad_arguments(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(regularizers, name)(**arguments)


def test_refuses_weights_of_the_wrong_rank():
    with pytest.raises(ValueError, match=r"at least one axis .*shape=\(\)"):
        regularizers.NuclearNorm()(np.float32(3))
    with pytest.raises(ValueError, match=r"axes of the groups.*axis=-3"):
        regularizers.GroupLasso(axis=-3)(np.ones((2, 3), "float32"))
