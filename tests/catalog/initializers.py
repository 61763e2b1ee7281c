"""Cases of initializers."""

from kerascomp import initializers
from kerascomp.testing import Case

CASES = [
    Case(lambda: initializers.Dirac(gain=0.7, groups=2), (3, 4, 5, 6)),
    Case(lambda: initializers.DeltaOrthogonal(gain=0.7, seed=3), (3, 4, 5, 6)),
    Case(
        lambda: initializers.ICNR(size=(2, 3), initializer="he_normal"),
        (3, 4, 5, 12),
    ),
]
