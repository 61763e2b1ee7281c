"""Weight files that are copied hold what Keras would have written."""

import h5py
import keras
import numpy as np
import populations
import pytest

from kerascomp.tuners import _weights

pytestmark = pytest.mark.one_backend


def trained(seed):
    x, y = populations.data()
    model = populations.member(seed, rate=0.2)
    model.fit(x, y, batch_size=8, verbose=0)
    return model


@pytest.fixture
def asked(monkeypatch):
    """The models that Keras was asked to save."""
    found = []
    save = keras.Model.save_weights

    def noting(model, *args, **kwargs):
        found.append(model)
        return save(model, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "save_weights", noting)
    return found


def contents(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def test_later_models_get_the_file_that_keras_writes(tmp_path, asked):
    files = _weights.WeightFiles()
    models = [trained(seed) for seed in range(3)]
    paths = [tmp_path / f"{n}.weights.h5" for n in range(3)]
    for model, path in zip(models, paths, strict=True):
        files.save(model, path)
    assert asked == models[:1]
    for model, path in zip(models, paths, strict=True):
        model.save_weights(tmp_path / "expected.weights.h5")
        expected = contents(tmp_path / "expected.weights.h5")
        own = contents(path)
        assert own.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(own[name], array, err_msg=name)
            assert own[name].dtype == array.dtype
    twin = trained(7)
    twin.load_weights(paths[2])
    populations.assert_same_variables(twin, models[2], rtol=0)


def test_keras_writes_where_numbers_cannot_be_told_apart(tmp_path, asked):
    files = _weights.WeightFiles()
    for number in range(2):
        model = populations.member(0)
        model.optimizer.build(model.trainable_variables)  # Moments of zeros.
        files.save(model, tmp_path / f"{number}.weights.h5")
    assert len(asked) == 2


def test_other_layers_of_the_same_shapes_get_a_file_of_their_own(
    tmp_path, asked
):
    files = _weights.WeightFiles()
    for inner in (keras.layers.Activation("relu"), keras.layers.Dropout(0.1)):
        layers = [keras.Input((3,)), inner, keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        x, y = populations.data()
        model.fit(x, y, verbose=0)
        path = tmp_path / f"{inner.name}.weights.h5"
        files.save(model, path)
        model.save_weights(tmp_path / "expected.weights.h5")
        expected = contents(tmp_path / "expected.weights.h5")
        assert contents(path).keys() == expected.keys()
    assert len(asked) == 4
