"""What trials that train together promise: seeds, failures, memory."""

import contextlib
import gc
import weakref

import keras
import keras_tuner
import numpy as np
import pytest
import tuning
from keras_tuner import errors

from kerascomp.population import Population
from kerascomp.tuners import _batch

# Each trains twins: `make test` leaves them to the rest of the suite.
pytestmark = pytest.mark.extended

CALLBACKS = [tuning.LaneWise, tuning.Alone]


def build_rates(*rates):
    """Returns a function that builds with one of the rates, in order."""

    def build(hp):
        rate = hp.Choice("rate", list(rates))
        return tuning.model(keras.optimizers.SGD(rate))

    return build


def fails_for(bad, error, at="build"):
    """Returns a function whose models of one rate fail."""

    class Fails(keras.layers.Layer):
        def call(self, x, training=False):
            if training:
                raise error
            return x

    def build(hp):
        rate = hp.Choice("rate", [0.01, 0.02, 0.03])
        model = tuning.model(keras.optimizers.SGD(rate))
        if rate != bad or not build.armed:
            return model
        if at == "build":
            raise error
        layers = [keras.Input((2,)), keras.layers.Dense(1), Fails()]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.SGD(rate), "mse", metrics=["mae"])
        return model

    build.armed = False  # The constructor of a tuner builds, too.
    return build


# --- Executions and seeds ---


@pytest.mark.parametrize("callback", CALLBACKS)
def test_executions_have_seeds_that_trials_share(callback, tmp_path):
    tuner = tuning.searched(
        tmp_path,
        build_rates(0.01, 0.01 + 1e-9),
        executions_per_trial=2,
        max_trials=2,
        fit={"callbacks": [callback()]},
    )
    first, second = (
        tuning.curve_of(tuner, trial) for trial in tuning.trials(tuner)
    )
    assert [*first] == [0, 1]
    for epoch, (one, two) in first.items():
        assert one != pytest.approx(two, rel=1e-3)
        assert second[epoch] == pytest.approx([one, two], rel=1e-5)
    means = [np.mean(values) for values in first.values()]
    assert tuning.trials(tuner)[0].score == pytest.approx(min(means))
    assert tuning.trials(tuner)[0].best_step == np.argmin(means)


def test_together_and_alone_start_from_the_same_weights(tmp_path):
    losses = []
    for callback in CALLBACKS:
        tuner = tuning.searched(
            tmp_path / callback.__name__,
            build_rates(1e-9),
            max_trials=1,
            executions_per_trial=2,
            fit={"epochs": 1, "callbacks": [callback()]},
        )
        losses.append(tuning.curve_of(tuner, tuning.trials(tuner)[0])[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def build_late(hp):
    """Creates its layers when it sees data."""

    class Late(keras.Model):
        def build(self, shape):
            self.dense = keras.layers.Dense(1)
            self.dense.build(shape)
            self.built = True

        def call(self, x):
            return self.dense(x)

    model = Late()
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 1e-1)), "mse")
    return model


@pytest.mark.slow
@pytest.mark.parametrize("build", [tuning.build, build_late])
@pytest.mark.parametrize("seed", [0, 7])
def test_scores_belong_to_the_seed_not_to_the_lanes(build, seed, tmp_path):
    found = {}
    for lanes in (4, 1, 3):
        tuner = tuning.searched(
            tmp_path / str(lanes),
            build,
            max_trials=4,
            max_lanes=lanes,
            executions_per_trial=2,
            seed=seed,
        )
        assert tuner.oracle.seed == seed
        found[lanes] = tuning.scores(tuner)
    assert len(set(found[4])) == 4
    assert found[1] == pytest.approx(found[4], rel=1e-5)
    assert found[3] == pytest.approx(found[4], rel=1e-5)


def test_a_search_without_a_seed_keeps_the_one_it_drew(tmp_path):
    first = tuning.searched(tmp_path, seed=None, max_trials=1)
    again = tuning.tuner(tmp_path, seed=None)
    assert again._seed_of(0) == first._seed_of(0)
    assert again._seed_of(1) != first._seed_of(0)


@pytest.mark.parametrize(
    ("lanes", "executions", "expected"),
    [(64, 1, [5]), (2, 1, [2, 2, 1]), (5, 2, [4, 4, 2]), (1, 2, [2] * 5)],
)
def test_lanes_are_as_many_as_allowed(
    lanes, executions, expected, tmp_path, monkeypatch
):
    counts, limits = [], []

    def run(lanes, settings, real=_batch.run):
        counts.append(len(lanes))
        limits.append(settings.max_lanes)
        return real(lanes, settings)

    monkeypatch.setattr(_batch, "run", run)
    tuning.searched(
        tmp_path,
        max_trials=5,
        max_lanes=lanes,
        executions_per_trial=executions,
        fit={"epochs": 1},
    )
    assert counts == expected
    assert set(limits) == {1 if lanes < executions else None}


# --- Callbacks, and what runs alone ---


def test_each_lane_has_its_own_early_stopping(tmp_path):
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=0, min_delta=1e-3
    )
    tuner = tuning.searched(
        tmp_path,
        build_rates(0.05, 1e-6),
        "grid",
        fit={"epochs": 4, "callbacks": [stopping]},
    )
    fast, slow = tuning.trials(tuner)
    assert len(tuning.curve_of(tuner, slow)) == 2
    assert len(tuning.curve_of(tuner, fast)) == 4
    assert not hasattr(stopping, "best") or stopping.best is None


class OwnFit(tuning.HyperModel):
    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, **kwargs)


class OwnRunTrial(tuning.CLASSES["random"]):
    def run_trial(self, trial, *args, **kwargs):
        return super().run_trial(trial, *args, **kwargs)


class OwnHook(tuning.CLASSES["random"]):
    epochs = 0

    def on_epoch_end(self, trial, model, epoch, logs=None):
        assert logs["val_loss"] > 0
        self.epochs += 1


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("kind", "hypermodel", "fit", "reason"),
    [
        ("random", OwnFit(), {}, "the hypermodel overrides `fit`"),
        (OwnRunTrial, tuning.build, {}, "the tuner overrides `run_trial`"),
        (OwnHook, tuning.build, {}, "the tuner overrides `on_epoch_end`"),
        (
            "random",
            tuning.build,
            {"callbacks": [tuning.Alone()]},
            "the callback Alone cannot run lane by lane",
        ),
        ("random", tuning.build, {"validation_steps": 1}, "`validation_steps`"),
    ],
)
def test_what_runs_alone_says_why_once_and_stores_curves(
    kind, hypermodel, fit, reason, tmp_path, capsys, monkeypatch
):
    if not isinstance(kind, str):
        monkeypatch.setitem(tuning.CLASSES, "own", kind)
        kind = "own"
    tuner = tuning.searched(
        tmp_path, hypermodel, kind, fit={"verbose": 1, **fit}, max_trials=2
    )
    printed = capsys.readouterr().out
    assert printed.count("Trials run one by one: ") == 1
    assert f"Trials run one by one: {reason}" in printed
    assert tuning.statuses(tuner) == ["COMPLETED"] * 2
    for trial in tuning.trials(tuner):
        curve = tuning.curve_of(tuner, trial)
        assert [*curve] == [0, 1]
        assert trial.score == min(values[0] for values in curve.values())
    if kind == "own" and isinstance(tuner, OwnHook):
        assert tuner.epochs == 4
    loss, _ = tuner.get_best_models()[0].evaluate(
        *tuning.fit_arguments()["validation_data"], verbose=0
    )
    assert loss == pytest.approx(min(tuning.scores(tuner)), rel=1e-5)


class Strategy:
    """What KerasTuner uses of a `tf.distribute.Strategy`."""

    extended = None

    def __init__(self):
        self.entered = 0

    def scope(self):
        self.entered += 1
        return contextlib.nullcontext()


def test_a_strategy_runs_alone(tmp_path, capsys):
    strategy = Strategy()
    tuner = tuning.searched(
        tmp_path,
        distribution_strategy=strategy,
        max_trials=1,
        fit={"verbose": 1},
    )
    assert "a `distribution_strategy` is set" in capsys.readouterr().out
    assert tuning.statuses(tuner) == ["COMPLETED"]
    assert strategy.entered


def test_a_hook_may_be_replaced_on_the_tuner(tmp_path):
    tuner = tuning.tuner(tmp_path, max_trials=1)
    seen = []
    tuner.on_epoch_begin = lambda trial, model, epoch, logs=None: seen.append(
        epoch
    )
    tuner.search(**tuning.fit_arguments())
    assert seen == [0, 1]


def test_a_model_that_overrides_fit_is_not_trained_otherwise(tmp_path):
    class Own(keras.Model):
        def fit(self, *args, **kwargs):
            return None

    def build(hp):
        hp.Choice("rate", [1.0])
        model = Own()
        model.compile("sgd", "mse")
        return model

    with pytest.raises(errors.FatalTypeError, match="Own, which overrides it"):
        tuning.searched(tmp_path, build)


def test_run_trial_may_tell_the_oracle_itself(tmp_path):
    class Tells(tuning.CLASSES["random"]):
        def run_trial(self, trial, *args, **kwargs):
            rate = trial.hyperparameters.Float("rate", 0.0, 1.0)
            self.oracle.update_trial(trial.trial_id, {"val_loss": rate}, 3)

    tuner = Tells(objective="val_loss", max_trials=2, directory=str(tmp_path))
    tuner.search(verbose=0)
    for trial in tuning.trials(tuner):
        assert trial.score == trial.hyperparameters.values["rate"]
        assert tuning.curve_of(tuner, trial) == {3: [trial.score]}


def test_a_search_needs_no_models(tmp_path):
    class Square(tuning.CLASSES["random"]):
        def run_trial(self, trial, *args, **kwargs):
            return trial.hyperparameters.Float("x", -2.0, 2.0) ** 2

    tuner = Square(max_trials=3, directory=str(tmp_path))
    tuner.search(verbose=0)
    assert tuning.statuses(tuner) == ["COMPLETED"] * 3


# --- Failures ---


@pytest.mark.slow
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("kind", ["grid", "bayesian"])
def test_trials_that_diverge_fail_and_say_where(kind, callback, tmp_path):
    tuner = tuning.searched(
        tmp_path,
        build_rates(0.01, 1e15, 1e20, 1e25, 1e30, 0.02),
        kind,
        max_trials=6,
        fit={"epochs": 4, "callbacks": [callback()]},
    )
    for trial in tuning.trials(tuner):
        rate = trial.hyperparameters.values["rate"]
        if rate < 1:
            assert trial.status == "COMPLETED"
            continue
        assert trial.status == "FAILED"
        assert "Diverged " in trial.message
        assert " of execution 1: " in trial.message
        if callback is tuning.LaneWise:
            assert "at step " in trial.message
            assert file_message(tuner, trial) == trial.message
    assert tuning.statuses(tuner).count("COMPLETED") == 2


def file_message(tuner, trial):
    return tuning.file_of(tuner, trial)["message"]


@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("at", ["build", "training"])
def test_an_error_fails_one_trial_alone(at, callback, tmp_path):
    build = fails_for(0.02, RuntimeError("no luck"), at)
    tuner = tuning.tuner(tmp_path, build, "grid", max_retries_per_trial=1)
    build.armed = True
    tuner.search(**tuning.fit_arguments(callbacks=[callback()]))
    assert tuning.statuses(tuner) == ["COMPLETED", "FAILED", "COMPLETED"]
    failed = tuning.trials(tuner)[1]
    assert "no luck" in failed.message
    assert "Traceback" in failed.message
    assert tuner.oracle.get_state()["run_times"][failed.trial_id] == 2
    sound = tuning.trials(tuner)[0]
    assert [len(v) for v in tuning.curve_of(tuner, sound).values()] == [1, 1]


def test_a_trial_may_fail_without_retries(tmp_path):
    build = fails_for(0.02, errors.FailedTrialError("never"))
    tuner = tuning.tuner(tmp_path, build, "grid", max_retries_per_trial=3)
    build.armed = True
    tuner.search(**tuning.fit_arguments())
    assert tuning.statuses(tuner) == ["COMPLETED", "FAILED", "COMPLETED"]
    failed = tuning.trials(tuner)[1]
    assert tuner.oracle.get_state()["run_times"][failed.trial_id] == 1


def test_a_retry_may_succeed(tmp_path):
    builds = []

    def build(hp):
        rate = hp.Choice("rate", [0.01, 0.02])
        builds.append(rate)
        if builds[1:].count(0.02) == 1 and rate == 0.02:
            raise RuntimeError("only once")
        return tuning.model(keras.optimizers.SGD(rate))

    tuner = tuning.searched(tmp_path, build, "grid", max_retries_per_trial=1)
    assert tuning.statuses(tuner) == ["COMPLETED", "COMPLETED"]
    assert builds == [0.01, 0.01, 0.02, 0.02]


@pytest.mark.parametrize("at", ["build", "training"])
def test_a_fatal_error_ends_the_search(at, tmp_path):
    build = fails_for(0.02, errors.FatalRuntimeError("stop"), at)
    tuner = tuning.tuner(tmp_path, build, "grid")
    build.armed = True
    with pytest.raises(errors.FatalRuntimeError, match="stop"):
        tuner.search(**tuning.fit_arguments())
    assert "COMPLETED" not in tuning.statuses(tuner)


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
def test_an_objective_that_is_never_a_number_fails_the_trial(tmp_path):
    class NoNumber(keras.callbacks.Callback):
        lane_wise = True

        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = float("nan")

    tuner = tuning.searched(
        tmp_path,
        executions_per_trial=2,
        max_trials=2,
        fit={"callbacks": [NoNumber()]},
    )
    assert tuning.statuses(tuner) == ["FAILED", "FAILED"]


def test_failures_in_a_row_end_the_search_if_asked(tmp_path):
    build = build_rates(1e20, 1e25, 1e30, 0.01)
    tuner = tuning.tuner(
        tmp_path, build, "grid", max_trials=4, max_consecutive_failed_trials=2
    )
    with pytest.raises(RuntimeError, match="consecutive failures"):
        tuner.search(**tuning.fit_arguments(epochs=4))
    # The others are not lost: they are finished, and wait in the checkpoint.
    again = tuning.tuner(tmp_path, build, "grid", max_trials=4)
    again.search(**tuning.fit_arguments(epochs=4))
    assert tuning.statuses(again) == ["FAILED"] * 3 + ["COMPLETED"]


# --- Memory ---


@pytest.mark.slow
@pytest.mark.parametrize("callback", CALLBACKS)
def test_nothing_is_kept_of_batches_that_ended(callback, tmp_path):
    built = []

    def build(hp):
        model = tuning.build(hp)
        built.append(weakref.ref(model))
        return model

    tuner = tuning.tuner(tmp_path, build, max_trials=12, max_lanes=4)
    tuner.search(**tuning.fit_arguments(epochs=1, callbacks=[callback()]))
    keras.utils.clear_session()
    gc.collect()
    alive = sum(own() is not None for own in built)
    assert len(built) >= 13
    # Each compiled program holds the first model that it ran.
    assert alive <= len(tuner._programs._programs)


# --- The engine ---


def test_a_lane_ends_as_a_population_of_its_own(tmp_path):
    tuner = tuning.searched(tmp_path, build_rates(0.01, 0.05), "grid")
    fit = tuning.fit_arguments()
    for trial in tuning.trials(tuner):
        seed = tuner._seed_of(0)
        keras.utils.set_random_seed(seed)
        model = tuner.hypermodel.build(trial.hyperparameters)
        history = Population([model], engine="looped").fit(
            fit["x"],
            fit["y"],
            batch_size=fit["batch_size"],
            epochs=fit["epochs"],
            validation_data=fit["validation_data"],
            seeds=[seed],
        )
        curve = tuning.curve_of(tuner, trial)
        assert [own for (own,) in curve.values()] == pytest.approx(
            history[0]["val_loss"], rel=1e-5
        )


def test_an_objective_of_kerastuner_is_understood():
    objective = keras_tuner.Objective("val_loss", "min")
    best = _batch.BestEpoch(objective)
    assert best.objective is objective
    assert _batch.has_objective(objective, 0, {"val_loss": 1.0}, 1)
    assert not _batch.has_objective(objective, 0, {"loss": 1.0}, 2)
    assert not _batch.has_objective(objective, 0, {"loss": 1.0}, [3])
    with pytest.raises(_batch.MissingObjectiveError):
        _batch.has_objective(objective, 1, {"loss": 1.0}, 2)
