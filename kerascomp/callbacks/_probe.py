"""The gradient norms of a running `fit`, read where the optimizer gets them.

No second backward pass: while a training step runs, the method of the
outermost optimizer through which all gradients pass once is replaced by one
that notes their norms. There they are whole: not yet filtered, unscaled,
accumulated or clipped. Between two steps, nothing is replaced but
`model.train_function`; so nothing of it is saved, copied, or survives
`model.compile`.
"""

import importlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from kerascomp import _compat
from kerascomp._compat import keras

NO_GRADIENT = -1.0  # No norm is negative, and a NaN is one that went wrong.

# Rows that wait on the device before they are fetched together.
_BATCH = 256
# A custom `train_step` may call the optimizer several times. Of more calls
# than these, the oldest rows may be lost, as the step numbers will show.
_CALLS_A_STEP = 16


class Receive(Protocol):
    """Takes the norms of some steps.

    Args:
        steps: `(steps,)`, which steps they are, counted from the first that
            the subscriber could see. One step is one call of the optimizer.
        norms: `(steps, variables)`, float32. `NO_GRADIENT` where the step
            gave the variable no gradient; NaN and infinity as they came.
    """

    def __call__(self, steps: np.ndarray, norms: np.ndarray) -> None: ...


class Subscription:
    """One callback's share in a probe."""

    def __init__(self, probe: "Probe", receive: Receive, first: int):
        self._probe = probe
        self._receive = receive
        self._first = first

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, in the order of the norms; known after a step."""
        return self._probe.names

    def before_execution(self) -> None:
        """Must be called before every training step or group of steps."""
        self._probe.relieve()

    def collect(self) -> None:
        """Delivers all steps that were not delivered yet."""
        self._probe.collect()

    def close(self) -> None:
        """Delivers the rest; the last one to close removes the probe."""
        self._probe.unsubscribe(self)

    def deliver(self, first: int, norms: np.ndarray) -> None:
        """Passes steps on under this subscriber's own count."""
        steps = np.arange(first, first + len(norms)) - self._first
        self._receive(steps, norms)


def subscribe(model: Any, fit: Any, receive: Receive) -> Subscription:
    """Joins the probe of a model, attaching it if there is none.

    Args:
        model: A compiled model, or a lane of a population, which brings a
            probe of its own.
        fit: An object that all callbacks of one `fit` share and no other
            `fit` has, such as `Callback.params`. A probe found on the model
            that belongs to another one was left by an interrupted `fit`.
        receive: Is called now and then with the norms of new steps.

    Raises:
        ValueError: If the model has no optimizer, or is trained in a way that
            cannot be observed.
    """
    of_lane = getattr(model, "subscribe_to_gradients", None)
    if of_lane is not None:
        return of_lane(receive)
    probe = getattr(model.train_function, "kerascomp_probe", None)
    if probe is not None and probe.fit is not fit:
        probe.detach()
        probe = None
    if probe is None:
        if getattr(model, "optimizer", None) is None:
            raise ValueError(
                "Gradients are read in the model's optimizer, and it has "
                f"none. Received: model={model!r}"
            )
        name = _compat.backend()
        module = importlib.import_module(f"kerascomp.callbacks._probe_{name}")
        probe = module.BackendProbe(model, fit)
        probe.attach()
    return probe.subscribe(receive)


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
    row of norms within the step, and keeps rows on the device until read.
    """

    method: str

    def __init__(self, model: Any, fit: Any):
        self.model = model
        self.optimizer = model.optimizer
        self.fit = fit
        self.names: tuple[str, ...] = ()
        self._subscriptions: list[Subscription] = []

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

    def subscribe(self, receive: Receive) -> Subscription:
        """Adds a receiver of all steps from now on."""
        self.collect()
        subscription = Subscription(self, receive, self._delivered)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Removes a receiver, and with the last one the probe."""
        self.collect()
        self._subscriptions.remove(subscription)
        if not self._subscriptions:
            self.detach()

    def collect(self) -> None:
        """Hands all new rows to the subscribers."""
        first, norms = self._read()
        if len(norms):
            for subscription in self._subscriptions:
                subscription.deliver(first, norms)

    def relieve(self) -> None:
        """Collects if the buffer might overflow in the next execution."""
        raise NotImplementedError

    @property
    def _delivered(self) -> int:
        """How many steps were read so far."""
        raise NotImplementedError

    def _make_train_function(self) -> None:
        # `fit` makes the function before `on_train_begin`, so that the only
        # way to have the replacement compiled in is to make it once more.
        self.model.make_train_function(force=True)

    def _replacement(self, original: Callable) -> Callable:
        """Returns what stands in for the optimizer's method."""
        raise NotImplementedError

    def _read(self) -> tuple[int, np.ndarray]:
        """Returns the number of the first new step, and the new rows."""
        raise NotImplementedError

    def _loss_scale(self) -> Any:
        """What the gradients are multiplied by; None for nothing.

        Read through `scale_loss`, so that it is what the loss of this very
        step was multiplied by, whatever the optimizer.
        """
        scale = self.optimizer.scale_loss(1.0)
        return None if isinstance(scale, float) and scale == 1.0 else scale

    def _slots(self, variables: Sequence[Any] | None) -> list[int | None]:
        """Returns the places in a row of the variables of one call.

        An optimizer accepts the variables it was built with, or some of them;
        it is about to refuse one that has no place here.
        """
        optimizer = self.optimizer
        # Private: nothing public tells an optimizer's variables in order. If
        # it is not built yet, this call is going to build it.
        built = optimizer.built
        known = list(
            optimizer._trainable_variables if built else variables or []
        )
        if not self.names:
            self.names = unique([getattr(v, "path", v.name) for v in known])
        if variables is None:
            return list(range(len(known)))
        places = {id(_native(v)): place for place, v in enumerate(known)}
        return [places.get(id(_native(v))) for v in variables]

    def _row(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any] | None,
        norm: Callable[[Any], Any],
        missing: Any,
    ) -> list:
        """Returns one number per variable of the optimizer."""
        slots = self._slots(variables)
        row = [missing] * len(self.names)
        for slot, gradient in zip(slots, gradients, strict=True):
            if gradient is not None and slot is not None:
                row[slot] = norm(gradient)
        return row


class QueueProbe(Probe):
    """A probe whose rows wait on the device as arrays, one a step."""

    def __init__(self, model: Any, fit: Any):
        super().__init__(model, fit)
        # Bounded, should a fit without subscribers follow an interrupted one.
        most = _BATCH + _CALLS_A_STEP * model.steps_per_execution
        self._waiting: deque = deque(maxlen=most)
        self._noted = 0

    def relieve(self) -> None:
        if len(self._waiting) >= _BATCH:
            self.collect()

    def _note(self, row: Any) -> None:
        self._waiting.append(row)
        self._noted += 1

    @property
    def _delivered(self) -> int:
        return self._noted - len(self._waiting)

    def _read(self) -> tuple[int, np.ndarray]:
        first, rows = self._delivered, list(self._waiting)
        self._waiting.clear()
        norms = self._fetch(rows) if rows else np.zeros((0, len(self.names)))
        return first, norms

    def _fetch(self, rows: list) -> np.ndarray:
        """Copies rows from the device, `(steps, variables)`."""
        raise NotImplementedError


def _native(variable: Any) -> Any:
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
