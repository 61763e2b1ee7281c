"""Bayesian optimization."""

import contextlib
import random
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from keras_tuner import oracles

from kerascomp.tuners._oracle import ManyTrialsOracle
from kerascomp.tuners._space import Point, Space, Tried

_STARTS = 1000  # Random places where the bound is looked at.
_KEPT = 10  # The best of them, from which it is searched in ever smaller steps.
_STEPS = 20
_RADII = tuple(0.2 / 2**k for k in range(8))
_LISTED = 250  # Points of a small space that are compared as well.
_SCANNED = 48  # Length scales, over ten decades.


class BayesianOptimizationOracle(
    ManyTrialsOracle, oracles.BayesianOptimizationOracle
):
    """Proposes where a Gaussian process expects low losses, or knows little.

    The first points are random. From then on, the next point has the lowest

        mean - beta * standard deviation

    under a Gaussian process that was fitted to the losses of the trials that
    ended. Open trials are believed to get the mean at their points ("Kriging
    believer"): this leaves the mean as it is, and lowers the standard
    deviation around them, so that open trials spread out. No point is tried
    twice; a space with finitely many is tried to the last of them.

    Losses far above the others (three times the interquartile range above the
    third quartile) are taken for that bound, and a trial that failed for as
    bad as the worst: otherwise a diverged trial would flatten all others.

    The random points do not depend on how many trials are open, once all
    hyperparameters are known. The others do: they follow from what was known
    when they were asked for.

    Args:
        objective: As in `keras_tuner.oracles.BayesianOptimizationOracle`, like
            all arguments except the following.
        max_trials: The number of trials, at most.
        num_initial_points: Number of random points. By default three per
            hyperparameter, at least three. Trials that failed do not count,
            open ones do, but half of the points must have ended first.
        alpha: Variance of the noise, for losses scaled to variance 1.
        beta: How much the unknown attracts, at least 0.
        seed: An integer of at least 0; 0 is one. None draws a seed.
        hyperparameters: The search space, or a part of it.
        allow_new_entries: Whether trials may find hyperparameters.
        tune_new_entries: Whether those are searched.
        max_retries_per_trial: How often a trial that failed is run again.
        max_consecutive_failed_trials: Failures in a row that end the search
            with an error. None, the default, for any number: trials that
            diverge are results too.

    Saved state: as in KerasTuner. A search that is resumed goes on with the
    points that it would have proposed.

    Reference:
        Ginsbourger et al., 2010, [Kriging is well-suited to parallelize
        optimization](https://doi.org/10.1007/978-3-642-10701-6_6), section
        4.2, with the bound in place of expected improvement, as in Desautels
        et al., 2014, [Parallelizing exploration-exploitation tradeoffs in
        Gaussian process bandit optimization](
        https://jmlr.org/papers/v15/desautels14a.html).
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        num_initial_points: int | None = None,
        alpha: float = 1e-4,
        beta: float = 2.6,
        seed: int | None = None,
        hyperparameters: Any = None,
        allow_new_entries: bool = True,
        tune_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int | None = None,
    ):
        super().__init__(
            objective=objective,
            max_trials=max_trials,
            num_initial_points=num_initial_points,
            alpha=alpha,
            beta=beta,
            seed=seed,
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        space, tried = self.space_and_tried()
        key = f"{self.seed}/{len(self.trials)}"
        losses = {
            name: self.loss_of(trial)
            for name, trial in self.trials.items()
            if not self.is_open(trial)
        }
        point = None
        if self._is_informed(losses) and space.dimensions:
            point = self._propose(space, tried, losses, key)
        if point is None:
            point = space.draw(tried, key)
        return self.proposal(point)

    def _is_informed(self, losses: dict[str, float | None]) -> bool:
        """Whether enough random points were tried."""
        wanted = self.num_initial_points or max(
            3 * len(self.hyperparameters.space), 3
        )
        known = sum(loss is not None for loss in losses.values())
        still_open = len(self.trials) - len(losses)
        return known + still_open >= wanted and 2 * known >= wanted

    def _propose(
        self,
        space: Space,
        tried: Tried,
        losses: dict[str, float | None],
        key: str,
    ) -> Point | None:
        """Returns the most promising point that was not tried."""
        values = {n: t.hyperparameters.values for n, t in self.trials.items()}
        x = space.encode(values[name] for name in losses)
        pending = space.encode(
            point for name, point in values.items() if name not in losses
        )
        rng = np.random.default_rng(random.Random(key).getrandbits(64))
        with _quiet():
            y = scaled(list(losses.values()))
            model = believe(self.gpr, x, y, pending)

            def bound(rows: np.ndarray) -> np.ndarray:
                mean, deviation = model.predict(rows, return_std=True)
                return mean - self.beta * deviation

            candidates = map(
                space.decode, _places(bound, space.dimensions, rng)
            )
            points = [p for p in candidates if p not in tried]
            points += islice(space.left(tried, key), _LISTED)
            # Decoding rounds: compared is what would be tried.
            best = bound(space.encode(points)).argmin() if points else None
        return None if best is None else points[int(best)]


def scaled(losses: list[float | None]) -> np.ndarray:
    """Returns losses with mean 0 and variance 1, outliers and gaps filled."""
    known = np.array([loss for loss in losses if loss is not None])
    low, high = np.quantile(known, [0.25, 0.75])
    worst = known.max()
    if high > low:
        worst = min(worst, high + 3 * (high - low))
    filled = np.array([worst if loss is None else loss for loss in losses])
    clipped = np.minimum(filled, worst)
    # The spread of equal numbers may be a rounding error.
    deviation = clipped.std()
    if deviation <= 1e-12 * np.abs(clipped).max():
        return np.zeros_like(clipped)
    return (clipped - clipped.mean()) / deviation


def believe(gpr: Any, x: np.ndarray, y: np.ndarray, pending: np.ndarray) -> Any:
    """Fits a Gaussian process that believes its mean at pending points.

    Args:
        gpr: A `GaussianProcessRegressor`, left as it is.
        x: `(points, dimensions)`.
        y: `(points,)`, of mean 0 and variance 1.
        pending: `(pending points, dimensions)`.
    """
    from sklearn.base import clone

    model = clone(gpr).set_params(
        normalize_y=False, n_restarts_optimizer=0, optimizer=_length_scale
    )
    model.fit(x, y)
    if not len(pending):
        return model
    # Beliefs are no evidence on the length scale.
    believer = clone(model).set_params(kernel=model.kernel_, optimizer=None)
    return believer.fit(
        np.concatenate([x, pending]),
        np.concatenate([y, model.predict(pending)]),
    )


def _length_scale(
    objective: Any, _start: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float]:
    """Minimizes over the logarithm of the length scale, the only parameter.

    A scan finds the best of several minima without the random restarts that
    more parameters would need.
    """
    from scipy import optimize

    def value(place: float) -> float:
        return objective(np.array([place]), eval_gradient=False)

    ((low, high),) = bounds
    scan = np.linspace(low, high, _SCANNED)
    best = int(np.argmin([value(place) for place in scan]))
    around = scan[max(best - 1, 0)], scan[min(best + 1, _SCANNED - 1)]
    found = optimize.minimize_scalar(value, bounds=around, method="bounded")
    place = min(found.x, scan[best], key=value)
    return np.array([place]), value(place)


def _places(
    bound: Any, dimensions: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns places of the unit cube where a bound is low.

    In batches: one place at a time is a hundred times slower.
    """
    starts = rng.random((_STARTS, dimensions))
    starts = starts[np.argsort(bound(starts))]
    places = starts
    for radius in _RADII:
        best = places[:_KEPT]
        steps = rng.normal(scale=radius, size=(_STEPS, *best.shape))
        around = np.clip(best + steps, 0, 1).reshape(-1, dimensions)
        places = np.concatenate([best, around])
        places = places[np.argsort(bound(places))]
    return np.concatenate([places, starts[:_LISTED]])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # scikit-learn warns of length scales at their bounds, which is what losses
    # that hardly depend on a hyperparameter give.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        yield
