"""One case for each component: how to build it, and what to call it on.

One file a module. No argument has its default value, no two axes have the same
length: a lost argument or a swapped axis would go unnoticed.
"""

from catalog import (
    activations,
    callbacks,
    layers,
    losses,
    metric_learning,
    metrics,
    preprocessing,
    regularizers,
    schedules,
)

CASES = [
    case
    for module in (
        activations,
        layers,
        losses,
        metric_learning,
        metrics,
        preprocessing,
        regularizers,
        schedules,
        callbacks,
    )
    for case in module.CASES
]
