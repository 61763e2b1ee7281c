"""Members of all kinds equal their `fit`, and all liftable numbers lift."""

import backend
import keras
import numpy as np
import populations
import pytest

import kerascomp as kc
from kerascomp.population import Population

# Each trains twins: `make test` leaves them to the rest of the suite.
pytestmark = pytest.mark.extended

optimizers, losses = keras.optimizers, keras.losses
regularizers, schedules = keras.regularizers, optimizers.schedules
layers = keras.layers

IMAGES = (6, 5, 2)


def images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, *IMAGES)).astype("float32")
    return x, rng.normal(size=(16, 2)).astype("float32")


def sequences():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 5, 3)).astype("float32")
    return x, rng.normal(size=(16, 2)).astype("float32")


def words():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, size=(16, 4))
    return x, rng.normal(size=(16, 2)).astype("float32")


def stack(*own, shape=(3,), optimizer=None, loss="mse", **compiled):
    model = keras.Sequential([keras.Input(shape), *own, layers.Dense(2)])
    model.compile(optimizer or optimizers.SGD(0.1), loss, **compiled)
    return model


def convolutions(n):
    return stack(
        layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
        layers.DepthwiseConv2D(2),
        layers.BatchNormalization(momentum=0.8),
        layers.MaxPooling2D((2, 1)),
        layers.Flatten(),
        shape=IMAGES,
        optimizer=optimizers.SGD(0.1 * n),  # Adam magnifies zero gradients.
    )


def recurrent(kind):
    def make(n):
        return stack(
            kind(3, return_sequences=True),
            kind(2),
            shape=(5, 3),
            optimizer=optimizers.SGD(0.1 * n),
        )

    return make


def embedding(n):
    return stack(
        layers.Embedding(7, 3, mask_zero=True),
        layers.GlobalAveragePooling1D(),
        shape=(4,),
        optimizer=optimizers.Adam(0.01 * n),
    )


def several_outputs(n):
    inputs = keras.Input((3,))
    hidden = layers.Dense(3, "tanh")(inputs)
    names = ("a", "b")
    outputs = {k: layers.Dense(2, name=k)(hidden) for k in names}
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizers.SGD(0.1 * n),
        {"a": "mse", "b": losses.Huber(0.5 * n)},
        loss_weights={"a": 0.3, "b": 0.7},
    )
    return model


def two_targets():
    x, y = populations.data()
    return x, {"a": y, "b": 2 * y}


def precise(policy, n):
    keras.config.set_dtype_policy(policy)
    hidden = layers.Dense(4, "relu")
    return stack(hidden, optimizer=optimizers.SGD(0.1 * n))


# How each is made from the number 1 or 2; the data; the relative tolerance;
# why lanes do not share a step on TensorFlow, None if they do.
KINDS = {
    "convolutions": (convolutions, images, 2e-5, "one after the other"),
    "GRU": (recurrent(layers.GRU), sequences, 2e-5, "one after the other"),
    "LSTM": (recurrent(layers.LSTM), sequences, 2e-5, "one after the other"),
    "embedding": (embedding, words, 1e-5, None),
    "outputs with weights": (several_outputs, two_targets, 1e-5, None),
    "jit_compile": (
        lambda n: stack(
            optimizer=optimizers.SGD(0.1 * n),
            jit_compile=backend.NAME != "torch",
        ),
        populations.data,
        1e-5,
        None,
    ),
    "bfloat16": (
        lambda n: precise("mixed_bfloat16", n),
        populations.data,
        0.03,  # The precision of bfloat16 is 0.008, and errors add up.
        None,
    ),
    "float16": (
        lambda n: precise("mixed_float16", n),
        populations.data,
        4e-3,  # The precision of float16 is 0.001.
        None,
    ),
    "accumulated gradients": (
        lambda n: stack(
            optimizer=optimizers.SGD(0.1 * n, gradient_accumulation_steps=2)
        ),
        populations.data,
        1e-5,
        "accumulates gradients",
    ),
    "averages that overwrite": (
        lambda n: stack(
            optimizer=optimizers.SGD(
                0.1 * n, use_ema=True, ema_overwrite_frequency=2
            )
        ),
        populations.data,
        1e-5,
        "overwrites with averages",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_equals_fit_for_members_of_a_kind(name):
    build, source, rtol, reason = KINDS[name]

    def make(lane):
        keras.utils.set_random_seed(lane)
        return build(lane + 1)

    _, histories = populations.assert_like_fit(make, source=source, rtol=rtol)
    if backend.NAME == "torch":
        reason = "in place"
    elif backend.NAME == "jax":
        reason = None
    if name == "float16":  # The scaled optimizers differ: groups of one.
        reason = None
    assert_looped_for(reason, histories.notes)


def assert_looped_for(reason, notes):
    """Lanes share a step, or the one note says why they do not."""
    assert [reason in note for note in notes] == [True] if reason else not notes


@pytest.mark.skipif(
    not hasattr(optimizers, "MultiOptimizer"), reason="needs Keras 3.15"
)
def test_equals_fit_with_an_optimizer_for_each_part():
    def make(lane):
        keras.utils.set_random_seed(lane)
        inputs = keras.Input((3,))
        hidden = layers.Dense(4, name="first")(inputs)
        model = keras.Model(inputs, layers.Dense(2, name="second")(hidden))
        parts = optimizers.OptimizerMap(
            optimizers.Adam(0.01), {"first": optimizers.SGD(0.1 * (lane + 1))}
        )
        model.compile(optimizers.MultiOptimizer(parts), "mse")
        return model

    populations.assert_like_fit(make)


def probabilities(loss):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2), layers.Softmax()]
    )
    model.compile(optimizers.SGD(0.1), loss)
    return model


def penalized(regularizer):
    return stack(layers.Dense(3, kernel_regularizer=regularizer))


def active(activation, regularizer):
    return stack(layers.Dense(3, activation, activity_regularizer=regularizer))


def stepped(optimizer):
    return stack(optimizer=optimizer)


# How a member is made from the number 1 or 2, and what then is lifted. Those
# of SGD, Adam, AdamW and RMSprop are in `test_population_fit.py`.
LIFTED = {
    "l1": (lambda n: penalized(regularizers.L1(0.01 * n)), ["L1.l1"]),
    "l1 and l2": (
        lambda n: penalized(regularizers.L1L2(0.01 * n, 0.02 * n)),
        ["L1L2.l1", "L1L2.l2"],
    ),
    "scaled l1": (
        lambda n: penalized(kc.regularizers.ScaledL1(0.5 * n, 24)),
        ["ScaledL1.factor"],
    ),
    "scaled l2": (
        lambda n: penalized(kc.regularizers.ScaledL2(0.5 * n, 24)),
        ["ScaledL2.factor"],
    ),
    **{
        kind: (
            lambda n, kind=kind: penalized(
                getattr(kc.regularizers, kind)(0.01 * n)
            ),
            [f"{kind}.factor"],
        )
        for kind in (
            "GroupLasso",
            "SparseGroupLasso",
            "Hoyer",
            "SoftOrthogonality",
            "SpectralNorm",
            "NuclearNorm",
        )
    },
    "sparsity": (
        lambda n: active("sigmoid", kc.regularizers.KLSparsity(0.1 * n)),
        ["KLSparsity.factor"],
    ),
    "covariance": (
        lambda n: active("tanh", kc.regularizers.DeCov(0.1 * n)),
        ["DeCov.factor"],
    ),
    "poly": (
        lambda n: stack(loss=kc.losses.PolyLoss(0.5 * n, from_logits=True)),
        ["PolyLoss.epsilon"],
    ),
    "logit adjusted": (
        lambda n: stack(loss=kc.losses.LogitAdjusted([5, 2], tau=0.5 * n)),
        ["LogitAdjusted.tau"],
    ),
    "hinge": (
        lambda n: stack(loss=kc.losses.MulticlassHinge(margin=0.5 * n)),
        ["MulticlassHinge.margin"],
    ),
    "huber": (
        lambda n: stack(loss=losses.Huber(0.4 * n)),
        ["Huber.delta"],
    ),
    "smooth l1": (
        lambda n: stack(loss=kc.losses.SmoothL1(beta=0.4 * n)),
        ["SmoothL1.beta"],
    ),
    "binary smoothing": (
        lambda n: probabilities(
            losses.BinaryCrossentropy(label_smoothing=0.1 * n)
        ),
        ["BinaryCrossentropy.label_smoothing"],
    ),
    "focal": (
        lambda n: probabilities(
            losses.CategoricalFocalCrossentropy(0.2 * n, 1.0 + n)
        ),
        [
            "CategoricalFocalCrossentropy.gamma",
            "CategoricalFocalCrossentropy.alpha",
        ],
    ),
    "binary focal": (
        lambda n: probabilities(
            losses.BinaryFocalCrossentropy(True, 0.2 * n, 1.0 + n)
        ),
        ["BinaryFocalCrossentropy.gamma", "BinaryFocalCrossentropy.alpha"],
    ),
    "tversky": (
        lambda n: probabilities(losses.Tversky(0.2 * n, 1 - 0.2 * n)),
        ["Tversky.alpha", "Tversky.beta"],
    ),
    "warmup": (
        lambda n: stepped(
            optimizers.SGD(
                kc.schedules.WarmupCosine(
                    0.1, 6, 2, start=0.01 * n, cycles=2, cycle_decay=0.3 * n
                )
            )
        ),
        ["WarmupCosine.start", "WarmupCosine.cycle_decay"],
    ),
    "cosine": (
        lambda n: stepped(
            optimizers.SGD(schedules.CosineDecay(0.1 * n, 6, 0.1 * n))
        ),
        ["CosineDecay.initial_learning_rate", "CosineDecay.alpha"],
    ),
    "exponential": (
        lambda n: stepped(
            optimizers.SGD(schedules.ExponentialDecay(0.1 * n, 3, 0.4 * n))
        ),
        [
            "ExponentialDecay.initial_learning_rate",
            "ExponentialDecay.decay_rate",
        ],
    ),
    "adadelta": (
        lambda n: stepped(optimizers.Adadelta(0.1, 0.4 * n, 1e-4 * n)),
        ["Adadelta.rho", "Adadelta.epsilon"],
    ),
    "adagrad": (
        lambda n: stepped(optimizers.Adagrad(0.1, epsilon=1e-3 * n)),
        ["Adagrad.epsilon"],
    ),
    "lion": (
        lambda n: stepped(optimizers.Lion(0.01, 0.4 * n, 0.45 * n)),
        ["Lion.beta_1", "Lion.beta_2"],
    ),
    "lamb": (
        lambda n: stepped(optimizers.Lamb(0.01, 0.4 * n, 0.45 * n)),
        ["Lamb.beta_1", "Lamb.beta_2"],
    ),
    "nadam": (
        lambda n: stepped(optimizers.Nadam(0.01, 0.4 * n, 0.45 * n)),
        ["Nadam.beta_1", "Nadam.beta_2"],
    ),
    "adamax": (
        lambda n: stepped(optimizers.Adamax(0.01, 0.4 * n, 0.45 * n)),
        ["Adamax.beta_1", "Adamax.beta_2"],
    ),
}


# Why lanes do not share a step on TensorFlow.
ONE_BY_ONE = {"NuclearNorm": "Svd"}


@pytest.mark.parametrize("name", LIFTED)
def test_equals_fit_where_a_number_differs_by_lane(name):
    build, lifted = LIFTED[name]

    def make(lane):
        keras.utils.set_random_seed(lane)
        return build(lane + 1)

    population, histories = populations.assert_like_fit(make)
    source = population._source(*populations.data(), None, 8)
    (group,) = population._groups(source)
    assert sorted(set(group.lifting.names)) == sorted(lifted)
    reason = {"torch": "in place", "tensorflow": ONE_BY_ONE.get(name)}
    assert_looped_for(reason.get(backend.NAME), histories.notes)


def test_integer_targets_are_smoothed_by_lane():
    def make(lane):
        keras.utils.set_random_seed(lane)
        loss = kc.losses.SmoothedSparseCategoricalCrossentropy(
            label_smoothing=0.1 * (lane + 1), from_logits=True
        )
        return stack(loss=loss)

    x, y = populations.data()
    populations.assert_like_fit(make, source=lambda: (x, y.argmax(-1)))


RATES = {
    "Dropout": lambda n: layers.Dropout(0.2 * n),
    "SpatialDropout2D": lambda n: layers.SpatialDropout2D(0.2 * n),
    "GaussianDropout": lambda n: layers.GaussianDropout(0.2 * n),
    "GaussianNoise": lambda n: layers.GaussianNoise(0.2 * n),
    "AlphaDropout": lambda n: layers.AlphaDropout(0.2 * n),
    "DropPath": lambda n: kc.layers.DropPath(0.2 * n),
    "DropBlock2D": lambda n: kc.layers.DropBlock2D(0.2 * n, 2),
    "RandomJitter": lambda n: kc.layers.RandomJitter(0.2 * n),
    "RandomScaling": lambda n: kc.layers.RandomScaling(0.2 * n),
}


@pytest.mark.skipif(backend.NAME == "torch", reason="is not vectorized")
@pytest.mark.parametrize("name", RATES)
def test_a_lane_has_the_noise_of_a_population_of_its_own(name):
    def make(n):
        keras.utils.set_random_seed(0)
        return stack(RATES[name](n), layers.Flatten(), shape=IMAGES)

    x, y = images()
    arguments = {"batch_size": 8, "epochs": 2, "shuffle": False}
    models = [make(n) for n in (1, 2)]
    together = Population(models, "vectorized").fit(x, y, **arguments)
    for n in (1, 2):
        model = make(n)
        (alone,) = Population([model], "vectorized").fit(x, y, **arguments)
        populations.assert_same_variables(models[n - 1], model)
        populations.assert_same_history(together[n - 1], alone)
    assert together[0] != together[1]


def test_evaluate_and_predict_loop_what_cannot_be_vectorized():
    models = [convolutions(n) for n in (1, 2)]
    x, y = images()
    population = Population(models, "vectorized")
    results, outputs = population.evaluate(x, y), population.predict(x)
    for model, result, output in zip(models, results, outputs, strict=True):
        expected = model.evaluate(x, y, verbose=0, return_dict=True)
        assert result == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(
            output, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
        )
