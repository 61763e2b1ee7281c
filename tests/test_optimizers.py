import gradient_reference as small
import keras
import numpy as np
import pytest
from optimizers_reference import auto_clip, unit_wise

from kerascomp import _compat, callbacks, optimizers, population

ops = keras.ops
KERNEL, BIAS = (2, 4, 3), (3,)


def sgd(rate=1.0, **arguments):
    return keras.optimizers.SGD(rate, **arguments)


def variables():
    rng = np.random.default_rng(1)
    return [
        keras.Variable(rng.normal(size=shape).astype("float32"))
        for shape in (KERNEL, BIAS)
    ]


def gradients(steps):
    rng = np.random.default_rng(2)
    return [
        [size * rng.normal(size=shape) for shape in (KERNEL, BIAS)]
        for size in rng.lognormal(size=steps)
    ]


def apply(optimizer, step):
    optimizer.apply([ops.convert_to_tensor(g.astype("float32")) for g in step])


def values(variables):
    return [ops.convert_to_numpy(v) for v in variables]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        # Float32 sums and updates of a few steps.
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("micro_steps", [1, 3])
def test_auto_clip_equals_numpy_also_under_accumulation(micro_steps):
    inner = sgd(
        gradient_accumulation_steps=micro_steps if micro_steps > 1 else None
    )
    optimizer = optimizers.AutoClip(inner, percentile=30, history_steps=4)
    weights = variables()
    optimizer.build(weights)
    expected, history = [np.float64(v) for v in values(weights)], []
    waiting = []
    for step in gradients(7 * micro_steps):
        apply(optimizer, step)
        waiting.append(step)
        if len(waiting) == micro_steps:
            mean = [np.mean(g, axis=0) for g in zip(*waiting, strict=True)]
            clipped = auto_clip(mean, 30, history, 4)
            expected = [w - g for w, g in zip(expected, clipped, strict=True)]
            waiting = []
        assert_close(values(weights), expected)
    assert int(optimizer.norms_seen) == 7
    assert int(optimizer.iterations) == 7
    kept = np.roll(ops.convert_to_numpy(optimizer.norms), -7 % 4)
    np.testing.assert_allclose(sorted(kept), sorted(history[-4:]), rtol=1e-5)


def test_a_gradient_that_is_not_finite_passes_and_is_forgotten():
    optimizer = optimizers.AutoClip(sgd(), percentile=50)
    weights = variables()
    optimizer.build(weights)
    first, second, third = gradients(3)
    second[0][0, 0, 0] = np.inf
    for step in (first, second):
        apply(optimizer, step)
    kernel = ops.convert_to_numpy(weights[0])
    assert np.isinf(kernel).sum() == 1
    assert int(optimizer.norms_seen) == 1
    apply(optimizer, third)
    assert int(optimizer.norms_seen) == 2


def test_adaptive_clipping_equals_numpy_and_leaves_out_what_is_excluded():
    optimizer = optimizers.AdaptiveGradientClipping(
        sgd(), factor=0.5, epsilon=0.3, exclude=["head"]
    )
    kernel, bias = variables()
    # One unit is small enough for epsilon to count.
    kernel.assign(ops.convert_to_tensor(values([kernel])[0] * [1, 1, 0.01]))
    head = keras.Variable(np.ones(2, "float32"), name="head")
    weights = [kernel, bias, head]
    optimizer.build(weights)
    expected = [np.float64(v) for v in values(weights)]
    clipped = 0
    for step in gradients(5):
        apply(optimizer, [*step, step[1][:2]])
        new = [
            unit_wise(g, w, 0.5, 0.3)
            for g, w in zip(step, expected, strict=False)
        ]
        clipped += np.sum(new[0] != step[0])
        moves = [*new, step[1][:2]]
        expected = [w - g for w, g in zip(expected, moves, strict=True)]
        assert_close(values(weights), expected)
    assert 0 < clipped < 5 * np.prod(KERNEL)


def test_inside_loss_scaling_gradients_are_unscaled_and_embeddings_summed():
    model = small.build("embedding")
    inner = optimizers.AdaptiveGradientClipping(sgd(small.RATE), factor=0.2)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**12)
    model.compile(scaled, "mse")
    x, y = small.data("embedding")
    weights = [np.float64(w) for w in model.get_weights()]
    small.fitted(model, x, y, [])
    for start in [*range(0, len(x), small.BATCH)] * small.EPOCHS:
        part = slice(start, start + small.BATCH)
        steps = small.backpropagated(weights, x[part], y[part])
        weights = [
            w - small.RATE * unit_wise(g, w, 0.2, 1e-3)
            for w, g in zip(weights, steps, strict=True)
        ]
    assert_close(model.get_weights(), weights)


def decayed():
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    return keras.optimizers.AdamW(
        rate, loss_scale_factor=128.0, gradient_accumulation_steps=2
    )


def averaged():
    return sgd(0.1, momentum=0.9, use_ema=True, ema_momentum=0.5)


def several():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("Keras has no MultiOptimizer yet")
    table = keras.optimizers.OptimizerMap(sgd(0.1, momentum=0.9))
    table["out/.*"] = keras.optimizers.Adam(0.01)
    return keras.optimizers.MultiOptimizer(table)


@pytest.mark.parametrize("make", [decayed, averaged, several])
def test_without_a_bound_it_is_the_inner_optimizer(make):
    x, y = small.data("mlp")
    found = []
    for wrap in (
        lambda inner: inner,
        lambda inner: optimizers.AutoClip(
            optimizers.AdaptiveGradientClipping(inner, factor=float("inf")),
            percentile=100,
        ),
    ):
        keras.utils.set_random_seed(0)
        model = small.build("mlp")
        model.compile(wrap(make()), "mse")
        warmup = callbacks.WarmupCosine(peak=0.3, warmup_steps=3)
        steered = [] if make is decayed else [warmup]
        monitor = callbacks.GradientNormMonitor()
        history = small.fitted(model, x, y, [*steered, monitor]).history
        found.append([*model.get_weights(), history["grad_norm"]])
    assert_close(found[1], found[0])


def test_reaches_the_rate_and_the_state_of_the_inner_optimizer():
    inner = sgd(0.1, momentum=0.9)
    optimizer = optimizers.AutoClip(inner, history_steps=3)
    assert _compat.optimizers_of(optimizer) == [inner]
    optimizer.learning_rate = 0.2
    assert float(inner.learning_rate) == pytest.approx(0.2)
    weights = variables()
    optimizer.build(weights)
    for step in gradients(2):
        apply(optimizer, step)
    state = values(optimizer.variables)
    other = optimizers.AutoClip(sgd(0.7, momentum=0.9), history_steps=3)
    other.build(variables())
    other.set_weights(state)
    assert_close(values(other.variables), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: o.AutoClip("sgd", percentile=0), r"in \(0, 100\]"),
        (lambda o: o.AutoClip("sgd", percentile=100.1), r"in \(0, 100\]"),
        (lambda o: o.AutoClip("sgd", history_steps=0), "at least 1"),
        (lambda o: o.AutoClip("no such"), "no such|nown"),
        (
            lambda o: o.AutoClip(keras.optimizers.LossScaleOptimizer(sgd())),
            "must not be a LossScaleOptimizer",
        ),
        (lambda o: o.AdaptiveGradientClipping("sgd", factor=0), "`factor`"),
        (lambda o: o.AdaptiveGradientClipping("sgd", epsilon=0), "`epsilon`"),
        (
            lambda o: o.AdaptiveGradientClipping("sgd", exclude="head"),
            "sequence of names",
        ),
        (
            lambda o: o.AdaptiveGradientClipping("sgd", exclude=["hea"]).build(
                [keras.Variable(1.0, name="head")]
            ),
            "Received: 'hea'",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(optimizers)


def test_several_replicas_are_refused(monkeypatch):
    assert _compat.replicas() == 1
    monkeypatch.setattr(_compat, "replicas", lambda: 2)
    with pytest.raises(ValueError, match="works on one replica"):
        optimizers.AutoClip("sgd").build(variables())


def test_members_of_a_population_train_as_by_themselves():
    x, y = small.data("mlp")

    def member(rate):
        keras.utils.set_random_seed(0)
        model = small.build("mlp")
        clipped = optimizers.AutoClip(sgd(rate), percentile=50)
        model.compile(clipped, "mse")
        return model

    members = [member(rate) for rate in (0.1, 0.2)]
    together = population.Population(members)
    together.fit(x, y, batch_size=4, epochs=2, shuffle=False)
    for lane, rate in enumerate((0.1, 0.2)):
        alone = member(rate)
        small.fitted(alone, x, y, [])
        assert_close(together.models[lane].get_weights(), alone.get_weights())
