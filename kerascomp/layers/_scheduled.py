"""Numbers of layers that may change while a model trains."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras

Schedule = keras.optimizers.schedules.LearningRateSchedule


def read(name: str, value: Any, interval: str) -> Any:
    """Returns a number or schedule that a layer was constructed with.

    Raises:
        ValueError: If a number lies outside the interval.
    """
    if isinstance(value, dict):  # As a saved model has it.
        value = keras.saving.deserialize_keras_object(value)
    if not isinstance(value, Schedule):
        _validation.in_interval(name, value, interval)
    return value


def config(value: Any) -> Any:
    """Returns what `read` takes, as JSON holds it."""
    if isinstance(value, Schedule):
        return keras.saving.serialize_keras_object(value)
    return value


def count_steps(layer: Any) -> Any:
    """Gives a layer the variable that counts its calls in training."""
    return layer.add_weight(
        name="steps",
        shape=(),
        dtype="int32",
        initializer="zeros",
        trainable=False,
    )


def at(value: Any, steps: Any) -> Any:
    """Returns the number of now."""
    return value(steps) if isinstance(value, Schedule) else value
