"""What is written down about the lanes of a population."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from kerascomp.population import _program


class Histories(list):
    """The history of each lane: a dictionary of lists, one entry an epoch.

    The history of a lane ends with the epoch in which it stopped.

    Attributes:
        diverged: For each lane, the step (counted from 0, within `fit`) whose
            loss or weights were not finite; None for lanes that stayed sound.
        seconds: For each lane and epoch, its share of the time that the
            training steps of its program took.
        callbacks: For each lane, its copies of the callbacks of `fit`.
        notes: What happened that a user should know, such as programs that
            were cut into parts for want of memory.
    """

    def __init__(self, lanes: int):
        super().__init__({} for _ in range(lanes))
        self.diverged: list[int | None] = [None] * lanes
        self.seconds: list[list[float]] = [[] for _ in range(lanes)]
        self.callbacks: list[list] = [[] for _ in range(lanes)]
        self.notes: list[str] = []

    def record(self, lane: int, logs: dict[str, float]) -> None:
        """Adds the metrics of an epoch."""
        for name, value in logs.items():
            self[lane].setdefault(name, []).append(value)

    def note_ends(self, lanes: Iterable[int], broken: Any) -> None:
        """Notes the steps at which lanes diverged."""
        for lane, step in zip(lanes, broken, strict=True):
            if step != _program.NOT_BROKEN and self.diverged[lane] is None:
                self.diverged[lane] = int(step)

    def summary(self, lanes: Iterable[int]) -> str:
        """Returns the losses of the last epoch in one line."""
        own = [self[lane] for lane in lanes]
        parts = []
        for name in ("loss", "val_loss"):
            last = [history[name][-1] for history in own if name in history]
            if np.isfinite(last).any():
                low, middle = np.nanmin(last), np.nanmedian(last)
                parts.append(f"{name} best {low:.4g}, median {middle:.4g}")
        return " - ".join(parts)
