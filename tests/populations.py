"""Members, data and comparisons for the tests of populations."""

import keras
import numpy as np

from kerascomp.population import Population

SAMPLES, FEATURES, CLASSES = 24, 3, 2


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    return x, keras.utils.to_categorical(x.sum(axis=1) > 0, CLASSES)


def trunk(inputs, rate=0.0, l2=0.0):
    """Layers that leave no kind of variable out."""
    dense = keras.layers.Dense(
        5, activation="relu", kernel_regularizer=keras.regularizers.L2(l2)
    )
    hidden = keras.layers.BatchNormalization()(dense(inputs))
    hidden = keras.layers.Dropout(rate)(hidden)
    hidden = keras.layers.Dense(5)(hidden) + hidden
    return keras.layers.Dense(CLASSES, activation="softmax")(hidden)


def member(seed=0, optimizer=None, rate=0.0, l2=0.01, smoothing=0.0):
    """A functional model with everything that `fit` has to get right."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, trunk(inputs, rate, l2))
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        keras.losses.CategoricalCrossentropy(label_smoothing=smoothing),
        metrics=["accuracy"],
        weighted_metrics=[keras.metrics.MeanSquaredError(name="error")],
    )
    return model


def linear(seed=0, rate=0.0, optimizer=None):
    """A small sequential model."""
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((FEATURES,)), keras.layers.Dropout(rate)]
    model = keras.Sequential([*layers, keras.layers.Dense(CLASSES)])
    model.compile(optimizer or keras.optimizers.SGD(0.1), "mse")
    return model


def assert_like_fit(
    make,
    lanes=2,
    engine="vectorized",
    weights=None,
    source=data,
    rtol=1e-5,
    **given,
):
    """Trains twins, once together and once by `fit`, and compares them.

    Args:
        make: A function from the lane to a model.
        lanes: How many.
        engine: As in `Population`.
        weights: `(lanes, samples)`, each lane's sample weights.
        source: Returns the data anew.
        rtol: Relative tolerance.
        **given: Arguments of both `fit`s.

    Returns:
        The population and the histories.
    """
    together = [make(lane) for lane in range(lanes)]
    alone = [make(lane) for lane in range(lanes)]
    given = {"batch_size": 8, "epochs": 2, "shuffle": False, **given}
    population = Population(together, engine=engine)
    own = {} if weights is None else {"sample_weight": weights}
    histories = population.fit(*source(), **given, **own)
    for lane, (model, twin) in enumerate(zip(together, alone, strict=True)):
        own = {} if weights is None else {"sample_weight": weights[lane]}
        expected = twin.fit(*source(), verbose=0, **given, **own).history
        assert_same_variables(model, twin, rtol)
        assert_same_history(histories[lane], expected, rtol)
    return population, histories


def assert_same_history(history, expected, rtol=1e-5):
    """All metrics of all epochs agree up to the rounding of float32."""
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(
            history[name], values, rtol=rtol, atol=1e-6, err_msg=name
        )


def assert_same_variables(model, twin, rtol=1e-5):
    """Weights and optimizer state agree up to the rounding of float32."""
    pairs = [
        *zip(model.weights, twin.weights, strict=True),
        *zip(model.optimizer.variables, twin.optimizer.variables, strict=True),
    ]
    for own, expected in pairs:
        own, expected = map(keras.ops.convert_to_numpy, (own, expected))
        # Sums over the batch and products are reordered, some steps in a row.
        np.testing.assert_allclose(
            own.astype("float64"), expected, rtol=rtol, atol=0.2 * rtol
        )
