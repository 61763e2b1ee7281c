"""What `_compat` relies on in Keras, public and private."""

import ast
import inspect
import random
import subprocess
import sys

import backend
import keras
import numpy as np
import pytest

from kerascomp import _compat

X = np.ones((8, 2), "float32")
Y = np.zeros((8, 1), "float32")


def line(optimizer, **settings):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.layers[0].set_weights([np.ones((2, 1)), np.zeros(1)])
    model.compile(optimizer, "mse", **settings)
    return model


def fit(model, *callbacks):
    return model.fit(X, Y, batch_size=2, verbose=0, callbacks=[*callbacks])


# `test_population_private.py` looks at each of them, and the test of
# `accumulation` below at `_accumulated_gradients` and `_iterations`.
PRIVATE_NAMES = {
    "_accumulated_gradients",
    "_context_handle",
    "_call_has_training_arg",
    "_compile_config",
    "_compute_loss",
    "_flatten_layers",
    "_seed_generators",
    "_iterations",
    "_loss_tracker",
    "_symbolic_build",
    "_trainable_variables",
}


def test_every_private_name_is_looked_at():
    tree = ast.parse(inspect.getsource(_compat))
    private = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }
    assert private == PRIVATE_NAMES, (
        "Say in _compat.py why nothing public serves, test what it relies on, "
        f"and list it here: {sorted(private ^ PRIVATE_NAMES)}"
    )


def test_accumulation_tells_sums_and_the_steps_that_update():
    optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    variables = [keras.Variable([1.0, 2.0]), keras.Variable(3.0)]
    optimizer.build(variables)
    gradients = [keras.ops.ones(2), keras.ops.full((), 4.0)]
    ends = []
    for sums in ([[0, 0], 0], [[1, 1], 4], [[0, 0], 0]):
        found = _compat.accumulation(optimizer)
        assert found.steps == 2
        for own, expected in zip(found.gradients, sums, strict=True):
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(own), expected
            )
        ends.append(bool(found.ends))
        optimizer.apply(gradients, variables)
    assert ends == [False, True, False]
    assert _compat.accumulation(keras.optimizers.SGD()) is None


def test_a_schedule_is_called_with_the_step_counter():
    steps = []

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            steps.append(step)
            return 0.1

    optimizer = keras.optimizers.SGD(Schedule(), gradient_accumulation_steps=2)
    assert _compat.schedule_of(optimizer).__class__ is Schedule
    steps.clear()
    assert optimizer.learning_rate is not None
    assert steps == [_compat.step_counter(optimizer)]


def test_values_of_the_optimizer_are_those_before_each_step():
    counts = []

    class Count(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.before = _compat.BeforeExecution(
                self._model, self.note, writes=False
            )

        def on_train_batch_begin(self, batch, logs=None):
            self.before.ensure()

        def note(self, *arguments):
            counter = _compat.step_counter(self._model.optimizer)
            counts.extend(
                _compat.carried_values(self._model, [counter], arguments)
            )
            return arguments

    fit(line("adam"), Count())
    # Copies: the steps that followed did not change them.
    assert [int(keras.ops.convert_to_numpy(c)) for c in counts] == [0, 1, 2, 3]


def test_random_states_come_back():
    keras.utils.set_random_seed(1)
    keras.random.uniform((2,))
    states = _compat.RandomState()
    draws = []
    for _ in range(2):
        numbers = keras.ops.convert_to_numpy(keras.random.uniform((2,)))
        draws.append([*numbers, random.random(), np.random.random()])  # noqa: NPY002
        states.restore()
    assert draws[0] == draws[1]


def test_sublayers_are_those_that_a_layer_holds_itself():
    cell = keras.layers.LSTMCell(2)
    rnn = keras.layers.RNN(cell)
    wrapper = keras.layers.TimeDistributed(rnn)
    assert _compat.sublayers(wrapper) == [rnn]
    assert _compat.sublayers(rnn) == [cell]


def test_the_backend_is_a_known_one():
    assert _compat.backend() in _compat.BACKENDS
    assert _compat.backend() == backend.NAME


@pytest.mark.parametrize("name", _compat.BACKENDS)
def test_a_missing_backend_is_named_with_a_remedy(name):
    program = (
        "import os, sys;"
        f"os.environ['KERAS_BACKEND'] = {name!r};"
        f"sys.modules[{name!r}] = None;"  # As if it were not installed.
        "import kerascomp"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert process.returncode == 1
    assert f"ImportError: Keras is set to the {name!r} backend" in (
        process.stderr
    )
    assert f'pip install "kerascomp[{name}]"' in process.stderr


def test_wrappers_are_removed_from_optimizers():
    sgd = keras.optimizers.SGD(0.1)
    scaled = keras.optimizers.LossScaleOptimizer(sgd)
    assert _compat.optimizers_of(sgd) == [sgd]
    assert _compat.optimizers_of(scaled) == [sgd]


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="new in Keras 3.15"
)
def test_the_optimizers_of_several_are_found():
    sgd, adam = keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.2)
    multi = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(sgd, {"bias": adam})
    )
    assert sorted(o.name for o in _compat.optimizers_of(multi)) == [
        "adam",
        "sgd",
    ]


def test_a_constant_rate_is_a_variable_of_the_optimizer():
    optimizer = keras.optimizers.Adam(0.2)
    variable = _compat.learning_rate_variable(optimizer)
    assert any(each is variable for each in optimizer.variables)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)
    optimizer = keras.optimizers.Adam(schedule)
    assert _compat.learning_rate_variable(optimizer) is None


class Freeze(keras.callbacks.Callback):
    """Sets the rate to 0 before the third step; notes the first weight."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_begin(self, logs=None):
        self.state = _compat.OptimizerState(self._model)

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            rate = _compat.learning_rate_variable(self._model.optimizer)
            self.state.assign([rate], 0.0)

    def on_train_batch_end(self, batch, logs=None):
        # `Callback.model` writes JAX' running state back into the variables.
        weight = self.model.trainable_variables[0]
        self.weights.append(float(keras.ops.convert_to_numpy(weight)[0, 0]))

    def on_train_end(self, logs=None):
        self.state.close()


def test_an_assignment_between_steps_reaches_the_next_step():
    model, freeze = line(keras.optimizers.SGD(0.1)), Freeze()
    fit(model, freeze)
    first, second, *rest = freeze.weights
    assert first != second
    assert rest == [second, second]
    # And the variable holds it afterwards.
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == 0


def test_the_training_function_is_left_as_found():
    model = line(keras.optimizers.SGD(0.1))
    fit(model)
    found = model.train_function
    fit(model, Freeze(), Freeze())
    assert model.train_function is found


class Depth(keras.callbacks.Callback):
    """Notes how many functions wrap that of the training step."""

    def __init__(self):
        super().__init__()
        self.depths = []

    def on_train_batch_end(self, batch, logs=None):
        function, depth = self._model.train_function, 0
        while hasattr(function, "__wrapped__"):
            function, depth = function.__wrapped__, depth + 1
        self.depths.append(depth)


def test_several_that_act_before_a_step_share_one_wrapper():
    class Halve(Freeze):
        def on_train_batch_begin(self, batch, logs=None):
            rate = _compat.learning_rate_variable(self._model.optimizer)
            self.state.assign([rate], 0.5)

    depth = Depth()
    fit(line(keras.optimizers.SGD(0.1)), Halve(), Halve(), depth)
    assert depth.depths[0] == depth.depths[-1]
