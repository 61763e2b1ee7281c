"""Callbacks that observe gradients on their way back through time."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _capture, _epochs

ops = keras.ops
tree = keras.tree

# First over last norm of a sequence: below, nothing is learned from its
# beginning; above, one step is ruled by it.
_VANISHING, _EXPLODING = 1e-3, 70.0


@component(since="0.1")
class GradientThroughTime(_epochs.EpochMonitor):
    """Shows how far back in time a recurrent layer learns.

    Use it where a recurrent network forgets the beginning of a sequence, or
    where its loss jumps. Measured is, on a fixed probe batch, the norm of the
    gradient of the loss with respect to the hidden state h_t at each time
    step t, as backpropagation through time computes it: over all samples and
    units, and including what passes through all later steps. Fitted to it is

        norm at t = c * decay^(steps that follow t)

    by least squares of the logarithms; norms of 0 are left out. A `decay`
    below 1 means gradients that vanish, above 1 ones that explode.

    Each epoch's logs get `time_decay` and `time_decay_max`, the smallest and
    the largest decay among the recurrent layers. In epochs without a
    measurement, they are NaN.

    Observed are `SimpleRNN`, `GRU`, `LSTM`, and `RNN` with a cell of yours,
    at any depth, also within `Bidirectional`. The state is the first of the
    cell: of an LSTM it is the output h, not the carry c. A cell whose output
    is its first state, as with all of Keras' own, is seen to pass a change of
    the state on to the output, too. Stacked cells in one layer and layers
    with convolutions are not observed. The model is called in inference mode,
    without dropout; the weights and the training are left alone.

    Args:
        probe_data: As in `CurvatureMonitor`.
        every: Measure every how many epochs, at least 1, beginning with the
            first.
        log_dir: As in `GradientNormMonitor`.

    Attributes:
        history: The record of the current or last `fit`: `history["epoch"]`,
            the epochs measured; `history["decay"]`, a dictionary from the
            path of each recurrent layer to its decays; and `history["norm"]`,
            one from `path/t` to the norms at time step t, in the order in
            which the layer goes through the sequence. All are NumPy arrays.
        norms: From the path of each recurrent layer to its norms, `(epochs
            measured, time steps)`.
        verdicts: From the path of each recurrent layer to what was last
            measured: `"vanishing"` if along the fitted line the norm falls to
            less than a thousandth over the sequence, `"exploding"` if it
            grows to more than 70 times, else `"steady"`.

    Saved state:
        None. After training, the model is what it was.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if the model cannot be called on the probe data,
            or has no recurrent layer that can be observed.

    Examples:
        >>> inputs = keras.Input((5, 1))
        >>> layer = keras.layers.SimpleRNN(1, activation="linear", name="rnn")
        >>> model = keras.Model(inputs, layer(inputs))
        >>> layer.set_weights([np.ones((1, 1)), np.array([[0.5]]), np.zeros(1)])
        >>> model.compile(keras.optimizers.SGD(0.0), "mse")
        >>> monitor = GradientThroughTime(
        ...     (np.ones((1, 5, 1)), np.zeros((1, 1)))
        ... )
        >>> x, y = monitor.probe_data
        >>> log = model.fit(x, y, callbacks=[monitor], verbose=0)
        >>> # The last state is 1.9375; each step before halves the gradient.
        >>> [round(float(norm), 4) for norm in monitor.norms["rnn"][0]]
        [0.2422, 0.4844, 0.9688, 1.9375, 3.875]
        >>> round(log.history["time_decay"][0], 3)
        0.5

    Reference:
        Pascanu et al., 2013, [On the difficulty of training recurrent neural
        networks](https://arxiv.org/abs/1211.5063); the thresholds are those of
        Zhang et al., 2021, [AutoTrainer](https://arxiv.org/abs/2002.04899), for
        layers.
    """

    logged = ("time_decay", "time_decay_max")
    plotted = "norm"
    quantity = "gradient norm"

    def __init__(
        self,
        probe_data: Any,
        every: int = 1,
        log_dir: str | os.PathLike | None = None,
    ):
        super().__init__(probe_data, every, log_dir)
        self._measured: dict[str, list[np.ndarray]] = {}

    @property
    def norms(self) -> dict[str, np.ndarray]:
        """The norms by layer, as the class describes them."""
        return {path: np.array(rows) for path, rows in self._measured.items()}

    @property
    def verdicts(self) -> dict[str, str]:
        """What was last measured, in a word for each layer."""
        found = {}
        for path, rows in self._measured.items():
            ratio = decay_of(rows[-1]) ** (len(rows[-1]) - 1)
            vanishing, exploding = ratio < _VANISHING, ratio > _EXPLODING
            found[path] = (
                "vanishing"
                if vanishing or not rows[-1].any()
                else "exploding"
                if exploding
                else "steady"
            )
        return found

    def _start(self, model: Any) -> None:
        self._measured = {}
        layers = recurrent_layers(model)
        if not layers:
            kinds = sorted({type(p).__name__ for _, p in _capture.parts(model)})
            raise ValueError(
                "GradientThroughTime needs a recurrent layer: SimpleRNN, GRU, "
                "LSTM, or RNN with a single cell. Received: a model of "
                f"{', '.join(kinds)}"
            )
        self._zeros: dict[str, Any] = {}

        def note(path: str, layer: Any, sequences: Any) -> Any:
            shape = (*sequences.shape[:2], _width(layer))
            self._zeros[path] = ops.zeros(shape, sequences.dtype)
            return self._zeros[path]

        with perturbed(layers, note):
            self._pure.outputs(self._pure.values(), self._batch.x)
        self._layers = layers
        self._program = _capture.backend_file().compiled(self._norms)

    def _measure(self, model: Any) -> dict[str, Any]:
        zeros = list(self._zeros.values())
        found = self._program(self._pure.values(), self._batch, zeros)
        backward = {path for path, layer in self._layers if layer.go_backwards}
        decays: dict[str, float] = {}
        norms: dict[str, float] = {}
        for path, steps in zip(self._zeros, found, strict=True):
            steps = ops.convert_to_numpy(steps).astype("float64")
            if path.partition("@")[0] in backward:
                steps = steps[::-1]
            self._measured.setdefault(path, []).append(steps)
            decays[path] = decay_of(steps)
            norms |= {f"{path}/{t}": norm for t, norm in enumerate(steps)}
        return {
            "time_decay": min(decays.values()),
            "time_decay_max": max(decays.values()),
            "decay": decays,
            "norm": norms,
        }

    def _norms(self, values: Any, batch: _capture.Batch, zeros: list) -> list:
        """What is compiled."""

        def loss(changes: list) -> Any:
            by_path = dict(zip(self._zeros, changes, strict=True))
            with perturbed(self._layers, lambda path, *_: by_path[path]):
                return self._pure.loss(values, batch)

        _, found = _capture.backend_file().gradients(loss, list(zeros))
        squares = [ops.square(ops.cast(g, "float32")) for g in found]
        return [ops.sqrt(ops.sum(s, axis=(0, 2))) for s in squares]


def decay_of(norms: np.ndarray) -> float:
    """Returns the factor by which norms change for a step further back.

    NaN if fewer than two are positive and finite.
    """
    ages = np.arange(len(norms))[::-1]
    good = np.isfinite(norms) & (norms > 0)
    if good.sum() < 2:
        return np.nan
    slope, _ = np.polyfit(ages[good], np.log(norms[good]), 1)
    return float(np.exp(slope))


def recurrent_layers(model: Any) -> list[tuple[str, Any]]:
    """Returns the layers that can be observed, by path."""
    return [
        (path, part)
        for path, part in _capture.parts(model)
        if isinstance(part, keras.layers.RNN)
        and not isinstance(part.cell, keras.layers.StackedRNNCells)
        and isinstance(_width(part), int)
    ]


def _width(layer: Any) -> Any:
    return tree.flatten(layer.cell.state_size)[0]


@contextlib.contextmanager
def perturbed(layers: list, change: Callable) -> Iterator[None]:
    """Adds to the state of recurrent layers at every time step.

    Args:
        layers: Pairs of path and layer.
        change: Takes the path, numbered from the second call on, the layer
            and its inputs; returns what is added, `(batch, time, units)`.
    """
    with contextlib.ExitStack() as stack:
        for path, layer in layers:
            replacement = {"call": _perturbed_call(path, layer, change)}
            stack.enter_context(_compat.replaced(vars(layer), replacement))
        yield


def _perturbed_call(path: str, layer: Any, change: Callable) -> Callable:
    calls = 0

    def call(
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        nonlocal calls
        calls += 1
        numbered = path if calls == 1 else f"{path}@{calls}"
        added = change(numbered, layer, sequences)
        if initial_state is None:
            initial_state = (
                layer.states
                if layer.stateful
                else layer.get_initial_state(ops.shape(sequences)[0])
            )
        # Not the layer's own class: its loop may be one fused operation.
        loop = keras.layers.RNN(
            _PerturbedCell(layer.cell),
            return_sequences=layer.return_sequences,
            return_state=layer.return_state,
            go_backwards=layer.go_backwards,
            unroll=layer.unroll,
            zero_output_for_mask=layer.zero_output_for_mask,
            dtype=layer.dtype_policy,
        )
        return loop(
            ops.concatenate([sequences, added], axis=-1),
            initial_state=initial_state,
            mask=mask,
            training=training,
        )

    return call


class _PerturbedCell(keras.layers.Layer):
    """A cell whose last inputs are added to its first state."""

    def __init__(self, cell: Any):
        super().__init__(dtype=cell.dtype_policy)
        self.cell = cell
        self.state_size = cell.state_size
        self.output_size = cell.output_size
        self.width = tree.flatten(cell.state_size)[0]
        self.built = True

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        added = inputs[..., -self.width :]
        output, states = self.cell(inputs[..., : -self.width], states)
        nested = isinstance(states, list | tuple)
        first, *rest = states if nested else [states]
        if output is first:
            output = output + added
        changed = first + added
        return output, [changed, *rest] if nested else changed
