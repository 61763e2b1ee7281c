"""The best model of a study: rebuilt, measured, saved and proved."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kerascomp import _files, export
from kerascomp.datasets import Dataset, Part
from kerascomp.studies import _records

FOLDER = "best"


def ship(
    record: _records.Record,
    model: keras.Model,
    run: _records.Run,
    data: Dataset,
    validation: Part,
) -> dict[str, Any]:
    """Writes `best/`: the model in two formats, its metrics, its parity.

    The folder is made aside and moved into place as a whole.

    Args:
        record: The finished study.
        model: The model of the best run, with the weights of its best epoch.
        run: The best run of the best trial.
        data: The data set. Its test part is used here and nowhere before.
        validation: What this run was validated on, and not trained.

    Returns:
        The metrics that were written.
    """
    folder = record.directory / FOLDER
    aside = record.directory / f".writing-{FOLDER}"
    shutil.rmtree(aside, ignore_errors=True)
    metrics = {
        "trial": run.trial,
        "seed": run.seed,
        "epoch": run.best_epoch,
        "hyperparameters": run.hyperparameters,
        "validation": _evaluate(model, validation),
        "test": _evaluate(model, data.test),
    }
    _files.write_json(aside / "metrics.json", metrics)
    export.export_model(model, aside, sample=data.test.x[:64])
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return metrics


def is_shipped(record: _records.Record, run: _records.Run) -> bool:
    """Whether `best/` already holds the model of this run."""
    path = record.directory / FOLDER / "metrics.json"
    if not path.exists():
        return False
    metrics = _files.read_json(path)
    return (metrics["trial"], metrics["seed"]) == (run.trial, run.seed)


def best_run(record: _records.Record) -> _records.Run | None:
    """Returns the best trial's best run; ties go to the first seed."""
    if record.best is None:
        return None
    sign = -1 if record.maximizes else 1
    return min(record.best.runs, key=lambda run: sign * (run.score or 0.0))


def prune(
    record: _records.Record,
    seeds: int,
    weights_path: Callable[[str, int], Path],
) -> None:
    """Deletes the weights of finished trials that are not the best."""
    kept = best_run(record)
    for trial in record.trials:
        if len(trial.runs) < seeds:
            continue  # Still running: any of its runs may become the best.
        for run in trial.runs:
            if run is not kept:
                weights_path(run.trial, run.seed).unlink(missing_ok=True)


def _evaluate(model: keras.Model, part: Part) -> dict[str, float]:
    values = model.evaluate(
        part.x, part.y, batch_size=1024, return_dict=True, verbose=0
    )
    return {name: float(value) for name, value in values.items()}
