"""Cases of layers that pool, upsample, cross, embed and augment."""

import numpy as np

from catalog.inputs import normal
from kerascomp import layers
from kerascomp.testing import Case

_rng = np.random.default_rng(11)

IMAGES = normal(2, 5, 7, 4)
CHANNELS_FIRST = normal(2, 4, 5, 7)
POSITIVE = np.exp(IMAGES)
SERIES = normal(3, 9, 4)
SPECTROGRAMS = normal(2, 11, 6, 3)
ITEMS = _rng.integers(0, 6, size=(3, 4, 5))
WEIGHTS = _rng.uniform(0.5, 2, size=(3, 4, 5)).astype("float32")
# Places in images of 8 x 10 and, by default, 6 x 10.
PLACES = _rng.permutation(60)[:24].reshape(1, 3, 2, 4).repeat(2, 0)
POOLED = [normal(2, 3, 2, 4), PLACES.astype("int32")]
POOLED_FIRST = [np.moveaxis(each, 3, 1).copy() for each in POOLED]

CASES = [
    *(
        Case(
            lambda data_format=data_format, padding=padding, **k: (
                layers.MaxPoolingWithIndices2D(
                    pool_size=(3, 2),
                    strides=(2, 3),
                    padding=padding,
                    data_format=data_format,
                    **k,
                )
            ),
            inputs,
        )
        for data_format, padding, inputs in (
            ("channels_last", "valid", IMAGES),
            ("channels_first", "same", CHANNELS_FIRST),
        )
    ),
    *(
        Case(
            lambda data_format=data_format, padding=padding, size=size, **k: (
                layers.MaxUnpooling2D(
                    pool_size=(3, 4),
                    strides=(2, 5),
                    padding=padding,
                    data_format=data_format,
                    output_size=size,
                    **k,
                )
            ),
            inputs,
        )
        for data_format, padding, size, inputs in (
            ("channels_last", "valid", (8, 10), POOLED),
            ("channels_first", "same", None, POOLED_FIRST),
        )
    ),
    *(
        Case(
            lambda data_format=data_format, pooling=pooling, **k: (
                layers.SpatialPyramidPooling2D(
                    bins=(1, (2, 3), 4),
                    pooling=pooling,
                    data_format=data_format,
                    **k,
                )
            ),
            inputs,
        )
        for data_format, pooling, inputs in (
            ("channels_last", "max", IMAGES),
            ("channels_first", "average", CHANNELS_FIRST),
        )
    ),
    *(
        Case(
            lambda data_format=data_format, each=each, **k: (
                layers.GeneralizedMeanPooling(
                    p=2.5,
                    per_channel=each,
                    epsilon=1e-3,
                    data_format=data_format,
                    **k,
                )
            ),
            inputs,
        )
        for data_format, each, inputs in (
            ("channels_last", False, POSITIVE),
            ("channels_first", True, CHANNELS_FIRST),
        )
    ),
    *(
        Case(
            lambda data_format=data_format, **k: layers.BlurPooling2D(
                kernel_size=4, strides=(2, 3), data_format=data_format, **k
            ),
            inputs,
        )
        for data_format, inputs in (
            ("channels_last", IMAGES),
            ("channels_first", CHANNELS_FIRST),
        )
    ),
    *(
        Case(
            lambda data_format=data_format, **k: layers.SubpixelUpsampling2D(
                size=(1, 4), data_format=data_format, **k
            ),
            inputs,
        )
        for data_format, inputs in (
            ("channels_last", IMAGES),
            ("channels_first", CHANNELS_FIRST),
        )
    ),
    *(
        Case(
            lambda data_format=data_format, **k: layers.SqueezeExcite(
                reduction=2,
                activation="tanh",
                gate="hard_sigmoid",
                use_bias=False,
                kernel_initializer="he_normal",
                data_format=data_format,
                **k,
            ),
            inputs,
        )
        for data_format, inputs in (
            ("channels_last", SERIES),
            ("channels_first", CHANNELS_FIRST),
        )
    ),
    *(
        Case(
            lambda full=full, **k: layers.PolynomialCrossing(
                full_matrix=full,
                use_bias=full,
                kernel_initializer="he_normal",
                bias_initializer="ones",
                kernel_regularizer="l2",
                **k,
            ),
            inputs,
        )
        for full, inputs in (
            (False, SERIES),
            (True, [SERIES, SERIES[::-1].copy()]),
        )
    ),
    *(
        Case(
            lambda combiner=combiner, **k: layers.EmbeddingBag(
                input_dim=6,
                output_dim=2,
                combiner=combiner,
                padding_index=3,
                embeddings_initializer="he_normal",
                embeddings_regularizer="l2",
                embeddings_constraint="non_neg",
                **k,
            ),
            inputs,
        )
        for combiner, inputs in (
            ("sqrtn", [ITEMS, WEIGHTS]),
            ("max", ITEMS),
        )
    ),
    Case(
        lambda **k: layers.RandomFourierFeatures(
            output_dim=6,
            kernel="laplacian",
            scale=2.0,
            trainable_scale=True,
            seed=3,
            **k,
        ),
        SERIES,
        xfail={
            "check_same_seed_gives_same_output": (
                "the seed decides weights, calls are not random"
            )
        },
    ),
    Case(
        lambda **k: layers.SinusoidalPositionEncoding(max_wavelength=50.0, **k),
        SERIES,
    ),
    Case(
        lambda **k: layers.SpecAugment(
            frequency_masks=1,
            frequency_width=3,
            time_masks=3,
            time_width=5,
            max_time_fraction=0.3,
            time_warp=2,
            value=0.5,
            seed=3,
            **k,
        ),
        SPECTROGRAMS,
    ),
    Case(lambda **k: layers.RandomJitter(factor=0.3, seed=3, **k), SERIES),
    Case(
        lambda **k: layers.RandomScaling(
            stddev=0.3, per_channel=False, seed=3, **k
        ),
        SERIES,
    ),
]
