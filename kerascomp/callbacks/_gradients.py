"""Callbacks that observe the gradients of a running `fit`."""

import warnings

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _probe


@component(since="0.1")
class GradientNormMonitor(keras.callbacks.Callback):
    """Records the norm of every layer's gradient while the model trains.

    Use it to see gradients vanish, explode or turn NaN. The gradients are
    those that `fit` computes anyway, so nothing is computed twice. Each
    epoch's logs get `grad_norm`, the mean over its recorded steps of the L2
    norm of the whole gradient, and `grad_norm_max`, the largest; the per-batch
    progress bar gets nothing. Steps with a NaN or infinite gradient are counted
    in `nonfinite_steps` and left out of the mean and the maximum.

    A norm is that of the gradient of the loss as `fit` optimizes it: unscaled
    under mixed precision, with the duplicate rows of an `Embedding` summed,
    and before clipping. With `gradient_accumulation_steps`, each micro-step is
    a step of its own. Under `tf.distribute.MirroredStrategy`, the gradients
    are summed over the replicas first, which costs another all-reduce. The
    squares are float32: a norm below about 1e-19 reads as 0, and one above
    1e19 as infinite.

    If `fit` is interrupted, the next one cleans up, or `detach` does. What
    was recorded stays in `history`, until the next `fit` starts a new record.

    Args:
        per_layer: Whether to keep the norms of each layer and variable, or
            only that of the whole gradient.
        every: Record every how many steps, at least 1. Bounds the record of a
            long run: a recorded step takes 4 bytes a variable. It saves no
            time.

    Attributes:
        history: The record of the current or last `fit`, to be plotted:
            `history["step"]`, which steps were recorded, counted from 0;
            `history["grad_norm"]`, the norm of the whole gradient at each of
            them; and with `per_layer`, `history["layers"]` and
            `history["variables"]`, a dictionary from the path of each layer
            or variable to its norms. All are NumPy arrays. A variable's norm
            is NaN at a step that gave it no gradient, and the norm of its
            layer is that of the others.
        nonfinite_steps: How many of all steps, recorded or not, had a NaN or
            infinite gradient.
        without_gradient: The paths of the variables that no step gave a
            gradient. On JAX there are none: their gradients are zeros.

    Saved state:
        None. After training, the model and its optimizer are what they were.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if the model has no optimizer, or is trained with
            Keras' NNX backend or a `tf.distribute` strategy other than
            `MirroredStrategy` over several replicas.

    Examples:
        >>> dense = keras.layers.Dense(1, kernel_initializer="zeros")
        >>> inputs = keras.Input((2,))
        >>> model = keras.Model(inputs, dense(inputs))
        >>> model.compile("sgd", "mse")
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
    """

    _epoch_start: int  # The first of `_norms` in the current epoch.

    def __init__(self, per_layer: bool = True, every: int = 1):
        super().__init__()
        if not isinstance(per_layer, bool):
            raise ValueError(
                "`per_layer` must be True or False. "
                f"Received: per_layer={per_layer!r}"
            )
        _validation.at_least("every", every, 1)
        self.per_layer = per_layer
        self.every = every
        self._subscription: _probe.Subscription | None = None
        self._start_record()

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.detach()
        self._start_record()
        # `self.model` would write the state of JAX back at every use.
        self._subscription = _probe.subscribe(
            self._model, self.params, self._receive
        )

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        if self._subscription is not None:
            self._subscription.before_execution()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._subscription is None:
            return
        self._subscription.collect()
        if not self._steps:
            warnings.warn(
                "GradientNormMonitor saw no gradient. The `train_step` of the "
                "model does not hand its gradients to `model.optimizer`.",
                stacklevel=2,
            )
        norms = np.concatenate([*self._norms[self._epoch_start :], [np.nan]])
        self._epoch_start = len(self._norms)
        norms = norms[np.isfinite(norms)]
        if logs is not None:
            logs["grad_norm"] = float(norms.mean()) if len(norms) else np.nan
            logs["grad_norm_max"] = float(norms.max()) if len(norms) else np.nan

    def on_train_end(self, logs: dict | None = None) -> None:
        self.detach()

    @property
    def history(self) -> dict:
        """The record, as the class describes it."""
        if self._subscription is not None:
            self._subscription.collect()
        record: dict = {
            "step": np.concatenate([np.zeros(0, "int64"), *self._steps]),
            "grad_norm": np.concatenate([np.zeros(0), *self._norms]),
        }
        if self.per_layer:
            norms = dict(zip(self._names, self._table().T, strict=True))
            record["layers"] = {
                layer: _total(np.stack(group, axis=1))
                for layer, group in _by_layer(norms).items()
            }
            record["variables"] = {
                name: np.where(norm == _probe.NO_GRADIENT, np.nan, norm)
                for name, norm in norms.items()
            }
        return record

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """The paths of the variables that no step gave a gradient."""
        if self._subscription is not None:
            self._subscription.collect()
        pairs = zip(self._names, self._had_gradient, strict=True)
        return tuple(name for name, had in pairs if not had)

    def detach(self) -> None:
        """Stops recording and gives the model back as it was.

        Needed only after an interrupted `fit`, and only to get rid of the
        monitor before the next one.
        """
        if self._subscription is not None:
            self._subscription.close()  # Delivers what is left.
            self._subscription = None

    def _start_record(self) -> None:
        self.nonfinite_steps = 0
        self._names: tuple[str, ...] = ()
        self._had_gradient = np.zeros(0, bool)
        self._steps: list[np.ndarray] = []
        self._norms: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._epoch_start = 0

    def _receive(self, steps: np.ndarray, norms: np.ndarray) -> None:
        if self._subscription and not self._names:
            self._names = self._subscription.names
            self._had_gradient = np.zeros(len(self._names), bool)
        self._had_gradient |= np.any(norms != _probe.NO_GRADIENT, axis=0)
        total = _total(norms)
        self.nonfinite_steps += int(np.sum(~np.isfinite(total)))
        kept = steps % self.every == 0
        self._steps.append(steps[kept])
        self._norms.append(total[kept])
        if self.per_layer:
            self._rows.append(norms[kept])

    def _table(self) -> np.ndarray:
        empty = np.zeros((0, len(self._names)), "float32")
        return np.concatenate([empty, *self._rows])


def _total(norms: np.ndarray) -> np.ndarray:
    """Combines the norms of parts; those without a gradient add nothing.

    In float64: the square of a float32 norm may overflow float32.
    """
    present = norms != _probe.NO_GRADIENT
    squares = np.square(norms, dtype="float64")
    total = np.sqrt(np.sum(squares, axis=1, where=present))
    return np.where(present.any(axis=1), total, np.nan)


def _by_layer(norms: dict) -> dict:
    """Groups by the path of a variable up to its own name."""
    groups: dict = {}
    for path, norm in norms.items():
        layer = path.rpartition("/")[0] or path
        groups.setdefault(layer, []).append(norm)
    return groups
