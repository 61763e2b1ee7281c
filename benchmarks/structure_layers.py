"""What do layers of structure cost beside Keras or the direct formula?

Measured and printed as by `components.py`.

    KERAS_BACKEND=jax python benchmarks/structure_layers.py
"""

import components
import keras
import numpy as np
from components import normal, ops, row

import kerascomp as kc

OTHERS = len(components.ROWS)


def layer_row(name, peer, layer, direct, *arrays):
    """Registers a layer, in training, beside a function of its inputs."""

    def make():
        layer(arrays[0] if len(arrays) == 1 else [*arrays])
        state = [v.value for v in layer.non_trainable_variables]
        weights = [v.value for v in layer.trainable_variables]

        def ours(*x):
            x = x[0] if len(x) == 1 else [*x]
            y, _ = layer.stateless_call(weights, state, x)
            return ops.sum(y[0] if isinstance(y, list) else y)

        return [*arrays], ours, lambda *x: ops.sum(direct(*x))

    row(name, peer)(make)


IMAGES = normal(32, 32, 32, 64)
POOLED, PLACES = map(
    ops.convert_to_numpy, kc.layers.MaxPoolingWithIndices2D()(IMAGES)
)
KERNEL = np.outer([1, 2, 1], [1, 2, 1]).astype("float32")[..., None, None] / 16


def direct_blur(x):
    """As a depthwise convolution."""
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    kernel = ops.tile(ops.convert_to_tensor(KERNEL), (1, 1, 64, 1))
    return ops.depthwise_conv(x, kernel, strides=2)


def direct_unpooling(x, places):
    """As a scatter to the flat image, without a sum over equal places."""
    batch, height, width, channels = x.shape
    samples = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1))
    places = (samples * 4 * height * width + places) * channels
    places = places + ops.arange(channels, dtype="int32")
    size = batch * 4 * height * width * channels
    x, places = ops.reshape(x, (-1,)), ops.reshape(places, (-1,))
    if keras.backend.backend() == "torch":  # Keras scatters by a loop there.
        flat = ops.segment_sum(x, places, size)
    else:
        flat = ops.scatter(places[:, None], x, (size,))
    return ops.reshape(flat, (batch, 2 * height, 2 * width, channels))


def direct_mean(x, p):
    """By powers, which overflow; the exponent is a weight, and no constant."""
    powers = ops.mean(ops.power(ops.maximum(x, 1e-6), p), axis=(1, 2))
    return ops.power(powers, 1 / p)


@row("GeneralizedMeanPooling, 32 x 32 x 32 x 64", "powers")
def _generalized_mean():
    layer = kc.layers.GeneralizedMeanPooling()
    layer.build(IMAGES.shape)

    def ours(x, p):
        return ops.sum(layer.stateless_call([p], [], x)[0])

    return (
        [IMAGES, np.float32(3.0)],
        ours,
        lambda x, p: ops.sum(direct_mean(x, p)),
    )


layer_row(
    "MaxPoolingWithIndices2D, 32 x 32 x 32 x 64",
    "MaxPooling2D, no indices",
    kc.layers.MaxPoolingWithIndices2D(),
    keras.layers.MaxPooling2D(),
    IMAGES,
)
layer_row(
    "MaxUnpooling2D, 32 x 16 x 16 x 64",
    "scatter to flat places",
    kc.layers.MaxUnpooling2D(),
    direct_unpooling,
    POOLED,
    PLACES,
)
layer_row(
    "BlurPooling2D, 32 x 32 x 32 x 64",
    "depthwise convolution",
    kc.layers.BlurPooling2D(),
    direct_blur,
    IMAGES,
)
layer_row(
    "SubpixelUpsampling2D, 32 x 32 x 32 x 64",
    "UpSampling2D of 16 channels",
    kc.layers.SubpixelUpsampling2D(),
    lambda x: keras.layers.UpSampling2D()(x[..., :16]),
    IMAGES,
)

if __name__ == "__main__":
    components.main(components.ROWS[OTHERS:])
