"""Cases of what tags and reads sequences."""

import keras
import numpy as np
from backend import NAME

from catalog.inputs import FEATURES, normal
from kerascomp import callbacks, layers, losses, metrics
from kerascomp.testing import Case

# Two tags, four steps: 2 + 2 + 4 rows of 2 + 1 columns. One step is masked.
SCORES = normal(5, 8, 3)
SCORES[..., 2] = 1
SCORES[1, 6, 2] = 0
TAGS = np.random.default_rng(3).integers(0, 2, size=(5, 4))
SWITCH = [[False, True], [True, True]]

NO_PACKED_TARGET = {
    "check_gradient_is_finite_at_the_kink": (
        "predictions are scores of chains, which no target equals"
    ),
}
# On JAX it is 0.
NO_GRADIENT = (
    {}
    if NAME == "jax"
    else {"check_one_fit_step_is_finite": "tags have no gradient"}
)
CELL = {
    "check_computed_shape_equals_eager_shape": (
        "like Keras' cells it leaves shapes to `keras.layers.RNN`"
    ),
}
LSTM = {
    "activation": "softsign",
    "recurrent_activation": "hard_sigmoid",
    "unit_forget_bias": False,
    "kernel_initializer": "he_normal",
    "recurrent_regularizer": "l2",
    "bias_constraint": "non_neg",
    "dropout": 0.3,
    "seed": 3,
}
ROW = FEATURES[:, 0]


STEPS, GOALS = normal(4, 3, 5), normal(4, 2)


def stateful():
    """A model with states, which takes batches of four alone, and data.

    The states have no effect: a model that was trained on has others.
    """
    layer = keras.layers.SimpleRNN(
        2,
        stateful=True,
        recurrent_initializer="zeros",
        recurrent_constraint=keras.constraints.MaxNorm(0.0),
    )
    inputs = keras.Input(batch_shape=(4, 3, 5))
    model = keras.Sequential([inputs, layer], name="stateful")
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), "mse")
    return model, STEPS, GOALS


CASES = [
    Case(
        lambda: callbacks.ResetStates(every=2, validation_every=3),
        stateful,
    ),
    Case(
        lambda **k: layers.CRF(
            units=2,
            use_boundary=False,
            transition_initializer="he_normal",
            transition_regularizer="l2",
            transition_constraint="non_neg",
            boundary_initializer="ones",
            **k,
        ),
        FEATURES,
    ),
    Case(
        lambda **k: layers.CRF(units=5, use_kernel=False, **k),
        FEATURES,
    ),
    Case(
        lambda **k: layers.ViterbiDecoder(allowed_transitions=SWITCH, **k),
        SCORES,
        xfail={
            "check_symbolic_shape_covers_eager_shape": (
                "the number of tags must be known"
            ),
            **NO_GRADIENT,
        },
    ),
    Case(
        lambda **k: losses.CRFNegativeLogLikelihood(**k),
        (TAGS, SCORES),
        xfail=NO_PACKED_TARGET,
    ),
    Case(
        lambda **k: metrics.ViterbiAccuracy(allowed_transitions=SWITCH, **k),
        (TAGS, SCORES),
    ),
    Case(
        lambda **k: layers.LayerNormLSTMCell(
            units=4,
            carry="normalized",
            epsilon=1e-2,
            gamma_initializer="he_normal",
            beta_initializer="ones",
            gamma_regularizer="l2",
            gamma_constraint="non_neg",
            **LSTM,
            **k,
        ),
        ROW,
        xfail=CELL,
    ),
    Case(
        lambda **k: layers.PeepholeLSTMCell(
            units=4,
            peephole_initializer="he_normal",
            peephole_regularizer="l2",
            peephole_constraint="non_neg",
            recurrent_dropout=0.4,
            **LSTM,
            **k,
        ),
        ROW,
        xfail=CELL,
    ),
]
