"""What the monitors that read the optimizer share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp.callbacks import _probe, _record

# How often an epoch is measured, about, by a monitor that was not told.
_TIMES_AN_EPOCH = 20
# How many steps a norm of the weights stands for, in a monitor that needs it at
# every step. It changes slowly, and to read all weights is as costly as to read
# the gradients.
WEIGHTS_EVERY = 10


class ProbeRecorder(_record.Recorder):
    """A recorder of what the gradient probe measures.

    A monitor says in `quantities` what it wants, keeps in `_receive` what it
    needs, and sets its state up in `_start_record`.

    Args:
        every: Measure every how many steps. None for about 20 times an epoch.
        log_dir: As in `Recorder`.
    """

    def __init__(self, every: int | None = 1, log_dir: Any = None):
        super().__init__(log_dir)
        if every is not None:
            _validation.at_least("every", every, 1)
        self.every = every
        self._subscription: _probe.Subscription | None = None
        self._start_record()

    def quantities(self, optimizer: Any) -> tuple[str, ...]:
        """Returns what is to be measured, of `_probe.QUANTITIES`."""
        raise NotImplementedError

    def rarely(self, every: int) -> dict[str, int]:
        """Returns what is wanted less often, as `_probe.Request`."""
        return {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.detach()
        super().on_train_begin(logs)
        self._start_record()
        # `self.model` would write the state of JAX back at every use.
        optimizer = getattr(self._model, "optimizer", None)
        wanted = () if optimizer is None else self.quantities(optimizer)
        every = self._period(optimizer)
        request = _probe.Request(
            self._receive_first, wanted, every, self.rarely(every)
        )
        self._subscription = _probe.subscribe(self._model, self.params, request)

    def _period(self, optimizer: Any) -> int:
        if self.every is not None:
            return self.every
        steps = (self.params or {}).get("steps") or 0  # Data may not know.
        period = max(steps // _TIMES_AN_EPOCH, 1)
        if period > WEIGHTS_EVERY:
            # Or monitors that need the weights would each read them anew.
            period = round(period / WEIGHTS_EVERY) * WEIGHTS_EVERY
        # Or all that is measured might be steps that accumulate.
        accumulates = _compat.accumulation_steps(optimizer) if optimizer else 1
        while math.gcd(period, accumulates) > 1:
            period += 1
        return period

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        if self._subscription is not None:
            self._subscription.before_execution()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._subscription is not None:
            self._collect()
            figures = self._epoch_figures()
            self._epoch_start = self._rows
            if logs is not None:
                logs.update(figures)
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        self.detach()
        super().on_train_end(logs)

    def detach(self) -> None:
        """Stops recording and gives the model back as it was.

        Needed only after an interrupted `fit`, and only to get rid of the
        monitor before the next one.
        """
        if self._subscription is not None:
            self._subscription.close()  # Delivers what is left.
            self._subscription = None

    def _start_record(self) -> None:
        self._names: tuple[str, ...] = ()
        self._ranks: tuple[int, ...] = ()
        self._rows = 0  # How many steps were recorded,
        self._epoch_start = 0  # and how many before this epoch.
        # Lists of arrays by name: a population keeps what is plain.
        self._blocks: dict[str, list[np.ndarray]] = {}

    def _receive_first(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        if self._subscription and not self._names:
            self._names = self._subscription.names
            self._ranks = self._subscription.ranks
            self._begin_record()
        self._rows += len(steps)
        self._receive(steps, values)

    def _begin_record(self) -> None:
        """Is called once the names of the variables are known."""

    def _receive(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        """Takes measurements, as `_probe.Receive`."""
        raise NotImplementedError

    def _epoch_figures(self) -> dict[str, float]:
        """Returns what the epoch's logs get."""
        raise NotImplementedError

    def _collect(self) -> None:
        if self._subscription is not None:
            self._subscription.collect()

    def _keep(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self._blocks.setdefault(name, []).append(array)

    def _kept(self, name: str, width: int | None = None) -> np.ndarray:
        """Returns all that was kept under a name, one row a step."""
        blocks = self._blocks.get(name, [])
        if len(blocks) > 1:
            blocks[:] = [np.concatenate(blocks)]
        shape = (0,) if width is None else (0, width)
        empty = np.zeros(shape, "int64" if name == "step" else "float32")
        return blocks[0] if blocks else empty

    def _of_epoch(self, name: str) -> np.ndarray:
        return self._kept(name)[self._epoch_start :]


def total(norms: np.ndarray) -> np.ndarray:
    """Combines the norms of parts; those without a gradient add nothing.

    In float64: the square of a float32 norm may overflow float32.
    """
    present = norms != _probe.NO_GRADIENT
    squares = np.square(norms, dtype="float64")
    found = np.sqrt(np.sum(squares, axis=1, where=present))
    return np.where(present.any(axis=1), found, np.nan)


def by_layer(names: Iterable[str]) -> dict[str, list[int]]:
    """Returns the places of each layer's variables.

    Its path is that of a variable up to its own name.
    """
    groups: dict[str, list[int]] = {}
    for place, path in enumerate(names):
        layer = path.rpartition("/")[0] or path
        groups.setdefault(layer, []).append(place)
    return groups


def totals(
    norms: np.ndarray, groups: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """Combines the norms, `(steps, variables)`, of each group."""
    return {name: total(norms[:, own]) for name, own in groups.items()}


def finite_mean(values: np.ndarray) -> float:
    """Returns the mean of what is finite, NaN if nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
