"""On torch, members run their own steps.

Keras' torch optimizers update parameters in place, which `torch.func.vmap`
refuses, and without compilation there is nothing that a common step would
save.
"""

from typing import Any

from kerascomp.population import _program


class Program:
    """Says that there is no common step on this backend."""

    def __init__(self, *_: Any):
        raise _program.UnsupportedError(
            "Keras updates torch parameters in place, which cannot be "
            "vectorized"
        )
