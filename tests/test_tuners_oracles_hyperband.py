"""The brackets of Hyperband: sizes, promotions, failures, small spaces."""

import itertools

import keras_tuner
import pytest
import searching
from searching import Status

from kerascomp.tuners import _hyperband
from kerascomp.tuners._hyperband import HyperbandOracle

pytestmark = pytest.mark.one_backend


def make(directory, hp=None, **arguments):
    settings = {"max_epochs": 9, "factor": 3, "seed": 0, **arguments}
    oracle = HyperbandOracle(
        searching.MINIMIZE, hyperparameters=hp or searching.space(), **settings
    )
    return searching.started(oracle, directory)


def plain(values):
    return {k: v for k, v in values.items() if not k.startswith("tuner/")}


def rounds(oracle):
    """Returns the trials of each (bracket, round)."""
    found = {}
    for trial in oracle.trials.values():
        values = trial.hyperparameters.values
        key = values["tuner/bracket"], values["tuner/round"]
        found.setdefault(key, []).append(trial)
    return found


def sizes(oracle):
    return {key: len(trials) for key, trials in rounds(oracle).items()}


NINE = {(2, 0): 9, (2, 1): 3, (2, 2): 1, (1, 0): 5, (1, 1): 2, (0, 0): 3}


def test_first_rounds_are_those_of_the_paper():
    # Li et al., table 1: 81 epochs, factor 3.
    planned = [
        (_hyperband.size(81, 3, b, 0), _hyperband.epochs(81, 3, b, 0))
        for b in range(4, -1, -1)
    ]
    assert _hyperband.brackets(81, 3) == 5
    assert planned == [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]


@pytest.mark.parametrize("max_epochs", [1, 2, 8, 10, 81, 100, 243])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_later_rounds_shrink_by_the_factor(max_epochs, factor):
    for bracket in range(_hyperband.brackets(max_epochs, factor)):
        number = [
            _hyperband.size(max_epochs, factor, bracket, k)
            for k in range(bracket + 1)
        ]
        last = _hyperband.epochs(max_epochs, factor, bracket, bracket)
        assert last == max_epochs
        for before, after in itertools.pairwise(number):
            assert before / factor <= after < before / factor + 1


@pytest.mark.parametrize("lanes", [1, 4, 17])
def test_a_search_runs_every_round(lanes, tmp_path):
    oracle = searching.run(make(tmp_path), searching.loss, lanes)
    assert sizes(oracle) == NINE
    for trial in oracle.trials.values():
        values = trial.hyperparameters.values
        bracket, index = values["tuner/bracket"], values["tuner/round"]
        assert values["tuner/epochs"] == 3 ** (2 - bracket + index)
        start = 3 ** (1 - bracket + index) if index else 0
        assert values["tuner/initial_epoch"] == start


def test_first_rounds_of_all_brackets_are_open_at_once(tmp_path):
    oracle = make(tmp_path)
    trials = searching.open_trials(oracle, 17)
    assert len(trials) == 9 + 5 + 3
    assert oracle.create_trial("more").status == Status.IDLE
    # A labeled bracket is the trial's own.
    for trial in trials[:9]:
        searching.end(
            oracle, trial, searching.loss(trial.hyperparameters.values)
        )
    promoted = searching.open_trials(oracle, 3, first=40)
    for trial in promoted:
        assert trial.hyperparameters["tuner/bracket"] == 2
        assert trial.hyperparameters["tuner/round"] == 1


@pytest.mark.parametrize("lanes", [1, 5, 17])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_best_of_a_round_are_promoted(lanes, direction, tmp_path):
    oracle = HyperbandOracle(
        keras_tuner.Objective("score", direction),
        max_epochs=9, seed=0, hyperparameters=searching.space(),
    )  # fmt: skip
    searching.started(oracle, tmp_path)
    searching.run(oracle, searching.loss, lanes)
    found = rounds(oracle)
    for bracket, index in [(2, 1), (2, 2), (1, 1)]:
        before, now = found[bracket, index - 1], found[bracket, index]
        ranked = sorted(
            before, key=lambda t: t.score, reverse=direction == "max"
        )
        expected = {t.trial_id for t in ranked[: len(now)]}
        parents = {t.hyperparameters["tuner/trial_id"] for t in now}
        assert parents == expected
        for trial in now:
            parent = oracle.trials[trial.hyperparameters["tuner/trial_id"]]
            assert plain(trial.hyperparameters.values) == plain(
                parent.hyperparameters.values
            )


def test_a_trial_is_promoted_once_nothing_can_keep_it_back(tmp_path):
    oracle = make(tmp_path)
    trials = searching.open_trials(oracle, 17)
    for rank, trial in enumerate(trials[:6]):
        searching.end(oracle, trial, rank)
    # Three may still become better than all of these.
    assert oracle.create_trial("more").status == Status.IDLE
    searching.end(oracle, trials[6], 6.0)
    promoted = oracle.create_trial("more")
    assert promoted.hyperparameters["tuner/trial_id"] == trials[0].trial_id
    assert oracle.create_trial("another").status == Status.IDLE


def promoted_points(oracle):
    return {
        key: sorted(str(plain(t.hyperparameters.values)) for t in trials)
        for key, trials in rounds(oracle).items()
    }


@pytest.mark.parametrize(
    "score",
    [searching.loss, lambda values: 1.0, lambda values: values["units"]],
)
def test_points_and_promotions_do_not_depend_on_lanes(score, tmp_path):
    runs = [
        searching.run(make(tmp_path / str(lanes)), score, lanes)
        for lanes in (1, 4, 17)
    ]
    first, *others = map(promoted_points, runs)
    assert all(other == first for other in others)


def test_ties_are_promoted_in_the_order_of_their_start(tmp_path):
    oracle = make(tmp_path)
    trials = searching.open_trials(oracle, 17)
    for trial in reversed(trials):  # They may end in any order.
        searching.end(oracle, trial, 1.0)
    promoted = searching.open_trials(oracle, 3)
    parents = [t.hyperparameters["tuner/trial_id"] for t in promoted]
    assert parents == [t.trial_id for t in trials[:3]]


@pytest.mark.parametrize("failures", [1, 3, 6])
def test_a_failed_trial_costs_no_promotion(failures, tmp_path):
    oracle = make(tmp_path)
    trials = searching.open_trials(oracle, 17)
    for index, trial in enumerate(trials):
        value = None if index < failures else float(index)
        searching.end(oracle, trial, value)
    searching.run(oracle, searching.loss, lanes=3)
    assert sizes(oracle) == NINE
    parents = [
        t.hyperparameters["tuner/trial_id"] for t in rounds(oracle)[2, 1]
    ]
    best = trials[failures : failures + 3]
    assert sorted(parents) == [t.trial_id for t in best]


def test_failed_trials_are_not_promoted(tmp_path):
    oracle = make(tmp_path)
    for index, trial in enumerate(searching.open_trials(oracle, 17)):
        searching.end(oracle, trial, 1.0 if index in (4, 5) else None)
    searching.run(oracle, searching.loss, lanes=3)
    # Two of nine are left, then the best of them; none of the other bracket.
    assert sizes(oracle) == {
        (2, 0): 9, (2, 1): 2, (2, 2): 1, (1, 0): 5, (0, 0): 3
    }  # fmt: skip


def test_no_point_is_drawn_twice_while_there_are_others(tmp_path):
    oracle = searching.run(make(tmp_path), searching.loss, lanes=6)
    first = [
        plain(t.hyperparameters.values)
        for (_, index), trials in rounds(oracle).items()
        for t in trials
        if index == 0
    ]
    assert searching.distinct(first) == 17


@pytest.mark.parametrize("lanes", [1, 3, 20])
def test_a_small_space_is_halved_too(lanes, tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Choice("a", [1, 2, 3, 4])
    oracle = searching.run(make(tmp_path, hp), lambda v: v["a"], lanes)
    # 9, 3, 1 in proportion to 4; then all brackets that have room.
    assert sizes(oracle) == {
        (2, 0): 4, (2, 1): 2, (2, 2): 1, (1, 0): 4, (1, 1): 2, (0, 0): 3
    }  # fmt: skip
    final = rounds(oracle)[2, 2][0].hyperparameters
    assert (final["a"], final["tuner/epochs"]) == (1, 9)
    for (_, index), trials in rounds(oracle).items():
        if index == 0:
            values = [t.hyperparameters["a"] for t in trials]
            assert len(set(values)) == len(values)


@pytest.mark.parametrize("iterations", [2, 3])
def test_iterations_repeat_all_brackets(iterations, tmp_path):
    oracle = make(tmp_path, hyperband_iterations=iterations)
    searching.run(oracle, searching.loss, lanes=8)
    expected = {key: iterations * size for key, size in NINE.items()}
    assert sizes(oracle) == expected


@pytest.mark.parametrize("iterations", [None, 0, 50])
def test_iterations_end_when_all_points_were_tried(iterations, tmp_path):
    oracle = make(tmp_path, searching.twelve(), hyperband_iterations=iterations)
    searching.run(oracle, lambda values: values["a"], lanes=8)
    assert sizes(oracle) == NINE


def test_one_epoch_is_a_random_search(tmp_path):
    oracle = searching.run(make(tmp_path, max_epochs=1), searching.loss, 2)
    assert sizes(oracle) == {(0, 0): 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": 0}, "`max_epochs` must be an integer of at least 1"),
        ({"factor": 1}, "factor needs to be"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **arguments)
