"""The noise scale of linear regression, where it is known exactly."""

import itertools

import keras
import numpy as np
import pytest
from gradient_reference import compiled, data, fitted
from populations import linear

from kerascomp.callbacks import (
    GradientFlowMonitor,
    GradientNoiseScale,
    UpdateRatioMonitor,
)
from kerascomp.callbacks._noise_scale import unbiased_pair
from kerascomp.population import Population

DIMENSIONS, BATCH, STEPS = 5, 4, 400
OFFSET, NOISE = 0.6, 0.5  # |w - w*| and the deviation of the labels.


def test_the_pair_is_unbiased():
    # Over all batches of 2 and of 3 out of 4 samples, with replacement.
    samples = np.random.default_rng(0).normal(size=(4, 3))
    mean_square = {
        size: np.mean(
            [
                np.sum(np.mean(batch, axis=0) ** 2)
                for batch in itertools.product(samples, repeat=size)
            ]
        )
        for size in (2, 3)
    }
    square, trace = unbiased_pair(mean_square[2], mean_square[3], 2, 3)
    mean = samples.mean(axis=0)
    np.testing.assert_allclose(square, mean @ mean, rtol=1e-12)
    np.testing.assert_allclose(
        trace, np.sum((samples - mean) ** 2) / 4, rtol=1e-12
    )


def regression(**arguments):
    """A model that stands still at a known distance from the solution."""
    model = keras.Sequential(
        [keras.Input((DIMENSIONS,)), keras.layers.Dense(1, use_bias=False)]
    )
    model.layers[0].set_weights([np.zeros((DIMENSIONS, 1))])
    model.compile(keras.optimizers.SGD(0.0, **arguments), "mse")
    rng = np.random.default_rng(3)
    solution = np.full((DIMENSIONS, 1), OFFSET / DIMENSIONS**0.5)
    x = rng.normal(size=(STEPS * BATCH, DIMENSIONS))
    y = x @ solution + rng.normal(scale=NOISE, size=(len(x), 1))
    return model, x, y


def gradients_of(x, y):
    """The gradient of each batch at zero weights, `(steps, dimensions)`."""
    samples = -2 * x * y
    return samples.reshape(STEPS, BATCH, DIMENSIONS).mean(axis=1)


def expected_scale():
    # A sample's gradient is 2 (x x' d - e x), for the distance d from the
    # solution and the label's noise e. For normal x, its second moment is
    # 4 ((D + 2) |d|^2 + D var e), and |G|^2 is 4 |d|^2.
    square = 4 * OFFSET**2
    moment = 4 * ((DIMENSIONS + 2) * OFFSET**2 + DIMENSIONS * NOISE**2)
    return square, moment - square


@pytest.mark.parametrize("accumulated", [1, 4])
def test_linear_regression_has_the_scale_that_it_must_have(accumulated):
    steps = {"gradient_accumulation_steps": accumulated}
    model, x, y = regression(**(steps if accumulated > 1 else {}))
    monitor = GradientNoiseScale(BATCH, smoothing=0.9, seed=1, every=1)
    log = fitted(model, x, y, [monitor], batch_size=BATCH, epochs=1).history
    squares, traces, completing = pairs_by_hand(x, y, accumulated)
    history = monitor.history
    np.testing.assert_array_equal(history["step"], completing)
    # 1e-4 of the terms, whose difference it is.
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(history["gradient_square"], squares, **tolerance)
    np.testing.assert_allclose(history["noise"], traces, **tolerance)
    ratio = np.mean(traces) / np.mean(squares)
    np.testing.assert_allclose(log["noise_scale"], [ratio], rtol=1e-4)
    assert monitor.critical_batch_size == np.ceil(ratio)
    averages = [0.9 ** np.arange(len(s))[::-1] @ s for s in (squares, traces)]
    np.testing.assert_allclose(
        history["noise_scale"][-1], averages[1] / averages[0], rtol=1e-3
    )
    square, trace = expected_scale()
    low, high = monitor.interval(0.95)
    assert low < trace / square < high
    assert low < monitor.noise_scale < high
    # What is left of the noise after 400 batches of 4.
    assert high / low < 3
    wider = monitor.interval(0.999)
    assert wider[0] < low < high < wider[1]
    assert monitor.interval(0.95) == (low, high)


def pairs_by_hand(x, y, accumulated):
    """Returns both estimates, and the step that completes each pair.

    The last step, and what it is part of, is left out.
    """
    gradients = gradients_of(x, y)
    if accumulated == 1:
        before, now = gradients[:-2], gradients[1:-1]
        squares = np.sum(before * now, axis=1)
        traces = BATCH / 2 * np.sum((now - before) ** 2, axis=1)
        return squares, traces, np.arange(1, STEPS - 1)
    parts = gradients.reshape(-1, accumulated, DIMENSIONS)[:-1]
    found = [
        unbiased_pair(
            np.mean(np.sum(part**2, axis=1)),
            np.sum(part.mean(axis=0) ** 2),
            BATCH,
            BATCH * accumulated,
        )
        for part in parts
    ]
    ends = accumulated * np.arange(1, len(parts) + 1) - 1
    return *np.transpose(found), ends


@pytest.mark.parametrize("every", [None, 2, 7])
def test_some_pairs_are_those_of_all(every):
    model, x, y = regression()
    monitor = GradientNoiseScale(BATCH, every=every)
    # Beside one that measures at all steps, and one at others.
    others = [UpdateRatioMonitor(every=3), GradientFlowMonitor()]
    fitted(model, x, y, [monitor, *others], batch_size=BATCH, epochs=2)
    squares, traces, completing = pairs_by_hand(x, y, 1)
    # At about 20 steps of an epoch; each epoch leaves out its last batch.
    period = STEPS // 20 if every is None else every
    completing = np.concatenate([completing, completing + STEPS])
    due = completing % period == 0
    history = monitor.history
    np.testing.assert_array_equal(history["step"], completing[due])
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(
        history["gradient_square"], np.tile(squares, 2)[due], **tolerance
    )
    np.testing.assert_allclose(
        history["noise"], np.tile(traces, 2)[due], **tolerance
    )


@pytest.mark.parametrize("accumulated", [None, 2])
def test_pairs_that_would_all_be_left_out_are_refused(accumulated):
    model, x, y = regression(gradient_accumulation_steps=accumulated)
    monitor = GradientNoiseScale(BATCH, every=2 * STEPS)
    if accumulated:  # Each update has a pair, whatever `every` is.
        fitted(model, x, y, [monitor], batch_size=BATCH)
        assert len(monitor.history["step"]) > STEPS / accumulated
        return
    with pytest.raises(ValueError, match="multiple of the steps of an epoch"):
        fitted(model, x, y, [monitor], batch_size=BATCH)


def test_noise_alone_is_infinite_and_says_so():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.layers[0].set_weights([np.zeros((1, 1)), np.zeros(1)])
    # The gradient changes its sign at every step.
    x, y = np.ones((12, 1)), np.tile([[1.0], [-1.0]], (6, 1))
    monitor = GradientNoiseScale(1)
    log = fitted(model, x, y, [monitor], batch_size=1, epochs=1).history
    assert log["noise_scale"] == [np.inf]
    assert monitor.critical_batch_size is None
    assert monitor.interval() == (np.inf, np.inf)
    assert np.isnan(monitor.history["noise_scale"]).all()


def test_an_interval_needs_pairs():
    monitor = GradientNoiseScale(4)
    assert np.isnan(monitor.noise_scale)
    with pytest.raises(ValueError, match="Received: 0 pairs"):
        monitor.interval()
    x, y = data("mlp")
    fitted(compiled(), x, y, [monitor])
    with pytest.raises(ValueError, match="Received: 2 pairs"):
        monitor.interval()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "Received: batch_size=0"),
        ({"batch_size": 2, "smoothing": 1.0}, "Received: smoothing=1.0"),
        ({"batch_size": 2, "every": 0}, "Received: every=0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradientNoiseScale(**arguments)


@pytest.mark.parametrize("engine", ["vectorized", "looped", "auto"])
def test_lanes_of_a_population_record_what_fit_records(engine):
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
    y = np.stack([x.sum(axis=1), x[:, 0]], axis=1)
    given = {"batch_size": 6, "epochs": 2, "shuffle": False}

    def make():
        own = [UpdateRatioMonitor(every=2), GradientFlowMonitor()]
        # Compares steps, which no common program does.
        return [*own, GradientNoiseScale(6)] if engine == "auto" else own

    together, alone = ([linear(n) for n in range(2)] for _ in "12")
    histories = Population(together, engine).fit(
        x, y, callbacks=make(), **given
    )
    for lane, twin in enumerate(alone):
        own = make()
        log = twin.fit(x, y, verbose=0, callbacks=own, **given).history
        for name in log:
            np.testing.assert_allclose(
                histories[lane][name], log[name], rtol=1e-4
            )
        for copy, original in zip(histories.callbacks[lane], own, strict=True):
            assert_same(copy.history, original.history)


def assert_same(record, expected):
    assert list(record) == list(expected)
    for name, series in expected.items():
        found = record[name]
        if isinstance(series, dict):  # Layers are numbered on in their names.
            series, found = list(series.values()), list(found.values())
        # 1e-4: updates are small differences of weights.
        np.testing.assert_allclose(found, series, rtol=1e-4, atol=1e-6)


def test_lanes_do_not_share_a_log_dir(tmp_path):
    pytest.importorskip("tensorboard")
    monitor = UpdateRatioMonitor(log_dir=tmp_path)
    with pytest.raises(ValueError, match="cannot write to one `log_dir`"):
        Population([linear()]).fit(
            np.ones((6, 3)), np.ones((6, 2)), 2, callbacks=[monitor]
        )
