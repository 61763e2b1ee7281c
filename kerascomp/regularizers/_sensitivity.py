"""Penalties on the gradients of a network's output by its input."""

from typing import Any

from kerascomp import _compat, _validation
from kerascomp._compat import keras
from kerascomp._registry import component
from kerascomp.regularizers import _autodiff, _matrix

ops = keras.ops


class _Penalized(keras.Model):
    """A network that adds a penalty of its own to the loss in training."""

    def __init__(self, network: Any, factor: float, seed: Any, **kwargs: Any):
        if not isinstance(network, keras.layers.Layer):
            raise ValueError(
                "`network` must be a Keras model or layer. "
                f"Received: network={network!r}"
            )
        _validation.in_interval("factor", factor, "[0, inf)")
        # The network casts by its own policy: here, it would be cast twice.
        super().__init__(autocast=False, **kwargs)
        self.network = network
        self.factor = factor
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        if not self.network.built:
            self.network.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return self._run(inputs, False)
        _require_float_tensor(inputs)
        outputs, penalty = self._outputs_and_penalty(inputs)
        self.add_loss(self.factor * penalty)
        return outputs

    def _outputs_and_penalty(self, inputs: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def _run(self, inputs: Any, training: bool) -> Any:
        # Said, because `fit` on JAX runs `call` without the context from
        # which the layers inside would know.
        if _compat.takes_training(self.network):
            return self.network(inputs, training=training)
        return self.network(inputs)

    def _trained(self, inputs: Any) -> Any:
        return self._run(inputs, True)

    def _frozen(self) -> Any:
        """Returns the network in training as a function without updates.

        It draws the noise that the network's next call will draw. Run it
        before that call, not after: it forgets the losses of the layers.
        """
        state = [(v, v.value) for v in self.network.variables]

        def function(x: Any) -> Any:
            with keras.StatelessScope(state_mapping=state):
                return self._run(x, True)

        return function

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.network.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "factor": self.factor,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        network = keras.saving.deserialize_keras_object(
            config["network"], custom_objects=custom_objects
        )
        return cls(**{**config, "network": network})


@component(since="0.1")
class JacobianPenalty(_Penalized):
    """Trains a network whose output barely moves when its input does.

    Use it against noisy or adversarial inputs. Wrap the network that computes
    the outputs (logits, for a classifier) and train the wrapper with the
    usual `compile` and `fit`; the network inside is then an ordinary model
    with the trained weights:

        model = JacobianPenalty(network, factor=0.01)
        model.compile("adam", loss)
        model.fit(x, y)
        network.save("robust.keras")

    The wrapper is a model and a layer: it may also be a part of a larger
    model, and then asks for a small Jacobian of that part. With J the matrix
    of the derivatives of one sample's outputs by its inputs, the batch's loss
    grows by

        factor / 2 * mean over samples of the sum of all J_ij^2

    estimated without building J: for a random unit vector v among K outputs,
    K * ||v^T J||^2 has that sum as its mean. One vector a step is enough to
    train, and makes a step two to three times as long.

    The penalty is added in training alone, as it is random and needs
    gradients: `val_loss` is without it. The network is differentiated as it
    is run, with the noise of its `Dropout`. With `BatchNormalization` in it,
    samples depend on each other, and J holds the effect of a sample's input
    on all outputs of the batch.

    Args:
        network: The model or layer to train: one float tensor `(batch, ...)`
            in, one out.
        factor: Strength of the penalty, at least 0.
        num_projections: Random vectors a step, at least 1. None for the exact
            sum, at the cost of one backward pass for each output.
        seed: As in `keras.layers.Dropout`.
        **kwargs: As in `keras.Model`.

    Call arguments:
        inputs: `(batch, ...)`, float.
        training: Whether the penalty is added to `losses`.

    Returns:
        The output of the network.

    Raises:
        ValueError: If `network` is no layer, `factor` is negative,
            `num_projections` is below 1, or a network is trained that does
            not take and return one float tensor.

    Masking:
        Not passed on: a `Masking` layer belongs into the network.

    Seed:
        `seed` decides the vectors; None draws a new one for each wrapper.

    Examples:
        >>> network = keras.layers.Dense(2, use_bias=False)
        >>> model = JacobianPenalty(network, factor=0.5, num_projections=None)
        >>> model.build((None, 2))
        >>> network.set_weights([np.array([[3.0, 0.0], [0.0, 1.0]])])
        >>> outputs = model(np.ones((4, 2)), training=True)
        >>> loss = keras.ops.convert_to_numpy(model.losses[0])
        >>> round(float(loss), 4)  # 0.5 / 2 * (3^2 + 1^2)
        2.5

    Reference:
        Hoffman, Roberts and Yaida, 2019, [Robust learning with Jacobian
        regularization](https://arxiv.org/abs/1908.02729).
    """

    def __init__(
        self,
        network: Any,
        factor: float = 0.01,
        num_projections: int | None = 1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if num_projections is not None:
            _validation.at_least("num_projections", num_projections, 1)
        super().__init__(network, factor, seed, **kwargs)
        self.num_projections = num_projections

    def _outputs_and_penalty(self, inputs: Any) -> tuple[Any, Any]:
        frozen = self._frozen()
        outputs, pullback = _autodiff.value_and_pullback(
            self._trained, inputs, frozen
        )
        _require_float_tensor(outputs, "outputs")
        if self.num_projections is None:
            squares = [_squares(pullback(v)) for v in _basis(outputs)]
            return outputs, sum(squares) / 2
        squares = [
            _squares(pullback(self._direction(outputs)))
            for _ in range(self.num_projections)
        ]
        return outputs, sum(squares) / (2 * self.num_projections)

    def _direction(self, outputs: Any) -> Any:
        """Returns a unit vector a sample times the root of its length."""
        shape = ops.shape(outputs)
        noise = keras.random.normal(
            shape, dtype="float32", seed=self.seed_generator
        )
        axes = tuple(range(1, len(shape)))
        length = _matrix.norm(noise, axis=axes, keepdims=True)
        size = 1
        for each in shape[1:]:
            size = size * each
        unit = noise / ops.maximum(length, keras.config.epsilon())
        return ops.cast(
            unit * ops.sqrt(ops.cast(size, "float32")), outputs.dtype
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_projections": self.num_projections,
        }


@component(since="0.1")
class GradientPenalty(_Penalized):
    """Trains a critic whose slope by its input has a given size.

    Use it for Wasserstein critics, whose slope must be 1, or with `target=0`
    to make the one output of any network smooth. Wrap the network and train
    the wrapper with the usual `compile` and `fit`, as with `JacobianPenalty`.
    With g the gradient of one sample's output by its input, the batch's loss
    grows by

        factor * mean over points of (norm of g - target)^2

    The points are the inputs, or with `interpolate=True` random points on the
    lines between each input and the one that stands half a batch from it. For
    a Wasserstein critic, pass batches whose first half is real and whose
    second half is generated, with `shuffle=False` in `fit`: all lines then
    lead from real to generated samples, as the paper has it.

    With `target=0`, `interpolate=False` and batches of real samples alone it
    is the penalty R1 of Mescheder et al. with gamma = 2 * factor.

    The penalty is added in training alone: `val_loss` is without it. Avoid
    `BatchNormalization` in the network: it makes the output of a sample depend
    on the others of the batch, and g would hold that, too.

    Args:
        network: The model or layer to train: one float tensor `(batch, ...)`
            in, one number a sample out, `(batch,)` or `(batch, 1)`.
        factor: Strength of the penalty, at least 0.
        target: Norm of the gradient that is wanted, at least 0.
        interpolate: Whether the points lie between inputs.
        seed: As in `keras.layers.Dropout`.
        **kwargs: As in `keras.Model`.

    Call arguments:
        inputs: `(batch, ...)`, float.
        training: Whether the penalty is added to `losses`.

    Returns:
        The output of the network.

    Raises:
        ValueError: If `network` is no layer, `factor` or `target` is negative,
            or a network is trained that does not take one float tensor and
            return one number a sample.

    Masking:
        Not passed on: a `Masking` layer belongs into the network.

    Seed:
        `seed` decides the points; None draws a new one for each wrapper.

    Examples:
        >>> network = keras.layers.Dense(1)
        >>> model = GradientPenalty(network, factor=0.1, target=1.0)
        >>> model.build((None, 2))
        >>> network.set_weights([np.array([[3.0], [4.0]]), np.zeros(1)])
        >>> outputs = model(np.ones((6, 2)), training=True)
        >>> loss = keras.ops.convert_to_numpy(model.losses[0])
        >>> round(float(loss), 4)  # 0.1 * (5 - 1)^2
        1.6

    Reference:
        Gulrajani et al., 2017, [Improved training of Wasserstein
        GANs](https://arxiv.org/abs/1704.00028), equation 3. Mescheder, Geiger
        and Nowozin, 2018, [Which training methods for GANs do actually
        converge?](https://arxiv.org/abs/1801.04406), equation 9.
    """

    def __init__(
        self,
        network: Any,
        factor: float = 10.0,
        target: float = 1.0,
        interpolate: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        _validation.in_interval("target", target, "[0, inf)")
        _validation.one_of("interpolate", interpolate, (True, False))
        super().__init__(network, factor, seed, **kwargs)
        self.target = target
        self.interpolate = interpolate

    def _outputs_and_penalty(self, inputs: Any) -> tuple[Any, Any]:
        frozen = self._frozen()
        if self.interpolate:
            values, pullback = _autodiff.value_and_pullback(
                frozen, self._between(inputs), frozen
            )
            outputs = self._trained(inputs)
        else:
            outputs, pullback = _autodiff.value_and_pullback(
                self._trained, inputs, frozen
            )
            values = outputs
        _require_one_number(values)
        slope = ops.cast(pullback(ops.ones_like(values)), "float32")
        axes = tuple(range(1, len(slope.shape)))
        size = _matrix.norm(slope, axis=axes)
        return outputs, _mean(ops.square(size - self.target))

    def _between(self, inputs: Any) -> Any:
        batch = ops.shape(inputs)[0]
        shape = (batch,) + (1,) * (len(inputs.shape) - 1)
        share = keras.random.uniform(
            shape, dtype="float32", seed=self.seed_generator
        )
        share = ops.cast(share, inputs.dtype)
        other = ops.roll(inputs, batch // 2, axis=0)
        return share * inputs + (1 - share) * other

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "target": self.target,
            "interpolate": self.interpolate,
        }


def _require_float_tensor(x: Any, what: str = "inputs") -> None:
    if not hasattr(x, "shape"):
        raise ValueError(
            f"The network's {what} must be one tensor. "
            f"Received: {what} of type {type(x).__name__}"
        )
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "float" not in dtype or len(x.shape) < 2:
        raise ValueError(
            f"The network's {what} must be floats of shape (batch, ...) for "
            f"their gradients. Received: {what} of dtype {dtype} and shape "
            f"{tuple(x.shape)}"
        )


def _require_one_number(outputs: Any) -> None:
    shape = tuple(getattr(outputs, "shape", (None, None)))
    if shape[1:] not in ((), (1,)):
        raise ValueError(
            "`network` must return one number a sample, of shape (batch,) or "
            "(batch, 1); `JacobianPenalty` takes any number. Received: "
            f"outputs of shape {shape}"
        )


def _basis(outputs: Any) -> list[Any]:
    """Returns the unit vectors of the outputs, each for the whole batch.

    Raises:
        ValueError: If the number of outputs is unknown.
    """
    shape = tuple(outputs.shape[1:])
    if None in shape:
        raise ValueError(
            "`num_projections=None` needs a known number of outputs. "
            f"Received: outputs of shape {tuple(outputs.shape)}"
        )
    size = 1
    for each in shape:
        size *= each
    units = ops.reshape(ops.eye(size, dtype=outputs.dtype), (size, *shape))
    return [ops.zeros_like(outputs) + units[i] for i in range(size)]


def _squares(gradient: Any) -> Any:
    """Returns the mean over samples of the sum of squares."""
    squares = ops.square(ops.cast(gradient, "float32"))
    return _mean(ops.sum(squares, axis=tuple(range(1, len(squares.shape)))))


def _mean(values: Any) -> Any:
    """Returns the mean, 0 of nothing."""
    count = ops.maximum(ops.cast(ops.shape(values)[0], values.dtype), 1)
    return ops.sum(values) / count
