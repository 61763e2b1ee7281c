"""Callbacks run lane by lane, and do what they do in each member's `fit`."""

import backend
import keras
import numpy as np
import populations
import pytest

from kerascomp.callbacks import (
    GradientNormMonitor,
    ScheduleLearningRate,
    WarmupCosine,
)
from kerascomp.population import Population
from kerascomp.schedules import OneCycle

ENGINES = ["vectorized", "looped"]
callbacks = keras.callbacks


def steep(lane):
    """Lanes that overshoot at different epochs, so that they stop apart."""
    return populations.linear(
        lane, optimizer=keras.optimizers.SGD([0.02, 0.9, 1.3][lane])
    )


# Each with what `fit` leaves in the attributes of the callback.
CALLBACKS = {
    "early stopping": (
        lambda: callbacks.EarlyStopping(
            "val_loss", patience=1, restore_best_weights=True
        ),
        ("best", "best_epoch", "stopped_epoch", "wait"),
    ),
    "early stopping, best at the end": (
        lambda: callbacks.EarlyStopping(
            patience=9, restore_best_weights=True, start_from_epoch=1
        ),
        ("best", "best_epoch", "stopped_epoch"),
    ),
    "a schedule of epochs": (
        lambda: callbacks.LearningRateScheduler(lambda n, rate: rate / (n + 1)),
        (),
    ),
    "a plateau": (
        lambda: callbacks.ReduceLROnPlateau(
            factor=0.5, patience=1, min_delta=0.1, cooldown=1
        ),
        ("best", "wait", "cooldown_counter"),
    ),
    "warmup": (
        lambda: WarmupCosine(0.3, warmup_epochs=1, floor=0.01),
        (),
    ),
    "gradient norms": (
        lambda: GradientNormMonitor(every=2),
        ("nonfinite_steps", "without_gradient"),
    ),
    "several": (
        lambda: [
            GradientNormMonitor(per_layer=False),
            ScheduleLearningRate(OneCycle, peak=0.2, warmup_fraction=0.4),
            callbacks.EarlyStopping("grad_norm", patience=1, mode="min"),
        ],
        (),
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CALLBACKS)
def test_equals_fit_with_a_callback(engine, name):
    make, attributes = CALLBACKS[name]
    x, y = populations.data()
    together, alone = ([steep(n) for n in range(3)] for _ in "12")
    given = {"batch_size": 8, "epochs": 5, "shuffle": False}
    given["validation_data"] = populations.data(1)
    histories = Population(together, engine).fit(
        x, y, callbacks=keras.tree.flatten(make()), **given
    )
    for lane, (model, twin) in enumerate(zip(together, alone, strict=True)):
        own = keras.tree.flatten(make())
        expected = twin.fit(x, y, verbose=0, callbacks=own, **given).history
        # The optimizer's variables hold the learning rate that is left.
        populations.assert_same_variables(model, twin)
        populations.assert_same_history(histories[lane], expected)
        (copy, *_), (original, *_) = histories.callbacks[lane], own
        assert copy is not original
        for attribute in attributes:
            assert getattr(copy, attribute) == pytest.approx(
                getattr(original, attribute), rel=1e-5
            )
    if name == "early stopping":
        assert len({len(own["loss"]) for own in histories}) > 1
    if name == "gradient norms":
        assert_same_record(copy.history, original.history)


def assert_same_record(record, expected):
    """The records of two monitors of gradients."""
    assert record["step"].tolist() == expected["step"].tolist()
    np.testing.assert_allclose(
        record["grad_norm"], expected["grad_norm"], rtol=1e-5
    )
    # Layers are numbered on in their names.
    pairs = zip(
        record["variables"].values(),
        expected["variables"].values(),
        strict=True,
    )
    for own, other in pairs:
        np.testing.assert_allclose(own, other, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_callbacks_meet_lanes_that_diverge(engine):
    x, y = populations.data()
    models = [
        populations.linear(0, optimizer=keras.optimizers.SGD(rate))
        for rate in (1e30, 0.1)
    ]
    stop = callbacks.EarlyStopping(patience=0, restore_best_weights=True)
    history = Population(models, engine).fit(
        x,
        y,
        8,
        epochs=2,
        callbacks=[callbacks.TerminateOnNaN(), stop],
        validation_split=0.25,
    )
    assert history.diverged[0] == 1
    assert history.diverged[1] is None
    assert [len(own["loss"]) for own in history] == [1, 2]
    assert all(np.isfinite(w).all() for w in models[0].get_weights())


REFUSED = {
    "ModelCheckpoint": (
        lambda path: callbacks.ModelCheckpoint(path / "model.keras"),
        "restore_best_weights=True",
    ),
    "CSVLogger": (
        lambda path: callbacks.CSVLogger(path / "log.csv"),
        "write `history`",
    ),
    "TensorBoard": (
        lambda path: callbacks.TensorBoard(path),
        "fit the best model again",
    ),
    "BackupAndRestore": (
        lambda path: callbacks.BackupAndRestore(path),
        "resumes by itself",
    ),
    "LambdaCallback": (
        lambda _: callbacks.LambdaCallback(on_epoch_end=print),
        "`lane_wise = True`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_callback_that_cannot_run_by_lane_is_refused(name, tmp_path):
    make, advice = REFUSED[name]
    model = populations.linear()
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"{name} cannot: .*{advice}"):
        Population([model]).fit(*populations.data(), callbacks=[make(tmp_path)])
    np.testing.assert_equal(model.get_weights(), before)


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="Received: 'stop'"):
        Population([populations.linear()]).fit(
            *populations.data(), callbacks=["stop"]
        )


class Curious(callbacks.Callback):
    """Does what a callback may do with its model."""

    lane_wise = True

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.calls, self.batch_losses, self.scores = [], [], []

    def on_train_begin(self, logs=None):
        self.calls.append("begin")

    def on_batch_end(self, batch, logs=None):
        self.batch_losses.append(logs["loss"])

    def on_test_end(self, logs=None):
        self.calls.append(f"test {logs['loss'] > 0}")

    def on_epoch_end(self, epoch, logs=None):
        weights = self.model.get_weights()
        self.model.save(self.folder / f"{epoch}.keras")
        x, y = populations.data(1)
        self.scores.append(self.model.evaluate(x, y, verbose=0))
        np.testing.assert_allclose(self.scores[-1], logs["val_loss"], rtol=1e-5)
        if epoch == 0:
            self.model.set_weights([w / 2 for w in weights])
        else:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.calls.append("end")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_callback_of_ones_own_may_use_its_model(engine, tmp_path):
    x, y = populations.data()
    together, alone = ([populations.linear(n) for n in (0, 1)] for _ in "12")
    given = {"batch_size": 8, "epochs": 4, "shuffle": False}
    given["validation_data"] = populations.data(1)
    histories = Population(together, engine).fit(
        x, y, callbacks=[Curious(tmp_path)], **given
    )
    for lane, (model, twin) in enumerate(zip(together, alone, strict=True)):
        own, expected = histories.callbacks[lane][0], Curious(tmp_path)
        found = twin.fit(x, y, verbose=0, callbacks=[expected], **given).history
        populations.assert_same_variables(model, twin)
        populations.assert_same_history(histories[lane], found)
        assert len(found["loss"]) == 2
        assert own.batch_losses == pytest.approx(
            expected.batch_losses, rel=1e-5
        )
        # `evaluate` of the model, by the callback, is a test of its own to
        # `fit`, too, but not to its callbacks.
        assert own.calls == expected.calls
        assert own.scores == pytest.approx(expected.scores, rel=1e-5)
        assert own.model is model
    saved = keras.models.load_model(tmp_path / "1.keras")
    np.testing.assert_allclose(
        saved.get_weights()[0], together[1].get_weights()[0], rtol=1e-6
    )


@pytest.mark.skipif(backend.NAME == "torch", reason="is not vectorized")
def test_lanes_that_stop_are_left_out_and_the_others_go_on():
    class StopAt(callbacks.Callback):
        lane_wise = True

        def on_epoch_end(self, epoch, logs=None):
            last = round(float(self.model.optimizer.learning_rate) * 100)
            self.model.stop_training = epoch + 1 >= last

    x, y = populations.data()
    make = lambda lane: populations.linear(
        lane, optimizer=keras.optimizers.SGD(0.01 * (1 + lane % 4))
    )
    together, alone = ([make(n) for n in range(5)] for _ in "12")
    given = {"batch_size": 8, "epochs": 9, "shuffle": False}
    histories = Population(together, "vectorized").fit(
        x, y, callbacks=[StopAt()], **given
    )
    assert [len(own["loss"]) for own in histories] == [1, 2, 3, 4, 1]
    for lane, (model, twin) in enumerate(zip(together, alone, strict=True)):
        twin.fit(x, y, 8, epochs=1 + lane % 4, shuffle=False, verbose=0)
        populations.assert_same_variables(model, twin)
