"""Does memory grow with the number of trials?

Trains small trials in batches that share the compiled programs, as a study
does, then trials of differing structure, and prints the resident memory.
Run it once per backend:

    KERAS_BACKEND=jax python benchmarks/population_memory.py
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from kerascomp.population import _choice, _data, _training
from kerascomp.tuners import _batch

PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20


def build(trial, units):
    """A small model whose rates are its trial's own."""
    keras.utils.set_random_seed(trial)
    rng = np.random.default_rng(trial)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(rng.uniform(0.1, 0.6)),
            keras.layers.Dense(4),
        ]
    )
    model.compile(keras.optimizers.Adam(10 ** rng.uniform(-4, -2)), "mse")
    return model


def train(programs, models, engine):
    """Trains a batch of trials for two epochs."""
    x, y = np.ones((64, 16), "float32"), np.ones((64, 4), "float32")
    lanes = len(models)
    plan = _training.Plan(
        _data.Arrays(x, y, lanes=lanes),
        _data.Arrays(x, y, lanes=lanes),
        [32] * lanes,
        [range(2)] * lanes,
        [()] * lanes,
    )
    _training.Training(models, programs, plan, engine).advance()


def resident():
    """Megabytes of memory that are in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--structures", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=10)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--keep-session", action="store_true")
    options = parser.parse_args()
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    print(f"{'':24}{'trials':>8}{'MB':>8}{'MB a trial':>12}")
    ways = {
        "one structure": (options.trials, options.lanes, lambda _: 16),
        "a structure a trial": (options.structures, 1, lambda n: 8 + n),
    }
    for name, (trials, lanes, units) in ways.items():
        programs = _choice.Programs(lift_all=True)
        before, warm = 0.0, trials // 5
        for first in range(0, trials, lanes):
            models = [build(n, units(n)) for n in range(first, first + lanes)]
            train(programs, models, options.engine)
            if not options.keep_session:
                _batch.forget(models)
            if first + lanes >= warm and not before:
                before, warm = resident(), first + lanes
            if (first + lanes) % (trials // 5) == 0:
                print(
                    f"{name:24}{first + lanes:8}{resident():8.0f}", flush=True
                )
        a_trial = (resident() - before) / (trials - warm)
        print(f"{name:24}{trials:8}{resident():8.0f}{a_trial:12.3f}")


if __name__ == "__main__":
    main()
