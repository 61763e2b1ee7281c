"""Studies: what they find, keep, refuse, and survive."""

import csv
import dataclasses
import itertools
import json
import statistics

import backend
import keras
import keras_tuner
import numpy as np
import pytest
import studying
from scipy import stats

from kerascomp import _files, datasets, export, studies
from kerascomp.population import _training
from kerascomp.studies import (
    _folds,
    _records,
    _report,
    _runner,
    _search,
    _study,
)

# Searches and studies take long: `make test` leaves them to the rest.
pytestmark = [pytest.mark.extended, pytest.mark.one_backend]


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Leaves out the report and the SavedModel, which cost seconds.

    The study of the fixture `finished` has both.
    """
    if "finished" not in request.fixturenames:
        monkeypatch.setattr(_report, "write_report", lambda directory: None)
        monkeypatch.setattr(export, "export_model", lambda *a, **k: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of two trials with two seeds each."""
    directory = tmp_path_factory.mktemp("study")
    return studying.study(directory, seeds=2).run(verbose=0)


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.every_backend
def test_a_study_leaves_everything_behind(finished):
    names = {path.name for path in finished.directory.iterdir()}
    assert {
        "study.json",
        "trials.csv",
        "curves.csv",
        "report.html",
        "keras_tuner",
        "best",
    } <= names
    assert ".scratch" not in names
    best = {path.name for path in (finished.directory / "best").iterdir()}
    assert {"model.keras", "metrics.json", "parity.json"} <= best
    assert finished.status == "finished"


def test_the_best_model_predicts_as_its_metrics_say(finished):
    metrics = json.loads(
        (finished.directory / "best" / "metrics.json").read_text()
    )
    test = studying.data().test
    probabilities = finished.best_model().predict(test.x, verbose=0)
    accuracy = np.mean(np.argmax(probabilities, -1) == test.y)
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy)


def test_the_best_weights_are_those_of_the_best_epoch(finished):
    metrics = json.loads(
        (finished.directory / "best" / "metrics.json").read_text()
    )
    run = next(run for run in finished.best.runs if run.seed == metrics["seed"])
    assert metrics["validation"]["loss"] == pytest.approx(
        run.at_best()["val_loss"], rel=1e-5
    )
    assert run.score == max(run.curves["val_accuracy"])


def test_parity_is_proved_or_its_absence_explained(finished):
    report = json.loads(
        (finished.directory / "best" / "parity.json").read_text()
    )
    assert report["formats"]["keras"]["status"] == "passed"
    saved_model = report["formats"]["tf_saved_model"]
    if backend.NAME == "torch":
        assert saved_model["status"] == "skipped"
        assert "TensorFlow and JAX" in saved_model["reason"]
    else:
        assert saved_model["status"] == "passed"


def test_the_score_is_the_mean_over_seeds_with_its_t_interval(finished):
    for trial in finished.record.trials:
        scores = [max(run.curves["val_accuracy"]) for run in trial.runs]
        assert trial.score == pytest.approx(statistics.fmean(scores))
        if len(set(scores)) > 1:
            expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
            assert trial.interval() == pytest.approx(tuple(expected))


def test_tables_hold_every_trial_and_every_epoch(finished):
    trials = rows(finished.directory / "trials.csv")
    curves = rows(finished.directory / "curves.csv")
    assert [row["trial"] for row in trials] == ["0", "1"]
    losses = [row for row in curves if row["metric"] == "val_loss"]
    assert len(losses) == 2 * 2 * 2  # trials x seeds x epochs
    recorded = {row["metric"] for row in curves}
    assert {"grad_norm", "learning_rate", "seconds"} <= recorded


def test_keras_tuner_reads_the_project(finished, capsys):
    tuner = keras_tuner.RandomSearch(
        studying.build,
        objective="val_accuracy",
        max_trials=2,
        directory=finished.directory,
        project_name="keras_tuner",
        overwrite=False,
    )
    # Of equal trials, KerasTuner takes whichever file it reads first.
    best = tuner.oracle.get_best_trials()[0]
    assert best.score == pytest.approx(finished.best.score)
    points = [dict(t.hyperparameters) for t in finished.record.trials]
    assert best.hyperparameters.values in points
    tuner.results_summary()
    assert "Score: " in capsys.readouterr().out


def test_a_finished_study_is_not_run_again(finished, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a training was started")

    monkeypatch.setattr(_runner.Executor, "run", refuse)
    again = studying.study(finished.directory, seeds=2).run(verbose=0)
    assert again.best.score == finished.best.score


def test_the_table_prints_one_aligned_line_a_trial(finished):
    lines = str(finished.table()).splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert finished.table()[0]["val_accuracy"] == finished.best.score


def test_all_trials_share_seeds_and_initial_weights(tmp_path):
    seen = []

    def build(hp):
        model = studying.build(hp)
        seen.append(model.get_weights()[0])
        return model

    space = {"batch_size": 16, "learning_rate": [1e-3, 1e-2]}
    study = studying.study(
        tmp_path, build, space=space, algorithm="grid", max_trials=None
    )
    study.run(verbose=0)
    first, second = seen[-3:-1]  # The last one is built to be saved.
    np.testing.assert_array_equal(first, second)


@pytest.mark.every_backend
def test_equal_seeds_give_equal_studies_and_zero_is_a_seed(tmp_path):
    outcomes = [
        [
            (t.hyperparameters, t.score)
            for t in studying.study(tmp_path / name, epochs=1, seed=0)
            .run(verbose=0)
            .record.trials
        ]
        for name in ("one", "two")
    ]
    assert outcomes[0] == outcomes[1]


def test_a_grid_runs_every_point_once(tmp_path):
    space = {"batch_size": [16, 32], "learning_rate": [1e-3, 1e-2, 1e-1]}
    study = studying.study(
        tmp_path, space=space, algorithm="grid", max_trials=None, epochs=1
    )
    trials = study.run(verbose=0).record.trials
    points = {tuple(t.hyperparameters.values()) for t in trials}
    assert len(trials) == len(points) == 6


def test_hyperband_continues_where_the_trial_before_stopped(tmp_path):
    study = studying.study(
        tmp_path, algorithm="hyperband", max_trials=None, epochs=3
    )
    runs = [r for t in study.run(verbose=0).record.trials for r in t.runs]
    continued = [run for run in runs if run.first_epoch > 0]
    assert continued
    for run in continued:
        parent = next(
            other
            for other in runs
            if other.first_epoch == 0
            and other.hyperparameters == run.hyperparameters
        )
        # Warm weights: the loss goes on from where the parent's ended.
        assert run.curves["loss"][0] < parent.curves["loss"][0]
        assert run.first_epoch + len(run.curves["loss"]) == 3


@pytest.mark.parametrize(("batch_size", "updates"), [(512, 1), (1, 512)])
def test_batch_size_decides_the_updates_of_an_epoch(
    tmp_path, batch_size, updates
):
    space = {"batch_size": batch_size, "learning_rate": 0.1}
    study = studies.Study(
        studying.build,
        with_512_training_samples(),
        space=space,
        max_trials=1,
        epochs=1,
        directory=tmp_path,
    )
    (trial,) = study.run(verbose=0).record.trials
    assert trial.runs[0].updates_per_epoch == updates


def with_512_training_samples():
    rng = np.random.default_rng(0)

    def part(samples):
        y = np.arange(samples, dtype="int32") % 3
        x = rng.normal(size=(samples, 2)).astype("float32")
        return datasets.Part(x, y)

    return datasets.Dataset(
        name="512",
        task="classification",
        train=part(512),
        validation=part(30),
        test=part(30),
        class_names=("a", "b", "c"),
    )


def test_a_failing_trial_is_recorded_and_the_study_goes_on(
    tmp_path, monkeypatch
):
    fail_at(monkeypatch, RuntimeError("out of luck"), trial="0000")
    space = {"batch_size": [16, 32], "learning_rate": 0.1}
    study = studying.study(
        tmp_path, space=space, algorithm="grid", max_trials=None
    )
    result = study.run(verbose=0)
    failed, completed = result.record.trials
    assert (failed.status, completed.status) == ("failed", "completed")
    assert failed.message == "RuntimeError: out of luck"
    assert "Traceback" in failed.runs[0].traceback
    assert result.best == completed


def fail_at(monkeypatch, error, trial=None):
    """Makes the models of a trial, or of all, raise an error when built."""
    make = _runner.Executor._lane

    def raising():
        raise error

    def failing(self, job):
        lane = make(self, job)
        if trial in (None, job.proposal.trial):
            return dataclasses.replace(lane, build=raising)
        return lane

    monkeypatch.setattr(_runner.Executor, "_lane", failing)


@pytest.mark.parametrize("algorithm", ["random", "hyperband"])
def test_diverging_trials_are_recorded_and_never_win(tmp_path, algorithm):
    # Squared error on a linear model: SGD diverges above a rate of 2 / L.
    def build(hp):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(hp.get("learning_rate")), "mse")
        return model

    study = studying.study(
        tmp_path,
        build,
        space={"learning_rate": [1e-3, 1e20], "batch_size": [8, 16]},
        algorithm=algorithm,
        max_trials=4 if algorithm == "random" else None,
        epochs=3,
        objective="val_loss",
    )
    result = study.run(verbose=0)
    by_rate = {}
    for trial in result.record.trials:
        rate = trial.hyperparameters["learning_rate"]
        by_rate.setdefault(rate, set()).add(trial.status)
    assert by_rate == {1e-3: {"completed"}, 1e20: {"diverged"}}
    assert result.best.hyperparameters["learning_rate"] == 1e-3
    diverged = next(t for t in result.record.trials if t.score is None)
    assert diverged.runs[0].diverged_epoch == 0
    assert "not finite in epoch 1" in diverged.message


def test_a_study_without_any_completed_trial_has_no_best_model(
    tmp_path, monkeypatch
):
    fail_at(monkeypatch, RuntimeError("never"))
    result = studying.study(tmp_path).run(verbose=0)
    assert result.best is None
    with pytest.raises(studies.StudyError, match="no trial completed"):
        result.best_model()


def test_hyperparameters_declared_in_the_function_are_searched(tmp_path):
    def build(hp):
        hp.Choice("units", [2, 3])
        return studying.build(hp)

    space = {"learning_rate": 0.1}
    study = studying.study(tmp_path, build, space=space, epochs=1)
    record = study.run(verbose=0).record
    assert {t.hyperparameters["units"] for t in record.trials} == {2, 3}
    assert record.tuned == ["learning_rate", "units"]


def test_a_time_limit_ends_the_study_and_the_next_run_goes_on(tmp_path):
    limited = studying.study(tmp_path, max_minutes=1e-9).run(verbose=0)
    assert limited.status == "time limit"
    assert limited.record.trials == ()
    finished = studying.study(tmp_path).run(verbose=0)
    assert finished.status == "finished"
    assert len(finished.record.trials) == 2


def test_ctrl_c_leaves_a_study_that_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, KeyboardInterrupt(), trial="1")
        with pytest.raises(KeyboardInterrupt):
            studying.study(tmp_path, max_lanes=1).run(verbose=0)
    record = _records.read(tmp_path)
    assert record.study["status"] == "interrupted"
    assert len(record.trials) == 1
    finished = studying.study(tmp_path, max_lanes=1).run(verbose=0)
    assert finished.status == "finished"


def test_a_time_limit_stops_with_the_running_epoch(tmp_path, monkeypatch):
    whole = studying.study(tmp_path / "whole", **STEADY).run(verbose=0)
    now = itertools.count()
    with monkeypatch.context() as patch:
        # A minute passes from one look at the clock to the next.
        patch.setattr(_study.time, "monotonic", lambda: 60.0 * next(now))
        limited = studying.study(
            tmp_path / "limited", max_minutes=3.5, **STEADY
        ).run(verbose=0)
    assert limited.status == "time limit"
    assert limited.record.trials == ()
    assert (tmp_path / "limited" / "running.npz").exists()
    trained = []
    train = _training._Run.train

    def counted(self, epoch, step):
        trained.append(epoch)
        return train(self, epoch, step)

    monkeypatch.setattr(_training._Run, "train", counted)
    resumed = studying.study(tmp_path / "limited", **STEADY).run(verbose=0)
    assert 0 not in trained  # Where it had been already.
    assert outcomes(resumed) == outcomes(whole)
    assert not (tmp_path / "limited" / "running.npz").exists()


# One group, of which every epoch is the same in every process.
STEADY = {
    "space": {"batch_size": 16, "learning_rate": (1e-3, 1e-1, "log")},
    "epochs": 4,
    "engine": "looped",
}


def outcomes(result):
    return [
        (trial.hyperparameters, run.score, run.curves["val_loss"])
        for trial in result.record.trials
        for run in trial.runs
    ]


def test_halving_ends_the_worse_trials_at_the_rungs(tmp_path):
    space = {"batch_size": 16, "learning_rate": (1e-3, 1e-1, "log")}
    result = studying.study(
        tmp_path,
        space=space,
        max_trials=9,
        epochs=9,
        halving=3,
        objective="val_loss",
    ).run(verbose=0)
    ends = [trial.pruned_epoch for trial in result.record.trials]
    assert sorted(ends, key=str) == [1] * 6 + [3] * 2 + [None]
    for trial in result.record.trials:
        curve = trial.runs[0].curves["val_loss"]
        assert len(curve) == (trial.pruned_epoch or 9)
    for rung in (1, 3):
        at_rung = {
            trial.id: min(trial.runs[0].curves["val_loss"][:rung])
            for trial in result.record.trials
            if (trial.pruned_epoch or 9) >= rung
        }
        gone = {t.id for t in result.record.trials if t.pruned_epoch == rung}
        kept = at_rung.keys() - gone
        assert max(at_rung[n] for n in kept) <= min(at_rung[n] for n in gone)
    assert result.best.pruned_epoch is None
    written = rows(tmp_path / "trials.csv")
    assert [row["pruned_epoch"] for row in written] == [
        "" if end is None else str(end) for end in ends
    ]


@pytest.mark.every_backend
def test_folds_are_trainings_that_validate_on_every_sample_once(tmp_path):
    study = studying.study(tmp_path, folds=3, epochs=1)
    result = study.run(verbose=0)
    for trial in result.record.trials:
        assert [run.seed for run in trial.runs] == [0, 1, 2]
        assert len(set(trial.scores)) > 1
        assert trial.score == pytest.approx(np.mean(trial.scores))
    data = studying.data()
    parts = _folds.parts(data, 3, 0, [0, 1, 2])
    samples = len(data.train) + len(data.validation)
    together = np.concatenate(parts.validation_samples)
    np.testing.assert_array_equal(np.sort(together), np.arange(samples))
    for train, validation in zip(
        parts.samples, parts.validation_samples, strict=True
    ):
        assert not set(train) & set(validation)
        assert len(train) + len(validation) == samples
    # The model that is shipped was not trained on what its metrics are of.
    metrics = json.loads((tmp_path / "best" / "metrics.json").read_text())
    run = result.best.runs[metrics["seed"]]
    assert metrics["validation"]["loss"] == pytest.approx(
        run.at_best()["val_loss"], rel=1e-5
    )


BAD_ARGUMENTS = [
    ({"space": {"batch_size": [1000]}}, "must not be larger than the training"),
    ({"space": {"batch_size": [0]}}, r"`batch_size` must be in \[1, inf\)"),
    ({"space": {"batch_size": [1.5]}}, "must be an integer"),
    ({"space": {"learning_rate": [0.0]}}, r"must be in \(0, inf\)"),
    ({"space": {"learning_rate": (-1.0, 1.0)}}, r"must be in \(0, inf\)"),
    ({"space": {"learning_rate": (0.0, 1.0, "log")}}, "low above 0"),
    ({"space": {"learning_rate": (1.0, 0.1)}}, "low < high"),
    ({"space": {"dropout": [1.0]}}, r"must be in \[0, 1\)"),
    ({"space": {"dropout": []}}, "distinct and not empty"),
    ({"space": {"dropout": None}}, "must be a list of choices"),
    ({"algorithm": "annealing"}, "`algorithm` must be one of"),
    ({"max_trials": 0}, "`max_trials` must be an integer of at least 1"),
    ({"epochs": 0}, "`epochs` must be an integer of at least 1"),
    ({"seeds": 0}, "`seeds` must be an integer of at least 1"),
    ({"seed": -1}, "`seed` must be an integer of at least 0"),
    ({"max_minutes": 0}, "`max_minutes` must be in"),
    ({"build": "transformer"}, "must be one of 'auto', 'mlp'"),
    ({"build": "cnn"}, "takes samples of shape"),
    ({"objective": "val_surprise"}, "is better is not known"),
    ({"algorithm": "hyperband"}, "follows from `epochs`"),
    ({"folds": 1}, "`folds` must be an integer of at least 2"),
    (
        {"folds": 2, "seeds": 3},
        "Received: folds=2, seeds=3",
    ),
    ({"folds": 1000}, "fewer than folds. Received: folds=1000"),
    ({"halving": 1}, "`halving` must be an integer of at least 2"),
    ({"max_lanes": 0}, "`max_lanes` must be an integer of at least 1"),
    ({"engine": "fast"}, "`engine` must be one of"),
    (
        {"algorithm": "hyperband", "max_trials": None, "halving": 3},
        "leave `halving` out",
    ),
    (
        {"algorithm": "grid", "space": {"dropout": [0.1, 0.2, 0.3]}},
        "The grid has 3 points",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_training(
    tmp_path, arguments, message
):
    with pytest.raises(studies.StudyError, match=message):
        studying.study(tmp_path, **arguments)


def test_data_must_be_a_data_set(tmp_path):
    with pytest.raises(studies.StudyError, match="Received: ndarray"):
        studies.Study("mlp", np.ones((3, 2)), directory=tmp_path)


def uncompiled(hp):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


def no_model(hp):
    return "a model"


def raises(hp):
    raise KeyError("units")


def wrong_shape(hp):
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (uncompiled, "Sequential that is not compiled"),
        (no_model, "must return a compiled keras.Model. Received: str"),
        (raises, "The model function raised KeyError: 'units'"),
        (wrong_shape, r"does not take the data: inputs \(2,\)"),
    ],
)
def test_a_bad_model_function_is_refused_before_training(
    tmp_path, build, message
):
    with pytest.raises(studies.StudyError, match=message):
        studying.study(tmp_path / "new", build).run(verbose=0)
    assert not (tmp_path / "new").exists()


def test_an_objective_that_the_model_lacks_is_refused(tmp_path):
    objective = keras_tuner.Objective("val_f1", "max")
    study = studying.study(tmp_path, objective=objective)
    with pytest.raises(studies.StudyError, match="reports accuracy, loss"):
        study.run(verbose=0)


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"seed": 1}, "seed: 0 there, 1 asked"),
        ({"epochs": 3}, "epochs: 2 there, 3 asked"),
        ({"space": {"learning_rate": [0.1, 0.2]}}, "space: "),
    ],
)
def test_another_study_in_the_directory_is_refused(finished, changed, shown):
    study = studying.study(finished.directory, seeds=2, **changed)
    with pytest.raises(studies.StudyError, match=shown) as caught:
        study.run(verbose=0)
    assert "--overwrite" in str(caught.value)


def test_other_data_in_the_directory_are_refused(finished):
    study = studies.Study(
        studying.build,
        datasets.load("wine"),
        directory=finished.directory,
        max_trials=2,
    )
    study._build = lambda hp: _for_wine(hp)
    with pytest.raises(studies.StudyError, match="data: "):
        study.run(verbose=0)


def _for_wine(hp):
    model = keras.Sequential(
        [keras.Input((13,)), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def test_overwrite_starts_anew(tmp_path):
    studying.study(tmp_path, epochs=1).run(verbose=0)
    again = studying.study(tmp_path, epochs=1, seed=1, overwrite=True)
    result = again.run(verbose=0)
    assert result.record.study["settings"]["seed"] == 1
    assert len(result.record.trials) == 2


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(studies.StudyError, match=r"thesis\.tex"):
            studying.study(tmp_path, overwrite=overwrite).run(verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unwritable_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    study = studying.study(tmp_path / "file" / "study")
    with pytest.raises(studies.StudyError, match="cannot be written"):
        study.run(verbose=0)


def test_two_processes_do_not_run_one_study(tmp_path):
    from kerascomp.studies import _directory

    with (
        _directory.locked(tmp_path),
        pytest.raises(studies.StudyError, match="Another process"),
        _directory.locked(tmp_path),
    ):
        pass


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.html"
    _files.write_text(path, "old")
    with pytest.raises(OSError, match="disk full"), _files.atomic_path(path):
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replaying_the_scores_restores_every_search(tmp_path):
    """What a resumed study relies on."""
    for algorithm in _search.ALGORITHMS:
        first = _propose(algorithm, tmp_path / "a", answers=9)
        second = _propose(algorithm, tmp_path / "b", answers=9)
        assert first == second
        assert len(first) >= 5


def _propose(algorithm, scratch, answers):
    space = keras_tuner.HyperParameters()
    space.Choice("batch_size", [16, 32, 64])
    space.Choice("learning_rate", [1e-3, 1e-2, 1e-1])
    plan = _search.Plan(
        algorithm,
        space,
        keras_tuner.Objective("val_loss", "min"),
        None if algorithm in ("grid", "hyperband") else 9,
        epochs=9,
        seed=0,
    )
    search = _search.Search(plan, studying.build, scratch)
    proposals = []
    while len(proposals) < answers and (batch := search.ask(3)):
        for proposal in batch:
            values = proposal.values
            proposals.append(values)
            score = values["learning_rate"] / values["batch_size"]
            search.tell(proposal.trial, score, "")
    search.close()
    return proposals
