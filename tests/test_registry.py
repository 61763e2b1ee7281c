"""The list of components."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import kerascomp
from kerascomp import _registry

pytestmark = pytest.mark.one_backend


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Components registered here are forgotten afterwards."""
    monkeypatch.setattr(_registry, "_entries", dict(_registry._entries))
    names = set(keras.saving.get_custom_objects())
    yield
    for name in keras.saving.get_custom_objects().keys() - names:
        del keras.saving.get_custom_objects()[name]


BASES = {
    "layer": keras.layers.Dense,
    "loss": keras.losses.Huber,
    "metric": keras.metrics.Mean,
    "regularizer": keras.regularizers.L2,
    "schedule": keras.optimizers.schedules.CosineDecay,
    "callback": keras.callbacks.EarlyStopping,
    "optimizer": keras.optimizers.SGD,
    "initializer": keras.initializers.Zeros,
    "activation": keras.activations.gelu,
}


@pytest.mark.parametrize("kind", _registry.KINDS)
def test_the_kind_follows_from_the_base_class(kind):
    assert _registry.kind_of(BASES[kind]) == kind


@pytest.mark.parametrize("symbol", [int, keras.layers.Dense(3), "Dense"])
def test_what_is_no_component_is_refused(symbol):
    with pytest.raises(TypeError, match="derives from one of") as error:
        _registry.kind_of(symbol)
    assert f"Received: {symbol!r}" in str(error.value)


@pytest.mark.parametrize("kind", _registry.KINDS)
def test_every_kind_has_a_module_in_the_plural(kind):
    expected = {"loss": "losses"}.get(kind, kind + "s")
    assert _registry.module_of(kind) == expected


def test_a_component_is_listed_with_path_and_summary():
    @_registry.component(since="9.9")
    class Halve(keras.layers.Layer):
        """Halves.

        More.
        """

    (entry,) = (e for e in kerascomp.entries() if e.name == "Halve")
    assert (entry.path, entry.kind, entry.since) == (
        "layers.Halve",
        "layer",
        "9.9",
    )
    assert entry.symbol is Halve
    assert entry.summary == "Halves."


def test_components_are_listed_in_order():
    paths = [entry.path for entry in kerascomp.entries()]
    assert paths == sorted(paths)
    assert "losses.SmoothL1" in paths


def test_saved_names_carry_the_package_and_no_module():
    name = keras.saving.get_registered_name(kerascomp.losses.SmoothL1)
    assert name == "kerascomp>SmoothL1"


def test_activations_are_registered_functions():
    @_registry.component(since="9.9")
    def halved(x):
        return x / 2

    assert keras.saving.get_registered_name(halved) == "kerascomp>halved"


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="Two components are called 'Smooth"):

        @_registry.component(since="9.9")
        class SmoothL1(keras.metrics.Mean):
            pass

    assert (
        kerascomp.losses.SmoothL1
        is _registry._entries["losses.SmoothL1"].symbol
    )


def test_a_callback_may_be_named_like_what_it_applies():
    paths = {entry.path for entry in kerascomp.entries()}
    assert {"callbacks.WarmupCosine", "schedules.WarmupCosine"} <= paths


def test_a_new_process_loads_a_saved_model_without_custom_objects(tmp_path):
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(
        2, kernel_regularizer=kerascomp.regularizers.ScaledL2(0.5, 7)
    )(inputs)
    model = keras.Model(inputs, kerascomp.layers.DropPath(0.5)(hidden))
    rate = kerascomp.schedules.WarmupCosine(0.1, total_steps=9)
    model.compile(
        keras.optimizers.SGD(rate), kerascomp.losses.SmoothL1(beta=2.0)
    )
    x = np.ones((4, 3), "float32")
    model.fit(x, np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    program = (
        "import keras, kerascomp, numpy, sys;"
        "model = keras.saving.load_model(sys.argv[1]);"
        "y = model.predict(numpy.ones((4, 3), 'float32'), verbose=0);"
        "numpy.save(sys.argv[2], y)"
    )
    output = tmp_path / "output.npy"
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "model.keras", output],
        check=True,
    )
    np.testing.assert_allclose(
        np.load(output), model.predict(x, verbose=0), rtol=1e-6
    )
