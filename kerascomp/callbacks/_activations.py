"""Callbacks that observe what the layers put out."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _capture, _epochs

ops = keras.ops
tree = keras.tree

# By name: what is exactly 0 over half its inputs, and what levels off where.
_RECTIFIERS = ("relu", "relu6")
_ASYMPTOTES = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
}


@component(since="0.1")
class ActivationMonitor(_epochs.EpochMonitor):
    """Finds dead and saturated units, on a fixed probe batch.

    Use it where a network learns slowly or not at all: a unit that is dead or
    saturated for every sample has a gradient of 0 and does not come back. The
    probe runs through a forward pass of its own (compiled, but on torch), in
    inference mode
    (no dropout, moving statistics in batch normalization); the weights and
    the training are left alone.

    A rectified unit (`relu`, `relu6`, the layer `ReLU` without a negative
    slope) is dead if it is 0 for the whole probe batch. A unit is an entry
    along the last axis of the layer's output, the features or channels, and
    is dead where it is at all positions and time steps; along the axis of the
    channels with `channels_first`. A sigmoid or tanh is saturated where its
    output is within `saturation_distance` of an asymptote, 0 or 1, and -1 or
    1. A layer is judged by its attribute `activation` or by being an
    activation itself, so that a layer of your own is judged if it has one. Of
    an LSTM and a GRU, whose outputs are no activation's, only the statistics
    are recorded.

    Each epoch's logs get `dead_fraction`, the share of dead units among all
    rectified ones, and `saturated_fraction`, the share of saturated outputs
    among those of all sigmoids and tanhs; each if there are any, and NaN in
    epochs without a measurement.

    All models are observed, subclassed ones too. Seen are the outputs of
    layers, at any depth, and of operations in functional models; what a layer
    computes within is not, nor are the layers within `TimeDistributed` and
    recurrent layers.

    Args:
        probe_data: Inputs of the model, `(samples, ...)`, nested as `fit`
            takes them. A few hundred samples: of few samples, many units are
            0 by chance.
        every: Measure every how many epochs, at least 1, beginning with the
            first.
        batch_size: Samples in one pass, at least 1. None for all at once.
        saturation_distance: In (0, 0.5). At 0.01, the derivative of a sigmoid
            is 4 % of its largest, and that of a tanh 2 %.
        near_zero: Outputs of a smaller absolute value are near zero, above 0.
        log_dir: As in `GradientNormMonitor`.

    Attributes:
        history: The record of the current or last `fit`: `history["epoch"]`,
            the epochs measured; `history["dead_fraction"]` and
            `history["saturated_fraction"]`, as in the logs; and by path of
            layer, `history["dead"]`, the share of dead units,
            `history["saturated"]` and `history["near_zero"]`, the share of
            such outputs, `history["mean"]` and `history["variance"]` of all
            outputs. All are NumPy arrays.
        dead_units: From the path of each rectified layer to the units, a
            Boolean array, True where one was dead when last measured.

    Saved state:
        None. After training, the model is what it was.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if the model cannot be called on the probe data,
            or puts out no floating point numbers.

    Examples:
        >>> inputs = keras.Input((1,))
        >>> dense = keras.layers.Dense(4, "relu", name="hidden")
        >>> model = keras.Model(inputs, dense(inputs))
        >>> model.compile(keras.optimizers.SGD(0.0), "mse")
        >>> dense.set_weights(
        ...     [np.array([[1, 1, -1, 0]]), np.array([0, 1, 0, 0])]
        ... )
        >>> x = np.array([[1.0], [2.0]])
        >>> monitor = ActivationMonitor(x)
        >>> log = model.fit(x, np.ones((2, 4)), callbacks=[monitor], verbose=0)
        >>> monitor.dead_units["hidden"].tolist()  # relu of x, x + 1, -x and 0
        [False, False, True, True]
        >>> log.history["dead_fraction"]
        [0.5]
        >>> monitor.history["mean"]["hidden"].tolist()  # (3 + 5) / 8
        [1.0]

    Reference:
        Glorot and Bengio, 2010, [Understanding the difficulty of training deep
        feedforward neural networks](https://proceedings.mlr.press/v9/glorot10a.html),
        on saturation.
    """

    supervised = False
    logged = ("dead_fraction", "saturated_fraction")
    plotted = "near_zero"
    quantity = "share of outputs near zero"
    log_scale = False

    def __init__(
        self,
        probe_data: Any,
        every: int = 1,
        batch_size: int | None = None,
        saturation_distance: float = 0.01,
        near_zero: float = 1e-3,
        log_dir: str | os.PathLike | None = None,
    ):
        super().__init__(probe_data, every, log_dir)
        if batch_size is not None:
            _validation.at_least("batch_size", batch_size, 1)
        _validation.in_interval(
            "saturation_distance", saturation_distance, "(0, 0.5)"
        )
        _validation.in_interval("near_zero", near_zero, "(0, inf)")
        self.batch_size = batch_size
        self.saturation_distance = saturation_distance
        self.near_zero = near_zero
        self.dead_units: dict[str, np.ndarray] = {}

    def _first_inputs(self) -> Any:
        return next(self._batches())

    def _start(self, model: Any) -> None:
        self.dead_units = {}
        self._order: list[str] = []
        self._program = _capture.backend_file().compiled(self._statistics)
        self._program(self._pure.values(), self._first_inputs())
        if not self._order:
            raise ValueError(
                "ActivationMonitor found no layer whose outputs are floating "
                f"point numbers. Received: model={model!r}"
            )

    def _measure(self, model: Any) -> dict[str, Any]:
        found = self._run()
        self.dead_units = {
            path: ~statistics["active"]
            for path, statistics in found.items()
            if "active" in statistics
        }
        row: dict[str, Any] = {}
        if self.dead_units:
            units = np.concatenate([*self.dead_units.values()])
            row["dead_fraction"] = float(units.mean())
            row["dead"] = {
                p: float(u.mean()) for p, u in self.dead_units.items()
            }
        saturated = {p: s for p, s in found.items() if "saturated" in s}
        if saturated:
            row["saturated_fraction"] = float(
                sum(s["saturated"] * s["size"] for s in saturated.values())
                / sum(s["size"] for s in saturated.values())
            )
            row["saturated"] = {
                p: float(s["saturated"]) for p, s in saturated.items()
            }
        for name in ("near_zero", "mean", "variance"):
            row[name] = {p: float(s[name]) for p, s in found.items()}
        return row

    def _run(self) -> dict[str, dict[str, Any]]:
        """Returns the statistics of every layer, over the whole probe."""
        values = self._pure.values()
        total: dict[str, dict[str, Any]] = {}
        for x in self._batches():
            found = tree.map_structure(
                ops.convert_to_numpy, self._program(values, x)
            )
            for path, new in found.items():
                old = total.get(path)
                total[path] = new if old is None else _merged(old, new)
        # Compiled programs return dictionaries sorted.
        return {path: total[path] for path in self._order}

    def _batches(self) -> Iterator[Any]:
        x = self._batch.x
        samples = tree.flatten(x)[0].shape[0]
        size = self.batch_size or samples
        for start in range(0, samples, size):
            part = slice(start, start + size)
            yield tree.map_structure(lambda a, part=part: a[part], x)

    def _statistics(self, values: Any, x: Any) -> dict[str, dict[str, Any]]:
        """What is compiled."""
        found: dict[str, dict[str, Any]] = {}

        def hook(name: str, layer: Any, tensors: Any, place: str) -> Any:
            inner = isinstance(layer, keras.Model)
            if place == "output" and not inner:
                outputs = [t for t in tree.flatten(tensors) if _has_units(t)]
                for number, output in enumerate(outputs):
                    path = name if len(outputs) == 1 else f"{name}:{number}"
                    found[path] = self._of_layer(layer, output)
            return tensors

        self._pure.outputs(values, x, hook=hook)
        self._order = list(found)
        return found

    def _of_layer(self, layer: Any, outputs: Any) -> dict[str, Any]:
        outputs = ops.cast(outputs, "float32")
        activation = activation_of(layer)
        size = ops.cast(ops.size(outputs), "float32")
        statistics = {
            "size": size,
            "mean": ops.mean(outputs),
            "variance": ops.var(outputs),
            "near_zero": _share(ops.abs(outputs) < self.near_zero),
        }
        if activation in _RECTIFIERS:
            unit = _unit_axis(layer, len(outputs.shape))
            others = [a for a in range(len(outputs.shape)) if a != unit]
            statistics["active"] = ops.any(outputs != 0, axis=others)
        if activation in _ASYMPTOTES:
            low, high = _ASYMPTOTES[activation]
            distance = self.saturation_distance
            saturated = (outputs <= low + distance) | (
                outputs >= high - distance
            )
            statistics["saturated"] = _share(saturated)
        return statistics


def activation_of(layer: Any) -> str | None:
    """Returns the name of the activation that a layer's outputs come from."""
    if isinstance(layer, keras.layers.LSTM | keras.layers.GRU):
        return None
    if isinstance(layer, keras.layers.ReLU):
        rectifies = layer.negative_slope == 0 and layer.threshold >= 0
        return "relu" if rectifies else None
    activation = getattr(layer, "activation", None)
    if activation is None:
        # An operation of a functional model, such as `keras.ops.relu`.
        is_layer = isinstance(layer, keras.layers.Layer)
        return None if is_layer else type(layer).__name__.lower()
    return getattr(activation, "__name__", None)


def _has_units(tensor: Any) -> bool:
    return _capture.is_float(tensor) and len(tensor.shape) > 1


def _unit_axis(layer: Any, rank: int) -> int:
    order = getattr(layer, "data_format", None)
    if order is None and rank > 3:
        order = keras.config.image_data_format()
    return 1 if order == "channels_first" else rank - 1


def _share(condition: Any) -> Any:
    return ops.mean(ops.cast(condition, "float32"))


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Combines the statistics of two batches (Chan et al., 1979)."""
    size = one["size"] + other["size"]
    weight = other["size"] / size
    step = other["mean"] - one["mean"]
    spread = weight * (1 - weight) * step**2
    merged = {
        name: one[name] + weight * (other[name] - one[name])
        for name in one
        if name not in ("size", "active")
    }
    merged["variance"] = merged["variance"] + spread
    merged["size"] = size
    if "active" in one:
        merged["active"] = one["active"] | other["active"]
    return merged
