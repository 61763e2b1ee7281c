"""What Bayesian optimization proposes."""

import math

import keras_tuner
import numpy as np
import pytest
import searching
from keras_tuner.engine import trial as kt_trial
from searching import Status
from sklearn import gaussian_process

from kerascomp.tuners import _bayesian
from kerascomp.tuners._bayesian import BayesianOptimizationOracle

pytestmark = pytest.mark.one_backend


def make(hp, directory, objective=searching.MINIMIZE, **arguments):
    oracle = BayesianOptimizationOracle(
        objective, hyperparameters=hp, seed=0, **arguments
    )
    return searching.started(oracle, directory)


def plane():
    hp = keras_tuner.HyperParameters()
    hp.Float("a", -1, 1)
    hp.Float("b", 1e-3, 1e1, sampling="log")
    return hp


def bowl(values):
    return (values["a"] - 0.3) ** 2 + (math.log10(values["b"]) + 1) ** 2


def with_results(oracle, points, scores):
    for k, (point, score) in enumerate(zip(points, scores, strict=True)):
        hp = oracle.get_space()
        hp.values = dict(point)
        trial = kt_trial.Trial(hp, trial_id=f"given{k}", status="COMPLETED")
        trial.score = score
        oracle.trials[trial.trial_id] = trial


# --- Proposals ---


@pytest.mark.parametrize("lanes", [1, 6])
def test_it_finds_the_bottom_of_a_bowl(lanes, tmp_path):
    oracle = make(plane(), tmp_path, max_trials=18)
    searching.run(oracle, bowl, lanes)
    # The best of n random points, in an area of 8, has a loss of 8 / (pi n).
    assert oracle.get_best_trials()[0].score < 8 / (math.pi * 18) / 5


@pytest.mark.parametrize(("direction", "sign"), [("max", 1), ("min", -1)])
def test_it_goes_where_scores_are_better(direction, sign, tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Int("a", -100, 100)
    oracle = make(
        hp, tmp_path, keras_tuner.Objective("score", direction),
        num_initial_points=2, max_trials=20,
    )  # fmt: skip
    places = [10 * k for k in range(-4, 5)]
    with_results(oracle, [{"a": a} for a in places], [a / 10 for a in places])
    trial = oracle.create_trial("tuner0")
    assert sign * trial.hyperparameters["a"] > 0


def test_equal_scores_are_no_trouble(tmp_path):
    oracle = make(plane(), tmp_path, num_initial_points=2)
    searching.run(oracle, lambda values: 0.0, lanes=2)
    assert searching.distinct(searching.points(oracle)) == 10


def test_steps_are_respected(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("a", 0, 10, step=3)
    hp.Int("b", 8, 64, sampling="log", step=2)
    hp.Int("c", 1, 9, sampling="log")
    oracle = make(hp, tmp_path, num_initial_points=3, max_trials=15)
    # The best is at the upper ends.
    searching.run(oracle, lambda v: -v["a"] - v["b"] - v["c"], lanes=3)
    for point in searching.points(oracle):
        assert point["a"] in {0, 3, 6, 9}
        assert point["b"] in {8, 16, 32, 64}
        assert point["c"] in range(1, 10)
    best = oracle.get_best_trials()[0].hyperparameters
    assert best.values == {"a": 9, "b": 64, "c": 9}


def test_hyperparameters_found_later_are_proposed(tmp_path):
    oracle = make(plane(), tmp_path, num_initial_points=2, max_trials=20)
    searching.run(oracle, bowl, batches=4)
    found = keras_tuner.HyperParameters()
    found.Float("c", 3.2, 6.4, step=0.2, default=3.6)
    found.Boolean("d", default=True)
    oracle.update_space(found)
    trial = oracle.create_trial("tuner0")
    assert {"a", "b", "c", "d"} == trial.hyperparameters.values.keys()


def test_a_space_of_fixed_values_has_one_point(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("a", 1)
    oracle = make(hp, tmp_path, num_initial_points=1)
    searching.run(oracle, lambda values: 1.0)
    assert len(oracle.trials) == 1


@pytest.mark.parametrize("lanes", [1, 5])
def test_no_point_is_tried_twice_while_others_are_left(lanes, tmp_path):
    oracle = make(
        searching.twelve(), tmp_path, num_initial_points=3, max_trials=30
    )
    searching.run(oracle, lambda v: v["a"] - v["b"], lanes)
    assert len(oracle.trials) == 12
    assert searching.distinct(searching.points(oracle)) == 12


# --- Open trials ---


def test_nothing_hangs_while_all_are_pending(tmp_path):
    oracle = make(plane(), tmp_path, num_initial_points=3, max_trials=30)
    trials = searching.open_trials(oracle, 30)
    assert len(trials) == 30
    assert oracle.create_trial("more").status == Status.STOPPED


def test_open_trials_spread_out(tmp_path):
    oracle = make(plane(), tmp_path, num_initial_points=8, max_trials=40)
    searching.run(oracle, bowl, lanes=4, batches=2)
    trials = searching.open_trials(oracle, 8)
    places = np.array(
        [
            [p.value_to_prob(t.hyperparameters[p.name]) for p in plane().space]
            for t in trials
        ]
    )
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    distances += 2 * np.eye(8)
    # Without regard to each other they would all lie in one place.
    assert distances.min() > 0.02
    assert np.linalg.norm(places - places[0], axis=-1).max() > 0.2


def test_random_points_do_not_depend_on_lanes(tmp_path):
    runs = [
        searching.run(
            make(plane(), tmp_path / str(lanes), num_initial_points=8),
            bowl,
            lanes,
            batches=8 // lanes,
        )
        for lanes in (1, 8)
    ]
    assert searching.points(runs[0]) == searching.points(runs[1])


def test_beliefs_leave_the_mean_and_lower_the_deviation():
    rng = np.random.default_rng(1)
    x, pending, places = (
        rng.random((9, 2)),
        rng.random((3, 2)),
        rng.random((5, 2)),
    )
    y = np.sin(5 * x[:, 0]) + x[:, 1]
    y = (y - y.mean()) / y.std()
    gpr = gaussian_process.GaussianProcessRegressor(
        gaussian_process.kernels.Matern(nu=2.5), alpha=1e-3
    )

    def fitted(points):
        return _bayesian.believe(gpr, x, y, points)

    # In float64, from the equations of the posterior. Ginsbourger et al.,
    # section 4.2: the variance is that with the pending points observed.
    kernel = fitted(pending).kernel_
    covariance = kernel(x) + 1e-3 * np.eye(9)
    mean = kernel(places, x) @ np.linalg.solve(covariance, y)
    both = np.concatenate([x, pending])
    covariance = kernel(both) + 1e-3 * np.eye(12)
    cross = kernel(places, both)
    variance = 1 - np.sum(cross * np.linalg.solve(covariance, cross.T).T, -1)

    believed, deviation = fitted(pending).predict(places, return_std=True)
    np.testing.assert_allclose(believed, mean, rtol=1e-7)
    np.testing.assert_allclose(deviation**2, variance, rtol=1e-6)
    before = fitted(pending[:0]).predict(places, return_std=True)[1]
    assert np.all(deviation < before)
    assert not hasattr(gpr, "kernel_")


@pytest.mark.parametrize("frequency", [0.5, 3.0, 12.0])
def test_the_length_scale_is_at_least_as_likely_as_after_restarts(frequency):
    rng = np.random.default_rng(3)
    x = rng.random((15, 2))
    y = np.sin(frequency * x[:, 0]) + 0.1 * rng.normal(size=15)
    y = (y - y.mean()) / y.std()
    restarted = gaussian_process.GaussianProcessRegressor(
        gaussian_process.kernels.Matern(nu=2.5),
        alpha=1e-2,
        n_restarts_optimizer=20,
        random_state=0,
    )
    own = _bayesian.believe(restarted, x, y, x[:0])
    likelihood = own.log_marginal_likelihood(own.kernel_.theta)
    best = restarted.fit(x, y).log_marginal_likelihood_value_
    # Both stop when it hardly changes.
    assert likelihood > best - 1e-6 * abs(best)


# --- Losses ---


def test_losses_are_scaled():
    y = _bayesian.scaled([1.0, 2.0, 3.0, 6.0])
    assert y.mean() == pytest.approx(0, abs=1e-15)
    assert y.std() == pytest.approx(1)
    np.testing.assert_allclose(np.diff(y) / np.diff(y)[0], [1, 1, 3])


def test_a_diverged_trial_does_not_flatten_the_others():
    # Quartiles 1 and 3, so 1e12 counts as 3 + 3 * 2 = 9.
    known = [0.0, 1.0, 2.0, 3.0, 1e12]
    np.testing.assert_allclose(
        _bayesian.scaled(known), _bayesian.scaled([0.0, 1.0, 2.0, 3.0, 9.0])
    )
    assert _bayesian.scaled([*known, None])[-1] == pytest.approx(
        _bayesian.scaled([*known, None])[-2]
    )


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_equal_losses_are_scaled_to_zero(value):
    np.testing.assert_array_equal(_bayesian.scaled([value] * 3), np.zeros(3))
    np.testing.assert_array_equal(_bayesian.scaled([value]), [0.0])


def test_it_stays_away_from_where_trials_fail(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("a", 0, 1)
    oracle = make(hp, tmp_path, num_initial_points=6, max_trials=20, beta=0.5)
    # The best would be beyond 0.5, where nothing works.
    searching.run(
        oracle, lambda v: None if v["a"] > 0.5 else 1 - v["a"], lanes=2
    )
    proposed = searching.points(oracle)[10:]
    assert sum(point["a"] > 0.6 for point in proposed) <= 2
    assert oracle.get_best_trials()[0].hyperparameters["a"] > 0.4
