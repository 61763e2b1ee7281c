"""Cells for `keras.layers.RNN`."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


class _LSTMCell(keras.layers.LSTMCell):
    """Keras' cell with its two sums open, for the cells below.

    A subclass, since Keras' layers give their dropout masks to cells of its
    own class alone.
    """

    def __init__(self, units: int, **kwargs: Any):
        _validation.at_least("units", units, 1)
        for name in ("dropout", "recurrent_dropout"):
            # Keras would clip it, and drop nothing at 1.
            _validation.in_interval(name, kwargs.get(name, 0.0), "[0, 1)")
        super().__init__(units, **kwargs)

    def call(
        self, inputs: Any, states: Any = None, training: bool = False
    ) -> Any:
        if states is not None:
            return self._step(inputs, states, training)
        # A step by itself: nobody else draws and forgets the masks.
        self._forget_masks()
        states = self.get_initial_state(batch_size=ops.shape(inputs)[0])
        try:
            return self._step(inputs, states, training)
        finally:
            self._forget_masks()

    def _forget_masks(self) -> None:
        self.reset_dropout_mask()
        self.reset_recurrent_dropout_mask()

    def _sums(
        self, inputs: Any, hidden: Any, training: bool
    ) -> tuple[list[Any], list[Any]]:
        """What input and state bring to each of the gates i, f, c, o."""
        masks = [
            self.get_dropout_mask(inputs) if training else None,
            self.get_recurrent_dropout_mask(hidden) if training else None,
        ]
        kernels = self.kernel, self.recurrent_kernel
        found = []
        for x, mask, kernel in zip(
            (inputs, hidden), masks, kernels, strict=True
        ):
            if isinstance(mask, list):  # One for each gate.
                parts = ops.split(kernel, 4, axis=1)
                pairs = zip(mask, parts, strict=True)
                found.append([ops.matmul(x * m, part) for m, part in pairs])
            else:
                x = x if mask is None else x * mask
                found.append(ops.split(ops.matmul(x, kernel), 4, axis=1))
        return found[0], found[1]

    def _step(self, inputs: Any, states: Any, training: bool) -> Any:
        raise NotImplementedError


def _serialized(cell: Any, names: tuple[str, ...]) -> dict[str, Any]:
    serialize = keras.saving.serialize_keras_object
    return {name: serialize(getattr(cell, name)) for name in names}


@component(since="0.1")
class LayerNormLSTMCell(_LSTMCell):
    """Normalizes what each step of an LSTM adds up.

    Use it in `keras.layers.RNN` for LSTMs that train faster and more evenly on
    long sequences. With LN_k three layer normalizations, of which the last has
    a bias besides its gain, and b the bias of the LSTM,

        i, f, g, o = LN_1(W x) + LN_2(U h) + b
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(LN_3(c'))

    where LN_1 and LN_2 run over all 4 gates together. The cell state that goes
    on to the next step is c', as in the paper. With `carry="normalized"` it
    is LN_3(c'), as in TensorFlow Addons. Without the normalizations it would
    be `keras.layers.LSTMCell`.

    Args:
        units: Number of units, at least 1.
        carry: `"raw"` or `"normalized"`: which cell state goes on.
        epsilon: Added to the variances, above 0.
        gamma_initializer: Of the gains.
        beta_initializer: Of the bias of LN_3.
        gamma_regularizer: As in `keras.layers.LayerNormalization`.
        gamma_constraint: As in `keras.layers.LayerNormalization`.
        **kwargs: As in `keras.layers.LSTMCell`: activations, initializers,
            regularizers and constraints, `use_bias`, `unit_forget_bias`,
            `dropout`, `recurrent_dropout`, `seed`.

    Call arguments:
        inputs: `(batch, features)`, float.
        states: Two of `(batch, units)`: hidden state and cell state. None for
            zeros.
        training: Whether to drop.

    Returns:
        The hidden state, `(batch, units)` in the compute dtype, and a list of
        the two new states.

    Masking:
        Not passed on: `keras.layers.RNN` skips masked steps and keeps masks.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> cell = LayerNormLSTMCell(4, dropout=0.1)
        >>> layer = keras.layers.RNN(cell, return_sequences=True)
        >>> tuple(layer(np.ones((2, 7, 3))).shape)
        (2, 7, 4)

    Reference:
        Ba et al., 2016, [Layer
        normalization](https://arxiv.org/abs/1607.06450), supplement, *LSTM*.
        Differs from it, and from TensorFlow Addons, in that LN_1 and LN_2 have
        no biases of their own, which would add to b.
    """

    def __init__(
        self,
        units: int,
        carry: str = "raw",
        epsilon: float = 1e-3,
        gamma_initializer: Any = "ones",
        beta_initializer: Any = "zeros",
        gamma_regularizer: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        _validation.one_of("carry", carry, ("raw", "normalized"))
        _validation.in_interval("epsilon", epsilon, "(0, inf)")
        self.carry = carry
        self.epsilon = epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.kernel_norm = self._norm("kernel_norm", center=False)
        self.recurrent_norm = self._norm("recurrent_norm", center=False)
        self.state_norm = self._norm("state_norm", center=True)

    def _norm(self, name: str, center: bool) -> Any:
        return keras.layers.LayerNormalization(
            epsilon=self.epsilon,
            center=center,
            gamma_initializer=self.gamma_initializer,
            beta_initializer=self.beta_initializer,
            gamma_regularizer=self.gamma_regularizer,
            gamma_constraint=self.gamma_constraint,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.kernel_norm.build((None, 4 * self.units))
        self.recurrent_norm.build((None, 4 * self.units))
        self.state_norm.build((None, self.units))

    def _step(self, inputs: Any, states: Any, training: bool) -> Any:
        hidden, cell = states
        of_input, of_state = self._sums(inputs, hidden, training)
        gates = self.kernel_norm(ops.concatenate(of_input, axis=-1))
        gates = gates + self.recurrent_norm(ops.concatenate(of_state, axis=-1))
        if self.use_bias:
            gates = gates + self.bias
        i, f, g, o = ops.split(gates, 4, axis=-1)
        cell = self.recurrent_activation(f) * cell
        cell = cell + self.recurrent_activation(i) * self.activation(g)
        normalized = self.state_norm(cell)
        hidden = self.recurrent_activation(o) * self.activation(normalized)
        kept = cell if self.carry == "raw" else normalized
        return hidden, [hidden, kept]

    def get_config(self) -> dict[str, Any]:
        names = (
            "gamma_initializer",
            "beta_initializer",
            "gamma_regularizer",
            "gamma_constraint",
        )
        return {
            **super().get_config(),
            "carry": self.carry,
            "epsilon": self.epsilon,
            **_serialized(self, names),
        }


@component(since="0.1")
class PeepholeLSTMCell(_LSTMCell):
    """Lets the gates of an LSTM see its cell state.

    Use it in `keras.layers.RNN` where timing matters: a gate can tell how far
    the cell has counted. It is `keras.layers.LSTMCell` with

        i = sigmoid(... + p_i c),  f = sigmoid(... + p_f c),
        o = sigmoid(... + p_o c')

    where c is the cell state before the step, c' the one after it, and the
    products are by element. With `peephole_initializer="zeros"` it starts as
    `keras.layers.LSTMCell`.

    Args:
        units: Number of units, at least 1.
        peephole_initializer: Of the peephole weights, `(3, units)`: a row for
            each of i, f, o.
        peephole_regularizer: As in `keras.layers.LSTMCell`, of these weights.
        peephole_constraint: As in `keras.layers.LSTMCell`, of these weights.
        **kwargs: As in `keras.layers.LSTMCell`: activations, initializers,
            regularizers and constraints, `use_bias`, `unit_forget_bias`,
            `dropout`, `recurrent_dropout`, `seed`.

    Call arguments:
        inputs: `(batch, features)`, float.
        states: Two of `(batch, units)`: hidden state and cell state. None for
            zeros.
        training: Whether to drop.

    Returns:
        The hidden state, `(batch, units)` in the compute dtype, and a list of
        the two new states.

    Masking:
        Not passed on: `keras.layers.RNN` skips masked steps and keeps masks.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> layer = keras.layers.RNN(PeepholeLSTMCell(4))
        >>> tuple(layer(np.ones((2, 7, 3))).shape)
        (2, 4)

    Reference:
        Gers et al., 2002, [Learning precise timing with LSTM recurrent
        networks](https://www.jmlr.org/papers/v3/gers02a.html).
    """

    def __init__(
        self,
        units: int,
        peephole_initializer: Any = "glorot_uniform",
        peephole_regularizer: Any = None,
        peephole_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.peephole_regularizer = keras.regularizers.get(peephole_regularizer)
        self.peephole_constraint = keras.constraints.get(peephole_constraint)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.peepholes = self.add_weight(
            name="peepholes",
            shape=(3, self.units),
            initializer=self.peephole_initializer,
            regularizer=self.peephole_regularizer,
            constraint=self.peephole_constraint,
        )

    def _step(self, inputs: Any, states: Any, training: bool) -> Any:
        hidden, cell = states
        sums = zip(*self._sums(inputs, hidden, training), strict=True)
        i, f, g, o = (a + b for a, b in sums)
        if self.use_bias:
            biases = ops.split(self.bias, 4)
            i, f, g, o = (
                x + bias for x, bias in zip((i, f, g, o), biases, strict=True)
            )
        of_i, of_f, of_o = ops.unstack(ops.convert_to_tensor(self.peepholes))
        i = self.recurrent_activation(i + of_i * cell)
        f = self.recurrent_activation(f + of_f * cell)
        cell = f * cell + i * self.activation(g)
        o = self.recurrent_activation(o + of_o * cell)
        hidden = o * self.activation(cell)
        return hidden, [hidden, cell]

    def get_config(self) -> dict[str, Any]:
        names = (
            "peephole_initializer",
            "peephole_regularizer",
            "peephole_constraint",
        )
        return {**super().get_config(), **_serialized(self, names)}
