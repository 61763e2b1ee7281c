"""Drops residual branches at random."""

from typing import Any

from kerascomp import _compat, _validation
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
        scale_at_inference: Whether kept samples stay as they are in training,
            and all are multiplied by `1 - rate` in inference instead, as in
            the paper and in TensorFlow Addons. For weights trained that way.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ...)`, float.
        training: Whether to drop.

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
        scaling in training unless told otherwise, and by one draw for each
        sample instead of each batch, as image models do today.
    """

    def __init__(
        self,
        rate: float,
        scale_at_inference: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.in_interval("rate", rate, "[0, 1)")
        self.rate = rate
        self.scale_at_inference = scale_at_inference
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.rate == 0:
            return inputs
        if training:
            return self.drop(inputs, self.rate)
        if not self.scale_at_inference:
            return inputs
        return inputs * ops.cast(1 - self.rate, inputs.dtype)

    def drop(self, inputs: Any, rate: Any) -> Any:
        """Drops samples at a rate that may be a tensor."""
        # One draw per sample, broadcast over all other axes.
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        keep = keras.random.uniform(shape, seed=self.seed_generator) >= rate
        factor = ops.cast(keep, inputs.dtype)
        if not self.scale_at_inference:
            factor = factor * ops.cast(1 / (1 - rate), inputs.dtype)
        # A dropped branch may be infinite.
        return _compat.multiply_no_nan(inputs, factor)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rate": self.rate,
            "scale_at_inference": self.scale_at_inference,
            "seed": self.seed,
        }
