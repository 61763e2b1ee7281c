"""Cases of layers."""

import keras

from catalog.inputs import FEATURES, IMAGES
from kerascomp import layers
from kerascomp.testing import Case

SCHEDULE = keras.optimizers.schedules.PiecewiseConstantDecay
BATCH = {
    "momentum": 0.9,
    "epsilon": 1e-2,
    "beta_initializer": "ones",
    "gamma_initializer": keras.initializers.Constant(0.5),
}


def dense(units, **kwargs):
    """A layer of the dtype that its wrapper is given."""
    return keras.layers.Dense(
        units, activation="tanh", dtype=kwargs.get("dtype"), name="inner"
    )


CASES = [
    Case(lambda **k: layers.DropPath(rate=0.4, seed=3, **k), FEATURES),
    Case(
        lambda **k: layers.DropPath(
            rate=0.4, scale_at_inference=True, seed=3, **k
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.CosineDense(
            units=3,
            kernel_initializer="he_normal",
            kernel_regularizer="l2",
            kernel_constraint="non_neg",
            **k,
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.DropBlock1D(
            rate=0.4,
            block_size=2,
            shared=True,
            data_format="channels_first",
            seed=3,
            **k,
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.DropBlock2D(
            rate=0.4,
            block_size=(2, 3),
            shared=True,
            data_format="channels_first",
            seed=3,
            **k,
        ),
        IMAGES,
    ),
    Case(
        lambda **k: layers.MonteCarloDropout(
            rate=0.4, noise_shape=(None, 1, None), seed=3, **k
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.ConcreteDropout(
            dense(3, **k),
            weight_factor=1e-3,
            entropy_factor=1e-2,
            initial_rate=0.3,
            temperature=0.2,
            seed=3,
            **k,
        ),
        FEATURES,
        xfail={
            "check_attributes_hold_no_tensors": (
                "Keras keeps the losses of the last call in an attribute"
            )
        },
    ),
    Case(
        lambda **k: layers.Zoneout(
            # Keras' LSTMCell refuses empty batches on TensorFlow.
            keras.layers.GRUCell(3, dtype=k.get("dtype"), name="inner"),
            rate=(0.3,),
            seed=3,
            **k,
        ),
        FEATURES[:, 0],
        xfail={
            "check_computed_shape_equals_eager_shape": (
                "a cell returns its states in a list beside its output"
            )
        },
    ),
    Case(
        lambda **k: layers.NoisyDense(
            units=3,
            factorized=False,
            deviation=0.3,
            activation="tanh",
            use_bias=False,
            seed=3,
            **k,
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.GradientReversal(
            factor=SCHEDULE([1, 2], [0.5, 0.7, 0.9]), ramp_steps=3, **k
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.WeightNormalization(dense(3, **k), axis=(0, 1), **k),
        FEATURES,
    ),
    Case(
        lambda **k: layers.WeightStandardization(
            dense(3, **k), axis=0, epsilon=1e-2, **k
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.FilterResponseNormalization(
            axis=1,
            epsilon=1e-3,
            learned_epsilon=True,
            beta_initializer="ones",
            gamma_initializer=keras.initializers.Constant(0.5),
            beta_regularizer="l2",
            gamma_regularizer="l1",
            **k,
        ),
        IMAGES,
    ),
    Case(
        lambda **k: layers.BatchRenormalization(
            r_max=SCHEDULE([1], [1.5, 2.0]), d_max=2.0, axis=1, **BATCH, **k
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.BatchRenormalization(r_max=2.0, d_max=0.5, **k),
        FEATURES,
    ),
    Case(
        lambda **k: layers.GhostBatchNormalization(
            virtual_batch_size=2, axis=-2, **BATCH, **k
        ),
        FEATURES,
    ),
    Case(lambda **k: layers.RReLU(lower=0.2, upper=0.5, seed=3, **k), FEATURES),
    Case(
        lambda **k: layers.Snake(
            axis=1,
            frequency_initializer="random_uniform",
            frequency_regularizer="l2",
            frequency_constraint="non_neg",
            **k,
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.TLU(
            axis=1,
            threshold_initializer="random_normal",
            threshold_regularizer="l2",
            threshold_constraint="non_neg",
            **k,
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.Maxout(units=2, axis=1, strided=True, **k),
        FEATURES,
        xfail={
            "check_symbolic_shape_covers_eager_shape": (
                "the groups need to know the number of features"
            )
        },
    ),
]
