"""The checks accept good components of every kind, and notice bad ones."""

import itertools

import keras
import numpy as np
import pytest

from kerascomp import _registry
from kerascomp.testing import CHECKS, Case, checks_for, untested_arguments

pytestmark = pytest.mark.one_backend

ops = keras.ops
_rng = np.random.default_rng(5)
registered = keras.saving.register_keras_serializable("tests")


@registered
class Worst(keras.metrics.Metric):
    """The largest weighted error."""

    def __init__(self, scale=1.0, name="worst", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.scale = scale
        self.worst = self.add_weight(name="worst", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, self.dtype)
        error = ops.abs(ops.cast(y_pred, self.dtype) - y_true) * self.scale
        if sample_weight is not None:
            error *= ops.cast(sample_weight, self.dtype)[:, None]
        self.worst.assign(ops.maximum(self.worst, ops.max(error)))

    def result(self):
        return ops.convert_to_tensor(self.worst)

    def get_config(self):
        return {
            **super().get_config(),
            "scale": self.scale,
            "dtype": self.dtype,
        }


@registered
class SignDescent(keras.optimizers.Optimizer):
    """Follows the sign of a running mean of the gradient."""

    def __init__(self, learning_rate=0.01, memory=0.5, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.memory = memory

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.means = [
                self.add_variable_from_reference(v, name="mean")
                for v in variables
            ]

    def update_step(self, gradient, variable, learning_rate):
        mean = self.means[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign(mean, self.memory * mean + (1 - self.memory) * gradient)
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * ops.sign(mean))

    def get_config(self):
        return {**super().get_config(), "memory": self.memory}


@registered
class Uniform(keras.initializers.Initializer):
    def __init__(self, scale=1.0, seed=None):
        self.scale = scale
        self.seed = seed

    def __call__(self, shape, dtype=None):
        seed = self.seed or keras.random.SeedGenerator()
        return keras.random.uniform(
            shape, -self.scale, self.scale, dtype=dtype or "float32", seed=seed
        )

    def get_config(self):
        return {"scale": self.scale, "seed": self.seed}


@registered
def softsquare(x):
    """x * |x| near 0, linear beyond 1."""
    size = ops.abs(x)
    near = ops.minimum(size, 1)
    return ops.sign(x) * near * (size - near / 2)


REGRESSION = [_rng.normal(size=(5, 3)).astype("float32") for _ in range(2)]
LABELS = _rng.integers(0, 4, size=5)
PROBABILITIES = _rng.dirichlet(np.ones(4), size=5).astype("float32")
IMAGES = _rng.normal(size=(3, 4, 5)).astype("float32")

GOOD = [
    Case(lambda **k: Worst(scale=2.0, **k), REGRESSION),
    Case(lambda **k: keras.metrics.MeanSquaredError(**k), REGRESSION),
    Case(
        lambda **k: keras.metrics.BinaryAccuracy(threshold=0.3, **k),
        (np.eye(4, dtype="float32")[LABELS], PROBABILITIES),
    ),
    Case(lambda: SignDescent(learning_rate=0.03, memory=0.2)),
    Case(lambda: keras.optimizers.SGD(0.03, momentum=0.4, nesterov=True)),
    Case(lambda: keras.optimizers.Adam(0.03, beta_1=0.8, clipnorm=2.0)),
    Case(lambda: Uniform(scale=0.3, seed=4), (3, 5)),
    Case(lambda: keras.initializers.GlorotNormal(seed=4), (3, 5)),
    Case(lambda: keras.initializers.Constant(0.4), (3, 5)),
    Case(lambda: softsquare, IMAGES),
    Case(lambda: keras.activations.gelu, IMAGES),
    Case(lambda **k: keras.layers.PReLU("ones", shared_axes=[1], **k), IMAGES),
    Case(lambda **k: keras.layers.GaussianNoise(0.3, seed=2, **k), IMAGES),
    Case(lambda: keras.regularizers.L2(0.3), IMAGES),
    Case(lambda: keras.optimizers.schedules.CosineDecay(0.3, 9, alpha=0.2)),
    Case(lambda: keras.callbacks.TerminateOnNaN()),
]


def _runs():
    for number, case in enumerate(GOOD):
        for check in checks_for(case.kind):
            name = check.__name__.removeprefix("check_")
            yield pytest.param(case, check, id=f"{number}-{case.name}-{name}")


@pytest.mark.parametrize(("case", "check"), [*_runs()])
def test_good_components_pass(case, check):
    check(case)


class Unregistered(Uniform):
    pass


@registered
class Forgetful(Worst):
    def reset_state(self):
        pass


@registered
class Undefined(Worst):
    def result(self):
        return super().result() / 0.0


@registered
class LastBatch(Worst):
    def reset_state(self):
        self.worst.assign(0.0)

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.reset_state()
        super().update_state(y_true, y_pred)


@registered
class FirstSample(Worst):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true[:1], y_pred[:1])


@registered
class Frozen(SignDescent):
    def update_step(self, gradient, variable, learning_rate):
        pass


@registered
class OwnRate(SignDescent):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, 0.01)


@registered
class Normalized(SignDescent):
    def update_step(self, gradient, variable, learning_rate):
        size = ops.sqrt(ops.sum(ops.square(gradient)))
        self.assign_sub(variable, learning_rate * gradient / size)


@registered
class Unsaved(SignDescent):
    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


@registered
class Rewritten(SignDescent):
    def build(self, variables):
        super().build(variables)
        self.memory = self.memory / 2


@registered
class Transposed(Uniform):
    def __call__(self, shape, dtype=None):
        return super().__call__(shape[::-1], dtype)


@registered
class Full(Uniform):
    def __call__(self, shape, dtype=None):
        return super().__call__(shape, "float32")


@registered
class Unseeded(Uniform):
    def __call__(self, shape, dtype=None):
        return keras.random.uniform(shape, dtype=dtype)


@registered
class OneSeed(Uniform):
    def __call__(self, shape, dtype=None):
        return keras.random.uniform(shape, dtype=dtype, seed=1)


@registered
def kinked(x):
    return ops.sqrt(ops.abs(x))


@registered
def exploding(x):
    return ops.exp(x)


@registered
def widening(x):
    return ops.cast(x, "float32") * 2


@registered
def summed(x):
    return ops.sum(x, axis=-1)


_counter = itertools.count()


@registered
def counting(x):
    return x + next(_counter)


def unregistered(x):
    return x


class Leaves(keras.callbacks.Callback):
    """Leaves a mark on the model, and another on the optimizer."""

    def __init__(self, mark=0):
        super().__init__()
        self.mark = mark

    def on_train_begin(self, logs=None):
        self._model.optimizer.was_here = True


class Slows(Leaves):
    def on_train_begin(self, logs=None):
        self._model.optimizer.learning_rate = 1e-4


class NeedsValidation(Leaves):
    def on_train_begin(self, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        float(logs["val_loss"])


class Once(Leaves):
    def on_train_begin(self, logs=None):
        assert not hasattr(self, "used")
        self.used = True


class Accumulates(Leaves):
    def __init__(self, mark=0):
        super().__init__(mark)
        self.epochs = 0

    def on_train_begin(self, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        logs["epochs"] = self.epochs


class Renames(Leaves):
    def __init__(self, mark=0):
        super().__init__()
        self.other = mark


# The errors of the samples are 5, 4, 3, 2 and 1.
FALLING = [np.zeros((5, 1)), np.arange(5.0, 0, -1)[:, None]]
UNIFORM = {"scale": 0.3, "seed": 4}
BAD = {
    "reset_forgets_everything": Case(Forgetful, REGRESSION),
    "result_before_any_update_is_defined": Case(Undefined, REGRESSION),
    "two_updates_equal_one": Case(LastBatch, FALLING),
    "weight_zero_equals_leaving_out": Case(
        LastBatch, [each[::-1] for each in FALLING]
    ),
    "batch_order_is_irrelevant": Case(FirstSample, REGRESSION),
    "one_step_moves_every_weight": Case(Frozen),
    "learning_rate_can_be_set": Case(OwnRate),
    "zero_gradient_is_finite": Case(Normalized),
    "saved_model_continues_alike": Case(Unsaved),
    "training_leaves_the_config_alone": Case(Rewritten),
    "reloads_without_custom_objects": Case(
        lambda: Unregistered(**UNIFORM), (3, 5)
    ),
    "shape_and_dtype_are_as_asked": Case(lambda: Transposed(**UNIFORM), (3, 5)),
    "same_seed_gives_same_values": Case(lambda: Unseeded(**UNIFORM), (3, 5)),
    "different_seeds_give_different_values": Case(
        lambda: OneSeed(**UNIFORM), (3, 5)
    ),
    "finite_at_zero": Case(lambda: kinked, IMAGES),
    "finite_at_the_kink": Case(lambda: kinked, IMAGES),
    "finite_for_large_input": Case(lambda: exploding, IMAGES),
    "shape_and_dtype_are_kept": Case(lambda: widening, IMAGES),
    "gives_the_same_again": Case(lambda: counting, IMAGES),
    "serializes_by_name": Case(lambda: unregistered, IMAGES),
    "leaves_model_and_optimizer_as_found": Case(Leaves),
    "usable_for_a_second_fit": Case(Once),
    "usable_on_another_model": Case(Accumulates),
    "every_argument_is_an_attribute": Case(lambda: Renames(mark=3)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_components_are_noticed(name):
    case = BAD[name]
    checks = {check.__name__: check for check in checks_for(case.kind)}
    # A fault may stop the training itself.
    with pytest.raises((AssertionError, KeyError)):
        checks[f"check_{name}"](case)


@pytest.mark.parametrize("case", [Case(Full, (3, 5)), Case(Transposed, (3, 5))])
def test_shape_and_dtype_of_values_both_count(case):
    checks = {check.__name__: check for check in checks_for(case.kind)}
    with pytest.raises(AssertionError, match="gives"):
        checks["check_shape_and_dtype_are_as_asked"](case)


@pytest.mark.parametrize("symbol", [widening, summed])
def test_shape_and_dtype_of_activations_both_count(symbol):
    checks = {check.__name__: check for check in checks_for("activation")}
    with pytest.raises(AssertionError, match="turns"):
        checks["check_shape_and_dtype_are_kept"](Case(lambda: symbol, IMAGES))


def test_a_need_for_validation_data_is_noticed():
    checks = {check.__name__: check for check in checks_for("callback")}
    with pytest.raises(KeyError, match="val_loss"):
        checks["check_usable_for_a_second_fit"](Case(NeedsValidation))


def test_a_learning_rate_left_behind_is_noticed():
    checks = {check.__name__: check for check in checks_for("callback")}
    with pytest.raises(AssertionError, match="learning rate behind"):
        checks["check_leaves_model_and_optimizer_as_found"](Case(Slows))


def test_every_kind_has_checks_with_names_and_sentences():
    assert CHECKS.keys() == set(_registry.KINDS)
    for check in set().union(*CHECKS.values()):
        assert check.__name__.startswith("check_")
        first, _, rest = check.__doc__.partition("\n")
        assert first.endswith(".")
        assert not rest or rest.startswith("\n")


def test_no_kind_has_a_check_twice():
    for checks in CHECKS.values():
        names = [check.__name__ for check in checks]
        assert len(names) == len(set(names))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="`kind` must be one of 'layer', "):
        checks_for("model")


def test_arguments_at_their_default_are_found():
    cases = [
        Case(lambda: Uniform(scale=1.0)),
        Case(lambda: SignDescent(learning_rate=0.5)),
    ]
    # The base class takes the learning rate too.
    assert untested_arguments(cases) == {
        "Uniform": ["scale", "seed"],
        "SignDescent": ["memory"],
    }
    cases += [Case(lambda: Uniform(2.0)), Case(lambda: Uniform(seed=3))]
    assert untested_arguments(cases) == {"SignDescent": ["memory"]}
