"""Drops regions of feature maps at random."""

from typing import Any

from kerascomp import _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


class DropBlock(keras.layers.Layer):
    """Drops blocks along as many axes as a subclass says."""

    rank: int

    def __init__(
        self,
        rate: float,
        block_size: Any,
        shared: bool = False,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.in_interval("rate", rate, "[0, 1)")
        several = isinstance(block_size, list | tuple)
        sizes = tuple(block_size) if several else (block_size,) * self.rank
        if len(sizes) != self.rank:
            raise ValueError(
                f"`block_size` must be an integer or {self.rank} of them. "
                f"Received: block_size={block_size!r}"
            )
        for size in sizes:
            _validation.at_least("block_size", size, 1)
        if data_format is not None:
            _validation.one_of(
                "data_format", data_format, ("channels_first", "channels_last")
            )
        self.rate = rate
        self.block_size = block_size
        self.shared = shared
        self.data_format = data_format
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self._sizes = sizes
        used = data_format or keras.config.image_data_format()
        self._channels_first = used == "channels_first"

    def build(self, input_shape: Any) -> None:
        self._require_room(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        return self.drop(inputs, self.rate)

    def drop(self, inputs: Any, rate: Any) -> Any:
        """Drops blocks at a rate that may be a tensor."""
        keep = self._kept(inputs, rate)
        # Of half precision, a sum over a batch would be far off.
        share = ops.mean(ops.cast(keep, "float32"))
        share = ops.where(share > 0, share, ops.ones_like(share))
        # Not `*`: what is dropped may be infinite, and 0 * inf is NaN.
        return ops.where(
            keep, inputs / ops.cast(share, inputs.dtype), ops.zeros_like(inputs)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rate": self.rate,
            "block_size": self.block_size,
            "shared": self.shared,
            "data_format": self.data_format,
            "seed": self.seed,
        }

    def _kept(self, inputs: Any, rate: Any) -> Any:
        """Draws the corners of blocks, and returns what no block covers."""
        shape = ops.shape(inputs)
        first = 2 if self._channels_first else 1
        lengths = shape[first : first + self.rank]
        channels = 1 if self.shared else shape[1 if first == 2 else -1]
        corners = [
            n - size + 1 for n, size in zip(lengths, self._sizes, strict=True)
        ]
        noise = keras.random.uniform(
            (shape[0], *corners, channels), seed=self.seed_generator
        )
        drawn = ops.cast(
            noise < rate * self._places(lengths, corners), "float32"
        )
        margins = [(size - 1, size - 1) for size in self._sizes]
        # TensorFlow pools channels last alone, on a CPU.
        covered = ops.max_pool(
            ops.pad(drawn, [(0, 0), *margins, (0, 0)]),
            self._sizes,
            strides=1,
            padding="valid",
            data_format="channels_last",
        )
        keep = covered == 0
        return ops.moveaxis(keep, -1, 1) if self._channels_first else keep

    def _places(self, lengths: Any, corners: Any) -> Any:
        """The share of corners in the places of blocks, by element."""
        share: Any = 1.0
        for n, places, size in zip(lengths, corners, self._sizes, strict=True):
            share = share * (
                ops.cast(n, "float32") / ops.cast(size * places, "float32")
            )
        return share

    def _require_room(self, input_shape: Any) -> None:
        if len(input_shape) != self.rank + 2:
            raise ValueError(
                f"{type(self).__name__} needs inputs with {self.rank + 2} "
                f"axes. Received: input_shape={tuple(input_shape)}"
            )
        first = 2 if self._channels_first else 1
        lengths = input_shape[first : first + self.rank]
        for length, size in zip(lengths, self._sizes, strict=True):
            if length is not None and length < size:
                raise ValueError(
                    "A block must fit into the input. Received: block_size="
                    f"{self.block_size}, input_shape={tuple(input_shape)}"
                )


@component(since="0.1")
class DropBlock1D(DropBlock):
    """Drops stretches of a sequence of features at random.

    Use it after convolutions, where `keras.layers.Dropout` does little: what
    it drops can be told from the neighbors. With `block_size = 1` it is
    Dropout, and `keras.layers.SpatialDropout1D` with the length of the input.
    What is left is divided by its share in the batch. In inference, and with
    `rate = 0`, the layer is the identity.

    Args:
        rate: Share of the features to drop, in [0, 1), but for the overlaps of
            blocks.
        block_size: Length of a block in steps, at least 1.
        shared: Whether all channels of a sample lose the same blocks.
        data_format: As in `keras.layers.Conv1D`.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, steps, channels)`, float.
        training: Whether to drop. The identity when False.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If an argument is out of its range; when it is built, if
            the input has another rank, or is shorter than a block.

    Examples:
        >>> layer = DropBlock1D(rate=0.3, block_size=4, seed=1)
        >>> y = layer(np.ones((2, 4, 3)), training=True)
        >>> y = keras.ops.convert_to_numpy(y)  # A block is all of a channel.
        >>> bool((y == y[:, :1]).all())
        True

    Reference:
        Ghiasi et al., 2018, [DropBlock](https://arxiv.org/abs/1810.12890),
        algorithm 1 and equation 1, along one axis.
    """

    rank = 1


@component(since="0.1")
class DropBlock2D(DropBlock):
    """Drops rectangles of feature maps at random.

    Use it after convolutions, where `keras.layers.Dropout` does little: what
    it drops can be told from the neighbors. With `block_size = 1` it is
    Dropout, and `keras.layers.SpatialDropout2D` with the size of the input.
    What is left is divided by its share in the batch. In inference, and with
    `rate = 0`, the layer is the identity. The paper raises the rate slowly
    while it trains; see `kerascomp.callbacks.DropoutSchedule`.

    Args:
        rate: Share of the features to drop, in [0, 1), but for the overlaps of
            blocks.
        block_size: Side of a block in pixels, at least 1, or a pair of them.
        shared: Whether all channels of a sample lose the same blocks.
        data_format: As in `keras.layers.Conv2D`.
        seed: Integer, or None for a seed that differs at every run.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, height, width, channels)`, float; with the channels
            second if `data_format` says so.
        training: Whether to drop. The identity when False.

    Returns:
        The shape and dtype of the input.

    Masking:
        Passes the mask on unchanged.

    Seed:
        One `keras.random.SeedGenerator` of the layer; saved with the model.

    Raises:
        ValueError: If an argument is out of its range; when it is built, if
            the input has another rank, or is smaller than a block.

    Examples:
        >>> layer = DropBlock2D(rate=0.3, block_size=4, seed=1)
        >>> y = layer(np.ones((2, 4, 4, 3)), training=True)
        >>> y = keras.ops.convert_to_numpy(y)  # A block is all of a channel.
        >>> bool((y == y[:, :1, :1]).all())
        True

    Reference:
        Ghiasi et al., 2018, [DropBlock](https://arxiv.org/abs/1810.12890),
        algorithm 1 and equation 1.
    """

    rank = 2
