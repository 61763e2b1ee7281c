"""KerasTuner's `Tuner`, with the trials of a batch in one program."""

import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import errors
from keras_tuner.engine import trial as kt_trial

from kerascomp import _files, _validation
from kerascomp._compat import keras
from kerascomp.population import _choice, _population, _training
from kerascomp.tuners import _batch
from kerascomp.tuners._batch import Lane, Outcome
from kerascomp.tuners._call import Call
from kerascomp.tuners._oracle import AtomicFiles, is_remote

_Status = kt_trial.TrialStatus
# What a subclass may override that is called for one model at a time.
_HOOKS = (
    "run_trial",
    "on_epoch_begin",
    "on_epoch_end",
    "on_batch_begin",
    "on_batch_end",
)
_LANES, _SHARED_LANES = 64, 16
# Seconds between two questions to a chief who has nothing to do right now.
_PAUSE = 0.2


class LanesTuner(keras_tuner.Tuner, AtomicFiles):
    """Runs as many trials at once as the oracle hands out.

    Args:
        oracle: One that can hold several trials open.
        hypermodel: As in `keras_tuner.Tuner`.
        max_lanes: Most trainings at once, a trial counting as often as it is
            executed; at least 1. None for 64, or 16 where a chief shares the
            trials out between workers.
        engine: `"auto"`, `"vectorized"` or `"looped"`, as of
            `kerascomp.population.Population`.
        **kwargs: As in `keras_tuner.Tuner`.
    """

    def __init__(
        self,
        oracle: Any,
        hypermodel: Any = None,
        max_lanes: int | None = None,
        engine: str = "auto",
        **kwargs: Any,
    ):
        if max_lanes is None:
            max_lanes = _SHARED_LANES if _has_chief() else _LANES
        _validation.at_least("max_lanes", max_lanes, 1)
        _validation.one_of("engine", engine, _population.ENGINES)
        self.max_lanes = max_lanes
        self.engine = engine
        self._programs = _choice.Programs(lift_all=True)
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
        _validation.at_least(
            "executions_per_trial", self.executions_per_trial, 1
        )

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Searches, with the arguments of `keras.Model.fit`.

        A hyperparameter named `batch_size` sets the batch size. Trials run
        one by one where they cannot share a program: if `HyperModel.fit` or
        a hook of the tuner is overridden, if a callback cannot run lane by
        lane, or under a `distribution_strategy`. At `verbose=3`, the engine
        tells what it does.
        """
        if _is_chief():
            super().search(*fit_args, **fit_kwargs)
            return
        if "verbose" in fit_kwargs and not _has_chief():
            self.oracle.verbose = fit_kwargs["verbose"]
        call = Call(fit_args, fit_kwargs)
        alone = self._why_alone() or call.alone
        if alone and fit_kwargs.get("verbose", 1):
            print(f"Trials run one by one: {alone}.")
        self.on_search_begin()
        while trials := self._open(1 if alone else self._width()):
            # Or a kill would lose the batch; KerasTuner has no types.
            self.save()  # type: ignore[call-arg]
            for trial in trials:
                self.on_trial_begin(trial)
            if alone:
                self._run_alone(trials[0], fit_args, fit_kwargs)
            else:
                self._run_together(trials, call)
        self._clean_up()
        self.on_search_end()

    def run_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> Any:
        """Runs one trial by itself, as `keras_tuner.Tuner.run_trial` does."""
        values = trial.hyperparameters.values
        if "batch_size" in values and not self._overrides("fit"):
            fit_kwargs.setdefault("batch_size", values["batch_size"])
        if "tuner/epochs" in values:
            fit_kwargs["epochs"] = values["tuner/epochs"]
            fit_kwargs["initial_epoch"] = values["tuner/initial_epoch"]
        if self._keeps_states():
            callbacks = list(fit_kwargs.get("callbacks") or [])
            fit_kwargs["callbacks"] = [*callbacks, _Continue(self, trial)]
        return super().run_trial(trial, *fit_args, **fit_kwargs)

    def _width(self) -> int:
        return max(self.max_lanes // self.executions_per_trial, 1)

    def _why_alone(self) -> str:
        """Why trials cannot share a program; empty if they can."""
        for name in _HOOKS:
            if getattr(type(self), name) is not getattr(LanesTuner, name):
                return f"the tuner overrides `{name}`"
        if self._overrides("fit"):
            return "the hypermodel overrides `fit`"
        if self.distribution_strategy is not None:
            return "a `distribution_strategy` is set"
        if is_remote(self.project_dir):
            return "the project lies in a remote store"
        return ""

    def _overrides(self, name: str) -> bool:
        own = getattr(type(self.hypermodel), name, None)
        return own is not getattr(keras_tuner.HyperModel, name)

    def _open(self, width: int) -> list:
        """Asks for trials, and waits while a chief has none."""
        while True:
            trials, waiting = [], False
            for lane in range(width):
                self.pre_create_trial()
                trial = self.oracle.create_trial(f"{self.tuner_id}/{lane}")
                if trial.status == _Status.RUNNING:
                    trials.append(trial)
                waiting |= trial.status == _Status.IDLE
            if trials or not waiting:
                return trials
            time.sleep(_PAUSE)

    def _run_alone(self, trial: Any, args: Sequence, kwargs: dict) -> None:
        keras.utils.set_random_seed(self._seed_of(0))
        try:
            results = self.run_trial(trial, *args, **dict(kwargs))
            self._report_results(trial, results)
            trial.status = _Status.COMPLETED
        except errors.FatalError:
            raise
        except Exception as error:
            failed = isinstance(error, errors.FailedTrialError)
            trial.status = _Status.FAILED if failed else _Status.INVALID
            trial.message = traceback.format_exc()
        self.on_trial_end(trial)

    def _report_results(self, trial: Any, results: Any) -> None:
        """Passes on what `run_trial` returned, with its curves if it has."""
        own = results if isinstance(results, list) else [results]
        if all(isinstance(each, keras.callbacks.History) for each in own):
            self._report(trial, [(h.epoch, h.history) for h in own])
            return
        objective = self.oracle.objective
        values = [
            each if isinstance(each, dict) else {objective.name: each}
            for each in own
        ]
        for value in values:
            if not objective.has_value(value) or None in value.values():
                raise errors.FatalTypeError(
                    "A trial must return the objective "
                    f"{objective.name!r}: a number, a dictionary with it, a "
                    f"`History`, or a list of these. Received: {results!r}"
                )
        means = {
            name: float(np.mean([value[name] for value in values]))
            for name in values[0]
        }
        self.oracle.update_trial(trial.trial_id, means)

    def _report(
        self, trial: Any, runs: Sequence[tuple[Sequence[int], dict]]
    ) -> None:
        """Stores the curves of all executions in the trial's file."""
        objective = self.oracle.objective
        reports = []
        for epochs, history in runs:
            for index, epoch in enumerate(epochs):
                logs = {k: v[index] for k, v in history.items() if v[index:]}
                if objective.has_value(logs):
                    logs[objective.name] = objective.get_value(logs)
                    reports.append((int(epoch), logs))
        if hasattr(self.oracle, "report"):
            self.oracle.report(trial.trial_id, reports)
            return
        for epoch, logs in reports:  # Through the client of a chief.
            self.oracle.update_trial(trial.trial_id, logs, step=epoch)

    def _run_together(self, trials: Sequence[Any], call: Call) -> None:
        lanes = [
            self._lane(trial, execution, call)
            for trial in trials
            for execution in range(self.executions_per_trial)
        ]
        settings = _batch.Settings(
            plan=call.plan,
            objective=self.oracle.objective,
            programs=self._programs,
            callbacks=lambda *_: call.callbacks,
            engine=self.engine,
            checkpoint=self._checkpoint(),
        )
        outcomes = _batch.run(lanes, settings)
        for trial in trials:
            name = trial.trial_id
            own = [o for o in outcomes if o.lane.key[0] == name]
            self._conclude(trial, own)
            self.on_trial_end(trial)
        self._clean_up()
        _batch.forget(outcomes)

    def _lane(self, trial: Any, execution: int, call: Call) -> Lane:
        hyperparameters = trial.hyperparameters
        values = hyperparameters.values
        epochs = call.epochs
        start: list[np.ndarray] | None = None
        if "tuner/epochs" in values:
            epochs = range(
                values["tuner/initial_epoch"], values["tuner/epochs"]
            )
        if "tuner/trial_id" in values:
            before = values["tuner/trial_id"]
            start = _batch.read_state(self.state_path(before, execution))
        return Lane(
            key=(trial.trial_id, execution),
            build=lambda: self._built(hyperparameters),
            seed=self._seed_of(execution),
            batch_size=call.batch_size(values),
            epochs=epochs,
            start=start,
            hyperparameters=dict(values),
        )

    def _built(self, hyperparameters: Any) -> Any:
        # Private: it builds, and compiles anew if the tuner was given an
        # optimizer, a loss or metrics.
        model = self._build_hypermodel(hyperparameters)
        if not isinstance(model, keras.Model):
            raise errors.FatalTypeError(
                "The function that builds models, or `HyperModel.build`, must "
                f"return a Keras model. Received: {model!r}"
            )
        limit = self.max_model_size
        if limit and model.built and model.count_params() > limit:
            raise errors.FailedTrialError(
                f"The model has {model.count_params()} parameters, more than "
                f"`max_model_size={limit}`."
            )
        return model

    def _conclude(self, trial: Any, outcomes: Sequence[Outcome]) -> None:
        """Stores what became of a trial, and says whether it succeeded."""
        broken = next((o for o in outcomes if o.error is not None), None)
        if broken is not None:
            failed = isinstance(broken.error, errors.FailedTrialError)
            trial.status = _Status.FAILED if failed else _Status.INVALID
            trial.message = broken.details
            return
        diverged = next((o for o in outcomes if o.diverged is not None), None)
        if diverged is not None:
            trial.status = _Status.FAILED
            trial.message = _how_it_diverged(diverged)
            return
        runs = [
            (range(o.lane.epochs.start, o.lane.epochs.stop), o.history)
            for o in outcomes
        ]
        self._report(trial, runs)
        self._save_models(trial, outcomes)
        trial.status = _Status.COMPLETED

    def _save_models(self, trial: Any, outcomes: Sequence[Outcome]) -> None:
        """Writes what `load_model` and promoted trials read."""
        folder = Path(self.get_trial_dir(trial.trial_id))
        for outcome in outcomes:
            if self._keeps_states():
                path = self.state_path(trial.trial_id, outcome.lane.key[1])
                _batch.write_state(path, outcome.state)
        best = self._best_of(outcomes)
        if best.best.weights:
            best.model.set_weights(best.best.weights)
        with _files.atomic_path(folder / "checkpoint.weights.h5") as path:
            best.model.save_weights(path, overwrite=True)
        config = best.model.get_build_config()
        _files.write_json(folder / "build_config.json", config)

    def _best_of(self, outcomes: Sequence[Outcome]) -> Any:
        best: Any = outcomes[0]
        for other in outcomes[1:]:
            score = other.best and other.best.score
            if self.oracle.objective.better_than(score, best.best.score):
                best = other
        return best

    def _keeps_states(self) -> bool:
        """Whether a trial may be continued by another one."""
        return False

    def state_path(self, trial_id: str, execution: int) -> Path:
        """Returns where the last state of an execution is kept."""
        folder = Path(self.get_trial_dir(trial_id))
        return folder / f"state_{execution}.npz"

    def _checkpoint(self) -> Path:
        name = self.tuner_id.replace(os.sep, "_")
        return Path(self.project_dir) / f"{name}.running.npz"

    def _clean_up(self) -> None:
        if not is_remote(self.project_dir):
            self._checkpoint().unlink(missing_ok=True)

    def _seed_of(self, execution: int) -> int:
        """The same for all trials, which makes them comparable."""
        seed = getattr(self.oracle, "seed", None) or 0
        keys = np.random.SeedSequence([abs(int(seed)), execution])
        return int(keys.generate_state(1)[0] >> 1)


class _Continue(keras.callbacks.Callback):
    """Lets a trial that runs alone go on where another one stopped.

    One object for all executions: KerasTuner copies callbacks for each.
    """

    def __init__(self, tuner: LanesTuner, trial: Any):
        super().__init__()
        self._tuner, self._trial = tuner, trial
        self._execution = -1

    def __deepcopy__(self, memo: dict) -> "_Continue":
        return self

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._execution += 1
        before = self._trial.hyperparameters.values.get("tuner/trial_id")
        if before is not None:
            path = self._tuner.state_path(before, self._execution)
            _training.begin_with(self.model, _batch.read_state(path))

    def on_train_end(self, logs: dict | None = None) -> None:
        path = self._tuner.state_path(self._trial.trial_id, self._execution)
        _batch.write_state(path, _training.state_of(self.model))


def _how_it_diverged(outcome: Outcome) -> str:
    lane, step = outcome.lane, outcome.diverged
    epochs = len(next(iter(outcome.history.values()), ()))
    return (
        f"Diverged at step {step} (counted from 0) in epoch "
        f"{lane.epochs.start + epochs} of execution {lane.key[1] + 1}: the "
        "loss or a weight was not finite."
    )


def _has_chief() -> bool:
    """Whether several processes search together, as KerasTuner decides it."""
    return "KERASTUNER_ORACLE_IP" in os.environ


def _is_chief() -> bool:
    """Whether this process hands out the trials of several."""
    return _has_chief() and "chief" in os.environ["KERASTUNER_TUNER_ID"]
