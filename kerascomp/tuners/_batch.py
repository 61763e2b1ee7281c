"""Trains a batch of trials together, and survives being killed."""

import dataclasses
import gc
import glob
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras_tuner import errors

from kerascomp import _files
from kerascomp._compat import keras
from kerascomp.population import _choice, _members, _training

Key = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Lane:
    """One training: a trial with one seed.

    Attributes:
        key: The trial, and which of its executions this is.
        build: Returns the compiled model.
        seed: Set before building, and the seed of the data order.
        batch_size: Samples in a batch.
        epochs: The epochs to run, counted from 0.
        start: Weights and optimizer to begin with; None for those built.
        hyperparameters: To recognize the lane after an interruption.
    """

    key: Key
    build: Callable[[], Any]
    seed: int
    batch_size: int
    epochs: range
    start: Sequence[np.ndarray] | None = None
    hyperparameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Outcome:
    """What became of a lane.

    Attributes:
        lane: Which it was.
        model: With its last weights; None if it could not be built.
        history: As of `keras.callbacks.History`.
        best: What the keeper of the best epoch knows.
        diverged: The step at which it diverged, or None.
        seconds: Its share of the time of the training steps, by epoch.
        error: The exception that ended it, or None.
        details: Its traceback.
        pruned: The epoch before which it was pruned, or None.
    """

    lane: Lane
    model: Any = None
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    best: "BestEpoch | None" = None
    diverged: int | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)
    error: Exception | None = None
    details: str = ""
    pruned: int | None = None

    @property
    def state(self) -> list[np.ndarray]:
        """The last weights and the optimizer, for `Lane.start`."""
        return _training.state_of(self.model)


class BestEpoch(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best objective.

    Args:
        objective: KerasTuner's.

    Attributes:
        validation_freq: Epochs from one validation to the next.
    """

    lane_wise = True

    def __init__(self, objective: Any):
        super().__init__()
        self.objective = objective
        self.validation_freq = 1
        self.score: float | None = None
        self.epoch: int | None = None
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        if not has_objective(self.objective, epoch, logs, self.validation_freq):
            return
        score = float(self.objective.get_value(logs))
        if not np.isfinite(score):
            return
        if self.score is None or self.objective.better_than(score, self.score):
            self.score, self.epoch = score, epoch
            self.weights = self.model.get_weights()


class Stopped(BaseException):
    """A batch was stopped by `Settings.on_epoch`; no error of anything."""


class MissingObjectiveError(errors.FatalValueError):
    """The objective is not among what a model reports."""

    def __init__(self, missing: Sequence[str], logs: Mapping[str, Any]):
        super().__init__(
            f"The objective {', '.join(map(repr, missing))} is not among what "
            f"the model reports: {', '.join(sorted(logs))}. Compile the model "
            "with the metric, pass `validation_data` or `validation_split` "
            "for names with val_, or choose another objective."
        )


def has_objective(
    objective: Any, epoch: int, logs: Mapping[str, Any], validation_freq: Any
) -> bool:
    """Whether the objective is known after an epoch.

    Raises:
        MissingObjectiveError: If it never will be.
    """
    # Several objectives have no public class.
    names = getattr(objective, "name_to_direction", None) or [objective.name]
    missing = [name for name in names if name not in logs]
    awaits = all(name.startswith("val_") for name in missing)
    if missing and (is_due(epoch, validation_freq) or not awaits):
        raise MissingObjectiveError(missing, logs)
    return not missing


def is_due(epoch: int, validation_freq: Any) -> bool:
    """Whether an epoch ends with a validation, as `fit` decides it."""
    if isinstance(validation_freq, int):
        return (epoch + 1) % validation_freq == 0
    return epoch + 1 in validation_freq


@dataclasses.dataclass(frozen=True)
class Halving:
    """Ends the worse trials early; the others go on with what they have.

    Attributes:
        factor: One in so many trials goes on at every rung.
        rungs: After how many epochs trials are compared, ascending.
    """

    factor: int
    rungs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all batches of a search have in common.

    Attributes:
        plan: Returns the plan for lanes, with these callbacks for each.
        objective: KerasTuner's.
        programs: What was compiled, for all batches.
        callbacks: Returns the callbacks of a lane.
        engine: As of `Population`.
        max_lanes: As of `Population`.
        halving: Whether to end the worse trials early.
        checkpoint: The file to resume from after an interruption.
        on_epoch: Is called with the lanes that finished an epoch. If it
            returns True, the batch stops there, to be resumed.
    """

    plan: Callable[[Sequence[Lane], list[list]], _training.Plan]
    objective: Any
    programs: _choice.Programs
    callbacks: Callable[[Lane, Any], list]
    engine: str = "auto"
    max_lanes: int | None = None
    halving: Halving | None = None
    checkpoint: Path | None = None
    on_epoch: Callable[[list[Lane]], bool] | None = None


def run(lanes: Sequence[Lane], settings: Settings) -> list[Outcome]:
    """Trains lanes, and returns what became of each.

    Errors in building or training a model are outcomes. If the training of
    all together fails, every lane is trained alone, to find out whose fault it
    is.
    """
    outcomes = [_built(lane) for lane in lanes]
    sound = [outcome for outcome in outcomes if outcome.error is None]
    try:
        _train(sound, settings)
    except errors.FatalError:
        raise
    except Exception as error:
        for outcome in sound:
            _train_alone(outcome, settings, error, len(sound) > 1)
    return outcomes


def remove_checkpoints(path: Path) -> None:
    """Removes what `Settings.checkpoint` names and what belongs to it."""
    # A process that was killed may have been writing one.
    suffix = glob.escape("".join(path.suffixes))
    unfinished = path.parent.glob(f".writing-*{suffix}")
    for each in [*_checkpoints(path), *unfinished]:
        each.unlink(missing_ok=True)


def forget(outcomes: list[Outcome]) -> None:
    """Frees what Keras keeps of models that are not needed any more."""
    outcomes.clear()
    keras.utils.clear_session(free_memory=False)
    gc.collect()


def write_state(path: Path, state: Sequence[np.ndarray]) -> None:
    """Keeps `Outcome.state` in a file."""
    with _files.atomic_path(path) as temporary:
        np.savez(temporary, *state)


def read_state(path: Path) -> list[np.ndarray]:
    """Undoes `write_state`."""
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def _built(lane: Lane) -> Outcome:
    outcome = Outcome(lane)
    try:
        keras.utils.set_random_seed(lane.seed)
        outcome.model = lane.build()
        _members.check([outcome.model])
    except errors.FatalError:
        raise
    except Exception as error:
        _note(outcome, error)
    return outcome


def _note(outcome: Outcome, error: Exception) -> None:
    outcome.error = error
    outcome.details = "".join(traceback.format_exception(error))


def _train_alone(
    outcome: Outcome, settings: Settings, error: Exception, anew: bool
) -> None:
    if anew:
        again = _built(outcome.lane)
        outcome.model = again.model
        outcome.error, outcome.details = again.error, again.details
        if outcome.error is not None:
            return
        try:
            _train([outcome], settings, alone=True)
            return
        except errors.FatalError:
            raise
        except Exception as own:
            error = own
    _note(outcome, error)


def _train(
    outcomes: Sequence[Outcome], settings: Settings, alone: bool = False
) -> None:
    if not outcomes:
        return
    lanes = [outcome.lane for outcome in outcomes]
    plan = _plan(outcomes, settings)
    sound = [o for o in outcomes if _finish_building(o, plan.data)]
    if len(sound) < len(outcomes):
        _train(sound, settings, alone)
        return
    checkpoint = _Checkpoint(settings.checkpoint, outcomes, alone)

    def after_epoch(going: list[int]) -> None:
        own = [lanes[place] for place in going]
        stops = settings.on_epoch is not None and settings.on_epoch(own)
        checkpoint.save(training, at_once=stops)
        if stops:
            raise Stopped

    training = _training.Training(
        [outcome.model for outcome in outcomes],
        settings.programs,
        plan,
        settings.engine,
        settings.max_lanes,
        after_epoch,
    )
    for place, lane in enumerate(lanes):
        if lane.start is not None:
            training.begin_with(place, lane.start)
    checkpoint.restore(training)
    for rung in _rungs(settings, outcomes, training):
        training.advance(rung)
        _prune(training, outcomes, rung, settings)
    training.advance()
    for place, outcome in enumerate(outcomes):
        outcome.history = training.history[place]
        outcome.diverged = training.history.diverged[place]
        outcome.seconds = training.history.seconds[place]
        outcome.best = training.history.callbacks[place][-1]


def _plan(outcomes: Sequence[Outcome], settings: Settings) -> _training.Plan:
    best = [BestEpoch(settings.objective) for _ in outcomes]
    plan = settings.plan(
        [outcome.lane for outcome in outcomes],
        [
            [*settings.callbacks(outcome.lane, outcome.model), own]
            for outcome, own in zip(outcomes, best, strict=True)
        ],
    )
    for own in best:
        own.validation_freq = plan.validation_freq
    return plan


def _finish_building(outcome: Outcome, data: Any) -> bool:
    """Whether a model has, or can be given, its variables."""
    if outcome.model.built:
        return True
    try:
        # Weights that do not depend on how many lanes there are.
        keras.utils.set_random_seed(outcome.lane.seed)
        _training.prepare([outcome.model], data)
    except Exception as error:
        _note(outcome, error)
        return False
    return True


def _rungs(
    settings: Settings,
    outcomes: Sequence[Outcome],
    training: _training.Training,
) -> list[int]:
    """The rungs that an interrupted training had not yet passed."""
    if settings.halving is None:
        return []
    done = max((o.pruned for o in outcomes if o.pruned is not None), default=0)
    passed = min(training.next_epochs(), default=0)
    stop = max(outcome.lane.epochs.stop for outcome in outcomes)
    return [
        rung
        for rung in settings.halving.rungs
        if done < rung < stop and rung >= passed
    ]


def _prune(
    training: _training.Training,
    outcomes: Sequence[Outcome],
    rung: int,
    settings: Settings,
) -> None:
    """Drops the trials that are not among the best at a rung."""
    factor = settings.halving.factor if settings.halving else 1
    sign = 1 if settings.objective.direction == "min" else -1
    losses: dict[str, list[float]] = {}
    for place in training.running:
        score = training.history.callbacks[place][-1].score
        loss = np.inf if score is None else sign * score
        losses.setdefault(outcomes[place].lane.key[0], []).append(loss)
    # Stable: equal trials rank in the order of their start.
    ranked = sorted(losses, key=lambda trial: float(np.mean(losses[trial])))
    kept = ranked[: max(-(-len(ranked) // factor), 1)]
    ends = [
        place
        for place in training.running
        if outcomes[place].lane.key[0] not in kept
    ]
    for place in ends:
        outcomes[place].pruned = rung
    training.drop(ends)


class _Checkpoint:
    """The lanes' states in one file, renewed as epochs end.

    Writing takes at most a tenth of the time: where it takes longer than an
    epoch does, some epochs are not saved.

    Args:
        path: The file of the batch; None saves nothing.
        outcomes: Whose lanes are trained.
        alone: Whether these are not the whole batch. They have a file of
            their own then, and leave that of the batch to the others.
    """

    _SHARE = 0.1

    def __init__(
        self, path: Path | None, outcomes: Sequence[Outcome], alone: bool
    ):
        self._path = self._batch_path = path
        self._outcomes = outcomes
        self._due = 0.0
        if path is not None and alone:
            trial, execution = outcomes[0].lane.key
            name = f"{path.stem}.{trial}_{execution}{path.suffix}"
            self._path = path.with_name(name)

    def save(self, training: _training.Training, at_once: bool = False) -> None:
        """Writes the states of all lanes, unless it was done just now."""
        began = time.perf_counter()
        if self._path is None or (began < self._due and not at_once):
            return
        arrays: list[np.ndarray] = []
        entries = []
        for place, outcome in enumerate(self._outcomes):
            state = vars(training.lane_state(place))
            entries.append(
                {
                    "lane": _identity(outcome.lane),
                    "pruned": outcome.pruned,
                    "state": _packed(state, arrays),
                }
            )
        named: Any = {str(index): array for index, array in enumerate(arrays)}
        with _files.atomic_path(self._path) as temporary:
            np.savez(temporary, entries=json.dumps(entries), **named)
        now = time.perf_counter()
        self._due = now + (now - began) * (1 / self._SHARE - 1)

    def restore(self, training: _training.Training) -> None:
        """Continues the lanes that the file knows."""
        if self._batch_path is None:
            return
        places = {
            json.dumps(_identity(outcome.lane)): place
            for place, outcome in enumerate(self._outcomes)
        }
        for path in _checkpoints(self._batch_path):
            with np.load(path) as file:
                for entry in json.loads(str(file["entries"])):
                    place = places.get(json.dumps(entry["lane"]))
                    if place is not None:
                        self._restore_lane(training, place, entry, file)

    def _restore_lane(
        self,
        training: _training.Training,
        place: int,
        entry: dict,
        file: Mapping[str, np.ndarray],
    ) -> None:
        state = _training.LaneState(**_unpacked(entry["state"], file))
        now = training.lane_state(place)
        # Where the code that builds has changed meanwhile, all begins anew.
        if _shapes(now) != _shapes(state) or now.epoch > state.epoch:
            return
        training.restore(place, state)
        self._outcomes[place].pruned = entry["pruned"]


def _checkpoints(path: Path) -> list[Path]:
    """The file of a batch, and those of lanes that were trained alone."""
    pattern = f"{glob.escape(path.stem)}.*{path.suffix}"
    alone = sorted(path.parent.glob(pattern))
    return [*([path] if path.exists() else []), *alone]


def _shapes(state: _training.LaneState) -> list[tuple]:
    return [array.shape for array in state.variables]


def _identity(lane: Lane) -> dict[str, Any]:
    """What tells a lane from those of another search."""
    return _files.as_json(
        {
            "key": lane.key,
            "seed": lane.seed,
            "epochs": [lane.epochs.start, lane.epochs.stop],
            "hyperparameters": lane.hyperparameters,
        }
    )


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """Returns plain data as JSON takes them, arrays put aside."""
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.asarray(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {k: _packed(v, arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(v, arrays) for v in value]
    return value


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Undoes `_packed`."""
    if isinstance(value, dict) and value.keys() == {"array"}:
        return arrays[str(value["array"])]
    if isinstance(value, dict):
        return {k: _unpacked(v, arrays) for k, v in value.items()}
    if isinstance(value, list):
        return [_unpacked(v, arrays) for v in value]
    return value
