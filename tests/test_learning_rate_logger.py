"""The logger of learning rates, against what each step was made with."""

import backend
import keras
import numpy as np
import pytest

from kerascomp.callbacks import LearningRateLogger, WarmupCosine
from kerascomp.schedules import WarmupCosine as Schedule

X = np.random.default_rng(1).normal(size=(12, 2)).astype("float32")
Y = np.random.default_rng(2).normal(size=(12, 1)).astype("float32")
SCHEDULE = Schedule(0.08, 10, 3)
# Of Keras, whose schedules take one step at a time.
THEIRS = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.2, 0.1])


def fit(logger, optimizer, *others, **settings):
    """Trains for 2 epochs of 4 steps; returns the logs of the epochs."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **settings)
    return model.fit(
        X, Y, 3, epochs=2, verbose=0, callbacks=[*others, logger]
    ).history


def expected(schedule, steps):
    return np.array([float(schedule(step)) for step in steps], "float32")


def test_records_schedules_whatever_wraps_them():
    sgd = keras.optimizers.SGD
    for optimizer, schedule in (
        (sgd(THEIRS), THEIRS),
        # Keras calls schedules with micro-steps.
        (sgd(SCHEDULE, gradient_accumulation_steps=2), SCHEDULE),
        (keras.optimizers.LossScaleOptimizer(sgd(SCHEDULE)), SCHEDULE),
    ):
        logger = LearningRateLogger()
        logs = fit(logger, optimizer)
        assert logger.history["step"].tolist() == [*range(8)]
        rates = expected(schedule, range(8))
        np.testing.assert_allclose(
            logger.history["learning_rate"], rates, rtol=1e-6
        )
        assert logs["learning_rate"] == pytest.approx(rates[[3, 7]])


def test_records_what_callbacks_set_and_some_steps_alone(tmp_path):
    logger = LearningRateLogger(every=3)
    logs = fit(logger, "sgd", WarmupCosine(0.08, warmup_epochs=0.5))
    schedule = Schedule(0.08, 8, 2)
    np.testing.assert_allclose(
        logger.history["learning_rate"],
        expected(schedule, (0, 3, 6)),
        rtol=1e-6,
    )
    assert logs["learning_rate"] == pytest.approx(expected(schedule, (3, 7)))
    logger.to_csv(tmp_path / "rates.csv")
    lines = (tmp_path / "rates.csv").read_text().splitlines()
    assert lines[0] == "step,learning_rate"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "3", "6"]
    (drawn,) = logger.plot().axes[0].lines
    np.testing.assert_allclose(
        drawn.get_ydata(), logger.history["learning_rate"]
    )


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="new in Keras 3.15"
)
def test_records_each_optimizer_of_several():
    optimizers = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(SCHEDULE, name="slow"),
        {".*bias": keras.optimizers.Adam(0.3, name="fast")},
    )
    logger = LearningRateLogger()
    logs = fit(logger, keras.optimizers.MultiOptimizer(optimizers))
    rates = logger.history["learning_rate"]
    assert sorted(rates) == ["fast", "slow"]
    np.testing.assert_allclose(rates["fast"], np.full(8, 0.3), rtol=1e-6)
    np.testing.assert_allclose(
        rates["slow"], expected(SCHEDULE, range(8)), rtol=1e-6
    )
    assert logs["learning_rate_fast"] == pytest.approx([0.3, 0.3])
    assert logs["learning_rate_slow"] == pytest.approx(
        expected(SCHEDULE, (3, 7))
    )


@pytest.mark.skipif(
    backend.NAME == "torch", reason="Keras refuses steps_per_execution"
)
def test_records_every_step_of_an_execution():
    logger = LearningRateLogger()
    fit(logger, keras.optimizers.SGD(SCHEDULE), steps_per_execution=2)
    np.testing.assert_allclose(
        logger.history["learning_rate"],
        expected(SCHEDULE, range(8)),
        rtol=1e-6,
    )


class Set(keras.callbacks.Callback):
    """Sets its own rate before each step, and spoils it afterwards."""

    async_safe = True

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.01 * (batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 7.0


def test_records_what_a_step_is_made_with_whoever_comes_last():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    logger = LearningRateLogger()
    logs = model.fit(
        X, Y, 3, epochs=2, verbose=0, callbacks=[logger, Set()]
    ).history
    np.testing.assert_allclose(
        logger.history["learning_rate"], [0.01, 0.02, 0.03, 0.04] * 2, rtol=1e-6
    )
    assert logs["learning_rate"] == pytest.approx([0.04, 0.04])


def test_hooks_of_keras_go_on_running_beside_the_training():
    seen = keras.callbacks.CallbackList([LearningRateLogger()])
    alone = keras.callbacks.CallbackList([])
    assert seen._async_train == alone._async_train


def test_counts_the_steps_of_data_without_a_length():
    def batches():
        for start in range(0, 12, 3):
            yield X[start : start + 3], Y[start : start + 3]

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(SCHEDULE), "mse")
    logger = LearningRateLogger()
    for _ in range(2):  # A second `fit` starts a new record.
        model.optimizer.iterations.assign(0)
        model.fit(batches(), verbose=0, callbacks=[logger])
        assert logger.history["step"].tolist() == [*range(4)]
        np.testing.assert_allclose(
            logger.history["learning_rate"],
            expected(SCHEDULE, range(4)),
            rtol=1e-6,
        )


def test_an_interrupted_fit_leaves_its_record_alone():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    interrupted, second = LearningRateLogger(), LearningRateLogger()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, 3, verbose=0, callbacks=[interrupted, Interrupt()])
    model.fit(X, Y, 3, verbose=0, callbacks=[second])
    assert interrupted.history["step"].tolist() == [0, 1]
    assert second.history["step"].tolist() == [0, 1, 2, 3]


def test_every_must_be_at_least_1():
    with pytest.raises(ValueError, match="`every` must be an integer of at le"):
        LearningRateLogger(every=0)
