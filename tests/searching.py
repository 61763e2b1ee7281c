"""Drives oracles with a plain function in place of a training."""

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.engine import trial as kt_trial

from kerascomp.tuners._bayesian import BayesianOptimizationOracle
from kerascomp.tuners._grid import GridSearchOracle
from kerascomp.tuners._hyperband import HyperbandOracle
from kerascomp.tuners._random import RandomSearchOracle

Status = kt_trial.TrialStatus


def space():
    """Returns ranges, choices, and a hyperparameter under a condition."""
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Choice("optimizer", ["sgd", "adam"])
    hp.Float("momentum", 0, 0.9, parent_name="optimizer", parent_values=["sgd"])
    hp.Int("units", 8, 64, step=8)
    return hp


def twelve():
    """Returns a space with twelve points, ten of them without `c`."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("a", [1, 2, 3, 4, 5, 6])
    hp.Boolean("b")
    return hp


def loss(values):
    """A deterministic loss over `space`."""
    adam = 0.5 * (values["optimizer"] == "adam")
    momentum = values.get("momentum", 0.0)
    return abs(values["rate"] - 0.01) + adam + momentum + values["units"] / 640


def started(oracle, directory):
    """Returns the oracle with a folder, and what lies there loaded.

    Only a tuner gives it one.
    """
    tuner = base_tuner.BaseTuner(
        oracle=oracle, directory=str(directory), project_name="search"
    )
    oracle.verbose = 0
    tuner.save()
    return oracle


MINIMIZE = keras_tuner.Objective("loss", "min")
# Each with room for 17 trials.
MAKERS = {
    "random": lambda **k: RandomSearchOracle(MINIMIZE, max_trials=17, **k),
    "grid": lambda **k: GridSearchOracle(MINIMIZE, max_trials=17, **k),
    "bayesian": lambda **k: BayesianOptimizationOracle(
        MINIMIZE, max_trials=17, num_initial_points=12, **k
    ),
    "hyperband": lambda **k: HyperbandOracle(MINIMIZE, max_epochs=9, **k),
}


def make(name, directory, **arguments):
    """Returns an oracle with a folder; `space` by default."""
    settings = {"hyperparameters": space(), "seed": 3, **arguments}
    return started(MAKERS[name](**settings), directory)


def open_trials(oracle, lanes, first=0):
    """Asks once for each lane; returns the trials that may run."""
    asked = [
        oracle.create_trial(f"tuner0/lane{lane}")
        for lane in range(first, first + lanes)
    ]
    return [trial for trial in asked if trial.status == Status.RUNNING]


def end(oracle, trial, value):
    """Reports a value and ends a trial; None for one that failed."""
    if value is None:
        trial.status = Status.FAILED
    else:
        oracle.update_trial(trial.trial_id, {oracle.objective.name: value})
        trial.status = Status.COMPLETED
    oracle.end_trial(trial)


def run(oracle, score, lanes=1, batches=None):
    """Runs batches of trials until the search is over."""
    while batches is None or batches > 0:
        trials = open_trials(oracle, lanes)
        if not trials:
            assert oracle.create_trial("last").status == Status.STOPPED
            return oracle
        for trial in trials:
            end(oracle, trial, score(trial.hyperparameters.values))
        batches = None if batches is None else batches - 1
    return oracle


def points(oracle):
    """Returns the values of all trials, in the order of their start."""
    return [dict(t.hyperparameters.values) for t in oracle.trials.values()]


def distinct(values):
    """Returns the number of different points."""
    return len({tuple(sorted(each.items())) for each in values})
