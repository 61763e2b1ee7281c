"""What all metrics do: batches, weights, masks, compiled code, models."""

import keras
import numpy as np
import pytest
from backend import compiled
from catalog import metrics as catalog

from kerascomp import metrics

ops = keras.ops

CASES = [
    pytest.param(case, id=f"{number}-{case.name}")
    for number, case in enumerate(catalog.CASES)
]


def result_of(metric):
    return ops.convert_to_numpy(metric.result())


def updated(metric, *arrays, **weights):
    metric.update_state(*arrays, **weights)
    return result_of(metric)


@pytest.mark.parametrize("case", CASES)
def test_compiled_stateless_updates_equal_eager(case):
    metric = case.make()

    def step(state, y_true, y_pred, weights):
        return metric.stateless_update_state(state, y_true, y_pred, weights)

    y_true, y_pred = case.inputs
    weights = np.array([0.5, 0.0, 2.0, 1.0], "float32")
    expected = updated(metric, y_true, y_pred, sample_weight=weights)
    metric.reset_state()
    state = [ops.convert_to_tensor(v) for v in metric.variables]
    program = compiled(step)
    for rows in (slice(0, 2), slice(2, 4)):
        arrays = (y_true[rows], y_pred[rows], weights[rows])
        state = program(state, *map(ops.convert_to_tensor, arrays))
    received = compiled(metric.stateless_result)(state)
    np.testing.assert_allclose(
        ops.convert_to_numpy(received), expected, rtol=1e-5, atol=1e-6
    )
    assert all(not np.any(ops.convert_to_numpy(v)) for v in metric.variables)


@pytest.mark.parametrize("case", CASES)
def test_weights_may_have_an_axis_of_length_one(case):
    weights = np.array([0.5, 3.0, 0.0, 1.0])
    flat = updated(case.make(), *case.inputs, sample_weight=weights)
    deep = updated(case.make(), *case.inputs, sample_weight=weights[:, None])
    np.testing.assert_array_equal(flat, deep)
    plain = updated(case.make(), *case.inputs)
    assert not np.allclose(flat, plain), "The weights have no effect."


@pytest.mark.parametrize("case", CASES)
def test_a_weight_of_two_is_the_sample_twice(case):
    once = [a[:3] for a in case.inputs]
    twice = [np.concatenate([a[:3], a[1:2]]) for a in case.inputs]
    weights = np.array([1.0, 2.0, 1.0])
    np.testing.assert_allclose(
        updated(case.make(), *once, sample_weight=weights),
        updated(case.make(), *twice),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("case", CASES)
def test_samples_of_weight_zero_may_hold_anything(case):
    y_true, y_pred = case.inputs
    bad = [y_true.copy(), y_pred.copy()]
    bad[0][1] = 99 if bad[0].dtype.kind == "i" else np.nan
    bad[1][1] = np.nan
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(
        updated(case.make(), *bad, sample_weight=weights),
        updated(case.make(), *(np.delete(a, 1, axis=0) for a in case.inputs)),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_prediction_of_nan_makes_the_result_nan(case):
    y_true, y_pred = case.inputs
    y_pred = y_pred.copy()
    y_pred[1] = np.nan
    assert np.isnan(updated(case.make(), y_true, y_pred)).all()


@pytest.mark.parametrize("case", CASES)
def test_a_batch_without_samples_changes_nothing(case):
    metric = case.make()
    empty = [a[:0] for a in case.inputs]
    np.testing.assert_array_equal(
        updated(metric, *empty), result_of(case.make())
    )
    expected = updated(metric, *case.inputs)
    np.testing.assert_array_equal(updated(metric, *empty), expected)


@pytest.mark.parametrize("case", CASES)
def test_half_precision_rounds_the_result_alone(case):
    half, single = case.make(dtype="float16"), case.make(dtype="float32")
    for _ in range(2):
        half.update_state(*case.inputs)
        single.update_state(*case.inputs)
    assert result_of(half).dtype == "float16"
    np.testing.assert_array_equal(
        result_of(half), result_of(single).astype("float16")
    )


def test_half_precision_counts_beyond_its_own_limit():
    metric = metrics.ZeroOneLoss(dtype="float16")
    y_pred = np.tile([[0.1, 0.9]], (3000, 1))
    for label in (0, 1):
        metric.update_state(np.full(3000, label), y_pred)
    assert float(metric.result()) == 0.5


@pytest.mark.parametrize("case", CASES)
def test_weights_of_another_length_are_refused(case):
    with pytest.raises(ValueError, match=r"Received: sample_weight\.shape"):
        case.make().update_state(*case.inputs, sample_weight=np.ones(3))


@pytest.mark.parametrize("case", CASES)
def test_weights_below_zero_are_refused(case):
    weights = np.array([1.0, -1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"at least 0\. Received: -1\.0"):
        case.make().update_state(*case.inputs, sample_weight=weights)


@pytest.mark.parametrize("case", CASES)
def test_samples_of_another_number_are_refused(case):
    y_true, y_pred = case.inputs
    with pytest.raises(ValueError, match="Received: "):
        case.make().update_state(y_true[:3], y_pred)


def test_weights_of_time_steps_count_each():
    labels = np.array([[0, 1, 1], [1, 0, 0]])
    y_pred = np.array([[[0.9], [0.2], [0.3]], [[0.8], [0.1], [0.7]]])
    weights = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 5.0]])
    metric = metrics.ZeroOneLoss()
    # Wrong are the first three, of weights 1, 1 and 0, and the last, of 5.
    received = updated(metric, labels, y_pred, sample_weight=weights)
    assert received == pytest.approx(7 / 9, rel=1e-6)


def masked_model():
    inputs = keras.Input((3,), dtype="int32")
    masked = keras.layers.Embedding(4, 1, mask_zero=True)(inputs)
    model = keras.Model(inputs, masked)
    model.layers[1].set_weights([np.array([[9.0], [0.2], [0.9], [0.3]])])
    return model


def test_masked_time_steps_do_not_count():
    model = masked_model()
    model.compile(metrics=[metrics.ZeroOneLoss()], loss="mse")
    # Word 0 is masked. Of words 1, 2, 3, 1 with labels 1, 1, 0, 0, one errs.
    x, y = np.array([[1, 2, 0], [3, 1, 0]]), np.array([[1, 1, 0], [0, 0, 1]])
    logs = model.evaluate(x, y[..., None], verbose=0, return_dict=True)
    assert logs["zero_one_loss"] == 0.25


def test_many_metrics_work_in_one_model(rng):
    """On torch, shapes are found on tensors without data."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(inputs))
    measures = [
        "accuracy",
        metrics.BrierScore(),
        metrics.MatthewsCorrelation(2),
        metrics.ConfusionMatrix(2, name="confusion"),
        metrics.ExpectedCalibrationError(2, 3, "equal_mass", capacity=20),
        metrics.StreamingPearsonCorrelation(),
        metrics.SpearmanCorrelation(capacity=20),
        metrics.KendallTau(capacity=20),
    ]
    model.compile("sgd", "mse", weighted_metrics=measures, jit_compile=False)
    x, y = rng.normal(size=(10, 2)), rng.integers(0, 2, (10, 1))
    history = model.fit(
        x, y, batch_size=4, verbose=2, sample_weight=np.arange(10.0)
    ).history
    assert len(history) == 9
    assert all(np.all(np.isfinite(values[0])) for values in history.values())
    assert np.sum(np.asarray(history["confusion"][0])) == 45


def test_a_saved_model_brings_its_metrics_along(rng, tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(inputs))
    measures = [
        metrics.CohenKappa(3, weights="quadratic"),
        metrics.ExpectedCalibrationError(3, 2, "adaptive", capacity=20),
    ]
    model.compile(
        loss="sparse_categorical_crossentropy",
        metrics=measures,
        run_eagerly=True,  # Compiling takes seconds.
    )
    x, y = rng.normal(size=(10, 2)), rng.integers(0, 3, 10)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    twin = keras.saving.load_model(tmp_path / "model.keras")
    received = twin.evaluate(x, y, verbose=0, return_dict=True)
    assert received == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.MatthewsCorrelation(2),
        metrics.CohenKappa(2),
        metrics.BalancedAccuracy(2),
        metrics.GeometricMeanScore(2),
        metrics.StreamingPearsonCorrelation(),
        metrics.SpearmanCorrelation(9),
        metrics.KendallTau(capacity=9),
        metrics.ZeroOneLoss(),
        metrics.HammingLoss(),
        metrics.BrierScore(),
        metrics.ExpectedCalibrationError(2),
        metrics.PinballLoss(),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_early_stopping_knows_which_way_is_better(metric):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model.compile(loss="mse", metrics=[metric], run_eagerly=True)
    labels = np.array([[0.0], [1.0], [1.0]])
    wrong, right = (
        model.evaluate(x, labels, verbose=0, return_dict=True)[metric.name]
        for x in (1 - labels, labels)
    )
    stop = keras.callbacks.EarlyStopping(f"val_{metric.name}")
    stop.set_model(model)
    stop.on_train_begin()
    for epoch, value in enumerate([wrong, right, wrong]):
        stop.on_epoch_end(epoch, {stop.monitor: value})
    assert stop.best == right != wrong
