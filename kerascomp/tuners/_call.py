"""The arguments of `search`, as those of `Population.fit`."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp.population import _callbacks, _data, _fitting, _training
from kerascomp.tuners._batch import Lane, is_due

_FIT = inspect.signature(keras.Model.fit)
DEFAULT_BATCH_SIZE = 32


class Call:
    """How `search` was called.

    Args:
        args: Its positional arguments, those of `keras.Model.fit`.
        kwargs: Its keyword arguments.

    Attributes:
        alone: Why trials cannot share a program; empty if they can.

    Raises:
        TypeError: If `keras.Model.fit` does not take the arguments.
    """

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]):
        self._given = keywords(args, kwargs)
        self.alone = ""
        if self._given.get("validation_steps") is not None:
            self.alone = "`validation_steps` was passed"
        if not isinstance(self._given.get("validation_freq", 1), int):
            self.alone = "`validation_freq` is not a number"
        for callback in self.callbacks:
            if not _callbacks.is_lane_wise(callback):
                name = type(callback).__name__
                self.alone = f"the callback {name} cannot run lane by lane"

    def check(self, space: Iterable[Any]) -> None:
        """Raises for what would fail in all trials.

        Args:
            space: The hyperparameters that are known.
        """
        x = self._given.get("x")
        if x is None:
            raise ValueError(
                "`search` needs data to train on, as `keras.Model.fit` does. "
                "Received: x=None"
            )
        for parameter in space:
            if parameter.name != "batch_size":
                continue
            if _data.is_stream(x):
                raise ValueError(
                    "A hyperparameter `batch_size` needs arrays, from which "
                    "batches can be made. Received: data that come in batches"
                )
            for value in parameter.values:
                _validation.at_least("batch_size", value, 1)
        if not self.alone:
            size = self.batch_size({})
            lane = Lane(("", 0), lambda: None, 0, size, self.epochs)
            self.plan([lane], [self.callbacks])

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

    @property
    def validation_freq(self) -> Any:
        """As of `keras.Model.fit`."""
        return self._given.get("validation_freq", 1)

    def batch_size(self, hyperparameters: Mapping[str, Any]) -> int:
        """The batch size of a trial: tuned, passed, or Keras' default."""
        given = self._given.get("batch_size") or DEFAULT_BATCH_SIZE
        size = hyperparameters.get("batch_size", given)
        _validation.at_least("batch_size", size, 1)
        return size

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
            self.validation_freq,
        )
        verbose = int(get("verbose", 0) == 3)
        return _fitting.plan(given, differing, steps, callbacks, verbose)


def keywords(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments of `keras.Model.fit` by their names."""
    given = dict(_FIT.bind(None, *args, **kwargs).arguments)
    del given["self"]
    return given


def curve(
    epochs: Iterable[int], history: Mapping[str, list], validation_freq: Any
) -> list[tuple[int, dict[str, float]]]:
    """Returns the metrics of every epoch that was trained.

    Args:
        epochs: Those of the history, or more.
        history: As of `keras.callbacks.History`: what validations find has
            fewer entries where there are fewer validations.
        validation_freq: As of `keras.Model.fit`.
    """
    length = max(map(len, history.values()), default=0)
    trained = list(epochs)[:length]
    validated = [e for e in trained if is_due(e, validation_freq)]
    logs: dict[int, dict[str, float]] = {epoch: {} for epoch in trained}
    for name, values in history.items():
        known = trained if len(values) == length else validated
        for epoch, value in zip(known, values, strict=False):
            logs[epoch][name] = value
    return list(logs.items())
