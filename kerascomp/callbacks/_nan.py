"""A callback that finds out where a NaN comes from."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerascomp import _compat, _files, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _capture, _nan_search, _nan_state, _probe

ops = keras.ops
tree = keras.tree


@dataclasses.dataclass(frozen=True)
class Finding(_nan_search.Clue):
    """What was found, and at which step, counted from 0 in its epoch."""

    epoch: int = 0
    step: int = 0


@dataclasses.dataclass
class _Window:
    """The steps since the last look."""

    step: Callable  # The training function.
    first: int
    copied: list  # The state before them.
    noise: Any  # That of the generators outside of it.
    carries: bool  # Whether the training function takes and returns it.
    listed: bool  # Whether it wants batches as a list, or as an iterator.
    batches: list = dataclasses.field(default_factory=list)
    result: Any = None

    def run(self, state: list, batches: list) -> None:
        self.result = self.step(
            *state, batches if self.listed else iter(batches)
        )

    @property
    def logs(self) -> dict:
        return self.result[0] if self.carries else self.result

    @property
    def carried(self) -> Any:
        return self.result[1] if self.carries else ()


@component(since="0.1")
class NaNDetective(keras.callbacks.Callback):
    """Stops at the first NaN or infinity, and names the layer it came from.

    Every `every` steps it looks at the loss and at all weights, the
    optimizer's included. If one is no longer finite, it goes back to the
    copy of the weights that it made at the last look, repeats the batches
    since then up to the step that went wrong, and replays that one layer by
    layer: the first output in the order of the forward pass that is not
    finite, else the first gradient on the way back, else the first weight
    after the update. If it was the input data, the targets or the sample
    weights, it says so. Then it writes into `directory`

    - `batch.npz`: the batch, as `x`, `y` and `sample_weight`, each only if
      there is one, numbered as `x_0` if there are several;
    - `weights.weights.h5`: the weights before the step, for `load_weights`;
    - `finding.json`: what was found

    and raises. The model is left with the weights before the step, and
    backups of `BackupAndRestore` are still there, which
    `keras.callbacks.TerminateOnNaN` makes Keras delete.

    Put it before callbacks that save the model. Between two looks, one that
    saves in the middle of an epoch may save weights that are not finite: pass
    `every=1` then. It looks at the end of each epoch in any case.

    Under mixed precision, a `LossScaleOptimizer` skips steps whose gradients
    overflow; that is no mistake and not reported. A `clipvalue` hides infinite
    gradients from the weights; only then are gradients watched, too, as
    `GradientNormMonitor` does. Other callbacks may see the repeated steps
    as steps. What a callback assigns between the steps of one look, such as a
    learning rate, is repeated as it was at its beginning; if the mistake does
    not come again, the error says so, and `every=1` finds it. So it is where
    an accelerator computes differently twice, or when compiled.

    All data that `fit` takes is seen, at whatever batch size, shuffled or
    generated: batches are noted as the training function is given them. They
    are kept until the next look, `every` of them. With `steps_per_execution`
    on TensorFlow, the steps of an execution are started one by one.

    Args:
        directory: Where to write what was found; made when needed.
        every: Look every how many steps, at least 1. A look copies all
            weights and the optimizer's state, and waits for the device.

    Attributes:
        finding: What was found in the current or last `fit`, None if nothing.
            It has the attributes `epoch` and `step`, counted from 0; `kind`:
            `"input"`, `"output"`, `"target"`, `"loss"`, `"gradient"`,
            `"weight"` or `"unknown"`; `layer`, the path of the layer, or
            empty; `tensor`, in words; and `nan`, `infinite` and `size`, how
            many of its elements are NaN, infinite, and there.

    Saved state:
        None. After training, the model is what it was.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if the model is trained on several replicas of
            `tf.distribute`.
        FloatingPointError: During `fit`, when something is not finite.

    Examples:
        >>> import tempfile
        >>> inputs = keras.Input((1,))
        >>> logarithm = keras.layers.Lambda(keras.ops.log, name="logarithm")
        >>> model = keras.Model(inputs, logarithm(inputs))
        >>> model.compile("sgd", "mse")
        >>> detective = NaNDetective(tempfile.mkdtemp())
        >>> x, y = np.array([[1.0], [-1.0]]), np.zeros((2, 1))
        >>> model.fit(x, y, callbacks=[detective], verbose=0)
        Traceback (most recent call last):
            ...
        FloatingPointError: In epoch 0, step 0, the output of logarithm is ...
        >>> detective.finding.layer, detective.finding.nan
        ('logarithm', 1)
    """

    def __init__(self, directory: str | os.PathLike, every: int = 10):
        super().__init__()
        _validation.at_least("every", every, 1)
        self.directory = directory
        self.every = every
        self.finding: Finding | None = None
        self._window: _Window | None = None
        self._subscription: _probe.Subscription | None = None
        self._wrapped: tuple[Any, Any] | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.detach()
        self.finding = None
        # `self.model` would write the state of JAX back at every use.
        model = self._model
        strategy = getattr(model, "distribute_strategy", None)
        if getattr(strategy, "num_replicas_in_sync", 1) > 1:
            raise ValueError(
                "NaNDetective works on one replica. "
                f"Received: strategy={strategy!r}"
            )
        self._state = _nan_state.FitState(model)
        self._hidden = False
        optimizers = _compat.optimizers_of(model.optimizer)
        if any(getattr(o, "clipvalue", None) for o in optimizers):
            self._subscription = _probe.subscribe(
                model, self.params, _probe.Request(self._receive)
            )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch, self._step = epoch, 0
        # Here, because callbacks make the function anew when training starts.
        self._wrap()

    def on_train_batch_begin(
        self, batch: int, logs: dict | None = None
    ) -> None:
        # After an interrupted `fit`, the wrapper stays behind, and must not
        # act in one that this callback is not part of.
        self._armed = True
        if self._subscription is not None:
            self._subscription.before_execution()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # Not within the training function: on JAX, `fit` would lose all
        # weights then.
        self._raise_found()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._window is not None:  # The length of the data was not known.
            self._look(self._window)
            self._raise_found()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.detach()

    def detach(self) -> None:
        """Gives the model back as it was.

        Needed only after an interrupted `fit`.
        """
        self._armed = False
        self._window = None
        if self._wrapped is not None:
            model, wrapper = self._wrapped
            self._wrapped = None
            if model.train_function is wrapper:
                model.train_function = wrapper.__wrapped__
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _receive(
        self, steps: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> None:
        self._hidden |= not np.isfinite(values[_probe.GRADIENT]).all()

    def _wrap(self) -> None:
        model = self._model
        step = model.train_function
        if getattr(step, "kerascomp_detective", None) is self:
            return

        @functools.wraps(step)  # Keeps what others marked it with.
        def train_function(*arguments: Any) -> Any:
            if not self._armed:
                return step(*arguments)
            self._armed = False
            return self._execute(step, *arguments)

        train_function.kerascomp_detective = self  # type: ignore[attr-defined]
        self._wrapped = model, train_function
        model.train_function = train_function

    def _execute(self, step: Callable, *arguments: Any) -> Any:
        """Runs one execution on batches that are noted."""
        *state, data = arguments
        count = self._model.steps_per_execution
        batches = list(itertools.islice(data, count))
        if not batches:
            raise StopIteration
        if self._window is None:
            carried = state[0] if state else ()
            self._state.start(carried, _unpacked(batches[0]).x)
            self._window = _Window(
                step,
                self._step,
                _nan_state.copied(self._state.current(carried)),
                _capture.backend_file().noise_state(),
                carries=bool(state),
                listed=isinstance(data, list),
            )
        window = self._window
        window.batches += batches
        window.run(state, batches)
        self._step += len(batches)
        total = (self.params or {}).get("steps")
        ends = total is not None and self._step >= total
        if ends or len(window.batches) >= self.every:
            self._look(window)
        return window.result

    def _look(self, window: _Window) -> None:
        self._window = None
        if self._is_fine(window):
            return
        clue, number = self._search(window)
        self.finding = Finding(
            **dataclasses.asdict(clue),
            epoch=self._epoch,
            step=window.first + number,
        )
        self._write(self.finding, _unpacked(window.batches[number]))

    def _is_fine(self, window: _Window) -> bool:
        if self._subscription is not None:
            self._subscription.collect()
        loss = window.logs.get("loss")
        if loss is not None:
            loss = np.asarray(ops.convert_to_numpy(loss), "float64")
        lost = loss is not None and not np.isfinite(loss).all()
        values = self._state.current(window.carried)
        return not (lost or self._hidden or self._state.spoiled(values))

    def _search(self, window: _Window) -> tuple[_nan_search.Clue, int]:
        """Returns what went wrong first, and in which batch of the window.

        Leaves the state before that step in the model, and in the result of
        the training function, from where `fit` takes it on JAX.
        """
        number, before, found = self._first_bad(window)
        values = _nan_state.copied(self._state.current(window.carried))
        self._state.assign(before)
        if window.carries:
            (state,) = self._state.put(before, carries=True)
            window.result = window.logs, state
        if not found:
            return _nan_search.UNKNOWN, 0
        clue = _nan_search.first_in_step(
            self._model, _unpacked(window.batches[number]), window.noise
        )
        clue = clue or _nan_search.first_among(self._state.spoiled(values))
        return clue or _nan_search.UNKNOWN, number

    def _first_bad(self, window: _Window) -> tuple[int, list, bool]:
        """Repeats the steps of a window up to the one that went wrong.

        Returns:
            Which batch it was, the state before it, and whether any was.
        """
        before, backend = window.copied, _capture.backend_file()
        if len(window.batches) == 1:
            return 0, before, True
        backend.set_noise(window.noise)
        for number, batch in enumerate(window.batches):
            self._hidden = False
            window.noise = backend.noise_state()
            window.run(self._state.put(before, window.carries), [batch])
            if not self._is_fine(window):
                return number, before, True
            before = _nan_state.copied(self._state.current(window.carried))
        return 0, window.copied, False

    def _write(self, finding: Finding, batch: _capture.Batch) -> None:
        directory = Path(self.directory)
        with _files.atomic_path(directory / "batch.npz") as path:
            np.savez(path, **_named(batch))  # type: ignore[arg-type]
        with _files.atomic_path(directory / "weights.weights.h5") as path:
            self._model.save_weights(path, overwrite=True)
        _files.write_json(
            directory / "finding.json", dataclasses.asdict(finding)
        )

    def _raise_found(self) -> None:
        if self.finding is None:
            return
        self.detach()
        found = self.finding
        what = (
            "the loss or a weight became NaN or infinite in one of up to "
            f"{self.every} steps, but not when they were repeated. Pass "
            "every=1 to NaNDetective"
            if found.kind == "unknown"
            else f"{found.tensor} is the first that is not finite: {found.nan} "
            f"NaN and {found.infinite} infinite of {found.size}"
        )
        raise FloatingPointError(
            f"In epoch {found.epoch}, step {found.step}, {what}. The batch and "
            f"the weights before the step are in {self.directory}"
        )


def _unpacked(batch: Any) -> _capture.Batch:
    return _capture.Batch(
        *(
            _capture.tensors(part)
            for part in keras.utils.unpack_x_y_sample_weight(batch)
        )
    )


def _named(batch: _capture.Batch) -> dict[str, np.ndarray]:
    arrays = {}
    parts = zip(("x", "y", "sample_weight"), batch, strict=True)
    for name, part in parts:
        flat = [a for a in tree.flatten(part) if a is not None]
        for number, array in enumerate(flat):
            key = name if len(flat) == 1 else f"{name}_{number}"
            arrays[key] = ops.convert_to_numpy(array)
    return arrays
