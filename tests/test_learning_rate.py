"""Callbacks that follow a schedule, against references, in real training."""

import backend
import keras
import numpy as np
import pytest
import reference
import schedules_reference

from kerascomp import _compat, schedules
from kerascomp.callbacks import (
    GradientNormMonitor,
    ScheduleLearningRate,
    WarmupCosine,
)

STEPS = 4  # Steps of an epoch, at a batch size of 3.
X = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")
Y = np.random.default_rng(2).normal(size=(12, 1)).astype("float32")
# The schedule computes in float32, on rates below 0.1.
ATOL = 2e-7


class Spy(keras.callbacks.Callback):
    """Notes the rates that each training step has used."""

    def __init__(self, stops_after=None):
        super().__init__()
        self.rates = []
        self.stops_after = stops_after

    def on_train_batch_end(self, batch, logs=None):
        optimizers = _compat.optimizers_of(self._model.optimizer)
        self.rates.append([self._rate(o.learning_rate) for o in optimizers])

    def on_epoch_end(self, epoch, logs=None):
        if self.stops_after == epoch + 1:
            self._model.stop_training = True

    def _rate(self, variable):
        # On JAX, the state that came out of the compiled step.
        state = getattr(self._model, "_jax_state", None)
        if state and not self._model._jax_state_synced:
            for place, each in enumerate(self._model.optimizer.variables):
                if each is variable:
                    return float(state["optimizer_variables"][place])
        return float(keras.ops.convert_to_numpy(variable))


def line(optimizer=None):
    """A straight line, so that NumPy can train it too."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.layers[0].set_weights([np.array([[0.3], [-0.2]]), np.array([0.1])])
    model.compile(optimizer or keras.optimizers.SGD(0.5), "mse")
    return model


def spied(model, callback, spy=None, data=(X, Y), **settings):
    """Trains and returns the rate of each step."""
    spy = spy or Spy()
    settings = {"epochs": 3, "shuffle": False, "verbose": 0, **settings}
    if isinstance(data, tuple):
        settings["batch_size"] = 3
        data = dict(zip(("x", "y"), data, strict=True))
    else:
        data = {"x": data}
    model.fit(**data, callbacks=[callback, spy], **settings)
    rates = np.array(spy.rates)
    # All optimizers of a model have one rate.
    np.testing.assert_array_equal(rates, np.tile(rates[:, :1], rates.shape[1]))
    return rates[:, 0]


def expected(steps, **settings):
    return [reference.warmup_cosine(step, **settings) for step in steps]


def assert_rates(received, steps, **settings):
    np.testing.assert_allclose(received, expected(steps, **settings), atol=ATOL)


def test_follows_the_schedule_at_every_step():
    rates = spied(line(), WarmupCosine(0.08, warmup_epochs=1, floor=0.01))
    assert_rates(
        rates, range(12), peak=0.08, total_steps=12, warmup_steps=4, floor=0.01
    )


def test_every_length_can_be_given_in_epochs_or_in_steps():
    in_epochs = WarmupCosine(0.08, warmup_epochs=0.5, total_epochs=2.5)
    in_steps = WarmupCosine(0.08, warmup_steps=2, total_steps=10)
    for callback in (in_epochs, in_steps):
        rates = spied(line(), callback)
        assert_rates(
            rates, range(12), peak=0.08, total_steps=10, warmup_steps=2
        )


def test_logs_the_last_rate_of_each_epoch():
    history = line().fit(
        X, Y, batch_size=3, epochs=3, verbose=0, callbacks=[WarmupCosine(0.08)]
    )
    assert_rates(
        history.history["learning_rate"], (3, 7, 11), peak=0.08, total_steps=12
    )


def test_restarts_warm():
    settings = {
        "peak": 0.08,
        "warmup_steps": 2,
        "floor": 0.01,
        "start": 0.02,
        "cycles": 2,
        "cycle_multiplier": 1.5,
        "cycle_decay": 0.5,
    }
    rates = spied(line(), WarmupCosine(**settings))
    assert_rates(rates, range(12), total_steps=12, **settings)


PLATEAU = {"peak": 0.08, "total_steps": 12, "warmup_steps": 2}
KERAS = keras.optimizers.schedules


def plateau(total_steps, end_steps=1):
    """A function of the run's length, and of another one."""
    return schedules.WarmupStableDecay(0.08, total_steps, end_steps)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: ScheduleLearningRate(
                schedules.WarmupStableDecay,
                peak=0.08,
                warmup_epochs=0.5,
                decay_fraction=0.25,
            ),
            lambda n: schedules_reference.warmup_stable_decay(
                n, decay_steps=3, **PLATEAU
            ),
        ),
        (
            lambda: ScheduleLearningRate(plateau, end_epochs=1.25),
            lambda n: schedules_reference.warmup_stable_decay(
                n, 0.08, 12, decay_steps=5
            ),
        ),
        (
            lambda: ScheduleLearningRate(schedules.Cyclical(0.08, 3)),
            lambda n: schedules_reference.cyclical(n, 0.08, 3),
        ),
        (
            lambda: ScheduleLearningRate(
                schedules.Cyclical, peak=0.08, half_cycle_fraction=0.25
            ),
            lambda n: schedules_reference.cyclical(n, 0.08, 3),
        ),
        (
            lambda: ScheduleLearningRate(
                KERAS.CosineDecay, initial_learning_rate=0.08, decay_epochs=2
            ),
            lambda n: reference.warmup_cosine(n, 0.08, 8),
        ),
    ],
)
def test_any_schedule_reads_its_lengths_from_fit(make, expected):
    rates = spied(line(), make())
    np.testing.assert_allclose(
        rates, [expected(n) for n in range(12)], atol=ATOL
    )


def test_every_length_of_any_schedule_counts_updates():
    model = line(keras.optimizers.SGD(0.5, gradient_accumulation_steps=2))
    callback = ScheduleLearningRate(
        schedules.OneCycle, peak=0.08, warmup_epochs=1
    )
    rates = spied(model, callback)
    wanted = [
        schedules_reference.one_cycle(n // 2, 0.08, 6, 2) for n in range(12)
    ]
    np.testing.assert_allclose(rates, wanted, atol=ATOL)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.1,), ValueError, "`schedule` must be a class or a function with"),
        ((schedules.OneCycle,), TypeError, "OneCycle needs 'peak', 'warmup_s"),
        ((lambda n: n,), TypeError, "needs 'n'; only 'total_steps' is read"),
    ],
)
def test_what_makes_no_schedule_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ScheduleLearningRate(*arguments)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"top": 1}, "OneCycle has no argument 'top'. It has peak, total_ste"),
        ({"peak_epochs": 1}, "OneCycle has no argument 'peak_epochs'"),
        ({"total_fraction": 1}, "OneCycle has no argument 'total_fraction'"),
        ({"warmup_epochs": -1}, "`warmup_epochs` must be in"),
        ({"warmup_fraction": 1.5}, r"`warmup_fraction` must be in \[0, 1\]"),
        (
            {"warmup_fraction": 0.5, "warmup_epochs": 1},
            "at most one of `warmup_fraction` and `warmup_epochs`",
        ),
        ({"floor": 0.2}, "`floor` must be in"),
    ],
)
def test_bad_arguments_of_a_schedule_are_refused_at_construction(bad, message):
    given = {"peak": 0.1, "warmup_steps": 2, **bad}
    if "warmup_fraction" in bad or "warmup_epochs" in bad:
        del given["warmup_steps"]
    with pytest.raises(ValueError, match=message):
        ScheduleLearningRate(schedules.OneCycle, **given)


def trained_by_numpy(rates):
    """Plain gradient descent on the mean squared error, in float64."""
    w, b = np.array([[0.3], [-0.2]]), np.array([0.1])
    for step, rate in enumerate(rates):
        batch = slice(step % STEPS * 3, step % STEPS * 3 + 3)
        x = X[batch].astype("float64")
        error = x @ w + b - Y[batch]
        w = w - rate * 2 * x.T @ error / 3
        b = b - rate * 2 * error.mean(axis=0)
    return w, b


@pytest.mark.parametrize("spies", [False, True])
def test_weights_are_those_of_gradient_descent_at_these_rates(spies):
    model = line()
    callbacks = [WarmupCosine(0.08, warmup_epochs=1), *[Spy()] * spies]
    model.fit(
        X,
        Y,
        batch_size=3,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    rates = expected(range(12), peak=0.08, total_steps=12, warmup_steps=4)
    for received, wanted in zip(
        model.get_weights(), trained_by_numpy(rates), strict=True
    ):
        # Twelve float32 steps.
        np.testing.assert_allclose(received, wanted, rtol=1e-5)


@pytest.mark.parametrize("reloads", [False, True])
def test_a_resumed_run_goes_on_where_it_stopped(reloads, tmp_path):
    callback = WarmupCosine(0.08, warmup_epochs=1)
    whole = line()
    uninterrupted = spied(whole, callback)
    model = line()
    first = spied(model, callback, Spy(stops_after=1))
    if reloads:
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        callback = WarmupCosine(0.08, warmup_epochs=1)
    second = spied(model, callback, initial_epoch=1)
    assert (len(first), len(second)) == (4, 8)
    np.testing.assert_array_equal([*first, *second], uninterrupted)
    for received, wanted in zip(
        model.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(received, wanted)


def test_counts_updates_under_gradient_accumulation():
    model = line(keras.optimizers.SGD(0.5, gradient_accumulation_steps=2))
    rates = spied(model, WarmupCosine(0.08, warmup_steps=2))
    assert_rates(
        rates,
        np.arange(12) // 2,  # Two micro-steps make an update.
        peak=0.08,
        total_steps=6,
        warmup_steps=2,
    )


needs_multi_optimizer = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="new in Keras 3.15"
)


@needs_multi_optimizer
def test_steers_all_optimizers_of_a_multi_optimizer():
    optimizers = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(0.5), {".*bias": keras.optimizers.Adam(0.3)}
    )
    model = line(keras.optimizers.MultiOptimizer(optimizers))
    spy = Spy()
    rates = spied(model, WarmupCosine(0.08), spy)
    assert np.shape(spy.rates) == (12, 2)
    assert_rates(rates, range(12), peak=0.08, total_steps=12)
    left = [
        float(keras.ops.convert_to_numpy(each.learning_rate))
        for each in model.optimizer.optimizers
    ]
    assert sorted(left) == pytest.approx([0.3, 0.5])


def test_steers_inside_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = line()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    rates = spied(model, WarmupCosine(0.08, warmup_epochs=1))
    assert_rates(rates, range(12), peak=0.08, total_steps=12, warmup_steps=4)


@pytest.mark.skipif(
    backend.NAME == "torch", reason="Keras refuses steps_per_execution"
)
def test_sets_the_rate_once_an_execution():
    model = line()
    model.compile(keras.optimizers.SGD(0.5), "mse", steps_per_execution=2)
    rates = spied(model, WarmupCosine(0.08))
    assert_rates(rates, range(0, 12, 2), peak=0.08, total_steps=12)


def batches(endless=True):
    while True:
        for start in range(0, 12, 3):
            yield X[start : start + 3], Y[start : start + 3]
        if not endless:
            return


def test_data_of_unknown_length_need_the_number_of_steps():
    with pytest.raises(ValueError, match="Pass `steps_per_epoch` to fit"):
        spied(line(), WarmupCosine(0.08), data=batches())
    with pytest.raises(ValueError, match="or `warmup_steps` to Warm"):
        spied(
            line(),
            WarmupCosine(0.08, total_steps=9, warmup_epochs=1),
            data=batches(),
        )


def test_data_of_unknown_length_can_be_told_their_steps():
    rates = spied(line(), WarmupCosine(0.08), data=batches(), steps_per_epoch=4)
    assert_rates(rates, range(12), peak=0.08, total_steps=12)


def test_data_of_unknown_length_are_counted_if_the_total_is_given():
    rates = spied(
        line(),
        WarmupCosine(0.08, total_steps=6, warmup_steps=2),
        data=batches(endless=False),
        epochs=1,
    )
    assert_rates(rates, range(4), peak=0.08, total_steps=6, warmup_steps=2)


@pytest.mark.skipif(backend.NAME != "tensorflow", reason="reads tf.data")
def test_a_tf_dataset_that_hides_its_length_is_counted():
    tf = pytest.importorskip("tensorflow")

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)
    hidden = data.filter(lambda *_: True)
    rates = spied(line(), WarmupCosine(0.08, total_steps=10), data=hidden)
    assert_rates(rates, range(12), peak=0.08, total_steps=10)
    rates = spied(line(), WarmupCosine(0.08), data=data)
    assert_rates(rates, range(12), peak=0.08, total_steps=12)


def test_a_resumed_run_over_unknown_steps_is_refused():
    with pytest.raises(ValueError, match="cannot resume without the number"):
        spied(
            line(),
            WarmupCosine(0.08, total_steps=9),
            data=batches(),
            initial_epoch=1,
        )


def test_the_learning_rate_is_given_back_after_training():
    model = line()
    spied(model, WarmupCosine(0.08))
    assert float(model.optimizer.learning_rate) == 0.5


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def test_an_interrupted_fit_gives_the_learning_rate_back_at_the_next():
    callback, model, other = WarmupCosine(0.08), line(), line("adam")
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            X, Y, callbacks=[callback, Interrupt()], verbose=0, batch_size=3
        )
    rates = spied(other, callback)
    assert_rates(rates, range(12), peak=0.08, total_steps=12)
    assert float(other.optimizer.learning_rate) == pytest.approx(1e-3)
    assert float(model.optimizer.learning_rate) == 0.5


@pytest.mark.parametrize("first", [0, 1])
def test_gradients_can_be_monitored_meanwhile_in_any_order(first):
    model, found = line(), []
    for interrupts in (True, False):
        monitor = GradientNormMonitor()
        callbacks = [WarmupCosine(0.08, warmup_epochs=1), monitor]
        callbacks = [*callbacks[first:], *callbacks[:first]]
        settings = {"epochs": 3, "shuffle": False, "verbose": 0}
        if interrupts:
            with pytest.raises(KeyboardInterrupt):
                model.fit(X, Y, callbacks=[*callbacks, Interrupt()], **settings)
            found = [model.train_function]
            model.set_weights(line().get_weights())
            continue
        model.fit(X, Y, batch_size=3, callbacks=callbacks, **settings)
        assert len(monitor.history["grad_norm"]) == 12
    rates = expected(range(12), peak=0.08, total_steps=12, warmup_steps=4)
    for received, wanted in zip(
        model.get_weights(), trained_by_numpy(rates), strict=True
    ):
        # Twelve float32 steps.
        np.testing.assert_allclose(received, wanted, rtol=1e-5)
    assert model.train_function not in found
    assert not hasattr(model.train_function, "kerascomp_probe")


def test_an_optimizer_with_a_schedule_is_refused():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)
    model = line(keras.optimizers.SGD(schedule))
    with pytest.raises(ValueError, match="has a schedule of its own"):
        spied(model, WarmupCosine(0.08))


@needs_multi_optimizer
def test_optimizers_that_update_at_different_steps_are_refused():
    optimizers = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(0.5),
        {".*bias": keras.optimizers.SGD(0.3, gradient_accumulation_steps=2)},
    )
    model = line(keras.optimizers.MultiOptimizer(optimizers))
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps=\[1, 2"):
        spied(model, WarmupCosine(0.08))


def test_a_warmup_as_long_as_the_run_is_refused():
    with pytest.raises(
        ValueError,
        match=r"less than `total_steps`.*=12 \(in upd.*3 epochs of 4 st",
    ):
        spied(line(), WarmupCosine(0.08, warmup_epochs=3))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"warmup_epochs": 1, "warmup_steps": 3}, "at most one of `warmup_ep"),
        ({"total_epochs": 1, "total_steps": 3}, "at most one of `total_epo"),
        ({"warmup_epochs": -1}, "`warmup_epochs` must be in"),
        ({"warmup_steps": -1}, "`warmup_steps` must be an integer"),
        ({"total_epochs": 0}, "`total_epochs` must be in"),
        ({"total_steps": 0}, "`total_steps` must be an integer"),
        ({"peak": -0.1}, "`peak` must be in"),
        ({"floor": 0.2}, "`floor` must be in"),
        ({"start": 0.2}, "`start` must be in"),
        ({"cycles": 0}, "`cycles` must be an integer"),
        ({"cycle_decay": 2.0}, "`cycle_decay` must be in"),
    ],
)
def test_bad_arguments_are_refused_at_construction(bad, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(**{"peak": 0.08, **bad})
