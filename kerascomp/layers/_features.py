"""Features in which a kernel is an inner product."""

import math
from typing import Any

from kerascomp import _geometry, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops
KERNELS = ("gaussian", "laplacian")


@component(since="0.1")
class RandomFourierFeatures(keras.layers.Layer):
    """Maps inputs to features whose inner products are a kernel, nearly.

    Use it before a dense layer to train a kernel machine by gradient descent,
    on any amount of data. From frequencies W that are drawn once, and offsets
    b that are uniform in [0, 2 pi), the features are

        sqrt(2 / output_dim) * cos(x W / scale + b)

    Their inner products differ from the kernel by about 1 / sqrt(output_dim).
    The Gaussian kernel exp(-||x - y||**2 / (2 scale**2)) has normal
    frequencies, the Laplacian one exp(-sum(|x - y|) / scale) has those of
    Cauchy's distribution. (The layer of that name in TensorFlow 2 leaves the
    factor sqrt(2 / output_dim) out.)

    Args:
        output_dim: Number of features.
        kernel: `"gaussian"` or `"laplacian"`.
        scale: Distance over which inputs count as similar, above 0.
        trainable_scale: Whether it is learned. W and b never are.
        seed: Integer that decides W and b, or None for those of Keras' seed.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., features)`, float.

    Returns:
        `(batch, ..., output_dim)`, in the compute dtype, within
        sqrt(2 / output_dim) of 0.

    Masking:
        Passes the mask on unchanged.

    Seed:
        Decides weights, which are saved. Calls are not random.

    Raises:
        ValueError: If an argument is out of range, or the last axis is unknown.

    Examples:
        >>> layer = RandomFourierFeatures(10_000, scale=2.0, seed=0)
        >>> a, b = layer(np.array([[1.0, 0.0], [0.0, 0.0]]))
        >>> bool(abs(float(keras.ops.sum(a * b)) - np.exp(-1 / 8)) < 0.03)
        True

    Reference:
        Rahimi & Recht, 2007, [Random features for large-scale kernel
        machines](https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines),
        algorithm 1 and figure 1.
    """

    def __init__(
        self,
        output_dim: int,
        kernel: str = "gaussian",
        scale: float = 1.0,
        trainable_scale: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.at_least("output_dim", output_dim, 1)
        _validation.one_of("kernel", kernel, KERNELS)
        _validation.in_interval("scale", scale, "(0, inf)")
        self.output_dim = output_dim
        self.kernel = kernel
        self.scale = scale
        self.trainable_scale = trainable_scale
        self.seed = seed
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                "The last axis of the input must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        # Phases are large: rounded to half precision, they would be noise.
        self.frequencies = self.add_weight(
            name="frequencies",
            shape=(input_shape[-1], self.output_dim),
            initializer=self._draw_frequencies,
            trainable=False,
            autocast=False,
        )
        other = None if self.seed is None else self.seed + 1
        self.offsets = self.add_weight(
            name="offsets",
            shape=(self.output_dim,),
            initializer=keras.initializers.RandomUniform(
                0.0, 2 * math.pi, seed=other
            ),
            trainable=False,
            autocast=False,
        )
        self.learned_scale = None
        if self.trainable_scale:
            self.learned_scale = self.add_weight(
                name="scale",
                shape=(),
                initializer=keras.initializers.Constant(self.scale),
                autocast=False,
            )

    def _draw_frequencies(self, shape: Any, dtype: Any = None) -> Any:
        if self.kernel == "gaussian":
            normal = keras.initializers.RandomNormal(0.0, 1.0, seed=self.seed)
            return normal(shape, dtype=dtype)
        # Not the ends, where the tangent is infinite.
        angle = math.pi / 2 - 1e-6
        uniform = keras.initializers.RandomUniform(
            -angle, angle, seed=self.seed
        )
        return ops.tan(uniform(shape, dtype=dtype))

    def call(self, inputs: Any) -> Any:
        x = _geometry.widened(ops.cast(inputs, self.compute_dtype))
        scale: Any = self.scale
        if self.learned_scale is not None:
            scale = ops.convert_to_tensor(self.learned_scale)
        phases = ops.matmul(x / scale, self.frequencies) + self.offsets
        features = math.sqrt(2 / self.output_dim) * ops.cos(phases)
        return ops.cast(features, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.output_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "kernel": self.kernel,
            "scale": self.scale,
            "trainable_scale": self.trainable_scale,
            "seed": self.seed,
        }
