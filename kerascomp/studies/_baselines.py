"""What models without tuning reach: the least a study has to beat."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from kerascomp.datasets import Dataset, Part

# A linear model gains little from more samples, and takes minutes for them.
MAX_SAMPLES = 20_000
# Values to read while fitting: seconds for images, where a linear model is
# best long before it converges, and convergence for tables.
_MAX_VALUES_READ = 5e8


@dataclasses.dataclass(frozen=True)
class Baseline:
    """One simple model and its scores.

    Args:
        name: What the model is.
        validation: Metric to value. For classes `accuracy`, `loss` (log loss
            in nats) and `balanced_accuracy`; for quantities `loss` (mean
            squared error), `mae` and `r2`.
        test: The same on the test part.
        notes: Sentences on what to keep in mind.
    """

    name: str
    validation: dict[str, float]
    test: dict[str, float]
    notes: tuple[str, ...] = ()


def baselines(data: Dataset) -> list[Baseline]:
    """Scores a constant and a linear model, both fit to the training part.

    The constant model predicts the frequency of each class, or the mean. The
    linear one is scikit-learn's `LogisticRegression` or `Ridge` on
    standardized features; images and sequences are flattened.

    Args:
        data: From `kerascomp.datasets`.

    Returns:
        Two baselines, the constant one first.

    Examples:
        >>> from kerascomp import datasets
        >>> data = datasets.from_arrays(np.eye(20), [0, 1, 1, 1] * 5)
        >>> constant, linear = baselines(data)
        >>> constant.name, constant.validation["accuracy"]
        ('majority class', 0.75)
    """
    return [_constant(data), _linear(data)]


def _constant(data: Dataset) -> Baseline:
    if data.task == "regression":
        name, output = "mean", data.train.y.mean(dtype="float64")
    else:
        name = "majority class"
        output = np.bincount(data.train.y, minlength=len(data.class_names))
        output = output / len(data.train)

    def repeated(part: Part) -> np.ndarray:
        return np.broadcast_to(output, (len(part), *output.shape))

    return _scored(name, data, repeated)


def _linear(data: Dataset) -> Baseline:
    from sklearn import exceptions

    rows, notes = _training_rows(data)
    x = _flat(data.train.x[rows])
    iterations = int(np.clip(_MAX_VALUES_READ / x.size, 20, 1000))
    name, model = _linear_model(data.task, iterations)
    # Warnings become notes: a study prints a table, not a log.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, data.train.y[rows])
        predict = getattr(model, "predict_proba", model.predict)
        result = _scored(name, data, lambda part: predict(_flat(part.x)))
    categories = [warning.category for warning in caught]
    if exceptions.ConvergenceWarning in categories:
        notes.append(
            f"Stopped after {iterations} iterations, before it converged."
        )
    return dataclasses.replace(result, notes=tuple(notes))


def _linear_model(task: str, iterations: int) -> tuple[str, Any]:
    from sklearn import linear_model, pipeline, preprocessing

    if task == "regression":
        name, model = "ridge regression", linear_model.Ridge()
    else:
        name = "logistic regression"
        model = linear_model.LogisticRegression(max_iter=iterations)
    scaler = preprocessing.StandardScaler()
    return name, pipeline.make_pipeline(scaler, model)


def _training_rows(data: Dataset) -> tuple[np.ndarray, list[str]]:
    num_samples = len(data.train)
    if num_samples <= MAX_SAMPLES:
        return np.arange(num_samples), []
    rows = np.random.RandomState(0).permutation(num_samples)[:MAX_SAMPLES]
    # Without one of each class the probabilities would lack columns.
    _, firsts = np.unique(data.train.y, return_index=True)
    if data.task == "classification":
        rows = np.union1d(rows, firsts)
    note = f"Fit to {len(rows):,} of {num_samples:,} training samples."
    return rows, [note]


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def _scored(
    name: str, data: Dataset, predict: Callable[[Part], np.ndarray]
) -> Baseline:
    score = (
        _regression_scores
        if data.task == "regression"
        else _classification_scores
    )
    validation, test = (
        score(part.y, predict(part)) for part in (data.validation, data.test)
    )
    return Baseline(name, validation, test)


def _classification_scores(
    y: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    predicted = probabilities.argmax(axis=-1)
    true = np.take_along_axis(probabilities, y[:, None], axis=-1)
    # As in scikit-learn: a certain mistake costs much, but not infinity.
    true = np.maximum(true, np.finfo("float64").eps)
    recalls = [
        np.mean(predicted[y == label] == label) for label in np.unique(y)
    ]
    return {
        "accuracy": float(np.mean(predicted == y)),
        "loss": float(-np.mean(np.log(true))),
        "balanced_accuracy": float(np.mean(recalls)),
    }


def _regression_scores(
    y: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    errors = predicted - y.astype("float64")
    loss, variance = np.mean(errors**2), np.var(y, dtype="float64")
    return {
        "loss": float(loss),
        "mae": float(np.mean(np.abs(errors))),
        # Undefined for equal targets; scikit-learn says 0 as well.
        "r2": float(1 - loss / variance) if variance else 0.0,
    }
