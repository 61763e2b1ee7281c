"""What all losses share."""

from collections.abc import Callable
from typing import Any

from kerascomp._compat import keras

ops = keras.ops


class Loss(keras.losses.Loss):
    """Keras' base class, with the dtype kept in the config."""

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        require_floats(y_pred)
        return super().__call__(y_true, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        # Keras leaves `dtype` out, and a reloaded loss would fall back to
        # the global default.
        return {**super().get_config(), "dtype": self.dtype}


def require_floats(y_pred: Any) -> None:
    """Raises if predictions are integers, which have no gradient.

    Keras would cast them without a word.
    """
    dtype = getattr(y_pred, "dtype", None)
    if dtype and "float" not in keras.backend.standardize_dtype(dtype):
        raise ValueError(
            "`y_pred` must hold floating-point numbers. "
            f"Received: y_pred.dtype={dtype}"
        )


class Wrapper(Loss):
    """Base class of losses that change the values of another one.

    Args:
        loss: A loss with a value for each sample, as `model.compile` takes
            it. Its own reduction and dtype do not matter.
        reduction: As in `keras.losses.Loss`.
        name: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.
    """

    def __init__(self, loss: Any, reduction: str | None, name: str, dtype: Any):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.loss = keras.losses.get(loss)  # Takes the config as well.
        if self.loss is None:
            raise ValueError("`loss` must be a loss. Received: loss=None")
        if getattr(self.loss, "ignore_class", None) is not None:
            # Keras marks what it leaves out, but has no public way to tell.
            raise ValueError(
                "`loss` must not leave out a class: give such samples the "
                "weight 0, or use `SequenceLoss(ignore_class=...)`. Received: "
                f"loss.ignore_class={self.loss.ignore_class}"
            )

    def values(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the values of the wrapped loss, without reduction."""
        is_loss = isinstance(self.loss, keras.losses.Loss)
        values = (self.loss.call if is_loss else self.loss)(y_true, y_pred)
        if len(values.shape) == 0:
            raise ValueError(
                "`loss` must have a value for each sample. Received one for "
                f"the batch from loss={self.loss!r}"
            )
        return values

    def get_config(self) -> dict[str, Any]:
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss}


def weight_of_each(sample_weight: Any, y_pred: Any, dtype: Any) -> Any:
    """Returns one weight for each sample or time step of `y_pred`.

    Keras multiplies weights by the mask in place, on torch, so that they must
    be as many.

    Args:
        sample_weight: One for each sample or step, or None.
        y_pred: `(batch, ..., classes)`.
        dtype: Of the result.
    """
    if sample_weight is None:
        return None
    ones = ops.ones_like(y_pred[..., 0], dtype=dtype)
    weight = ops.convert_to_tensor(sample_weight, dtype)
    if len(weight.shape) > len(ones.shape):
        weight = ops.squeeze(weight, axis=-1)
    while len(weight.shape) < len(ones.shape):
        weight = ops.expand_dims(weight, -1)
    return weight * ones


class Reduced(keras.losses.Loss):
    """Lets Keras mask, weigh and reduce the values of a function.

    For losses that need the weights, which Keras applies only after `call`.

    Args:
        function: Gives values from `y_true` and `y_pred`.
        reduction: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        reduction: str | None,
        dtype: Any,
    ):
        super().__init__(reduction=reduction, dtype=dtype)
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)
