"""The four tuners, with KerasTuner's constructors."""

from typing import Any

from kerascomp.tuners._bayesian import BayesianOptimizationOracle
from kerascomp.tuners._grid import GridSearchOracle
from kerascomp.tuners._hyperband import HyperbandOracle
from kerascomp.tuners._random import RandomSearchOracle
from kerascomp.tuners._tuner import LanesTuner


class RandomSearch(LanesTuner):
    """Tries random points of the search space, many at a time.

    `keras_tuner.RandomSearch` with one import changed: trials that differ in
    numbers such as learning rate, dropout rate and batch size share a compiled
    program instead of building, tracing and running a model each. See
    *Tune many times faster* for what can be fused.

    All trials with equal `executions_per_trial` see the same initial weights,
    data order and noise, execution by execution, which makes them comparable.

    Args:
        hypermodel: As in `keras_tuner.RandomSearch`, like all arguments except
            the following.
        objective: As there.
        max_trials: As there.
        seed: An integer; 0 is one. None draws a seed.
        hyperparameters: As there.
        tune_new_entries: As there.
        allow_new_entries: As there.
        max_retries_per_trial: As there.
        max_consecutive_failed_trials: Failures in a row that end the search
            with an error. None, the default, for any number: a learning rate
            that diverges is a result too.
        max_lanes: Most trainings at once, at least 1. None for 64.
        engine: As in `kerascomp.population.Population`.
        **kwargs: As in `keras_tuner.Tuner`: `executions_per_trial`,
            `directory`, `project_name`, `overwrite` and others.

    Saved state:
        The files of KerasTuner, with the curves of all executions in
        `trial.json`. A search that was killed goes on with the epoch that the
        running trials had reached.

    Raises:
        ValueError: If an argument is out of its range; in `search`, if the
            objective is not among what the models report.

    Examples:
        >>> import tempfile
        >>> def build(hp):
        ...     model = keras.Sequential(
        ...         [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
        ...     )
        ...     model.set_weights([np.array([[1.0]])])
        ...     rate = hp.Choice("rate", [0.25, 0.5, 1.0])
        ...     model.compile(keras.optimizers.SGD(rate), "mse")
        ...     return model
        >>> tuner = RandomSearch(
        ...     build, "val_loss", max_trials=3, directory=tempfile.mkdtemp()
        ... )
        >>> x, y = np.array([[1.0]]), np.array([[3.0]])
        >>> tuner.search(x, y, validation_data=(x, y), verbose=0)
        >>> # One step from w = 1 is 2 rate (3 - w), and half of that is right.
        >>> tuner.get_best_hyperparameters()[0].values
        {'rate': 0.5}
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        seed: int | None = None,
        hyperparameters: Any = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = None,
        **kwargs: Any,
    ):
        oracle = RandomSearchOracle(
            objective=objective,
            max_trials=max_trials,
            seed=seed,
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        super().__init__(oracle, hypermodel, **kwargs)


class GridSearch(LanesTuner):
    """Tries every point of a grid, many at a time.

    `keras_tuner.GridSearch` with one import changed. It holds any number of
    trials open, where KerasTuner's holds two, and resumes.

    Args:
        hypermodel: As in `keras_tuner.GridSearch`.
        objective: As there.
        max_trials: As there; None for the whole grid.
        seed: As in `RandomSearch`: the grid does not depend on it, initial
            weights, data order and noise do.
        hyperparameters: As there.
        tune_new_entries: As there.
        allow_new_entries: As there.
        max_retries_per_trial: As there.
        max_consecutive_failed_trials: As in `RandomSearch`.
        **kwargs: As in `RandomSearch`, with `max_lanes` and `engine`.

    Saved state:
        As of `RandomSearch`.

    Raises:
        ValueError: As of `RandomSearch`.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int | None = None,
        seed: int | None = None,
        hyperparameters: Any = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = None,
        **kwargs: Any,
    ):
        oracle = GridSearchOracle(
            objective=objective,
            max_trials=max_trials,
            seed=seed,
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        super().__init__(oracle, hypermodel, **kwargs)


class BayesianOptimization(LanesTuner):
    """Tries points that a Gaussian process finds promising, some at a time.

    `keras_tuner.BayesianOptimization` with one import changed. The points of a
    batch are chosen knowing that the others are being tried.

    Args:
        hypermodel: As in `keras_tuner.BayesianOptimization`.
        objective: As there.
        max_trials: As there.
        num_initial_points: As there.
        alpha: As there.
        beta: As there.
        seed: An integer of at least 0; 0 is one. None draws a seed.
        hyperparameters: As there.
        tune_new_entries: As there.
        allow_new_entries: As there.
        max_retries_per_trial: As there.
        max_consecutive_failed_trials: As in `RandomSearch`.
        max_lanes: Most trainings at once, at least 1. None for 8 trials: the
            more at once, the less is known when the next ones are chosen.
        **kwargs: As in `RandomSearch`, with `engine`.

    Saved state:
        As of `RandomSearch`.

    Raises:
        ValueError: As of `RandomSearch`.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        num_initial_points: int | None = None,
        alpha: float = 1e-4,
        beta: float = 2.6,
        seed: int | None = None,
        hyperparameters: Any = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = None,
        max_lanes: int | None = None,
        **kwargs: Any,
    ):
        oracle = BayesianOptimizationOracle(
            objective=objective,
            max_trials=max_trials,
            num_initial_points=num_initial_points,
            alpha=alpha,
            beta=beta,
            seed=seed,
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        if max_lanes is None:
            max_lanes = 8 * kwargs.get("executions_per_trial", 1)
        super().__init__(oracle, hypermodel, max_lanes=max_lanes, **kwargs)


class Hyperband(LanesTuner):
    """Tries many points for few epochs, and the best of them for more.

    `keras_tuner.Hyperband` with one import changed. A trial that is promoted
    goes on where it stopped: with the weights, the optimizer's state and the
    place in its schedule, where KerasTuner keeps the weights alone.

    Args:
        hypermodel: As in `keras_tuner.Hyperband`.
        objective: As there.
        max_epochs: As there.
        factor: As there.
        hyperband_iterations: As there.
        seed: As in `RandomSearch`.
        hyperparameters: As there.
        tune_new_entries: As there.
        allow_new_entries: As there.
        max_retries_per_trial: As there.
        max_consecutive_failed_trials: As in `RandomSearch`.
        **kwargs: As in `RandomSearch`, with `max_lanes` and `engine`.

    Saved state:
        As of `RandomSearch`, and the last state of every trial.

    Raises:
        ValueError: As of `RandomSearch`.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_epochs: int = 100,
        factor: int = 3,
        hyperband_iterations: int = 1,
        seed: int | None = None,
        hyperparameters: Any = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = None,
        **kwargs: Any,
    ):
        oracle = HyperbandOracle(
            objective=objective,
            max_epochs=max_epochs,
            factor=factor,
            hyperband_iterations=hyperband_iterations,
            seed=seed,
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        super().__init__(oracle, hypermodel, **kwargs)

    def _keeps_states(self) -> bool:
        return True
