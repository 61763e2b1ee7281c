"""Trains many ordinary Keras models in one compiled program."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp.population import (
    _choice,
    _data,
    _engine,
    _history,
    _members,
    _program,
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

    Experimental: data are arrays in memory, and callbacks are not supported
    yet. All lanes see the data in the same order, whatever their seeds.

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
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int = 0,
        validation_data: tuple | None = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
    ) -> _history.Histories:
        """Trains all members on the same batches.

        Args:
            x: Array or nested arrays, `(samples, ...)`.
            y: Targets, like `x`.
            batch_size: Samples in a batch; 32 if None.
            epochs: The epoch to stop before, counted from 0.
            verbose: 0 is silent; 1 tells which engine runs and why, and the
                losses of every epoch.
            validation_data: `(x, y)` or `(x, y, sample_weight)`, on which all
                lanes are evaluated after every epoch.
            shuffle: Whether to reorder the samples in every epoch, in the same
                way for all lanes. The order follows from Python's random
                state, as set by `keras.utils.set_random_seed`.
            class_weight: As in `keras.Model.fit`.
            sample_weight: `(samples,)`, or `(lanes, samples)` for weights of
                each lane: folds and bootstrap samples are lanes.
            initial_epoch: The epoch to start with.
            validation_batch_size: Samples in a validation batch; `batch_size`
                if None.

        Returns:
            A list of dictionaries, such that `history[lane]["loss"][epoch]` is
            a number, as in `keras.callbacks.History.history`. Its attribute
            `diverged` holds for each lane the step at which it diverged, or
            None.

        Raises:
            ValueError: If arrays do not match each other or the members.
        """
        if class_weight is not None and sample_weight is not None:
            raise ValueError(
                "Pass either `class_weight` or `sample_weight`, or multiply "
                "them. Received: both"
            )
        if class_weight is not None:
            sample_weight = _data.weights_of_classes(y, class_weight)
        data = self._arrays(x, y, sample_weight, batch_size)
        validation = None
        if validation_data is not None:
            size = validation_batch_size or batch_size
            validation = self._validation_arrays(validation_data, size)
        orders = _orders(data.samples, shuffle)
        history = _history.Histories(len(self.models))
        for group in self._groups(data):
            run = _Run(group, data, validation, history, verbose)
            engine = self._programs.engine(
                group, self.engine, run.data.first(), verbose
            )
            run.train(engine, range(initial_epoch, epochs), orders)
        return history

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
        data = self._arrays(x, y, sample_weight, batch_size)
        results: list[dict[str, float]] = [{} for _ in self.models]
        for group in self._groups(data):
            own = data.of_lanes(group.lanes)
            engine = self._programs.engine(group, self.engine)
            for lane, logs in zip(
                group.lanes, evaluated(engine, own), strict=True
            ):
                results[lane] = logs
            engine.write_back()
        return results

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """Returns the outputs of every member.

        Args:
            x: As in `fit`.
            batch_size: As in `fit`.

        Returns:
            Array `(lanes, samples, ...)`, nested as the outputs are.
        """
        data = self._arrays(x, None, None, batch_size)
        tree = keras.tree
        outputs: list = [None] * len(self.models)
        for group in self._groups(data):
            engine = self._programs.engine(group, self.engine)
            parts = [engine.predict(batch) for batch in data.batches()]
            whole = tree.map_structure(
                lambda *arrays: np.concatenate(arrays, axis=1), *parts
            )
            for place, lane in enumerate(group.lanes):
                outputs[lane] = tree.map_structure(
                    lambda array, place=place: array[place], whole
                )
        return tree.map_structure(lambda *lanes: np.stack(lanes), *outputs)

    def _arrays(
        self, x: Any, y: Any, weight: Any, batch_size: int | None
    ) -> _data.Data:
        if batch_size is not None:
            _validation.at_least("batch_size", batch_size, 1)
        return _data.Data(x, y, weight, batch_size, len(self.models))

    def _validation_arrays(
        self, given: tuple, batch_size: int | None
    ) -> _data.Data:
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise ValueError(
                "`validation_data` must be (x, y) or (x, y, sample_weight). "
                f"Received: {type(given).__name__}"
            )
        x, y, weight = (*given, None)[:3]
        return self._arrays(x, y, weight, batch_size)

    def _groups(self, data: _data.Data) -> list[_members.Group]:
        batch = data.first()
        _members.build(self.models, batch.x)
        _members.check_ends(self.models)
        groups = _members.groups(self.models, self.max_lanes)
        for group in groups:
            _members.build_metrics(group.models[0], batch)
        return groups


class _Run:
    """The training of one group."""

    def __init__(
        self,
        group: _members.Group,
        data: _data.Data,
        validation: _data.Data | None,
        history: _history.Histories,
        verbose: int,
    ):
        self.data = data.of_lanes(group.lanes)
        self._validation = validation and validation.of_lanes(group.lanes)
        self._group = group
        self._history = history
        self._verbose = verbose

    def train(
        self, engine: _engine.Engine, epochs: range, orders: Callable
    ) -> None:
        dropped: set[int] = set()
        step = 0
        for epoch in epochs:
            engine.reset_metrics()
            for batch in self.data.batches(orders(epoch)):
                engine.train(batch, step)
                step += 1
            self._record(engine)
            if self._validation is not None:
                evaluated(engine, self._validation)
                self._record(engine, "val_")
            self._say(epoch, epochs.stop)
            ends = engine.broken() != _program.NOT_BROKEN
            broken = [int(lane) for lane in np.flatnonzero(ends)]
            engine.drop([lane for lane in broken if lane not in dropped])
            dropped.update(broken)
        engine.write_back()
        for model in self._group.models:
            variables = model.trainable_variables
            model.optimizer.finalize_variable_values(variables)

    def _record(self, engine: _engine.Engine, prefix: str = "") -> None:
        logs, broken = engine.logs(), engine.broken()
        self._history.record(self._group.lanes, logs, broken, prefix)

    def _say(self, epoch: int, epochs: int) -> None:
        if not self._verbose:
            return
        parts = [f"Epoch {epoch + 1}/{epochs}"]
        own = [self._history[lane] for lane in self._group.lanes]
        for name in ("loss", "val_loss"):
            last = [history[name][-1] for history in own if name in history]
            if np.isfinite(last).any():
                low, middle = np.nanmin(last), np.nanmedian(last)
                parts.append(f"{name} best {low:.4g}, median {middle:.4g}")
        print(" - ".join(parts))


def evaluated(
    engine: _engine.Engine, data: _data.Data
) -> list[dict[str, float]]:
    """Runs the data through all lanes and returns their metrics."""
    engine.reset_metrics()
    for batch in data.batches():
        engine.test(batch)
    return engine.logs()


def _orders(samples: int, shuffle: bool) -> Callable:
    """Returns the order of the samples in each epoch, as a function."""
    seed = random.randrange(2**32)

    def order(epoch: int) -> np.ndarray | None:
        if not shuffle:
            return None
        return np.random.default_rng((seed, epoch)).permutation(samples)

    return order
