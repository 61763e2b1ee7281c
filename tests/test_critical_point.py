"""Minimum, maximum, saddle and degenerate points, worked by hand."""

import dataclasses

import numpy as np
import pytest
from keras import ops

from kerascomp.callbacks import critical_point


def bowl(p):
    x, y, z = p[0], p[1], p[2]
    return x**2 + y**2 + z**2 + 2 * x + 4 * y - 6 * z


def test_worked_example():
    point = critical_point(bowl, [-1.0, -2.0, 3.0])
    assert point.kind == "minimum"
    assert point.value == -14
    assert point.gradient_norm == 0
    np.testing.assert_allclose(point.eigenvalues, [2, 2, 2], rtol=1e-6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.kind = "saddle"
    assert critical_point(lambda p: -bowl(p), point_of(bowl)).kind == "maximum"


def point_of(_):
    return np.array([-1, -2, 3])  # Integers serve, too.


@pytest.mark.parametrize(
    ("function", "kind", "eigenvalues"),
    [
        (lambda p: p[0] ** 2 - 3 * p[1] ** 2, "saddle", (-6, 2)),
        # Of both signs: the 0 does not matter.
        (lambda p: p[0] * p[1] + p[2] ** 4, "saddle", (-1, 0, 1)),
        (lambda p: p[0] ** 2 + p[1] ** 4, "degenerate", (0, 2)),
        (lambda p: p[0] ** 3 - 3 * p[0] * p[1] ** 2, "degenerate", (0, 0)),
        (lambda p: 5 + 0 * ops.sum(p), "degenerate", (0, 0)),
        # e^-2 (a - 1)^2 is flat, but level and curved.
        (
            lambda p: -ops.exp(-2.0 - 100 * p[0] ** 2 - p[1] ** 2),
            "minimum",
            (2 * np.exp(-2), 200 * np.exp(-2)),
        ),
    ],
)
def test_kinds(function, kind, eigenvalues):
    point = critical_point(function, np.zeros(len(eigenvalues)))
    assert point.kind == kind
    np.testing.assert_allclose(
        point.eigenvalues, eigenvalues, rtol=1e-5, atol=1e-6
    )


def test_mixed_derivatives_count():
    # The Hessian [[2, 3], [3, 2]] has 5 and -1, and a positive diagonal.
    point = critical_point(
        lambda p: p[0] ** 2 + 3 * p[0] * p[1] + p[1] ** 2, [0, 0]
    )
    assert point.kind == "saddle"
    np.testing.assert_allclose(point.eigenvalues, [-1, 5], rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "x", "message"),
    [
        (bowl, [0.0, 0.0, 0.0], r"gradient is 0. Received: x=\[0.0.*norm 7.48"),
        (bowl, [[0.0]], r"Received: x of shape \(1, 1\)"),
        (lambda p: 2 * p, [0.0, 0.0], r"scalar. Received: .* shape \(2,\)"),
        (lambda p: ops.sqrt(p[0]), [0.0], "finite derivatives"),
    ],
)
def test_other_points_are_refused(function, x, message):
    with pytest.raises(ValueError, match=message):
        critical_point(function, x)
    with pytest.raises(ValueError, match="`tolerance` must be in"):
        critical_point(function, x, tolerance=0)
