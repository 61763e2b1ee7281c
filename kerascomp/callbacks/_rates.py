"""The learning rates of a model's optimizers, found and checked."""

from typing import Any

from kerascomp import _compat


def variables_of(model: Any, who: str) -> list:
    """Returns the variables of all learning rates of a model.

    Args:
        model: A compiled model.
        who: The callback, for the message.

    Raises:
        ValueError: If a rate is a schedule.
    """
    optimizers = _compat.optimizers_of(model.optimizer)
    variables = [_compat.learning_rate_variable(o) for o in optimizers]
    for optimizer, variable in zip(optimizers, variables, strict=True):
        if variable is None:
            raise ValueError(
                f"{who} sets the learning rate, but the optimizer has a "
                "schedule of its own. Compile with a number, for example "
                "`Adam(learning_rate=1e-3)`. Received: "
                f"optimizer={optimizer.name!r}"
            )
    return variables


def micro_steps_of(model: Any, who: str) -> int:
    """Returns how many steps of `fit` make an update.

    Raises:
        ValueError: If that differs between the optimizers of a model.
    """
    optimizers = _compat.optimizers_of(model.optimizer)
    counts = {o.gradient_accumulation_steps or 1 for o in optimizers}
    if len(counts) > 1:
        raise ValueError(
            f"{who} counts updates, of which the optimizers of a "
            "MultiOptimizer make different numbers. Give all of them the "
            "same `gradient_accumulation_steps`. Received: "
            f"gradient_accumulation_steps={sorted(counts)}"
        )
    return counts.pop()
