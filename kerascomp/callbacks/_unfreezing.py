"""A callback that thaws a pretrained model from the top."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from kerascomp import _compat, _paths, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.callbacks import _probe


@component(since="0.1")
class GradualUnfreezing(keras.callbacks.Callback):
    """Trains the top of a model first, and what lies below it later, slower.

    Use it to fine-tune: a new head on pretrained layers sends large, useless
    gradients down at first, and the lower a layer, the more general is what it
    has learned. Groups of layers thaw one after the other, from the top, and
    each trains at the rate of the one above it divided by `factor`.

    Until its group thaws, a weight stays what it is, to the bit, and
    `BatchNormalization` uses and keeps its moving statistics, as with
    `trainable=False`. A rate is lowered by taking that share of every update,
    weight decay included, which equals a smaller learning rate for optimizers
    whose update is proportional to it, as SGD, Adam and their kin.
    Neither flags nor rates change: the optimizer keeps its state, and its
    moments know the gradients of a layer when it thaws. So the backward pass
    runs through frozen layers, and what looks at gradients, as clipping by the
    global norm and monitors do, sees them.

    Put it before a `NaNDetective`, which has to come round whatever changes
    the training step. Layers that are not `trainable` stay so. If `fit` is
    interrupted, the next one with this callback cleans up, or `restore` does.

    Args:
        groups: From the top to the bottom, each a name of a layer, a part of
            the paths of variables as `"backbone/block_5"`, or a sequence of
            these. What is in none of them stays frozen. None makes every
            layer of `model.layers` that has weights a group.
        unfreeze_epochs: The epoch from which on each group trains, from 0 and
            not falling. None thaws one group an epoch: 0, 1, 2, ...
        factor: Rate of each group over that of the next below, at least 1;
            2.6 in the paper. 1 trains all at the same rate.

    Saved state:
        None. Where training stands follows from the epoch, so that a run
        continued with `initial_epoch` goes on as it would have. Checkpoints are
        those of the model alone.

    Raises:
        ValueError: At construction, if an argument is out of its range; at the
            start of `fit`, if the model is not built, if a group matches no
            trainable weight or two share one, if a group would thaw after the
            last epoch, or with Keras' NNX backend.

    Examples:
        >>> model = keras.Sequential([keras.Input((2,))])
        >>> for name in ("body", "head"):
        ...     model.add(keras.layers.Dense(2, name=name))
        >>> model.compile("sgd", "mse")
        >>> before = model.get_weights()
        >>> thaw = GradualUnfreezing(["head", "body"], unfreeze_epochs=[0, 5])
        >>> x, y = np.ones((4, 2)), np.zeros((4, 2))
        >>> log = model.fit(x, y, epochs=6, callbacks=[thaw], verbose=0)
        >>> # Five epochs less, at a rate 2.6 times smaller.
        >>> moved = [
        ...     abs(new - old).sum()
        ...     for new, old in zip(model.get_weights(), before)
        ... ]
        >>> bool(0 < moved[1] < moved[3])
        True

    Reference:
        Howard & Ruder, 2018, [Universal language model fine-tuning for text
        classification](https://arxiv.org/abs/1801.06146), sections 3.2 and 3.3.
    """

    async_safe = True  # There are no batch hooks.

    def __init__(
        self,
        groups: Sequence[str | Sequence[str]] | None = None,
        unfreeze_epochs: Sequence[int] | None = None,
        factor: float = 2.6,
    ):
        super().__init__()
        _validation.in_interval("factor", factor, "[1, inf)")
        if groups is not None and (isinstance(groups, str) or not groups):
            raise ValueError(
                "`groups` must be a sequence of at least one group. "
                f"Received: groups={groups!r}"
            )
        epochs = [] if unfreeze_epochs is None else [*unfreeze_epochs]
        for epoch in epochs:
            _validation.at_least("unfreeze_epochs", epoch, 0)
        if epochs != sorted(epochs):
            raise ValueError(
                "`unfreeze_epochs` must not fall: groups thaw from the top. "
                f"Received: unfreeze_epochs={unfreeze_epochs!r}"
            )
        self.groups = groups
        self.unfreeze_epochs = unfreeze_epochs
        self.factor = factor
        self._thawed: int | None = None  # Groups that train by now.
        self._steered: Any = None  # The model whose training is changed.

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.restore()
        model = self._model
        if keras.config.is_nnx_enabled():
            raise ValueError(
                "GradualUnfreezing cannot change the training step of Keras' "
                "NNX backend. Disable it with the environment variable "
                "KERAS_NNX_ENABLED=false. Received: nnx_enabled=True"
            )
        if not model.built:
            raise ValueError(
                "GradualUnfreezing needs the model's weights before training "
                "starts. Build it: call it on a batch, or `model.build(shape)`."
            )
        self._members = _members(model, self.groups)
        self._epochs = self._checked_epochs(len(self._members))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Only now: when training begins, others make the step anew.
        thawed = sum(start <= epoch for start in self._epochs)
        if thawed != self._thawed:
            self._steer(thawed)

    def on_train_end(self, logs: dict | None = None) -> None:
        self.restore()

    def restore(self) -> None:
        """Gives the model its own training step back.

        Needed only after an interrupted `fit`, and only before one without
        this callback.
        """
        if self._steered is not None:
            self._steered.make_train_function(force=True)
        self._thawed = self._steered = None

    def _checked_epochs(self, count: int) -> list[int]:
        given = self.unfreeze_epochs
        epochs = [*range(count)] if given is None else [*given]
        if len(epochs) != count:
            raise ValueError(
                "`unfreeze_epochs` must hold one epoch for each of the "
                f"{count} groups. Received: unfreeze_epochs={epochs}"
            )
        total = self.params["epochs"]
        if epochs[-1] >= total:
            raise ValueError(
                "All groups must thaw before training ends. Received: "
                f"unfreeze_epochs={epochs}, epochs={total}"
            )
        return epochs

    def _steer(self, thawed: int) -> None:
        """Makes a training step that moves the first groups alone."""
        model: Any = self._model
        place = {
            key: rank
            for rank, group in enumerate(self._members)
            for key in group
        }
        ranks = [place.get(id(v), thawed) for v in model.trainable_variables]
        shares = [self.factor**-r if r < thawed else 0.0 for r in ranks]
        step = _compat.shared_step(model, shares)
        frozen = [
            layer
            for layer in _compat.flattened(model)
            if isinstance(layer, keras.layers.BatchNormalization)
            and place.get(id(layer.moving_mean), thawed) >= thawed
        ]
        with _compat.replaced(vars(model), {"train_step": step}):
            _probe.renew(model)
        made = model.train_function

        @functools.wraps(made)  # Keeps what others marked it with.
        def train_function(*arguments: Any) -> Any:
            with (
                _compat.replaced(vars(model), {"train_step": step}),
                _inferring(frozen),
            ):
                return made(*arguments)

        model.train_function = train_function
        self._thawed, self._steered = thawed, model


def _members(model: Any, groups: Any) -> list[set[int]]:
    """Returns the identities of each group's variables."""
    if groups is None:
        layers = [layer for layer in reversed(model.layers) if layer.weights]
        found = [{id(v) for v in layer.weights} for layer in layers]
        trained = {id(v) for v in model.trainable_variables}
        return [group for group in found if group & trained]
    named = [
        [group] if isinstance(group, str) else [*group] for group in groups
    ]
    for group in named:
        _paths.check_parts("groups", group, model.trainable_variables)
    members = [
        {
            id(v)
            for v in model.variables
            if any(_paths.lies_in(_paths.path_of(v), part) for part in group)
        }
        for group in named
    ]
    seen: set[int] = set()
    for member, names in zip(members, named, strict=True):
        if seen & member:
            raise ValueError(
                "A weight must be in one of the `groups`. Received: "
                f"{names!r}, which shares some with a group above it"
            )
        seen |= member
    return members


@contextlib.contextmanager
def _inferring(layers: list) -> Iterator[None]:
    """Lets layers act as at inference where a training step is traced."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            call = functools.partial(_infer, type(layer).call, layer)
            stack.enter_context(_compat.replaced(vars(layer), {"call": call}))
        yield


def _infer(
    call: Any, layer: Any, inputs: Any, training: Any = None, mask: Any = None
) -> Any:
    del training
    return call(layer, inputs, training=False, mask=mask)
