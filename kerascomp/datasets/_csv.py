"""Reads `.csv` and `.csv.gz` files."""

import collections
import csv
import dataclasses
import functools
import gzip
import io
import itertools
import pathlib
import re
import zlib

import numpy as np

from kerascomp.datasets._build import Features, Source
from kerascomp.datasets._dataset import DataError
from kerascomp.datasets._messages import shortened, suggestion
from kerascomp.datasets._split import Options

# Spellings of "no value". In a column of text, where "NA" may well mean
# something, they are categories like any other text.
_MISSING = frozenset(
    ("", "?", "NA", "N/A", "nan", "NaN", "NAN", "null", "NULL")
)
# More distinct texts than this are names or prose, not categories.
_MAX_CATEGORIES = 256
# A column with up to so many distinct values may mix numbers and text, such
# as 0, 1, 2, 3+.
_MAX_MIXED = 20
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


@dataclasses.dataclass(frozen=True)
class _Table:
    """The file's cells, by column, and the line each row ends on."""

    columns: dict[str, list[str]]
    lines: list[int]
    delimiter: str


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column's values: float64 with NaN for missing, or text."""

    name: str
    values: np.ndarray | list[str]

    @property
    def is_text(self) -> bool:
        return isinstance(self.values, list)

    @property
    def num_missing(self) -> int:
        return 0 if self.is_text else int(np.isnan(self.values).sum())


def read_csv(
    path: pathlib.Path, target: str | None, options: Options
) -> Source:
    """Returns the columns, to be encoded once the training rows are known."""
    table = _read_table(path)
    _require_target(path.name, target, table)
    columns = {
        name: _typed(name, values, table)
        for name, values in table.columns.items()
    }
    y = columns.pop(str(target))
    _check_target(y, table)
    for column in columns.values():
        _check_feature(column, len(table.lines))
    if options.missing == "refuse":
        _refuse_missing(list(columns.values()), len(table.lines))
    return Source(
        path.name,
        np.array(y.values),
        functools.partial(_encode, list(columns.values())),
        target=f"The target column {target!r}",
    )


def _read_table(path: pathlib.Path) -> _Table:
    text = _read_text(path)
    delimiter = _delimiter(text)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=True,
        strict=True,
    )
    rows, lines = [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path.name, header)
        for row in reader:
            if not row:  # A blank line.
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path.name}, line {reader.line_num}: expected "
                    f"{len(header)} fields, as in the header. Received: "
                    f"{len(row)}. Quote fields that contain {delimiter!r}."
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {reader.line_num}: {error}. Is a quotation "
            "mark missing or left over?"
        ) from error
    if not rows:
        raise DataError(f"{path.name} has a header but no rows.")
    columns = zip(header, zip(*rows, strict=True), strict=True)
    return _Table(
        {name: [v.strip() for v in values] for name, values in columns},
        lines,
        delimiter,
    )


def _read_text(path: pathlib.Path) -> str:
    content = path.read_bytes()
    try:
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name} is not a complete gzip file: {error}"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} must be encoded as UTF-8: {error}. Save it again "
            "as UTF-8."
        ) from error


def _delimiter(text: str) -> str:
    """The one that divides the first rows into equally many fields."""

    def score(delimiter: str) -> tuple[bool, int]:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            skipinitialspace=True,
        )
        try:
            widths = [len(row) for row in itertools.islice(reader, 5) if row]
        except csv.Error:
            return False, 0
        first = widths[0] if widths else 0
        return first > 1 and len(set(widths)) == 1, first

    return max(",;\t", key=score)


def _check_header(file: str, header: list[str]) -> None:
    if not any(header):
        raise DataError(
            f"{file} must hold the column names in its first line. Received "
            "an empty one."
        )
    unnamed = [str(i) for i, name in enumerate(header, 1) if not name]
    if unnamed:
        raise DataError(
            f"{file}: every column needs a name in the first line. Received "
            f"none for column {shortened(unnamed)} of {len(header)}. (pandas "
            "writes its row numbers so: use `to_csv(..., index=False)`.)"
        )
    counts = collections.Counter(header)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{file}: column names must differ. Received more than once: "
            f"{shortened(map(repr, twice))}.{_header_hint(header)}"
        )


def _header_hint(header: list[str]) -> str:
    numbers = [name for name in header if _numbers([name]) is not None]
    if not numbers:
        return ""
    return (
        f" The first line holds numbers, such as {numbers[0]!r}: if these are "
        "data, put a line of column names above them."
    )


def _require_target(file: str, target: str | None, table: _Table) -> None:
    columns = list(table.columns)
    shown = f"Its columns: {shortened(columns, 40)}.{_header_hint(columns)}"
    if target is None:
        raise DataError(
            f"Say which column of {file} to predict with `target=...` "
            f"(--target on the command line). {shown}"
        )
    if target not in table.columns:
        raise DataError(
            f"{file} has no column {target!r}.{suggestion(target, columns)} "
            f"{shown}"
        )
    if len(columns) == 1:
        raise DataError(
            f"{file} holds the target {target!r} alone. Is it divided by "
            "something else than a comma, semicolon or tab?"
        )


def _typed(name: str, values: list[str], table: _Table) -> _Column:
    numbers = _numbers(values)
    if numbers is not None:
        return _Column(name, numbers)
    texts = {text for text in set(values) if _numbers([text]) is None}
    odd = [row for row, value in enumerate(values) if value in texts]
    place = f"{values[odd[0]]!r} in line {table.lines[odd[0]]}"
    if table.delimiter != "," and all(map(_DECIMAL_COMMA.fullmatch, texts)):
        raise DataError(
            f"Column {name!r} is written with a decimal comma: {place}. Write "
            "it with a point."
        )
    num_present = sum(value not in _MISSING for value in values)
    if len(odd) < num_present / 2 and len(set(values)) > _MAX_MIXED:
        raise DataError(
            f"Column {name!r} mixes numbers with text: {place}, "
            f"{len(odd)} of {len(values)} values in all. Correct them, or "
            "leave them empty if they are missing."
        )
    return _Column(name, values)


def _numbers(values: list[str]) -> np.ndarray | None:
    """The values as numbers, NaN for missing, or None if any is neither."""
    for parse in (float, _number_or_gap):  # The first is much the faster.
        try:
            numbers = np.array([parse(value) for value in values])
        except ValueError:
            continue
        # Python reads "1_000" as a number; in a file it is a label.
        return None if "_" in "".join(values) else numbers
    return None


def _number_or_gap(value: str) -> float:
    return float("nan") if value in _MISSING else float(value)


def _check_target(column: _Column, table: _Table) -> None:
    values = table.columns[column.name]
    rows = [i for i, value in enumerate(values) if value in _MISSING]
    if rows:
        raise DataError(
            f"The target column {column.name!r} must have a value in every "
            f"row. Received none in {len(rows)} of {len(values)} rows, first "
            f"{values[rows[0]]!r} in line {table.lines[rows[0]]}. Remove "
            "these rows."
        )


def _check_feature(column: _Column, num_rows: int) -> None:
    if isinstance(column.values, list):
        distinct = len(set(column.values))
        if distinct > _MAX_CATEGORIES or (
            distinct > _MAX_MIXED and distinct > num_rows / 2
        ):
            raise DataError(
                f"Column {column.name!r} must hold numbers or a few "
                f"categories. Received {distinct} distinct texts in "
                f"{num_rows} rows, such as {column.values[0][:40]!r}. Remove "
                "the column, or turn it into numbers or at most "
                f"{_MAX_CATEGORIES} categories."
            )
        return
    with np.errstate(over="ignore"):
        num_infinite = int(np.isinf(column.values.astype("float32")).sum())
    if num_infinite:
        raise DataError(
            f"Column {column.name!r} must be finite in float32. Received "
            f"{num_infinite} infinite or too large values in {num_rows} rows."
        )


def _refuse_missing(columns: list[_Column], num_rows: int) -> None:
    gaps = [f"{c.name!r} {c.num_missing}" for c in columns if c.num_missing]
    if gaps:
        raise DataError(
            f"Numeric columns must have a value in each of the {num_rows} "
            f"rows. Received missing values in {len(gaps)} of {len(columns)} "
            f"columns: {shortened(gaps, 10)}. Remove these rows or columns, or "
            "fill the gaps with the training median and mark them, with "
            "`missing='median'` (--missing median on the command line)."
        )


def _encode(columns: list[_Column], train: np.ndarray) -> Features:
    """Learns categories and medians from the training rows alone."""
    pieces, names, notes = [], [], []
    for column in columns:
        encode = _one_hot if column.is_text else _filled
        piece, piece_names = encode(column, train)
        pieces.append(piece)
        names.extend(piece_names)
        if not column.is_text and np.all(np.diff(column.values) == 1):
            notes.append(
                f"Column {column.name!r} counts the rows: leave it out unless "
                "their order means something"
            )
    encoded = [column.name for column in columns if column.is_text]
    if encoded:
        notes.append(
            f"{len(columns)} columns became {len(names)} features; one "
            f"feature a category: {shortened(encoded, 10)}"
        )
    return Features(np.concatenate(pieces, axis=1), tuple(names), tuple(notes))


def _one_hot(
    column: _Column, train: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    values = list(column.values)
    categories = sorted({values[row] for row in train.tolist()})
    place = {category: index for index, category in enumerate(categories)}
    indices = np.array([place.get(value, -1) for value in values])
    # Row -1 of this matrix serves the categories unknown in training.
    rows = np.eye(len(categories) + 1, len(categories), dtype="float32")
    names = [f"{column.name}={c or '(empty)'}" for c in categories]
    return rows[indices], names


def _filled(column: _Column, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    values = np.asarray(column.values)
    gaps = np.isnan(values)
    if not gaps.any():
        return values.astype("float32")[:, None], [column.name]
    if gaps[train].all():
        raise DataError(
            f"Column {column.name!r} has no value in the training part, so "
            f"there is no median to fill its {int(gaps.sum())} gaps with. "
            "Remove the column."
        )
    values = np.where(gaps, np.median(values[train][~gaps[train]]), values)
    pieces, names = [values], [column.name]
    # A mark that is 0 throughout training would carry an untrained weight.
    if gaps[train].any():
        pieces.append(gaps)
        names.append(f"{column.name} is missing")
    return np.stack(pieces, axis=1).astype("float32"), names
