"""Checks of regularizers, schedules, initializers and activations."""

import numpy as np

from kerascomp._compat import keras
from kerascomp.testing import _common, _programs
from kerascomp.testing._case import Case, parameters_of

ops = keras.ops


def check_value_is_scalar(case: Case) -> None:
    """The penalty of a weight is one number, of the weight's dtype."""
    for dtype in ("float32", "float16"):
        value = case.make()(ops.convert_to_tensor(case.inputs, dtype))
        received = keras.backend.standardize_dtype(value.dtype)
        assert (received, tuple(value.shape)) == (dtype, ()), (
            f"{case.name} of a {dtype} weight is a {received} of shape "
            f"{tuple(value.shape)}. Return one number in the weight's dtype."
        )


def check_finite_at_zero(case: Case) -> None:
    """Value and gradient are finite when all weights are 0."""
    _assert_finite_at(case, np.zeros_like(case.inputs))


def check_finite_at_the_kink(case: Case) -> None:
    """Value and gradient are finite when some values are 0, others not."""
    point = case.inputs.copy()
    point.flat[::2] = 0
    _assert_finite_at(case, point)


def check_finite_for_large_input(case: Case) -> None:
    """Value and gradient are finite at 10,000 and -10,000."""
    point = np.full_like(case.inputs, 1e4)
    point.flat[::2] *= -1
    for dtype in ("float32", "float16"):
        _assert_finite_at(case, point.astype(dtype))


def _assert_finite_at(case: Case, point: np.ndarray) -> None:
    function = case.make()
    value = function(ops.convert_to_tensor(point))
    gradient = _programs.gradient(function, point)
    for what, numbers in (("value", value), ("gradient", gradient)):
        assert _programs.is_finite(numbers), (
            f"The {what} of {case.name} is {numbers} at\n{point}\n"
            "Mind that `where` differentiates the branch that it does not "
            "take as well: make the argument safe, not the result."
        )


def check_compiled_equals_eager(case: Case) -> None:
    """A compiled program gives the same numbers."""
    function = case.make()
    _programs.assert_same(
        _programs.compiled(function, case.inputs),
        function(ops.convert_to_tensor(case.inputs)),
        f"{case.name} gives other numbers when compiled.",
    )


def check_int_and_tensor_steps_agree(case: Case) -> None:
    """A step may be a Python integer or a tensor of any integer dtype."""
    schedule = case.make()
    for step in case.inputs or _common.STEPS:
        for dtype in ("int32", "int64"):
            _programs.assert_same(
                schedule(ops.convert_to_tensor(step, dtype)),
                schedule(step),
                f"{case.name} depends on the type of the step ({dtype}).",
            )


def check_traces_under_jit(case: Case) -> None:
    """A compiled program follows the schedule."""
    schedule = case.make()
    steps = np.array(case.inputs or _common.STEPS, "int32")
    program = _programs.Program(lambda step: schedule(ops.squeeze(step)))
    for step in steps:
        _programs.assert_same(
            program.predict_on_batch([step[None]]),
            schedule(int(step)),
            f"{case.name} gives another rate when compiled. Use keras.ops, "
            "and no Python branches on the step.",
        )


def check_float32_at_ten_million_steps(case: Case) -> None:
    """After 10,000,000 steps the rate is a finite float32."""
    rate = case.make()(ops.convert_to_tensor(10**7, "int64"))
    dtype = keras.backend.standardize_dtype(rate.dtype)
    assert dtype == "float32", f"{case.name} returns {dtype}."
    assert _programs.is_finite(rate), f"{case.name} ends with {rate}."


def check_never_negative_past_the_end(case: Case) -> None:
    """No step, however late, has a negative or undefined rate."""
    schedule = case.make()
    late = [base * 10**power for power in range(9) for base in (1, 3, 7)]
    for step in (*_common.STEPS, *late):
        rate = float(ops.convert_to_numpy(schedule(step)))
        assert rate >= 0, f"{case.name} is {rate} at step {step}."


def check_saved_optimizer_keeps_it(case: Case) -> None:
    """A saved model continues with the schedule where it stopped."""
    schedule = case.make()
    trained = _programs.regression(keras.optimizers.SGD(schedule))
    _programs.fit(trained)
    twin = _programs.reloaded_model(trained[0])
    steps = int(ops.convert_to_numpy(twin.optimizer.iterations))
    _programs.assert_same(
        twin.optimizer.learning_rate,
        schedule(steps),
        f"An optimizer with {case.name} reloads with another rate.",
    )
    assert steps == 6, f"The loaded optimizer stands at step {steps}, not 6."


def check_shape_and_dtype_are_as_asked(case: Case) -> None:
    """Values have the shape and dtype that the layer asks for."""
    for dtype in ("float32", "float16"):
        values = case.make()(case.inputs, dtype=dtype)
        received = keras.backend.standardize_dtype(values.dtype)
        assert tuple(values.shape) == tuple(case.inputs), (
            f"{case.name} gives shape {tuple(values.shape)} instead of "
            f"{tuple(case.inputs)}."
        )
        assert received == dtype, f"{case.name} gives {received}, not {dtype}."
        assert _programs.is_finite(values), f"{case.name} is not finite."


def check_same_seed_gives_same_values(case: Case) -> None:
    """The argument `seed`, or Keras' seed, decides the values."""
    takes_seed = "seed" in parameters_of(case.symbol)
    first = _programs.seeded(lambda: case.make()(case.inputs), 0)
    again = _programs.seeded(
        lambda: case.make()(case.inputs), 1 if takes_seed else 0
    )
    _programs.assert_same(
        again, first, f"Two {case.name} with the same seed differ."
    )


def check_different_seeds_give_different_values(case: Case) -> None:
    """Initializers that take a seed draw other values with another one."""
    if "seed" not in parameters_of(case.symbol):
        return
    config = case.make().get_config()
    draws = [
        ops.convert_to_numpy(
            case.symbol.from_config({**config, "seed": seed})(case.inputs)
        )
        for seed in (1, 2, None, None)
    ]
    for place, draw in enumerate(draws):
        for other in draws[:place]:
            assert not np.array_equal(draw, other), (
                f"{case.name} draws the same values with different seeds, or "
                "twice without one. Pass `self.seed` to keras.random, made "
                "by `keras.random.SeedGenerator` or drawn when it is None."
            )


def check_initializes_a_layer(case: Case) -> None:
    """A layer that is built with it and reloaded has its values."""
    layer = keras.layers.Layer()
    weight = layer.add_weight(shape=case.inputs, initializer=case.make())
    expected = _programs.seeded(lambda: case.make()(case.inputs))
    assert tuple(weight.shape) == tuple(expected.shape)
    assert _programs.is_finite(weight), f"{case.name} is not finite."


def check_shape_and_dtype_are_kept(case: Case) -> None:
    """The output has the input's shape and dtype, half precision included."""
    for dtype in ("float32", "float16"):
        y = case.make()(ops.convert_to_tensor(case.inputs, dtype))
        received = keras.backend.standardize_dtype(y.dtype)
        assert tuple(y.shape) == case.inputs.shape, (
            f"{case.name} turns {case.inputs.shape} into {tuple(y.shape)}."
        )
        assert received == dtype, f"{case.name} turns {dtype} into {received}."


def check_serializes_by_name(case: Case) -> None:
    """Layers save it by name, and load it back as the same function."""
    function = case.make()
    twin = _programs.reloaded(keras.layers.Activation(function))
    assert twin.activation is function, (
        f"{case.name} reloads as {twin.activation!r}. Decorate it with "
        "`keras.saving.register_keras_serializable(package)`."
    )


REGULARIZER_CHECKS = (
    *_common.CONFIG_CHECKS,
    _common.check_attributes_hold_no_tensors,
    _common.check_gives_the_same_again,
    check_value_is_scalar,
    check_finite_at_zero,
    check_finite_at_the_kink,
    check_compiled_equals_eager,
)
SCHEDULE_CHECKS = (
    *_common.CONFIG_CHECKS,
    _common.check_attributes_hold_no_tensors,
    _common.check_gives_the_same_again,
    check_int_and_tensor_steps_agree,
    check_traces_under_jit,
    check_float32_at_ten_million_steps,
    check_never_negative_past_the_end,
    check_saved_optimizer_keeps_it,
)
INITIALIZER_CHECKS = (
    *_common.CONFIG_CHECKS,
    _common.check_attributes_hold_no_tensors,
    check_shape_and_dtype_are_as_asked,
    check_same_seed_gives_same_values,
    check_different_seeds_give_different_values,
    check_initializes_a_layer,
)
ACTIVATION_CHECKS = (
    _common.check_reloads_without_custom_objects,
    _common.check_gives_the_same_again,
    check_shape_and_dtype_are_kept,
    check_finite_at_zero,
    check_finite_at_the_kink,
    check_finite_for_large_input,
    check_compiled_equals_eager,
    check_serializes_by_name,
)
