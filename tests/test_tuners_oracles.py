"""What the four oracles have in common: lanes, seeds, resume, failures."""

import ast
import inspect
import json
import math
import pathlib
import random
import shutil
import socket
import threading

import keras_tuner
import numpy as np
import pytest
import searching
from keras_tuner import oracles
from keras_tuner.engine import base_tuner
from keras_tuner.engine import trial as kt_trial
from searching import Status

from kerascomp import tuners
from kerascomp.tuners._bayesian import BayesianOptimizationOracle
from kerascomp.tuners._grid import GridSearchOracle
from kerascomp.tuners._hyperband import HyperbandOracle
from kerascomp.tuners._random import RandomSearchOracle

pytestmark = pytest.mark.one_backend

NAMES = sorted(searching.MAKERS)
PAIRS = [
    (RandomSearchOracle, oracles.RandomSearchOracle),
    (GridSearchOracle, oracles.GridSearchOracle),
    (BayesianOptimizationOracle, oracles.BayesianOptimizationOracle),
    (HyperbandOracle, oracles.HyperbandOracle),
]


@pytest.mark.parametrize(("own", "theirs"), PAIRS)
def test_arguments_are_those_of_kerastuner(own, theirs):
    def arguments(symbol):
        parameters = inspect.signature(symbol).parameters.values()
        return [(p.name, p.default) for p in parameters]

    last = ("max_consecutive_failed_trials", 3)
    assert issubclass(own, theirs)
    assert arguments(theirs)[-1] == last
    assert arguments(own) == [*arguments(theirs)[:-1], (last[0], None)]


# --- Lanes ---


@pytest.mark.parametrize("name", NAMES)
def test_each_lane_gets_a_trial_of_its_own(name, tmp_path):
    oracle = searching.make(name, tmp_path)
    trials = searching.open_trials(oracle, 12)
    assert len({trial.trial_id for trial in trials}) == 12
    values = [trial.hyperparameters.values for trial in trials]
    assert searching.distinct(values) == 12
    assert len(oracle.ongoing_trials) == 12


@pytest.mark.parametrize("name", NAMES)
def test_a_lane_that_asks_again_gets_its_trial(name, tmp_path):
    oracle = searching.make(name, tmp_path)
    first, second = searching.open_trials(oracle, 2)
    assert searching.open_trials(oracle, 2) == [first, second]


@pytest.mark.parametrize("name", ["random", "grid"])
def test_trials_do_not_depend_on_the_number_of_lanes(name, tmp_path):
    runs = [
        searching.run(
            searching.make(name, tmp_path / str(lanes)), searching.loss, lanes
        )
        for lanes in (1, 5)
    ]
    assert len(runs[0].trials) == 17
    assert searching.points(runs[0]) == searching.points(runs[1])


@pytest.mark.parametrize("name", NAMES)
def test_active_hyperparameters_have_plain_values(name, tmp_path):
    oracle = searching.run(searching.make(name, tmp_path), searching.loss, 4)
    for point in searching.points(oracle):
        assert {type(value) for value in point.values()} <= {float, int, str}
        assert ("momentum" in point) == (point["optimizer"] == "sgd")


# --- Seeds ---


@pytest.mark.parametrize(
    ("name", "seed"),
    [("random", 0), ("random", 7), ("bayesian", 0), ("hyperband", 0)],
)
def test_a_seed_fixes_the_search(name, seed, tmp_path):
    runs = []
    for attempt in range(2):
        random.seed(attempt)  # KerasTuner draws a seed in place of 0.
        oracle = searching.make(name, tmp_path / str(attempt), seed=seed)
        runs.append(searching.run(oracle, searching.loss, lanes=4))
    assert runs[0].seed == seed
    assert searching.points(runs[0]) == searching.points(runs[1])


@pytest.mark.parametrize("name", ["random", "bayesian", "hyperband"])
def test_neighboring_seeds_share_nothing(name, tmp_path):
    def numbers(seed):
        oracle = searching.make(name, tmp_path / str(seed), seed=seed)
        trials = searching.open_trials(oracle, 12)
        return {t.hyperparameters.values["rate"] for t in trials}

    seeds = [numbers(seed) for seed in range(4)]
    assert len(set.union(*seeds)) == 4 * 12


# --- Resume ---


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_search_ends_as_an_uninterrupted_one(name, tmp_path):
    whole = searching.run(
        searching.make(name, tmp_path / "whole"), searching.loss, lanes=3
    )

    part = searching.make(name, tmp_path / "part")
    searching.run(part, searching.loss, lanes=3, batches=3)
    left_open = searching.open_trials(part, 3)
    part.update_trial(left_open[1].trial_id, {"loss": -100.0}, step=0)

    again = searching.make(name, tmp_path / "part")
    reopened = searching.open_trials(again, 3)
    assert [t.trial_id for t in reopened] == [t.trial_id for t in left_open]
    assert [t.hyperparameters.values for t in reopened] == [
        t.hyperparameters.values for t in left_open
    ]
    searching.run(again, searching.loss, lanes=3)
    assert searching.points(again) == searching.points(whole)
    # What the interrupted run had reported is not in the scores.
    assert [t.score for t in again.trials.values()] == [
        t.score for t in whole.trials.values()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_another_lane_may_take_an_open_trial_over(name, tmp_path):
    oracle = searching.make(name, tmp_path)
    ids = [t.trial_id for t in searching.open_trials(oracle, 3)]
    again = searching.make(name, tmp_path)
    taken = searching.open_trials(again, 5, first=20)
    assert [t.trial_id for t in taken][:3] == ids
    assert len({t.trial_id for t in taken}) == 5


@pytest.mark.parametrize("name", NAMES)
def test_the_state_survives_json(name, tmp_path):
    oracle = searching.make(name, tmp_path / "a")
    searching.run(oracle, searching.loss, lanes=3, batches=3)
    open_ids = [t.trial_id for t in searching.open_trials(oracle, 3)]
    state, trials = json.loads(
        json.dumps(
            [
                oracle.get_state(),
                [trial.get_state() for trial in oracle.trials.values()],
            ]
        )
    )
    twin = searching.make(name, tmp_path / "b")
    # Files are found in any order.
    for each in reversed(trials):
        trial = kt_trial.Trial.from_state(each)
        twin.trials[trial.trial_id] = trial
    twin.set_state(state)
    assert [*twin.trials] == [*oracle.trials]
    assert [t.trial_id for t in searching.open_trials(twin, 3)] == open_ids
    # Both propose the same from here on.
    for each in (oracle, twin):
        searching.run(each, searching.loss, lanes=3, batches=2)
    assert searching.points(twin) == searching.points(oracle)


@pytest.mark.parametrize("name", NAMES)
def test_a_process_may_die_between_two_files(name, tmp_path):
    oracle = searching.make(name, tmp_path)
    file = tmp_path / "search" / "oracle.json"
    first, second = searching.open_trials(oracle, 2)
    before = file.read_text()
    # The trial's file says that it ended, the oracle's that it is open; and
    # there is a trial that the oracle does not know.
    searching.end(oracle, first, 1.0)
    third = searching.open_trials(oracle, 1)[0]
    assert third.trial_id not in before
    file.write_text(before)

    again = searching.make(name, tmp_path)
    assert again.trials[first.trial_id].status == Status.COMPLETED
    assert again.end_order == [first.trial_id]
    reopened = searching.open_trials(again, 2)
    assert [t.trial_id for t in reopened] == [second.trial_id, third.trial_id]
    assert reopened[1].hyperparameters.values == third.hyperparameters.values


# --- Failures ---


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_search_survives_failing_trials_alone(name, value, tmp_path):
    oracle = searching.make(name, tmp_path)
    searching.run(oracle, lambda values: value, lanes=4)
    assert len(oracle.trials) == 17
    assert not oracle.ongoing_trials


def test_failures_in_a_row_end_the_search_if_asked(tmp_path):
    oracle = searching.make("random", tmp_path, max_consecutive_failed_trials=2)
    with pytest.raises(RuntimeError, match="consecutive failures"):
        searching.run(oracle, lambda values: None)
    assert len(oracle.trials) == 2


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_retry_is_not_averaged_with_what_failed(name, tmp_path):
    oracle = searching.make(name, tmp_path, max_retries_per_trial=1)
    trial = searching.open_trials(oracle, 1)[0]
    searching.end(oracle, trial, math.nan)
    again = searching.open_trials(oracle, 1)[0]
    assert again.trial_id == trial.trial_id
    searching.end(oracle, again, 0.25)
    assert oracle.trials[trial.trial_id].score == 0.25
    assert oracle.trials[trial.trial_id].status == Status.COMPLETED


# --- Hyperparameters that trials find ---


def discover(oracle, trial, fails=False):
    """Ends a trial that declares its hyperparameters as it runs."""
    if not fails:
        hp = trial.hyperparameters
        hp.Boolean("a")
        hp.Choice("b", [1, 2, 3])
    searching.end(oracle, trial, None if fails else 1.0)


@pytest.mark.parametrize("name", ["random", "grid", "bayesian"])
def test_a_space_that_trials_find_is_searched_to_the_end(name, tmp_path):
    oracle = searching.make(name, tmp_path, hyperparameters=None)
    while True:
        trials = searching.open_trials(oracle, 4)
        if not trials:
            break
        for trial in trials:
            discover(oracle, trial)
    assert len(oracle.trials) == 6
    assert searching.distinct(searching.points(oracle)) == 6


@pytest.mark.parametrize("name", NAMES)
def test_lanes_wait_while_nothing_is_known_of_the_space(name, tmp_path):
    oracle = searching.make(name, tmp_path, hyperparameters=None)
    assert oracle.create_trial("tuner0/lane0").status == Status.RUNNING
    if name == "hyperband":  # One for each bracket.
        searching.open_trials(oracle, 2, first=1)
    assert oracle.create_trial("tuner0/lane9").status == Status.IDLE


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_that_fails_at_once_stands_for_nothing_else(name, tmp_path):
    oracle = searching.make(name, tmp_path, hyperparameters=None)
    first = searching.open_trials(oracle, 1)[0]
    found = oracle.get_space()
    found.Choice("b", [1, 2, 3])
    oracle.update_space(found)
    discover(oracle, first, fails=True)
    assert oracle.create_trial("tuner0/lane0").status == Status.RUNNING


def test_hyperparameters_that_are_not_tuned_do_not_count(tmp_path):
    oracle = searching.make(
        "grid",
        tmp_path,
        hyperparameters=searching.twelve(),
        tune_new_entries=False,
    )
    while trials := searching.open_trials(oracle, 5):
        for trial in trials:
            trial.hyperparameters.Choice("new", [1, 2])
            searching.end(oracle, trial, 1.0)
        oracle = searching.started(oracle, tmp_path)  # Reloads it.
    assert len(oracle.trials) == 12


# --- Chief and workers ---


@pytest.mark.parametrize("name", NAMES)
def test_trials_survive_the_way_to_a_worker_and_back(name, tmp_path):
    oracle = searching.make(name, tmp_path)
    plain = searching.make(name, tmp_path / "plain")
    for _ in range(12):
        trial = oracle.create_trial("worker")
        copy = kt_trial.Trial.from_proto(trial.to_proto())
        assert copy.hyperparameters.values == trial.hyperparameters.values
        searching.end(oracle, copy, searching.loss(copy.hyperparameters.values))
    searching.run(plain, searching.loss, batches=12)
    assert searching.points(oracle) == searching.points(plain)


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_holds_many_trials_of_a_chief(name, tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(port))

    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    oracle = searching.MAKERS[name](hyperparameters=searching.space(), seed=3)
    oracle.verbose = 0
    chief = base_tuner.BaseTuner(oracle=oracle, directory=str(tmp_path))
    # It polls in seconds; nothing here waits for its end.
    threading.Thread(target=chief.search, daemon=True).start()

    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    worker = base_tuner.BaseTuner(
        oracle=searching.MAKERS[name](hyperparameters=searching.space()),
        directory=str(tmp_path),
        project_name="worker",
    )
    while trials := searching.open_trials(worker.oracle, 5):
        for trial in trials:
            value = searching.loss(trial.hyperparameters.values)
            searching.end(worker.oracle, trial, value)
    assert len(oracle.trials) == (23 if name == "hyperband" else 17)
    assert not oracle.ongoing_trials
    # All lanes were told that it is over: the chief may go.
    assert not oracle.tuner_ids


# --- What is relied on in KerasTuner ---


def test_few_private_names_of_kerastuner_are_used_or_covered():
    # What they do is tested with the tuners.
    known = {"_save_trial", "_get_trial_dir"}
    folder = pathlib.Path(tuners.__file__).parent
    private = {
        node.attr
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
    }
    for own, symbol in PAIRS:
        oracle = symbol(keras_tuner.Objective("loss", "min"))
        theirs = {n for n in dir(oracle) if n.startswith("_")}
        assert private & theirs <= known
        covered = {n for each in own.__mro__[:2] for n in vars(each)} & theirs
        assert all(name.startswith("__") for name in covered - known)


def test_the_state_has_what_resuming_rests_on(tmp_path):
    oracle = searching.make("random", tmp_path)
    first, second = searching.open_trials(oracle, 2)
    searching.end(oracle, first, 1.0)
    state = oracle.get_state()
    assert state["start_order"] == [first.trial_id, second.trial_id]
    assert state["end_order"] == [first.trial_id]
    assert state["ongoing_trials"] == {"tuner0/lane1": second.trial_id}
    assert state["retry_queue"] == []
    # Trials to retry are taken from the end.
    twin = searching.make("random", tmp_path / "twin")
    twin.trials = dict(oracle.trials)
    oracles.RandomSearchOracle.set_state(
        twin, {**state, "ongoing_trials": {}, "retry_queue": ["07", "01"]}
    )
    assert twin.create_trial("x").trial_id == second.trial_id


def test_a_random_sample_takes_any_seed():
    parameter = searching.space().space[0]
    samples = {parameter.random_sample(f"{k}/rate") for k in range(100)}
    assert len(samples) == 100
    logs = np.log10(sorted(samples))
    assert logs[0] < -3.8
    assert logs[-1] > -1.2


def test_the_kernel_is_that_of_kerastuner(tmp_path):
    oracle = searching.make("bayesian", tmp_path, alpha=0.25)
    assert oracle.gpr.alpha == 0.25
    assert type(oracle.gpr.kernel).__name__ == "Matern"
    assert oracle.gpr.kernel.bounds.shape == (1, 2)  # One length scale.


def test_the_folder_of_a_search_may_move(tmp_path):
    oracle = searching.make("hyperband", tmp_path / "a")
    searching.run(oracle, searching.loss, lanes=3, batches=2)
    shutil.move(tmp_path / "a", tmp_path / "b")
    again = searching.make("hyperband", tmp_path / "b")
    assert searching.points(again) == searching.points(oracle)
