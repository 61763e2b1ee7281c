"""The private names of KerasTuner that tuners rest on mean what they did."""

import ast
import inspect
import json
import pathlib

import keras_tuner
import pytest
import tuning
from keras_tuner.engine import base_tuner
from keras_tuner.engine import trial as kt_trial

from kerascomp import tuners
from kerascomp.tuners import _oracle, _tuner

pytestmark = pytest.mark.one_backend

# Each with its reason where it is used.
USED = {
    "_build_hypermodel",
    "_build_and_fit_model",
    "_configure_tensorboard_dir",
    "_save_trial",
    "_get_trial_dir",
}


def private_names(symbols):
    return {
        name
        for symbol in symbols
        for name in dir(symbol)
        if name.startswith("_") and not name.startswith("__")
    }


def test_no_other_private_name_is_used_or_covered():
    theirs = private_names([keras_tuner.Tuner, keras_tuner.Oracle])
    own = set()
    for file in pathlib.Path(tuners.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                own.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                own.add(node.name)
    assert own & theirs == USED


def test_models_are_built_with_what_the_tuner_was_given(tmp_path):
    tuner = keras_tuner.RandomSearch(
        tuning.build, "loss", loss="mae", directory=str(tmp_path)
    )
    model = tuner._build_hypermodel(tuner.oracle.get_space())
    assert model.loss == "mae"
    assert model is not tuner._build_hypermodel(tuner.oracle.get_space())


def test_each_execution_calls_what_builds_and_fits(tmp_path):
    calls = []

    class Counts(keras_tuner.RandomSearch):
        def _build_and_fit_model(self, trial, *args, **kwargs):
            calls.append((trial.trial_id, kwargs["epochs"]))
            return {"val_loss": 1.0}

        def _configure_tensorboard_dir(self, callbacks, trial, execution=0):
            calls.append(execution)  # Without TensorBoard, all would fail.

    tuner = Counts(
        tuning.build,
        "val_loss",
        max_trials=2,
        executions_per_trial=2,
        directory=str(tmp_path),
    )
    tuner.search(epochs=3, verbose=0)
    assert calls == [0, ("0", 3), 1, ("0", 3), 0, ("1", 3), 1, ("1", 3)]


def test_trials_are_written_by_one_method(tmp_path):
    written = []

    class Keeps(keras_tuner.oracles.RandomSearchOracle):
        def _save_trial(self, trial):
            folder = pathlib.Path(self._get_trial_dir(trial.trial_id))
            written.append(folder)
            super()._save_trial(trial)
            found = json.loads((folder / "trial.json").read_text())
            assert found == json.loads(json.dumps(trial.get_state()))

    oracle = Keeps(keras_tuner.Objective("loss", "min"), max_trials=1)
    base_tuner.BaseTuner(oracle, directory=str(tmp_path), project_name="p")
    oracle.verbose = 0
    trial = oracle.create_trial("a")
    oracle.update_trial(trial.trial_id, {"loss": 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    assert set(written) == {tmp_path / "p" / "trial_0"}
    assert len(written) == 3


def test_tuners_and_oracles_save_through_one_base():
    base = _oracle.Stateful
    assert base is not object
    assert issubclass(keras_tuner.Tuner, base)
    assert issubclass(keras_tuner.Oracle, base)
    assert [*inspect.signature(base.save).parameters] == ["self", "fname"]
    order = _tuner.LanesTuner.__mro__
    assert order.index(_oracle.AtomicFiles) < order.index(base)
    assert order.index(_oracle.AtomicFiles) > order.index(keras_tuner.Tuner)


def test_observations_are_kept_as_they_are_told():
    metrics = kt_trial.Trial(keras_tuner.HyperParameters()).metrics
    metrics.register("loss", "min")
    for value, step in [(3.0, 0), (1.0, 1), (2.0, 1)]:
        metrics.set_history("loss", [_oracle._Observation(value, step)])
    config = metrics.get_config()["metrics"]["loss"]
    assert config["observations"] == [
        {"value": [3.0], "step": 0},
        {"value": [1.0, 2.0], "step": 1},
    ]
    assert metrics.get_best_value("loss") == 1.5


def test_the_environment_tells_who_is_chief(monkeypatch):
    assert not _tuner._has_chief()
    assert not _tuner._is_chief()
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief-1")
    from keras_tuner.src.distribute import utils

    assert utils.has_chief_oracle()
    assert _tuner._has_chief()
    assert utils.is_chief_oracle()
    assert _tuner._is_chief()
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    assert not utils.is_chief_oracle()
    assert not _tuner._is_chief()


def test_names_of_objectives_without_a_public_class(tmp_path):
    tuner = tuning.tuner(tmp_path, objective=["loss", "val_loss"])
    assert [*tuner.oracle.objective.name_to_direction] == ["loss", "val_loss"]
    none = tuning.tuner(tmp_path / "none", objective=None)
    assert none.oracle.objective.name == "default_objective"


@pytest.mark.parametrize("name", ["build", "fit"])
def test_replaced_methods_are_seen(name):
    model = tuning.HyperModel()
    base = keras_tuner.HyperModel
    assert _tuner._overrides(model, base, "fit") is False
    setattr(model, name, lambda *args: None)
    assert _tuner._overrides(model, base, name)
