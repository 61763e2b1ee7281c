"""Populations read data as `fit` does, and refuse what they cannot read."""

import itertools

import backend
import keras
import numpy as np
import populations
import pytest

from kerascomp.population import Population, _data

ENGINES = ["vectorized", "looped"]
CUTS = (0, 5, 13, 16)  # Batches of unequal sizes.


def batches(weighted=False):
    x, y = populations.data()
    weight = np.linspace(0.5, 2.0, len(x)).astype("float32")
    for start, stop in itertools.pairwise(CUTS):
        part = slice(start, stop)
        yield (x[part], y[part], weight[part])[: 3 if weighted else 2]


class Batches(keras.utils.PyDataset):
    def __init__(self, weighted=False):
        super().__init__()
        self.batches = list(batches(weighted))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    x, y = populations.data()
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(10)


def tf_dataset_of_unknown_length():
    dataset = tf_dataset()
    return dataset.filter(lambda *_: True)


def endless():
    while True:
        yield from batches(weighted=True)


def data_loader():
    torch = pytest.importorskip("torch")
    x, y = map(torch.from_numpy, populations.data())
    dataset = torch.utils.data.TensorDataset(x, y.float())
    return torch.utils.data.DataLoader(dataset, batch_size=10)


STREAMS = {
    "tf.data": (tf_dataset, {}),
    "tf.data in parts": (tf_dataset, {"steps_per_epoch": 2, "epochs": 4}),
    "tf.data of unknown length": (tf_dataset_of_unknown_length, {}),
    "PyDataset": (Batches, {"class_weight": {0: 0.5, 1: 2.0}}),
    "PyDataset in parts": (
        lambda: Batches(weighted=True),
        {"steps_per_epoch": 2, "epochs": 4, "initial_epoch": 1},
    ),
    "a validation stream": (
        Batches,
        {"validation_data": Batches(weighted=True), "validation_freq": 2},
    ),
    "a generator": (endless, {"steps_per_epoch": 2, "epochs": 3}),
    "a generator that ends": (
        lambda: batches(weighted=True),
        {"epochs": 1},
    ),
    "DataLoader": (data_loader, {}),
}


UNCOUNTED = ("tf.data of unknown length", "a generator that ends")


@pytest.mark.parametrize("name", STREAMS)
def test_equals_fit_on_batches_that_come_ready_made(name):
    make, given = STREAMS[name]
    if name == "DataLoader" and backend.NAME != "torch":
        pytest.skip("is for the torch backend")
    if name in UNCOUNTED and backend.NAME == "tensorflow":
        pytest.skip("there, Keras' `iterations` counts the end of the data")
    populations.assert_like_fit(
        populations.linear,
        source=lambda: (make(),),
        batch_size=None,
        **given,
    )


def test_streams_serve_groups_of_different_structure_alike():
    def make(lane):
        keras.utils.set_random_seed(lane)
        layers = [keras.layers.Dense(3)] if lane == 1 else []
        model = keras.Sequential(
            [keras.Input((3,)), *layers, keras.layers.Dense(2)]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    populations.assert_like_fit(
        make,
        lanes=3,
        source=lambda: (Batches(),),
        batch_size=None,
        steps_per_epoch=2,
        epochs=3,
    )


@pytest.mark.parametrize(
    "given",
    [
        {"steps_per_epoch": 2, "epochs": 4},
        {"steps_per_epoch": 5, "epochs": 2},
        {"steps_per_epoch": 1, "epochs": 6, "initial_epoch": 2},
    ],
)
def test_steps_per_epoch_cut_arrays_as_fit_does(given):
    populations.assert_like_fit(
        populations.linear, batch_size=10, validation_freq=2, **given
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_validation_split_is_that_of_fit(engine):
    weights = np.random.default_rng(0).uniform(size=(2, populations.SAMPLES))
    populations.assert_like_fit(
        populations.linear,
        engine=engine,
        weights=weights,
        validation_split=0.3,
        epochs=3,
        validation_freq=2,
    )


def test_nested_inputs_come_in_streams_too():
    def make(lane):
        keras.utils.set_random_seed(lane)
        inputs = {
            "a": keras.Input((3,), name="a"),
            "b": keras.Input((2,), name="b"),
        }
        joined = keras.layers.Concatenate()(list(inputs.values()))
        outputs = [
            keras.layers.Dense(2, name="c")(joined),
            keras.layers.Dense(1, name="d")(joined),
        ]
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.1), ["mse", "mae"])
        return model

    class Nested(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            rng = np.random.default_rng(index)
            draw = lambda width: rng.normal(size=(4, width)).astype("float32")
            return {"a": draw(3), "b": draw(2)}, (draw(2), draw(1))

    populations.assert_like_fit(
        make, source=lambda: (Nested(),), batch_size=None
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_lanes_may_have_their_own_batch_sizes_and_epochs(engine):
    x, y = populations.data()
    together, alone = ([populations.linear(n) for n in range(4)] for _ in "12")
    own = {
        "batch_size": [8, 12, 8, 8],
        "epochs": [2, 2, 3, 4],
        "initial_epoch": [0, 0, 0, 1],
    }
    histories = Population(together, engine).fit(x, y, shuffle=False, **own)
    for lane, (model, twin) in enumerate(zip(together, alone, strict=True)):
        given = {name: values[lane] for name, values in own.items()}
        expected = twin.fit(x, y, shuffle=False, verbose=0, **given).history
        populations.assert_same_variables(model, twin)
        populations.assert_same_history(histories[lane], expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_folds_are_lanes(engine):
    x, y = populations.data()
    rng = np.random.default_rng(0)
    order = [rng.permutation(len(x)) for _ in range(3)]
    train, held_out = np.stack(order)[:, :18], np.stack(order)[:, 18:]
    weights = rng.uniform(size=(3, len(x)))
    together, alone = ([populations.linear(n) for n in range(3)] for _ in "12")
    given = {"batch_size": 8, "epochs": 2, "shuffle": False}
    histories = Population(together, engine).fit(
        x,
        y,
        samples=train,
        sample_weight=weights,
        validation_data=(x, y),
        validation_samples=held_out,
        **given,
    )
    for lane, (model, twin) in enumerate(zip(together, alone, strict=True)):
        inside, outside = train[lane], held_out[lane]
        expected = twin.fit(
            x[inside],
            y[inside],
            sample_weight=weights[lane][inside],
            validation_data=(x[outside], y[outside]),
            verbose=0,
            **given,
        ).history
        populations.assert_same_variables(model, twin)
        populations.assert_same_history(histories[lane], expected)


def test_lanes_of_one_seed_see_the_same_batches():
    x, y = populations.data()
    models = [populations.linear(0) for _ in range(4)]
    history = Population(models).fit(
        x, y, batch_size=8, epochs=2, seeds=[1, 1, 2, 3]
    )
    losses = [own["loss"] for own in history]
    assert losses[0] == losses[1]
    assert len({tuple(own) for own in losses}) == 3


def test_orders_are_permutations_that_differ_by_epoch_and_seed():
    orders = _data.Orders(7, [1, 2, None], np.arange(21).reshape(3, 7))
    order = orders.of_lanes([0, 1, 2])
    passes = [order(number) for number in (0, 1)]
    for found in passes:
        assert np.array_equal(
            np.sort(found, axis=1), np.arange(21).reshape(3, 7)
        )
        assert np.array_equal(found[2], np.arange(14, 21))
    first, second = passes
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], first[1] - 7)
    assert np.array_equal(order(0), first)


def test_without_seeds_all_lanes_see_one_order():
    order = _data.Orders(7, [5, 5, 5]).of_lanes([1, 2])
    assert order(3).shape == (7,)


WRONG = {
    "epochs": ({"epochs": [1, 2, 3]}, r"each of the 2 lanes. Received: 3"),
    "initial_epoch": ({"initial_epoch": -1}, "initial_epoch=-1"),
    "batch_size": ({"batch_size": [8, 0]}, "batch_size=0"),
    "seeds": ({"seeds": [1]}, r"each of the 2 lanes. Received: seeds=\[1\]"),
    "validation_freq": ({"validation_freq": 0}, "validation_freq=0"),
    "validation_split": ({"validation_split": 1.0}, "validation_split=1.0"),
    "a split without samples": (
        {"validation_split": 0.99},
        "samples on both sides. Received: validation_split=0.99 of 24",
    ),
    "validation_batch_size": (
        {"validation_batch_size": 0},
        "validation_batch_size=0",
    ),
    "steps_per_epoch": ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
    "samples of too few lanes": (
        {"samples": np.zeros((3, 4), int)},
        "each of the 2 lanes. Received: 3 sets",
    ),
    "samples that are no indices": (
        {"samples": np.zeros((2, 4))},
        r"indices from 0 to 23.*samples\[0\]=array",
    ),
    "samples that do not exist": (
        {"samples": np.full((2, 4), 24)},
        "indices from 0 to 23",
    ),
    "no samples": ({"samples": np.zeros((2, 0), int)}, "at least one"),
    "validation samples": (
        {
            "validation_data": populations.data(),
            "validation_samples": np.full((2, 1), 24),
        },
        "`validation_samples` must be indices",
    ),
    "validation_data": (
        {"validation_data": (1, 2, 3, 4)},
        "Received: tuple",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_before_training(name):
    given, message = WRONG[name]
    models = [populations.linear(n) for n in (0, 1)]
    before = models[1].get_weights()
    with pytest.raises(ValueError, match=message):
        Population(models).fit(*populations.data(), **given)
    np.testing.assert_equal(models[1].get_weights(), before)


WRONG_STREAMS = {
    "a number": (lambda: 5, {}, "Data must be arrays.*Received: 5"),
    "targets": (
        Batches,
        {"y": np.ones(3)},
        "bring their targets.*Received: y",
    ),
    "weights and seeds": (
        Batches,
        {"sample_weight": np.ones(3), "seeds": [1, 2]},
        "Received: sample_weight, seeds",
    ),
    "a split": (
        Batches,
        {"validation_split": 0.5},
        "Received: validation_split",
    ),
    "nothing": (lambda: iter(()), {}, "must be batches. Received: .*iterator"),
    "both weights": (
        lambda: Batches(weighted=True),
        {"class_weight": {0: 1.0}},
        "either `class_weight` or",
    ),
    "weights of no classes": (
        lambda: iter([np.ones((2, 3))]),
        {"class_weight": {0: 1.0}},
        "single array of targets. Received: y of type NoneType",
    ),
    "a generator for two epochs": (
        batches,
        {"epochs": 2},
        "only once cannot serve 2 epochs of 1 groups.*<generator",
    ),
    "a generator for two groups": (
        endless,
        {"steps_per_epoch": 2, "batch_size": [1, 2]},
        "cannot serve 1 epochs of 2 groups",
    ),
    "a generator to validate on": (
        Batches,
        {"epochs": 2, "validation_data": batches()},
        "cannot serve 2 epochs",
    ),
}


@pytest.mark.parametrize("name", WRONG_STREAMS)
def test_wrong_streams_are_refused_before_training(name):
    make, given, message = WRONG_STREAMS[name]
    models = [populations.linear(n) for n in (0, 1)]
    before = models[1].get_weights()
    with pytest.raises(ValueError, match=message):
        Population(models).fit(make(), **given)
    np.testing.assert_equal(models[1].get_weights(), before)


def test_a_stream_that_ends_too_early_says_so():
    source = (batch for batch in batches())
    with pytest.raises(ValueError, match="ended before the training did"):
        Population([populations.linear()]).fit(
            source, steps_per_epoch=2, epochs=5
        )
