"""Callbacks that observe the gradients of a running `fit`."""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _probe, _probing

# Below, a step counts as clipped: norms are rounded.
_UNCLIPPED = 1 - 1e-6


@component(since="0.1")
class GradientNormMonitor(_probing.ProbeRecorder):
    """Records the norm of every layer's gradient while the model trains.

    Use it to see gradients vanish, explode or turn NaN, and how often clipping
    bites. The gradients are those that `fit` computes anyway, so nothing is
    computed twice. Each epoch's logs get `grad_norm`, the mean over its
    recorded steps of the L2 norm of the whole gradient, `grad_norm_max`, the
    largest, and `grad_norm_<name>`, the mean of each group; the per-batch
    progress bar gets nothing. Steps with a NaN or infinite gradient are counted
    in `nonfinite_steps` and left out of means and maximum.

    If the optimizer clips, by `clipnorm`, `global_clipnorm` or `clipvalue`, the
    logs also get `clipped_fraction`, the share of recorded updates whose
    gradient was clipped, and `clip_factor`, the mean over these of the
    gradient's norm after clipping divided by that before; 1 if there are none.

    A norm is that of the gradient of the loss as `fit` optimizes it: unscaled
    under mixed precision, with the duplicate rows of an `Embedding` summed,
    and before clipping. With `gradient_accumulation_steps`, each micro-step is
    a step of its own, while clipping acts on their mean, at every update. Under
    `tf.distribute.MirroredStrategy`, the gradients are summed over the
    replicas first, which costs another all-reduce. The squares are float32: a
    norm below about 1e-19 reads as 0, and one above 1e19 as infinite.

    If `fit` is interrupted, the next one cleans up, or `detach` does. What
    was recorded stays in `history`, until the next `fit` starts a new record.

    Args:
        per_layer: Whether to keep the norms of each layer and variable, or
            only that of the whole gradient.
        every: Record every how many steps, at least 1. At the others nothing
            is computed, and nothing counted. None for about 20 times an epoch.
        groups: Names of groups of variables, each with a regular expression
            that is searched for in their paths, or with a list of paths of
            variables or layers. Groups may overlap.
        log_dir: Folder for TensorBoard: every series of `history` as a scalar
            at each recorded step, and the layers as a histogram. Needs the
            package tensorboard, not TensorFlow.

    Attributes:
        history: The record of the current or last `fit`, to be plotted:
            `history["step"]`, which steps were recorded, counted from 0;
            `history["grad_norm"]`, the norm of the whole gradient at each of
            them; if the optimizer clips, `history["clip_factor"]`, 1 at a step
            that was not clipped, and NaN at one that only accumulates; with
            `groups`, `history["groups"]`; and with `per_layer`,
            `history["layers"]` and `history["variables"]`, a dictionary from
            the path of each layer or variable to its norms. All are NumPy
            arrays. A variable's norm is NaN at a step that gave it no gradient,
            and the norm of its layer is that of the others.
        nonfinite_steps: How many of the recorded steps had a NaN or infinite
            gradient.
        skipped_steps: How many of these made no update, because
            `LossScaleOptimizer` leaves them out. A few are normal while it
            looks for its scale.
        without_gradient: The paths of the variables that no recorded step gave
            a gradient. On JAX there are none: their gradients are zeros.

    Saved state:
        None. After training, the model and its optimizer are what they were.

    Raises:
        ImportError: At construction, if `log_dir` is given and tensorboard is
            missing.
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if the model has no optimizer, if layers were
            frozen after `compile`, if a group is empty, if `fit` has the same
            monitor twice, or if the model is trained with Keras' NNX backend
            or a `tf.distribute` strategy other than `MirroredStrategy` over
            several replicas.

    Examples:
        >>> dense = keras.layers.Dense(1, kernel_initializer="zeros")
        >>> inputs = keras.Input((2,))
        >>> model = keras.Model(inputs, dense(inputs))
        >>> model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse")
        >>> monitor = GradientNormMonitor()
        >>> x, y = np.array([[2.0, 1.0]]), np.array([[-1.0]])
        >>> log = model.fit(x, y, callbacks=[monitor], verbose=0)
        >>> # The derivatives of (wx + b + 1)^2 at 0: 2x by w, and 2 by b.
        >>> for norms in monitor.history["variables"].values():
        ...     print(norms.shape, round(float(norms[0]), 3))
        (1,) 4.472
        (1,) 2.0
        >>> round(log.history["grad_norm"][0], 3)  # sqrt(4.472^2 + 2^2)
        4.899
        >>> # Each is clipped to 1: sqrt(1 + 1) / 4.899.
        >>> round(log.history["clip_factor"][0], 3)
        0.289
    """

    plotted = "layers"
    quantity = "gradient norm"

    def __init__(
        self,
        per_layer: bool = True,
        every: int | None = 1,
        groups: Mapping[str, str | Sequence[str]] | None = None,
        log_dir: str | os.PathLike | None = None,
    ):
        if not isinstance(per_layer, bool):
            raise ValueError(
                "`per_layer` must be True or False. "
                f"Received: per_layer={per_layer!r}"
            )
        _check_groups(groups)
        self.per_layer = per_layer
        self.groups = groups
        super().__init__(every, log_dir)
        self.plotted = "layers" if per_layer else "grad_norm"

    def quantities(self, optimizer: Any) -> tuple[str, ...]:
        wanted = [_probe.GRADIENT]
        rules = [_rule(each) for each in _compat.optimizers_of(optimizer)]
        if any(rules) and _compat.accumulation_steps(optimizer) > 1:
            wanted.append(_probe.EFFECTIVE)
        if "clipvalue" in rules:
            wanted.append(_probe.CLIPPED)
        return tuple(wanted)

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.groups and self._model.built:
            paths = [v.path for v in self._model.trainable_variables]
            _places(self.groups, _probe.unique(paths))
        super().on_train_begin(logs)
        optimizer = self._model.optimizer
        self._clips = any(map(_rule, _compat.optimizers_of(optimizer)))
        self._skips = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self._subscription is not None and not self._blocks:
            warnings.warn(
                "GradientNormMonitor saw no gradient. The `train_step` of the "
                "model does not hand its gradients to `model.optimizer`.",
                stacklevel=2,
            )

    @property
    def history(self) -> dict:
        """The record, as the class describes it."""
        self._collect()
        record: dict = {
            "step": self._kept("step"),
            "grad_norm": self._kept("grad_norm"),
        }
        if self._clips:
            record["clip_factor"] = self._kept("clip_factor")
        if self.groups:
            names = list(self.groups)
            table = self._kept("groups", len(names))
            record["groups"] = dict(zip(names, table.T, strict=True))
        if self.per_layer:
            table = self._kept("norms", len(self._names))
            layers = _probing.by_layer(self._names)
            record["layers"] = _probing.totals(table, layers)
            record["variables"] = {
                name: np.where(norm == _probe.NO_GRADIENT, np.nan, norm)
                for name, norm in zip(self._names, table.T, strict=True)
            }
        return record

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """The paths of the variables that no step gave a gradient."""
        self._collect()
        pairs = zip(self._names, self._had_gradient, strict=True)
        return tuple(name for name, had in pairs if not had)

    @property
    def skipped_steps(self) -> int:
        """How many of the recorded steps `LossScaleOptimizer` left out."""
        return self.nonfinite_steps if self._skips else 0

    def _start_record(self) -> None:
        super()._start_record()
        self.nonfinite_steps = 0
        self._had_gradient = np.zeros(0, bool)
        self._clips = self._skips = False

    def _begin_record(self) -> None:
        self._had_gradient = np.zeros(len(self._names), bool)

    def _receive(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        norms = values[_probe.GRADIENT]
        self._had_gradient |= np.any(norms != _probe.NO_GRADIENT, axis=0)
        whole = _probing.total(norms)
        self.nonfinite_steps += int(np.sum(~np.isfinite(whole)))
        self._keep(step=steps, grad_norm=whole)
        if self._clips:
            self._keep(clip_factor=_factor(values, self._model.optimizer))
        if self.groups:
            groups = _probing.totals(norms, _places(self.groups, self._names))
            self._keep(groups=np.stack(list(groups.values()), axis=1))
        if self.per_layer:
            self._keep(norms=norms)

    def _epoch_figures(self) -> dict[str, float]:
        norms = self._of_epoch("grad_norm")
        finite = norms[np.isfinite(norms)]
        figures = {
            "grad_norm": _probing.finite_mean(norms),
            "grad_norm_max": float(finite.max()) if len(finite) else np.nan,
        }
        for place, name in enumerate(self.groups or {}):
            table = self._kept("groups", len(self.groups or {}))
            own = table[self._epoch_start :, place]
            figures[f"grad_norm_{name}"] = _probing.finite_mean(own)
        if self._clips:
            factors = self._of_epoch("clip_factor")
            factors = factors[np.isfinite(factors)]
            clipped = factors[factors < _UNCLIPPED]
            figures["clipped_fraction"] = (
                len(clipped) / len(factors) if len(factors) else np.nan
            )
            figures["clip_factor"] = (
                float(clipped.mean()) if len(clipped) else 1.0
            )
        return figures


def _check_groups(groups: Any) -> None:
    if groups is None:
        return
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError(
            "`groups` must be a dictionary from names to regular expressions "
            f"or lists of paths, or None. Received: groups={groups!r}"
        )
    for name, group in groups.items():
        try:
            if isinstance(group, str):
                re.compile(group)
            elif not all(isinstance(path, str) for path in group):
                raise TypeError
        except (re.error, TypeError) as error:
            raise ValueError(
                "A group must be a regular expression or a list of paths. "
                f"Received: groups[{name!r}]={group!r}"
            ) from error


def _places(
    groups: Mapping[str, str | Sequence[str]], names: Sequence[str]
) -> dict[str, list[int]]:
    """Returns the places of the variables of each group."""
    found = {}
    for group, wanted in groups.items():
        if isinstance(wanted, str):
            inside = [re.search(wanted, name) is not None for name in names]
        else:
            inside = [
                any(f"{name}/".startswith(f"{path}/") for path in wanted)
                for name in names
            ]
        found[group] = [place for place, is_in in enumerate(inside) if is_in]
        if not found[group]:
            raise ValueError(
                f"No trainable variable belongs to the group {group!r}. "
                f"Received: groups[{group!r}]={wanted!r}, variables="
                f"{list(names)}"
            )
    return found


def _rule(optimizer: Any) -> str | None:
    """Returns the argument by which an optimizer clips: the first one set."""
    for name in ("clipnorm", "global_clipnorm", "clipvalue"):
        if getattr(optimizer, name, None):
            return name
    return None


def _factor(values: Mapping[str, np.ndarray], optimizer: Any) -> np.ndarray:
    """Returns the gradient's norm after clipping divided by that before."""
    before = values.get(_probe.EFFECTIVE, values[_probe.GRADIENT])
    after = before.copy()
    for each, places in _compat.optimized_places(optimizer):
        rule, own = _rule(each), before[:, places]
        if rule == "clipnorm":
            after[:, places] = np.minimum(own, each.clipnorm)
        elif rule == "global_clipnorm":
            whole = _probing.total(own)[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                shrink = np.fmin(each.global_clipnorm / whole, 1)
            present = own != _probe.NO_GRADIENT
            after[:, places] = np.where(present, own * shrink, own)
        elif rule == "clipvalue":
            after[:, places] = values[_probe.CLIPPED][:, places]
    whole, clipped = _probing.total(before), _probing.total(after)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole == 0, 1.0, clipped / whole)
