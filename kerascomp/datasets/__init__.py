"""Real data in three parts, from a name, a file or arrays."""

import os
import pathlib
from typing import Any

from kerascomp.datasets import _known
from kerascomp.datasets._build import Features, Source, build, checked_inputs
from kerascomp.datasets._chunks import SequenceChunks
from kerascomp.datasets._csv import read_csv
from kerascomp.datasets._dataset import DataError, Dataset, Part
from kerascomp.datasets._messages import suggestion
from kerascomp.datasets._npz import read_npz
from kerascomp.datasets._split import Options

__all__ = [
    "load",
    "from_arrays",
    "names",
    "Dataset",
    "Part",
    "DataError",
    "SequenceChunks",
]


def load(
    name_or_path: str | os.PathLike,
    target: str | None = None,
    *,
    task: str | None = None,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
    missing: str = "refuse",
) -> Dataset:
    """Loads real data, checked and divided into three parts.

    The parts share no row and hold every class in the same proportions. The
    same data and seed give the same parts on every machine. Nothing is
    scaled: that belongs to the model, for example to a
    `keras.layers.Normalization` adapted to the training part.

    Rows are taken to be independent. In a time series they are not: hours
    that follow each other would end up in different parts, and results would
    look better than they are.

    Args:
        name_or_path: A name that `names` lists, or the path of a `.csv`,
            `.csv.gz` or `.npz` file.
        target: The column to predict; for CSV files alone, and required
            there.
        task: `"classification"` or `"regression"`. By default text,
            booleans and whole numbers of at most 20 distinct values are
            classes, and other numbers are quantities.
        validation_fraction: Share of the samples, in (0, 1); where the test
            part is published, share of the others.
        test_fraction: Share of the samples, in (0, 1); unused where the test
            part is published.
        seed: Chooses the samples of each part, in [0, 2^32).
        missing: For numeric columns of CSV files. `"refuse"` raises,
            `"median"` fills gaps with the median of the training part and
            adds a column that marks them.

    Returns:
        The data. Inputs are float32; a CSV file's text columns become one
        column a category, 0 or 1. Categories are those of the training part,
        so a row with any other one holds zeros there. A missing text is a
        category of its own. Byte images get a channel axis.

    Raises:
        DataError: If the data cannot be found, read or used as they are.
        ImportError: If the data set comes with scikit-learn and that is not
            installed.

    Examples:
        >>> data = load("digits")
        >>> data.task, data.num_classes, data.input_shape
        ('classification', 10, (64,))
        >>> sum(len(part) for part in data.parts.values())
        1797
    """
    options = Options(task, validation_fraction, test_fraction, seed, missing)
    name = os.fspath(name_or_path)
    if name in _known.SUMMARIES:
        _refuse_target(target, f"the data set {name!r}")
        return build(_known.read_known(name), options)
    path = _existing_file(name)
    if path.name.endswith((".csv", ".csv.gz")):
        return build(read_csv(path, target, options), options)
    if path.suffix == ".npz":
        _refuse_target(target, "an .npz file")
        return build(read_npz(path), options)
    raise DataError(
        "A data file must end in .csv, .csv.gz or .npz. Received: "
        f"{path.name!r}"
    )


def from_arrays(
    x: Any,
    y: Any,
    *,
    name: str = "arrays",
    task: str | None = None,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Divides arrays in memory as `load` does.

    Args:
        x: `(samples, ...)`, real numbers. Bytes of the shape
            `(samples, height, width)` are images and get a channel axis.
        y: `(samples,)` or `(samples, 1)`. Labels, as text or numbers, or
            quantities.
        name: What reports call the data.
        task: As in `load`.
        validation_fraction: As in `load`.
        test_fraction: As in `load`.
        seed: As in `load`.

    Returns:
        The data, as `load` returns them.

    Raises:
        DataError: If the data cannot be used as they are.

    Examples:
        >>> x = np.arange(20.0).reshape(10, 2)
        >>> y = np.array(["no", "yes"] * 5)
        >>> data = from_arrays(x, y)
        >>> data.class_names, data.train.x.shape, data.test.y.tolist()
        (('no', 'yes'), (6, 2), [1, 0])
    """
    options = Options(task, validation_fraction, test_fraction, seed)
    features = Features(checked_inputs(x, y))
    return build(Source(name, y, lambda _: features), options)


def names() -> dict[str, str]:
    """Returns the known names, each with a line on what it holds.

    Examples:
        >>> names()["wine"]
        '178 wines, 13 features, 3 classes; works offline, from scikit-learn'
    """
    return dict(_known.SUMMARIES)


def _refuse_target(target: str | None, what: str) -> None:
    if target is not None:
        raise DataError(
            f"`target` names a column of a CSV file; {what} has its target "
            f"already. Received: target={target!r}"
        )


def _existing_file(name: str) -> pathlib.Path:
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"Expected a file. Received the folder {name!r}")
    if path.suffix or len(path.parts) > 1:
        others = (
            [p.name for p in path.parent.iterdir() if p.is_file()]
            if path.parent.is_dir()
            else []
        )
        raise DataError(
            f"There is no file {str(path.absolute())!r}."
            + suggestion(path.name, others)
        )
    raise DataError(
        f"There is no data set or file {name!r}."
        f"{suggestion(name, _known.SUMMARIES)} Known data sets: "
        f"{', '.join(_known.SUMMARIES)}. A file must end in .csv, .csv.gz or "
        ".npz."
    )
