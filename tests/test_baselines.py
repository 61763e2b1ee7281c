import warnings

import numpy as np
import pytest
from sklearn import linear_model, metrics

from kerascomp.datasets import Dataset, Part, from_arrays, load
from kerascomp.studies import _baselines
from kerascomp.studies._baselines import baselines

pytestmark = pytest.mark.one_backend


def divided(*parts, task, class_names=()):
    """A data set with exactly these parts."""
    dtype = "float32" if task == "regression" else "int32"
    parts = [Part(np.array(x, "float32"), np.array(y, dtype)) for x, y in parts]
    return Dataset("toy", task, *parts, class_names)


def standardized(data):
    """The three parts' inputs in the training part's units, in float64."""
    mean = data.train.x.mean(axis=0, dtype="float64")
    deviation = data.train.x.std(axis=0, dtype="float64")
    deviation[deviation == 0] = 1  # A constant feature stays one.
    return [(p.x - mean) / deviation for p in data.parts.values()]


def test_constant_classifier_predicts_the_training_frequencies():
    x = np.zeros((4, 1))
    data = divided(
        (x, [0, 0, 0, 1]),
        (x, [0, 0, 1, 1]),
        (x, [1, 1, 1, 0]),
        task="classification",
        class_names=("a", "b"),
    )
    constant, _ = baselines(data)
    assert constant.name == "majority class"
    assert constant.validation == pytest.approx(
        {
            "accuracy": 1 / 2,
            "loss": -(np.log(0.75) + np.log(0.25)) / 2,
            "balanced_accuracy": 1 / 2,
        }
    )
    assert constant.test == pytest.approx(
        {
            "accuracy": 1 / 4,
            "loss": -(np.log(0.75) + 3 * np.log(0.25)) / 4,
            "balanced_accuracy": 1 / 2,
        }
    )


def test_constant_regressor_predicts_the_training_mean():
    x = np.zeros((2, 1))
    data = divided((x, [1, 3]), (x, [2, 6]), (x, [5, 5]), task="regression")
    constant, _ = baselines(data)
    assert constant.name == "mean"
    # The mean is 2, so the errors are 0 and 4, then 3 and 3. The validation
    # targets lie 2 from their own mean: 1 - 8 / 4.
    assert constant.validation == {"loss": 8.0, "mae": 2.0, "r2": -1.0}
    assert constant.test == {"loss": 9.0, "mae": 3.0, "r2": 0.0}


@pytest.mark.parametrize("name", ["wine", "digits"])
def test_linear_classifier_is_logistic_regression(name):
    data = load(name)
    _, linear = baselines(data)
    train, _, test = standardized(data)
    model = linear_model.LogisticRegression(max_iter=1000)
    probabilities = model.fit(train, data.train.y).predict_proba(test)
    predicted = probabilities.argmax(axis=-1)
    assert linear.name == "logistic regression"
    assert linear.notes == ()
    # The optimizer stops at a gradient of 1e-4, at a place that depends on
    # rounding.
    assert linear.test == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(data.test.y, predicted),
            "loss": metrics.log_loss(data.test.y, probabilities),
            "balanced_accuracy": metrics.balanced_accuracy_score(
                data.test.y, predicted
            ),
        },
        rel=2e-3,
    )


def test_linear_regressor_is_ridge_regression():
    data = load("diabetes")
    _, linear = baselines(data)
    train, validation, _ = standardized(data)
    # The ridge equations of centered data, with a penalty of 1.
    mean = data.train.y.mean(dtype="float64")
    weights = np.linalg.solve(
        train.T @ train + np.eye(10), train.T @ (data.train.y - mean)
    )
    predicted = validation @ weights + mean
    y = data.validation.y
    assert linear.name == "ridge regression"
    assert linear.validation == pytest.approx(
        {
            "loss": metrics.mean_squared_error(y, predicted),
            "mae": metrics.mean_absolute_error(y, predicted),
            "r2": metrics.r2_score(y, predicted),
        },
        rel=1e-4,  # Scikit-learn solves them in float32.
    )


def test_classes_that_a_part_lacks_do_not_count():
    x = [[0.0], [0.0], [9.0], [9.0], [20.0], [20.0]]
    data = divided(
        (x, [0, 0, 1, 1, 2, 2]),
        (x, [0, 0, 1, 1, 2, 2]),
        ([[0.0], [9.0], [20.0]], [0, 1, 1]),
        task="classification",
        class_names=("a", "b", "c"),
    )
    _, linear = baselines(data)
    assert linear.test["accuracy"] == pytest.approx(2 / 3)
    assert linear.test["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2)])
def test_images_and_sequences_are_flattened(rng, shape):
    x, y = rng.normal(size=(60, *shape)), np.arange(60) % 2
    flat = from_arrays(x.reshape(60, -1), y)
    assert baselines(from_arrays(x, y)) == baselines(flat)


@pytest.mark.parametrize("y", [np.arange(60) % 5, np.arange(60) / 7])
def test_large_sets_are_sampled_with_all_classes_and_a_note(
    rng, monkeypatch, y
):
    monkeypatch.setattr(_baselines, "MAX_SAMPLES", 2)
    data = from_arrays(rng.normal(size=(60, 3)), y)
    constant, linear = baselines(data)
    assert constant.notes == ()
    (note,) = linear.notes
    assert note.startswith("Fit to ")
    assert note.endswith(f" of {len(data.train)} training samples.")
    assert np.isfinite(linear.test["loss"])


def test_stopping_early_is_a_note_and_no_warning(monkeypatch):
    monkeypatch.setattr(_baselines, "_MAX_VALUES_READ", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, linear = baselines(load("digits"))
    assert linear.notes == (
        "Stopped after 20 iterations, before it converged.",
    )
