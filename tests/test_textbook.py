"""The page *From the textbook to Keras* names only what exists."""

import importlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "textbook.md"


def test_every_name_exists():
    pattern = r"`((?:keras|kerascomp)\.[A-Za-z0-9_.]+)`"
    names = sorted(set(re.findall(pattern, PAGE.read_text())))
    assert len(names) > 100
    assert [name for name in names if not exists(name)] == []


def exists(name):
    package, *path = name.split(".")
    symbol = importlib.import_module(package)
    try:
        for part in path:
            symbol = getattr(symbol, part)
    except AttributeError:
        return False
    return True


def test_every_row_says_who_has_it():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| Topic")
    ]
    assert len(rows) > 60
    for row in rows:
        assert len(row) == 4, row
        assert row[2] != "-" or row[3] != "-", f"nobody has {row[0]!r}"
