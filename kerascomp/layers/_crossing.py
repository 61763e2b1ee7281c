"""Products of features, learned."""

from typing import Any

from kerascomp import _numerics
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class PolynomialCrossing(keras.layers.Layer):
    """Multiplies features with each other, one degree more at every layer.

    Use it for tables whose features matter in combination, in a stack beside
    or below dense layers: `x1 = cross()(x0)`, `x2 = cross()([x0, x1])`, and so
    on. l layers give all products of up to l + 1 features. From the first
    input x0 and the output x of the layer before,

        x0 * (x . w) + b + x

    with one weight a feature. With `full_matrix`, `x . w` becomes `x W`, and
    each feature is multiplied by a sum of its own: so does TensorFlow Addons,
    whose layer has no vector. The bias b stands outside of the product, as in
    the paper and in TensorFlow Addons; the second version of the network
    (`keras_rs.layers.FeatureCross`) has `x0 * (x W + b) + x`. With weights of 0
    the layer is the identity of x.

    Args:
        full_matrix: Whether the weights are a matrix.
        use_bias: Whether there is a bias.
        kernel_initializer: Of w or W.
        bias_initializer: Of b.
        kernel_regularizer: Of w or W.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: A list of x0 and x, both `(batch, ..., features)`, float; or x0
            alone for the first layer, where x is x0.

    Returns:
        The shape of x0, in the compute dtype.

    Masking:
        Passes on the mask of x0.

    Raises:
        ValueError: If x0 and x differ in shape, or the last axis is unknown.

    Examples:
        >>> layer = PolynomialCrossing(kernel_initializer="ones")
        >>> output = layer(np.array([[2.0, 3.0]]))  # x0 * 5 + x0
        >>> keras.ops.convert_to_numpy(output).tolist()
        [[12.0, 18.0]]

    Reference:
        Wang et al., 2017, [Deep & cross network for ad click
        predictions](https://arxiv.org/abs/1708.05123), equation 3.
    """

    def __init__(
        self,
        full_matrix: bool = False,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.full_matrix = full_matrix
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        first, *rest = _several(input_shape)
        same = all(_numerics.same_shape(first, other) for other in rest)
        if len(rest) > 1 or not same:
            raise ValueError(
                "Pass x0, or x0 and x of the same shape. "
                f"Received: input_shape={input_shape}"
            )
        features = first[-1]
        if features is None:
            raise ValueError(
                "The last axis of the input must be known. "
                f"Received: input_shape={input_shape}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features, features if self.full_matrix else 1),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(features,),
                initializer=self.bias_initializer,
            )

    def call(self, inputs: Any) -> Any:
        pair = inputs if isinstance(inputs, list | tuple) else (inputs,)
        first, last = (
            ops.cast(each, self.compute_dtype) for each in (pair[0], pair[-1])
        )
        crossed = first * ops.matmul(last, self.kernel)
        if self.bias is not None:
            crossed = crossed + self.bias
        return crossed + last

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if isinstance(inputs, list | tuple) and mask else mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(_several(input_shape)[0])

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "full_matrix": self.full_matrix,
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "kernel_regularizer": serialize(self.kernel_regularizer),
        }


def _several(input_shape: Any) -> list:
    """The shapes of the inputs, of which there may be one."""
    alone = not isinstance(input_shape[0], list | tuple)
    return [input_shape] if alone else list(input_shape)
