"""What lanes share and what they do not: noise, numbers, programs, ends."""

import backend
import keras
import numpy as np
import populations
import pytest

from kerascomp.population import (
    Population,
    _engine,
    _lane_noise,
    _lifting,
    _structure,
)

# Each trains twins: `make test` leaves them to the rest of the suite.
pytestmark = pytest.mark.extended

ENGINES = ["vectorized", "looped"]
ops = keras.ops


def groups(models, **arguments):
    population = Population(models, **arguments)
    return population._groups(population._source(*populations.data(), None, 8))


def probe(layer, seed):
    """Trains nothing, and returns its noise as the loss."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((64,)), layer(), keras.layers.Dense(1, use_bias=False)]
    )
    model.set_weights([np.ones((64, 1))])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


NOISY = {
    "dropout": (lambda n: keras.layers.Dropout(0.2 * n), "Dropout.rate"),
    "spatial": (
        lambda n: keras.Sequential(
            [
                keras.layers.Reshape((8, 8)),
                keras.layers.SpatialDropout1D(0.2 * n),
                keras.layers.Flatten(),
            ]
        ),
        "SpatialDropout1D.rate",
    ),
    "alpha": (
        lambda n: keras.layers.AlphaDropout(0.2 * n),
        "AlphaDropout.rate",
    ),
    "gaussian": (
        lambda n: keras.layers.GaussianDropout(0.2 * n),
        "GaussianDropout.rate",
    ),
    "noise": (
        lambda n: keras.layers.GaussianNoise(0.2 * n),
        "GaussianNoise.stddev",
    ),
}


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("seeds", [(5, 5, 5), (5, 5, 6)])
def test_noise_is_common_where_the_seed_is(name, seeds):
    if backend.NAME == "torch" and name == "dropout":
        pytest.skip("Keras' dropout on torch draws from a global generator")
    make, lifted = NOISY[name]
    scales = (1, 2, 1) if seeds[0] == seeds[2] else (1, 1, 2)
    models = [
        probe(lambda n=n: make(n), seed)
        for n, seed in zip(scales, seeds, strict=True)
    ]
    (group,) = groups_of_probes(models)
    assert lifted in group.lifting.names
    x, y = np.ones((16, 64), "float32"), np.zeros((16, 1), "float32")
    history = Population(models, "vectorized").fit(x, y, 16)
    losses = [own["loss"][0] for own in history]
    alike = [n for n in range(3) if (scales[n], seeds[n]) == (1, 5)]
    assert len({losses[n] for n in alike}) == 1
    assert len(set(losses)) == 2


def groups_of_probes(models):
    population = Population(models)
    x, y = np.ones((4, 64), "float32"), np.zeros((4, 1), "float32")
    return population._groups(population._source(x, y, None, 4))


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_dropout_keeps_its_share_in_every_lane(rate):
    layer = lambda: keras.layers.Dropout(rate)
    models = [probe(layer, seed) for seed in range(4)]
    x, y = np.ones((256, 64), "float32"), np.zeros((256, 1), "float32")
    history = Population(models, "vectorized").fit(x, y, 256)
    # The mean square of a sum of 64 values 0 or 1 / (1 - rate).
    expected = 64**2 + 64 * rate / (1 - rate)
    losses = [own["loss"][0] for own in history]
    # The square's standard deviation is 2 * 64 times that of the sum; 4
    # standard errors of a mean over 256 samples.
    error = 2 * 64 * np.sqrt(64 * rate / (1 - rate)) / np.sqrt(256)
    np.testing.assert_allclose(losses, expected, atol=4 * error)
    assert len(set(losses)) == 4


@pytest.mark.skipif(backend.NAME == "torch", reason="has no 32-bit words")
def test_hashed_noise_is_uniform_and_independent():
    draw = lambda seed, count: ops.convert_to_numpy(
        _lane_noise.hashed_uniform(np.array([seed, count]), (2000,))
    )
    draws = [draw(s, c) for s, c in ((0, 0), (1, 0), (0, 1), (2**30, 7))]
    for numbers in draws:
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
        # Chi-squared with 19 degrees of freedom: beyond 50 once in 7,000.
        assert np.sum((counts - 100) ** 2 / 100) < 50
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    # The standard error is 1 / sqrt(2000) = 0.022; 4 of them.
    assert np.abs(correlations).max() < 0.09
    assert np.array_equal(draws[0], draw(0, 0))


def test_members_of_one_structure_share_a_group_whatever_their_numbers():
    models = [
        populations.member(
            seed,
            keras.optimizers.Adam(0.1**seed, clipnorm=seed + 1.0),
            rate=0.2 * seed + 0.1,
            l2=0.1**seed,
            smoothing=0.1 * seed + 0.1,
        )
        for seed in range(3)
    ]
    (group,) = groups(models)
    assert sorted(group.lifting.names) == [
        "Adam.clipnorm",
        "CategoricalCrossentropy.label_smoothing",
        "Dropout.rate",
        "L2.l2",
    ]


def changed(layer=None, loss="mse", optimizer="sgd", units=2):
    layers = [layer] if layer else []
    model = keras.Sequential(
        [keras.Input((3,)), *layers, keras.layers.Dense(units)]
    )
    model.compile(optimizer, loss)
    return model


def scaled_loss(scale):
    def loss(y_true, y_pred):
        return scale * ops.mean(ops.square(y_true - y_pred), axis=-1)

    return loss


DIFFERENT = {
    "activation": (
        lambda: changed(keras.layers.Dense(3, "relu")),
        lambda: changed(keras.layers.Dense(3, "tanh")),
    ),
    "a number that is not lifted": (
        lambda: changed(keras.layers.LeakyReLU(0.1)),
        lambda: changed(keras.layers.LeakyReLU(0.2)),
    ),
    "a lambda": (
        lambda: changed(keras.layers.Lambda(lambda x: x + 1)),
        lambda: changed(keras.layers.Lambda(lambda x: x + 2)),
    ),
    "what a loss closed over": (
        lambda: changed(loss=scaled_loss(1.0)),
        lambda: changed(loss=scaled_loss(2.0)),
    ),
    "an optimizer": (
        lambda: changed(optimizer="sgd"),
        lambda: changed(optimizer="adam"),
    ),
    "a number in another branch": (
        lambda: changed(keras.layers.Dropout(0.0)),
        lambda: changed(keras.layers.Dropout(0.1)),
    ),
    "what is frozen": (
        lambda: changed(keras.layers.Dense(3)),
        lambda: changed(keras.layers.Dense(3, trainable=False)),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_members_that_differ_in_more_are_told_apart(name):
    one, other = DIFFERENT[name]
    assert len(groups([one(), other(), one()])) == 2


def test_a_model_is_unchanged_by_training_but_for_its_values():
    models = [populations.member(n, rate=0.1 * (n + 1)) for n in range(2)]
    population = Population(models, "vectorized")
    before = [str(model.get_compile_config()) for model in models]
    population._groups(population._source(*populations.data(), None, 8))
    keys = [_structure.Structure(model).key for model in models]
    population.fit(*populations.data())
    assert [str(model.get_compile_config()) for model in models] == before
    assert [_structure.Structure(model).key for model in models] == keys


def test_steps_of_keras_change_no_structure():
    x, y = populations.data()
    models = [populations.member(n) for n in range(2)]
    for model in models:
        model.fit(x, y, verbose=0)
        model.train_on_batch(x, y)
        model.predict_on_batch(x)
    assert len(groups(models)) == 1


def diverging(seed, learning_rate):
    return populations.linear(
        seed, optimizer=keras.optimizers.SGD(learning_rate)
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_lane_that_diverges_is_frozen_and_the_others_go_on(engine):
    x, y = populations.data()
    make = lambda: [diverging(0, rate) for rate in (0.1, 1e30, 0.2)]
    models, twins = make(), make()
    history = Population(models, engine).fit(
        x, y, 8, epochs=3, shuffle=False, validation_data=(x, y)
    )
    assert history.diverged[0] is None
    assert history.diverged[2] is None
    # The first step goes to about 1e30, and its square is infinite.
    assert history.diverged[1] == 1
    assert np.isnan(history[1]["loss"][0])
    assert np.isnan(history[1]["val_loss"]).all()
    assert all(np.isfinite(w).all() for w in models[1].get_weights())
    for lane in (0, 2):
        assert len(history[lane]["loss"]) == 3
        twins[lane].fit(x, y, 8, epochs=3, shuffle=False, verbose=0)
        populations.assert_same_variables(models[lane], twins[lane])


@pytest.mark.skipif(backend.NAME == "torch", reason="is not vectorized")
def test_dropped_lanes_keep_their_state_and_recompile_at_powers_of_two():
    x, y = populations.data()
    make = lambda: [populations.linear(n) for n in range(6)]
    models, twins = make(), make()
    population = Population(models, "vectorized")
    data = population._source(x, y, None, populations.SAMPLES)
    (group,) = population._groups(data)
    engine = population._programs.engine(group, "vectorized")
    sizes, ends = [], [3, 1, 5, 2, 3, 4]  # Steps until a lane is dropped.
    for step in range(max(ends)):
        engine.train(data.first(), step)
        sizes.append(len(engine._lanes))
        engine.drop([n for n, end in enumerate(ends) if end == step + 1])
    assert sizes == [6, 6, 6, 2, 1]
    for model, twin, end in zip(models, twins, ends, strict=True):
        for _ in range(end):
            twin.train_on_batch(x, y)
        populations.assert_same_variables(model, twin)


@pytest.mark.parametrize("engine", ENGINES)
def test_max_lanes_splits_a_group_without_changing_its_results(engine):
    x, y = populations.data()
    models, twins = ([populations.linear(n) for n in range(5)] for _ in "12")
    arguments = {"batch_size": 8, "shuffle": False}
    population = Population(models, engine, max_lanes=2)
    assert [len(g.lanes) for g in groups(models, max_lanes=2)] == [2, 2, 1]
    population.fit(x, y, **arguments)
    for model, twin in zip(models, twins, strict=True):
        twin.fit(x, y, verbose=0, **arguments)
        populations.assert_same_variables(model, twin)


@pytest.mark.skipif(backend.NAME == "torch", reason="is not compiled")
def test_a_second_fit_compiles_nothing():
    models = [populations.linear(n) for n in range(2)]
    population = Population(models, "vectorized")
    population.fit(*populations.data())
    programs = list(population._programs._programs.values())
    population.fit(*populations.data())
    assert list(population._programs._programs.values()) == programs
    assert [program.traces for program in programs] == [1]


def test_auto_says_what_runs_and_why(capsys):
    models = [populations.linear(n, rate=0.1 * (n + 1)) for n in range(2)]
    Population(models).fit(*populations.data(), verbose=1)
    said = capsys.readouterr().out
    assert "2 lanes" in said
    assert "Dropout.rate" in said
    assert "Epoch 1/1 - loss best" in said
    reason = "in place" if backend.NAME == "torch" else "a step of all lanes"
    assert reason in said


def test_lifted_numbers_decide_like_floats():
    number = _lifting.Lifted(ops.ones(()) / 4, ops.ones(()) * 3 / 4, "positive")
    assert number > 0
    assert number != 1
    assert bool(number)
    assert float(1 - number) == 0.75
    assert float(number * 2) == 0.5
    assert not _lifting.Lifted(ops.zeros(()), ops.ones(()), "zero")
    with pytest.raises(TypeError, match=r"common answer\. Received: gt 0\.5"):
        number > 0.5  # noqa: B015


@pytest.mark.skipif(
    backend.NAME == "torch", reason="own steps alone, nothing is timed"
)
@pytest.mark.parametrize("failing", [{"vectorized"}, set(ENGINES)])
def test_auto_survives_an_engine_that_cannot_be_compiled(
    monkeypatch, capsys, failing
):
    timed = _engine.seconds_a_step

    def fails(engine, batch, repeats):
        if engine.kind in failing:
            raise TypeError("no converter")
        return timed(engine, batch, repeats)

    monkeypatch.setattr(_engine, "seconds_a_step", fails)
    x, y = populations.data()
    models = [populations.member() for _ in range(2)]
    history = Population(models).fit(x, y, batch_size=8, verbose=1)
    assert "vectorized failed: TypeError: no converter" in (
        capsys.readouterr().out
    )
    assert np.isfinite([lane["loss"] for lane in history]).all()
    assert "no converter" in history.notes[0]
