"""Cases of regularizers."""

from catalog.inputs import KERNEL
from kerascomp import regularizers
from kerascomp.testing import Case

CASES = [
    Case(lambda: regularizers.ScaledL2(factor=0.7, num_samples=9), KERNEL),
]
