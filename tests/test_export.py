"""Exported models: what is saved, and what the parity report says."""

import json

import backend
import keras
import numpy as np
import pytest

import kerascomp as kc
from kerascomp import export


def model():
    inputs = keras.Input((5,))
    x = keras.layers.Dense(4, activation="tanh")(inputs)
    x = kc.layers.DropPath(0.5)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def test_both_formats_pass_and_the_report_is_written(tmp_path, rng):
    sample = rng.normal(size=(6, 5)).astype("float32")
    report = export.export_model(model(), tmp_path, sample=sample)
    assert report == json.loads((tmp_path / "parity.json").read_text())
    assert report["samples"] == 6
    assert report["formats"]["keras"]["status"] == "passed"
    saved_model = report["formats"]["tf_saved_model"]
    if backend.NAME == "torch":
        assert saved_model["status"] == "skipped"
    else:
        assert saved_model["status"] == "passed", saved_model["reason"]
        assert saved_model["max_abs_difference"] < 1e-5


def test_several_outputs_are_compared(tmp_path, rng):
    inputs = keras.Input((3,))
    outputs = {
        "a": keras.layers.Dense(1)(inputs),
        "b": keras.layers.Dense(2)(inputs),
    }
    sample = rng.normal(size=(4, 3)).astype("float32")
    report = export.export_model(
        keras.Model(inputs, outputs), tmp_path, sample=sample
    )
    assert report["formats"]["keras"]["status"] == "passed"
    if backend.NAME != "torch":
        assert report["formats"]["tf_saved_model"]["status"] == "passed"


def take_a_list(first, second):
    return keras.Model([first, second], keras.layers.Add()([first, second]))


def take_a_dictionary(first, second):
    inputs = {"second": second, "first": first}
    return keras.Model(inputs, keras.layers.Subtract()([first, second]))


def take_a_list_of_one(first, _):
    return keras.Model([first], keras.layers.Dense(2)(first))


@pytest.mark.parametrize(
    ("make", "pick"),
    [
        (take_a_list, lambda x, y: [x, y]),
        (take_a_dictionary, lambda x, y: {"first": x, "second": y}),
        (take_a_list_of_one, lambda x, _: x),
    ],
)
def test_inputs_may_be_several(tmp_path, rng, make, pick):
    inputs = [keras.Input((3,), name=name) for name in ("first", "second")]
    arrays = rng.normal(size=(2, 4, 3)).astype("float32")
    report = export.export_model(make(*inputs), tmp_path, sample=pick(*arrays))
    assert report["samples"] == 4
    assert report["formats"]["keras"]["status"] == "passed"
    if backend.NAME != "torch":
        saved_model = report["formats"]["tf_saved_model"]
        assert saved_model["status"] == "passed", saved_model["reason"]


@keras.saving.register_keras_serializable("tests")
class Doubling(keras.layers.Layer):
    """A layer that does not say how often it doubles."""

    def __init__(self, times=1, **kwargs):
        super().__init__(**kwargs)
        self.times = times

    def call(self, inputs):
        return inputs * 2**self.times

    def get_config(self):
        return {"name": self.name}


def test_a_model_that_reloads_to_another_function_fails(tmp_path):
    inputs = keras.Input((3,))
    doubling = keras.Model(inputs, Doubling(times=3)(inputs))
    report = export.export_model(
        doubling, tmp_path, ["keras"], np.ones((2, 3), "float32")
    )
    outcome = report["formats"]["keras"]
    assert outcome["status"] == "failed"
    # 8 times the input in memory, 2 times when reloaded.
    assert outcome["max_abs_difference"] == 6.0, outcome["reason"]


def test_a_format_that_cannot_be_made_is_reported(tmp_path):
    class Local(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    inputs = keras.Input((3,))
    unregistered = keras.Model(inputs, Local()(inputs))
    report = export.export_model(
        unregistered, tmp_path, ["keras"], np.ones((2, 3), "float32")
    )
    assert report["formats"]["keras"]["status"] == "failed"
    assert "Local" in report["formats"]["keras"]["reason"]


def test_nan_never_passes():
    good, bad = [np.zeros(2)], [np.array([0.0, np.nan])]
    assert export._compare(good, lambda: bad)["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["pickle"]}, "`formats` must be one of 'keras'"),
        ({"sample": None}, "`sample` must hold at least one input"),
        ({"sample": np.ones((0, 5))}, "`sample` must hold at least one input"),
        ({"sample": []}, "`sample` must hold at least one input"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    settings = {"sample": np.ones((1, 5), "float32"), **arguments}
    with pytest.raises(ValueError, match=message):
        export.export_model(model(), tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()
