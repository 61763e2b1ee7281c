"""Keeps states of recurrent cells at random."""

from typing import Any

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.layers import _kernels

ops = keras.ops

# Bytes of the state that says where in the noise a step is: two count the
# steps, two are a key. States are cast to the compute dtype, and bytes are
# exact in all of them.
_BYTES = 4


@component(since="0.1")
class Zoneout(keras.layers.Layer):
    """Keeps units of a recurrent state as they were, at random in training.

    Use it as `keras.layers.RNN(Zoneout(keras.layers.LSTMCell(64), 0.1))`, where
    dropout of the state would make the network forget. In training, each unit
    of each sample keeps its old state in a step with the probability `rate`;
    in inference the new state is the mean of both,

        rate * old + (1 - rate) * new

    With `rate = 0` it is the cell alone. An output that is the cell's first
    state, as of Keras' cells, is that after zoneout.

    The cell has one state more, `(batch, 4)`, the last: the place in the
    noise, which every call of the RNN draws anew. So noise differs by step on
    every backend, and `return_state=True` returns it with the others.

    Args:
        cell: A cell for `keras.layers.RNN`, without dropout of its own.
        rate: Probability in [0, 1] to keep a unit; one number, or one for each
            state of the cell, such as `(0.05, 0.5)` for an LSTM's output and
            memory.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, features)`, float: one step.
        states: The cell's states, and the place in the noise. None for those
            before the first step.
        training: Whether to draw units.

    Returns:
        The output of the cell, and its states.

    Masking:
        Is not passed on: a cell has none. `keras.layers.RNN` sees to masks.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If `rate` lies outside [0, 1] or has another length than
            there are states, or the cell is a stack of cells, no cell, or has
            dropout.

    Examples:
        >>> cell = Zoneout(keras.layers.LSTMCell(3), rate=(0.05, 0.5), seed=1)
        >>> rnn = keras.layers.RNN(cell, return_sequences=True)
        >>> tuple(rnn(np.ones((2, 4, 5)), training=True).shape)
        (2, 4, 3)

    Reference:
        Krueger et al., 2017, [Zoneout](https://arxiv.org/abs/1606.01305),
        section 3.
    """

    def __init__(
        self, cell: Any, rate: Any = 0.1, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if isinstance(cell, dict):  # As a saved model has it.
            cell = keras.saving.deserialize_keras_object(cell)
        self._sizes = _state_sizes(cell)
        self._rates = _rates(rate, len(self._sizes))
        self.cell = cell
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.state_size = [*self._sizes, _BYTES]
        self.output_size = getattr(cell, "output_size", self._sizes[0])

    def build(self, input_shape: Any) -> None:
        if not self.cell.built:
            self.cell.build(input_shape)
            self.cell.built = True

    def call(
        self, inputs: Any, states: Any = None, training: bool = False
    ) -> Any:
        if states is None:
            states = self.get_initial_state(ops.shape(inputs)[0])
        *old, place = states
        arguments = {}
        if _compat.takes_training(self.cell):
            arguments["training"] = training
        output, new = self.cell(inputs, old, **arguments)
        new = [*new] if isinstance(new, list | tuple) else [new]
        mixed = self._mixed(old, new, place, training)
        if output is new[0]:
            output = mixed[0]
        return output, [*mixed, _next(place)]

    def get_initial_state(self, batch_size: Any = None) -> list:
        """Returns the states before the first step, with noise of their own."""
        make = getattr(self.cell, "get_initial_state", None)
        if make is None:
            states = [
                ops.zeros((batch_size, size), dtype=self.cell.compute_dtype)
                for size in self._sizes
            ]
        else:
            states = make(batch_size=batch_size)
        states = [*states] if isinstance(states, list | tuple) else [states]
        place = keras.random.randint(
            (1, _BYTES), 0, 256, seed=self.seed_generator
        )
        place = ops.cast(place, self.compute_dtype)
        return [*states, place + ops.zeros_like(states[0][:, :1])]

    def compute_output_shape(
        self,
        inputs_shape: Any,
        states_shape: Any = None,  # noqa: ARG002
    ) -> Any:
        batch = inputs_shape[0]
        return (batch, self.output_size), [(batch, n) for n in self.state_size]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cell": _kernels.config_of(self.cell),
            "rate": self.rate,
            "seed": self.seed,
        }

    def _mixed(self, old: list, new: list, place: Any, training: bool) -> list:
        if not training:
            return [
                n + rate * (o - n) if rate else n
                for o, n, rate in zip(old, new, self._rates, strict=True)
            ]
        draws = self._draws(new, place)
        return [
            ops.where(draw < rate, o, n) if rate else n
            for o, n, rate, draw in zip(
                old, new, self._rates, draws, strict=True
            )
        ]

    def _draws(self, states: list, place: Any) -> list:
        """Returns numbers in [0, 1), by the place in the noise alone.

        A loop over steps must not update variables on JAX: so the generator
        is set for each draw, inside a scope that leaves it alone.
        """
        low, high, *key = ops.unstack(ops.cast(place, "int32"), _BYTES, axis=-1)
        # Masked samples stand still: the sum moves as long as any one does.
        seed = ops.stack(
            [ops.sum(low + 256 * high), ops.sum(key[0] + 256 * key[1])]
        )
        state = self.seed_generator.state
        width = sum(self._sizes)
        with keras.StatelessScope([(state, ops.cast(seed, state.dtype))]):
            noise = keras.random.uniform(
                (ops.shape(place)[0], width), seed=self.seed_generator
            )
        ends = [sum(self._sizes[: i + 1]) for i in range(len(states))]
        return [
            noise[:, end - size : end]
            for end, size in zip(ends, self._sizes, strict=True)
        ]


def _next(place: Any) -> Any:
    """Counts a step, in two bytes."""
    low, high, *key = ops.unstack(place, _BYTES, axis=-1)
    low = low + 1
    full = low >= 256
    zeros = ops.zeros_like(low)
    high = ops.where(full, high + 1, high)
    return ops.stack(
        [
            ops.where(full, zeros, low),
            ops.where(high >= 256, zeros, high),
            *key,
        ],
        axis=-1,
    )


def _state_sizes(cell: Any) -> list[int]:
    sizes = getattr(cell, "state_size", None)
    several: list = [*sizes] if isinstance(sizes, list | tuple) else [sizes]
    stacked = isinstance(cell, keras.layers.StackedRNNCells)
    if stacked or not all(isinstance(size, int) for size in several):
        raise ValueError(
            "`cell` must be a cell for keras.layers.RNN; wrap each cell of a "
            f"stack by itself. Received: cell={cell!r}"
        )
    for name in ("dropout", "recurrent_dropout"):
        if getattr(cell, name, 0):
            raise ValueError(
                f"`cell` must have no dropout of its own, which keeps noise "
                f"between the steps. Received: {name}={getattr(cell, name)}"
            )
    return several


def _rates(rate: Any, count: int) -> tuple[float, ...]:
    several = isinstance(rate, list | tuple)
    rates = tuple(rate) if several else (rate,) * count
    if len(rates) != count:
        raise ValueError(
            "`rate` must be one number, or one for each state of the cell, "
            f"{count}. Received: rate={rate!r}"
        )
    for each in rates:
        _validation.in_interval("rate", each, "[0, 1]")
    return rates
