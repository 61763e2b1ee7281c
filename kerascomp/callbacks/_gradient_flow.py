"""A callback that says where gradients vanish, explode, or do not arrive."""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _probe, _probing
from kerascomp.callbacks._updates import ratio

REMEDIES = {
    "vanishing": (
        "Use activations of the ReLU family, BatchNormalization, standardized "
        "inputs, an initialization that fits the activation (He for ReLU, "
        "Glorot for tanh), pretrained weights, or residual connections."
    ),
    "exploding": (
        "Clip gradients (`global_clipnorm` of the optimizer), regularize the "
        "weights, or lower the learning rate."
    ),
    "dead": (
        "Lower the learning rate, start with smaller weights or biases, use "
        "LeakyReLU, ELU or GELU, and check that the loss depends on the layer "
        "and that its inputs are not all 0."
    ),
}


class Finding(NamedTuple):
    """What is wrong with a layer.

    Attributes:
        kind: `"vanishing"`, `"exploding"` or `"dead"`.
        layer: Its path.
        evidence: What was seen, with its number.
    """

    kind: str
    layer: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.evidence} {REMEDIES[self.kind]}"


@component(since="0.1")
class GradientFlowMonitor(_probing.ProbeRecorder):
    """Says which layer the gradients vanish, explode or die in, and the cure.

    It follows the norm of each layer's gradient relative to that of its
    weights, from the first layer to the last, averaged over steps. The weights
    are read at every 10th step, since their norms change slowly:

    - *vanishing*: the first layer's is less than `vanishing[0]` times the last
      layer's, and less than `vanishing[1]` itself;
    - *exploding*: the first layer's is more than `exploding` times the last
      layer's, or a gradient is NaN or infinite;
    - *dead*: a layer whose gradient is exactly 0, at each of the last
      `warmup_steps` recorded steps.

    The order is that in which the model lists its layers, in functional models
    by depth. Layers count by their kernels: their weights with at least two
    axes, or all, if no layer has such. Embeddings are left out, of which a
    batch reaches a few rows only. Each epoch's logs get `gradient_flow`, the
    first layer's relative norm over the last layer's.

    Through a sigmoid, a gradient shrinks by at least the factor 4 a layer,
    since the derivative is at most 1/4, unless the weights make up for it.

    Args:
        vanishing: A ratio and a relative norm, both above 0.
        exploding: A ratio above 1.
        smoothing: Weight of the past in the average over steps, in [0, 1).
        warmup_steps: Recorded steps before the first verdict, at least 1.
        action: What to do about a finding: `"warn"`, once for each; `"stop"`,
            which ends training after the epoch, with a warning; or `"raise"`.
            NaN and infinity need no warmup, except under
            `LossScaleOptimizer`, which skips such steps: there, all steps of an
            epoch must have them.
        every: Measure every how many steps, at least 1. None for about 20
            times an epoch.
        log_dir: As in `kerascomp.callbacks.GradientNormMonitor`.

    Attributes:
        findings: What is wrong: named tuples with `kind`, `layer` and
            `evidence`, of which `str` gives the evidence and the remedies.
        verdict: The same in words; "healthy: ..." without findings.
        history: The record of the current or last `fit`: `history["step"]`,
            which steps were recorded, counted from 0;
            `history["gradient_flow"]`, the averaged ratio of first to last;
            and `history["layers"]`, a dictionary from the path of each layer
            to its relative norms, not averaged. All are NumPy arrays.

    Saved state:
        None. After training, the model and its optimizer are what they were.

    Raises:
        ImportError: As in `kerascomp.callbacks.GradientNormMonitor`.
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, as in `kerascomp.callbacks.GradientNormMonitor`.
        RuntimeError: In `fit`, on a finding, with `action="raise"`.

    Examples:
        >>> # Orthogonal weights keep lengths, so the derivative acts alone.
        >>> model = keras.Sequential([keras.Input((4,))])
        >>> for _ in range(20):
        ...     model.add(keras.layers.Dense(4, "sigmoid", True, "orthogonal"))
        >>> model.add(keras.layers.Dense(1))
        >>> model.compile("sgd", "mse")
        >>> monitor = GradientFlowMonitor(action="stop", warmup_steps=2)
        >>> x, y = np.random.normal(size=(64, 4)), np.ones((64, 1))
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     log = model.fit(x, y, callbacks=[monitor], epochs=9, verbose=0)
        >>> len(log.epoch), [finding.kind for finding in monitor.findings]
        (1, ['vanishing'])

    Reference:
        Zhang et al. (2021), AUTOTRAINER: An Automatic DNN Training Problem
        Detection and Repair System: the thresholds. There they are of plain
        norms at one step.
    """

    plotted = "layers"
    quantity = "gradient norm / weight norm"

    def __init__(
        self,
        vanishing: tuple[float, float] = (1e-3, 1e-4),
        exploding: float = 70.0,
        smoothing: float = 0.9,
        warmup_steps: int = 10,
        action: str = "warn",
        every: int | None = 1,
        log_dir: str | os.PathLike | None = None,
    ):
        if not isinstance(vanishing, tuple) or len(vanishing) != 2:
            raise ValueError(
                "`vanishing` must be a tuple of a ratio and a relative norm. "
                f"Received: vanishing={vanishing!r}"
            )
        for threshold in vanishing:
            _validation.in_interval("vanishing", threshold, "(0, inf)")
        _validation.in_interval("exploding", exploding, "(1, inf)")
        _validation.in_interval("smoothing", smoothing, "[0, 1)")
        _validation.at_least("warmup_steps", warmup_steps, 1)
        _validation.one_of("action", action, ("warn", "stop", "raise"))
        self.vanishing = vanishing
        self.exploding = exploding
        self.smoothing = smoothing
        self.warmup_steps = warmup_steps
        self.action = action
        super().__init__(every, log_dir)

    def quantities(self, optimizer: Any) -> tuple[str, ...]:
        return _probe.GRADIENT, _probe.WEIGHT

    def rarely(self, every: int) -> dict[str, int]:
        times = math.ceil(_probing.WEIGHTS_EVERY / every)
        return {_probe.WEIGHT: times * every}

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        self._skips = isinstance(
            self._model.optimizer, keras.optimizers.LossScaleOptimizer
        )

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        super().on_train_batch_begin(batch, logs)
        self._act()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._act()
        self._finite_steps = 0

    @property
    def history(self) -> dict:
        """The record, as the class describes it."""
        self._collect()
        table = self._kept("layers", len(self._layers))
        return {
            "step": self._kept("step"),
            "gradient_flow": self._kept("flow"),
            "layers": dict(zip(self._layers, table.T, strict=True)),
        }

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, the worst first."""
        self._collect()
        if self._nonfinite is not None:
            return (Finding(*self._nonfinite),)
        if self._rows < self.warmup_steps:
            return ()
        return (*self._dead(), *self._first_to_last())

    @property
    def verdict(self) -> str:
        """The findings in words."""
        findings = self.findings
        if findings:
            return " ".join(map(str, findings))
        if self._rows < self.warmup_steps:
            return (
                f"undecided: {self._rows} of {self.warmup_steps} steps of the "
                "warmup were recorded."
            )
        (first, low), (last, high) = self._ends()[0], self._ends()[-1]
        return (
            f"healthy: the gradient of {first!r} is {low:.2g} of its weights, "
            f"that of {last!r} {high:.2g}."
        )

    def _start_record(self) -> None:
        super()._start_record()
        self._layers: dict[str, list[int]] = {}
        self._average = np.zeros(0)  # Of the relative norm of each layer.
        self._weights = np.zeros(0)  # Of the steps in it, with bias.
        self._zeros = np.zeros(0, int)  # Last steps with gradient 0.
        self._finite_steps = 0  # In this epoch.
        # A plain sequence, once a population has put it back.
        self._nonfinite: Sequence[str] | None = None
        self._told: set[tuple[str, str]] = set()
        self._skips = False
        self._news = False

    def _begin_record(self) -> None:
        names, ranks = self._names, self._ranks
        kernels = {
            place
            for place, (name, rank) in enumerate(zip(names, ranks, strict=True))
            if rank > 1 and name.rpartition("/")[2] != "embeddings"
        } or set(range(len(names)))
        groups = _probing.by_layer(names)
        self._whole = {
            name: places
            for name, places in groups.items()
            if kernels & set(places)
        }
        self._layers = {
            name: [place for place in places if place in kernels]
            for name, places in self._whole.items()
        }
        self._average = np.zeros(len(self._layers))
        self._weights = np.zeros(len(self._layers))
        self._zeros = np.zeros(len(self._layers), int)

    def _receive(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        gradients, weights = values[_probe.GRADIENT], values[_probe.WEIGHT]
        whole = _table(_probing.totals(gradients, self._whole))
        own = _table(_probing.totals(gradients, self._layers))
        relative = ratio(own, _table(_probing.totals(weights, self._layers)))
        # Torch and TensorFlow have no gradient where JAX has zeros.
        missing = np.isnan(whole) & (gradients == _probe.NO_GRADIENT).any(
            axis=1, keepdims=True
        )
        flows = []
        for step, row, norms in zip(
            steps, relative, np.where(missing, 0, whole), strict=True
        ):
            self._add(int(step), row, norms)
            flows.append(self._flow())
        self._news = True
        self._keep(step=steps, layers=relative, flow=np.array(flows))

    def _add(self, step: int, relative: np.ndarray, norms: np.ndarray) -> None:
        """Takes one step into the averages."""
        if not np.isfinite(norms).all():
            place = int(np.flatnonzero(~np.isfinite(norms))[-1])
            self._note_nonfinite(step, list(self._layers)[place])
            return
        self._finite_steps += 1
        self._zeros = np.where(norms == 0, self._zeros + 1, 0)
        known = np.isfinite(relative)
        keep, new = self.smoothing, 1 - self.smoothing
        for average, value in ((self._average, relative), (self._weights, 1)):
            average[:] = np.where(known, keep * average + new * value, average)

    def _note_nonfinite(self, step: int, layer: str) -> None:
        if not self._skips and self._nonfinite is None:
            self._nonfinite = Finding(
                "exploding",
                layer,
                f"The gradient of {layer!r} is NaN or infinite at step {step}.",
            )

    def _averages(self) -> np.ndarray:
        return ratio(self._average, self._weights)

    def _ends(self) -> list[tuple[str, float]]:
        """Returns layers and their averages, from the first to the last."""
        pairs = zip(self._layers, self._averages(), strict=True)
        known = [(layer, float(v)) for layer, v in pairs if np.isfinite(v)]
        return known or [("", np.nan)]

    def _flow(self) -> float:
        """Returns the first layer's average over the last layer's."""
        (_, first), (_, last) = self._ends()[0], self._ends()[-1]
        return first / last if last else float("nan")

    def _dead(self) -> list[Finding]:
        dead = [
            layer
            for layer, count in zip(self._layers, self._zeros, strict=True)
            if count >= self.warmup_steps
        ]
        if not dead:
            return []
        # Where the last dead layer is, nothing passes to those before it.
        layer, others = dead[-1], len(dead) - 1
        before = f", nor {others} before it" if others else ""
        return [
            Finding(
                "dead",
                layer,
                f"No gradient reaches {layer!r}{before}: it is exactly 0 for "
                f"{self.warmup_steps} steps.",
            )
        ]

    def _first_to_last(self) -> list[Finding]:
        ends = [pair for pair in self._ends() if pair[1] > 0]
        if len(ends) < 2:
            return []
        (first, low), (last, high) = ends[0], ends[-1]
        flow = low / high
        if flow < self.vanishing[0] and low < self.vanishing[1]:
            kind, layer, what = "vanishing", first, "vanishes"
        elif flow > self.exploding:
            kind, layer, what = "exploding", first, "explodes"
        else:
            return []
        return [
            Finding(
                kind,
                layer,
                f"The gradient {what} on its way from {last!r} to {first!r}: "
                f"relative to the weights it goes from {high:.2g} to "
                f"{low:.2g}, by the factor {flow:.2g}.",
            )
        ]

    def _epoch_figures(self) -> dict[str, float]:
        if self._skips and self._rows > self._epoch_start:
            self._check_skipped()
        flow = self._of_epoch("flow")
        return {"gradient_flow": float(flow[-1]) if len(flow) else np.nan}

    def _check_skipped(self) -> None:
        if not self._finite_steps and self._nonfinite is None:
            layer = list(self._layers)[-1]
            self._nonfinite = Finding(
                "exploding",
                layer,
                "All steps of an epoch were skipped, because a gradient was "
                "NaN or infinite.",
            )

    def _act(self) -> None:
        if not self._news or self._subscription is None:
            return
        self._news = False
        findings = [
            f for f in self.findings if (f.kind, f.layer) not in self._told
        ]
        for finding in findings:
            self._told.add((finding.kind, finding.layer))
            if self.action == "raise":
                self.detach()
                raise RuntimeError(str(finding))
            if self.action == "stop":
                self._model.stop_training = True
            warnings.warn(str(finding), stacklevel=2)


def _table(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.stack(list(columns.values()), axis=1)
