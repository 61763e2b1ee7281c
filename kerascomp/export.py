"""Saving a model for use elsewhere, with proof that it still is the model."""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras

__all__ = ["export_model"]

FORMATS = ("keras", "tf_saved_model")

# Runs in a process of its own, which imports TensorFlow and nothing else of
# ours. (TensorFlow itself imports Keras, where it is installed.)
_SERVE = """
import sys
import numpy as np
import tensorflow as tf
kind, inputs, outputs, folder = sys.argv[1:]
with np.load(inputs) as arrays:
    x = {name: tf.constant(arrays[name]) for name in arrays.files}
model = tf.saved_model.load(folder)
served = model.serve(
    x if kind == "dict" else [*x.values()] if kind == "list" else x["0"]
)
assert "kerascomp" not in sys.modules, "the SavedModel imported kerascomp"
np.savez(outputs, *[y.numpy() for y in tf.nest.flatten(served)])
"""


def export_model(
    model: Any,
    directory: str | os.PathLike,
    formats: Sequence[str] = FORMATS,
    sample: Any = None,
) -> dict[str, Any]:
    """Saves a model in several formats and proves each of them.

    Use it to ship a trained model: every saved file is loaded again and its
    predictions on `sample` are compared with those of the model in memory.
    `keras` becomes `model.keras`, reloaded in this process. `tf_saved_model`
    becomes the folder `saved_model`, whose endpoint `serve` is called in a
    fresh process that imports TensorFlow alone.

    A format that cannot be made is reported, not raised, so that the others
    are saved all the same.

    Args:
        model: A built Keras model.
        directory: Folder to write into, made if missing.
        formats: Any of `"keras"` and `"tf_saved_model"`.
        sample: Inputs to compare on, as `predict` takes them: `(samples, ...)`
            with at least one sample; a list or a dictionary of arrays for a
            model of several inputs.

    Returns:
        The parity report, which is also written to `parity.json`:
        `{"samples": int, "formats": {format: {"status": "passed", "failed" or
        "skipped", "max_abs_difference": float or None, "reason": str}}}`. A
        format passes if every output is within 1e-5 of the model's, relative
        to the largest output or absolute below 1.

    Raises:
        ValueError: If a format is unknown or `sample` is missing or empty.

    Examples:
        >>> import tempfile
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = export_model(model, folder, ["keras"], np.ones((2, 3)))
        >>> report["formats"]["keras"]["status"]
        'passed'
    """
    for name in formats:
        _validation.one_of("formats", name, FORMATS)
    count = _count(sample)
    if not count:
        raise ValueError(
            "`sample` must hold at least one input, so that the saved model "
            f"can be compared with this one. Received: sample={sample!r}"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    expected = _predict(model, sample)
    save = {"keras": _keras, "tf_saved_model": _saved_model}
    report = {
        "samples": count,
        "formats": {
            name: _compare(
                expected, lambda n=name: save[n](model, directory, sample)
            )
            for name in formats
        },
    }
    text = json.dumps(report, indent=2) + "\n"
    (directory / "parity.json").write_text(text, encoding="utf-8")
    return report


class _UnavailableError(Exception):
    """A format that this installation cannot make."""


def _count(sample: Any) -> int:
    arrays = keras.tree.flatten(sample)
    return 0 if sample is None or not arrays else len(arrays[0])


def _predict(model: Any, sample: Any) -> list[np.ndarray]:
    outputs = model.predict(sample, verbose=0)
    return [np.asarray(y) for y in keras.tree.flatten(outputs)]


def _keras(model: Any, directory: Path, sample: Any) -> list[np.ndarray]:
    path = directory / "model.keras"
    model.save(path)
    return _predict(keras.models.load_model(path), sample)


def _saved_model(model: Any, directory: Path, sample: Any) -> list[np.ndarray]:
    if keras.backend.backend() == "torch":
        raise _UnavailableError(
            "Keras makes a SavedModel on the TensorFlow and JAX backends. Load "
            "model.keras under one of them and export it there."
        )
    folder = directory / "saved_model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.export(folder, format="tf_saved_model", verbose=False)
        except ImportError as error:
            raise _UnavailableError(
                f'{error}. Install TensorFlow: pip install "kerascomp'
                '[tensorflow-cpu]"'
            ) from error
    # What the signature takes, where `predict` is less particular: an array
    # is the one entry of a list, too.
    structure = getattr(model, "input", sample)
    arrays = keras.tree.flatten(sample)
    return _serve(folder, keras.tree.pack_sequence_as(structure, arrays))


def _serve(folder: Path, sample: Any) -> list[np.ndarray]:
    kind, named = "dict", sample
    if not isinstance(sample, dict):
        kind = "list" if isinstance(sample, list | tuple) else "array"
        arrays = keras.tree.flatten(sample)
        named = {str(number): array for number, array in enumerate(arrays)}
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "x.npz"), Path(scratch, "y.npz")
        np.savez(inputs, **named)
        # `-I`: the current folder and PYTHONPATH must not lend it anything.
        result = subprocess.run(
            [sys.executable, "-I", "-c", _SERVE, kind, inputs, outputs, folder],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if result.returncode:
            raise RuntimeError(result.stderr.strip().splitlines()[-1])
        with np.load(outputs) as arrays:
            return [arrays[name] for name in arrays.files]


def _compare(expected: list[np.ndarray], produce: Any) -> dict[str, Any]:
    try:
        received = produce()
    except _UnavailableError as error:
        return _outcome("skipped", None, str(error))
    except Exception as error:  # Any reason at all belongs in the report.
        return _outcome("failed", None, f"{type(error).__name__}: {error}")
    if [a.shape for a in expected] != [b.shape for b in received]:
        shapes = [b.shape for b in received]
        return _outcome("failed", None, f"outputs of other shapes: {shapes}")
    difference = max(
        float(np.max(np.abs(a - b), initial=0.0))
        for a, b in zip(expected, received, strict=True)
    )
    largest = max(float(np.max(np.abs(a), initial=0.0)) for a in expected)
    passed = difference <= 1e-5 * max(largest, 1.0)  # False for NaN.
    reason = "" if passed else f"the outputs differ by up to {difference:.3g}"
    return _outcome("passed" if passed else "failed", difference, reason)


def _outcome(status: str, difference: float | None, reason: str) -> dict:
    return {
        "status": status,
        "max_abs_difference": difference,
        "reason": reason,
    }
