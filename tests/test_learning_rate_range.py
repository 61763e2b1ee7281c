"""The range test, against gradient descent in NumPy."""

import random

import keras
import numpy as np
import pytest

from kerascomp.callbacks import LearningRateRangeTest, _range_suggestions

RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 2)).astype("float32")
Y = RNG.normal(size=(12, 1)).astype("float32")


def line(optimizer=None):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.layers[0].set_weights([np.array([[0.3], [-0.2]]), np.array([0.1])])
    model.compile(optimizer or keras.optimizers.SGD(0.05), "mse")
    return model


def trained_by_numpy(rates):
    """The loss of each batch of 5, 5 and 2 samples, before its update."""
    w, b, losses = np.array([[0.3], [-0.2]]), np.array([0.1]), []
    for step, rate in enumerate(rates):
        batch = slice(step % 3 * 5, step % 3 * 5 + 5)
        x = X[batch].astype("float64")
        error = x @ w + b - Y[batch]
        losses.append(np.mean(error**2))
        w = w - rate * 2 * x.T @ error / len(x)
        b = b - rate * 2 * error.mean(axis=0)
    return losses


@pytest.mark.parametrize("ramp", ["exponential", "linear"])
def test_notes_the_loss_of_every_batch_at_a_growing_rate(ramp, tmp_path):
    test = LearningRateRangeTest(
        1e-3, 0.1, steps=8, ramp=ramp, smoothing=0.7, stop_factor=None
    )
    test.run(line(), X, Y, batch_size=5, shuffle=False)
    history = test.history
    expected = {
        "exponential": [1e-3 * 100 ** (step / 7) for step in range(8)],
        "linear": [1e-3 + 0.099 * step / 7 for step in range(8)],
    }[ramp]
    np.testing.assert_allclose(history["learning_rate"], expected)
    losses = trained_by_numpy(expected)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    smoothed = [
        np.average(
            losses[: n + 1], weights=[0.7 ** (n - i) for i in range(n + 1)]
        )
        for n in range(8)
    ]
    np.testing.assert_allclose(history["smoothed_loss"], smoothed, rtol=1e-5)
    assert test.ended == "maximum"
    test.to_csv(tmp_path / "range.csv")
    header, *rows = (tmp_path / "range.csv").read_text().splitlines()
    assert header == "step,learning_rate,loss,smoothed_loss"
    assert [float(row.split(",")[1]) for row in rows] == [
        *history["learning_rate"]
    ]
    axes = test.plot().axes[0]
    assert axes.get_xscale() == ("log" if ramp == "exponential" else "linear")
    np.testing.assert_array_equal(
        axes.lines[1].get_ydata(), history["smoothed_loss"]
    )
    assert test.plot("loss").axes[0].get_xlabel() == "step"


def noisy():
    """A model whose training draws random numbers of every kind."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(4),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def test_a_later_training_is_what_it_had_been_without():
    ends, draws = [], []
    for tested in (True, False):
        model = noisy()
        model.fit(X, Y, batch_size=5, verbose=0)
        before = state(model)
        if tested:
            model.stop_training = "as it was"
            test = LearningRateRangeTest(maximum=1e30, steps=40)
            test.run(model, X, Y, batch_size=5)
            assert 1 < len(test.history["step"]) < 40
            assert model.stop_training == "as it was"
            for found, expected in zip(state(model), before, strict=True):
                np.testing.assert_array_equal(found, expected)
        model.fit(X, Y, batch_size=5, epochs=2, verbose=0)
        ends.append(state(model))
        numbers = keras.ops.convert_to_numpy(keras.random.uniform((3,)))
        draws.append([*numbers, random.random(), np.random.random()])  # noqa: NPY002
    for found, expected in zip(*ends, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert draws[0] == draws[1]


def test_a_loss_that_is_not_finite_ends_it():
    test = LearningRateRangeTest(1.0, 1e30, steps=30, stop_factor=None)
    model = line()
    before = state(model)
    test.run(model, X, Y, batch_size=5)
    assert test.ended == "not finite"
    history = test.history
    assert np.isfinite(history["loss"][:-1]).all()
    assert not np.isfinite(history["smoothed_loss"][-1])
    assert test.suggestions.keys() == {"valley", "steepest", "minimum_tenth"}
    test.plot()
    for found, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(found, expected)


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_runs_in_a_fit_and_survives_one_that_was_interrupted():
    model = line()
    before = state(model)
    test = LearningRateRangeTest(1e-3, 1e3, steps=12, smoothing=0.0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, 5, epochs=4, verbose=0, callbacks=[test, Interrupt()])
    assert not np.array_equal(state(model)[0], before[0])
    test.restore()
    for found, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    model.fit(X, Y, 5, epochs=4, verbose=0, callbacks=[test])
    assert test.ended == "diverged"
    losses = test.history["smoothed_loss"]
    np.testing.assert_array_equal(losses, test.history["loss"])
    assert losses[-1] > 4 * losses.min()
    assert all(losses[:-1] <= 4 * np.minimum.accumulate(losses[:-1]))
    for found, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    model.fit(X, Y, 5, verbose=0)  # And is not stopped.


def test_a_fit_that_cannot_be_tested_is_refused_before_training():
    short = LearningRateRangeTest(steps=9)
    with pytest.raises(ValueError, match="takes 9 steps, of which this fit h"):
        line().fit(X, Y, 5, epochs=2, verbose=0, callbacks=[short])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)
    with pytest.raises(ValueError, match="has a schedule of its own"):
        short.run(line(keras.optimizers.SGD(schedule)), X, Y)


def batches():
    yield from ((X[:5], Y[:5]), (X[5:10], Y[5:10]))


def test_data_that_end_early_end_it():
    test = LearningRateRangeTest(steps=9)
    test.run(line(), batches(), epochs=1)
    assert test.ended == "no more data"
    assert len(test.history["step"]) == 2


RATES = np.logspace(-4, 1, 26)


def test_the_steepest_rate_is_the_turning_point_of_the_curve():
    # A fall along a hyperbolic tangent of log rate, steepest at 10^-2, and
    # beyond the minimum a wall.
    losses = 1 - np.tanh(np.log10(RATES) + 2)
    losses[RATES > 2] = 9.0
    lowest = RATES[RATES <= 2][-1]
    found = {
        name: read(RATES, losses)
        for name, read in _range_suggestions.SUGGESTIONS.items()
    }
    assert found["steepest"] == pytest.approx(1e-2)
    assert found["minimum_tenth"] == pytest.approx(lowest / 10)


def test_the_valley_is_the_middle_of_the_longest_fall():
    losses = np.array([5.0, 4.0, 4.5, 3.0, 2.0, 2.5, 1.0, 9.0])
    # 5, 4 (or 4.5), 3, 2 (or 2.5), 1.
    assert _range_suggestions.valley(np.arange(1.0, 9.0), losses) == 4.0


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 2.0, 3.0], [2.0, 2.0]])
def test_there_is_no_suggestion_where_the_loss_never_falls(losses):
    losses = np.array(losses)
    for read in _range_suggestions.SUGGESTIONS.values():
        assert read(RATES[: len(losses)], losses) is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"minimum": 0.0}, r"`minimum` must be in \(0, inf\)"),
        ({"maximum": 1e-7}, r"`maximum` must be in \(1e-06, inf\)"),
        ({"steps": 1}, "`steps` must be an integer of at least 2"),
        ({"ramp": "steep"}, "`ramp` must be one of"),
        ({"smoothing": 1.0}, r"`smoothing` must be in \[0, 1\)"),
        ({"stop_factor": 1.0}, r"`stop_factor` must be in \(1, inf\)"),
        ({"suggest": "best"}, "`suggest` must be one of 'valley'"),
    ],
)
def test_bad_arguments_are_refused_at_construction(bad, message):
    with pytest.raises(ValueError, match=message):
        LearningRateRangeTest(**bad)
