"""Cases of callbacks."""

from kerascomp import callbacks
from kerascomp.testing import Case

CASES = [
    Case(lambda: callbacks.GradientNormMonitor(per_layer=False, every=2)),
]
