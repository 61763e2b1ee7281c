"""The numbers of the preprocessing layers: scikit-learn's."""

import itertools

import keras
import numpy as np
import pytest
from backend import central_difference, gradient
from sklearn import decomposition, impute, model_selection, preprocessing
from sklearn import random_projection as projections

from kerascomp import layers

ops = keras.ops


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


def in_batches(x, size=7):
    return [x[start : start + size] for start in range(0, len(x), size)]


@pytest.fixture(scope="module")
def table():
    """Skewed, symmetric, negative and tied columns, far from 0 and near it."""
    rng = np.random.default_rng(3)
    columns = [
        rng.lognormal(size=201),
        rng.normal(-1, 3, size=201),
        -rng.exponential(5, size=201),
        rng.integers(0, 4, size=201),
        rng.normal(50, 0.5, size=201),
    ]
    return np.stack(columns, axis=1).astype("float32")


@pytest.fixture(scope="module")
def holes(table):
    """The table with one value in five missing."""
    hidden = np.random.default_rng(4).random(table.shape) < 0.2
    return np.where(hidden, np.float32("nan"), table)


def assert_equals(layer, oracle, data, rtol=2e-5, atol=2e-5):
    """Fits both to a part, and compares them on all the data.

    The layer reads batches, and a twin everything at once.
    """
    oracle.fit(data[:150].astype("float64"))
    layer.adapt(in_batches(data[:150]))
    twin = type(layer).from_config(layer.get_config())
    twin.adapt(data[:150])
    for name, value in twin.get_statistics().items():
        np.testing.assert_allclose(
            layer.get_statistics()[name], value, rtol=1e-5, atol=1e-6
        )
    expected = oracle.transform(data.astype("float64"))
    output = numpy_of(layer(data))
    np.testing.assert_allclose(output, expected, rtol=rtol, atol=atol)
    return output


def assert_inverts(layer, oracle, output, rtol=1e-4):
    np.testing.assert_allclose(
        numpy_of(layer.inverse(output)),
        oracle.inverse_transform(output.astype("float64")),
        rtol=rtol,
        atol=1e-4,  # Of numbers near 50, whose float32 are 4e-6 apart.
    )


def test_min_max_scaling_equals_scikit_learn(holes):
    layer = layers.MinMaxScaling((-1.0, 3.0), missing="skip")
    oracle = preprocessing.MinMaxScaler((-1, 3))
    assert_inverts(layer, oracle, assert_equals(layer, oracle, holes))


@pytest.mark.parametrize("unit_variance", [False, True])
def test_robust_scaling_equals_scikit_learn(holes, unit_variance):
    layer = layers.RobustScaling((0.1, 0.8), unit_variance, missing="skip")
    oracle = preprocessing.RobustScaler(
        quantile_range=(10, 80), unit_variance=unit_variance
    )
    assert_inverts(layer, oracle, assert_equals(layer, oracle, holes))


@pytest.mark.parametrize("standardize", [True, False])
def test_yeo_johnson_equals_scikit_learn(holes, standardize):
    layer = layers.PowerTransform(standardize=standardize, missing="skip")
    oracle = preprocessing.PowerTransformer(standardize=standardize)
    # The likelihood is flat at its top: lambdas agree to 1e-7 at best.
    output = assert_equals(layer, oracle, holes, rtol=2e-4, atol=2e-4)
    found = layer.get_statistics()["lambdas"]
    np.testing.assert_allclose(found, oracle.lambdas_, rtol=1e-4)
    assert_inverts(layer, oracle, output)


@pytest.mark.parametrize("standardize", [True, False])
def test_box_cox_equals_scikit_learn(holes, standardize):
    positive = np.abs(holes) + 0.5
    layer = layers.PowerTransform(
        "box-cox", standardize=standardize, missing="skip"
    )
    oracle = preprocessing.PowerTransformer("box-cox", standardize=standardize)
    output = assert_equals(layer, oracle, positive, rtol=2e-4, atol=2e-4)
    assert_inverts(layer, oracle, output)


def test_powers_far_from_zero_stay_finite():
    # Box-Cox does not depend on the unit, and Yeo-Johnson is Box-Cox of 1 + x
    # there: scikit-learn gets years over 2000, whose powers fit in float64.
    rng = np.random.default_rng(0)
    years = 2020 - rng.exponential(8, size=(300, 1)).round(2)
    oracle = preprocessing.PowerTransformer("box-cox")
    expected = oracle.fit_transform(years / 2000)
    assert oracle.lambdas_[0] > 100  # 2020 ** 100 is no float32.
    for layer, x in (
        (layers.PowerTransform("box-cox"), years),
        (layers.PowerTransform(), years - 1),
        (layers.PowerTransform(), 1 - years),
    ):
        layer.adapt(x)
        sign = -1 if x[0] < 0 else 1
        # A year in float32 is off by 6e-5.
        np.testing.assert_allclose(
            sign * numpy_of(layer(x.astype("float32"))), expected, atol=1e-3
        )
        assert np.isfinite(numpy_of(layer(np.array([[0.5]])))).all()


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_quantile_transform_equals_scikit_learn(holes, distribution):
    layer = layers.QuantileTransform(50, distribution, missing="skip")
    oracle = preprocessing.QuantileTransformer(
        n_quantiles=50, output_distribution=distribution
    )
    # Values at a quantile, beyond all of them, and between.
    more = np.nanquantile(holes[:150], np.linspace(0, 1, 50), axis=0)
    data = np.concatenate([holes, more, holes * 2, holes - 100])
    # A share of 1e-4 is off by 6e-8, its normal quantile by 100 times that.
    output = assert_equals(layer, oracle, data.astype("float32"), atol=2e-4)
    assert_inverts(layer, oracle, output[~np.isnan(output).any(axis=1)], 1e-3)


def test_normal_output_has_both_tails():
    layer = layers.QuantileTransform(1000, "normal")
    x = np.linspace(-3, 3, 1001)[:, None]
    layer.adapt(x)
    oracle = preprocessing.QuantileTransformer(
        n_quantiles=1000, output_distribution="normal"
    ).fit(x)
    near = np.array([[-3 + 1e-4], [3 - 1e-4], [-9.0], [9.0]])
    output = numpy_of(layer(near))
    np.testing.assert_allclose(output, oracle.transform(near), rtol=1e-3)
    np.testing.assert_allclose(output[::2], -output[1::2], rtol=1e-3)


def test_constant_columns_follow_the_argument():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]])
    new = np.array([[2.0, 5.0], [2.0, 7.0]])
    for layer, oracle in (
        (
            layers.MinMaxScaling(constant="unscaled"),
            preprocessing.MinMaxScaler(),
        ),
        (
            layers.RobustScaling(constant="unscaled"),
            preprocessing.RobustScaler(),
        ),
        (
            layers.PowerTransform(constant="unscaled"),
            preprocessing.PowerTransformer(),
        ),
        (
            layers.QuantileTransform(3, constant="step"),
            preprocessing.QuantileTransformer(n_quantiles=3),
        ),
    ):
        layer.adapt(x)
        expected = oracle.fit(x).transform(new)
        np.testing.assert_allclose(numpy_of(layer(new)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "base", "function"),
    [
        ("log", None, lambda x: np.log(np.abs(x) / 2)),
        ("log1p", 2.0, lambda x: np.log2(1 + np.abs(x) / 2)),
        ("symmetric", 10.0, lambda x: np.sign(x) * np.log10(1 + np.abs(x / 2))),
    ],
)
def test_log_scaling_equals_its_formula(table, method, base, function):
    layer = layers.LogScaling(method, base, scale=2.0)
    x = table[:, :3] if method == "symmetric" else np.abs(table[:, :3])
    output = numpy_of(layer(x))
    np.testing.assert_allclose(output, function(x.astype("float64")), rtol=2e-5)
    np.testing.assert_allclose(numpy_of(layer.inverse(output)), x, rtol=2e-5)


def test_gradients_equal_differences_of_scikit_learn(table):
    table = np.delete(table, 3, axis=1)  # Ties are jumps.
    x = table[:3]
    for layer, oracle in (
        (layers.PowerTransform(), preprocessing.PowerTransformer()),
        (
            layers.QuantileTransform(20, "normal"),
            preprocessing.QuantileTransformer(
                n_quantiles=20, output_distribution="normal"
            ),
        ),
        (layers.PCA(whiten=True), decomposition.PCA(whiten=True)),
    ):
        layer.adapt(table)
        oracle.fit(table.astype("float64"))

        def total(x, layer=layer):
            return ops.sum(ops.sin(layer(x)))

        def reference(x, oracle=oracle):
            return np.sin(oracle.transform(x)).sum()

        # Slopes of up to 10, of inputs that float32 rounds by 4e-6.
        np.testing.assert_allclose(
            gradient(total, x),
            central_difference(reference, x, 1e-6),
            rtol=1e-3,
            atol=1e-3,
        )


def test_symmetric_logarithm_is_linear_at_zero():
    layer = layers.LogScaling("symmetric", scale=2.0)
    zero = np.zeros((1, 2), "float32")
    assert (gradient(lambda x: ops.sum(layer(x)), zero) == 0.5).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"dim": 2}, {"n_components": 2}),
        ({"whiten": True}, {"whiten": True}),
        ({"variance_fraction": 0.95}, {"n_components": 0.95}),
    ],
)
def test_pca_equals_scikit_learn(table, ours, theirs):
    layer, oracle = layers.PCA(**ours), decomposition.PCA(**theirs)
    output = assert_equals(layer, oracle, table, rtol=1e-4, atol=1e-4)
    assert_inverts(layer, oracle, output)
    found = layer.get_statistics()
    for name in ("components", "explained_variance"):
        np.testing.assert_allclose(
            found[name], getattr(oracle, name + "_"), rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(
        found["explained_variance"] / found["total_variance"],
        oracle.explained_variance_ratio_,
        rtol=1e-5,
    )


def test_randomized_pca_is_exact_up_to_its_rank(rng):
    low_rank = 10 + rng.normal(size=(200, 5)) @ rng.normal(size=(5, 60))
    layer = layers.PCA(3, solver="randomized")
    oracle = decomposition.PCA(3)
    assert_equals(layer, oracle, low_rank.astype("float32"), atol=1e-3)
    noisy = low_rank + rng.normal(scale=0.3, size=low_rank.shape)
    layer.adapt(in_batches(noisy))
    found = layer.get_statistics()
    oracle.fit(noisy)
    # Noise is what the sketch leaves out: 0.09 of eigenvalues above 20.
    np.testing.assert_allclose(
        found["explained_variance"], oracle.explained_variance_, rtol=0.01
    )
    cosines = np.abs(np.sum(found["components"] * oracle.components_, axis=1))
    assert cosines.min() > 0.999


def test_zca_turns_whitened_components_back(table):
    layer = layers.ZCAWhitening()
    layer.adapt(in_batches(table))
    oracle = decomposition.PCA(whiten=True).fit(table.astype("float64"))
    output = numpy_of(layer(table))
    np.testing.assert_allclose(
        output, oracle.transform(table) @ oracle.components_, atol=2e-4
    )
    np.testing.assert_allclose(np.cov(output.T), np.eye(5), atol=1e-4)
    np.testing.assert_allclose(
        numpy_of(layer.inverse(output)), table, rtol=1e-4, atol=1e-4
    )
    # With epsilon, variances become v / (v + epsilon).
    x = table[:, :1]
    layer = layers.ZCAWhitening(epsilon=2.0)
    layer.adapt(x)
    variance = x.var(ddof=1)
    np.testing.assert_allclose(
        numpy_of(layer(x)).var(ddof=1), variance / (variance + 2), rtol=1e-4
    )


def test_random_projection_draws_what_it_says():
    sparse = layers.RandomProjection(50, "sparse", density=0.2, seed=1)
    thirds = layers.RandomProjection(50, "sparse", seed=1)
    normal = layers.RandomProjection(50, seed=1)
    x = np.eye(2000, dtype="float32")
    elements = {}
    for name, layer in (("5", sparse), ("3", thirds), ("0", normal)):
        elements[name] = numpy_of(layer(x)).ravel()
        # The deviation of the mean square of 100,000 elements is at most
        # sqrt(4 / 1e5) of it.
        assert 50 * np.mean(elements[name] ** 2) == pytest.approx(1, abs=0.025)
        assert np.mean(elements[name]) == pytest.approx(0, abs=2e-3)
    for name, share in (("5", 0.2), ("3", 1 / 3)):
        values, counts = np.unique(elements[name], return_counts=True)
        size = (share * 50) ** -0.5
        np.testing.assert_allclose(values, [-size, 0, size], rtol=1e-6)
        np.testing.assert_allclose(
            counts / 1e5, [share / 2, 1 - share, share / 2], atol=6e-3
        )
    kurtosis = np.mean(elements["0"] ** 4) / np.mean(elements["0"] ** 2) ** 2
    assert kurtosis == pytest.approx(3, abs=0.06)
    again = layers.RandomProjection(50, seed=1)
    np.testing.assert_array_equal(numpy_of(again(x)).ravel(), elements["0"])


def test_random_projection_equals_scikit_learn_and_keeps_distances(rng):
    x = rng.normal(size=(30, 900)).astype("float32")
    oracle = projections.GaussianRandomProjection(40, random_state=0).fit(x)
    layer = layers.RandomProjection(40)
    layer.build(x.shape)
    layer.components.assign(oracle.components_)
    output = numpy_of(layer(x))
    np.testing.assert_allclose(output, oracle.transform(x), atol=1e-4)
    np.testing.assert_allclose(
        numpy_of(layer.inverse(output)),
        oracle.inverse_transform(output),
        atol=1e-4,
    )
    epsilon = 0.5
    dim = layers.johnson_lindenstrauss_min_dim(len(x), epsilon)
    y = numpy_of(layers.RandomProjection(dim, "sparse", seed=2)(x))
    for i, j in itertools.combinations(range(len(x)), 2):
        ratio = np.sum((y[i] - y[j]) ** 2) / np.sum((x[i] - x[j]) ** 2)
        assert 1 - epsilon < ratio < 1 + epsilon


def test_johnson_lindenstrauss_equals_scikit_learn():
    for samples, epsilon in itertools.product((1, 30, 10**6), (0.1, 0.5, 0.9)):
        found = layers.johnson_lindenstrauss_min_dim(samples, epsilon)
        theirs = projections.johnson_lindenstrauss_min_dim(samples, eps=epsilon)
        assert found == theirs


@pytest.mark.parametrize("smoothing", ["auto", 3.0])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_target_encoding_equals_scikit_learn(smoothing, num_classes):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, size=(150, 2)).astype("float32")
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:, 1] = np.where(x[:, 1] == 4, 3, x[:, 1])  # No sample has 4.
    y = rng.normal(np.nan_to_num(x[:, 0]) / 2, 0.5)
    kind, splitter = "continuous", model_selection.KFold
    if num_classes:
        y = np.clip(y.round(), 0, 2).astype(int)
        kind, splitter = "multiclass", model_selection.StratifiedKFold
    splits = splitter(4, shuffle=True, random_state=1)
    oracle = preprocessing.TargetEncoder(
        target_type=kind, smooth=smoothing, cv=splits
    )
    folds = np.empty(len(x), int)
    for number, (_, inside) in enumerate(splits.split(x, y)):
        folds[inside] = number
    layer = layers.TargetEncoding(6, num_classes, smoothing)
    np.testing.assert_allclose(
        layer.adapt_and_encode(x, y, folds),
        oracle.fit_transform(x, y),
        rtol=1e-5,
        atol=1e-6,
    )
    new = np.concatenate([x, [[2, 4], [9, 0], [2.5, np.nan]]])
    unknown = np.where(new == 2.5, 7, new)
    expected = oracle.transform(unknown)
    np.testing.assert_allclose(numpy_of(layer(new)), expected, rtol=1e-5)
    streamed = layers.TargetEncoding(6, num_classes, smoothing)
    streamed.adapt(zip(in_batches(x), in_batches(y), strict=True))
    np.testing.assert_allclose(numpy_of(streamed(new)), expected, rtol=1e-5)
    # Any negative number is a missing category.
    np.testing.assert_array_equal(
        numpy_of(layer(np.nan_to_num(x, nan=-1).astype("int32"))),
        numpy_of(layer(x)),
    )


def test_out_of_fold_encodings_do_not_see_their_own_target(rng):
    # Categories say nothing of the target, which is what they are made to
    # look like when every sample helps to encode itself.
    x = rng.integers(0, 300, size=(600, 1))
    y = rng.normal(size=600)
    layer = layers.TargetEncoding(300, smoothing=0.0)
    honest = layer.adapt_and_encode(x, y, seed=0)
    leaking = numpy_of(layer(x))
    assert np.corrcoef(leaking[:, 0], y)[0, 1] > 0.5
    assert abs(np.corrcoef(honest[:, 0], y)[0, 1]) < 0.15
    changed = layer.adapt_and_encode(x, y + 10 * (np.arange(600) == 5), seed=0)
    assert changed[5] == pytest.approx(honest[5])


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_imputation_equals_scikit_learn(holes, strategy):
    layer = layers.Imputation(strategy, indicator=True)
    oracle = impute.SimpleImputer(strategy=strategy, add_indicator=True)
    assert_equals(layer, oracle, holes)
    # The same, with a number in the place of NaN.
    numbered = layers.Imputation(strategy, missing_value=-9.0, indicator=True)
    marked = np.nan_to_num(holes, nan=-9.0)
    numbered.adapt(marked[:150])
    np.testing.assert_array_equal(
        numpy_of(numbered(marked)), numpy_of(layer(holes))
    )


def test_constant_imputation_needs_no_data(holes):
    fill = [1.0, 2.0, 3.0, 4.0, 5.0]
    output = numpy_of(layers.Imputation("constant", fill)(holes))
    np.testing.assert_array_equal(
        output, np.where(np.isnan(holes), np.float32(fill), holes)
    )
