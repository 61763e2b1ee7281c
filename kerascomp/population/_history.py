"""What is written down about the lanes of a population."""

from collections.abc import Iterable, Sequence

import numpy as np

from kerascomp.population import _program


class Histories(list):
    """The history of each lane: a dictionary of lists, one entry an epoch.

    Attributes:
        diverged: For each lane, the step (counted from 0, within `fit`) whose
            loss or weights were not finite; None for lanes that stayed sound.
    """

    def __init__(self, lanes: int):
        super().__init__({} for _ in range(lanes))
        self.diverged: list[int | None] = [None] * lanes

    def record(
        self,
        lanes: Iterable[int],
        logs: Sequence[dict[str, float]],
        broken: np.ndarray,
        prefix: str = "",
    ) -> None:
        """Adds the metrics of an epoch.

        A lane that diverged keeps its last finite weights, whose metrics
        would hide what happened: they are recorded as NaN.
        """
        for lane, own, step in zip(lanes, logs, broken, strict=True):
            sound = step == _program.NOT_BROKEN
            if not sound and self.diverged[lane] is None:
                self.diverged[lane] = int(step)
            for name, value in own.items():
                history = self[lane].setdefault(prefix + name, [])
                history.append(value if sound else float("nan"))
