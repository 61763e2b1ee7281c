"""What passes the optimizer of a running `fit`, measured where it passes.

No second backward pass: while a training step runs, the method of the
outermost optimizer through which all gradients pass once is replaced by one
that notes their norms. There they are whole: not yet filtered, unscaled,
accumulated or clipped; and weights are there before and after their update.
Between two steps, nothing is replaced but `model.train_function`; so nothing of
it is saved, copied, or survives `model.compile`.
"""

import dataclasses
import functools
import importlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras

NO_GRADIENT = -1.0  # No norm is negative, and a NaN is one that went wrong.

# What can be measured of every variable, at every call of the optimizer.
GRADIENT = "gradient"  # Norm of the gradient, unscaled.
WEIGHT = "weight"  # Norm of the weights before the update.
EFFECTIVE = "effective"  # Norm of the gradient averaged by accumulation.
CLIPPED = "clipped"  # Norm of that, its elements limited by `clipvalue`.
PRODUCT = "product"  # Inner product with the gradient of the step before.
BEFORE = "before"  # Norm of that gradient. Only beside `PRODUCT`, as often.
UPDATE = "update"  # Norm of what the step adds to the weights.
QUANTITIES = (GRADIENT, WEIGHT, EFFECTIVE, CLIPPED, PRODUCT, BEFORE, UPDATE)

# What waits on the device is fetched together, once it is so many steps.
BATCH = 256
# A custom `train_step` may call the optimizer several times. Of more calls
# than these, the oldest rows may be lost, as the step numbers will show.
_CALLS_A_STEP = 16


class Receive(Protocol):
    """Takes the measurements of some steps.

    Args:
        steps: `(steps,)`, which steps they are, counted from the first that
            the subscriber could see. One step is one call of the optimizer.
        values: `(steps, variables)`, float32, by quantity. `NO_GRADIENT` where
            the step gave the variable no gradient, or accumulated without an
            update; NaN and infinity as they came.
    """

    def __call__(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None: ...


@dataclasses.dataclass(frozen=True)
class Request:
    """What a subscriber wants.

    Attributes:
        receive: Is called now and then with what new steps measured.
        quantities: Of `QUANTITIES`.
        every: At every how many steps; nothing is computed at the others.
        rarely: Quantities that are wanted less often, and at every how many
            steps, a multiple of `every`. In between, the last values come
            again.
    """

    receive: Receive
    quantities: tuple[str, ...] = (GRADIENT,)
    every: int = 1
    rarely: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def period(self, name: str) -> int:
        """Returns at every how many steps a quantity is wanted."""
        return self.rarely.get(name, self.every)


class Subscription:
    """One callback's share in a probe."""

    def __init__(self, probe: "Probe", request: Request, first: int):
        self.request = request
        self.first = first
        self._probe = probe
        self._delivery = Delivery(request)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of the values; known after a step."""
        return self._probe.names

    @property
    def ranks(self) -> tuple[int, ...]:
        """Their numbers of axes."""
        return self._probe.ranks

    def before_execution(self) -> None:
        """Must be called before every training step or group of steps."""
        self._probe.relieve()

    def collect(self) -> None:
        """Delivers all steps that were not delivered yet."""
        self._probe.collect()

    def close(self) -> None:
        """Delivers the rest; the last one to close removes the probe."""
        self._probe.unsubscribe(self)

    def deliver(self, steps: np.ndarray, values: Mapping) -> None:
        """Passes steps on under this subscriber's own count."""
        self._delivery(steps - self.first, values)


class Delivery:
    """Passes on what was asked for, in between the last of what is rare."""

    def __init__(self, request: Request):
        self._request = request
        self._last: dict[str, np.ndarray] = {}

    def __call__(self, steps: np.ndarray, values: Mapping) -> None:
        request = self._request
        held = {
            name: self._hold(name, steps % period == 0, values[name])
            for name, period in request.rarely.items()
        }
        values = {**values, **held}
        due = steps % request.every == 0
        if due.any():
            own = {name: values[name][due] for name in request.quantities}
            request.receive(steps[due], own)

    def _hold(
        self, name: str, measured: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Returns the rows, for one not measured the last one that was."""
        rows = np.concatenate([self._last.get(name, rows[:1]), rows])
        places = np.where(measured, np.arange(1, len(rows)), 0)
        held = rows[np.maximum.accumulate(places)]
        self._last[name] = held[-1:]
        return held


def subscribe(model: Any, fit: Any, request: Request) -> Subscription:
    """Joins the probe of a model, attaching it if there is none.

    Args:
        model: A compiled model, or a lane of a population, which brings a
            probe of its own.
        fit: An object that all callbacks of one `fit` share and no other
            `fit` has, such as `Callback.params`. A probe found on the model
            that belongs to another one was left by an interrupted `fit`.
        request: What to measure, and where to send it.

    Raises:
        ValueError: If the model has no optimizer, or is trained in a way that
            cannot be observed.
    """
    of_lane = getattr(model, "subscribe_to_gradients", None)
    if of_lane is not None:
        return of_lane(request)
    probe = getattr(model.train_function, "kerascomp_probe", None)
    if probe is not None and probe.fit is not fit:
        probe.detach()
        probe = None
    if probe is None:
        _check(model)
        name = _compat.backend()
        module = importlib.import_module(f"kerascomp.callbacks._probe_{name}")
        probe = module.BackendProbe(model, fit)
        probe.attach()
    return probe.subscribe(request)


def _check(model: Any) -> None:
    """Raises for models whose optimizer does not get all gradients."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise ValueError(
            "Gradients are read in the model's optimizer, and it has "
            f"none. Received: model={model!r}"
        )
    if not (optimizer.built and model.built):
        return
    trained = {id(v) for v in _compat.optimizer_targets(optimizer)}
    trained -= {id(v) for v in model.trainable_variables}
    frozen = [v.path for v in model.variables if id(v) in trained]
    if frozen:
        raise ValueError(
            "Layers must not be frozen after `compile`, which is when the "
            "optimizer learns what it trains: call `compile` again. Received: "
            f"frozen variables {frozen}"
        )


@dataclasses.dataclass
class Call:
    """A call of the optimizer; lists are in the order of its variables.

    Attributes:
        variables: What it trains.
        gradients: As they came, None where there is none.
        scale: What they are multiplied by; None for nothing.
        dense: The same, unscaled, float32 and not sparse. Empty, as what
            follows, unless the layout needs it.
        weights: The values of the variables.
        previous: `dense` of the call before, empty where it was not kept.
        limits: The `clipvalue` of the variables, None for none.
        accumulation: None unless the optimizer accumulates.
    """

    variables: list
    gradients: list
    scale: Any
    dense: list = dataclasses.field(default_factory=list)
    weights: list = dataclasses.field(default_factory=list)
    previous: list = dataclasses.field(default_factory=list)
    limits: list = dataclasses.field(default_factory=list)
    accumulation: _compat.Accumulation | None = None


def renew(model: Any) -> None:
    """Makes the training function anew, with the probe that is in it."""
    probe = getattr(model.train_function, "kerascomp_probe", None)
    if probe is None:
        model.make_train_function(force=True)
    else:
        probe.renew()


class Probe:
    """Notes the norm of every variable's gradient at every step.

    Each backend says which method of the optimizer it replaces, computes a
    row of numbers within the step, and keeps rows on the device until read.
    """

    method: str

    def __init__(self, model: Any, fit: Any):
        self.model = model
        self.optimizer = model.optimizer
        self.fit = fit
        self.names: tuple[str, ...] = ()
        self.ranks: tuple[int, ...] = ()
        self.layout: tuple[str, ...] = ()  # The blocks of a row.
        self.period = 1  # Only every so many steps need a row,
        self.periods: dict[str, int] = {}  # and a block of it.
        self._subscriptions: list[Subscription] = []
        self._is_traced = False

    def attach(self) -> None:
        """Puts a training function that notes gradients into the model."""
        self._found = self.model.train_function
        # What was compiled before does not pass through the replacement.
        self._make_train_function()
        step = self.model.train_function
        replacement = self._replacement(getattr(self.optimizer, self.method))

        def train_function(*arguments: Any) -> Any:
            with _compat.replaced(
                vars(self.optimizer), {self.method: replacement}
            ):
                return step(*arguments)

        train_function.kerascomp_probe = self  # type: ignore[attr-defined]
        self.model.train_function = train_function

    def renew(self) -> None:
        """Attaches once more, to a model that now trains otherwise."""
        self.collect()
        found = self._found
        Probe.attach(self)  # What backends prepare is there.
        self._found = found

    def detach(self) -> None:
        """Gives the model back the training function that it had."""
        # By its mark: others may have wrapped it, and their wrapper goes too.
        if getattr(self.model.train_function, "kerascomp_probe", None) is self:
            self.model.train_function = self._found

    def subscribe(self, request: Request) -> Subscription:
        """Adds a receiver of all steps from now on.

        Raises:
            ValueError: If the steps were compiled before, without something
                that it needs.
        """
        self.collect()
        subscription = Subscription(self, request, self.delivered)
        wanted = {*self.layout, *request.quantities}
        layout = tuple(name for name in QUANTITIES if name in wanted)
        periods = self._periods(layout, [*self._subscriptions, subscription])
        if self._is_traced and periods != self.periods:
            raise ValueError(
                "A monitor must be among the `callbacks` of `fit` from its "
                f"start. Received: a monitor that joins at step "
                f"{self.delivered}"
            )
        self.layout, self.periods = layout, periods
        self.period = math.gcd(*periods.values())
        self._subscriptions.append(subscription)
        return subscription

    def _periods(
        self, layout: Sequence[str], subscriptions: Sequence[Subscription]
    ) -> dict[str, int]:
        """Returns for each block at every how many steps one may want it."""
        periods = {}
        for name in layout:
            found = [
                n
                for s in subscriptions
                if name in s.request.quantities
                for n in (s.request.period(name), s.first)
            ]
            # One that was wanted before stays in the compiled step.
            periods[name] = math.gcd(*found) or self.periods[name]
        return periods

    def unsubscribe(self, subscription: Subscription) -> None:
        """Removes a receiver, and with the last one the probe."""
        self.collect()
        self._subscriptions.remove(subscription)
        if not self._subscriptions:
            self.detach()

    def collect(self) -> None:
        """Hands all new rows to the subscribers."""
        steps, rows = self._read()
        if len(steps):
            blocks = np.split(rows, len(self.layout), axis=1)
            values = dict(zip(self.layout, blocks, strict=True))
            for subscription in self._subscriptions:
                subscription.deliver(steps, values)

    def relieve(self) -> None:
        """Collects if the buffer might overflow in the next execution."""
        raise NotImplementedError

    @property
    def delivered(self) -> int:
        """How many steps were read so far."""
        raise NotImplementedError

    def _make_train_function(self) -> None:
        # `fit` makes the function before `on_train_begin`, so that the only
        # way to have the replacement compiled in is to make it once more.
        self.model.make_train_function(force=True)

    def _replacement(self, original: Callable) -> Callable:
        """Returns what stands in for the optimizer's method."""
        raise NotImplementedError

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of new steps, and their rows."""
        raise NotImplementedError

    # What a step computes. Backends say how; the rest is here.

    def _norm(self, tensor: Any) -> Any:
        """Returns the L2 norm of all elements, a float32 scalar."""
        raise NotImplementedError

    def _unscaled(self, gradient: Any, scale: Any) -> Any:
        """Returns a gradient in float32, divided by the scale of the loss.

        First: a scaled gradient's square may overflow where its own not.
        """
        raise NotImplementedError

    def _stack(self, scalars: list) -> Any:
        """Returns a vector of tensors and Python numbers."""
        raise NotImplementedError

    def _at(self, name: str, compute: Callable[[], Any]) -> Any:
        """Returns a block, computed at the steps at which it is wanted."""
        period = self.periods[name]
        # That of the row was asked for already, but not for the updates.
        known = period == self.period and name != UPDATE
        due = None if known else self._is_step(period)
        return self._if(due, lambda: [compute()], 1)[0]

    def _is_step(self, period: int, ahead: int = 0) -> Any:
        """Whether a step is one of every so many; None if all are.

        Args:
            period: Of every how many.
            ahead: Asks for the step so many later.
        """
        raise NotImplementedError

    def _keeps(self) -> Any:
        """Whether the gradient is for the next step; None if all are."""
        return self._is_step(self.periods[PRODUCT], 1)

    def _if(self, due: Any, compute: Callable[[], list], count: int) -> list:
        """Returns so many blocks, computed where they are due."""
        raise NotImplementedError

    def _when(self, condition: Any, compute: Callable[[], Any]) -> Any:
        """Returns a computed vector of one block, or `NO_GRADIENT`s."""
        raise NotImplementedError

    def _rows_before(self, call: "Call") -> list:
        """Returns the blocks that need no update, in order."""
        self._is_traced = True
        return [
            self._at(name, functools.partial(getattr(self, f"_{name}"), call))
            for name in self.layout
            if name != UPDATE
        ]

    def _rows_after(self, old: Sequence[Any], new: Sequence[Any]) -> list:
        """Returns the block of the norms of the updates."""
        return [
            self._stack(
                [self._norm(n - o) for n, o in zip(new, old, strict=True)]
            )
        ]

    def _norms(self, tensors: Sequence[Any]) -> Any:
        return self._stack(
            [NO_GRADIENT if t is None else self._norm(t) for t in tensors]
        )

    def _gradient(self, call: "Call") -> Any:
        return self._norms(
            call.dense
            or [
                g if g is None else self._unscaled(g, call.scale)
                for g in call.gradients
            ]
        )

    def _weight(self, call: "Call") -> Any:
        return self._norms(call.weights)

    def _effective(self, call: "Call") -> Any:
        return self._at_updates(call, lambda gradient, _: gradient)

    def _clipped(self, call: "Call") -> Any:
        def clipped(gradient: Any, limit: Any) -> Any:
            if not limit:
                return gradient
            return keras.ops.clip(gradient, -limit, limit)

        return self._at_updates(call, clipped)

    def _product(self, call: "Call") -> Any:
        if not call.previous:
            return self._stack([math.nan] * len(call.variables))
        products = [
            0.0 if now is None else keras.ops.sum(now * before)
            for now, before in zip(call.dense, call.previous, strict=True)
        ]
        return self._stack(products)

    def _before(self, call: "Call") -> Any:
        return self._norms(call.previous or [None] * len(call.variables))

    def _at_updates(self, call: "Call", change: Callable) -> Any:
        """Returns the norms of what the optimizer clips, where it does."""
        accumulation = call.accumulation

        def norms() -> Any:
            gradients = call.dense
            if accumulation is not None:
                gradients = [
                    g if g is None else (g + a) / accumulation.steps
                    for g, a in zip(
                        gradients, accumulation.gradients, strict=True
                    )
                ]
            return self._norms(
                [
                    g if g is None else change(g, limit)
                    for g, limit in zip(gradients, call.limits, strict=True)
                ]
            )

        if accumulation is None:
            return norms()
        return self._when(accumulation.ends, norms)

    def _densified(self, gradient: Any) -> Any:
        """Returns a gradient as one tensor."""
        return gradient

    def _call(
        self, gradients: Sequence[Any], variables: Sequence[Any] | None
    ) -> Call:
        """Arranges what an optimizer was called with.

        It accepts the variables it was built with, or some of them; it is
        about to refuse one that has no place here.
        """
        optimizer, layout = self.optimizer, {*self.layout}
        at_updates = layout & {EFFECTIVE, CLIPPED}
        if not optimizer.built and at_updates:
            with keras.name_scope(optimizer.name, caller=optimizer):
                optimizer.build(list(variables or []))
            optimizer.built = True
        targets = (
            _compat.optimizer_targets(optimizer)
            if optimizer.built
            else list(variables or [])
        )
        if not self.names:
            self.names = unique([getattr(v, "path", v.name) for v in targets])
            self.ranks = tuple(len(v.shape) for v in targets)
        arranged = list(gradients)
        if variables is not None:
            places = {id(native(v)): n for n, v in enumerate(targets)}
            arranged = [None] * len(targets)
            for variable, gradient in zip(variables, gradients, strict=True):
                place = places.get(id(native(variable)))
                if place is not None:
                    arranged[place] = gradient
        call = Call(targets, arranged, self._loss_scale())
        if layout & {EFFECTIVE, CLIPPED, PRODUCT}:
            call.dense = [
                g
                if g is None
                else self._unscaled(self._densified(g), call.scale)
                for g in arranged
            ]
        if at_updates:
            call.limits = _compat.clip_values(optimizer)
            call.accumulation = _compat.accumulation(optimizer)
        return call

    def _loss_scale(self) -> Any:
        """What the gradients are multiplied by; None for nothing.

        Read through `scale_loss`, so that it is what the loss of this very
        step was multiplied by, whatever the optimizer.
        """
        scale = self.optimizer.scale_loss(1.0)
        return None if isinstance(scale, float) and scale == 1.0 else scale


class QueueProbe(Probe):
    """A probe whose rows wait on the device as arrays, one a step."""

    def __init__(self, model: Any, fit: Any):
        super().__init__(model, fit)
        # Bounded, should a fit without subscribers follow an interrupted one.
        most = BATCH + _CALLS_A_STEP * model.steps_per_execution
        self._waiting: deque = deque(maxlen=most)
        self._seen = 0

    def relieve(self) -> None:
        if len(self._waiting) >= BATCH:
            self.collect()

    @property
    def delivered(self) -> int:
        # Those that wait are delivered before anyone asks.
        return self._seen

    @property
    def _is_due(self) -> bool:
        return self._seen % self.period == 0

    def _note(self, row: Any) -> None:
        """Takes the row of the next step, which is ignored unless due."""
        if self._is_due:
            self._waiting.append((self._seen, row))
        self._seen += 1

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        waiting = list(self._waiting)
        self._waiting.clear()
        if not waiting:
            return np.zeros(0, "int64"), np.zeros((0, 0), "float32")
        steps, rows = zip(*waiting, strict=True)
        return np.array(steps), self._fetch(list(rows))

    def _fetch(self, rows: list) -> np.ndarray:
        """Copies rows from the device, `(steps, numbers)`."""
        raise NotImplementedError


def native(variable: Any) -> Any:
    """A Keras variable and the backend's own inside it are the same one."""
    if isinstance(variable, keras.Variable):
        return variable.value
    return variable


def unique(paths: Sequence[str]) -> tuple[str, ...]:
    """Tells layers of one name apart, as `block/dense#2/kernel`."""
    seen: dict[str, int] = {}
    names = []
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        layer, slash, variable = path.rpartition("/")
        again = f"#{seen[path]}" if seen[path] > 1 else ""
        names.append(f"{layer}{again}{slash}{variable}")
    return tuple(names)
