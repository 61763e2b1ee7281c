"""The numbers of the schedules, but for WarmupCosine."""

import backend
import keras
import numpy as np
import pytest
import schedules_reference as reference

from kerascomp import schedules

# Computed in float32, on values of at most 1.
ATOL = 2e-7
LONG = 10**7


def rates(schedule, steps):
    return keras.ops.convert_to_numpy(schedule(np.asarray(steps)))


SETTINGS = {
    "plateau": (
        schedules.WarmupStableDecay,
        reference.warmup_stable_decay,
        [
            {"peak": 0.4, "total_steps": 12, "decay_steps": 0},
            {
                "peak": 0.4,
                "total_steps": 17,
                "decay_steps": 5,
                "warmup_steps": 4,
                "floor": 0.1,
                "start": 0.2,
            },
            *(
                {"peak": 0.4, "total_steps": 9, "decay_steps": 7, "decay": d}
                for d in ("linear", "cosine")
            ),
        ],
    ),
    "one cycle": (
        schedules.OneCycle,
        reference.one_cycle,
        [
            {"peak": 0.4, "total_steps": 17, "warmup_steps": 5},
            {
                "peak": 0.4,
                "total_steps": 17,
                "warmup_steps": 0,
                "floor": 0.1,
                "annealing": "linear",
            },
            *(
                {
                    "peak": 0.4,
                    "total_steps": 19,
                    "warmup_steps": 7,
                    "start": 0.1,
                    "floor": 0.03,
                    "annealing": annealing,
                    "three_phase": True,
                }
                for annealing in ("linear", "cosine")
            ),
        ],
    ),
    "cyclical": (
        schedules.Cyclical,
        reference.cyclical,
        [
            {"peak": 0.4, "half_cycle_steps": 1, "floor": 0.1},
            {"peak": 0.4, "half_cycle_steps": 3, "mode": "triangular2"},
            {
                "peak": 0.4,
                "half_cycle_steps": 4,
                "floor": 0.1,
                "mode": "exp_range",
                "decay": 0.93,
            },
        ],
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_equals_the_equation(name):
    schedule, expected, settings = SETTINGS[name]
    for each in settings:
        np.testing.assert_allclose(
            rates(schedule(**each), range(25)),
            [expected(step, **each) for step in range(25)],
            atol=ATOL,
            err_msg=str(each),
        )


# At the end of a long run almost nothing is left, which a sum rounds away.
ENDS = [LONG - 1, LONG - 7, LONG - 10**4, LONG // 2, LONG // 3]
LONG_RUNS = {
    "plateau, 1-sqrt": (
        "plateau",
        {"peak": 0.1, "total_steps": LONG, "decay_steps": 2 * 10**6},
    ),
    "plateau, cosine": (
        "plateau",
        {
            "peak": 0.1,
            "total_steps": LONG,
            "decay_steps": LONG,
            "decay": "cosine",
        },
    ),
    "one cycle": (
        "one cycle",
        {"peak": 0.1, "total_steps": LONG, "warmup_steps": LONG // 2},
    ),
    "cyclical": (
        "cyclical",
        {
            "peak": 0.1,
            "half_cycle_steps": 1234,
            "mode": "exp_range",
            "decay": 1 - 3e-7,
        },
    ),
}


@pytest.mark.parametrize("name", LONG_RUNS)
def test_is_exact_after_ten_million_steps(name):
    kind, settings = LONG_RUNS[name]
    schedule, expected, _ = SETTINGS[kind]
    wanted = [expected(step, **settings) for step in ENDS]
    # The reference subtracts from 1, and is off by 2^-53 of the peak itself.
    np.testing.assert_allclose(
        rates(schedule(**settings), ENDS), wanted, rtol=2e-6, atol=2e-17
    )


def test_warmup_cosine_is_exact_at_its_end():
    schedule = schedules.WarmupCosine(0.1, LONG)
    # sin(x)^2 = x^2 for small x.
    expected = 0.1 * (np.pi / 2 * 7 / LONG) ** 2
    assert float(schedule(LONG - 7)) == pytest.approx(expected, rel=1e-6)


def test_a_plateau_of_length_0_is_warmup_cosine():
    ours = schedules.WarmupStableDecay(
        0.4, 20, 15, warmup_steps=5, decay="cosine", floor=0.1, start=0.2
    )
    twin = schedules.WarmupCosine(0.4, 20, 5, floor=0.1, start=0.2)
    np.testing.assert_allclose(
        rates(ours, range(23)), rates(twin, range(23)), atol=ATOL
    )


def test_a_linear_decay_is_that_of_keras():
    ours = schedules.WarmupStableDecay(0.4, 9, 9, decay="linear", floor=0.1)
    twin = keras.optimizers.schedules.PolynomialDecay(0.4, 9, 0.1)
    for step in range(12):
        assert float(ours(step)) == pytest.approx(float(twin(step)), abs=ATOL)


def test_inverse_square_root_is_that_of_the_paper():
    warmup, dim = 40, 512
    ours = schedules.InverseSquareRoot((dim * warmup) ** -0.5, warmup)
    steps = [1, 7, 39, 40, 41, 160, LONG]
    np.testing.assert_allclose(
        rates(ours, steps),
        [reference.vaswani(step, dim, warmup) for step in steps],
        rtol=1e-6,
    )
    constant = schedules.InverseSquareRoot(0.2, 4, start=0.2)
    np.testing.assert_allclose(rates(constant, range(5)), 0.2, rtol=1e-6)


def test_joined_numbers_are_a_piecewise_constant_of_keras():
    ours = schedules.Join([0.3, 0.2, 0.1], boundaries=[3, 7])
    twin = keras.optimizers.schedules.PiecewiseConstantDecay(
        [2, 6], [0.3, 0.2, 0.1]
    )
    np.testing.assert_allclose(
        rates(ours, range(10)), [float(twin(s)) for s in range(10)], rtol=1e-6
    )


def test_joined_schedules_begin_anew():
    parts = [
        schedules.OneCycle(0.4, 6, 2),
        keras.optimizers.schedules.ExponentialDecay(0.2, 3, 0.5),
        schedules.Cyclical(0.1, 2),
    ]
    ours = schedules.Join(parts, boundaries=[4, 9])
    for step in range(14):
        place = (step >= 4) + (step >= 9)
        own = step - (0, 4, 9)[place]
        expected = float(parts[place](own))
        assert float(ours(step)) == pytest.approx(expected, abs=ATOL)


def test_batch_scaling_reaches_a_rate_after_as_many_samples():
    found = schedules.WarmupCosine(0.1, 80, 16)
    steps = np.arange(25)
    for scaling, factor in (
        (schedules.LinearBatchScaling, 4),
        (schedules.SquareRootBatchScaling, 2),
    ):
        np.testing.assert_allclose(
            rates(scaling(found, 128, 32), steps),
            factor * rates(found, 4 * steps),
            rtol=1e-6,
        )
        np.testing.assert_allclose(
            rates(scaling(found, 128, 32, in_base_steps=False), steps),
            factor * rates(found, steps),
            rtol=1e-6,
        )
        same = scaling(found, 32, 32)
        np.testing.assert_array_equal(rates(same, steps), rates(found, steps))
        assert float(scaling(0.1, 128, 32)(3)) == pytest.approx(0.1 * factor)


def test_square_root_scaling_changes_the_moments_of_adam():
    scaling = schedules.SquareRootBatchScaling(1e-3, 160, 40)
    # k = 4: 1 - beta is multiplied by 4, epsilon divided by 2.
    assert scaling.adam(0.9, 0.99, 1e-8) == pytest.approx(
        {"beta_1": 0.6, "beta_2": 0.96, "epsilon": 5e-9}
    )
    at_most = schedules.SquareRootBatchScaling(1e-3, 320, 32)
    assert at_most.adam()["beta_1"] == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="`beta_1` cannot follow a batch 11 t"):
        schedules.SquareRootBatchScaling(1e-3, 352, 32).adam()


def followed(scheduler, steps, *arguments, **settings):
    """The rates of one of torch's schedulers."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    scheduler = getattr(torch.optim.lr_scheduler, scheduler)(
        optimizer, *arguments, cycle_momentum=False, **settings
    )
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.skipif(backend.NAME != "torch", reason="compares with torch")
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("annealing", ["linear", "cosine"])
def test_one_cycle_is_that_of_torch(annealing, three_phase):
    total, warmup, peak = 20, 6, 0.4
    # Torch counts the steps, the last of which is at the floor.
    found = followed(
        "OneCycleLR",
        total,
        peak,
        total_steps=total + 1,
        pct_start=(warmup + 1) / (total + 1),
        anneal_strategy={"linear": "linear", "cosine": "cos"}[annealing],
        three_phase=three_phase,
    )
    ours = schedules.OneCycle(
        peak,
        total,
        warmup,
        floor=peak / 25 / 1e4,
        annealing=annealing,
        three_phase=three_phase,
    )
    np.testing.assert_allclose(rates(ours, range(total)), found, atol=ATOL)


@pytest.mark.skipif(backend.NAME != "torch", reason="compares with torch")
@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclical_is_that_of_torch(mode):
    decay = 0.9 if mode == "exp_range" else 1.0
    found = followed(
        "CyclicLR", 20, 0.1, 0.4, step_size_up=3, mode=mode, gamma=decay
    )
    ours = schedules.Cyclical(0.4, 3, floor=0.1, mode=mode, decay=decay)
    np.testing.assert_allclose(rates(ours, range(20)), found, atol=ATOL)


BAD = [
    ("WarmupStableDecay", {"total_steps": 0}, "`total_steps` must be an int"),
    ("WarmupStableDecay", {"warmup_steps": 8}, "together at most `total_ste"),
    ("WarmupStableDecay", {"decay": "sqrt"}, "`decay` must be one of 'linear'"),
    ("WarmupStableDecay", {"floor": 0.5}, r"`floor` must be in \[0, 0.4\]"),
    ("OneCycle", {"peak": 0.0}, r"`peak` must be in \(0, inf\)"),
    ("OneCycle", {"warmup_steps": 12}, "`warmup_steps` must be less than `to"),
    ("OneCycle", {"three_phase": True}, "must be less than half of `total_"),
    ("OneCycle", {"start": 0.5}, r"`start` must be in \[0, 0.4\]"),
    ("OneCycle", {"annealing": "cos"}, "`annealing` must be one of"),
    ("Cyclical", {"half_cycle_steps": 0}, "`half_cycle_steps` must be an int"),
    ("Cyclical", {"decay": 0.9}, '`decay` is for `mode="exp_range"` alone'),
    ("Cyclical", {"mode": "square"}, "`mode` must be one of"),
    ("InverseSquareRoot", {"warmup_steps": 0}, "`warmup_steps` must be an int"),
    ("Join", {"boundaries": [3, 3]}, "`boundaries` must increase"),
    ("Join", {"boundaries": [0, 3]}, "`boundaries` must be an integer of at"),
    ("Join", {"boundaries": [3]}, "must be one less than `schedules`"),
    ("Join", {"schedules": [0.1, -0.2, 0.3]}, "`schedules` must be in"),
    ("LinearBatchScaling", {"batch_size": 0}, "`batch_size` must be an int"),
    ("LinearBatchScaling", {"learning_rate": 0}, "`learning_rate` must be in"),
    ("LinearBatchScaling", {"in_base_steps": 4}, "`in_base_steps` must be Tr"),
]
GOOD = {
    "WarmupStableDecay": {"peak": 0.4, "total_steps": 12, "decay_steps": 5},
    "OneCycle": {"peak": 0.4, "total_steps": 12, "warmup_steps": 6},
    "Cyclical": {"peak": 0.4, "half_cycle_steps": 3},
    "InverseSquareRoot": {"peak": 0.4, "warmup_steps": 3},
    "Join": {"schedules": [0.1, 0.2, 0.3], "boundaries": [3, 5]},
    "LinearBatchScaling": {
        "learning_rate": 0.1,
        "batch_size": 8,
        "base_batch_size": 4,
    },
}


@pytest.mark.parametrize(("name", "bad", "message"), BAD)
def test_bad_arguments_are_refused(name, bad, message):
    with pytest.raises(ValueError, match=message):
        getattr(schedules, name)(**{**GOOD[name], **bad})


def test_plot_draws_each_schedule_with_its_name():
    ours = schedules.OneCycle(0.4, 20, 6)
    # Of Keras, whose schedules take one step at a time.
    theirs = keras.optimizers.schedules.CosineDecay(
        0.1, 20, warmup_target=0.4, warmup_steps=5
    )
    axes = schedules.plot({"up": ours, "down": theirs}, steps=30).axes[0]
    assert [line.get_label() for line in axes.lines] == ["up", "down"]
    for line, schedule in zip(axes.lines, (ours, theirs), strict=True):
        x, y = line.get_data()
        assert x.tolist() == list(range(30))
        expected = [float(schedule(step)) for step in range(30)]
        np.testing.assert_allclose(y, expected, atol=ATOL)
    axes = schedules.plot([ours, ours], steps=10**6, log_scale=True).axes[0]
    labels = [line.get_label() for line in axes.lines]
    assert labels == ["OneCycle 1", "OneCycle 2"]
    assert axes.get_yscale() == "log"
    assert axes.lines[0].get_xdata()[-1] == 10**6 - 1
    for bad in ([], [0.1]):
        with pytest.raises(ValueError, match="`schedules` must"):
            schedules.plot(bad, steps=9)
