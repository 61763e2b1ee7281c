"""How a report writes names, numbers and differences."""

import math
import re
from typing import Any

DASH = "\N{EN DASH}"  # Stands for a value that is missing.


def metric(name: str) -> str:
    """Returns a metric's name in words: "val_auc" is "validation AUC"."""
    bare = bare_metric(name)
    words = _METRICS.get(bare, label(bare))
    return f"validation {words}" if bare != name else words


def bare_metric(name: str) -> str:
    """Returns the metric's name without the prefix of the validation part."""
    return name.removeprefix("val_")


def is_fraction(name: str) -> bool:
    """Whether differences of a metric read best in points of 100."""
    bare = bare_metric(name)
    return bare.endswith("accuracy") or bare in _FRACTIONS


def label(name: str) -> str:
    """Returns the name of a hyperparameter or setting in words."""
    words = clean(name).replace("_", " ").strip()
    return re.sub("^num ", "number of ", words)


def file_format(name: str) -> str:
    """Returns the name of a format that a model is saved in."""
    return _FORMATS.get(name, label(name))


def short(text: str, limit: int = 24) -> str:
    """Cuts a text that is too long for a plot."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def clean(text: Any) -> str:
    """Replaces the characters that neither XML nor UTF-8 can hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(text))


def value(value: Any) -> str:
    """Writes a hyperparameter's or a setting's value."""
    if value is None:
        return DASH
    if isinstance(value, float):
        return number(value, 3)
    if isinstance(value, list | tuple):
        return ", ".join(clean(item) for item in value)
    return clean(value)


def number(value: float | None, digits: int = 4) -> str:
    """Writes a number with so many significant digits, zeros cut off."""
    if value is None or not math.isfinite(value):
        return DASH
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}".replace("-", "\N{MINUS SIGN}")
    text = f"{value:.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    if exponent and int(exponent) > 0:
        text = f"{value:,.0f}"
    elif exponent:
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "\N{MINUS SIGN}")


def score(value: float | None, name: str) -> str:
    """Writes a metric's value: fractions always with four decimals."""
    if value is None or not math.isfinite(value):
        return DASH
    if is_fraction(name) and abs(value) <= 1:
        return f"{value:.4f}".replace("-", "\N{MINUS SIGN}")
    return number(value)


def column(values: list[float | None], digits: int = 4) -> list[str]:
    """Writes numbers of one column with equally many decimals.

    The smallest of the column's larger half decides, so that one tiny value
    does not add decimals to all the others.
    """
    sizes = sorted(abs(v) for v in values if v is not None and v != 0)
    if not sizes:
        return [DASH if v is None else "0" for v in values]
    magnitude = math.floor(math.log10(sizes[len(sizes) // 2]))
    decimals = min(max(digits - 1 - magnitude, 0), 8)
    if all(v is None or float(v).is_integer() for v in values):
        decimals = 0
    return [
        DASH if v is None else f"{v:,.{decimals}f}".replace("-", "\u2212")
        for v in values
    ]


def gap(difference: float, name: str) -> str:
    """Writes the size of a difference of a metric: "3.2 points"."""
    size = abs(difference)
    if is_fraction(name):
        return count(round(size * 100, 1), "point")
    return number(size, 3)


def duration(seconds: float) -> str:
    """Writes a duration in the unit that suits it."""
    if seconds < 60:
        return f"{number(seconds, 2)} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def sentence(text: str) -> str:
    """Starts a text with a capital letter."""
    return text[:1].upper() + text[1:]


def count(number: float, noun: str) -> str:
    """Writes a number of things: "1 trial", "2 trials"."""
    plural = noun if number == 1 else f"{noun}s"
    return f"{number:,} {plural}"


def listing(items: list[str]) -> str:
    """Joins words as in a sentence: "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


_METRICS = {
    "auc": "AUC",
    "f1_score": "F1 score",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "r2": "R²",
    "r2_score": "R²",
    "sparse_categorical_accuracy": "accuracy",
    "categorical_accuracy": "accuracy",
    "binary_accuracy": "accuracy",
}
_FORMATS = {
    "keras": "Keras",
    "tf_saved_model": "TensorFlow SavedModel",
    "onnx": "ONNX",
    "litert": "LiteRT",
}
_FRACTIONS = {"auc", "f1_score", "precision", "recall", "mean_io_u"}
_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
