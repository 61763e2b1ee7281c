"""Checks of metrics."""

import inspect
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.testing import _common, _programs
from kerascomp.testing._case import Case


def check_two_updates_equal_one(case: Case) -> None:
    """Data in two batches of unequal size give the result of one batch."""
    metric = case.make()
    metric.update_state(*(a[:1] for a in case.inputs))
    metric.update_state(*(a[1:] for a in case.inputs))
    _programs.assert_same(
        metric.result(),
        _result(case, *case.inputs),
        f"{case.name} depends on how the data are split into batches. Sum "
        "up counts and totals, and divide in `result`.",
    )


def check_weight_zero_equals_leaving_out(case: Case) -> None:
    """Samples of weight 0 do not count."""
    metric = case.make()
    if "sample_weight" not in inspect.signature(metric.update_state).parameters:
        return
    weights = np.ones(len(case.inputs[0]), "float32")
    weights[-1] = 0
    metric.update_state(*case.inputs, sample_weight=weights)
    _programs.assert_same(
        metric.result(),
        _result(case, *(a[:-1] for a in case.inputs)),
        f"A sample of weight 0 changes {case.name}.",
    )


def check_batch_order_is_irrelevant(case: Case) -> None:
    """Samples in another order have the same result."""
    _programs.assert_same(
        _result(case, *(a[::-1].copy() for a in case.inputs)),
        _result(case, *case.inputs),
        f"{case.name} depends on the order of the samples.",
    )


def check_reset_forgets_everything(case: Case) -> None:
    """After `reset_state` the metric is as new."""
    metric = case.make()
    metric.update_state(*case.inputs)
    metric.reset_state()
    metric.update_state(*(a[:1] for a in case.inputs))
    _programs.assert_same(
        metric.result(),
        _result(case, *(a[:1] for a in case.inputs)),
        f"reset_state() of {case.name} leaves something behind.",
    )


def check_result_before_any_update_is_defined(case: Case) -> None:
    """A metric that saw nothing has a finite result."""
    result = case.make().result()
    assert _programs.is_finite(result), (
        f"{case.name} of no data is {result}. Divide with "
        "`keras.ops.divide_no_nan`."
    )


def check_evaluate_equals_eager(case: Case) -> None:
    """A compiled model reports what the metric gives by itself."""
    if len(case.inputs) != 2:
        return
    y_true, y_pred = case.inputs
    inputs = _programs.symbolic(y_pred)
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    metric = case.make()
    model.compile(loss=lambda _, y: 0 * y, metrics=[metric])
    logs = model.evaluate(
        y_pred, y_true, batch_size=2, verbose=0, return_dict=True
    )
    expected = _result(case, y_true, y_pred)
    if not isinstance(expected, dict):
        expected = {metric.name: expected}
    for name, value in expected.items():
        _programs.assert_same(
            np.asarray(logs[name]),
            value,
            f"`evaluate` reports another {name} than {case.name} has.",
        )


def _result(case: Case, *arrays: np.ndarray) -> Any:
    metric = case.make()
    metric.update_state(*arrays)
    return metric.result()


CHECKS = (
    *_common.CONFIG_CHECKS,
    _common.check_inherited_arguments_survive_reloading,
    _common.check_attributes_hold_no_tensors,
    check_two_updates_equal_one,
    check_weight_zero_equals_leaving_out,
    check_batch_order_is_irrelevant,
    check_reset_forgets_everything,
    check_result_before_any_update_is_defined,
    check_evaluate_equals_eager,
)
