"""What a study found."""

import os
from pathlib import Path
from typing import Any

import keras

from kerascomp.studies import _best, _records, _report
from kerascomp.studies._errors import StudyError


class Table(list):
    """Rows as dictionaries, which print as aligned text.

    `pandas.DataFrame(table)` makes a data frame of it.
    """

    def __str__(self) -> str:
        if not self:
            return "(no trials)"
        cells = [list(self[0])]
        cells += [[_text(value) for value in row.values()] for row in self]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width)
                for cell, width in zip(line, widths, strict=True)
            )
            for line in cells
        )

    __repr__ = __str__


class StudyResult:
    """What a study found, read from its directory.

    Args:
        directory: A study's directory, finished or not.

    Raises:
        FileNotFoundError: If it holds no study.

    Examples:
        >>> StudyResult("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: No study in 'nowhere': it has no study.json. ...
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = Path(directory)
        self.record = _records.read(self.directory)

    @property
    def status(self) -> str:
        """`"finished"`, `"time limit"`, `"interrupted"` or `"running"`."""
        return self.record.study["status"]

    @property
    def best(self) -> _records.Trial | None:
        """The best trial, with `hyperparameters`, `score` and `interval()`."""
        return self.record.best

    def table(self) -> Table:
        """Returns all trials, best first, then those without a score."""
        ranked = self.record.ranked()
        others = [t for t in self.record.trials if t.score is None]
        return Table(self._row(trial) for trial in (*ranked, *others))

    def best_model(self) -> keras.Model:
        """Loads the best model, compiled, with the weights of its best epoch.

        Raises:
            StudyError: If no trial completed, or the study was interrupted
                before the best model was saved.
        """
        path = self.directory / _best.FOLDER / "model.keras"
        if not path.exists():
            raise StudyError(
                f"There is no {path}: no trial completed, or the study was "
                "interrupted. Run it again to finish it."
            )
        return keras.models.load_model(path)

    def report(self, path: str | os.PathLike | None = None) -> Path:
        """Writes the report, by default `report.html` in the directory."""
        return _report.write_report(
            self.directory, None if path is None else Path(path)
        )

    def _row(self, trial: _records.Trial) -> dict[str, Any]:
        low, high = trial.interval() or (None, None)
        names = self.record.tuned
        return {
            "trial": trial.id,
            "status": trial.status,
            **{name: trial.hyperparameters.get(name) for name in names},
            self.record.objective: trial.score,
            "low": low,
            "high": high,
            "seconds": trial.seconds,
        }


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
