"""Cases of activations."""

from catalog.inputs import FEATURES
from kerascomp import activations
from kerascomp.testing import Case

CASES = [
    Case(lambda: activations.sparsemax, FEATURES),
    Case(lambda: activations.entmax15, FEATURES),
    Case(lambda: activations.lisht, FEATURES),
    Case(lambda: activations.rrelu, FEATURES),
    Case(lambda: activations.snake, FEATURES),
    Case(
        lambda: activations.squared_relu,
        FEATURES,
        xfail={
            "check_finite_for_large_input": (
                "the square of 10,000 is beyond float16, as documented"
            )
        },
    ),
]
