"""A callback that averages weights over the end of training."""

import warnings
from typing import Any

import numpy as np

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _batches

ops = keras.ops


@component(since="0.1")
class StochasticWeightAveraging(keras.callbacks.Callback):
    """Ends training with the mean of the weights of its last epochs.

    Use it to finish: the mean of weights along the way, at a rate that keeps
    them moving, lies in a flatter region than any of them and often predicts
    better. From `start_epoch` on, every `period_epochs`, the weights at the
    end of an epoch enter the mean, each with the same weight, in float64 on
    the host. Until training ends, the optimizer and the weights that it trains
    are left alone, and so are the metrics that `fit` reports; then the mean
    takes the weights' place. `keras.optimizers` offer `use_ema`, which
    forgets; this does not.

    The moving statistics of `BatchNormalization` belong to no mean of weights,
    so they are computed anew: one pass over `data` in training mode gives each
    layer the mean and the variance of all of it, the variance between batches
    included. Nothing of how long ago a batch was seen enters. Layers that are
    frozen keep theirs. Deeper ones see what those before them make of each
    batch, as in training, so large batches serve best. The pass changes no
    other state.

    Args:
        start_epoch: The first epoch whose weights count, from 0 as in Keras.
        period_epochs: How many epochs lie between two weights of the mean, at
            least 1.
        data: What the pass goes through, usually the training data: `x`, or
            `(x, y)`; or batches of these, as a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or a `DataLoader`. Needed if the model has
            `BatchNormalization`.
        batch_size: Samples in a batch of the pass, if `data` is arrays.
        learning_rate: A constant rate from `start_epoch` on, instead of that
            of the optimizer; after training it is given back. None changes
            nothing.

    Attributes:
        averaged: How many weights the mean is of, in the current or last `fit`.

    Saved state:
        None. A checkpoint written meanwhile holds the weights that train, not
        the mean, which is in the model once `fit` returns: save it then. A
        run that is resumed starts a new mean. With
        `EarlyStopping(restore_best_weights=True)`, whichever of the two comes
        last in `callbacks` has the last word.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if `start_epoch` lies beyond its `epochs`, if the
            model has `BatchNormalization` and `data` is missing, or if there
            is a `learning_rate` to set and the optimizer has a schedule.

    Examples:
        >>> dense = keras.layers.Dense(1, use_bias=False, name="dense")
        >>> model = keras.Sequential([keras.Input((1,)), dense])
        >>> model.compile(keras.optimizers.SGD(0.5), "mae")
        >>> dense.set_weights([np.array([[0.0]])])
        >>> swa = StochasticWeightAveraging(start_epoch=1)
        >>> # Steps of 0.5 towards 9: the weights are 0.5, 1 and 1.5.
        >>> x, y = np.ones((1, 1)), np.array([[9.0]])
        >>> log = model.fit(x, y, epochs=3, callbacks=[swa], verbose=0)
        >>> swa.averaged, float(dense.get_weights()[0][0, 0])
        (2, 1.25)

    Reference:
        Izmailov et al., 2018, [Averaging weights leads to wider optima and
        better generalization](https://arxiv.org/abs/1803.05407), algorithm 1.
        The variance between batches is added.
    """

    def __init__(
        self,
        start_epoch: int,
        period_epochs: int = 1,
        data: Any = None,
        batch_size: int = 32,
        learning_rate: float | None = None,
    ):
        super().__init__()
        _validation.at_least("start_epoch", start_epoch, 0)
        _validation.at_least("period_epochs", period_epochs, 1)
        _validation.at_least("batch_size", batch_size, 1)
        if data is not None:
            _batches.check("data", data)
        if learning_rate is not None:
            _validation.in_interval("learning_rate", learning_rate, "(0, inf)")
        self.start_epoch = start_epoch
        self.period_epochs = period_epochs
        self.data = data
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.averaged = 0
        self._mean: list[np.ndarray] = []
        self._found: list[tuple[Any, float]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._give_back_rates()
        self.averaged, self._mean = 0, []
        epochs = self.params["epochs"]
        if self.start_epoch >= epochs:
            raise ValueError(
                "`start_epoch` must be less than the `epochs` of fit. "
                f"Received: start_epoch={self.start_epoch}, epochs={epochs}"
            )
        if self.data is None and _normalizations(self._model):
            raise ValueError(
                "StochasticWeightAveraging needs `data` to compute the "
                "statistics of BatchNormalization from. Received: data=None"
            )
        self._state = _compat.OptimizerState(self._model)
        self._rates = [] if self.learning_rate is None else self._variables()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        rate = self.learning_rate
        if rate is None or epoch < self.start_epoch or self._found:
            return
        self._found = [
            (variable, float(ops.convert_to_numpy(variable)))
            for variable in self._rates
        ]
        self._state.assign(self._rates, rate)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        since = epoch - self.start_epoch
        if since < 0 or since % self.period_epochs:
            return
        weights = [
            ops.convert_to_numpy(variable).astype("float64")
            for variable in self.model.trainable_variables
        ]
        self.averaged += 1
        if self.averaged == 1:
            self._mean = weights
            return
        for mean, new in zip(self._mean, weights, strict=True):
            mean += (new - mean) / self.averaged

    def on_train_end(self, logs: dict | None = None) -> None:
        self._state.close()
        self._give_back_rates()
        if not self.averaged:
            warnings.warn(
                "StochasticWeightAveraging averaged nothing: training stopped "
                f"before epoch {self.start_epoch} ended.",
                stacklevel=2,
            )
            return
        model = self.model
        for variable, mean in zip(
            model.trainable_variables, self._mean, strict=True
        ):
            variable.assign(mean.astype(variable.dtype))
        self._mean = []
        layers = _normalizations(model)
        if layers:
            _recompute(model, layers, self.data, self.batch_size)

    def _variables(self) -> list:
        variables = [
            _compat.learning_rate_variable(optimizer)
            for optimizer in _compat.optimizers_of(self._model.optimizer)
        ]
        if any(variable is None for variable in variables):
            raise ValueError(
                "StochasticWeightAveraging cannot set the learning rate of an "
                "optimizer that has a schedule. Compile with a number, or "
                "leave `learning_rate` out. "
                f"Received: learning_rate={self.learning_rate}"
            )
        return variables

    def _give_back_rates(self) -> None:
        for variable, value in self._found:
            variable.assign(value)
        self._found = []


def _normalizations(model: Any) -> list:
    """Returns all layers with moving statistics that training updates."""
    found: dict[int, Any] = {}
    for layer in _compat.flattened(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            found[id(layer)] = layer
    return [layer for layer in found.values() if layer.trainable]


class _BatchStatistics(keras.Model):
    """Returns the mean and the variance of a batch in each of some layers."""

    def __init__(self, model: Any, layers: list):
        super().__init__(name="batch_statistics")
        self.trained = model
        self.normalizations = layers

    def call(self, inputs: Any) -> list:
        self.trained(inputs, training=True)
        return [
            [
                ops.convert_to_tensor(layer.moving_mean),
                ops.convert_to_tensor(layer.moving_variance),
            ]
            for layer in self.normalizations
        ]


def _recompute(model: Any, layers: list, data: Any, batch_size: int) -> None:
    """Gives layers the mean and variance of their inputs over all data."""
    kept = [(v, ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    momenta = [layer.momentum for layer in layers]
    count = 0
    sums: list[list[Any]] = [[0.0, 0.0] for _ in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0  # Moving statistics become the batch's own.
        # Made afterwards: compiling takes the momentum as it is.
        program = _BatchStatistics(model, layers)
        for x, *_ in _batches.batches(data, batch_size):
            size = _batches.size_of(x)
            count += size
            for both, found in zip(
                sums, program.predict_on_batch(x), strict=True
            ):
                mean, variance = (np.asarray(f, "float64") for f in found)
                both[0] += size * mean
                both[1] += size * (variance + mean**2)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for variable, value in kept:
            variable.assign(value)
    for layer, both in zip(layers, sums, strict=True):
        first, second = (total / count for total in both)
        layer.moving_mean.assign(first.astype("float32"))
        variances = np.maximum(second - first**2, 0)
        layer.moving_variance.assign(variances.astype("float32"))
