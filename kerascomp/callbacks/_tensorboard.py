"""Event files that TensorBoard reads, written without TensorFlow."""

import itertools
import os
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_BINS = 30  # As many as TensorBoard shows.
_number = itertools.count()


class EventFile:
    """A new event file; open only while it is written to.

    So nothing stays open after an interrupted `fit`, and callbacks that hold
    one can be copied.

    Args:
        log_dir: Its folder, made with the first event.
        name: Goes into the file's name.
    """

    def __init__(self, log_dir: str | os.PathLike, name: str):
        unique = f"{socket.gethostname()}.{os.getpid()}.{next(_number)}"
        # TensorBoard looks for this word, and sorts by the seconds.
        self.path = Path(log_dir) / (
            f"events.out.tfevents.{int(time.time()):010d}.{unique}.{name}"
        )

    def append(self, steps: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Writes the values of some steps.

        Args:
            steps: Pairs of a step and of its values by tag: a number, or a
                histogram as `(edges, counts)`.
        """
        event_pb2, writer = _require()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("ab") as file:
            record = writer.RecordWriter(file)
            if new:
                first = event_pb2.Event(
                    wall_time=time.time(), file_version="brain.Event:2"
                )
                record.write(first.SerializeToString())
            for step, values in steps:
                event = event_pb2.Event(wall_time=time.time(), step=int(step))
                for tag, value in values.items():
                    _add(event.summary, tag, value)
                record.write(event.SerializeToString())


def require() -> None:
    """Raises ImportError, saying what to install, without `tensorboard`."""
    _require()


def _require() -> tuple[Any, Any]:
    try:
        # The parts of it that do not import TensorFlow.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer import record_writer
    except ImportError as error:
        raise ImportError(
            "`log_dir` needs the package tensorboard, which does not need "
            'TensorFlow. Install it with pip install "kerascomp[tensorboard]"'
        ) from error
    return event_pb2, record_writer


def histogram(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the edges and counts of the finite ones of some values."""
    values = np.asarray(values, "float64")
    counts, edges = np.histogram(values[np.isfinite(values)], _BINS)
    return edges, counts


def _add(summary: Any, tag: str, value: Any) -> None:
    if not isinstance(value, tuple):
        summary.value.add(tag=tag, simple_value=float(value))
        return
    edges, counts = (np.asarray(part, "float64") for part in value)
    middles = (edges[1:] + edges[:-1]) / 2
    histo = summary.value.add(tag=tag).histo
    histo.min, histo.max = edges[0], edges[-1]
    histo.num = counts.sum()
    histo.sum = counts @ middles
    histo.sum_squares = counts @ middles**2
    # A bucket's limit is its right edge; the first ends where the data begin.
    histo.bucket_limit.extend(edges)
    histo.bucket.extend([0.0, *counts])
