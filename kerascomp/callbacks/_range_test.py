"""The range test: one short run over all learning rates."""

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _rates, _record
from kerascomp.callbacks._range_suggestions import SUGGESTIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@component(since="0.1")
class LearningRateRangeTest(_record.Recorder):
    """Finds a learning rate in one short run that raises it step by step.

    The rate climbs from `minimum` to `maximum` while the loss of every step
    is noted. Too small a rate leaves the loss as it is, and too large a one
    lets it explode: what lies between is worth training with. The run ends
    after `steps`, when the loss diverges, or at a loss that is not finite.
    Afterwards the weights, the optimizer's state, the learning rate, the
    random states and `stop_training` are what they were.

    Call `run(model, x, y)`, or pass it to a `fit` of enough steps. The random
    states that `run` restores are those before `fit`; as a callback it can
    only restore those at the start of training, when `fit` has drawn the
    order of the samples. Use no other callbacks meanwhile that change the
    model, and no validation, which would only take time.

    The loss of a step is that of its batch, before the step's update, smoothed
    by an exponential moving average s without bias:

        s = (1 - smoothing) sum_i smoothing^(n - i) loss_i / (1 - smoothing^n)

    With `smoothing = 0` it is the loss itself. The suggestions are read off
    the smoothed loss, without the first smoothing / (1 - smoothing) steps (but
    a quarter at most), whose average is still one of few losses:

    - `"valley"`: the middle of the longest fall;
    - `"steepest"`: where it falls fastest over the logarithm of the rate;
    - `"minimum_tenth"`: a tenth of the rate at its minimum.

    They are places to begin a search, and differ by an order of magnitude
    where the loss is noisy: look at `plot()`, and raise `steps`. A peak of a
    schedule may lie above a good constant rate.

    Args:
        minimum: First learning rate, above 0.
        maximum: Last learning rate, above `minimum`.
        steps: Number of steps, at least 2.
        ramp: `"exponential"`, each step multiplies the rate by the same
            factor; or `"linear"`, each adds the same.
        smoothing: Weight of the past, in [0, 1).
        stop_factor: The run ends when the smoothed loss is above this multiple
            of its minimum, above 1. Of a negative minimum m, above m +
            (`stop_factor` - 1) |m|. None runs on.
        suggest: Which of the suggestions is `suggestion`.

    Attributes:
        ended: Why the run ended: `"maximum"`, `"diverged"`, `"not finite"`,
            or `"no more data"`; None before.

    Saved state:
        None. After training, the model and its optimizer are what they were;
        if `fit` was interrupted, `restore` or the next test sees to it.

    Raises:
        ValueError: At construction, if an argument is out of its range; at
            the start of `fit`, if its learning rate is itself a schedule, if
            the model has no weights yet, or if `fit` is shorter than the test.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((8, 2)), np.ones((8, 1))
        >>> test = LearningRateRangeTest(minimum=0.01, maximum=100, steps=5)
        >>> history = test.run(model, x, y).history
        >>> [round(float(rate), 4) for rate in history["learning_rate"][:3]]
        [0.01, 0.1, 1.0]
        >>> test.ended, round(float(model.optimizer.learning_rate), 4)
        ('diverged', 0.01)

    Reference:
        Smith, 2015, [Cyclical learning rates for training neural
        networks](https://arxiv.org/abs/1506.01186), section 3.3; the
        exponential ramp and the valley as in
        [fastai](https://docs.fast.ai/callback.schedule.html).
    """

    ended: str | None
    plotted = "loss"
    log_scale = False

    def __init__(
        self,
        minimum: float = 1e-6,
        maximum: float = 10.0,
        steps: int = 100,
        ramp: str = "exponential",
        smoothing: float = 0.9,
        stop_factor: float | None = 4.0,
        suggest: str = "valley",
    ):
        super().__init__()
        _validation.in_interval("minimum", minimum, "(0, inf)")
        _validation.in_interval("maximum", maximum, f"({minimum}, inf)")
        _validation.at_least("steps", steps, 2)
        _validation.one_of("ramp", ramp, ("exponential", "linear"))
        _validation.in_interval("smoothing", smoothing, "[0, 1)")
        if stop_factor is not None:
            _validation.in_interval("stop_factor", stop_factor, "(1, inf)")
        _validation.one_of("suggest", suggest, tuple(SUGGESTIONS))
        self.minimum = minimum
        self.maximum = maximum
        self.steps = steps
        self.ramp = ramp
        self.smoothing = smoothing
        self.stop_factor = stop_factor
        self.suggest = suggest
        space = np.geomspace if ramp == "exponential" else np.linspace
        self._ramp = space(minimum, maximum, steps)
        self._kept: _Kept | None = None
        self._start_record()

    def run(self, model: Any, x: Any, y: Any = None, **arguments: Any) -> Self:
        """Runs the test on a model, which is the same afterwards.

        Args:
            model: A compiled model with weights.
            x: As in `keras.Model.fit`.
            y: As in `keras.Model.fit`.
            **arguments: Others of `keras.Model.fit`, such as `batch_size`.

        Returns:
            The test itself.
        """
        random_state = _compat.RandomState()
        stop_training = model.stop_training
        # The data are gone through as often as the steps need.
        settings = {"epochs": self.steps, "verbose": 0, **arguments}
        try:
            model.fit(x, y, callbacks=[self], **settings)
        finally:
            self.restore()
            random_state.restore()
            model.stop_training = stop_training
        return self

    def restore(self) -> None:
        """Gives the model back as it was.

        Needed only after an interrupted `fit`, and only to have the model back
        before the next test.
        """
        if self._kept is not None:
            self._kept.restore()
            self._kept = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.restore()
        super().on_train_begin()
        model, name = self._model, type(self).__name__
        self._variables = _rates.variables_of(model, name)
        if not model.built:
            raise ValueError(
                f"{name} gives the weights back as they were, and the model "
                "has none yet. Start it with `keras.Input`, or call "
                f"`model.build`. Received: model={model.name!r}"
            )
        self._check_length()
        self._start_record()
        self._state = _compat.OptimizerState(model)
        self._kept = _Kept(model)

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        # The logs hold means since the metrics were reset.
        self.model.reset_metrics()
        step = min(len(self._losses), self.steps - 1)
        self._state.assign(self._variables, float(self._ramp[step]))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.ended in _ENDS:
            return
        if not logs or "loss" not in logs:
            raise ValueError(
                f"{type(self).__name__} needs the loss of every step. Return "
                "it as `loss` from `train_step`. "
                f"Received: {sorted(logs or ())}"
            )
        self._note(float(logs["loss"]))
        self.ended = self._end() or self.ended
        # Not `self.model`: it would write the state of JAX back.
        self._model.stop_training = self.ended in _ENDS

    def on_train_end(self, logs: dict | None = None) -> None:
        super().on_train_end()
        self._state.close()
        self.restore()

    @property
    def history(self) -> dict[str, Any]:
        """The record, `(steps,)` arrays.

        `"step"`, counted from 0; `"learning_rate"`; `"loss"`, that of the
        batch; and `"smoothed_loss"`.
        """
        count = len(self._losses)
        return {
            "step": np.arange(count),
            "learning_rate": self._ramp[:count].copy(),
            "loss": np.array(self._losses, "float64"),
            "smoothed_loss": np.array(self._smoothed, "float64"),
        }

    @property
    def suggestions(self) -> dict[str, float | None]:
        """All suggestions by name; None where the loss never falls."""
        history = self.history
        kept = np.isfinite(history["smoothed_loss"])
        # An average of so few losses falls by chance.
        young = round(self.smoothing / (1 - self.smoothing))
        kept[: min(young, len(kept) // 4)] = False
        rates = history["learning_rate"][kept]
        losses = history["smoothed_loss"][kept]
        return {name: read(rates, losses) for name, read in SUGGESTIONS.items()}

    @property
    def suggestion(self) -> float | None:
        """The suggestion named by `suggest`; None if the loss never falls."""
        return self.suggestions[self.suggest]

    def plot(self, name: str | None = None) -> "Figure":
        """Returns a figure of the loss over the learning rate.

        With lines at the suggestions. matplotlib is needed. The figure is not
        shown; `figure.savefig("range.png")` writes it.

        Args:
            name: A series of `history`, to be drawn over the steps instead.
        """
        if name is not None:
            return super().plot(name)
        from kerascomp.callbacks import _range_plot

        log_scale = self.ramp == "exponential"
        return _range_plot.draw(self.history, self.suggestions, log_scale)

    def _start_record(self) -> None:
        self.ended = None
        self._losses: list[float] = []
        self._smoothed: list[float] = []
        self._average = 0.0

    def _check_length(self) -> None:
        epochs, steps = self.params["epochs"], self.params["steps"]
        if steps is not None and epochs * steps < self.steps:
            raise ValueError(
                f"The range test takes {self.steps} steps, of which this fit "
                f"has {epochs * steps}. Raise `epochs`, or lower `steps`. "
                f"Received: steps={self.steps}"
            )

    def _note(self, loss: float) -> None:
        self._losses.append(loss)
        past = self.smoothing
        self._average = past * self._average + (1 - past) * loss
        bias = 1 - past ** len(self._losses)
        self._smoothed.append(self._average / bias)
        self.ended = "no more data"  # If no more steps come.

    def _end(self) -> str | None:
        smoothed = self._smoothed[-1]
        if not math.isfinite(smoothed):
            return "not finite"
        if self.stop_factor is not None:
            lowest = min(self._smoothed)
            if smoothed > lowest + (self.stop_factor - 1) * abs(lowest):
                return "diverged"
        return "maximum" if len(self._losses) == self.steps else None


_ENDS = ("maximum", "diverged", "not finite")


class _Kept:
    """Everything of a model that a training changes."""

    def __init__(self, model: Any):
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._model = model
        self._random_state = _compat.RandomState()
        self._stop_training = model.stop_training
        self._values = [
            (v, np.array(keras.ops.convert_to_numpy(v)))
            for v in (*model.variables, *model.optimizer.variables)
        ]

    def restore(self) -> None:
        for variable, value in self._values:
            variable.assign(value)
        self._model.reset_metrics()
        self._model.stop_training = self._stop_training
        self._random_state.restore()
