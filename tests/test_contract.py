"""Every component keeps the contract of its kind."""

import pytest
from catalog import CASES

import kerascomp
from kerascomp.testing import checks_for, untested_arguments
from kerascomp.testing._training import CALLBACK_CHECKS


def _parameters():
    for number, case in enumerate(CASES):
        checks = {check.__name__: check for check in checks_for(case.kind)}
        unknown = case.xfail.keys() - checks.keys()
        assert not unknown, f"{case.name} has no {sorted(unknown)}"
        for name, check in checks.items():
            reason = case.xfail.get(name)
            marks = [pytest.mark.xfail(reason=reason)] if reason else []
            if check in CALLBACK_CHECKS:  # They train up to five times.
                marks.append(pytest.mark.extended)
            identity = f"{number}-{case.name}-{name.removeprefix('check_')}"
            yield pytest.param(case, check, id=identity, marks=marks)


@pytest.mark.parametrize(("case", "check"), [*_parameters()])
def test_keeps_the_contract(case, check):
    check(case)


def test_every_component_has_a_case():
    covered = {case.symbol for case in CASES}
    missing = [e.path for e in kerascomp.entries() if e.symbol not in covered]
    assert not missing, f"Add a Case to tests/catalog for {missing}"


def test_every_argument_is_given_another_value_than_its_default():
    untested = untested_arguments(CASES)
    assert not untested, f"Give these a value in tests/catalog: {untested}"
