"""The tuners take the place of KerasTuner's: arguments, results, files."""

import inspect
import json
import pathlib

import keras
import keras_tuner
import numpy as np
import pytest
import tuning
from keras_tuner import errors

# Searches and studies take long: `make test` leaves them to the rest.
pytestmark = [pytest.mark.extended, pytest.mark.one_backend]

# --- Constructors ---


@pytest.mark.parametrize("kind", tuning.KINDS)
def test_arguments_are_those_of_kerastuner(kind):
    def arguments(symbol):
        parameters = inspect.signature(symbol).parameters.values()
        return [(p.name, p.default) for p in parameters if p.name != "kwargs"]

    own = arguments(tuning.CLASSES[kind])
    theirs = arguments(tuning.STOCK[kind])
    limit = "max_consecutive_failed_trials"
    expected = [(n, None if n == limit else d) for n, d in theirs]
    if kind == "bayesian":
        expected.append(("max_lanes", None))
    assert own == expected
    assert issubclass(tuning.CLASSES[kind], keras_tuner.Tuner)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_lanes": 0}, "`max_lanes` must be an integer of at least 1"),
        ({"engine": "fast"}, "`engine` must be one of"),
        ({"executions_per_trial": 0}, "`executions_per_trial` must be"),
        ({"hypermodel": None}, "`hypermodel` must build models"),
        ({"surprise": 1}, "surprise"),
    ],
)
@pytest.mark.parametrize("kind", ["random", "bayesian"])
def test_bad_arguments_raise_before_anything_is_written(
    kind, arguments, message, tmp_path
):
    built = []

    def build(hp):
        built.append(hp)
        return tuning.build(hp)

    settings = {"hypermodel": build, "kind": kind, **arguments}
    with pytest.raises(ValueError, match=message):
        tuning.tuner(tmp_path / "folder", **settings)
    assert not built
    assert not (tmp_path / "folder").exists()


# --- What `search` refuses ---


def batch_size(make):
    def build(hp):
        make(hp)
        return tuning.build(hp)

    return build


@pytest.mark.parametrize(
    ("build", "fit", "message"),
    [
        (tuning.build, {"x": None}, "x=None"),
        (tuning.build, {"surprise": 1}, "surprise"),
        (tuning.build, {"y": np.zeros((3, 1))}, "same number of samples"),
        (tuning.build, {"batch_size": -1}, "batch_size=-1"),
        (
            batch_size(lambda hp: hp.Int("batch_size", 0, 8)),
            {},
            "batch_size=0",
        ),
        (
            batch_size(lambda hp: hp.Float("batch_size", 8.0, 16.0)),
            {},
            "batch_size=8\\.",
        ),
        (
            batch_size(lambda hp: hp.Choice("batch_size", [8, 16])),
            {"x": [(np.zeros((8, 2)), np.zeros((8, 1)))] * 2, "y": None},
            "data that come in batches",
        ),
    ],
)
def test_bad_calls_raise_before_a_trial_begins(build, fit, message, tmp_path):
    if isinstance(fit.get("x"), list):
        fit = {**fit, "x": (batch for batch in fit["x"])}
    tuner = tuning.tuner(tmp_path, build)
    with pytest.raises((ValueError, TypeError), match=message):
        tuner.search(**tuning.fit_arguments(**fit))
    assert not tuner.oracle.trials


def test_models_without_an_objective_to_report_need_one(tmp_path):
    tuner = tuning.tuner(tmp_path, objective=None)
    with pytest.raises(ValueError, match="`objective` must name"):
        tuner.search(**tuning.fit_arguments())
    assert not tuner.oracle.trials


@pytest.mark.parametrize("callback", [tuning.LaneWise, tuning.Alone])
@pytest.mark.parametrize(
    "objective",
    [
        keras_tuner.Objective("val_f1", "max"),
        ["val_loss", keras_tuner.Objective("val_f1", "max")],
    ],
)
def test_an_unknown_objective_raises_after_an_epoch(
    callback, objective, tmp_path
):
    log = tmp_path / "log"
    tuner = tuning.tuner(tmp_path, objective=objective, max_lanes=1)
    with pytest.raises(ValueError, match="'val_f1' is not among") as caught:
        tuner.search(**tuning.fit_arguments(callbacks=[callback(log)]))
    assert "val_mae" in str(caught.value)
    assert log.read_text().split() == ["0"]


# --- Results ---


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", tuning.KINDS)
def test_the_best_model_evaluates_to_the_score(kind, tmp_path):
    arguments = {"max_epochs": 4} if kind == "hyperband" else {}
    tuner = tuning.searched(tmp_path, kind=kind, **arguments)
    best, second = tuner.oracle.get_best_trials(2)
    assert best.score <= second.score
    assert set(tuning.statuses(tuner)) == {"COMPLETED"}
    models = tuner.get_best_models(2)
    for trial, model in zip([best, second], models, strict=True):
        loss, _ = model.evaluate(
            *tuning.fit_arguments()["validation_data"], verbose=0
        )
        assert loss == pytest.approx(trial.score, rel=1e-5)
    assert (
        tuner.get_best_hyperparameters()[0].values["rate"]
        == (best.hyperparameters.values["rate"])
    )


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path):
    # Learns, and then unlearns: the second epoch is the best.
    class Unlearn(keras.callbacks.Callback):
        lane_wise = True

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                weights = self.model.get_weights()
                self.model.set_weights([w + 3 for w in weights])

    tuner = tuning.searched(
        tmp_path, fit={"epochs": 3, "callbacks": [Unlearn()]}, max_trials=2
    )
    trial = tuner.oracle.get_best_trials()[0]
    curve = tuning.curve_of(tuner, trial)
    assert trial.best_step == 1
    assert trial.score == curve[1][0] < curve[2][0]
    loss, _ = tuner.get_best_models()[0].evaluate(
        *tuning.fit_arguments()["validation_data"], verbose=0
    )
    assert loss == pytest.approx(trial.score, rel=1e-5)


def test_summaries_are_printed(tmp_path, capsys):
    tuner = tuning.searched(tmp_path)
    tuner.search_space_summary()
    tuner.results_summary()
    printed = capsys.readouterr().out
    assert "rate (Float)" in printed
    assert str(min(tuning.scores(tuner))) in printed
    assert tuner.remaining_trials == 0


def test_kerastuner_itself_reads_a_finished_project(tmp_path):
    own = tuning.searched(tmp_path)
    stock = keras_tuner.RandomSearch(
        tuning.build,
        "val_loss",
        max_trials=3,
        directory=str(tmp_path),
        project_name="search",
    )
    assert tuning.scores(stock) == tuning.scores(own)
    trial = stock.oracle.get_best_trials()[0]
    loss, _ = stock.get_best_models()[0].evaluate(
        *tuning.fit_arguments()["validation_data"], verbose=0
    )
    assert loss == pytest.approx(trial.score, rel=1e-5)
    # Nothing is left to do.
    stock.search(**tuning.fit_arguments())
    assert tuning.scores(stock) == tuning.scores(own)
    assert len(stock.oracle.trials) == 3


def test_kerastuner_loads_models_that_were_not_built(tmp_path):
    def build(hp):
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(hp.Choice("r", [0.01, 0.1])), "mse")
        return model

    own = tuning.searched(tmp_path, build, max_trials=2)
    stock = keras_tuner.RandomSearch(
        build, "val_loss", directory=str(tmp_path), project_name="search"
    )
    loss = stock.get_best_models()[0].evaluate(
        *tuning.fit_arguments()["validation_data"], verbose=0
    )
    assert loss == pytest.approx(min(tuning.scores(own)), rel=1e-5)


def test_the_project_has_the_files_of_kerastuner(tmp_path):
    tuner = tuning.searched(tmp_path, max_trials=1)
    project = tmp_path / "search"
    found = {str(p.relative_to(project)) for p in project.rglob("*.*")}
    assert found == {
        "oracle.json",
        "tuner0.json",
        "trial_0/trial.json",
        "trial_0/checkpoint.weights.h5",
        "trial_0/build_config.json",
    }
    config = json.loads((project / "trial_0/build_config.json").read_text())
    assert config == keras.tree.map_structure(
        lambda v: v, json.loads(json.dumps(config))
    )
    assert config["input_shape"] in ([None, 2], [16, 2])
    assert tuner.project_dir == str(project)


def test_a_search_goes_on_with_more_trials(tmp_path):
    first = tuning.searched(tmp_path, max_trials=2)
    second = tuning.searched(tmp_path, max_trials=3)
    assert tuning.scores(second)[:2] == tuning.scores(first)
    assert len(second.oracle.trials) == 3
    anew = tuning.tuner(tmp_path, overwrite=True)
    assert not anew.oracle.trials


def test_a_search_with_its_own_id_is_found_again(tmp_path):
    first = tuning.searched(tmp_path, tuner_id="mine")
    again = tuning.tuner(tmp_path, tuner_id="mine")
    assert tuning.scores(again) == tuning.scores(first)


# --- What is searched ---


def test_hypermodels_and_functions_are_the_same(tmp_path):
    own = tuning.searched(tmp_path / "a", tuning.HyperModel())
    function = tuning.searched(tmp_path / "b", tuning.build)
    assert tuning.scores(own) == tuning.scores(function)


def test_the_tuner_may_replace_optimizer_loss_and_metrics(tmp_path):
    tuner = tuning.searched(
        tmp_path,
        objective="val_mape",
        optimizer=keras.optimizers.Adam(0.25),
        loss="mae",
        metrics=["mape"],
        max_trials=2,
    )
    model = tuner.get_best_models()[0]
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert model.loss == "mae"
    trial = tuning.trials(tuner)[0]
    assert "val_mape" in tuning.file_of(tuner, trial)["metrics"]["metrics"]
    # The rate of the models has no effect: all trials are the same.
    assert tuning.scores(tuner)[0] == pytest.approx(
        tuning.scores(tuner)[1], rel=1e-5
    )


@pytest.mark.parametrize("callback", [tuning.LaneWise, tuning.Alone])
def test_models_beyond_a_size_fail(callback, tmp_path):
    def build(hp):  # 3 n + n + 1 parameters.
        return tuning.model("sgd", hp.Choice("units", [2, 5]))

    tuner = tuning.searched(
        tmp_path,
        build,
        "grid",
        max_model_size=10,
        fit={"callbacks": [callback()]},
    )
    assert tuning.statuses(tuner) == ["COMPLETED", "FAILED"]
    assert "21 " in tuning.trials(tuner)[1].message


def test_only_trainable_parameters_have_a_size(tmp_path):
    def build(hp):
        model = keras.Sequential(
            [keras.Input((2,)), keras.layers.Normalization()]
        )
        model.add(keras.layers.Dense(1))
        model.compile(keras.optimizers.SGD(hp.Choice("rate", [0.1])), "mse")
        return model

    tuner = tuning.searched(tmp_path, build, max_model_size=3, max_trials=1)
    assert tuning.statuses(tuner) == ["COMPLETED"]


def test_entries_that_are_not_tuned_keep_their_defaults(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Choice("units", [1, 2, 3])

    def build(hp):
        rate = hp.Float("rate", 0.01, 0.1, default=0.05)
        return tuning.model(keras.optimizers.SGD(rate), hp.get("units"))

    tuner = tuning.searched(
        tmp_path, build, hyperparameters=hp, tune_new_entries=False
    )
    found = [trial.hyperparameters.values for trial in tuning.trials(tuner)]
    assert {each["units"] for each in found} == {1, 2, 3}
    assert {each.get("rate", 0.05) for each in found} == {0.05}


def test_new_entries_may_be_forbidden(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Choice("units", [1, 2, 3])
    with pytest.raises(RuntimeError, match="`allow_new_entries` is `False`"):
        tuning.tuner(tmp_path, hyperparameters=hp, allow_new_entries=False)


def test_conditional_hyperparameters_are_searched(tmp_path):
    def build(hp):
        if hp.Choice("optimizer", ["sgd", "adam"]) == "adam":
            return tuning.model(keras.optimizers.Adam(0.01))
        with hp.conditional_scope("optimizer", ["sgd"]):
            momentum = hp.Choice("momentum", [0.0, 0.9])
        return tuning.model(keras.optimizers.SGD(0.01, momentum))

    tuner = tuning.searched(tmp_path, build, "grid", max_trials=None)
    found = [trial.hyperparameters.values for trial in tuning.trials(tuner)]
    assert sorted(each["optimizer"] for each in found) == ["adam", "sgd", "sgd"]
    assert {each.get("momentum") for each in found} == {None, 0.0, 0.9}
    assert len(set(tuning.scores(tuner))) == 3


# --- Objectives ---


def test_objectives_may_be_several(tmp_path):
    objective = ["val_loss", keras_tuner.Objective("val_mae", "max")]
    tuner = tuning.searched(tmp_path, objective=objective)
    for trial in tuning.trials(tuner):
        losses = tuning.curve_of(tuner, trial, "val_loss")
        errors = tuning.curve_of(tuner, trial, "val_mae")
        sums = [losses[n][0] - errors[n][0] for n in losses]
        assert trial.score == pytest.approx(min(sums))


def test_an_objective_may_be_maximized(tmp_path):
    objective = keras_tuner.Objective("val_mae", "max")
    tuner = tuning.searched(tmp_path, objective=objective)
    best = tuner.oracle.get_best_trials()[0]
    assert best.score == max(tuning.scores(tuner))
    assert (
        best.score == max(tuning.curve_of(tuner, best, "val_mae").values())[0]
    )


@pytest.mark.parametrize("callback", [tuning.LaneWise, tuning.Alone])
def test_validations_may_be_rare(callback, tmp_path):
    tuner = tuning.searched(
        tmp_path,
        fit={"epochs": 5, "validation_freq": 2, "callbacks": [callback()]},
        max_trials=2,
    )
    for trial in tuning.trials(tuner):
        assert [*tuning.curve_of(tuner, trial)] == [1, 3]
        assert trial.score == min(tuning.curve_of(tuner, trial).values())[0]


def test_an_objective_that_no_epoch_has_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'val_loss' is not among"):
        tuning.searched(tmp_path, fit={"validation_freq": 3})


class Returns(tuning.HyperModel):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def fit(self, hp, model, *args, **kwargs):
        return self.result(hp.get("rate"))


@pytest.mark.parametrize(
    ("objective", "result"),
    [
        (None, lambda rate: rate),
        ("val_loss", lambda rate: np.float32(rate)),
        ("val_loss", lambda rate: {"val_loss": rate, "other": 1}),
        (
            ["loss", "val_loss"],
            lambda r: {"loss": r / 2, "val_loss": r / 2, "multi_objective": r},
        ),
    ],
)
def test_fit_may_return_numbers(objective, result, tmp_path):
    tuner = tuning.searched(
        tmp_path, Returns(result), objective=objective, executions_per_trial=2
    )
    rates = [t.hyperparameters.values["rate"] for t in tuning.trials(tuner)]
    assert tuning.scores(tuner) == pytest.approx(rates)
    name = tuner.oracle.objective.name
    curve = tuning.curve_of(tuner, tuning.trials(tuner)[0], name)
    assert curve == {0: pytest.approx([rates[0]] * 2)}


@pytest.mark.parametrize(
    ("objective", "result"),
    [
        (None, {"val_loss": 1.0}),
        ("val_loss", {"loss": 1.0}),
        ("val_loss", None),
        ("val_loss", "text"),
        ("val_loss", {"val_loss": None}),
    ],
)
def test_what_fit_returns_must_be_the_objective(objective, result, tmp_path):
    with pytest.raises(errors.FatalError, match="return"):
        tuning.searched(
            tmp_path, Returns(lambda rate: result), objective=objective
        )


# --- Batch size ---


@pytest.mark.every_backend
@pytest.mark.parametrize("callback", [tuning.LaneWise, tuning.Alone])
def test_a_batch_size_is_honored(callback, tmp_path):
    build = batch_size(lambda hp: hp.Choice("batch_size", [8, 16, 32]))
    hp = keras_tuner.HyperParameters()
    hp.Choice("batch_size", [8, 16, 32])
    tuner = tuning.searched(
        tmp_path,
        build,
        "grid",
        fit={"callbacks": [callback()], "batch_size": 4},
        hyperparameters=hp,
        tune_new_entries=False,
    )
    updates = {}
    for trial in tuning.trials(tuner):
        values = trial.hyperparameters.values
        curve = tuning.curve_of(tuner, trial, "updates")
        updates[values["batch_size"]] = [own for (own,) in curve.values()]
    assert updates == {8: [4.0] * 2, 16: [2.0] * 2, 32: [1.0] * 2}


def test_a_batch_size_may_be_passed_by_position(tmp_path):
    arguments = tuning.fit_arguments(callbacks=[tuning.Alone()])
    build = batch_size(lambda hp: hp.Fixed("batch_size", 8))
    tuner = tuning.tuner(tmp_path, build, max_trials=1)
    places = [arguments.pop(name) for name in ("x", "y", "batch_size")]
    tuner.search(*places, **arguments)
    trial = tuning.trials(tuner)[0]
    assert tuning.curve_of(tuner, trial, "updates") == {0: [4.0], 1: [4.0]}


def test_the_folder_of_a_search_is_a_path(tmp_path):
    tuner = tuning.tuner(pathlib.Path(tmp_path))
    assert pathlib.Path(tuner.project_dir) == tmp_path / "search"
