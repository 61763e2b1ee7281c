"""The page *Migrating from TensorFlow Addons* is complete, and names exist."""

import importlib
import pathlib
import re

import keras

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "migrating-from-tfa.md"

# Public symbols of TensorFlow Addons 0.23, by subpackage.
COUNTS = {
    "activations": 9,
    "callbacks": 3,
    "layers": 28,
    "losses": 21,
    "metrics": 16,
    "optimizers": 23,
    "rnn": 5,
    "seq2seq": 32,
    "text": 18,
    "image": 26,
}

# The page says so.
NOT_IN_KERAS_3_14 = "keras.optimizers.MultiOptimizer"


def tables():
    """By subpackage, the rows of its table as lists of cells."""
    text = PAGE.read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        name, _, body = section.partition("\n")
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in body.splitlines()
            if line.startswith("| `")
        ]
        yield name, rows


def test_every_symbol_has_one_row():
    found = dict(tables())
    assert {name: len(rows) for name, rows in found.items()} == COUNTS
    assert sum(COUNTS.values()) == 181
    for name, rows in found.items():
        symbols = [symbol for symbol, _, _ in rows]
        assert len(set(symbols)) == len(symbols), f"{name} lists one twice"
        assert all(re.fullmatch(r"`\w+`", symbol) for symbol in symbols)


def test_every_symbol_has_a_name_or_a_reason():
    for _, rows in tables():
        for symbol, instead, note in rows:
            named = re.search(r"`keras(comp)?\.", instead)
            assert named or instead == "-", f"{symbol} says {instead!r}"
            assert note, f"{symbol} says nothing on differences"
            assert named or note != "none", f"{symbol} has no reason"


def exists(name):
    package, *path = name.split(".")
    symbol = importlib.import_module(package)
    for part in path:
        symbol = getattr(symbol, part, None)
    return symbol is not None


def test_every_name_exists():
    text = PAGE.read_text(encoding="utf-8")
    names = sorted(
        set(re.findall(r"(?<![\w.])((?:keras|kerascomp)\.[\w.]*\w)", text))
    )
    assert len(names) > 90
    if tuple(map(int, keras.__version__.split(".")[:2])) <= (3, 14):
        names.remove(NOT_IN_KERAS_3_14)
    assert [name for name in names if not exists(name)] == []
