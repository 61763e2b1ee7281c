"""A callback that writes a page about the training in progress."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerascomp import _compat, _files
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _charts, _record
from kerascomp.callbacks._dashboard_page import Page, Picture, Verdict, render

ops = keras.ops


@component(since="0.1")
class Dashboard(keras.callbacks.Callback):
    """Writes a page that shows how training goes, renewed after every epoch.

    Use it to watch a run, on this machine or a phone, and to keep what was
    seen: the page is one HTML file that loads nothing from elsewhere, shows
    light and dark, and stays readable when the process dies. It has the loss
    and each metric beside its validation, the learning rate, whatever else is
    in the logs, and the record and the verdict of every monitor of
    `kerascomp.callbacks` that the same `fit` has: gradient norms, update
    ratios, activations. While training lasts, a browser loads it anew every
    ten seconds.

    The file is replaced at once, never written in part. Up to 6 series share
    a chart of lines; more are the rows of a heat map. Of long records, each
    point is the mean of a few steps.

    Args:
        path: Where to write the page. Its folder is created.
        monitors: Monitors to show that are not in the same `fit`; those that
            are come by themselves.
        title: The heading; None means the name of the model.

    Saved state:
        None. A second `fit` writes the page anew.

    Raises:
        ValueError: At construction, if `path` is a folder, or something in
            `monitors` keeps no `history`.

    Examples:
        >>> import pathlib, tempfile
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.html"
        >>> board = Dashboard(path, title="A line")
        >>> log = model.fit(
        ...     np.ones((4, 2)), np.ones(4), callbacks=[board], verbose=0
        ... )
        >>> "<h1>A line</h1>" in path.read_text("utf-8")
        True
    """

    def __init__(
        self,
        path: str | os.PathLike,
        monitors: Sequence[Any] = (),
        title: str | None = None,
    ):
        super().__init__()
        if Path(path).is_dir():
            raise ValueError(
                f"`path` must be that of a file. Received: path={path!s}, a "
                "folder"
            )
        for monitor in monitors:
            if not isinstance(getattr(monitor, "history", None), Mapping):
                raise ValueError(
                    "`monitors` must have a `history`, as the monitors of "
                    f"kerascomp.callbacks. Received: {monitor!r}"
                )
        self.path = path
        self.monitors = monitors
        self.title = title
        self._start()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._start()
        self._began = time.time()
        self._write("waiting for the first epoch")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # Callbacks that come later add to the same logs: keep them, not a copy.
        self._epochs.append(epoch)
        self._logs.append({} if logs is None else logs)
        self._rates.append(_learning_rates(self._model))
        self._write("running")

    def on_train_end(self, logs: dict | None = None) -> None:
        total: Any = self.params["epochs"]
        done = bool(self._epochs) and self._epochs[-1] + 1 >= total
        self._write("finished" if done else "stopped early")

    def _start(self) -> None:
        self._began = 0.0
        self._epochs: list[int] = []
        self._logs: list[dict] = []
        self._rates: list[dict[str, float]] = []

    def _write(self, status: str) -> None:
        _files.write_text(Path(self.path), render(self._page(status)))

    def _page(self, status: str) -> Page:
        curves = self._curves()
        monitors = [*self.monitors, *_record.recorders_of(self.params)]
        names = [type(monitor).__name__ for monitor in monitors]
        sections = [
            (n, _pictures(m)) for n, m in zip(names, monitors, strict=True)
        ]
        # A monitor logs its series by epoch as `grad_norm`, `grad_norm_max`.
        shown = {
            name
            for monitor in monitors
            for name, found in monitor.history.items()
            if not isinstance(found, Mapping)
        }
        sections.insert(0, ("Training", self._training(curves, shown)))
        return Page(
            title=self.title or str(self._model.name),
            kind=f"Training, {status}",
            running=status in ("running", "waiting for the first epoch"),
            summary=self._summary(),
            facts=_facts(curves, self._numbers()),
            verdicts=[*_own_verdicts(curves, self._numbers())]
            + [
                verdict
                for name, monitor in zip(names, monitors, strict=True)
                for verdict in _verdicts_of(name, monitor)
            ],
            sections=sections,
        )

    def _numbers(self) -> np.ndarray:
        return np.array(self._epochs) + 1  # As the progress bar counts.

    def _summary(self) -> list[str]:
        count, now = len(self._epochs), time.time()
        parts = []
        if count:
            total = self.params["epochs"]
            parts.append(f"epoch {self._epochs[-1] + 1} of {total}")
            parts.append(f"{(now - self._began) / count:.3g} s an epoch")
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        return [*parts, f"written {written}"]

    def _curves(self) -> dict[str, np.ndarray]:
        """Returns all numbers of the logs, by name."""
        curves: dict[str, np.ndarray] = {}
        for rows in (self._logs, self._rates):
            names = dict.fromkeys(name for row in rows for name in row)
            for name in names:
                values = [_number_of(row.get(name)) for row in rows]
                if not np.isnan(values).all() or name in ("loss", "val_loss"):
                    curves.setdefault(name, np.array(values))
        return curves

    def _training(
        self, curves: dict[str, np.ndarray], elsewhere: set[str]
    ) -> list[Picture]:
        """Draws what the sections of the monitors do not have."""
        pictures = []
        # The loss first, then what is measured, then what is set.
        for name in sorted(curves, key=_rank):
            validates = name.startswith("val_") and name[4:] in curves
            constant = _rank(name) == 2 and np.ptp(curves[name]) == 0
            if validates or constant or name.removesuffix("_max") in elsewhere:
                continue
            series = {name: curves[name]}
            if f"val_{name}" in curves:
                series = {
                    "training": curves[name],
                    "validation": curves[f"val_{name}"],
                }
            pictures.append(_picture(name, "epoch", self._numbers(), series))
        return pictures


def _rank(name: str) -> int:
    if name.startswith("learning_rate"):
        return 2
    return int(name != "loss")


def _learning_rates(model: Any) -> dict[str, float]:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:  # As of models with several, trained by hand.
        return {}
    found = [
        float(ops.convert_to_numpy(each.learning_rate))
        for each in _compat.optimizers_of(optimizer)
    ]
    if len(found) == 1:
        return {"learning_rate": found[0]}
    return {f"learning_rate {n}": rate for n, rate in enumerate(found, 1)}


def _number_of(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):  # Absent, or a metric with many numbers.
        return np.nan


def _facts(
    curves: Mapping[str, np.ndarray], epochs: np.ndarray
) -> list[tuple[str, str, str]]:
    facts = []
    for name in ("loss", "val_loss"):
        values = curves.get(name, np.zeros(0))
        if not len(values):
            continue
        note = ""
        if np.isfinite(values).any():
            best = int(
                np.nanargmin(np.where(np.isfinite(values), values, np.nan))
            )
            lowest = _charts.number(values[best])
            note = f"lowest {lowest}, epoch {epochs[best]}"
        facts.append((name, _charts.number(values[-1]), note))
    for name, values in curves.items():
        if name.startswith("learning_rate") and len(values):
            label = name.replace("_", " ")
            facts.append((label, _charts.number(values[-1]), ""))
    return facts


def _own_verdicts(
    curves: Mapping[str, np.ndarray], epochs: np.ndarray
) -> list[Verdict]:
    """Says what the curves themselves tell."""
    for name in ("loss", "val_loss"):
        values = curves.get(name, np.zeros(0))
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            return [
                Verdict(
                    "Loss",
                    f"{name} is not finite from epoch {epochs[bad[0]]} on. "
                    "Lower the learning rate, clip gradients, and look for "
                    "NaN in the data.",
                )
            ]
    return []


def _verdicts_of(name: str, monitor: Any) -> list[Verdict]:
    """Returns what a monitor concludes, if it does."""
    several = getattr(monitor, "verdicts", None)
    if isinstance(several, Mapping):
        return [
            Verdict(f"{name}, {part}", str(text))
            for part, text in several.items()
        ]
    verdict = getattr(monitor, "verdict", None)
    return [Verdict(name, verdict)] if isinstance(verdict, str) else []


def _pictures(monitor: Any) -> list[Picture]:
    """Returns the series of a monitor's record, and its main group."""
    history = monitor.history
    axis = "step" if "step" in history else "epoch"
    x = np.asarray(history.get(axis, ()))
    if not len(x):
        return []
    plotted = getattr(monitor, "plotted", "") or "layers"
    quantity = getattr(monitor, "quantity", "") or plotted
    log = getattr(monitor, "log_scale", True)
    pictures = []
    for name, found in history.items():
        if isinstance(found, Mapping):
            title, series = quantity, found
            title += " by layer" * (name == "layers")
            wanted = name == plotted and len(found) > 0
        else:
            title, series, wanted = name, {name: found}, name != axis
        if wanted:
            numbers = x + 1 if axis == "epoch" else x
            pictures.append(_picture(title, axis, numbers, series, log))
    return pictures


def _picture(
    title: str,
    axis: str,
    x: np.ndarray,
    series: Mapping[str, Any],
    log: bool = True,
) -> Picture:
    arrays = {name: np.asarray(v, "float64") for name, v in series.items()}
    positive = {name: v[v > 0] for name, v in arrays.items()}
    log = log and _charts.spans_decades(positive)
    return Picture(title.replace("_", " "), axis, x, arrays, log)
