"""A callback that estimates up to which batch size the gradient pays."""

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._registry import component
from kerascomp.callbacks import _probe, _probing

_RESAMPLES = 1000


@component(since="0.1")
class GradientNoiseScale(_probing.ProbeRecorder):
    """Estimates from the gradients of `fit` up to which batch size it pays.

    The noise scale is ``tr(Sigma) / |G|^2``: the variance of a single sample's
    gradient over the squared norm of the true one. It is the critical batch
    size: well below, twice the batch halves the number of steps; well above, it
    saves next to none. At the critical batch size itself, a step makes half
    the progress of one without noise.

    Two unbiased estimates come from each pair of gradients of different batch
    sizes, and each is averaged by itself, since a ratio of averages is of use
    and an average of ratios is not. Where the pair comes from:

    - With `gradient_accumulation_steps`, the micro-batches have the small
      size, and the gradient that they make up has the large one.
    - Otherwise, the product of the gradients of two successive steps estimates
      ``|G|^2``, as if the weights had not moved in between, and the squared
      norm exceeds it by ``tr(Sigma) / batch_size``. This takes a copy of the
      gradient, and one replica; on JAX, where `every` leaves steps out, it
      compiles the training step once more.

    The last batch of an epoch is left out, since it may be smaller, if `fit`
    knows the number of steps; so an epoch needs at least 3. Each epoch's logs
    get `noise_scale`, that of the epoch. It grows while training proceeds, and
    an estimate takes some hundred pairs: see `interval`. Within an epoch,
    samples are drawn without replacement, which matters if the noise scale is
    near the number of samples or beyond.

    Args:
        batch_size: Samples in one batch of `fit`, at least 1.
        smoothing: Weight of the past in the average of `history`, in [0, 1).
        seed: Seed of the bootstrap in `interval`.
        every: At every how many steps a pair is completed. With 1, the second
            gradient of each pair is the first one of the next. None for about
            20 times an epoch. With accumulation, every update is one.
        log_dir: As in `kerascomp.callbacks.GradientNormMonitor`.

    Attributes:
        history: The record of the current or last `fit`: `history["step"]`,
            the step that completes each pair; `history["gradient_square"]` and
            `history["noise"]`, the estimates of ``|G|^2`` and ``tr(Sigma)`` of
            that pair alone, which may be negative; and
            `history["noise_scale"]`, the ratio of their averages, NaN where
            that of ``|G|^2`` is not positive. All are NumPy arrays.
        noise_scale: The ratio of the averages over the last epoch that ended.
            Infinite if ``|G|^2`` is lost in the noise, NaN before.
        critical_batch_size: The same as an integer; None if it is infinite or
            not known.

    Saved state:
        None. After training, the model and its optimizer are what they were.

    Raises:
        ImportError: As in `kerascomp.callbacks.GradientNormMonitor`.
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, as in `kerascomp.callbacks.GradientNormMonitor`,
            and without accumulation, on several replicas or if `every` is a
            multiple of the steps of an epoch, which leaves out every pair.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.0), "mse")
        >>> monitor = GradientNoiseScale(batch_size=2)
        >>> x = np.ones((8, 2))  # Samples that are all the same have no noise.
        >>> log = model.fit(
        ...     x, x[:, 0], batch_size=2, callbacks=[monitor], verbose=0
        ... )
        >>> abs(log.history["noise_scale"][0]) < 1e-5
        True

    Reference:
        McCandlish et al. (2018), An Empirical Model of Large-Batch Training:
        the simple noise scale, and the unbiased estimates of appendix A.1.
    """

    plotted = "noise_scale"

    def __init__(
        self,
        batch_size: int,
        smoothing: float = 0.99,
        seed: int | None = None,
        log_dir: str | os.PathLike | None = None,
        every: int | None = None,
    ):
        _validation.at_least("batch_size", batch_size, 1)
        _validation.in_interval("smoothing", smoothing, "[0, 1)")
        self.batch_size = batch_size
        self.smoothing = smoothing
        self.seed = seed
        super().__init__(every, log_dir)

    def quantities(self, optimizer: Any) -> tuple[str, ...]:
        if _compat.accumulation_steps(optimizer) > 1:
            return _probe.GRADIENT, _probe.EFFECTIVE
        if self._period(optimizer) == 1:
            return _probe.GRADIENT, _probe.PRODUCT
        return _probe.GRADIENT, _probe.PRODUCT, _probe.BEFORE

    def _period(self, optimizer: Any) -> int:
        if optimizer and _compat.accumulation_steps(optimizer) > 1:
            return 1
        return super()._period(optimizer)

    @property
    def history(self) -> dict:
        """The record, as the class describes it."""
        self._collect()
        names = ("step", "gradient_square", "noise", "noise_scale")
        return {name: self._kept(name) for name in names}

    @property
    def critical_batch_size(self) -> int | None:
        """The noise scale as an integer, None if it is not finite."""
        if not math.isfinite(self.noise_scale):
            return None
        return max(math.ceil(self.noise_scale), 1)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Returns a bootstrap interval of `noise_scale`.

        Blocks of successive pairs are drawn, since successive pairs may share
        a gradient. It knows of the noise of the estimate, not of the change of
        the noise scale within the epoch.

        Args:
            level: Its probability, in (0, 1).

        Raises:
            ValueError: If no epoch with at least 8 pairs has ended.
        """
        _validation.in_interval("level", level, "(0, 1)")
        pairs = np.array(self._last_epoch)
        if len(pairs) < 8:
            raise ValueError(
                "A bootstrap interval needs an epoch with at least 8 pairs. "
                f"Received: {len(pairs)} pairs"
            )
        length = 1 + round(len(pairs) ** (1 / 3))
        turned = np.concatenate([pairs, pairs[: length - 1]])
        sums = np.cumsum(np.pad(turned, ((1, 0), (0, 0))), axis=0)
        blocks = sums[length:] - sums[:-length]
        rng = np.random.default_rng(self.seed)
        count = -(-len(pairs) // length)
        drawn = rng.integers(len(blocks), size=(_RESAMPLES, count))
        ratios = [_ratio(*row) for row in blocks[drawn].sum(axis=1)]
        tail = (1 - level) / 2
        # Without interpolation: some may be infinite.
        ends = np.quantile(ratios, [tail, 1 - tail], method="inverted_cdf")
        return float(ends[0]), float(ends[1])

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._check_period()
        super().on_train_begin(logs)
        optimizer = self._model.optimizer
        self._micro_steps = _compat.accumulation_steps(optimizer)

    def _check_period(self) -> None:
        """Raises if every pair would be left out."""
        optimizer = getattr(self._model, "optimizer", None)
        steps = (self.params or {}).get("steps")
        if not (optimizer and steps):
            return
        period = self._period(optimizer)  # 1 with accumulation.
        if period > 1 and period % steps == 0:
            raise ValueError(
                "`every` must not be a multiple of the steps of an epoch: each "
                "pair would have a gradient of the last batch, and be left "
                f"out. Received: every={self.every}, {steps} steps"
            )

    def _start_record(self) -> None:
        super()._start_record()
        self.noise_scale = float("nan")
        self._micro_steps = 1
        # Squared norms that wait for the others of their pair.
        self._waiting: list[float] = []
        self._averages = [0.0, 0.0]
        self._pairs: list[list[float]] = []  # Of this epoch.
        self._last_epoch: list[list[float]] = []

    def _receive(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        squares = np.square(_probing.total(values[_probe.GRADIENT]))
        take: Callable = self._accumulated
        if self._micro_steps > 1:
            others = np.square(_probing.total(values[_probe.EFFECTIVE]))
        else:
            others = values[_probe.PRODUCT].sum(axis=1, dtype="float64")
            take = self._successive
        befores = values.get(_probe.BEFORE)
        if befores is not None:
            befores = np.square(_probing.total(befores))
        for row, (step, square, other) in enumerate(
            zip(steps, squares, others, strict=True)
        ):
            if befores is not None:
                before = self._usable(int(step) - 1, float(befores[row]))
                self._waiting = [before]
            pair = take(self._usable(int(step), float(square)), float(other))
            if pair is not None and np.isfinite(pair).all():
                self._add(int(step), pair)

    def _usable(self, step: int, square: float) -> float:
        """Returns NaN for the last step of an epoch."""
        steps = (self.params or {}).get("steps")
        is_last = steps is not None and step % steps == steps - 1
        return float("nan") if is_last else square

    def _accumulated(
        self, square: float, effective: float
    ) -> tuple[float, float] | None:
        """Takes a micro-batch, and at an update, what it makes up."""
        self._waiting.append(square)
        if np.isnan(effective):
            return None
        squares, self._waiting = self._waiting, []
        if len(squares) != self._micro_steps:  # An earlier `fit` began it.
            return None
        small = self.batch_size
        return unbiased_pair(
            float(np.mean(squares)), effective, small, small * len(squares)
        )

    def _successive(
        self, square: float, product: float
    ) -> tuple[float, float] | None:
        """Takes a gradient, and its product with the one before."""
        before, self._waiting = self._waiting, [square]
        if not before:
            return None
        # Half the squared difference of the two: never negative.
        return product, self.batch_size * ((square + before[0]) / 2 - product)

    def _add(self, step: int, pair: tuple[float, float]) -> None:
        keep, new = self.smoothing, 1 - self.smoothing
        averages = [
            keep * average + new * value
            for average, value in zip(self._averages, pair, strict=True)
        ]
        self._averages = averages
        self._pairs.append(list(pair))
        smoothed = _ratio(*averages)
        self._keep(
            step=np.array([step]),
            gradient_square=np.array([pair[0]]),
            noise=np.array([pair[1]]),
            noise_scale=np.array(
                [smoothed if math.isfinite(smoothed) else np.nan]
            ),
        )

    def _epoch_figures(self) -> dict[str, float]:
        self._last_epoch, self._pairs = self._pairs, []
        self.noise_scale = float("nan")
        if self._last_epoch:
            self.noise_scale = _ratio(*np.mean(self._last_epoch, axis=0))
        return {"noise_scale": self.noise_scale}


def unbiased_pair(
    small_square: float, large_square: float, small: int, large: int
) -> tuple[float, float]:
    """Estimates ``|G|^2`` and ``tr(Sigma)`` from two batch sizes.

    Args:
        small_square: Squared norm of a gradient of `small` samples.
        large_square: That of one of `large` samples.
        small: A batch size.
        large: A larger one.
    """
    square = (large * large_square - small * small_square) / (large - small)
    trace = (small_square - large_square) / (1 / small - 1 / large)
    return square, trace


def _ratio(square: float, trace: float) -> float:
    return float(trace / square) if square > 0 else float("inf")
