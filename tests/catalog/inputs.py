"""Arrays to call components on: no two axes have the same length."""

import tempfile

import numpy as np

_rng = np.random.default_rng(7)


def normal(*shape):
    """Standard normal numbers, the same in every run."""
    return _rng.normal(size=shape).astype("float32")


FEATURES = normal(3, 4, 5)
TARGETS, PREDICTIONS = normal(4, 3, 2), normal(4, 3, 2)
LABELS, LOGITS = _rng.integers(0, 5, size=(4, 3)), normal(4, 5, 3)
KERNEL = normal(2, 3, 5)
IMAGES = normal(3, 4, 5, 6)

# For what callbacks write; goes away with the process.
_FOLDER = tempfile.TemporaryDirectory(prefix="kerascomp-")
FOLDER = _FOLDER.name
