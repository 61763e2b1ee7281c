"""Learning rates that are numbers or schedules."""

from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp.schedules import _shapes

ops = keras.ops

Schedule = keras.optimizers.schedules.LearningRateSchedule


def check(name: str, rate: Any) -> None:
    """Raises unless a learning rate is a schedule or a number above 0."""
    if not isinstance(rate, Schedule):
        _validation.in_interval(name, rate, "(0, inf)")


def at(rate: Any, step: Any) -> Any:
    """Returns the learning rate at each of the steps, float32."""
    if isinstance(rate, Schedule):
        return ops.cast(rate(step), "float32")
    return rate * ops.ones_like(_shapes.since(step))


def serialized(rate: Any) -> Any:
    """Returns what stands for a learning rate in a configuration."""
    if isinstance(rate, Schedule):
        return keras.saving.serialize_keras_object(rate)
    return rate


def deserialized(rate: Any) -> Any:
    """Undoes `serialized`."""
    if isinstance(rate, dict):
        return keras.saving.deserialize_keras_object(rate)
    return rate


def values(schedule: Any, steps: Any) -> np.ndarray:
    """Returns the rates at many steps, `(steps,)`, float32.

    In one call where the schedule takes many steps at once, which those of
    Keras need not.
    """
    steps = np.asarray(steps, "int64")
    rates = _together(schedule, steps)
    if rates is None:
        rates = np.array([_one(schedule, step) for step in steps], "float32")
    return rates


def _together(schedule: Any, steps: np.ndarray) -> np.ndarray | None:
    if len(steps) < 3:
        return None
    try:
        rates = _numpy(schedule(ops.convert_to_tensor(steps, "int32")))
    except Exception:  # Each backend refuses a branch in its own way.
        return None
    ends = [0, -1]
    same = rates.shape == steps.shape and np.array_equal(
        rates[ends], [_one(schedule, step) for step in steps[ends]]
    )
    return rates if same else None


def _one(schedule: Any, step: Any) -> np.ndarray:
    return _numpy(schedule(int(step)))


def _numpy(rates: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(rates), "float32")
