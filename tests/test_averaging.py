import keras
import numpy as np
import pytest

from kerascomp import callbacks
from kerascomp.callbacks import _batches

ops = keras.ops


def data(samples=14):
    rng = np.random.default_rng(4)
    x = rng.normal(3, [1, 2, 5], size=(samples, 3)).astype("float32")
    return x, rng.normal(size=(samples, 2)).astype("float32")


def build():
    layers = [
        keras.layers.BatchNormalization(name="first"),
        keras.layers.Dense(4, name="dense"),
        keras.layers.Dropout(0.5, seed=1),
        keras.layers.BatchNormalization(name="frozen", trainable=False),
        keras.layers.Dense(2, name="out"),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


class Snapshots(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights, self.rates = [], []

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        self.weights.append(
            [ops.convert_to_numpy(v) for v in model.trainable_variables]
        )
        self.rates.append(float(model.optimizer.learning_rate))
        self.others = [v.numpy() for v in model.non_trainable_variables]


def test_ends_with_the_mean_of_the_weights_and_statistics_of_the_data():
    x, y = data()
    model, seen = build(), Snapshots()
    swa = callbacks.StochasticWeightAveraging(
        start_epoch=1,
        period_epochs=2,
        data=x,
        batch_size=4,
        learning_rate=0.01,
    )
    model.fit(x, y, 4, epochs=5, verbose=0, callbacks=[seen, swa])
    assert swa.averaged == 2
    for variable, *weights in zip(
        model.trainable_variables, seen.weights[1], seen.weights[3], strict=True
    ):
        expected = np.mean(np.float64(weights), axis=0).astype("float32")
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), expected)
    np.testing.assert_allclose(seen.rates, [0.1] + [0.01] * 4)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
    assert int(model.optimizer.iterations) == 5 * 4
    first, x = model.get_layer("first"), np.float64(x)
    np.testing.assert_allclose(first.moving_mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(first.moving_variance, x.var(0), rtol=1e-5)
    assert first.momentum == 0.99
    # Frozen statistics, and the seeds of dropout, are as training left them.
    pairs = zip(model.non_trainable_variables, seen.others, strict=True)
    same = [np.array_equal(v.numpy(), old) for v, old in pairs]
    assert same.count(False) == 2


def test_deeper_statistics_are_those_of_batches_as_in_training():
    x, _ = data()
    inputs = keras.Input((3,))
    outputs = keras.layers.BatchNormalization(epsilon=1e-3)(inputs)
    deep = keras.layers.BatchNormalization()
    model = keras.Model(inputs, deep(ops.square(outputs)))
    model.compile("sgd", "mse")
    swa = callbacks.StochasticWeightAveraging(
        start_epoch=0, data=[(x[:6], x[:6]), (x[6:], x[6:])]
    )
    model.fit(x, x, epochs=1, verbose=0, callbacks=[swa])
    gamma, beta = model.layers[1].get_weights()[:2]
    squares = []
    for part in (np.float64(x[:6]), np.float64(x[6:])):
        normal = (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3)
        squares.append((gamma * normal + beta) ** 2)
    squares = np.concatenate(squares)
    np.testing.assert_allclose(deep.moving_mean, squares.mean(0), rtol=1e-5)
    np.testing.assert_allclose(deep.moving_variance, squares.var(0), rtol=1e-4)


def test_warns_where_training_ended_too_early():
    x, y = data()
    model = build()
    swa = callbacks.StochasticWeightAveraging(start_epoch=2, data=x)
    stop = callbacks.TimeStopping(1e-6)
    with pytest.warns(UserWarning, match="averaged nothing"):
        model.fit(x, y, epochs=3, verbose=0, callbacks=[swa, stop])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_epoch": -1}, "`start_epoch`"),
        ({"start_epoch": 0, "period_epochs": 0}, "`period_epochs`"),
        ({"start_epoch": 0, "learning_rate": 0}, "`learning_rate`"),
        ({"start_epoch": 0, "data": iter([])}, "more than once"),
        ({"start_epoch": 0, "data": (np.ones(2), np.ones(3))}, "one length"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        callbacks.StochasticWeightAveraging(**arguments)


def test_what_does_not_fit_the_run_is_refused_before_it():
    x, y = data()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    scheduled = build()
    scheduled.compile(keras.optimizers.SGD(schedule), "mse")
    for model, arguments, message in (
        (build(), {"start_epoch": 2, "data": x}, "less than the `epochs`"),
        (build(), {"start_epoch": 0}, "needs `data`"),
        (
            scheduled,
            {"start_epoch": 0, "data": x, "learning_rate": 0.1},
            "has a schedule",
        ),
    ):
        before = model.get_weights()
        swa = callbacks.StochasticWeightAveraging(**arguments)
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, epochs=2, verbose=0, callbacks=[swa])
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.full((2, 3), index), np.zeros(2)


def test_batches_come_from_arrays_and_from_data_sets():
    x = {"a": np.arange(5), "b": np.arange(10).reshape(5, 2)}
    found = [*_batches.batches((x, np.arange(5)), 2)]
    assert [_batches.size_of(part) for part, *_ in found] == [2, 2, 1]
    assert found[2][0]["b"].tolist() == [[8, 9]]
    assert [found[1][1].tolist(), found[1][2]] == [[2, 3], None]
    data = Sequence()
    _batches.check("data", data)
    assert [part[0, 0] for part, *_ in _batches.batches(data, 7)] == [0, 1]
