"""The search space: from plain Python values to KerasTuner's."""

from collections.abc import Mapping
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine import hyperparameters as kt

from kerascomp import _validation
from kerascomp.studies._errors import StudyError

# The hyperparameters that a study itself gives a meaning, and their ranges.
LIMITS = {
    "batch_size": "[1, inf)",
    "learning_rate": "(0, inf)",
    "dropout": "[0, 1)",
    "weight_decay": "[0, inf)",
    "warmup_fraction": "[0, 1)",
    "label_smoothing": "[0, 1)",
}
GRID_POINTS = 5  # Of a range, in a grid search.


def default_space(num_train: int) -> dict[str, Any]:
    """Returns a space over batch size, learning rate and dropout.

    Args:
        num_train: Number of training samples. Batch sizes that make fewer
            than four updates an epoch are left out.
    """
    sizes = [size for size in (16, 32, 64, 128, 256) if 4 * size <= num_train]
    return {
        "batch_size": sizes or [max(num_train // 4, 1)],
        "learning_rate": (1e-4, 1e-1, "log"),
        "dropout": (0.0, 0.6),
    }


def make_space(
    space: Mapping[str, Any], num_train: int, grid: bool
) -> keras_tuner.HyperParameters:
    """Returns a checked search space.

    Args:
        space: Name -> values. A list gives choices; a tuple `(low, high)` or
            `(low, high, "log")` a range, of integers if both ends are; a
            `range` integers; one value is fixed; a KerasTuner hyperparameter
            stands for itself.
        num_train: Number of training samples, the largest batch size allowed.
        grid: Whether ranges become `GRID_POINTS` evenly spaced choices.

    Raises:
        StudyError: If an entry is malformed or out of its range.
    """
    hyperparameters = keras_tuner.HyperParameters()
    for name, values in space.items():
        parameter = _parameter(name, values)
        _check(parameter, num_train)
        if grid:
            parameter = _as_choices(parameter)
        hyperparameters.merge([parameter])
    return hyperparameters


def describe(hyperparameters: keras_tuner.HyperParameters) -> dict[str, Any]:
    """Returns a space as plain data, for `study.json`."""
    return {p.name: kt.serialize(p) for p in hyperparameters.space}


def grid_size(hyperparameters: keras_tuner.HyperParameters) -> int:
    """Returns the number of points of a space without ranges."""
    return int(np.prod([len(list(p.values)) for p in hyperparameters.space]))


def _parameter(name: str, values: Any) -> kt.HyperParameter:
    if isinstance(values, kt.HyperParameter):
        if values.name != name:
            raise StudyError(
                f"The space's key must be the hyperparameter's name. "
                f"Received: {name!r} for {values!r}"
            )
        return values
    if isinstance(values, range):
        return kt.Int(name, values.start, values[-1], step=values.step)
    if isinstance(values, tuple):
        return _range(name, values)
    if isinstance(values, list | np.ndarray):
        choices = np.asarray(values).tolist()
        if not choices or len(set(choices)) < len(choices):
            raise StudyError(
                f"The choices of {name!r} must be distinct and not empty. "
                f"Received: {values!r}"
            )
        return kt.Choice(name, choices)
    if isinstance(values, bool | int | float | str):
        return kt.Fixed(name, values)
    raise StudyError(
        f"The space of {name!r} must be a list of choices, a tuple (low, high) "
        'or (low, high, "log"), a range, one value, or a KerasTuner '
        f"hyperparameter. Received: {values!r}"
    )


def _range(name: str, values: tuple) -> kt.HyperParameter:
    low, high, *rest = (*values, None, None)[: max(len(values), 2)]
    sampling = rest[0] if rest else "linear"
    numeric = all(
        isinstance(v, int | float) and not isinstance(v, bool)
        for v in (low, high)
    )
    if (
        len(values) not in (2, 3)
        or not numeric
        or sampling not in ("linear", "log")
        or not low < high
        or (sampling == "log" and low <= 0)
    ):
        raise StudyError(
            f"The range of {name!r} must be (low, high) or (low, high, "
            '"log") with low < high, and low above 0 for "log". '
            f"Received: {values!r}"
        )
    kind = (
        kt.Int if isinstance(low, int) and isinstance(high, int) else kt.Float
    )
    return kind(name, low, high, sampling=sampling)


def _check(parameter: kt.HyperParameter, num_train: int) -> None:
    """Checks every value that a known hyperparameter can take."""
    if parameter.name not in LIMITS:
        return
    for value in _extremes(parameter):
        try:
            _validation.in_interval(
                parameter.name, value, LIMITS[parameter.name]
            )
            if parameter.name == "batch_size":
                _validation.at_least("batch_size", value, 1)
        except (TypeError, ValueError) as error:
            raise StudyError(f"In the search space: {error}") from error
        if parameter.name == "batch_size" and value > num_train:
            raise StudyError(
                "A batch must not be larger than the training part. Received: "
                f"batch_size={value} with {num_train} training samples"
            )


def _extremes(parameter: kt.HyperParameter) -> list:
    if isinstance(parameter, kt.Choice):
        return list(parameter.values)
    if isinstance(parameter, kt.Fixed):
        return [parameter.value]
    if isinstance(parameter, kt.Boolean):
        return [False, True]
    return [parameter.min_value, parameter.max_value]


def _as_choices(parameter: kt.HyperParameter) -> kt.HyperParameter:
    # KerasTuner's own grid of a range holds the default twice in the case of
    # logarithmic sampling, which rounding hides from it.
    if isinstance(parameter, kt.Float | kt.Int) and parameter.step is None:
        spaced = np.geomspace if parameter.sampling == "log" else np.linspace
        points = spaced(parameter.min_value, parameter.max_value, GRID_POINTS)
        if isinstance(parameter, kt.Int):
            points = np.unique(np.rint(points).astype(int))
        return kt.Choice(parameter.name, points.tolist())
    return parameter
