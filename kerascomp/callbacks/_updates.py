"""A callback that observes how much each step changes the weights."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerascomp._registry import component
from kerascomp.callbacks import _probe, _probing


@component(since="0.1")
class UpdateRatioMonitor(_probing.ProbeRecorder):
    """Records how far each step moves each layer, relative to its weights.

    The ratio is ``||w_after - w_before|| / ||w_before||``, with L2 norms over
    all variables of a layer: what the optimizer did, momentum, adaptive rates,
    clipping, weight decay and constraints included. Around 1e-3 is healthy as
    a rule of thumb; far above, the learning rate is too high, and far below,
    the layer hardly learns. Each epoch's logs get `update_ratio`, the mean over
    its recorded steps of the ratio of the whole model, and
    `update_ratio_max`, the largest of a single layer.

    A step that moves nothing, because it accumulates a gradient or is skipped
    under loss scaling, has the ratio 0 and is left out of the mean. For a layer
    whose weights are all 0, the ratio is NaN. With plain SGD it equals the
    learning rate times the gradient's norm over that of the weights.

    Args:
        every: Measure every how many steps, at least 1. At the others nothing
            is computed. To measure takes reading the weights twice and a copy
            of them. None for about 20 times an epoch: at every step where the
            data do not tell how many there are, or it has fewer than 40.
        log_dir: As in `kerascomp.callbacks.GradientNormMonitor`.

    Attributes:
        history: The record of the current or last `fit`: `history["step"]`,
            which steps were recorded, counted from 0;
            `history["update_ratio"]`, the ratio of all weights together; and
            `history["layers"]`, a dictionary from the path of each layer to
            its ratios. All are NumPy arrays.

    Saved state:
        None. After training, the model and its optimizer are what they were.

    Raises:
        ImportError: As in `kerascomp.callbacks.GradientNormMonitor`.
        ValueError: At construction, if `every` is not a positive integer; at
            the start of `fit`, as in `kerascomp.callbacks.GradientNormMonitor`.

    Examples:
        >>> dense = keras.layers.Dense(
        ...     1, kernel_initializer="ones", use_bias=False
        ... )
        >>> inputs = keras.Input((2,))
        >>> model = keras.Model(inputs, dense(inputs))
        >>> model.compile(keras.optimizers.SGD(0.01), "mse")
        >>> monitor = UpdateRatioMonitor()
        >>> x, y = np.array([[3.0, 4.0]]), np.array([[2.0]])
        >>> log = model.fit(x, y, callbacks=[monitor], verbose=0)
        >>> # The gradient is 2 (7 - 2) x, of norm 50: 0.01 * 50 / sqrt(2).
        >>> round(log.history["update_ratio"][0], 4)
        0.3536
    """

    plotted = "layers"
    quantity = "update / weight"

    def __init__(
        self, every: int | None = None, log_dir: str | os.PathLike | None = None
    ):
        super().__init__(every, log_dir)

    def quantities(self, optimizer: Any) -> tuple[str, ...]:
        return _probe.WEIGHT, _probe.UPDATE

    @property
    def history(self) -> dict:
        """The record, as the class describes it."""
        self._collect()
        layers = list(_probing.by_layer(self._names))
        table = self._kept("layers", len(layers))
        return {
            "step": self._kept("step"),
            "update_ratio": self._kept("update_ratio"),
            "layers": dict(zip(layers, table.T, strict=True)),
        }

    def _receive(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        updates, weights = values[_probe.UPDATE], values[_probe.WEIGHT]
        groups = _probing.by_layer(self._names)
        own = _probing.totals(updates, groups), _probing.totals(weights, groups)
        ratios = [ratio(own[0][name], own[1][name]) for name in groups]
        self._keep(
            step=steps,
            update_ratio=ratio(
                _probing.total(updates), _probing.total(weights)
            ),
            layers=np.stack(ratios, axis=1),
        )

    def _epoch_figures(self) -> dict[str, float]:
        whole = self._of_epoch("update_ratio")
        layers = self._kept("layers", len(_probing.by_layer(self._names)))
        largest = layers[self._epoch_start :]
        largest = largest[np.isfinite(largest)]
        return {
            "update_ratio": _probing.finite_mean(whole[whole != 0]),
            "update_ratio_max": float(largest.max())
            if len(largest)
            else np.nan,
        }


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides; by 0 gives NaN."""
    return np.divide(
        part, whole, out=np.full(part.shape, np.nan), where=whole != 0
    )
