"""Everything that can be wrong with a study before it trains."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner

from kerascomp import _validation
from kerascomp.datasets import Dataset
from kerascomp.population._population import ENGINES
from kerascomp.studies import _models, _search, _space
from kerascomp.studies._errors import StudyError


def check_arguments(
    data: Any,
    algorithm: str,
    max_trials: int | None,
    epochs: int,
    seeds: int,
    seed: int,
    max_minutes: float | None,
) -> None:
    """Raises a `StudyError` unless each argument is in its range."""
    if not isinstance(data, Dataset):
        raise StudyError(
            "`data` must come from kerascomp.datasets.load or from_arrays. "
            f"Received: {type(data).__name__}"
        )
    try:
        _validation.one_of("algorithm", algorithm, _search.ALGORITHMS)
        _validation.at_least("epochs", epochs, 1)
        _validation.at_least("seeds", seeds, 1)
        _validation.at_least("seed", seed, 0)
        if max_trials is not None:
            _validation.at_least("max_trials", max_trials, 1)
        if max_minutes is not None:
            _validation.in_interval("max_minutes", max_minutes, "(0, inf)")
    except (TypeError, ValueError) as error:
        raise StudyError(str(error)) from error
    if algorithm == "hyperband" and max_trials is not None:
        raise StudyError(
            "Hyperband's number of trials follows from `epochs`. Leave "
            f"`max_trials` out. Received: max_trials={max_trials}"
        )


def check_lanes(
    data: Dataset,
    algorithm: str,
    seeds: int,
    folds: int | None,
    halving: int | None,
) -> None:
    """Raises a `StudyError` unless folds and halving can be had."""
    try:
        if folds is not None:
            _validation.at_least("folds", folds, 2)
        if halving is not None:
            _validation.at_least("halving", halving, 2)
    except (TypeError, ValueError) as error:
        raise StudyError(str(error)) from error
    if folds is not None and seeds != 1:
        raise StudyError(
            "Every trial is trained once for each fold or for each seed: pass "
            f"`folds` or `seeds`. Received: folds={folds}, seeds={seeds}"
        )
    pooled = len(data.train) + len(data.validation)
    if folds is not None and folds > pooled:
        raise StudyError(
            f"There are {pooled} samples in the training and validation part, "
            f"fewer than folds. Received: folds={folds}"
        )
    if halving is not None and algorithm == "hyperband":
        raise StudyError(
            "Hyperband ends trials early by itself: leave `halving` out. "
            f"Received: halving={halving}"
        )


def check_engine(engine: str, max_lanes: int | None) -> None:
    """Raises a `StudyError` unless the arguments of lanes are in range."""
    try:
        _validation.one_of("engine", engine, ENGINES)
        if max_lanes is not None:
            _validation.at_least("max_lanes", max_lanes, 1)
    except (TypeError, ValueError) as error:
        raise StudyError(str(error)) from error


def check_grid(
    space: keras_tuner.HyperParameters, max_trials: int | None
) -> None:
    """Raises a `StudyError` if a grid would be cut short."""
    size = _space.grid_size(space)
    if max_trials is not None and max_trials < size:
        raise StudyError(
            f"The grid has {size} points, and cutting it short would leave "
            "whole regions out. Leave `max_trials` out, list fewer values, or "
            f'use algorithm="random". Received: max_trials={max_trials}'
        )


def resolve_model(
    build: str | Callable[[Any], Any], data: Dataset
) -> tuple[str, Callable[[Any], Any]]:
    """Returns the name under which a model is recorded, and its function."""
    if callable(build):
        return _identify(build), build
    name = _models.suited_to(data) if build == "auto" else build
    if name not in _models.BUILT_IN:
        choices = ", ".join(map(repr, ("auto", *_models.BUILT_IN)))
        raise StudyError(
            f"`build` must be one of {choices}, or a function of KerasTuner's "
            f"hyperparameters. Received: build={build!r}"
        )
    return name, _models.BUILT_IN[name](data)


def resolve_objective(
    objective: str | keras_tuner.Objective | None, data: Dataset
) -> keras_tuner.Objective:
    """Returns the objective with its direction."""
    if isinstance(objective, keras_tuner.Objective):
        return objective
    if objective is None:
        objective = "val_accuracy" if data.num_classes else "val_loss"
    try:
        # KerasTuner knows the direction of Keras' own metrics.
        oracle = keras_tuner.oracles.RandomSearchOracle(objective=objective)
    except ValueError as error:
        raise StudyError(
            f"Whether more or less of {objective!r} is better is not known. "
            'Pass keras_tuner.Objective(name, "max") or (name, "min"), or '
            f"--objective {objective}:max in the shell."
        ) from error
    return oracle.objective


def check_model(
    build: Callable[[Any], Any],
    space: keras_tuner.HyperParameters,
    data: Dataset,
    objective: keras_tuner.Objective,
) -> keras_tuner.HyperParameters:
    """Builds a model once, evaluates it on a few samples, and drops it.

    Returns:
        The space with what `build` declares besides.

    Raises:
        StudyError: If the function raises or returns no compiled model, the
            model does not take the data, or lacks the objective.
    """
    space = space.copy()
    model = guarded(build)(space)
    if not isinstance(model, keras.Model) or not model.compiled:
        kind = type(model).__name__
        uncompiled = " that is not compiled" * isinstance(model, keras.Model)
        raise StudyError(
            "The model function must return a compiled keras.Model. "
            f"Received: {kind}{uncompiled}"
        )
    part = data.train
    try:
        logs = model.test_on_batch(part.x[:8], part.y[:8], return_dict=True)
    except Exception as error:
        raise StudyError(
            f"The model does not take the data: inputs {part.x.shape[1:]}, "
            f"targets {part.y.shape[1:]} of {part.y.dtype}. "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        keras.utils.clear_session()
    reported = [*logs, *(f"val_{name}" for name in logs)]
    if objective.name not in reported:
        raise StudyError(
            f"The model does not report the objective {objective.name!r}. It "
            f"reports {', '.join(reported)}."
        )
    return space


def guarded(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns `build` with any exception turned into a `StudyError`."""

    def guarded_build(hp: Any) -> Any:
        try:
            return build(hp)
        except Exception as error:
            raise StudyError(
                f"The model function raised {type(error).__name__}: {error}"
            ) from error

    return guarded_build


def _identify(build: Callable[[Any], Any]) -> str:
    """A function's name, and a digest of its source where there is one."""
    name = getattr(build, "__qualname__", type(build).__name__)
    try:
        source = inspect.getsource(build)
    except (OSError, TypeError):
        return name
    return f"{name} ({hashlib.sha256(source.encode()).hexdigest()[:8]})"
