"""Cases of layers."""

from catalog.inputs import FEATURES
from kerascomp import layers
from kerascomp.testing import Case

CASES = [
    Case(lambda **k: layers.DropPath(rate=0.4, seed=3, **k), FEATURES),
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
]
