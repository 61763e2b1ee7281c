"""The numbers that lanes of one program may differ in, and how.

A program is traced once, with the objects of its first member. While that
happens, every number that differs between the members is replaced by one that
is read from the lane. Adding a row to `TABLE` makes a number liftable.
"""

import contextlib
import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kerascomp import _compat, layers, losses, regularizers, schedules
from kerascomp._compat import keras

ops = keras.ops


class Lifted:
    """A number that decides like a float and computes like a tensor.

    Code such as `if self.rate > 0` runs while a program is traced, for all
    lanes at once. Members of one program agree in the sign of a number and,
    for rates, in whether it is 1 (see `Slot.branch`), so that comparisons with
    0 and equality to 1 have one answer. Others have not, and raise.

    `1 - number` is computed from the float64 value, as Python would: in
    float32, `1 - 0.999` loses four digits.
    """

    __array_ufunc__ = None  # NumPy arrays leave the arithmetic to this class.
    dtype = "float32"
    shape = ()

    def __init__(self, tensor: Any, complement: Any, branch: str):
        self.tensor = tensor
        self._complement = complement
        self._branch = branch

    @property
    def parts(self) -> tuple[tuple, str]:
        """The tensors, and what is known about the number."""
        return (self.tensor, self._complement), self._branch

    def __jax_array__(self) -> Any:
        return self.tensor

    def __bool__(self) -> bool:
        return self._branch != "zero"

    def __rsub__(self, other: Any) -> Any:
        if isinstance(other, int | float) and other == 1:
            return self._complement
        return other - self.tensor

    def _compare(self, compare: Callable, other: Any) -> Any:
        if not isinstance(other, int | float):
            return compare(self.tensor, other)
        equality = compare in (operator.eq, operator.ne)
        if other != 0 and not (other == 1 and equality):
            raise TypeError(
                "A number that differs by lane was compared in a way that has "
                f"no common answer. Received: {compare.__name__} {other!r}"
            )
        return compare(_REPRESENTATIVE[self._branch], other)

    __hash__ = object.__hash__


def _add_operators() -> None:
    """Gives `Lifted` the arithmetic of its tensor."""

    def forward(name: str) -> Callable:
        compute = getattr(operator, name)
        return lambda self, other: compute(self.tensor, other)

    def backward(name: str) -> Callable:
        compute = getattr(operator, name)
        return lambda self, other: compute(other, self.tensor)

    def comparison(name: str) -> Callable:
        return lambda self, other: self._compare(getattr(operator, name), other)

    for name in ("add", "sub", "mul", "truediv", "pow"):
        setattr(Lifted, f"__{name}__", forward(name))
    for name in ("add", "mul", "truediv", "pow"):
        setattr(Lifted, f"__r{name}__", backward(name))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Lifted, f"__{name}__", comparison(name))
    Lifted.__neg__ = lambda self: -self.tensor  # type: ignore[operator]


_add_operators()

_SIGNS = ("negative", "positive")
_REPRESENTATIVE = {
    "negative": -1.0,
    "zero": 0.0,
    "positive": 0.5,
    "one": 1.0,
}


@dataclasses.dataclass(frozen=True)
class Liftable:
    """A row of the table.

    Attributes:
        classes: Whose numbers these are; see `rows_of` for subclasses.
        names: Attributes of the object; arguments of a loss function where
            the object is a loss that wraps one.
        is_rate: Whether code tests if it is 1, so that a program may do.
        twin: A `call` that stands in while a program is traced, for layers
            that compute with the number in plain Python.
    """

    classes: tuple[type, ...]
    names: tuple[str, ...]
    is_rate: bool = False
    twin: Callable | None = None


def _gaussian_dropout(layer: Any, inputs: Any, training: bool = False) -> Any:
    """`GaussianDropout.call`, without `math.sqrt`."""
    if not training:
        return inputs
    noise = keras.random.normal(
        ops.shape(inputs), dtype=layer.compute_dtype, seed=layer.seed_generator
    )
    stddev = ops.sqrt(layer.rate / (1.0 - layer.rate))
    return inputs * (1.0 + ops.cast(stddev, noise.dtype) * noise)


_keras = keras.optimizers
_decays = keras.optimizers.schedules
_ADAMS = (_keras.Adam, _keras.AdamW, _keras.Nadam, _keras.Adamax, _keras.Lamb)
_OPTIMIZERS = (
    *_ADAMS,
    _keras.SGD,
    _keras.RMSprop,
    _keras.Adagrad,
    _keras.Adadelta,
    _keras.Lion,
)

_PENALTIES = (
    regularizers.ScaledL1,
    regularizers.ScaledL2,
    regularizers.GroupLasso,
    regularizers.SparseGroupLasso,
    regularizers.Hoyer,
    regularizers.SoftOrthogonality,
    regularizers.SpectralNorm,
    regularizers.NuclearNorm,
    regularizers.KLSparsity,
    regularizers.DeCov,
)

TABLE = (
    Liftable(
        _OPTIMIZERS,
        ("weight_decay", "clipnorm", "global_clipnorm", "clipvalue"),
    ),
    Liftable((_keras.SGD,), ("momentum",)),
    Liftable((*_ADAMS, _keras.Lion), ("beta_1", "beta_2")),
    Liftable((*_ADAMS, _keras.Adagrad), ("epsilon",)),
    Liftable((_keras.RMSprop,), ("rho", "momentum", "epsilon")),
    Liftable((_keras.Adadelta,), ("rho", "epsilon")),
    Liftable(
        (schedules.WarmupCosine,), ("peak", "floor", "start", "cycle_decay")
    ),
    Liftable((_decays.CosineDecay,), ("initial_learning_rate", "alpha")),
    Liftable(
        (_decays.ExponentialDecay, _decays.InverseTimeDecay),
        ("initial_learning_rate", "decay_rate"),
    ),
    Liftable(
        (
            keras.layers.Dropout,
            keras.layers.SpatialDropout1D,
            keras.layers.SpatialDropout2D,
            keras.layers.SpatialDropout3D,
            keras.layers.AlphaDropout,
            layers.DropPath,
            layers.DropBlock1D,
            layers.DropBlock2D,
        ),
        ("rate",),
        is_rate=True,
    ),
    Liftable(
        (keras.layers.GaussianDropout,),
        ("rate",),
        is_rate=True,
        twin=_gaussian_dropout,
    ),
    Liftable((keras.layers.GaussianNoise, layers.RandomScaling), ("stddev",)),
    Liftable((layers.RandomJitter,), ("factor",)),
    Liftable((keras.regularizers.L1,), ("l1",)),
    Liftable((keras.regularizers.L2,), ("l2",)),
    Liftable((keras.regularizers.L1L2,), ("l1", "l2")),
    Liftable(_PENALTIES, ("factor",)),
    Liftable(
        (
            keras.losses.BinaryCrossentropy,
            keras.losses.CategoricalCrossentropy,
        ),
        ("label_smoothing",),
    ),
    Liftable((keras.losses.Huber,), ("delta",)),
    Liftable(
        (
            keras.losses.BinaryFocalCrossentropy,
            keras.losses.CategoricalFocalCrossentropy,
        ),
        ("gamma", "alpha", "label_smoothing"),
    ),
    Liftable((keras.losses.Tversky,), ("alpha", "beta")),
    Liftable((losses.SmoothL1,), ("beta",)),
    Liftable((losses.PolyLoss,), ("epsilon",)),
    Liftable((losses.LogitAdjusted,), ("tau",)),
    Liftable((losses.MulticlassHinge,), ("margin",)),
    Liftable(
        (losses.SmoothedSparseCategoricalCrossentropy,), ("label_smoothing",)
    ),
)


@functools.cache
def rows_of(kind: type) -> tuple[Liftable, ...]:
    """Returns the rows of a class.

    A backend may have its own subclass of an optimizer. Users' subclasses may
    compute in ways that cannot be traced, and need rows of their own.
    """
    if kind.__module__.partition(".")[0] == "keras":
        return tuple(row for row in TABLE if issubclass(kind, row.classes))
    return tuple(row for row in TABLE if kind in row.classes)


@dataclasses.dataclass(frozen=True)
class Slot:
    """One number of one object."""

    owner: Any
    name: str
    row: Liftable

    @property
    def value(self) -> float | None:
        """The number, or None where there is none to lift."""
        found = _namespace(self.owner).get(self.name)
        if ops.is_tensor(found):  # As some regularizers keep theirs.
            return float(ops.convert_to_numpy(found))
        if isinstance(found, bool) or not isinstance(found, int | float):
            return None
        return float(found)

    @property
    def branch(self) -> str | None:
        """Where the number lies; lanes of one program have this in common."""
        value = self.value
        if value is None:
            return None
        if value == 1 and self.row.is_rate:
            return "one"
        return "zero" if value == 0 else _SIGNS[value > 0]


def slots_of(owner: Any) -> list[Slot]:
    """Returns the liftable numbers of an object."""
    return [
        Slot(owner, name, row)
        for row in rows_of(type(owner))  # type: ignore[arg-type]
        for name in row.names
        if name in _namespace(owner)
    ]


class Lifting:
    """The numbers of a group of members that differ between them.

    Args:
        slots: `(lanes, slots)`: the same numbers of each member, in order.
        everything: Whether to lift numbers that are the same in all members,
            too, for a program that other members can use later.

    Attributes:
        values: `(lanes, lifted, 2)`: each number, and 1 minus it.
        key: Equal for groups whose programs are the same.
    """

    def __init__(
        self, slots: Sequence[Sequence[Slot]], everything: bool = False
    ):
        columns = [
            [slot.value for slot in column]
            for column in zip(*slots, strict=True)
        ]
        # Numbers in common stay as they are: exact, and known to the compiler.
        differ = [
            i
            for i, column in enumerate(columns)
            if len(set(column)) > 1 or (everything and column[0] is not None)
        ]
        self._slots = [slots[0][i] for i in differ]
        common = [c[0] for i, c in enumerate(columns) if i not in differ]
        self.key = tuple(differ), tuple(common)
        values = np.array([columns[i] for i in differ], "float64")
        values = values.reshape(len(differ), len(slots)).T
        self.values = np.stack([values, 1 - values], -1).astype("float32")

    @property
    def names(self) -> list[str]:
        """What differs, as `Dropout.rate`."""
        return [f"{type(s.owner).__name__}.{s.name}" for s in self._slots]

    @contextlib.contextmanager
    def applied(self, numbers: Any) -> Iterator[None]:
        """Puts the numbers of a lane in place while a function is traced.

        Args:
            numbers: `(slots, 2)` tensor, a row of `values`.
        """
        with contextlib.ExitStack() as stack:
            for index, slot in enumerate(self._slots):
                pair = numbers[index]
                new = {slot.name: Lifted(pair[0], pair[1], str(slot.branch))}
                stack.enter_context(
                    _compat.replaced(_namespace(slot.owner), new)
                )
                if slot.row.twin is not None:
                    call = functools.partial(slot.row.twin, slot.owner)
                    stack.enter_context(
                        _compat.replaced(vars(slot.owner), {"call": call})
                    )
            yield


def _namespace(owner: Any) -> dict:
    arguments = _compat.loss_arguments(owner)
    return vars(owner) if arguments is None else arguments
