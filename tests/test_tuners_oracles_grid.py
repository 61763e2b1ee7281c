"""Which points random and grid search try, and in which order."""

import itertools
import math

import keras_tuner
import pytest
import searching
from keras_tuner import oracles
from searching import Status

from kerascomp.tuners._grid import GridSearchOracle
from kerascomp.tuners._random import RandomSearchOracle

pytestmark = pytest.mark.one_backend


def grid(hp, directory, **arguments):
    oracle = GridSearchOracle(
        searching.MINIMIZE, hyperparameters=hp, **arguments
    )
    return searching.started(oracle, directory)


def constant(values):
    return 1.0


def three_by_two():
    hp = keras_tuner.HyperParameters()
    hp.Choice("a", [1, 2, 3], default=2)
    hp.Boolean("b")
    hp.Fixed("c", "fixed")
    return hp


@pytest.mark.parametrize("lanes", [1, 4, 50])
def test_the_grid_starts_at_the_defaults_and_ends_complete(lanes, tmp_path):
    oracle = searching.run(grid(three_by_two(), tmp_path), constant, lanes)
    assert searching.points(oracle) == [
        {"a": a, "b": b, "c": "fixed"}
        for a, b in itertools.product([2, 1, 3], [False, True])
    ]


def conditional():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["mlp", "cnn", "linear"])
    hp.Int("units", 1, 3, parent_name="kind", parent_values=["mlp"])
    with hp.conditional_scope("kind", ["cnn"]):
        hp.Boolean("deep")
        hp.Choice("size", [3, 5], parent_name="deep", parent_values=[True])
    hp.Float("rate", 0, 1, step=0.5, default=0.5)
    return hp


@pytest.mark.parametrize("lanes", [1, 7])
@pytest.mark.parametrize("make", [three_by_two, conditional, searching.twelve])
def test_the_order_is_that_of_kerastuner_with_one_trial(make, lanes, tmp_path):
    theirs = oracles.GridSearchOracle(
        searching.MINIMIZE, hyperparameters=make()
    )
    searching.started(theirs, tmp_path / "theirs")
    searching.run(theirs, constant)
    own = searching.run(grid(make(), tmp_path / "own"), constant, lanes)
    assert searching.points(own) == searching.points(theirs)


def test_all_points_are_handed_out_before_one_ends(tmp_path):
    oracle = grid(conditional(), tmp_path)
    # (3 units + 1 flat + 2 sizes + 1 linear) * 3 rates.
    assert len(searching.open_trials(oracle, 21)) == 21
    assert oracle.create_trial("one more").status == Status.IDLE


def test_a_range_without_steps_has_ten_values_and_the_default(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    oracle = searching.run(grid(hp, tmp_path), constant, 3)
    rates = [point["rate"] for point in searching.points(oracle)]
    assert len(rates) == 11
    assert rates[0] == 1e-4
    # The middles of ten equal parts of three decades.
    assert [math.log10(rate) for rate in rates[1:]] == pytest.approx(
        [-4 + 3 * (k + 0.5) / 10 for k in range(10)], rel=1e-12
    )


def test_a_default_is_not_tried_again_for_a_rounding_error(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("log", 1e-5, 1e-1, sampling="log", step=10, default=1e-3)
    hp.Float("linear", -0.3, 0.3, step=0.1, default=0.0)
    values = {p.name: list(p.values) for p in hp.space}
    assert 0.0 not in values["linear"]  # 5.5e-17 is.
    oracle = searching.run(grid(hp, tmp_path), constant, 40)
    # KerasTuner's range leaves out its end, 0.3, for another rounding error.
    for name, number in (("log", 5), ("linear", 6)):
        tried = {point[name] for point in searching.points(oracle)}
        assert len(tried) == number
    assert len(oracle.trials) == 30


def test_integers_on_a_logarithmic_grid_are_integers(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Int("batch_size", 16, 128, sampling="log", step=2)
    oracle = searching.run(grid(hp, tmp_path), constant)
    sizes = [point["batch_size"] for point in searching.points(oracle)]
    assert sizes == [16, 32, 64, 128]
    assert {type(size) for size in sizes} == {int}


def test_max_trials_ends_a_grid(tmp_path):
    oracle = grid(three_by_two(), tmp_path, max_trials=4)
    assert len(searching.open_trials(oracle, 6)) == 4


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_branches_without_conditions_are_varied_where_used(lanes, tmp_path):
    oracle = grid(None, tmp_path)
    while trials := searching.open_trials(oracle, lanes):
        for trial in trials:
            hp = trial.hyperparameters
            if hp.Boolean("flag"):
                hp.Choice("one", [0, 1, 2])
            else:
                hp.Choice("other", [3, 4, 5])
            searching.end(oracle, trial, 1.0)
    flags = [point["flag"] for point in searching.points(oracle)]
    # KerasTuner finds 3 + 3 * 3 one by one; what is used counts.
    used = {
        (p["flag"], p["one"] if p["flag"] else p["other"])
        for p in searching.points(oracle)
    }
    assert len(used) == 6
    assert flags.count(False) == 3


def test_lanes_wait_for_what_open_trials_may_find(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Boolean("first")
    oracle = grid(hp, tmp_path)
    one, two = searching.open_trials(oracle, 2)
    assert oracle.create_trial("three").status == Status.IDLE
    one.hyperparameters.Boolean("second")
    searching.end(oracle, one, 1.0)
    three = oracle.create_trial("three")
    assert three.hyperparameters.values == {"first": False, "second": True}
    assert oracle.create_trial("four").status == Status.IDLE
    two.hyperparameters.Boolean("second")
    searching.end(oracle, two, 1.0)
    four = oracle.create_trial("four")
    assert four.hyperparameters.values == {"first": True, "second": True}
    assert oracle.create_trial("five").status == Status.IDLE
    searching.end(oracle, three, 1.0)
    searching.end(oracle, four, 1.0)
    assert oracle.create_trial("five").status == Status.STOPPED


# --- Random search ---


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [three_by_two, conditional, searching.twelve])
def test_random_search_tries_all_of_a_small_space(seed, make, tmp_path):
    size = {three_by_two: 6, conditional: 21, searching.twelve: 12}[make]
    oracle = RandomSearchOracle(
        searching.MINIMIZE, 100, seed=seed, hyperparameters=make()
    )
    searching.started(oracle, tmp_path)
    searching.run(oracle, constant, lanes=4)
    assert len(oracle.trials) == size
    assert searching.distinct(searching.points(oracle)) == size


def test_random_search_tries_all_integers_of_a_logarithmic_range(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Int("units", 1, 30, sampling="log")
    oracle = RandomSearchOracle(searching.MINIMIZE, 100, 0, hp)
    searching.started(oracle, tmp_path)
    searching.run(oracle, constant, lanes=10)
    units = sorted(point["units"] for point in searching.points(oracle))
    assert units == list(range(1, 31))


def test_random_search_goes_on_where_one_branch_is_endless(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Boolean("flag")
    hp.Float("rate", 0, 1, parent_name="flag", parent_values=[True])
    oracle = RandomSearchOracle(searching.MINIMIZE, 30, 0, hp)
    searching.started(oracle, tmp_path)
    searching.run(oracle, constant, lanes=10)
    flags = [point["flag"] for point in searching.points(oracle)]
    assert flags.count(False) == 1
    assert flags.count(True) == 29


def test_random_points_are_uniform_on_their_scale(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1, sampling="log")
    hp.Boolean("flag")
    oracle = RandomSearchOracle(searching.MINIMIZE, 200, 0, hp)
    searching.started(oracle, tmp_path)
    points = [
        trial.hyperparameters.values
        for trial in searching.open_trials(oracle, 200)
    ]
    places = sorted(1 + math.log10(point["rate"]) / 4 for point in points)
    # Kolmogorov-Smirnov, at one in a thousand.
    distance = max(abs(p - (k + 0.5) / 200) for k, p in enumerate(places))
    assert distance < 1.95 / math.sqrt(200)
    assert 70 < sum(point["flag"] for point in points) < 130
