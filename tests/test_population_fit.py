"""A population gives every member what its own `fit` would."""

import backend
import keras
import numpy as np
import populations
import pytest

from kerascomp.population import Population
from kerascomp.schedules import WarmupCosine

optimizers = keras.optimizers
ENGINES = ["vectorized", "looped"]

# What differs between two lanes is given by their number, 1 or 2.
OPTIMIZERS = {
    "sgd": lambda n: optimizers.SGD(0.01 * n, momentum=0.4 * n),
    "nesterov": lambda n: optimizers.SGD(0.01 * n, 0.9, nesterov=True),
    "decayed sgd": lambda n: optimizers.SGD(0.01, weight_decay=0.01 * n),
    "adam": lambda n: optimizers.Adam(0.01 * n, 0.4 * n, 1 - 0.01 * n),
    "epsilon": lambda n: optimizers.Adam(0.01, epsilon=1e-3 * n),
    "adamw": lambda n: optimizers.AdamW(0.01, weight_decay=0.01 * n),
    "rmsprop": lambda n: optimizers.RMSprop(0.001 * n, 0.4 * n, 0.3 * n),
    "clipnorm": lambda n: optimizers.SGD(0.1, clipnorm=0.02 * n),
    "global_clipnorm": lambda n: optimizers.SGD(0.1, global_clipnorm=0.1 * n),
    "clipvalue": lambda n: optimizers.SGD(0.1, clipvalue=0.02 * n),
    "ema": lambda n: optimizers.SGD(0.01 * n, use_ema=True, ema_momentum=0.5),
    "schedule": lambda n: optimizers.SGD(WarmupCosine(0.1 * n, 6, 2, 0.01 * n)),
}


@pytest.mark.extended
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_fit_with_numbers_by_lane(name):
    make = OPTIMIZERS[name]
    population, _ = populations.assert_like_fit(
        lambda lane: populations.member(lane, make(lane + 1))
    )
    groups = population._groups(
        population._source(*populations.data(), None, 8)
    )
    assert len(groups) == 1, "the lanes do not share a program"


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_equals_fit_with_validation_and_a_smaller_last_batch(engine):
    x, y = populations.data(1)
    populations.assert_like_fit(
        lambda lane: populations.member(
            lane, l2=0.01 * (lane + 1), smoothing=0.1 * (lane + 1)
        ),
        engine=engine,
        batch_size=10,
        validation_data=(x, y, np.arange(len(x)) / 10),
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_sample_weights_may_differ_by_lane(engine):
    weights = np.random.default_rng(0).uniform(size=(2, populations.SAMPLES))
    populations.assert_like_fit(
        populations.member, engine=engine, weights=weights
    )


def test_sample_weights_may_be_common():
    weights = np.random.default_rng(0).uniform(size=populations.SAMPLES)
    populations.assert_like_fit(populations.member, sample_weight=weights)


def test_class_weights_weigh_the_classes():
    populations.assert_like_fit(
        populations.member, class_weight={0: 0.5, 1: 2.0}
    )


class Subclassed(keras.Model):
    def __init__(self, penalty):
        super().__init__()
        self.hidden = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(3)]
        self.head = keras.layers.Dense(populations.CLASSES)
        self.penalty = penalty

    def call(self, inputs, training=False):
        for layer in self.hidden:
            inputs = layer(inputs)
        self.add_loss(self.penalty * keras.ops.mean(keras.ops.square(inputs)))
        return self.head(inputs)


def subclassed(lane, penalty=0.1):
    keras.utils.set_random_seed(lane)
    model = Subclassed(penalty)
    model.compile(optimizers.SGD(0.1), "mse")
    model(np.zeros((1, populations.FEATURES), "float32"))
    return model


def test_equals_fit_for_subclassed_models_with_losses_of_their_own():
    populations.assert_like_fit(subclassed)


def test_equals_fit_for_sequential_models():
    populations.assert_like_fit(populations.linear)


def test_equals_fit_for_models_of_different_structure():
    def make(lane):
        if lane == 2:
            return subclassed(lane)
        return populations.linear(lane)

    populations.assert_like_fit(make, lanes=4)


class DoubledStep(keras.Model):
    """A model that trains twice on every batch."""

    def train_step(self, *arguments):
        logs = super().train_step(*arguments)
        if isinstance(logs, tuple):  # Functions of a state, on JAX.
            return super().train_step(logs[1], arguments[1])
        return super().train_step(*arguments)


def test_equals_fit_where_the_training_step_is_overridden():
    def make(lane):
        keras.utils.set_random_seed(lane)
        inputs = keras.Input((populations.FEATURES,))
        outputs = keras.layers.Dense(populations.CLASSES)(inputs)
        model = DoubledStep(inputs, outputs)
        model.compile(optimizers.SGD(0.1), "mse")
        return model

    populations.assert_like_fit(make)


def test_equals_fit_with_several_inputs_and_outputs():
    def make(lane):
        keras.utils.set_random_seed(lane)
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        joined = keras.layers.Concatenate()([a, b])
        outputs = {
            "value": keras.layers.Dense(1, name="value")(joined),
            "label": keras.layers.Dense(1, "sigmoid", name="label")(joined),
        }
        model = keras.Model({"a": a, "b": b}, outputs)
        model.compile(
            optimizers.SGD(0.1 * (lane + 1)),
            {"value": "mse", "label": "binary_crossentropy"},
            metrics={"label": ["accuracy"]},
        )
        return model

    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(16, 3)), "b": rng.normal(size=(16, 2))}
    y = {"value": rng.normal(size=(16, 1)), "label": np.ones((16, 1))}
    together, alone = ([make(lane) for lane in (0, 1)] for _ in range(2))
    history = Population(together, "vectorized").fit(x, y, 8, shuffle=False)
    for own, model, twin in zip(history, together, alone, strict=True):
        expected = twin.fit(x, y, 8, shuffle=False, verbose=0).history
        assert own.keys() == expected.keys()
        populations.assert_same_variables(model, twin)


def test_a_second_fit_goes_on_where_the_first_stopped():
    x, y = populations.data()
    once, twice = ([populations.member(n) for n in (0, 1)] for _ in range(2))
    arguments = {"batch_size": 8, "shuffle": False}
    Population(once, "vectorized").fit(x, y, epochs=3, **arguments)
    population = Population(twice, "vectorized")
    population.fit(x, y, epochs=2, **arguments)
    history = population.fit(x, y, epochs=3, initial_epoch=2, **arguments)
    assert [len(own["loss"]) for own in history] == [1, 1]
    for model, twin in zip(twice, once, strict=True):
        populations.assert_same_variables(model, twin)


@pytest.mark.parametrize("engine", ENGINES)
def test_evaluate_and_predict_equal_those_of_the_members(engine):
    models = [populations.member(lane) for lane in range(3)]
    x, y = populations.data()
    population = Population(models, engine)
    results = population.evaluate(x, y, batch_size=10)
    outputs = population.predict(x, batch_size=10)
    for model, result, output in zip(models, results, outputs, strict=True):
        expected = model.evaluate(x, y, 10, verbose=0, return_dict=True)
        assert result == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(
            output, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
        )


@pytest.mark.skipif(backend.NAME == "torch", reason="draws noise in place")
@pytest.mark.parametrize("engine", ENGINES)
def test_equals_fit_with_noise_where_seeds_are_common(engine):
    populations.assert_like_fit(
        lambda lane: populations.linear(0, rate=0.2 * (lane + 1)),
        engine=engine,
    )


def test_shuffled_order_is_common_to_the_lanes_and_follows_the_seed():
    x, y = populations.data()
    losses = []
    for seed in (1, 1, 2):
        models = [populations.linear(0) for _ in range(2)]
        keras.utils.set_random_seed(seed)
        first, second = Population(models).fit(x, y, batch_size=8, epochs=2)
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)
        losses.append(first["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-6)
