"""Checks of losses."""

from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.testing import _common, _programs
from kerascomp.testing._case import Case

ops = keras.ops


def check_unreduced_shape_is_batch(case: Case) -> None:
    """Without reduction there is one value a sample, or more."""
    _, y_pred = case.inputs
    shape = tuple(_unreduced(case).shape)
    assert (*shape[:1], len(shape) < y_pred.ndim) == (len(y_pred), True), (
        f"Without reduction {case.name} of predictions {y_pred.shape} has "
        f"shape {shape}. Return the values of the samples, batch axis first "
        "and class axis gone: Keras reduces them, and weights them before."
    )


def check_samples_do_not_mix(case: Case) -> None:
    """The loss of a sample is the same in a batch and alone."""
    alone = [
        ops.convert_to_numpy(
            case.make(reduction=None)(*(a[i : i + 1] for a in case.inputs))
        )
        for i in range(len(case.inputs[1]))
    ]
    _programs.assert_same(
        _unreduced(case),
        np.concatenate([np.atleast_1d(each) for each in alone]),
        f"In {case.name}, samples of a batch change each other's loss.",
    )


def check_weights_act_per_sample(case: Case) -> None:
    """A sample weight multiplies the loss of its sample."""
    each = ops.convert_to_numpy(_unreduced(case))
    weights = np.arange(1.0, len(each) + 1).astype("float32")
    weights = weights.reshape(-1, *[1] * (each.ndim - 1))
    total = case.make(reduction="sum")(*case.inputs, sample_weight=weights)
    _programs.assert_same(
        total,
        np.sum(weights * each),
        f"{case.name} ignores sample weights or applies them after a mean.",
    )


def check_batch_order_is_irrelevant(case: Case) -> None:
    """Samples in another order have the same loss."""
    turned = [a[::-1].copy() for a in case.inputs]
    _programs.assert_same(
        case.make()(*turned),
        case.make()(*case.inputs),
        f"{case.name} depends on the order of the samples.",
    )


def check_integer_labels_are_accepted(case: Case) -> None:
    """Targets of an integer dtype give what equal floats give."""
    y_true, y_pred = case.inputs
    rounded = np.round(y_true)
    expected = case.make()(rounded.astype("float32"), y_pred)
    for dtype in ("int32", "int64"):
        _programs.assert_same(
            case.make()(rounded.astype(dtype), y_pred),
            expected,
            f"{case.name} gives other values for {dtype} labels.",
        )


def check_gradient_is_finite_at_zero(case: Case) -> None:
    """Predictions that are all 0 have a finite loss and gradient."""
    _assert_finite(case, np.zeros_like(case.inputs[1]))


def check_gradient_is_finite_at_zero_and_one(case: Case) -> None:
    """Predictions that hold zeros and ones have finite loss and gradient."""
    y_pred = case.inputs[1]
    _assert_finite(case, np.ones_like(y_pred))
    axis = _class_axis(y_pred.shape, tuple(_unreduced(case).shape))
    for place in (0, -1):
        corner = np.zeros_like(y_pred)
        np.moveaxis(corner, axis, -1)[..., place] = 1
        _assert_finite(case, corner)


def check_gradient_is_finite_at_the_kink(case: Case) -> None:
    """A perfect prediction has a finite loss and gradient."""
    _assert_finite(case, _perfect(*case.inputs))


def _perfect(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """The prediction that equals the target; one-hot if targets are labels."""
    if y_true.shape == y_pred.shape:
        return y_true.astype(y_pred.dtype)
    axis = _class_axis(y_pred.shape, y_true.shape)
    if y_true.ndim == y_pred.ndim:
        y_true = np.squeeze(y_true, axis)
    one_hot = np.eye(y_pred.shape[axis], dtype=y_pred.dtype)
    return np.moveaxis(one_hot[y_true.astype(int)], -1, axis)


def _class_axis(shape: tuple, without: tuple) -> int:
    """The axis that another shape lacks, or has with length 1."""
    for axis in range(len(shape))[::-1]:
        before, after = shape[:axis], shape[axis + 1 :]
        if without in ((*before, *after), (*before, 1, *after)):
            return axis
    return len(shape) - 1


def check_half_precision_is_finite(case: Case) -> None:
    """In float16 the loss has that dtype, and its gradient is finite."""
    value = case.make(dtype="float16")(*case.inputs)
    dtype = keras.backend.standardize_dtype(value.dtype)
    assert dtype == "float16", (
        f"{case.name} with dtype float16 returns {dtype}. Make constants with "
        "the dtype of the input."
    )
    _assert_finite(case, case.inputs[1].astype("float16"), dtype="float16")


def _assert_finite(
    case: Case, y_pred: np.ndarray, dtype: str = "float32"
) -> None:
    loss = case.make(reduction="sum", dtype=dtype)
    y_true = case.inputs[0]
    value = loss(y_true, y_pred)
    gradient = _programs.gradient(lambda point: loss(y_true, point), y_pred)
    for what, numbers in (("value", value), ("gradient", gradient)):
        assert _programs.is_finite(numbers), (
            f"The {what} of {case.name} is {numbers} in {dtype} at\n{y_pred}\n"
            "Mind that `where` differentiates the branch that it does not "
            "take as well: make the argument safe, not the result."
        )


def check_compiled_equals_eager(case: Case) -> None:
    """The loss gives the same numbers in a compiled program."""
    loss = case.make()
    _programs.assert_same(
        _programs.compiled(loss, *case.inputs),
        loss(*case.inputs),
        f"{case.name} gives other numbers when compiled.",
    )


def check_trains_in_fit(case: Case) -> None:
    """A model compiled with it trains, and reports its value."""
    y_true, y_pred = case.inputs
    inputs = _programs.symbolic(y_pred)
    model = keras.Model(inputs, _programs.scaled(inputs))
    model.compile(keras.optimizers.SGD(1e-3), case.make())
    reported = model.train_on_batch(y_pred, y_true)
    expected = np.sum(ops.convert_to_numpy(case.make()(y_true, y_pred)))
    if np.ndim(reported) == 0 and case.make().reduction is not None:
        _programs.assert_same(
            np.asarray(reported),
            expected,
            f"`fit` reports another value than {case.name} has.",
        )
    assert _programs.is_finite(model.weights), (
        f"The gradient of {case.name} is not finite."
    )


def check_compiled_model_reloads_with_it(case: Case) -> None:
    """A saved model brings its loss back."""
    _, y_pred = case.inputs
    inputs = _programs.symbolic(y_pred)
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    loss = case.make()
    model.compile("sgd", loss)
    twin = _programs.reloaded_model(model)
    assert type(twin.loss) is type(loss), f"The loss reloads as {twin.loss!r}"
    assert twin.loss.get_config() == loss.get_config(), (
        f"{case.name} reloads in a model as {twin.loss.get_config()}."
    )


def _unreduced(case: Case) -> Any:
    return case.make(reduction=None)(*case.inputs)


CHECKS = (
    *_common.CONFIG_CHECKS,
    _common.check_inherited_arguments_survive_reloading,
    _common.check_attributes_hold_no_tensors,
    check_unreduced_shape_is_batch,
    check_samples_do_not_mix,
    check_weights_act_per_sample,
    check_batch_order_is_irrelevant,
    check_integer_labels_are_accepted,
    check_gradient_is_finite_at_zero,
    check_gradient_is_finite_at_zero_and_one,
    check_gradient_is_finite_at_the_kink,
    check_half_precision_is_finite,
    check_compiled_equals_eager,
    check_trains_in_fit,
    check_compiled_model_reloads_with_it,
)
