"""Trains many ordinary Keras models in one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp.population import (
    _choice,
    _data,
    _fitting,
    _history,
    _members,
    _training,
)

ENGINES = ("auto", "vectorized", "looped")


class Population:
    """Trains many compiled Keras models at once.

    Use it to compare learning rates, dropout rates, seeds or folds: such
    models differ in numbers alone, and run as the lanes of one compiled
    program. Models that differ in more are split into groups, one program
    each, so that any models with the same inputs and outputs can be members.

    Every member ends with the weights and the optimizer state that its own
    `fit` would have given it, up to rounding: the order of the data is the
    same for all, and random layers draw from the seeds that they were built
    with, so that members built after the same `keras.utils.set_random_seed`
    see the same noise.

    Engines: `"vectorized"` runs all lanes of a group along a leading axis,
    which suits small and dense models; on TensorFlow and JAX. `"looped"` runs
    one compiled step lane by lane. `"auto"` times both on the first batch and
    keeps the faster. A group that cannot be vectorized is looped.

    A lane whose loss or weights become NaN or infinite is frozen with the
    weights before that step, and the others go on.

    Callbacks run lane by lane, in copies: `EarlyStopping`,
    `LearningRateScheduler`, `ReduceLROnPlateau`, `TerminateOnNaN`, and
    kerascomp's `ScheduleLearningRate`, `WarmupCosine` and monitors of
    gradients. A class of your own joins them with the attribute
    `lane_wise = True` if its hooks use nothing but the logs and the model they
    are given. Lanes that stop are left out of the program once half of its
    lanes have.

    Where the device has too little memory for all lanes at once, they run in
    parts, with the batch size that was asked for; `notes` of the history says
    so.

    Args:
        models: Compiled models, at least one, without common variables.
        engine: `"auto"`, `"vectorized"` or `"looped"`.
        max_lanes: Most lanes in one program, at least 1: it bounds the
            memory. None chooses it from the size of the model.

    Raises:
        ValueError: If a model is not compiled, if models share variables, or
            if an argument is out of its range.

    Examples:
        >>> def build(learning_rate):
        ...     model = keras.Sequential(
        ...         [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
        ...     )
        ...     model.set_weights([np.array([[1.0]])])
        ...     model.compile(keras.optimizers.SGD(learning_rate), "mse")
        ...     return model
        >>> population = Population([build(0.1), build(0.2)])
        >>> x, y = np.array([[1.0]]), np.array([[3.0]])
        >>> history = population.fit(x, y, epochs=1)
        >>> history[1]["loss"]  # (3 - 1)^2
        [4.0]
        >>> # One step from w = 1: 1 + rate * 2 * (3 - 1).
        >>> [round(float(w), 2) for w in population.predict(x).ravel()]
        [1.4, 1.8]
    """

    def __init__(
        self,
        models: Sequence[Any],
        engine: str = "auto",
        max_lanes: int | None = None,
    ):
        _validation.one_of("engine", engine, ENGINES)
        if max_lanes is not None:
            _validation.at_least("max_lanes", max_lanes, 1)
        models = list(models)
        _members.check(models)
        self.models = models
        self.engine = engine
        self.max_lanes = max_lanes
        self._programs = _choice.Programs()

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | Sequence[int] | None = None,
        epochs: int | Sequence[int] = 1,
        verbose: int = 0,
        callbacks: Sequence[Any] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int | Sequence[int] = 0,
        steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
        seeds: Sequence[int] | None = None,
        samples: Any = None,
        validation_samples: Any = None,
    ) -> _history.Histories:
        """Trains all members, as `keras.Model.fit` would each of them.

        Args:
            x: Array or nested arrays, `(samples, ...)`; or a `tf.data.Dataset`,
                `keras.utils.PyDataset`, or other iterable of batches `(x, y)`
                or `(x, y, sample_weight)`.
            y: Targets, like `x`; None if `x` yields them.
            batch_size: Samples in a batch, for all lanes or for each; 32 if
                None. Batches that come ready-made keep their size.
            epochs: The epoch to stop before, counted from 0, for all lanes or
                for each.
            verbose: 0 is silent; 1 tells which engine runs and why, and the
                losses of every epoch.
            callbacks: Callbacks that can run lane by lane.
            validation_split: Share of the samples, the last ones, to validate
                on instead of training on them.
            validation_data: `(x, y)` or `(x, y, sample_weight)`, or batches as
                for `x`, on which all lanes are evaluated.
            shuffle: Whether to reorder the samples in every epoch, or the
                batches of a `PyDataset`. The order follows from `seeds`.
            class_weight: As in `keras.Model.fit`.
            sample_weight: `(samples,)`, or `(lanes, samples)` for weights of
                each lane: bootstrap samples are lanes.
            initial_epoch: The epoch to start with, for all lanes or for each.
            steps_per_epoch: Batches in an epoch, which then goes on where the
                one before stopped; None for all batches.
            validation_batch_size: Samples in a validation batch. None chooses
                by memory alone: it has no influence on the result.
            validation_freq: Epochs from one validation to the next.
            seeds: The seed of each lane's order of samples: lanes of one seed
                see the same batches. None gives all lanes one order, which
                follows from Python's random state, as set by
                `keras.utils.set_random_seed`.
            samples: The indices of the samples that each lane trains on, so
                that the folds of a cross-validation are lanes. None for all.
            validation_samples: The same for the validation data.

        Returns:
            A list of dictionaries, such that `history[lane]["loss"][epoch]` is
            a number, as in `keras.callbacks.History.history`. Its attribute
            `diverged` holds for each lane the step at which it diverged, or
            None; `callbacks` the lane's copies of the callbacks; `notes` what
            else happened.

        Raises:
            ValueError: If the arguments do not match each other or the
                members, or a callback cannot run lane by lane.
        """
        given = _fitting.Given(
            x,
            y,
            sample_weight,
            class_weight,
            validation_data,
            validation_split,
            shuffle,
        )
        lanes = _fitting.Lanes(
            len(self.models),
            batch_size,
            epochs,
            initial_epoch,
            seeds,
            samples,
            validation_samples,
        )
        steps = _fitting.Steps(
            steps_per_epoch, validation_batch_size, validation_freq
        )
        of_lanes = [callbacks or ()] * len(self.models)
        plan = _fitting.plan(given, lanes, steps, of_lanes, verbose)
        training = _training.Training(
            self.models, self._programs, plan, self.engine, self.max_lanes
        )
        training.advance()
        return training.history

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        sample_weight: Any = None,
    ) -> list[dict[str, float]]:
        """Returns the metrics of every member.

        Args:
            x: As in `fit`.
            y: As in `fit`.
            batch_size: As in `fit`.
            sample_weight: As in `fit`.

        Returns:
            One dictionary a lane, as `keras.Model.evaluate` gives with
            `return_dict=True`.
        """
        data = self._source(x, y, sample_weight, batch_size)
        results: list[dict[str, float]] = [{} for _ in self.models]
        for group in self._groups(data):
            own = data.of_lanes(group.lanes)

            def evaluate(engine: Any, own: Any = own) -> Any:
                logs = _training.evaluated(engine, own)
                engine.write_back()
                return logs

            logs = self._run(group, own, evaluate)
            for lane, values in zip(group.lanes, logs, strict=True):
                results[lane] = values
        return results

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """Returns the outputs of every member.

        Args:
            x: As in `fit`.
            batch_size: As in `fit`.

        Returns:
            Array `(lanes, samples, ...)`, nested as the outputs are.
        """
        data = self._source(x, None, None, batch_size)
        tree = keras.tree
        outputs: list = [None] * len(self.models)
        for group in self._groups(data):
            parts = self._run(
                group,
                data,
                lambda engine: [engine.predict(b) for b in data.epoch()],
            )
            whole = tree.map_structure(
                lambda *arrays: np.concatenate(arrays, axis=1), *parts
            )
            for place, lane in enumerate(group.lanes):
                outputs[lane] = tree.map_structure(
                    lambda array, place=place: array[place], whole
                )
        return tree.map_structure(lambda *lanes: np.stack(lanes), *outputs)

    def _run(
        self, group: _members.Group, data: Any, use: Callable[[Any], Any]
    ) -> Any:
        """Uses an engine; that of a loop where lanes cannot be vectorized."""
        engine = self._programs.engine(group, self.engine)
        try:
            return use(engine)
        except Exception:  # Not every model can be traced for many lanes.
            if engine.kind != _choice.VECTORIZED or data.is_spent:
                raise
            return use(self._programs.engine(group, _choice.LOOPED))

    def _source(
        self, x: Any, y: Any, weight: Any, batch_size: int | None
    ) -> _data.Source:
        if batch_size is not None:
            _validation.at_least("batch_size", batch_size, 1)
        if _data.is_stream(x):
            return _data.Stream(x)
        return _data.Arrays(x, y, weight, batch_size, len(self.models))

    def _groups(self, data: _data.Source) -> list[_members.Group]:
        _training.prepare(self.models, data)
        groups = _members.groups(self.models, self.max_lanes)
        for group in groups:
            _members.build_metrics(group.models[0], data.first())
        return groups
