"""KerasTuner's tuners, with many trials in one compiled program."""

from kerascomp.tuners._tuners import (
    BayesianOptimization,
    GridSearch,
    Hyperband,
    RandomSearch,
)

__all__ = ["RandomSearch", "GridSearch", "BayesianOptimization", "Hyperband"]
