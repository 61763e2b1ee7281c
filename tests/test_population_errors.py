"""Mistakes are refused before training, with what was received."""

import keras
import numpy as np
import populations
import pytest

from kerascomp.population import Population

MEMBER = populations.linear


def shared():
    first = MEMBER()
    second = keras.Sequential(first.layers)
    second.compile("sgd", "mse")
    return [first, second]


def one_optimizer():
    models, optimizer = [MEMBER(), MEMBER()], keras.optimizers.SGD(0.1)
    for model in models:
        model.compile(optimizer, "mse")
    return models


def uncompiled():
    return [MEMBER(), keras.Sequential([keras.Input((3,))])]


def other_inputs():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return [MEMBER(), model]


def other_outputs():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    return [MEMBER(), model]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (list, r"needs members. Received: models=\[\]"),
        (lambda: ["model"], r"Keras models. Received: models\[0\]='model'"),
        (uncompiled, r"must be compiled.*Received: models\[1\]"),
        (shared, r"share variables.*models\[0\] and models\[1\]"),
        (one_optimizer, r"or optimizers.*models\[0\] and models\[1\]"),
    ],
)
def test_models_are_checked_at_construction(models, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Population(models())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "fast"}, "`engine` must be .*Received: engine='fast'"),
        ({"max_lanes": 0}, "`max_lanes` must be .*Received: max_lanes=0"),
    ],
)
def test_arguments_are_checked_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        Population([MEMBER()], **arguments)


@pytest.mark.parametrize(
    ("models", "name"), [(other_inputs, "inputs"), (other_outputs, "outputs")]
)
def test_members_take_and_return_the_same(models, name):
    message = rf"same {name}. Received: models\[0\] .* models\[1\]"
    with pytest.raises(ValueError, match=message):
        Population(models())


@pytest.mark.parametrize("shape", [(5,), (3, populations.SAMPLES), (2, 5)])
def test_sample_weights_have_a_weight_a_sample(shape):
    population = Population([MEMBER(0), MEMBER(1)])
    message = rf"sample_weight.shape=\({shape[0]}"
    with pytest.raises(ValueError, match=message):
        population.fit(*populations.data(), sample_weight=np.ones(shape))


def test_class_and_sample_weights_exclude_each_other():
    with pytest.raises(ValueError, match="Received: both"):
        Population([MEMBER()]).fit(
            *populations.data(),
            class_weight={0: 1.0},
            sample_weight=np.ones(populations.SAMPLES),
        )


def test_arrays_have_the_same_number_of_samples():
    x, y = populations.data()
    with pytest.raises(ValueError, match=r"Received: \[23, 24\] samples"):
        Population([MEMBER()]).fit(x, y[:-1])


def test_validation_data_is_a_pair_or_a_triple():
    x, y = populations.data()
    with pytest.raises(ValueError, match="Received: ndarray"):
        Population([MEMBER()]).fit(x, y, validation_data=x)


@pytest.mark.parametrize("batch_size", [0, 1.5])
def test_batches_have_samples(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}"):
        Population([MEMBER()]).fit(*populations.data(), batch_size)
