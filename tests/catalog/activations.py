"""Cases of activations."""

from catalog.inputs import FEATURES
from kerascomp import activations
from kerascomp.testing import Case

CASES = [Case(lambda: activations.sparsemax, FEATURES)]
