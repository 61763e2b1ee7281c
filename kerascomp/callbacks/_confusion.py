"""A callback that keeps the confusion matrix of every epoch."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascomp import _validation, metrics
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _batches, _record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ops = keras.ops


@component(since="0.1")
class ConfusionMatrix(_record.Recorder):
    """Counts after each epoch which classes are taken for which.

    Use it to see what a falling loss does not tell: a class that is never
    predicted, or two that are told apart late. The model predicts the
    validation data once more at the end of an epoch. Counting is that of
    `kerascomp.metrics.ConfusionMatrix`.

    Args:
        data: What to predict: arrays `(x, y)` or `(x, y, sample_weight)`, or
            batches of these, as a `tf.data.Dataset` or a
            `keras.utils.PyDataset`. Labels are integers, or one-hot.
        class_names: A name for each class; None names them by number.
        threshold: Above which a single score means class 1. 0 for logits.
        batch_size: Samples in a batch, if `data` is arrays.
        every: Count after every how many epochs, at least 1.
        log_dir: As in `kerascomp.callbacks.GradientNormMonitor`.

    Attributes:
        matrices: `(epochs, classes, classes)`, float64: of each counted epoch
            the weight of samples of class i, by row, that were taken for
            class j.
        history: The same as a record: `history["epoch"]`; `history["recall"]`,
            a dictionary from each class to the share of its samples that were
            found, NaN if it has none; and `history["counts"]`, from
            `"cat as dog"`, true and predicted, to the counts.

    Saved state:
        None.

    Raises:
        ImportError: As in `kerascomp.callbacks.GradientNormMonitor`.
        ValueError: At construction, if an argument is out of its range or
            `data` has no labels; at the start of `fit`, if the model does not
            predict one score a class, or a label is no class. In batches, the
            latter shows at the end of the first epoch.

    Examples:
        >>> model = keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Softmax()]
        ... )
        >>> model.compile(loss="sparse_categorical_crossentropy")
        >>> x, y = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 0.0]]), [0, 1, 1]
        >>> confusion = ConfusionMatrix(
        ...     (x, np.array(y)), class_names=["cat", "dog"]
        ... )
        >>> log = model.fit(x, np.array(y), callbacks=[confusion], verbose=0)
        >>> confusion.matrices[-1].tolist()
        [[1.0, 0.0], [1.0, 1.0]]
        >>> confusion.history["counts"]["dog as cat"].tolist()
        [1.0]
    """

    plotted = "recall"
    quantity = "recall"
    log_scale = False

    def __init__(
        self,
        data: Any,
        class_names: Sequence[str] | None = None,
        threshold: float = 0.5,
        batch_size: int = 32,
        every: int = 1,
        log_dir: str | os.PathLike | None = None,
    ):
        super().__init__(log_dir)
        _batches.check("data", data)
        _validation.in_interval("threshold", threshold, "(-inf, inf)")
        _validation.at_least("batch_size", batch_size, 1)
        _validation.at_least("every", every, 1)
        names = None if class_names is None else [*class_names]
        if names is not None and len(set(names)) < max(len(names), 2):
            raise ValueError(
                "`class_names` must hold at least two names, all different. "
                f"Received: class_names={class_names!r}"
            )
        _first_batch(data, batch_size)
        self.data = data
        self.class_names = class_names
        self.threshold = threshold
        self.batch_size = batch_size
        self.every = every
        self._start()

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        self._start()
        model = self.model
        self._found: Any = model.predict_function
        x, *_ = _first_batch(self.data, self.batch_size)
        scores = model.predict_on_batch(x)
        self._names = self._checked_names(scores)
        if isinstance(self.data, tuple):  # Arrays, cheap to look through.
            _check_labels(self.data[1], len(self._names))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch % self.every == 0:
            self._epochs.append(epoch)
            self._matrices.append(self._count(self.model))
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._model.predict_function = self._found
        super().on_train_end(logs)

    @property
    def matrices(self) -> np.ndarray:
        """The matrices, as the class describes them."""
        count = len(self._names)
        return np.array(self._matrices).reshape(-1, count, count)

    @property
    def history(self) -> dict[str, Any]:
        """The record, as the class describes it."""
        matrices = self.matrices
        pairs = [*enumerate(self._names)]
        totals = matrices.sum(axis=2)
        recalls = np.full(totals.shape, np.nan)
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        np.divide(hits, totals, out=recalls, where=totals > 0)
        return {
            "epoch": np.array(self._epochs, "int64"),
            "recall": {name: recalls[:, row] for row, name in pairs},
            "counts": {
                f"{true} as {predicted}": matrices[:, row, column]
                for row, true in pairs
                for column, predicted in pairs
            },
        }

    def plot(self, name: str | None = None, epoch: int = -1) -> "Figure":
        """Returns a figure of a matrix, or of a series over the epochs.

        matplotlib is needed. Colors show the share of each true class.

        Args:
            name: As in `kerascomp.callbacks.GradientNormMonitor.plot`, to show
                the course of training; None shows a matrix.
            epoch: Which of `matrices`. -1 is the last.

        Raises:
            IndexError: If there is no such matrix.
        """
        if name is not None:
            return super().plot(name)
        from kerascomp.callbacks import _record_plot

        return _record_plot.draw_matrix(self.matrices[epoch], self._names)

    def _start(self) -> None:
        self._epochs: list[int] = []
        self._matrices: list[np.ndarray] = []
        self._names = [*(self.class_names or ())]

    def _checked_names(self, scores: Any) -> list[str]:
        if not hasattr(scores, "shape"):
            raise ValueError(
                "ConfusionMatrix works on models with one output. "
                f"Received: {len(scores)} outputs"
            )
        count = max(scores.shape[-1] if scores.ndim > 1 else 1, 2)
        names = [*(self.class_names or map(str, range(count)))]
        if len(names) != count:
            raise ValueError(
                "`class_names` must hold one name for each class. Received: "
                f"{len(names)} names, {count} classes"
            )
        return names

    def _count(self, model: Any) -> np.ndarray:
        metric = metrics.ConfusionMatrix(
            len(self._names), threshold=self.threshold, dtype="float32"
        )
        for x, y, weights in _batches.batches(self.data, self.batch_size):
            metric.update_state(y, model.predict_on_batch(x), weights)
        return ops.convert_to_numpy(metric.result()).astype("float64")


def _first_batch(data: Any, batch_size: int) -> tuple[Any, Any, Any]:
    x, y, weights = next(_batches.batches(data, batch_size))
    if y is None:
        raise ValueError(
            "`data` must hold labels: `(x, y)`, or batches of such. "
            f"Received: data={type(data).__name__}"
        )
    return x, y, weights


def _check_labels(y: Any, count: int) -> None:
    y = np.asarray(y)
    if y.ndim > 1 and y.shape[-1] == count:
        return  # One-hot.
    wrong = y[(y < 0) | (y >= count)]
    if wrong.size:
        raise ValueError(
            f"The labels in `data` must be classes in [0, {count}). "
            f"Received: {wrong.flat[0]!s}"
        )
