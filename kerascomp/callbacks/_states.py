"""Callbacks that steer the states of recurrent layers."""

from collections.abc import Iterator

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component


@component(since="0.1")
class ResetStates(keras.callbacks.Callback):
    """Forgets the states of stateful recurrent layers between sequences.

    Use it for truncated backpropagation through time, with the batches of
    `kerascomp.datasets.SequenceChunks`: states go on from chunk to chunk of a
    sequence, and start from 0 with the next one. The first batch of each epoch
    and of each validation always starts from 0. It works in `fit`, `evaluate`
    and `predict`, which take it as one of their `callbacks`.

    Args:
        every: After how many batches sequences end, at least 1: `chunks` of
            the data.
        validation_every: The same in validation and `evaluate`. None for
            `every`.

    Saved state:
        None. After training all states are 0.

    Raises:
        ValueError: At construction, if an argument is below 1; at the start,
            if no recurrent layer is stateful, or `steps_per_execution` does
            not divide the number of batches.

    Examples:
        >>> layer = keras.layers.SimpleRNN(3, stateful=True)
        >>> model = keras.Sequential(
        ...     [keras.Input(batch_shape=(2, 5, 1)), layer]
        ... )
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((4, 5, 1)), np.ones((4, 3))
        >>> reset = ResetStates(every=2)
        >>> log = model.fit(
        ...     x, y, batch_size=2, shuffle=False, callbacks=[reset], verbose=0
        ... )
        >>> float(keras.ops.sum(keras.ops.abs(layer.states[0])))
        0.0
    """

    def __init__(self, every: int, validation_every: int | None = None):
        super().__init__()
        _validation.at_least("every", every, 1)
        if validation_every is not None:
            _validation.at_least("validation_every", validation_every, 1)
        self.every = every
        self.validation_every = validation_every
        self._carried: _compat.CarriedStates | None = None
        self._runs = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._release()  # What an interrupted training left.
        self._start(self.every)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._start(self.validation_every or self.every)

    def on_predict_begin(self, logs: dict | None = None) -> None:
        self._start(self.every)

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        self._reset(batch, self.every)

    def on_test_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._reset(batch, self.validation_every or self.every)

    def on_predict_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        self._reset(batch, self.every)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._reset(0, 1)
        self._release()

    def on_test_end(self, logs: dict | None = None) -> None:
        self._end()

    def on_predict_end(self, logs: dict | None = None) -> None:
        self._end()

    def _start(self, every: int) -> None:
        self._check(every)
        self._runs += 1
        if self._carried is None:
            layers = [*_stateful(self._model)]
            self._carried = _compat.CarriedStates(layers)

    def _end(self) -> None:
        """Ends a run, which may be a validation within a training."""
        self._runs -= 1
        if self._runs <= 0:
            self._release()

    def _release(self) -> None:
        if self._carried is not None:
            self._carried.close()
        self._carried, self._runs = None, 0

    def _check(self, every: int) -> None:
        steps = self._model.steps_per_execution
        if every % steps:
            raise ValueError(
                "`steps_per_execution` must divide the number of batches "
                "after which states are reset: nothing can be done inside an "
                f"execution. Received: {every} batches, "
                f"steps_per_execution={steps}"
            )
        if not [*_stateful(self._model)]:
            raise ValueError(
                "The model must have a recurrent layer with `stateful=True`. "
                f"Received: model={self._model.name!r}"
            )

    def _reset(self, batch: int, every: int) -> None:
        if batch % every == 0:
            # `self.model` makes JAX read the variables anew.
            for layer in _stateful(self.model):
                layer.reset_state()


def _stateful(layer: keras.layers.Layer) -> Iterator[keras.layers.RNN]:
    """All stateful recurrent layers, however deep."""
    for each in _compat.sublayers(layer):
        if isinstance(each, keras.layers.RNN) and each.stateful:
            yield each
        else:
            yield from _stateful(each)
