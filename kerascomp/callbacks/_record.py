"""What all monitors share: their record as a table, a plot, and events."""

import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascomp import _files
from kerascomp._compat import keras
from kerascomp.callbacks import _tensorboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Recorder(keras.callbacks.Callback):
    """A callback that keeps a record.

    A monitor supplies `history`, sets `plotted` and `quantity`, and calls the
    hooks of this class from its own: `on_train_begin` first, and
    `on_epoch_end` and `on_train_end` last, when `history` is up to date.

    Args:
        log_dir: Folder for TensorBoard: every series and every path of a group
            as a scalar, and every group as a histogram over its paths, at each
            recorded step or epoch. Steps go on counting in a second `fit`.
            None writes nothing.

    Raises:
        ImportError: At construction, if `log_dir` is given and the package
            `tensorboard` is missing.
        ValueError: At the start of `fit`, if it has the same instance twice.
    """

    plotted: str = ""  # The series or group that `plot` shows if not told.
    quantity: str = ""  # What the numbers of a group are, for its plot.
    log_scale: bool = True  # Whether plots have a logarithmic axis.

    def __init__(self, log_dir: str | os.PathLike | None = None):
        super().__init__()
        if log_dir is not None:
            _tensorboard.require()
        self.log_dir = log_dir
        self._events: _tensorboard.EventFile | None = None
        self._written = 0  # Rows of `history` that are in the event file.
        self._first_event, self._next_event = 0, 0
        self._fit: Any = None  # `params` of the last fit: no other has them.

    @property
    def history(self) -> dict[str, Any]:
        """The record.

        `"step"` or `"epoch"` is an array of integers; a series is an array
        with one number for each of them; and a group is a dictionary from
        paths, of layers say, to series.
        """
        raise NotImplementedError

    def histograms(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """More histograms for TensorBoard, by tag.

        Each is a pair of edges, `(bins + 1,)`, and of counts, `(rows, bins)`,
        with the rows of `history`.
        """
        return {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.params is not None and self._fit is self.params:
            raise ValueError(
                "A `fit` takes each monitor once. Received: callbacks with "
                f"the same {type(self).__name__} twice"
            )
        self._fit = self.params
        _living.add(self)
        self._events = None
        self._written = 0
        if self.log_dir is not None:
            name = type(self).__name__
            self._events = _tensorboard.EventFile(self.log_dir, name)
            self._first_event = self._next_event

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write_events()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._write_events()

    def to_csv(self, path: str | os.PathLike) -> None:
        """Writes the record as a CSV file, whole or not at all.

        The first column is the step or epoch; a series has its name, and a
        path of a group has `group/path`. Numbers read back as they were.
        """
        columns = {**_axis(self.history), **_columns(self.history)}
        rows = zip(*(c.tolist() for c in columns.values()), strict=True)
        _files.write_csv(Path(path), list(columns), rows)

    def plot(self, name: str | None = None) -> "Figure":
        """Returns a figure of a series, or of a group.

        Up to 6 paths are lines, more are the rows of a heat map. matplotlib
        is needed. The figure is not shown; `figure.savefig("record.png")`
        writes it.

        Args:
            name: Which series or group of `history`. None means the
                monitor's main one.

        Raises:
            ValueError: If `history` has nothing of that name.
        """
        from kerascomp.callbacks import _record_plot

        history = self.history
        ((axis, x),) = _axis(history).items()
        name = self.plotted if name is None else name
        if name == axis or name not in history:
            names = [n for n in history if n != axis]
            raise ValueError(
                f"`name` must be one of {names}. Received: name={name!r}"
            )
        found = history[name]
        label = self.quantity if isinstance(found, dict) else name
        return _record_plot.draw(
            (axis, x), (label or name, found), self.log_scale
        )

    def _write_events(self) -> None:
        if self._events is not None:
            self._events.append(self._new_events())

    def _new_events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        history, histograms = self.history, self.histograms()
        ((axis, x),) = _axis(history).items()
        columns = _columns(history)
        groups = {n: g for n, g in history.items() if isinstance(g, dict)}
        first = self._first_event if axis == "step" else 0
        for row in range(self._written, len(x)):
            values: dict[str, Any] = {t: c[row] for t, c in columns.items()}
            for name, group in groups.items():
                if len(group) > 1:
                    across = [series[row] for series in group.values()]
                    values[name] = _tensorboard.histogram(across)
            for tag, (edges, counts) in histograms.items():
                values[tag] = edges, counts[row]
            self._next_event = first + int(x[row]) + 1
            yield first + int(x[row]), values
        self._written = len(x)


# For who shows what others record: Keras tells no callback of the others.
_living: "weakref.WeakSet[Recorder]" = weakref.WeakSet()


def recorders_of(fit: Any) -> list[Recorder]:
    """Returns the monitors of one `fit`, by the `params` that they share."""
    found = [each for each in _living if fit is not None and each._fit is fit]
    return sorted(found, key=lambda each: (type(each).__name__, id(each)))


def _axis(history: Mapping[str, Any]) -> dict[str, np.ndarray]:
    name = "step" if "step" in history else "epoch"
    return {name: np.asarray(history[name])}


def _columns(history: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns all series by their name, or by `group/path`."""
    columns = {}
    for name, found in history.items():
        if isinstance(found, Mapping):
            for path, series in found.items():
                columns[f"{name}/{path}"] = np.asarray(series)
        elif name not in _axis(history):
            columns[name] = np.asarray(found)
    return columns
