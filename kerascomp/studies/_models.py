"""The built-in models of a study, chosen by the shape of the data.

Each function takes a data set and returns a `build(hp)` for KerasTuner. All
three normalize inside the model, with statistics of the training part, so that
a saved model takes raw inputs; regression outputs are in the target's unit.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerascomp import layers, losses
from kerascomp.datasets import Dataset
from kerascomp.studies._errors import StudyError

Build = Callable[[Any], keras.Model]


def mlp(data: Dataset, units: int = 128) -> Build:
    """Two dense hidden layers with dropout, for any shape of data."""

    def hidden(x: Any, dropout: float) -> Any:
        x = keras.layers.Flatten()(x)
        for _ in range(2):
            x = keras.layers.Dense(
                units, activation="relu", kernel_initializer="he_normal"
            )(x)
            x = keras.layers.Dropout(dropout)(x)
        return x

    return _builder(data, hidden)


def cnn(data: Dataset, filters: int = 32) -> Build:
    """A small residual network for images `(height, width, channels)`."""
    _require_rank(data, "cnn", 3, "(height, width, channels)")

    def hidden(x: Any, dropout: float) -> Any:
        x = _convolution(filters)(x)
        for width in (filters, 2 * filters):
            branch = _convolution(width)(x)
            branch = _convolution(width, activation=None)(branch)
            shortcut = keras.layers.Conv2D(width, 1)(x)
            x = shortcut + layers.DropPath(dropout / 2)(branch)
            x = keras.layers.ReLU()(x)
            x = keras.layers.MaxPooling2D(padding="same")(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.layers.Dropout(dropout)(x)

    return _builder(data, hidden)


def gru(data: Dataset, units: int = 64) -> Build:
    """One recurrent layer for series `(time, features)`."""
    _require_rank(data, "gru", 2, "(time, features)")

    def hidden(x: Any, dropout: float) -> Any:
        x = keras.layers.GRU(units)(x)
        return keras.layers.Dropout(dropout)(x)

    return _builder(data, hidden)


BUILT_IN = {"mlp": mlp, "cnn": cnn, "gru": gru}


def suited_to(data: Dataset) -> str:
    """Returns the name of the built-in model that suits the data's shape."""
    return {2: "gru", 3: "cnn"}.get(len(data.input_shape), "mlp")


def _builder(data: Dataset, hidden: Callable[[Any, float], Any]) -> Build:
    mean, variance = _moments(data.train.x)

    def build(hp: Any) -> keras.Model:
        inputs = keras.Input(data.input_shape)
        x = keras.layers.Normalization(mean=mean, variance=variance)(inputs)
        x = hidden(x, _value(hp, "dropout", 0.0))
        model = keras.Model(inputs, _head(data)(x))
        model.compile(
            optimizer=_optimizer(hp),
            loss=_loss(data, _value(hp, "label_smoothing", 0.0)),
            metrics=["accuracy"] if data.num_classes else ["mae"],
        )
        return model

    return build


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each feature, or channel, of the training part."""
    axes = tuple(range(x.ndim - 1))
    return x.mean(axes, dtype="float64"), x.var(axes, dtype="float64")


def _head(data: Dataset) -> Callable[[Any], Any]:
    if data.num_classes:
        return keras.layers.Dense(data.num_classes, activation="softmax")
    # The network learns the standardized target; predictions are raw.
    y = data.train.y
    return keras.Sequential(
        [
            keras.layers.Dense(1),
            keras.layers.Rescaling(float(y.std()) or 1.0, float(y.mean())),
        ]
    )


def _loss(data: Dataset, label_smoothing: float) -> keras.losses.Loss:
    if not data.num_classes:
        return keras.losses.MeanSquaredError()
    return losses.SmoothedSparseCategoricalCrossentropy(label_smoothing)


def _optimizer(hp: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(
        learning_rate=_value(hp, "learning_rate", 1e-3),
        weight_decay=_value(hp, "weight_decay", 0.0),
    )


def _value(hp: Any, name: str, default: float) -> float:
    """A hyperparameter's value, or the default if it is not in the space."""
    return hp.values.get(name, default)


def _convolution(width: int, activation: str | None = "relu") -> Any:
    return keras.layers.Conv2D(
        width,
        3,
        padding="same",
        activation=activation,
        kernel_initializer="he_normal",
    )


def _require_rank(data: Dataset, name: str, rank: int, shape: str) -> None:
    if len(data.input_shape) != rank:
        raise StudyError(
            f"The model {name!r} takes samples of shape {shape}. "
            f"Received: {data.name!r} with shape {data.input_shape}. "
            "Use the model 'mlp' for any shape."
        )
