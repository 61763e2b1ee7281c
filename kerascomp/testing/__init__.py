"""The contract that every component keeps, as functions to test yours with.

Each kind of component has its checks. A check takes a `Case`, which says how
to build the component and what to call it on, and fails with a message that
says what to do. With pytest:

    CASES = [Case(lambda **kwargs: MyLayer(units=3, **kwargs), inputs=IMAGES)]

    @pytest.mark.parametrize(
        ("case", "check"),
        [(case, check) for case in CASES for check in checks_for(case.kind)],
    )
    def test_keeps_the_contract(case, check):
        check(case)

The checks use Keras' public interface alone and run on every backend. They
set Keras' global seed.
"""

from collections.abc import Callable

from kerascomp import _registry, _validation
from kerascomp.testing import _functions, _layers, _losses, _metrics, _training
from kerascomp.testing._case import Case, untested_arguments

__all__ = ["Case", "CHECKS", "checks_for", "untested_arguments"]

CHECKS: dict[str, tuple[Callable[[Case], None], ...]] = {
    "layer": _layers.CHECKS,
    "loss": _losses.CHECKS,
    "metric": _metrics.CHECKS,
    "regularizer": _functions.REGULARIZER_CHECKS,
    "schedule": _functions.SCHEDULE_CHECKS,
    "callback": _training.CALLBACK_CHECKS,
    "optimizer": _training.OPTIMIZER_CHECKS,
    "initializer": _functions.INITIALIZER_CHECKS,
    "activation": _functions.ACTIVATION_CHECKS,
}


def checks_for(kind: str) -> tuple[Callable[[Case], None], ...]:
    """Lists the checks that a kind of component must pass.

    Args:
        kind: One of the keys of `CHECKS`, such as `"layer"`.

    Returns:
        Functions of a `Case`, named after what they check.

    Raises:
        ValueError: If there is no such kind.

    Examples:
        >>> checks_for("regularizer")[0].__doc__
        '`get_config` holds every argument of the constructor.'
    """
    _validation.one_of("kind", kind, _registry.KINDS)
    return CHECKS[kind]
