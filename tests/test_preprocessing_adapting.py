"""How preprocessing layers are fitted, saved and refused."""

import itertools

import backend
import keras
import numpy as np
import pytest

import kerascomp as kc
from kerascomp import layers
from kerascomp.layers import _accumulators

ops = keras.ops

X = np.array([[1.0, 20.0], [4.0, -5.0], [2.0, 7.0], [9.0, 1.0], [3.0, 2.0]])
NAN, INF = np.nan, np.inf


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


class Batches(keras.utils.PyDataset):
    """Two rows a batch, with targets."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return (len(self.x) + 1) // 2

    def __getitem__(self, index):
        part = self.x[2 * index : 2 * index + 2]
        return part, part


@pytest.mark.parametrize(
    "source",
    [
        lambda x: x.astype("float32"),
        lambda x: ops.convert_to_tensor(x),
        lambda x: [x[:1], x[1:4], x[4:], x[:0]],
        lambda x: (part for part in (x[:3], x[3:])),
        lambda x: Batches(x),
        lambda x: backend.dataset(x, 2),
        # The axis between the rows and the features holds more rows.
        lambda x: [x[None, :2], x[None, 2:]],
    ],
    ids=["array", "tensor", "list", "generator", "PyDataset", "own", "rank 3"],
)
def test_every_source_gives_the_same(source):
    layer = layers.MinMaxScaling()
    layer.adapt(source(X))
    np.testing.assert_allclose(
        numpy_of(layer(X)), (X - X.min(0)) / np.ptp(X, axis=0), rtol=1e-6
    )


def test_steps_end_an_endless_source():
    layer = layers.Imputation()
    layer.adapt(itertools.repeat(X), steps=3)
    np.testing.assert_allclose(layer.get_statistics()["fill"], X.mean(axis=0))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X[:, 0], ValueError, r"must have the shape \(samples"),
        ((X, X), TypeError, "one array, or an iterable of batches"),
        (5, TypeError, "of type int"),
        (iter([]), ValueError, "has no samples"),
        (X[:0], ValueError, "has no samples"),
        ([X, X[:, :1]], ValueError, "All batches must have 2 features"),
        (np.array([["a", "b"]]), ValueError, "StringLookup"),
        ([X, [[1, INF]]], ValueError, r"columns \[1\] hold values that are"),
        ([X, [[NAN, 1]]], ValueError, r"columns \[0\] hold missing"),
        (X * [[0, 1]], ValueError, r"columns \[0\] do not vary"),
        (1e7 + X / 1e7, ValueError, r"columns \[0, 1\] do not vary"),
        (X * 1e39, ValueError, r"columns \[0, 1\] hold values that are"),
    ],
)
def test_data_that_does_not_fit_is_refused(data, error, message):
    layer = layers.MinMaxScaling()
    layer.adapt(X)
    with pytest.raises(error, match=message):
        layer.adapt(data)
    # A failed attempt leaves the layer as it was.
    np.testing.assert_allclose(layer.get_statistics()["maximum"], X.max(0))


@pytest.mark.parametrize(
    ("layer", "data", "message"),
    [
        (
            layers.PowerTransform("box-cox"),
            X,
            r"columns \[1\] must be above 0 for Box-Cox",
        ),
        (layers.PowerTransform(), X * [[1, 0]], r"columns \[1\] do not vary"),
        (layers.RobustScaling(), X * [[1, 0]], r"columns \[1\] do not vary"),
        (layers.QuantileTransform(2), X * [[1, 0]], r"\[1\] do not vary"),
        (layers.QuantileTransform(6), X, "number of training rows, 5"),
        (
            layers.Imputation("mean"),
            X * [[1, NAN]],
            r"columns \[1\] hold nothing but missing values",
        ),
        (layers.Imputation("constant", 1.0), X, "nothing to adapt to"),
        (layers.PCA(3), X, "at most the number of features, 2"),
        (layers.PCA(2), X[:1], "at least two different rows"),
        (layers.PCA(), np.arange(6).reshape(2, 3), "at least as many training"),
        (layers.PCA(whiten=True), X[:, :1] * [[1, 2]], "1 of 2 directions"),
        (layers.ZCAWhitening(), X[:, :1] * [[1, 2]], "1 of 2 directions"),
        (layers.PCA(), X * [[1, NAN]], r"columns \[1\] hold missing"),
        (layers.TargetEncoding(10), X[:, :1], r"batches `\(x, y\)`"),
    ],
)
def test_each_layer_refuses_what_it_cannot_fit(layer, data, message):
    with pytest.raises(ValueError, match=message):
        layer.adapt(data)
    assert not layer.built


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[0], [5]], [0, 1], r"below num_categories=3. Received: \[5.0\]"),
        ([[0], [0.5]], [0, 1], r"Received: \[0.5\]"),
        ([[0], [1]], [0, 7], r"below num_classes=3. Received: \[7.0\]"),
        ([[0], [1]], [0, 1, 2], r"Received: \(2, 1\) and \(3,\)"),
    ],
)
def test_target_encoding_refuses_what_it_cannot_fit(x, y, message):
    with pytest.raises(ValueError, match=message):
        layers.TargetEncoding(3, num_classes=3).adapt(np.array(x), y=y)
    with pytest.raises(ValueError, match=r"finite numbers. Received: \[nan\]"):
        layers.TargetEncoding(3).adapt(np.array([[0]]), y=[NAN])
    with pytest.raises(ValueError, match="at least 2 folds"):
        layers.TargetEncoding(3).adapt_and_encode(
            np.zeros((3, 1)), np.ones(3), folds=np.zeros(3)
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.MinMaxScaling((1, 1)), "the smaller one first"),
        (lambda: layers.RobustScaling((0.25, 75)), r"must be in \[0, 1\]"),
        (lambda: layers.PCA(2, 0.5), "Pass at most one of"),
        (lambda: layers.PCA(solver="randomized"), "`dim` must be given"),
        (lambda: layers.Imputation("constant"), "belongs to strategy"),
        (lambda: layers.RandomProjection(2, density=0.5), "belongs to method"),
        (lambda: layers.RandomProjection(3)(X), "of at least dim=3"),
        (
            lambda: layers.MinMaxScaling(statistics={"minimum": [0, 1]})(X),
            r"`statistics\['maximum'\]` must hold finite",
        ),
        (
            lambda: layers.Imputation("constant", [1.0, 2.0, 3.0])(X),
            "one for each of 2 features",
        ),
        (lambda: layers.LogScaling("log")(X), "above 0. Received: -5.0"),
        (lambda: layers.LogScaling()(X), r"above -1.0. Received: -5.0"),
        (
            lambda: layers.johnson_lindenstrauss_min_dim(10, 1.0),
            r"must be in \(0, 1\)",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_compiled_model_works_once_it_is_adapted():
    layer = layers.MinMaxScaling()
    with pytest.raises(RuntimeError, match="was not adapted"):
        layer(X)
    model = keras.Sequential([keras.Input((2,)), layers.MinMaxScaling()])
    model.compile(loss="mse")
    layer = model.layers[0]
    for use in (layer, layer.inverse, model.predict_on_batch):
        with pytest.raises(RuntimeError, match="was not adapted"):
            use(X.astype("float32"))
    with pytest.raises(RuntimeError, match="was not adapted"):
        layer.get_statistics()
    with pytest.raises(ValueError, match="built for 2 features"):
        layer.adapt(X[:, :1])
    # Refitted, the compiled program reads the new numbers.
    for scale in (1.0, 10.0):
        layer.adapt(X * scale)
        output = model.predict(X * scale, verbose=0)
        np.testing.assert_allclose(output.max(axis=0), [1, 1])
    copy = keras.models.clone_model(model)
    with pytest.raises(RuntimeError, match="was not adapted"):
        copy.predict_on_batch(X)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy.predict_on_batch(X * scale), output)


def test_a_size_found_in_the_data_is_saved(tmp_path, rng):
    x = rng.normal(size=(50, 4)) * [[9, 5, 1, 0.1]]
    layer = layers.PCA(variance_fraction=0.9)
    with pytest.raises(RuntimeError, match="how many components"):
        layer(keras.Input((4,)))
    layer.adapt(x)
    model = keras.Sequential([keras.Input((4,)), layer])
    assert model.output_shape == (None, 2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy_of(loaded(x)), numpy_of(model(x)))
    with pytest.raises(ValueError, match="Make a new layer"):
        layer.adapt(rng.normal(size=(50, 4)))


def test_statistics_make_the_same_layer_again(rng):
    x = rng.lognormal(size=(60, 3))
    for layer in (
        layers.PowerTransform(),
        layers.QuantileTransform(9, "normal"),
        layers.PCA(variance_fraction=0.6),
        layers.ZCAWhitening(),
    ):
        layer.adapt(x)
        config = {
            **layer.get_config(),
            "statistics": layer.get_statistics(),
        }
        twin = type(layer).from_config(config)
        np.testing.assert_array_equal(numpy_of(twin(x)), numpy_of(layer(x)))
        assert layer.trainable_weights == []


def test_raw_features_survive_mixed_precision():
    x = np.array([[0.0, 1.0], [200_000.0, 2.0], [100_000.0, 3.0]])
    keras.config.set_dtype_policy("mixed_float16")
    inputs = keras.Input((2,), dtype="float32")
    layer = layers.MinMaxScaling()
    layer.adapt(x)
    outputs = keras.layers.Activation("linear")(layer(inputs))
    output = numpy_of(keras.Model(inputs, outputs)(x))
    assert output.dtype == "float16"
    np.testing.assert_allclose(output, [[0, 0], [1, 0.5], [0.5, 1]], atol=1e-3)
    np.testing.assert_allclose(numpy_of(layer.inverse(output)), x, rtol=1e-3)


def test_many_rows_are_sampled_evenly_and_in_any_batches(rng):
    x = np.stack([np.arange(5000.0), -np.arange(5000.0)], axis=1)
    held = []
    for size in (5000, 613, 7):
        rows = _accumulators.Rows(2, max_samples=400)
        for start in range(0, len(x), size):
            rows.update(x[start : start + size])
        held.append(list(rows.columns()))
        assert len(rows) == 400
    np.testing.assert_array_equal(held[0], held[1])
    np.testing.assert_array_equal(held[0], held[2])
    first, second = held[0]
    np.testing.assert_array_equal(first, -second)
    assert (np.diff(first) > 0).all()
    # Of 400 uniform numbers, the largest gap to the shares is below 1.63 / 20
    # in 99 of 100 samples.
    shares = np.arange(1, 401) / 400
    assert np.abs((first + 1) / 5000 - shares).max() < 1.63 / 20
    layer = layers.QuantileTransform(100, max_samples=400)
    layer.adapt(x)
    output = numpy_of(layer(x))[:, 0]
    assert np.abs(output - np.arange(5000) / 5000).max() < 1.63 / 20


def test_a_pipeline_exports_without_this_package(tmp_path, rng):
    x = rng.lognormal(size=(40, 4)).astype("float32")
    x[::7, 2] = np.nan
    pipeline = [
        layers.Imputation("median", indicator=True),
        layers.QuantileTransform(10, "normal", constant="step"),
        layers.PowerTransform(constant="unscaled"),
        layers.RandomProjection(5, seed=1),
        layers.PCA(3),
        layers.ZCAWhitening(),
        layers.RobustScaling(),
        layers.LogScaling("symmetric"),
    ]
    y = x
    for layer in pipeline:
        if hasattr(layer, "adapt"):
            layer.adapt(y)
        y = numpy_of(layer(y))
    model = keras.Sequential([keras.Input((4,)), *pipeline])
    report = kc.export.export_model(model, tmp_path, sample=x)
    assert report["formats"]["keras"]["status"] == "passed"
    saved_model = report["formats"]["tf_saved_model"]
    wanted = "skipped" if backend.NAME == "torch" else "passed"
    assert saved_model["status"] == wanted, saved_model["reason"]
