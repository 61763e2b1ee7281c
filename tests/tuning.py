"""Small searches that several test files run."""

import json
import pathlib
import time

import keras
import keras_tuner
import numpy as np

from kerascomp import tuners

KINDS = ["random", "grid", "bayesian", "hyperband"]
CLASSES = {
    "random": tuners.RandomSearch,
    "grid": tuners.GridSearch,
    "bayesian": tuners.BayesianOptimization,
    "hyperband": tuners.Hyperband,
}
STOCK = {
    "random": keras_tuner.RandomSearch,
    "grid": keras_tuner.GridSearch,
    "bayesian": keras_tuner.BayesianOptimization,
    "hyperband": keras_tuner.Hyperband,
}
SAMPLES = 48
MINIMIZE = keras_tuner.Objective("val_loss", "min")


def data():
    """Returns 48 points of a noisy plane."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 2)).astype("float32")
    noise = rng.normal(size=(SAMPLES, 1))
    y = x @ np.array([[1.0], [-2.0]]) + 0.1 * noise
    return x, y.astype("float32")


def model(optimizer, units=1, **compile_arguments):
    """Returns a compiled linear regression."""
    built = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)]
    )
    arguments = {"loss": "mse", "metrics": ["mae"], **compile_arguments}
    built.compile(optimizer, **arguments)
    return built


def build(hp):
    """Returns a regression whose learning rate is searched."""
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    return model(keras.optimizers.SGD(rate))


class HyperModel(keras_tuner.HyperModel):
    """Builds the same."""

    def build(self, hp):
        return build(hp)


def tuner(directory, hypermodel=build, kind="random", **arguments):
    """Returns a tuner with room for three trials."""
    settings = {
        "objective": "val_loss",
        "seed": 1,
        "directory": str(directory),
        "project_name": "search",
        "engine": "vectorized",
        **arguments,
    }
    if kind != "hyperband":
        settings.setdefault("max_trials", 3)
    return CLASSES[kind](hypermodel, **settings)


def fit_arguments(**arguments):
    """Returns the arguments of a short search."""
    x, y = data()
    return {
        "x": x[:32],
        "y": y[:32],
        "epochs": 2,
        "batch_size": 16,
        "validation_data": (x[32:], y[32:]),
        "verbose": 0,
        **arguments,
    }


def searched(directory, hypermodel=build, kind="random", fit=(), **arguments):
    """Returns a tuner that has searched."""
    own = tuner(directory, hypermodel, kind, **arguments)
    own.search(**fit_arguments(**dict(fit)))
    return own


def trials(own):
    """Returns the trials, in the order of their start."""
    found = own.oracle.trials
    return [found[name] for name in sorted(found)]


def scores(own):
    """Returns the scores, in the order of the start of the trials."""
    return [trial.score for trial in trials(own)]


def statuses(own):
    """Returns the statuses, in the order of the start of the trials."""
    return [trial.status for trial in trials(own)]


def file_of(own, trial):
    """Returns what the file of a trial says."""
    path = pathlib.Path(own.get_trial_dir(trial.trial_id)) / "trial.json"
    return json.loads(path.read_text())


def curve_of(own, trial, name="val_loss"):
    """Returns the values of all executions, by epoch, as the file has them."""
    found = file_of(own, trial)["metrics"]["metrics"][name]["observations"]
    return {each["step"]: each["value"] for each in found}


class LaneWise(keras.callbacks.Callback):
    """Counts updates, and tells `log` of every epoch."""

    lane_wise = True

    def __init__(self, log=None, pause=0.0):
        super().__init__()
        self.log = log and str(log)
        self.pause = pause
        self.updates = 0

    def on_train_batch_end(self, batch, logs=None):
        self.updates += 1

    def on_epoch_end(self, epoch, logs=None):
        logs["updates"] = float(self.updates)
        self.updates = 0
        if self.log:
            with pathlib.Path(self.log).open("a") as file:
                file.write(f"{epoch}\n")
        time.sleep(self.pause)


class Alone(LaneWise):
    """The same, for one model at a time."""

    lane_wise = False
