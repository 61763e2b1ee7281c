"""Saved models are of use to a process that did not make them."""

import os
import pathlib
import subprocess
import sys

import backend
import keras
import numpy as np
import pytest
from catalog import CASES

from kerascomp.testing import _programs

SCRIPT = pathlib.Path(__file__).with_name("fresh_process.py")
ROOT = SCRIPT.parents[1]
LAYERS = {
    f"{number}-{case.name}": case
    for number, case in enumerate(CASES)
    if case.kind in ("layer", "activation")
}


def model_of(case):
    """Returns a model whose only layer is that of a case."""
    inputs = _programs.symbolic(case.inputs)
    made = case.make()
    layer = made if case.kind == "layer" else keras.layers.Activation(made)
    # A signature of TensorFlow's holds no lists within lists.
    return keras.Model(inputs, keras.tree.flatten(layer(inputs)))


def run(verb, folder):
    """Runs `fresh_process.py`, which must be able to fail only by model."""
    # `-I` would hide this checkout, where it is not installed.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if verb == "load":
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    subprocess.run(
        [sys.executable, SCRIPT, verb, folder], env=environment, check=True
    )


def changed(verb, folder, save):
    """Returns what another process makes of all layers, where it differs.

    All in one test: a process takes seconds to import Keras.
    """
    expected = {}
    for name, case in LAYERS.items():
        model = model_of(case)
        save(model, name)
        arrays = keras.tree.flatten(case.inputs)
        np.savez(folder / f"{name}.inputs.npz", *arrays)
        expected[name] = keras.tree.flatten(model.predict_on_batch(case.inputs))
    run(verb, folder)
    found = {}
    for name, outputs in expected.items():
        error = folder / f"{name}.error"
        if error.exists():
            found[name] = error.read_text("utf-8")
        elif not same(folder / f"{name}.outputs.npz", outputs):
            found[name] = "other numbers"
    return found


def same(path, expected):
    with np.load(path) as outputs:
        actual = [outputs[key] for key in outputs.files]
    return len(actual) == len(expected) and all(
        a.shape == e.shape
        and np.allclose(a, e, rtol=1e-5, atol=1e-5, equal_nan=True)
        for a, e in zip(actual, expected, strict=True)
    )


def test_another_process_loads_the_same_layers(tmp_path):
    assert not changed(
        "load",
        tmp_path,
        lambda model, name: model.save(tmp_path / f"{name}.keras"),
    )


@pytest.mark.skipif(
    backend.NAME != "tensorflow", reason="test_export.py makes one on JAX"
)
def test_another_process_serves_the_same_layers_without_kerascomp(tmp_path):
    assert not changed(
        "serve",
        tmp_path,
        lambda model, name: model.export(
            tmp_path / name, format="tf_saved_model", verbose=False
        ),
    )
