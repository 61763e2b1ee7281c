"""Training pauses, resumes, runs short of memory, and meets divergence."""

import pickle

import backend
import keras
import numpy as np
import populations
import pytest

from kerascomp.callbacks import GradientNormMonitor, WarmupCosine
from kerascomp.population import (
    Population,
    _choice,
    _engine,
    _fitting,
    _program,
    _training,
)

# Each trains twins: `make test` leaves them to the rest of the suite.
pytestmark = pytest.mark.extended

ENGINES = ["vectorized", "looped"]
EPOCHS = 6


def training(models, callbacks=(), engine="vectorized", **arguments):
    x, y = populations.data()
    lanes = len(models)
    plan = _fitting.plan(
        _fitting.Given(x, y, validation_data=populations.data(1)),
        _fitting.Lanes(lanes, 8, EPOCHS, seeds=[3] * lanes),
        _fitting.Steps(),
        [callbacks] * lanes,
        0,
    )
    programs = _choice.Programs(lift_all=True)
    return _training.Training(models, programs, plan, engine, **arguments)


def several():
    """Lanes of two structures, of which one diverges and some stop early."""
    # Keras' dropout on torch draws from a global generator.
    rate = 0.0 if backend.NAME == "torch" else 0.1
    models = [populations.linear(n, rate=rate * n) for n in range(4)]
    keras.utils.set_random_seed(4)
    layers = [keras.Input((3,)), keras.layers.Dense(4, "tanh")]
    other = keras.Sequential([*layers, keras.layers.Dense(2)])
    other.compile(keras.optimizers.Adam(0.5), "mse")
    models[2].set_weights([1e30 * w for w in models[2].get_weights()])
    return [*models, other]


def watched():
    return [
        GradientNormMonitor(),
        WarmupCosine(0.9, warmup_epochs=2),
        keras.callbacks.EarlyStopping(
            "val_loss", patience=2, restore_best_weights=True
        ),
    ]


@pytest.fixture(scope="module")
def uninterrupted():
    """Models and training of each engine, in one go."""
    found = {}
    for engine in ENGINES:
        models = several()
        whole = training(models, watched(), engine)
        whole.advance()
        found[engine] = models, whole
    return found


def assert_same_training(models, own, expected):
    """Everything agrees with a training in one go."""
    twins, whole = expected
    assert own.running == []
    assert own.history.diverged == whole.history.diverged
    for lane, (model, twin) in enumerate(zip(models, twins, strict=True)):
        populations.assert_same_variables(model, twin)
        populations.assert_same_history(own.history[lane], whole.history[lane])
        monitor, warmup, stop = own.history.callbacks[lane]
        others = whole.history.callbacks[lane]
        record, other = monitor.history, others[0].history
        assert record["step"].tolist() == other["step"].tolist()
        np.testing.assert_allclose(
            record["grad_norm"], other["grad_norm"], rtol=1e-5
        )
        assert warmup.model is model
        assert stop.best == pytest.approx(others[2].best, rel=1e-5, nan_ok=True)
        assert stop.stopped_epoch == others[2].stopped_epoch


@pytest.mark.skipif(
    backend.NAME == "torch", reason="without noise, all lanes stop alike"
)
def test_the_case_has_lanes_of_all_kinds(uninterrupted):
    _, whole = uninterrupted["looped"]
    assert whole.history.diverged == [None, None, 0, None, None]
    lengths = {len(own["loss"]) for own in whole.history}
    assert len(lengths) > 2
    assert max(lengths) > 4


@pytest.mark.parametrize("engine", ENGINES)
def test_pieces_give_what_one_go_gives(uninterrupted, engine):
    models = several()
    pieces = training(models, watched(), engine)
    for until in (1, 3, 4, None):
        pieces.advance(until)
    assert_same_training(models, pieces, uninterrupted[engine])


@pytest.mark.skipif(
    backend.NAME == "torch",
    reason="members use their own probe, whose steps count from 0",
)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("until", [1, 4])
def test_a_lane_goes_on_in_newly_built_models(uninterrupted, engine, until):
    first = training(several(), watched(), engine)
    first.advance(until)
    states = [first.lane_state(lane) for lane in range(5)]
    for state in states:
        assert all(type(own) is np.ndarray for own in state.variables)
    states = pickle.loads(pickle.dumps(states))
    models = several()
    second = training(models, watched(), engine)
    for lane, state in enumerate(states):
        second.restore(lane, state)
    second.advance()
    assert_same_training(models, second, uninterrupted[engine])


def test_a_lane_that_takes_another_over_counts_its_steps_on():
    first = training([populations.linear(n) for n in (0, 1)])
    first.advance(2)
    second = training([populations.linear(n) for n in (0, 1)])
    second.begin_with(1, first.lane_state(1).variables)
    states = [second.lane_state(lane) for lane in (0, 1)]
    assert [state.step for state in states] == [0, 6]  # 2 epochs of 3 steps.


def test_a_state_does_not_change_after_it_was_taken():
    states = []
    models = [populations.linear(n) for n in (0, 1)]
    own = training(
        models, on_epoch=lambda lanes: states.append(own.lane_state(lanes[1]))
    )
    own.advance()
    assert [state.epoch for state in states] == [1, 2, 3, 4, 5, 6]
    assert [state.step for state in states] == [3, 6, 9, 12, 15, 18]
    assert [len(s.history["loss"]) for s in states] == [1, 2, 3, 4, 5, 6]
    kernels = [state.variables[0] for state in states]
    assert len({kernel.tobytes() for kernel in kernels}) == EPOCHS
    np.testing.assert_equal(models[1].get_weights()[0], kernels[-1])


def test_a_dropped_lane_keeps_what_it_has():
    models, twins = ([populations.linear(n) for n in range(3)] for _ in "12")
    own = training(models, [keras.callbacks.EarlyStopping(patience=9)])
    own.advance(2)
    own.drop([1])
    assert own.running == [0, 2]
    assert own.lane_state(1).stopped
    own.advance()
    alone = training(twins, engine="looped")
    alone.advance(2)
    populations.assert_same_variables(models[1], twins[1])
    alone.advance()
    for lane in (0, 2):
        populations.assert_same_variables(models[lane], twins[lane])
    assert [len(h["loss"]) for h in own.history] == [6, 2, 6]


def test_an_interrupted_training_leaves_what_it_got_to():
    def interrupt(lanes):
        raise KeyboardInterrupt

    models, twins = ([populations.linear(n) for n in (0, 1)] for _ in "12")
    with pytest.raises(KeyboardInterrupt):
        training(models, on_epoch=interrupt).advance()
    training(twins).advance(1)
    for model, twin in zip(models, twins, strict=True):
        populations.assert_same_variables(model, twin)


class ShortOfMemory:
    """Lets a training step fail above a number of lanes."""

    def __init__(self, monkeypatch, most, from_step=0):
        program = _engine.backend_program()
        original = program.train
        self.batch_sizes = set()

        def train(own, state, numbers, batch, step):
            lanes = np.size(keras.ops.convert_to_numpy(state.broken))
            if lanes > most and step >= from_step:
                raise MemoryError("too many lanes")
            self.batch_sizes.add(batch.x.shape[-2])
            return original(own, state, numbers, batch, step)

        monkeypatch.setattr(program, "train", train)


needs_programs = pytest.mark.skipif(
    backend.NAME == "torch", reason="has no programs of many lanes"
)


@pytest.mark.slow
@needs_programs
@pytest.mark.parametrize("engine", ["vectorized", "auto"])
@pytest.mark.parametrize("from_step", [0, 5])
def test_lanes_run_in_parts_where_memory_is_short(
    monkeypatch, engine, from_step
):
    monkeypatch.setattr(_choice, "_LEAST_SECONDS_A_LANE", {backend.NAME: 9.0})
    memory = ShortOfMemory(monkeypatch, most=2, from_step=from_step)
    weights = np.random.default_rng(0).uniform(size=(5, populations.SAMPLES))
    _, histories = populations.assert_like_fit(
        populations.member,
        lanes=5,
        engine=engine,
        weights=weights,
        callbacks=[GradientNormMonitor()],
        validation_data=populations.data(1),
    )
    assert memory.batch_sizes == {8}
    assert histories.notes == [
        "out of memory with 5 lanes at once: they run in 2 parts",
        "out of memory with 5 lanes at once: they run in 4 parts",
    ]


@needs_programs
def test_too_little_memory_for_one_lane_is_an_error(monkeypatch):
    ShortOfMemory(monkeypatch, most=0, from_step=5)
    models = [populations.linear(n) for n in (0, 1)]
    with pytest.raises(MemoryError, match=r"single lane\. Lower"):
        Population(models, "vectorized").fit(
            *populations.data(), batch_size=8, epochs=3
        )


@needs_programs
def test_out_of_memory_is_told_from_other_errors():
    class XlaRuntimeError(RuntimeError):
        pass

    class OutOfMemoryError(RuntimeError):
        pass

    found = _program.is_out_of_memory
    assert found(XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert found(OutOfMemoryError("CUDA"))
    assert not found(ValueError("shapes"))


class FirstLossThatIsNotFinite(keras.callbacks.Callback):
    step = None

    def __init__(self):
        super().__init__()
        self.seen = 0

    def on_train_batch_end(self, batch, logs=None):
        if self.step is None and not np.isfinite(logs["loss"]):
            self.step = self.seen
        self.seen += 1


def doubling(rate, weight=1.0):
    """Each step on x = 1, y = 0 multiplies the weight by 1 - 2 * rate."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
    )
    model.set_weights([np.array([[weight]])])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


@pytest.mark.parametrize("engine", ENGINES)
def test_the_step_of_divergence_is_that_of_the_loss_of_fit(engine):
    x, y = np.ones((4, 1)), np.zeros((4, 1))
    # The weight is multiplied by -1e10, then by -1e5; its square overflows
    # 3.4e38 when it is 1e20. In the last, the weight itself overflows with the
    # first step.
    cases = [(0.1, 1.0), (5e9, 1.0), (5e4, 1.0), (1e38, 10.0)]
    models = [doubling(*case) for case in cases]
    history = Population(models, engine).fit(
        x, y, batch_size=1, epochs=2, shuffle=False
    )
    expected = []
    for case in cases:
        noted = FirstLossThatIsNotFinite()
        doubling(*case).fit(
            x, y, 1, epochs=2, shuffle=False, verbose=0, callbacks=[noted]
        )
        expected.append(noted.step)
    assert history.diverged == expected
    assert expected == [None, 2, 4, 1]
    assert [len(own["loss"]) for own in history] == [2, 1, 2, 1]
    for own, step in zip(history, expected, strict=True):
        assert np.isnan(own["loss"][-1]) == (step is not None)
    assert all(np.isfinite(m.get_weights()[0]).all() for m in models)
    if engine == "vectorized" and backend.NAME != "torch":
        # The weights are those before the step.
        frozen = [float(m.get_weights()[0].item()) for m in models]
        assert frozen[1] == pytest.approx(1e20, rel=1e-5)
        assert frozen[3] == 10.0


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_that_overflow_in_the_last_step_are_noticed(engine):
    model = doubling(1e38, 10.0)
    history = Population([model, doubling(0.1)], engine).fit(
        np.ones((1, 1)), np.zeros((1, 1)), epochs=1
    )
    assert history.diverged == [1, None]  # The loss of a second would be.
    assert np.isnan(history[0]["loss"]).tolist() == [True]
    assert float(model.get_weights()[0].item()) == 10.0


def test_training_ends_when_all_lanes_have_diverged():
    epochs = []
    models = [doubling(1e38, 10.0) for _ in range(2)]
    x, y = np.ones((4, 1)), np.zeros((4, 1))
    plan = _fitting.plan(
        _fitting.Given(x, y),
        _fitting.Lanes(2, 1, 1000),
        _fitting.Steps(),
        [(), ()],
        0,
    )
    own = _training.Training(
        models, _choice.Programs(), plan, "vectorized", on_epoch=epochs.append
    )
    own.advance()
    assert epochs == [[0, 1]]
    assert own.running == []
    assert own.history.diverged == [1, 1]
