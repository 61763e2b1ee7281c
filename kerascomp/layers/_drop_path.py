"""Drops residual branches at random."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class DropPath(keras.layers.Layer):
    """Drops the whole residual branch of a sample at random.

    Use it as the last layer of a residual branch, `x + DropPath(0.1)(f(x))`,
    to train very deep networks: a dropped sample skips the branch, so that the
    network is shorter for it. Also known as stochastic depth. It is
    `keras.layers.Dropout` with one draw for each sample instead of each
    element. In training, kept samples are divided by `1 - rate`, so that the
    expected output equals the input; in inference, and with `rate = 0`, the
    layer is the identity.

    Args:
        rate: Share of the samples to drop, in [0, 1).
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.
        training: Whether to drop. The identity when False.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If `rate` lies outside [0, 1).

    Examples:
        >>> layer = DropPath(rate=0.5, seed=1)
        >>> kept = layer(np.ones((1000, 2)), training=True)
        >>> sorted(set(keras.ops.convert_to_numpy(kept).ravel().tolist()))
        [0.0, 2.0]

    Reference:
        Huang et al., 2016, [Deep networks with stochastic
        depth](https://arxiv.org/abs/1603.09382), equation 2. Differs from it by
        scaling in training instead of in inference, and by one draw for each
        sample instead of each batch, as image models do today.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        _validation.in_interval("rate", rate, "[0, 1)")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        # One draw per sample, broadcast over all other axes.
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        keep = (
            keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        )
        # Not `*`: a dropped branch may be infinite, and 0 * inf is NaN.
        return ops.where(keep, inputs / (1 - self.rate), ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
