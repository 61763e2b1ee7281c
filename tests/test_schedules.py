"""The numbers of the schedules."""

import keras
import numpy as np
import pytest
import reference

from kerascomp.schedules import WarmupCosine

# The schedule computes in float32, on values of at most 1.
ATOL = 2e-6

SETTINGS = [
    {"peak": 0.4, "total_steps": 12},
    {"peak": 0.4, "total_steps": 12, "warmup_steps": 4, "floor": 0.1},
    {"peak": 0.4, "total_steps": 13, "warmup_steps": 5, "start": 0.2},
    {"peak": 0.4, "total_steps": 23, "warmup_steps": 2, "cycles": 3},
    {
        "peak": 0.9,
        "total_steps": 40,
        "warmup_steps": 5,
        "floor": 0.05,
        "start": 0.1,
        "cycles": 3,
        "cycle_multiplier": 2.0,
        "cycle_decay": 0.5,
    },
]


def rates(schedule, steps):
    return keras.ops.convert_to_numpy(schedule(np.asarray(steps)))


@pytest.mark.parametrize("settings", SETTINGS)
def test_warmup_cosine_equals_the_equation(settings):
    steps = range(settings["total_steps"] + 5)
    np.testing.assert_allclose(
        rates(WarmupCosine(**settings), steps),
        [reference.warmup_cosine(step, **settings) for step in steps],
        atol=ATOL,
    )


def test_warmup_cosine_of_one_cycle_is_cosine_decay():
    schedule = WarmupCosine(
        peak=0.4, total_steps=20, warmup_steps=4, floor=0.1, start=0.2
    )
    twin = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.2,
        decay_steps=16,
        alpha=0.1 / 0.4,
        warmup_target=0.4,
        warmup_steps=4,
    )
    for step in range(25):
        assert float(schedule(step)) == pytest.approx(
            float(twin(step)), abs=ATOL
        )


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
def test_warmup_cosine_of_more_cycles_is_cosine_decay_restarts(multiplier):
    total = 21
    lengths = multiplier ** np.arange(3)
    schedule = WarmupCosine(
        peak=0.4,
        total_steps=total,
        floor=0.1,
        cycles=3,
        cycle_multiplier=multiplier,
        cycle_decay=0.5,
    )
    twin = keras.optimizers.schedules.CosineDecayRestarts(
        initial_learning_rate=0.4,
        first_decay_steps=int(total / lengths.sum()),
        t_mul=multiplier,
        m_mul=0.5,
        alpha=0.1 / 0.4,
    )
    for step in range(total):
        assert float(schedule(step)) == pytest.approx(
            float(twin(step)), abs=ATOL
        )


def test_warmup_cosine_restarts_exactly_at_the_cycle():
    # A third of 21 has no exact float32, and a logarithm may round past it.
    schedule = WarmupCosine(peak=1.0, total_steps=300_000, cycles=100)
    begins = np.arange(0, 300_000, 3000)
    np.testing.assert_allclose(rates(schedule, begins), 1.0, atol=ATOL)
    assert rates(schedule, begins[1:] - 1).max() < 1e-3


def test_warmup_cosine_keeps_the_shape_of_the_steps():
    steps = np.arange(6).reshape(2, 3)
    schedule = WarmupCosine(peak=1.0, total_steps=9, cycles=2)
    assert rates(schedule, steps).shape == (2, 3)
    np.testing.assert_array_equal(
        rates(schedule, steps).ravel(), rates(schedule, steps.ravel())
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"peak": 0.0}, r"`peak` must be in \(0, inf\)"),
        ({"total_steps": 0}, "`total_steps` must be an integer of at least 1"),
        ({"total_steps": 2.5}, "`total_steps` must be an integer"),
        ({"warmup_steps": -1}, "`warmup_steps` must be an integer"),
        ({"warmup_steps": 12}, "`warmup_steps` must be less than `total_st"),
        ({"floor": 0.5}, r"`floor` must be in \[0, 0.4\]"),
        ({"start": -0.1}, r"`start` must be in \[0, 0.4\]"),
        ({"cycles": 0}, "`cycles` must be an integer of at least 1"),
        ({"cycle_multiplier": 0.5}, r"`cycle_multiplier` must be in \[1, inf"),
        ({"cycle_decay": 0.0}, r"`cycle_decay` must be in \(0, 1\]"),
    ],
)
def test_warmup_cosine_refuses_bad_arguments(bad, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(**{"peak": 0.4, "total_steps": 12, **bad})
