"""The directory of a study: whose it is, and that only one process writes."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kerascomp import _files
from kerascomp.studies._errors import StudyError

_LOCK = ".lock"
# All that a study makes, and nothing else may be deleted. Its mark goes last:
# a killed deletion must not leave runs behind that no study owns.
_OWN = (
    "trials.csv",
    "curves.csv",
    "report.html",
    "runs",
    "weights",
    "states",
    "running.npz",
    "keras_tuner",
    "best",
    ".writing-best",
    ".scratch",
    "study.json",
)


def prepare(directory: Path) -> None:
    """Makes the directory and proves that a study may be written there.

    Raises:
        StudyError: If it cannot be written, or holds something else.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writing-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"The directory cannot be written: {error}. Choose another one."
        ) from error
    if (directory / "study.json").exists():
        return
    strangers = [
        entry.name
        for entry in sorted(directory.iterdir())
        if entry.name != _LOCK and not entry.name.startswith(".writing-")
    ]
    if strangers:
        raise StudyError(
            f"{str(directory)!r} is not empty and holds no study: "
            f"{', '.join(strangers[:5])}. Choose a new or empty directory."
        )


def open_study(
    directory: Path, settings: Mapping[str, Any], overwrite: bool
) -> dict[str, Any] | None:
    """Returns the study that the directory holds, or None for a new one.

    Args:
        directory: Prepared by `prepare`.
        settings: What the study that is about to run was asked for.
        overwrite: Whether to delete a study that is there.

    Raises:
        StudyError: If the study there has other settings.
    """
    path = directory / "study.json"
    if not path.exists():
        return None
    if overwrite:
        _clear(directory)
        return None
    study = _files.read_json(path)
    _refuse_other(directory, study["settings"], settings)
    return study


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps a second process from running the same study at a time."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock that dies with its process.
        yield
        return
    with (directory / _LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(
                f"Another process runs the study in {str(directory)!r}. Wait "
                "for it, or choose another directory."
            ) from None
        yield


def _clear(directory: Path) -> None:
    for name in _OWN:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _refuse_other(
    directory: Path, found: Mapping[str, Any], asked: Mapping[str, Any]
) -> None:
    # Settings read back from JSON, so that tuples and lists compare equal.
    differences = [
        f"    {name}: {_brief(found.get(name))} there, {_brief(value)} asked"
        for name, value in _files.as_json(asked).items()
        if found.get(name) != value
    ]
    if differences:
        raise StudyError(
            f"{os.fspath(directory)!r} holds a study that differs:\n"
            + "\n".join(differences)
            + "\nChoose another directory, ask for the same, or pass "
            "overwrite=True (--overwrite) to delete it and start anew."
        )


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
