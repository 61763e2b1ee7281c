import keras
import numpy as np
import pytest

from kerascomp import callbacks

NAMES = ("cat", "dog", "owl")


def data(samples=11):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(samples, 4)).astype("float32")
    # No owl, so that a recall has nothing to divide by.
    return x, rng.integers(0, 2, samples)


def build(classes=3):
    activation = "softmax" if classes > 1 else "sigmoid"
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(classes, activation)(inputs))
    one = "sparse_categorical_crossentropy"
    model.compile("adam", one if classes > 1 else "binary_crossentropy")
    return model


def counted(y, predicted, weights=None, classes=3):
    matrix = np.zeros((classes, classes))
    np.add.at(matrix, (y, predicted), 1 if weights is None else weights)
    return matrix


class Predictions(keras.callbacks.Callback):
    def __init__(self, x):
        super().__init__()
        self.x, self.scores = x, []

    def on_epoch_end(self, epoch, logs=None):
        self.scores.append(self.model.predict(self.x, verbose=0))


def test_counts_each_epoch_whatever_holds_the_data(tmp_path):
    x, y = data()
    weights = np.linspace(0, 2, len(y)).astype("float32")
    one_hot = np.eye(3)[y].astype("float32")
    sparse = callbacks.ConfusionMatrix((x, y), NAMES, batch_size=4)
    batched = callbacks.ConfusionMatrix(
        [(x[:5], one_hot[:5], weights[:5]), (x[5:], one_hot[5:], weights[5:])],
        every=2,
    )
    seen = Predictions(x)
    model = build()
    model.fit(x, y, epochs=3, verbose=0, callbacks=[sparse, batched, seen])
    predicted = [scores.argmax(1) for scores in seen.scores]
    expected = np.array([counted(y, p) for p in predicted])
    np.testing.assert_array_equal(sparse.matrices, expected)
    np.testing.assert_allclose(
        batched.matrices,
        [counted(y, predicted[epoch], weights) for epoch in (0, 2)],
        rtol=1e-6,
    )
    history = sparse.history
    recall = expected[:, 1, 1] / expected[:, 1].sum(1)
    np.testing.assert_allclose(history["recall"]["dog"], recall)
    assert np.isnan(history["recall"]["owl"]).all()
    assert batched.history["epoch"].tolist() == [0, 2]
    sparse.to_csv(tmp_path / "counts.csv")
    lines = (tmp_path / "counts.csv").read_text().splitlines()
    column = lines[0].split(",").index("counts/dog as cat")
    found = [float(line.split(",")[column]) for line in lines[1:]]
    assert found == expected[:, 1, 0].tolist()
    (axes,) = sparse.plot(epoch=0).axes
    assert {text.get_text() for text in axes.texts} == {
        f"{count:g}" for count in expected[0].flat if count
    }
    assert len(sparse.plot("recall").axes) == 1


def test_one_score_stands_for_the_second_of_two_classes():
    x, y = data()
    confusion = callbacks.ConfusionMatrix((x, y), threshold=0.4)
    seen = Predictions(x)
    build(1).fit(x, y, epochs=1, verbose=0, callbacks=[confusion, seen])
    predicted = (seen.scores[0][:, 0] > 0.4).astype(int)
    np.testing.assert_array_equal(
        confusion.matrices[0], counted(y, predicted, classes=2)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": np.ones((3, 4))}, "must hold labels"),
        ({"data": data(), "class_names": ["cat", "cat"]}, "all different"),
        ({"data": data(), "class_names": ["cat"]}, "at least two"),
        ({"data": data(), "every": 0}, "`every`"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        callbacks.ConfusionMatrix(**arguments)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, 3], None, r"classes in \[0, 3\). Received: 3"),
        ([0, -1, 1], None, "Received: -1"),
        ([0, 1, 1], ("cat", "dog"), "2 names, 3 classes"),
    ],
)
def test_labels_outside_the_classes_are_refused_before_training(
    labels, names, message
):
    x, y = data()
    model = build()
    confusion = callbacks.ConfusionMatrix((x[:3], np.array(labels)), names)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0, callbacks=[confusion])
    assert int(model.optimizer.iterations) == 0
