"""Cases of layers."""

from catalog.inputs import FEATURES
from kerascomp import layers
from kerascomp.testing import Case

CASES = [
    Case(lambda **k: layers.DropPath(rate=0.4, seed=3, **k), FEATURES),
]
