"""Similarities to one learned direction for each class."""

from typing import Any

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class CosineDense(keras.layers.Layer):
    """Gives the cosine between the features and a direction for each class.

    Use it as the last layer of a classifier that is trained with
    `kerascomp.losses.ArcFace` or `CosFace`, in plain `compile` and `fit`: the
    layer holds the weights of these losses. The class is the largest output;
    the input of the layer is the embedding to compare new classes with. It is
    `keras.layers.Dense(units, use_bias=False)` with its input and each column
    of its kernel divided by their lengths. Features that are all 0 give 0.

    Args:
        units: Number of classes, at least 1.
        kernel_initializer: As in `keras.layers.Dense`. Only directions count.
        kernel_regularizer: As in `keras.layers.Dense`.
        kernel_constraint: As in `keras.layers.Dense`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, float.

    Returns:
        `(batch, ..., units)`, in the compute dtype, in [-1, 1].

    Masking:
        Passes the mask on unchanged.

    Raises:
        ValueError: If `units` is below 1, or the last axis is unknown.

    Examples:
        >>> layer = CosineDense(2, kernel_initializer="identity")
        >>> output = keras.ops.convert_to_numpy(layer(np.array([[3.0, 4.0]])))
        >>> output.astype("float16").round(2)
        array([[0.6, 0.8]], dtype=float16)

    Reference:
        Wang et al., 2018, [CosFace](https://arxiv.org/abs/1801.09414),
        equation 2, with the scale left to the loss.
    """

    def __init__(
        self,
        units: int,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        kernel_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.at_least("units", units, 1)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                "The last axis of the input must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def call(self, inputs: Any) -> Any:
        features = _geometry.direction(_geometry.widened(inputs))
        kernel = ops.transpose(_geometry.widened(self.kernel))
        classes = _geometry.direction(kernel)
        # Rounding makes cosines of 1 + 1e-7, which have no angle.
        cosines = ops.matmul(features, ops.transpose(classes))
        return ops.cast(ops.clip(cosines, -1.0, 1.0), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": serialize(self.kernel_initializer),
            "kernel_regularizer": serialize(self.kernel_regularizer),
            "kernel_constraint": serialize(self.kernel_constraint),
        }
