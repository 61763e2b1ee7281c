"""The arguments of `search`, as those of `Population.fit`."""

import inspect
from collections.abc import Sequence
from typing import Any

from kerascomp._compat import keras
from kerascomp.population import _callbacks, _fitting, _training
from kerascomp.tuners._batch import Lane

_FIT = inspect.signature(keras.Model.fit)
DEFAULT_BATCH_SIZE = 32


class Call:
    """How `search` was called.

    Args:
        args: Its positional arguments, those of `keras.Model.fit`.
        kwargs: Its keyword arguments.

    Attributes:
        alone: Why trials cannot share a program; empty if they can.
    """

    def __init__(self, args: Sequence[Any], kwargs: dict[str, Any]):
        self._args, self._kwargs = args, kwargs
        self.alone = ""
        try:
            bound = _FIT.bind(None, *args, **kwargs)
        except TypeError as error:
            self._given: dict[str, Any] = {}
            self.alone = f"`Model.fit` does not take these arguments: {error}"
            return
        self._given = dict(bound.arguments)
        del self._given["self"]
        if self._given.get("validation_steps") is not None:
            self.alone = "`validation_steps` was passed"
        for callback in self.callbacks:
            if not _callbacks.is_lane_wise(callback):
                name = type(callback).__name__
                self.alone = f"the callback {name} cannot run lane by lane"

    @property
    def callbacks(self) -> list:
        """The callbacks of every trial."""
        given = self._given.get("callbacks") or []
        return list(given) if isinstance(given, list | tuple) else [given]

    @property
    def epochs(self) -> range:
        """The epochs of a trial that is not told others."""
        first = self._given.get("initial_epoch", 0)
        return range(first, self._given.get("epochs", 1))

    def batch_size(self, hyperparameters: dict[str, Any]) -> int:
        """The batch size of a trial: tuned, passed, or Keras' default."""
        given = self._given.get("batch_size") or DEFAULT_BATCH_SIZE
        return hyperparameters.get("batch_size", given)

    def plan(
        self, lanes: Sequence[Lane], callbacks: list[list]
    ) -> _training.Plan:
        """Returns the plan of lanes with these callbacks each."""
        get = self._given.get
        given = _fitting.Given(
            get("x"),
            get("y"),
            get("sample_weight"),
            get("class_weight"),
            get("validation_data"),
            get("validation_split", 0.0),
            get("shuffle", True),
        )
        seeds = [lane.seed for lane in lanes]
        differing = _fitting.Lanes(
            len(lanes),
            [lane.batch_size for lane in lanes],
            [lane.epochs.stop for lane in lanes],
            [lane.epochs.start for lane in lanes],
            None if given.is_stream else seeds,
        )
        steps = _fitting.Steps(
            get("steps_per_epoch"),
            get("validation_batch_size"),
            get("validation_freq", 1),
        )
        verbose = int(get("verbose", 0) == 3)
        return _fitting.plan(given, differing, steps, callbacks, verbose)
