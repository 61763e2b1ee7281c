"""The checks of arguments."""

import numpy as np
import pytest

from kerascomp import _validation

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", (0, 0.5, 1), (-0.1, 1.1)),
        ("[0, 1)", (0, 0.999), (-1e-9, 1)),
        ("(0, 1]", (1e-9, 1), (0, 1.1)),
        ("(0, 1)", (0.5,), (0, 1)),
        ("[2, inf)", (2, 1e300), (1.9, np.inf)),
        ("(-inf, inf)", (-5, 0), (-np.inf, np.inf)),
    ],
)
def test_in_interval_knows_which_ends_belong(interval, inside, outside):
    for value in inside:
        _validation.in_interval("rate", value, interval)
    for value in (*outside, np.nan):
        with pytest.raises(ValueError, match="`rate` must be in") as error:
            _validation.in_interval("rate", value, interval)
        assert str(error.value) == (
            f"`rate` must be in {interval}. Received: rate={value!r}"
        )


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(1), np.float64(0)])
def test_in_interval_takes_numpy_numbers(value):
    _validation.in_interval("rate", value, "[0, 1]")


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5]])
def test_in_interval_refuses_what_is_no_number(value):
    with pytest.raises(TypeError, match="`rate` must be a number") as error:
        _validation.in_interval("rate", value, "[0, 1]")
    assert f"of type {type(value).__name__}" in str(error.value)


def test_at_least_takes_integers_from_the_minimum_on():
    for value in (3, 4, np.int32(3)):
        _validation.at_least("steps", value, 3)
    for value in (2, 3.0, True, "3", None):
        with pytest.raises(ValueError, match="integer of at least 3") as error:
            _validation.at_least("steps", value, 3)
        assert f"Received: steps={value!r}" in str(error.value)


def test_one_of_lists_the_choices():
    _validation.one_of("mode", "min", ("min", "max"))
    with pytest.raises(ValueError, match=r"one of 'min', 'max'\. Rec.*'auto'"):
        _validation.one_of("mode", "auto", ("min", "max"))


def test_one_of_reads_an_iterator_once():
    with pytest.raises(ValueError, match="one of 1, 2"):
        _validation.one_of("mode", 3, iter((1, 2)))


def test_at_most_one_names_what_was_given():
    _validation.at_most_one(epochs=None, steps=None)
    _validation.at_most_one(epochs=0, steps=None)
    with pytest.raises(ValueError, match="Pass at most one") as error:
        _validation.at_most_one(epochs=0, steps=3, hours=None)
    assert str(error.value) == (
        "Pass at most one of `epochs` and `steps` and `hours`. "
        "Received: epochs=0, steps=3"
    )
