"""KerasTuner's `Tuner`, with the trials of a batch in one program."""

import collections
import numbers
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import errors
from keras_tuner.engine import trial as kt_trial

from kerascomp import _files, _validation
from kerascomp._compat import keras
from kerascomp.population import _choice, _population, _training
from kerascomp.tuners import _batch, _weights
from kerascomp.tuners._batch import Lane, Outcome
from kerascomp.tuners._call import Call, curve, keywords
from kerascomp.tuners._oracle import AtomicFiles, is_remote

_Status = kt_trial.TrialStatus
# What a subclass may override that is called for one model at a time.
_HOOKS = (
    "run_trial",
    "on_epoch_begin",
    "on_epoch_end",
    "on_batch_begin",
    "on_batch_end",
    "_build_and_fit_model",
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

    _execution = -1  # Of the trial that runs by itself.

    def __init__(
        self,
        oracle: Any,
        hypermodel: Any = None,
        max_lanes: int | None = None,
        engine: str = "auto",
        **kwargs: Any,
    ):
        executions = kwargs.get("executions_per_trial", 1)
        _validation.at_least("executions_per_trial", executions, 1)
        if max_lanes is None:
            max_lanes = _SHARED_LANES if _has_chief() else _LANES
        _validation.at_least("max_lanes", max_lanes, 1)
        _validation.one_of("engine", engine, _population.ENGINES)
        if hypermodel is None and not self._overrides("run_trial"):
            raise ValueError(
                "`hypermodel` must build models, unless a subclass overrides "
                "`run_trial`. Received: hypermodel=None"
            )
        self.max_lanes = max_lanes
        self.engine = engine
        self._programs = _choice.Programs(lift_all=True)
        self._weights = _weights.WeightFiles()
        # The client of a chief does not know it. Workers that drew their own
        # would not train alike.
        seeded = getattr(oracle, "is_seeded", False)
        self._seed_of_worker = oracle.seed if seeded else 0
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
        own_file = Path(self.project_dir) / f"{self.tuner_id}.json"
        if kwargs.get("tuner_id") and own_file.exists():
            # KerasTuner looks for the file of another id, and starts over.
            self.reload()

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
        call, alone = None, self._why_alone()
        if not self._has_own_fit():
            call = Call(fit_args, fit_kwargs)
            call.check(self.oracle.get_space().space)
            self._check_objective()
            alone = alone or call.alone
        if alone and fit_kwargs.get("verbose", 1):
            print(f"Trials run one by one: {alone}.")
        self.on_search_begin()
        while trials := self._open(1 if alone else self._width()):
            # Or a kill would lose the batch; KerasTuner has no types.
            self.save()  # type: ignore[call-arg]
            for trial in trials:
                self.on_trial_begin(trial)
            if call is None or alone:
                self._run_alone(trials[0], fit_args, fit_kwargs)
            else:
                self._run_together(trials, call)
        self._clean_up()
        self.on_search_end()

    def run_trial(self, trial: Any, *fit_args: Any, **fit_kwargs: Any) -> Any:
        """Runs one trial by itself, as `keras_tuner.Tuner.run_trial` does."""
        values = trial.hyperparameters.values
        checks = not _overrides(self.hypermodel, keras_tuner.HyperModel, "fit")
        if checks:
            fit_args, fit_kwargs = (), keywords(fit_args, fit_kwargs)
            if "batch_size" in values:
                fit_kwargs["batch_size"] = values["batch_size"]
        if "tuner/epochs" in values:
            fit_kwargs["epochs"] = values["tuner/epochs"]
            fit_kwargs["initial_epoch"] = values["tuner/initial_epoch"]
        callbacks = list(fit_kwargs.get("callbacks") or [])
        if checks:
            freq = fit_kwargs.get("validation_freq", 1)
            callbacks.append(_ObjectiveCheck(self.oracle.objective, freq))
        if self._keeps_states():
            callbacks.append(_Continue(self, trial))
        fit_kwargs["callbacks"] = callbacks
        self._execution = -1
        return super().run_trial(trial, *fit_args, **fit_kwargs)

    def _build_and_fit_model(
        self, trial: Any, *args: Any, **kwargs: Any
    ) -> Any:
        # Private, but kept by KerasTuner for others to override: what is
        # called once for every execution.
        self._execution += 1
        keras.utils.set_random_seed(self._seed_of(self._execution))
        return super()._build_and_fit_model(trial, *args, **kwargs)

    def _configure_tensorboard_dir(
        self, callbacks: list, trial: Any, execution: int = 0
    ) -> None:
        # Private: on TensorFlow, it imports TensorBoard for everybody, and
        # fails every trial where that is not installed.
        if any(type(own).__name__ == "TensorBoard" for own in callbacks):
            super()._configure_tensorboard_dir(callbacks, trial, execution)

    def _width(self) -> int:
        return max(self.max_lanes // self.executions_per_trial, 1)

    def _why_alone(self) -> str:
        """Why trials cannot share a program; empty if they can."""
        for name in _HOOKS:
            if self._overrides(name):
                return f"the tuner overrides `{name}`"
        if _overrides(self.hypermodel, keras_tuner.HyperModel, "fit"):
            return "the hypermodel overrides `fit`"
        if self.distribution_strategy is not None:
            return "a `distribution_strategy` is set"
        if is_remote(self.project_dir):
            return "the project lies in a remote store"
        return ""

    def _overrides(self, name: str) -> bool:
        return _overrides(self, LanesTuner, name)

    def _has_own_fit(self) -> bool:
        """Whether a user's code trains, with arguments of its own."""
        fit = _overrides(self.hypermodel, keras_tuner.HyperModel, "fit")
        own = ("run_trial", "_build_and_fit_model")
        return fit or any(map(self._overrides, own))

    def _check_objective(self) -> None:
        # What KerasTuner makes of None; its class is not public.
        if self.oracle.objective.name == "default_objective":
            raise ValueError(
                "`objective` must name what to optimize, such as 'val_loss', "
                "unless `HyperModel.fit` or `run_trial` is overridden and "
                "returns a number. Received: objective=None"
            )

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
        before = self._told(trial)
        try:
            results = self.run_trial(trial, *args, **dict(kwargs))
            # It may have told the oracle itself, as in KerasTuner.
            if self._told(trial) == before:
                freq = kwargs.get("validation_freq", 1)
                self._report(trial, self._reports(results, freq))
            trial.status = _Status.COMPLETED
        except errors.FatalError:
            raise
        except Exception as error:
            failed = isinstance(error, errors.FailedTrialError)
            trial.status = _Status.FAILED if failed else _Status.INVALID
            trial.message = traceback.format_exc()
        self.on_trial_end(trial)

    def _reports(self, results: Any, validation_freq: Any) -> list:
        """Returns what `run_trial` returned as steps with their metrics."""
        objective = self.oracle.objective
        reports = []
        for execution, own in enumerate(_flat(results)):
            if isinstance(own, keras.callbacks.History):
                _refuse_divergence(own, execution)
                reports += curve(own.epoch, own.history, validation_freq)
                continue
            value = own if isinstance(own, dict) else {objective.name: own}
            if not (objective.has_value(value) and _are_numbers(value)):
                raise errors.FatalTypeError(
                    "`HyperModel.fit` and `run_trial` must return the "
                    f"objective {objective.name!r}: a number, a dictionary of "
                    "numbers with it, a `History`, or a list of these. "
                    f"Received: {results!r}"
                )
            reports.append((0, value))
        return reports

    def _report(self, trial: Any, reports: Sequence[tuple[int, dict]]) -> None:
        """Stores the curves of all executions in the trial's file."""
        objective = self.oracle.objective
        told = self._told(trial)
        new = []
        for step, logs in reports:
            if not objective.has_value(logs):
                continue
            told[step] -= 1
            if told[step] < 0:  # A worker may have died while it reported.
                value = objective.get_value(logs)
                new.append((int(step), {**logs, objective.name: value}))
        if not new and not told:
            known = {name for _, logs in reports for name in logs}
            raise _batch.MissingObjectiveError(
                [objective.name], dict.fromkeys(known)
            )
        if hasattr(self.oracle, "report"):
            self.oracle.report(trial.trial_id, new)
            return
        for step, logs in new:  # Through the client of a chief.
            self.oracle.update_trial(trial.trial_id, logs, step=step)

    def _told(self, trial: Any) -> collections.Counter:
        """Returns how many values of the objective a trial has, by step."""
        metrics = self.oracle.get_trial(trial.trial_id).metrics
        name = self.oracle.objective.name
        known = metrics.get_history(name) if metrics.exists(name) else []
        return collections.Counter({own.step: len(own.value) for own in known})

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
            max_lanes=self._most_of_one_trial(),
            checkpoint=self._checkpoint(),
        )
        outcomes = _batch.run(lanes, settings)
        for trial in trials:
            name = trial.trial_id
            own = [o for o in outcomes if o.lane.key[0] == name]
            self._conclude(trial, own, call.validation_freq)
            self.on_trial_end(trial)
        self._clean_up()
        _batch.forget(outcomes)

    def _most_of_one_trial(self) -> int | None:
        """The most lanes, where one trial alone has more; else None."""
        many = self.executions_per_trial > self.max_lanes
        return self.max_lanes if many else None

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
        if _overrides(model, keras.Model, "fit"):
            raise errors.FatalTypeError(
                "Trials that share a program do not call `fit` of a model. "
                "Override `HyperModel.fit`, too, to run them one by one. "
                f"Received: {type(model).__name__}, which overrides it"
            )
        size = 0  # As KerasTuner counts.
        if model.built:
            size = sum(int(np.prod(v.shape)) for v in model.trainable_weights)
        if self.max_model_size and size > self.max_model_size:
            raise errors.FailedTrialError(
                f"The model has {size} trainable parameters, more than "
                f"`max_model_size={self.max_model_size}`."
            )
        return model

    def _conclude(
        self, trial: Any, outcomes: Sequence[Outcome], validation_freq: int
    ) -> None:
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
        reports = [
            each
            for own in outcomes
            for each in curve(own.lane.epochs, own.history, validation_freq)
        ]
        self._report(trial, reports)
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
        self._weights.save(best.model, folder / "checkpoint.weights.h5")
        config = best.model.get_build_config()
        _files.write_json(folder / "build_config.json", config)

    def _best_of(self, outcomes: Sequence[Outcome]) -> Any:
        better = self.oracle.objective.better_than
        best: Any = outcomes[0]
        for other in outcomes[1:]:
            score = other.best.score if other.best else None
            if score is None:  # No epoch had a number.
                continue
            if best.best.score is None or better(score, best.best.score):
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
            _batch.remove_checkpoints(self._checkpoint())

    def _seed_of(self, execution: int) -> int:
        """The same for all trials, which makes them comparable."""
        seed = getattr(self.oracle, "seed", self._seed_of_worker) or 0
        keys = np.random.SeedSequence([abs(int(seed)), execution])
        return int(keys.generate_state(1)[0] >> 1)


class _ObjectiveCheck(keras.callbacks.Callback):
    """Ends the search after the first epoch if the objective is missing."""

    def __init__(self, objective: Any, validation_freq: Any):
        super().__init__()
        self._arguments = objective, validation_freq

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        objective, validation_freq = self._arguments
        _batch.has_objective(objective, epoch, logs or {}, validation_freq)


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
            if not self.model.optimizer.built:
                self.model.optimizer.build(self.model.trainable_variables)
            _training.begin_with(self.model, _batch.read_state(path))

    def on_train_end(self, logs: dict | None = None) -> None:
        path = self._tuner.state_path(self._trial.trial_id, self._execution)
        _batch.write_state(path, _training.state_of(self.model))


def _overrides(instance: Any, base: type, name: str) -> bool:
    """Whether a method is not that of a base class, also if assigned."""
    own = getattr(getattr(instance, name, None), "__func__", None)
    return own is not getattr(base, name)


def _flat(results: Any) -> Iterator[Any]:
    if not isinstance(results, list):
        yield results
        return
    for each in results:
        yield from _flat(each)


def _are_numbers(values: dict) -> bool:
    return all(isinstance(value, numbers.Real) for value in values.values())


def _refuse_divergence(history: Any, execution: int) -> None:
    """Raises if the training of a trial alone diverged."""
    losses = history.history.get("loss", [])
    for epoch, loss in zip(history.epoch, losses, strict=False):
        if not np.isfinite(loss):
            raise errors.FailedTrialError(
                f"Diverged in epoch {epoch + 1} of execution {execution + 1}: "
                "the loss was not finite."
            )


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
