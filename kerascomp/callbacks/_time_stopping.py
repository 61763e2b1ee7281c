"""A callback that ends training when its time is up."""

import time
from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component


@component(since="0.1")
class TimeStopping(keras.callbacks.Callback):
    """Stops training after a number of seconds.

    Use it where a machine is rented by the hour, or to compare models at equal
    time. The clock runs from the first batch on, validation and callbacks
    included, and is read before every batch; compiling counts. That batch is
    trained, and `fit` ends as it would after its last epoch: metrics are
    reported, and validation runs.

    Args:
        seconds: The budget, above 0.
        within_epoch: Whether to stop after any batch, or after whole epochs
            only.
        across_fits: Whether the budget is for all fits of this instance
            together, or starts anew with each.
        verbose: 1 prints a line when it stops, 0 does not.

    Attributes:
        used_seconds: How much was used, in the current or last `fit`, or in
            all.
        stopped_epoch: The epoch, from 0, in which it stopped the last `fit`;
            None if it did not.

    Saved state:
        None.

    Raises:
        TypeError: If `seconds` is not a number.
        ValueError: If an argument is out of its range.

    Examples:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> stop = TimeStopping(1e-6, within_epoch=False, verbose=1)
        >>> log = model.fit(
        ...     np.ones((4, 1)),
        ...     np.ones(4),
        ...     epochs=9,
        ...     callbacks=[stop],
        ...     verbose=0,
        ... )
        TimeStopping: stopped in epoch 1 of 9, after ...
        >>> log.epoch, stop.stopped_epoch
        ([0], 0)
    """

    def __init__(
        self,
        seconds: float,
        within_epoch: bool = True,
        across_fits: bool = False,
        verbose: int = 0,
    ):
        super().__init__()
        _validation.in_interval("seconds", seconds, "(0, inf)")
        _validation.one_of("within_epoch", within_epoch, (True, False))
        _validation.one_of("across_fits", across_fits, (True, False))
        _validation.one_of("verbose", verbose, (0, 1))
        self.seconds = seconds
        self.within_epoch = within_epoch
        self.across_fits = across_fits
        self.verbose = verbose
        self.used_seconds = 0.0
        self.stopped_epoch: int | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.across_fits:
            self.used_seconds = 0.0
        self.stopped_epoch = None
        self._before = self.used_seconds
        self._began: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        if self._began is None:
            self._began = time.monotonic()

    # Not at its end: Keras calls that beside the training where it can, when
    # any number of batches may have followed.
    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        if self.within_epoch:
            self._check()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._check()

    def on_train_end(self, logs: dict | None = None) -> None:
        self._read()

    def _read(self) -> None:
        if self._began is not None:
            passed = time.monotonic() - self._began
            self.used_seconds = self._before + passed

    def _check(self) -> None:
        self._read()
        if self.stopped_epoch is None and self.used_seconds >= self.seconds:
            self.stopped_epoch = self._epoch
            # `self.model` would write the state of JAX back.
            self._model.stop_training = True
            if self.verbose:
                self._say()

    def _say(self) -> None:
        epochs: Any = self.params["epochs"]
        print(
            f"TimeStopping: stopped in epoch {self._epoch + 1} of {epochs}, "
            f"after {self.used_seconds:.1f} of {self.seconds:g} seconds."
        )
