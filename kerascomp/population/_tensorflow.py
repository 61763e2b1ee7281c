"""The compiled steps on TensorFlow, vectorized by `tf.vectorized_map`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.ops.parallel_for import pfor

from kerascomp import _compat
from kerascomp._compat import keras
from kerascomp.population import _lane_noise, _lifting, _program


def _to_tensor(value: Any, dtype: Any = None, **_: Any) -> Any:
    return value.tensor if dtype is None else tf.cast(value.tensor, dtype)


tf.register_tensor_conversion_function(_lifting.Lifted, _to_tensor)


def _vectorized_bitcast(operation: Any) -> Any:
    values = operation.stacked_input(0)
    return pfor.wrap(tf.bitcast(values, operation.get_attr("type")), True)


# Private: there is no public way to add an operation to `vectorized_map`, and
# Keras' `argmax`, which accuracies use, has one that is missing.
if "Bitcast" not in pfor._pfor_converter_registry:
    pfor.RegisterPFor("Bitcast")(_vectorized_bitcast)

# Where TensorFlow's optimizer writes `tf.Variable`s for `tf.distribute`, the
# methods of the base class go through Keras variables, which a
# `StatelessScope` intercepts.
_BASE_METHODS = (
    "assign",
    "assign_add",
    "assign_sub",
    "stateless_apply",
    "_apply_weight_decay",
    "_backend_update_step",
    "_overwrite_model_variables_with_average_value",
)


class Program:
    """Steps of one model as functions of its state.

    The same as Keras' `train_step` and `test_step`, which read and write
    variables and so cannot be vectorized.
    """

    def __init__(
        self,
        model: Any,
        lifting: _lifting.Lifting,
        settings: _program.Settings,
    ):
        _refuse(model)
        _program.refuse_probing(settings.probing)
        self._model = model
        self._lifting = lifting
        self._settings = settings
        # Random functions with a seed by lane have no vectorized form, those
        # with a common one have.
        common = settings.common_seeds
        seeds = [_program.is_seed(v) for v in model.non_trainable_variables]
        self._own_noise = settings.vectorized and sum(seeds) > sum(common)
        self._compiled: dict[tuple, Any] = {}
        self.traces = 0

    def train(
        self,
        state: _program.State,
        numbers: Any,
        batch: _program.Batch,
        step: int,
    ) -> tuple[dict, Any, _program.State]:
        step = tf.constant(step, tf.int32)
        logs, norms, state = self._run("train", batch, state, numbers, step)
        return logs, norms if self._settings.probing else None, state

    def test(
        self, state: _program.State, numbers: Any, batch: _program.Batch
    ) -> tuple[dict, _program.State]:
        logs, non_trainable, metrics = self._run("test", batch, state, numbers)
        return logs, state._replace(
            non_trainable=non_trainable, metrics=metrics
        )

    def predict(
        self, state: _program.State, numbers: Any, batch: _program.Batch
    ) -> Any:
        return self._run("predict", batch, state, numbers)

    def _run(
        self,
        kind: str,
        batch: _program.Batch,
        state: _program.State,
        *arguments: Any,
    ) -> Any:
        # Absent parts are left out: a signature cannot hold None.
        given = zip(("x", "y", "weight"), batch.parts, strict=True)
        data = keras.tree.map_structure(
            tf.convert_to_tensor,
            {name: part for name, part in given if part is not None},
        )
        key = kind, batch.by_lane, *data
        arguments = (data, state, *arguments)
        if key not in self._compiled:
            # Metrics use operations that XLA lacks, and take little time.
            xla = self._settings.xla and kind == "train"
            signature = self._signature(arguments, batch.by_lane)
            function = tf.function(
                self._traced(kind, batch.by_lane),
                input_signature=None if xla else signature,
                autograph=False,
                jit_compile=xla,
            )
            with _quiet():  # While it is traced.
                if xla:
                    self._compiled[key] = function
                    return function(*arguments)
                # The only trace: to look for it takes as long as to call it.
                self._compiled[key] = function.get_concrete_function()
        return self._compiled[key](*arguments)

    def _signature(self, arguments: tuple, by_lane: tuple[bool, bool]) -> list:
        """Leaves the numbers of samples and of lanes open.

        One trace then serves all batch sizes, smaller last batches, and what
        is left when lanes are dropped. XLA needs to know all sizes.
        """
        data, state, *rest = arguments
        lanes = (0,) if self._settings.vectorized else ()
        axes = {"x": by_lane[0], "y": by_lane[0], "weight": by_lane[1]}
        opened = {
            name: _opened(part, (0, 1) if axes[name] else (0,))
            for name, part in data.items()
        }
        # Of what is left, the step has no lanes.
        others = [
            _opened(v, lanes if n == 0 else ()) for n, v in enumerate(rest)
        ]
        return [opened, _opened(state, lanes), *others]

    def _traced(self, kind: str, by_lane: tuple[bool, bool]) -> Any:
        lane = getattr(self, f"_{kind}")

        def one_lane(*arguments: Any) -> Any:
            with _lane_noise.traceable(self._own_noise):
                return lane(*arguments)

        def all_lanes(data: Any, state: Any, numbers: Any, *rest: Any) -> Any:
            invariant = self._invariant_seeds(state)
            own, common = _split(data, by_lane)

            def one(lane_state: Any, lane_numbers: Any, lane_data: Any) -> Any:
                lane_state = self._with_seeds(lane_state, invariant)
                lane_data = {**common, **lane_data}
                return one_lane(lane_data, lane_state, lane_numbers, *rest)

            return tf.vectorized_map(
                lambda elements: one(*elements),
                (state, numbers, own),
                fallback_to_while_loop=False,
            )

        return all_lanes if self._settings.vectorized else one_lane

    def _invariant_seeds(self, state: _program.State) -> list:
        return [
            value[0] if common else None
            for value, common in zip(
                state.non_trainable, self._settings.common_seeds, strict=True
            )
        ]

    def _with_seeds(self, state: Any, invariant: list) -> _program.State:
        values = [
            own if common is None else common
            for own, common in zip(state.non_trainable, invariant, strict=True)
        ]
        return state._replace(non_trainable=values)

    def _train(
        self, data: dict, state: _program.State, numbers: Any, step: Any
    ) -> tuple[dict, Any, _program.State]:
        self.traces += 1
        model, optimizer = self._model, self._model.optimizer
        x, y, weight = map(data.get, ("x", "y", "weight"))
        with (
            self._lifting.applied(numbers),
            _base_methods(optimizer),
            _stateless(model, state) as scope,
        ):
            with tf.GradientTape() as tape:
                tape.watch(state.trainable)
                loss, outputs = _forward(model, x, y, weight, training=True)
                scaled = optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, state.trainable)
            # As they come: Keras treats sparse ones in ways of their own.
            optimizer.apply(gradients)
            logs = model.compute_metrics(x, y, outputs, sample_weight=weight)
        new = _program.State._make([*_current(scope, model), state.broken])
        probing = self._settings.probing
        norms = tf.zeros(())
        if probing:
            norms = _program.measured(
                probing,
                [_dense(g) for g in gradients],
                state.trainable,
                new.trainable,
            )
        return logs, norms, _program.guarded(state, new, logs.get("loss"), step)

    def _test(
        self, data: dict, state: _program.State, numbers: Any
    ) -> tuple[dict, list, list]:
        model = self._model
        x, y, weight = map(data.get, ("x", "y", "weight"))
        with (
            self._lifting.applied(numbers),
            _stateless(model, state) as scope,
        ):
            _, outputs = _forward(model, x, y, weight, training=False)
            logs = model.compute_metrics(x, y, outputs, sample_weight=weight)
        _, non_trainable, _, metrics = _current(scope, model)
        return logs, non_trainable, metrics

    def _predict(self, data: dict, state: _program.State, numbers: Any) -> Any:
        with (
            self._lifting.applied(numbers),
            _stateless(self._model, state),
        ):
            return _call(self._model, data["x"], training=False)


def _opened(structure: Any, axes: tuple[int, ...]) -> Any:
    """The specification of tensors, but for the lengths of some axes."""

    def spec(value: Any) -> tf.TensorSpec:
        tensor = tf.convert_to_tensor(value)
        shape = [None if n in axes else d for n, d in enumerate(tensor.shape)]
        return tf.TensorSpec(shape, tensor.dtype)

    return keras.tree.map_structure(spec, structure)


def _split(data: dict, by_lane: tuple[bool, bool]) -> tuple[dict, dict]:
    """Splits the data into what differs by lane and what does not."""
    of_data, of_weight = by_lane
    own: dict[str, Any] = {}
    common: dict[str, Any] = {}
    for name, part in data.items():
        differs = of_weight if name == "weight" else of_data
        (own if differs else common)[name] = part
    return own, common


def _refuse(model: Any) -> None:
    """Raises for what this file's steps would silently do differently."""
    for name in ("train_step", "test_step", "predict_step"):
        own = getattr(type(model), name)
        if own not in (
            getattr(keras.Model, name),
            getattr(keras.Sequential, name),
        ):
            raise _program.UnsupportedError(f"a member overrides `{name}`")
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise _program.UnsupportedError("the optimizer scales the loss")
    if hasattr(optimizer, "inner_optimizer"):
        raise _program.UnsupportedError("the optimizer wraps another one")
    if optimizer.gradient_accumulation_steps:
        raise _program.UnsupportedError("the optimizer accumulates gradients")
    if optimizer.use_ema and optimizer.ema_overwrite_frequency:
        raise _program.UnsupportedError(
            "the optimizer overwrites with averages"
        )


def _forward(
    model: Any, x: Any, y: Any, weight: Any, training: bool
) -> tuple[Any, Any]:
    """Returns loss and outputs, and updates the loss tracker."""
    outputs = _call(model, x, training)
    loss = _compat.compute_loss(model, x, y, outputs, weight, training)
    _compat.track_loss(model, loss, tf.shape(keras.tree.flatten(x)[0])[0])
    return loss, outputs


def _call(model: Any, x: Any, training: bool) -> Any:
    # Within a scope, `losses` holds those of layers only if collected there.
    if _compat.takes_training(model):
        return model(x, training=training)
    return model(x)


def _stateless(model: Any, state: _program.State) -> Any:
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    mapping = [
        pair
        for group, values in zip(variables, state[:4], strict=True)
        for pair in zip(group, values, strict=True)
    ]
    return keras.StatelessScope(mapping, collect_losses=True)


def _current(scope: Any, model: Any) -> list[list]:
    """The values of all variables at the end of a scope."""
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    # vectorized_map stacks tensors, and takes a plain tensor for a value that
    # is still the one that came in.
    return [
        [tf.convert_to_tensor(scope.get_current_value(v)) for v in group]
        for group in groups
    ]


@contextlib.contextmanager
def _base_methods(optimizer: Any) -> Iterator[None]:
    """Lets an optimizer run inside a `StatelessScope`.

    Private: `stateless_apply` raises on this backend for the sake of
    `tf.distribute`, and so do the methods it would need.
    """
    base = _compat.base_optimizer()
    # In a scope, a variable's value is a tensor without an identity.
    keys = {
        id(variable): optimizer._var_key(variable)
        for variable in _compat.optimizer_targets(optimizer)
    }
    own = {"_var_key": lambda variable: keys[id(variable)]}
    with contextlib.ExitStack() as stack:
        # In their class, so that what an optimizer overrides still runs, and
        # finds them above.
        for cls in type(optimizer).__mro__:
            if cls.__module__.startswith("keras.src.backend."):
                stack.enter_context(_taken_from(base, cls))
        stack.enter_context(_compat.replaced(vars(optimizer), own))
        yield


@contextlib.contextmanager
def _taken_from(base: type, cls: type) -> Iterator[None]:
    """Replaces the methods of a class that another one has as well."""
    found = {n: vars(cls)[n] for n in _BASE_METHODS if n in vars(cls)}
    for name in found:
        setattr(cls, name, getattr(base, name))
    try:
        yield
    finally:
        for name, method in found.items():
            setattr(cls, name, method)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TensorFlow from logging pages on what has no vectorized form.

    It raises as well, and then the lanes are looped.
    """
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("CRITICAL")
    try:
        yield
    finally:
        logger.setLevel(level)


def _dense(gradient: Any) -> Any:
    """Returns `tf.IndexedSlices` as a tensor."""
    return None if gradient is None else tf.convert_to_tensor(gradient)
