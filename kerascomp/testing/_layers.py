"""Checks of layers."""

import functools
import inspect
from typing import Any

import numpy as np

from kerascomp._compat import keras
from kerascomp.testing import _common, _programs
from kerascomp.testing._case import Case, parameters_of

ops = keras.ops
tree = keras.tree


def check_building_leaves_the_config_alone(case: Case) -> None:
    """The first call changes no argument."""
    layer = case.make()
    before = layer.get_config()
    layer(case.inputs)
    after = layer.get_config()
    assert after == before, (
        f"Building {case.name} rewrote arguments: {before} became {after}. A "
        "saved model would be rebuilt from the second. Store derived values "
        "under names of their own."
    )


def check_symbolic_shape_covers_eager_shape(case: Case) -> None:
    """With unknown axes, what is promised about the output holds.

    All axes are unknown, or the batch alone if there are weights to fit.
    """
    layer = case.make()
    eager = layer(case.inputs)

    def hidden(array: np.ndarray) -> Any:
        count = 1 if layer.weights else array.ndim
        shape = (*[None] * count, *array.shape[count:])
        return keras.KerasTensor(shape, array.dtype.name)

    unknown = tree.map_structure(hidden, case.inputs)
    _assert_covers(
        layer.compute_output_spec(unknown),
        eager,
        f"the symbolic output of {case.name}",
    )
    # Keras does not run `call` above if there is a compute_output_shape.
    for training in (False, True):
        _assert_covers(
            _programs.traced(
                functools.partial(layer, training=training), unknown
            ),
            layer(case.inputs, training=training),
            f"the traced output of {case.name} with training={training}",
        )


def _assert_covers(promised: Any, eager: Any, what: str) -> None:
    pairs = list(zip(tree.flatten(promised), tree.flatten(eager), strict=True))
    for spec, tensor in pairs:
        shape = tuple(tensor.shape)
        covers = len(spec.shape) == len(shape) and all(
            p is None or p == e for p, e in zip(spec.shape, shape, strict=False)
        )
        assert covers, (
            f"{what} has shape {spec.shape}, but a call gave {shape}. An axis "
            "that depends on the input must stay None, and the shape must "
            "come from `ops.shape(inputs)` while the program runs."
        )
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        assert spec.dtype == dtype, (
            f"{what} has dtype {spec.dtype}, but a call gave {dtype}."
        )


def check_computed_shape_equals_eager_shape(case: Case) -> None:
    """`compute_output_shape` says what a call gives."""
    layer = case.make()
    shapes = [tuple(each.shape) for each in tree.flatten(layer(case.inputs))]
    computed = layer.compute_output_shape(
        tree.map_structure(lambda a: a.shape, case.inputs)
    )
    if isinstance(computed, tuple) and not any(
        isinstance(each, tuple) for each in computed
    ):
        computed = [computed]
    assert [tuple(shape) for shape in computed] == shapes, (
        f"compute_output_shape() of {case.name} says {computed}, a call gives "
        f"{shapes}."
    )


def check_compiled_equals_eager(case: Case) -> None:
    """In both modes, a compiled model of any batch size does the same."""
    for training in (False, True):
        layer, twin = _built(case), _built(case)
        model = _programs.Program(
            functools.partial(twin, training=training), twin
        )
        alone = tree.map_structure(lambda a: a[:1], case.inputs)
        for inputs in (alone, case.inputs):
            _programs.assert_same(
                model.predict_on_batch([inputs]),
                layer(inputs, training=training),
                f"With training={training} {case.name} gives other numbers "
                "when compiled. Use keras.ops alone, and no Python branches "
                "on values or sizes of tensors.",
            )


def _built(case: Case) -> Any:
    """A layer with weights, all random numbers from the same seed."""
    layer = _programs.seeded(case.make)
    _programs.seeded(lambda: layer.build(_shapes(case.inputs)))
    return layer


def check_saved_model_reloads_to_the_same_function(case: Case) -> None:
    """A saved and loaded model has the same weights and output."""
    model = _model(case.make(), case.inputs)
    twin = _programs.reloaded_model(model)
    _programs.assert_same(
        twin.get_weights(),
        model.get_weights(),
        f"{case.name} loses weights in a saved model. Create them in "
        "`build`, from the arguments and the input shape alone.",
    )
    _programs.assert_same(
        twin.predict_on_batch(case.inputs),
        model.predict_on_batch(case.inputs),
        f"{case.name} computes something else in a loaded model.",
    )


def check_half_precision_keeps_its_dtypes(case: Case) -> None:
    """In mixed precision the output is half, weights are float32, all finite.

    Both modes count: an operation that widens the dtype may hide in the
    training branch.
    """
    layer = case.make(dtype="mixed_float16")
    for training in (False, True):
        outputs = tree.flatten(layer(case.inputs, training=training))
        dtypes = {
            keras.backend.standardize_dtype(each.dtype)
            for each in outputs
            if _programs.is_floating(each)
        }
        assert dtypes <= {"float16"}, (
            f"With training={training} {case.name} returns {sorted(dtypes)} "
            "instead of float16. Cast constants to the dtype of the input."
        )
        assert _programs.is_finite(outputs), (
            f"With training={training} {case.name} overflows in float16."
        )
    weights = {w.dtype for w in layer.weights if "float" in w.dtype}
    assert weights <= {"float32"}, (
        f"{case.name} holds {sorted(weights)} weights. Leave `dtype` of "
        "add_weight() alone: mixed precision trains float32 weights."
    )


def check_one_fit_step_is_finite(case: Case) -> None:
    """A compiled training step leaves loss and weights finite."""
    inputs = _programs.symbolic(case.inputs)
    outputs = tree.flatten(case.make()(_programs.scaled(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), ["mse"] * len(outputs))
    targets = [
        np.zeros(each.shape, "float32")
        for each in _programs.arrays_of(model(case.inputs))
    ]
    loss = model.train_on_batch(case.inputs, targets)
    assert np.isfinite(loss).all(), f"{case.name} trains with loss {loss}."
    assert _programs.is_finite(model.weights), (
        f"The gradient of {case.name} is not finite."
    )


def check_same_seed_gives_same_output(case: Case) -> None:
    """In training, the argument `seed` or Keras' seed decides the output."""
    takes_seed = "seed" in parameters_of(case.symbol)
    # With a seed of its own, Keras' global one must not matter.
    other = 1 if takes_seed else 0
    first, twin = _built(case), _built(case)
    output = _programs.seeded(lambda: first(case.inputs, training=True))
    same = _programs.seeded(lambda: twin(case.inputs, training=True), other)
    _programs.assert_same(
        same,
        output,
        f"Two {case.name} with the same seed differ. Draw all noise from one "
        "`keras.random.SeedGenerator(seed)` made in the constructor.",
    )
    if takes_seed:
        again = _programs.arrays_of(first(case.inputs, training=True))
        output = _programs.arrays_of(output)
        assert not all(map(np.array_equal, again, output)), (
            f"{case.name} takes a seed, yet two calls in training are equal. "
            "Pass the SeedGenerator to keras.random, not the number."
        )


def _shapes(arrays: Any) -> Any:
    return tree.map_structure(lambda a: a.shape, arrays)


class _Masker(keras.layers.Layer):
    """Attaches a mask that hides the last step."""

    def __init__(self) -> None:
        super().__init__(autocast=False)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        shape = inputs.shape[: max(len(inputs.shape) - 1, 1)][:2]
        mask = np.ones(shape, bool)
        mask[..., -1] = False
        return ops.convert_to_tensor(mask)


class _MaskReader(keras.layers.Layer):
    """Remembers the mask that arrives."""

    def __init__(self) -> None:
        super().__init__(autocast=False)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        self.received = mask
        return inputs


def check_mask_passes_or_is_documented(case: Case) -> None:
    """A mask goes on to the next layer, or the docstring says it does not."""
    documentation = inspect.getdoc(case.symbol) or ""
    _, _, section = documentation.partition("Masking:\n")
    if "not passed on" in section.lower().partition("\n\n")[0]:
        return
    masked = tree.map_structure(lambda a: _Masker()(a), case.inputs)
    reader = _MaskReader()
    # In inference a layer may return its input, and the input's mask with it.
    reader(tree.flatten(case.make()(masked, training=True))[0])
    assert reader.received is not None, (
        f"{case.name} drops the mask. Set `self.supports_masking = True` or "
        "implement compute_mask(); or say in the docstring, under "
        "`Masking:`, that the mask is not passed on, and why."
    )


def check_zero_size_batch_is_accepted(case: Case) -> None:
    """A batch without samples gives an output without samples."""
    layer = case.make()
    layer(case.inputs)
    nothing = tree.map_structure(lambda a: a[:0], case.inputs)
    for training in (False, True):
        outputs = tree.flatten(layer(nothing, training=training))
        sizes = [each.shape[0] for each in outputs]
        assert set(sizes) == {0}, (
            f"{case.name} makes {sizes} samples out of a batch of none."
        )


def _model(layer: Any, inputs: Any) -> Any:
    symbols = _programs.symbolic(inputs)
    return keras.Model(symbols, layer(symbols))


CHECKS = (
    *_common.CONFIG_CHECKS,
    _common.check_inherited_arguments_survive_reloading,
    _common.check_attributes_hold_no_tensors,
    check_building_leaves_the_config_alone,
    check_symbolic_shape_covers_eager_shape,
    check_computed_shape_equals_eager_shape,
    check_compiled_equals_eager,
    check_saved_model_reloads_to_the_same_function,
    check_half_precision_keeps_its_dtypes,
    check_one_fit_step_is_finite,
    check_same_seed_gives_same_output,
    check_mask_passes_or_is_documented,
    check_zero_size_batch_is_accepted,
)
