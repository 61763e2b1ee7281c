"""What the four oracles have in common."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import keras_tuner
from keras_tuner.engine import trial as kt_trial

from kerascomp import _files
from kerascomp.tuners._space import Space, Tried

_Status = kt_trial.TrialStatus
_ENDED = (_Status.COMPLETED, _Status.FAILED)


# KerasTuner's base class of all that has a state; it has no public path.
Stateful: Any = kt_trial.Trial.__bases__[0]


class AtomicFiles(Stateful):
    """Writes states such that a file is whole, whenever the process dies."""

    def save(self, fname: str) -> str:
        """Saves the state, as `Stateful.save` does."""
        if is_remote(fname):
            return super().save(fname)
        return write_state(fname, self.get_state())


def is_remote(path: Any) -> bool:
    """Whether a path lies in a store that only TensorFlow can write to."""
    return "://" in str(path)


def write_state(fname: str, state: dict[str, Any]) -> str:
    """Writes JSON as KerasTuner reads it, atomically."""
    text = json.dumps(state)
    _files.write_text(Path(fname), text)
    return text


class ManyTrialsOracle(keras_tuner.Oracle, AtomicFiles):
    """Hands out many trials at once, each to a tuner id of its own.

    Give each open trial its own id, such as `"tuner0/lane3"`. An id that asks
    again before its trial ended gets the same trial.

    Random numbers belong to a seed and a trial's number: nothing else about
    them has to be saved, and no seed is like its neighbor.

    Saved state: that of KerasTuner. Of a search that was interrupted, first
    the open trials are handed out again, in the order of their start, with
    their ids and hyperparameters and without what they had reported.
    """

    trials: dict[str, Any]

    def __init__(self, *, seed: int | None = None, **arguments: Any):
        self._is_reporting = False
        self.is_seeded = seed is not None
        super().__init__(seed=seed, **arguments)
        if seed is not None:
            self.seed = seed  # KerasTuner takes 0 for no seed.

    def set_state(self, state: dict[str, Any]) -> None:
        # KerasTuner writes a trial's file before its own. What has no place in
        # the state was being made, and is made again; what ended after the
        # state was written has ended.
        self.trials = {name: self.trials[name] for name in state["start_order"]}
        ended = [n for n, t in self.trials.items() if t.status in _ENDED]
        again = [n for n in self.trials if n not in ended]
        for name in again:
            _forget(self.trials[name])
        order = [n for n in state["end_order"] if n in ended]
        order += [n for n in ended if n not in order]
        super().set_state(
            {
                **state,
                "end_order": order,
                "ongoing_trials": {},
                "retry_queue": again[::-1],  # Taken from its end.
            }
        )

    @keras_tuner.synchronized
    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        own = self.trials[trial.trial_id]
        if own.status == _Status.INVALID:
            # A retry would report to the same steps, and the mean of a value
            # and the NaN of the first run is NaN.
            _forget(own)

    def report(
        self, trial_id: str, reports: Iterable[tuple[int, dict]]
    ) -> None:
        """Notes values of many steps; `end_trial` writes them.

        Args:
            trial_id: The trial.
            reports: Steps with their metrics, as of `update_trial`.
        """
        history = self.trials[trial_id].metrics
        self._is_reporting = True
        try:
            for step, metrics in reports:
                if not all(map(history.exists, metrics)):
                    self.update_trial(trial_id, metrics, step=step)
                    continue
                # `update_trial` looks for the best step each time.
                for name, value in metrics.items():
                    history.set_history(
                        name, [_Observation(float(value), step)]
                    )
        finally:
            self._is_reporting = False

    def _save_trial(self, trial: Any) -> None:
        # Private: KerasTuner writes in place, at every value of every step.
        if self._is_reporting:
            return
        folder = self._get_trial_dir(trial.trial_id)
        if is_remote(folder):
            super()._save_trial(trial)
        else:
            write_state(f"{folder}/trial.json", trial.get_state())

    def is_open(self, trial: Any) -> bool:
        """Whether a trial has yet to end, by `end_trial`."""
        return trial.status not in _ENDED or any(
            trial is each for each in self.ongoing_trials.values()
        )

    def loss_of(self, trial: Any) -> float | None:
        """Returns a trial's score, lower is better, None if it has none.

        A score that is not finite counts as none.
        """
        if self.is_open(trial) or trial.status != _Status.COMPLETED:
            return None
        if not math.isfinite(trial.score):
            return None
        maximizes = self.objective.direction == "max"
        return -trial.score if maximizes else trial.score

    def space_and_tried(
        self, names: Iterable | None = None
    ) -> tuple[Space, Tried]:
        """Returns the search space, and what trials already stand for.

        Args:
            names: The trials; all by default.
        """
        space = Space(self.hyperparameters)
        points = []
        for name in self.trials if names is None else names:
            if (trial := self.trials.get(name)) is None:
                continue
            values = trial.hyperparameters.values
            # It may have failed before it could find any hyperparameter.
            failed = trial.status == _Status.FAILED
            points.append(space.completed(values) if failed else values)
        return space, Tried(space, points)

    def proposal(self, values: dict[str, Any] | None) -> dict[str, Any]:
        """Returns what `populate_space` returns.

        Without values, the search waits for open trials, which may find
        hyperparameters that nobody knows yet, and is over after the last.
        """
        if values is not None:
            return {"status": _Status.RUNNING, "values": values}
        status = _Status.IDLE if self.ongoing_trials else _Status.STOPPED
        return {"status": status, "values": None}


class _Observation(NamedTuple):
    """As KerasTuner's, which has no public path."""

    value: float
    step: int


def _forget(trial: Any) -> None:
    trial.metrics = type(trial.metrics)()
    trial.score = None
    trial.best_step = 0
