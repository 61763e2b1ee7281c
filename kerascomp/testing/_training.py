"""Checks of optimizers and callbacks."""

import contextlib
import math
import pathlib
import tempfile
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.testing import _common, _programs
from kerascomp.testing._case import Case

ops = keras.ops


def check_one_step_moves_every_weight(case: Case) -> None:
    """A training step changes all weights and leaves them finite."""
    model, x, y = _programs.regression(case.make())
    before = model.get_weights()
    model.train_on_batch(x, y)
    for old, variable in zip(before, model.weights, strict=True):
        new = ops.convert_to_numpy(variable)
        assert np.isfinite(new).all(), (
            f"{case.name} makes {variable.path} {new}."
        )
        assert not np.array_equal(old, new), (
            f"{case.name} does not train {variable.path}. Assign with "
            "`self.assign_sub(variable, ...)`."
        )


def check_zero_gradient_is_finite(case: Case) -> None:
    """Weights stay finite when the gradient is 0 from the first step on."""
    model, x, _ = _programs.regression(case.make())
    model.train_on_batch(x, model.predict_on_batch(x))
    assert _programs.is_finite(model.weights), (
        f"{case.name} divides by the size of the gradient. Add an epsilon."
    )


def check_compiled_equals_eager(case: Case) -> None:
    """Compiled and eager training end with the same weights."""
    weights = []
    for eager in (True, False):
        model, x, y = _programs.seeded(
            lambda: _programs.regression(case.make())
        )
        model.run_eagerly = eager
        _programs.fit((model, x, y))
        weights.append(model.get_weights())
    _programs.assert_same(
        weights[1], weights[0], f"{case.name} trains otherwise when compiled."
    )


def check_saved_model_continues_alike(case: Case) -> None:
    """A loaded model has the optimizer's state and trains on the same way."""
    model, x, y = _programs.regression(case.make())
    _programs.fit((model, x, y))
    twin = _programs.reloaded_model(model)
    _programs.assert_same(
        [v.value for v in twin.optimizer.variables],
        [v.value for v in model.optimizer.variables],
        f"{case.name} loses state in a saved model. Create it with "
        "`self.add_variable_from_reference` in `build`.",
    )
    for each in (model, twin):
        _programs.fit((each, x, y))
    _programs.assert_same(
        twin.get_weights(),
        model.get_weights(),
        f"After loading, {case.name} trains on differently.",
    )


def check_learning_rate_can_be_set(case: Case) -> None:
    """A rate assigned between two steps is the rate of the next."""
    moves = []
    for rate in (1e-3, 1e-2):
        model, x, y = _programs.seeded(
            lambda: _programs.regression(case.make())
        )
        model.train_on_batch(x, y)
        model.optimizer.learning_rate = rate
        before = model.get_weights()
        model.train_on_batch(x, y)
        moves.append(
            sum(
                np.abs(new - old).sum()
                for new, old in zip(model.get_weights(), before, strict=True)
            )
        )
    assert moves[0] < moves[1], (
        f"{case.name} ignores a learning rate that is assigned: steps at "
        f"0.001 and 0.01 move the weights by {moves}. Use the `learning_rate` "
        "that update_step() receives."
    )


def check_trains_in_mixed_precision(case: Case) -> None:
    """Float16 models train with it inside `LossScaleOptimizer`."""
    scaled = keras.optimizers.LossScaleOptimizer(case.make(), initial_scale=8)
    model, x, y = _programs.regression(scaled)
    loss = _programs.fit((model, x, y))["loss"]
    assert np.isfinite(loss).all(), f"{case.name} trains with losses {loss}."


def check_training_leaves_the_config_alone(case: Case) -> None:
    """Training changes no argument."""
    optimizer = case.make()
    before = optimizer.get_config()
    _common.use(optimizer, None)
    assert optimizer.get_config() == before, (
        f"Training with {case.name} rewrote arguments: {before} became "
        f"{optimizer.get_config()}."
    )


def check_leaves_model_and_optimizer_as_found(case: Case) -> None:
    """After training nothing of the callback is left in the model."""
    callback = case.make()
    plain, observed = _pair(case)
    rate = _learning_rates(observed[0])
    _programs.fit(plain)
    _programs.fit(observed, [callback])
    model = observed[0]
    for name, expected in _state(plain[0]).items():
        received = _state(model)[name]
        assert received == expected, (
            f"{case.name} leaves {name} as {received}; without it they are "
            f"{expected}. Undo in `on_train_end` what was done to the model."
        )
    _programs.assert_same(
        _learning_rates(model),
        rate,
        f"{case.name} leaves another learning rate behind.",
    )
    _assert_usable(observed, f"a model trained with {case.name}")


def _pair(case: Case) -> list[tuple]:
    return [
        _programs.seeded(lambda: _common.regression_for(case.inputs))
        for _ in range(2)
    ]


def _state(model: Any) -> dict[str, Any]:
    """What a callback could leave behind in a model and its optimizer."""
    parts = {
        "model": model,
        "optimizer": model.optimizer,
        **{f"layers[{i}]": layer for i, layer in enumerate(model.layers)},
    }
    state: dict[str, Any] = {
        "model variables": len(model.variables),
        "optimizer variables": len(model.optimizer.variables),
        "metrics": [metric.name for metric in model.metrics],
        "trainable flags": [v.trainable for v in model.variables],
    }
    for name, part in parts.items():
        state[f"type of {name}"] = type(part)
        state[f"attributes of {name}"] = sorted(vars(part))
        state[f"values in {name}"] = {
            key: value
            for key, value in vars(part).items()
            # `stop_training` is how a callback ends a fit, and names count up.
            if isinstance(value, bool | int | float | str | None)
            and key.strip("_") not in ("stop_training", "name", "path")
        }
    return state


def _learning_rates(model: Any) -> Any:
    optimizer = model.optimizer
    optimizers = getattr(optimizer, "optimizers", [optimizer])
    return [_programs.numpy_of(each.learning_rate) for each in optimizers]


def _assert_usable(trained: tuple, what: str) -> None:
    """A plain fit, evaluate, predict and save work."""
    model, x, y = trained
    _assert_trained(_programs.fit((model, x, y)), f"a later fit of {what}")
    value = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert math.isfinite(value), f"evaluate() of {what} gives {value}."
    _programs.assert_same(
        _programs.reloaded_model(model).predict(x, verbose=0),
        model.predict(x, verbose=0),
        f"After saving and loading, {what} predicts something else.",
    )


def _assert_trained(history: dict[str, list], what: str) -> None:
    losses = history.get("loss", [])
    finite = len(losses) > 0 and np.isfinite(losses).all()
    assert finite, f"The losses of {what} are {losses}."


def check_usable_for_a_second_fit(case: Case) -> None:
    """One instance serves two fits, without validation data and with."""
    model, x, y = _common.regression_for(case.inputs)
    callback = case.make()
    validation = {"validation_data": (x, y)}
    for count, extra in (("first", {}), ("second", validation)):
        history = _programs.fit((model, x, y), [callback], **extra)
        _assert_trained(history, f"the {count} fit with one {case.name}")


def check_usable_on_another_model(case: Case) -> None:
    """An instance used on one model acts as a new one on another."""
    used = case.make()
    _programs.fit(_common.eager_regression_for(case.inputs), [used])
    histories = []
    for callback in (case.make(), used):
        model, x, y = _programs.seeded(
            lambda: _common.eager_regression_for(case.inputs, units=4)
        )
        histories.append(_programs.fit((model, x, y), [callback]))
    fresh, again = histories
    assert fresh.keys() == again.keys(), (
        f"A used {case.name} logs {sorted(again)} instead of {sorted(fresh)}."
    )
    for name in fresh:
        _programs.assert_same(
            np.asarray(again[name]),
            np.asarray(fresh[name]),
            f"{case.name} logs another {name} when it was used before. Set "
            "its state up in `on_train_begin`.",
        )


class _Interrupt(keras.callbacks.Callback):
    """Breaks training off, as Ctrl+C does."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        if batch == 1:
            raise KeyboardInterrupt


def check_usable_after_an_interrupted_fit(case: Case) -> None:
    """After a fit that broke off, the model and the callback go on."""
    callback = case.make()
    trained = _common.regression_for(case.inputs)
    another = _common.regression_for(case.inputs, units=4)
    rates = [_learning_rates(each) for each, *_ in (trained, another)]
    _interrupted(trained, callback)
    _assert_trained(
        _programs.fit(another, [callback]),
        f"another model after {case.name} was interrupted",
    )
    _interrupted(trained, callback)
    for callbacks in ([], [callback]):
        _assert_trained(
            _programs.fit(trained, callbacks),
            f"a model after {case.name} was interrupted",
        )
    _programs.assert_same(
        [_learning_rates(each) for each, *_ in (trained, another)],
        rates,
        f"Interrupted and used again, {case.name} does not give the "
        "learning rates back that it first found.",
    )


def _interrupted(trained: tuple, callback: Any) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        _programs.fit(trained, [callback, _Interrupt()])


def check_model_saved_meanwhile_reloads(case: Case) -> None:
    """A checkpoint written while the callback runs loads without it."""
    model, x, y = _common.regression_for(case.inputs)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.keras"
        checkpoint = keras.callbacks.ModelCheckpoint(path)
        _programs.fit((model, x, y), [case.make(), checkpoint])
        twin = keras.saving.load_model(path)
    _programs.assert_same(
        twin.predict(x, verbose=0),
        model.predict(x, verbose=0),
        f"A checkpoint written while {case.name} ran differs from the model.",
    )
    _assert_usable((twin, x, y), f"a checkpoint of {case.name}")


OPTIMIZER_CHECKS = (
    *_common.CONFIG_CHECKS,
    check_one_step_moves_every_weight,
    check_zero_gradient_is_finite,
    check_compiled_equals_eager,
    check_saved_model_continues_alike,
    check_learning_rate_can_be_set,
    check_trains_in_mixed_precision,
    check_training_leaves_the_config_alone,
)
CALLBACK_CHECKS = (
    _common.check_every_argument_is_an_attribute,
    _common.check_two_instances_share_no_state,
    check_leaves_model_and_optimizer_as_found,
    check_usable_for_a_second_fit,
    check_usable_on_another_model,
    check_usable_after_an_interrupted_fit,
    check_model_saved_meanwhile_reloads,
)
