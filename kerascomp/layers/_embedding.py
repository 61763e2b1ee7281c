"""Embeddings of sets."""

from typing import Any

from kerascomp import _geometry, _numerics, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops
COMBINERS = ("sum", "mean", "sqrtn", "max")


@component(since="0.1")
class EmbeddingBag(keras.layers.Layer):
    """Turns sets of integers, such as the words of a text, into one vector.

    Use it for bags of words and for features with several values: it is
    `keras.layers.Embedding` and a reduction over the last axis of its input,
    which skips padding. With bags of one item it is `Embedding` without the
    axis. From the vectors e of the items and their weights w, which are 1
    unless given, it makes

        sum:    sum(w * e)
        mean:   sum(w * e) / sum(w)
        sqrtn:  sum(w * e) / sqrt(sum(w ** 2))
        max:    the largest of each number, without weights

    A bag without items, or whose divisor is 0, becomes 0.

    Args:
        input_dim: How many items there are; they are numbered from 0.
        output_dim: Length of the vectors.
        combiner: `"sum"`, `"mean"`, `"sqrtn"` or `"max"`.
        padding_index: The number that fills short bags and is left out, or
            None if none does.
        embeddings_initializer: As in `keras.layers.Embedding`.
        embeddings_regularizer: As in `keras.layers.Embedding`.
        embeddings_constraint: As in `keras.layers.Embedding`.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, ..., items)`, integers in [0, `input_dim`); or a list
            of these and the weights, float, of the same shape. Other integers
            raise an error if they can be read; in compiled programs, do what
            they do in `keras.layers.Embedding`.
        mask: Booleans of the shape of the integers, or of its first axes:
            items with False are left out.

    Returns:
        `(batch, ..., output_dim)`, in the compute dtype.

    Masking:
        The mask is not passed on: it says which items are left out, and the
        output has none.

    Raises:
        ValueError: If an argument is out of range, weights do not have the
            shape of the items, or come with `combiner="max"`.

    Examples:
        >>> layer = EmbeddingBag(4, 2, padding_index=0)
        >>> layer.build((None, 3))
        >>> layer.set_weights([np.arange(8.0).reshape(4, 2)])
        >>> keras.ops.convert_to_numpy(layer(np.array([[1, 3, 0]]))).tolist()
        [[4.0, 5.0]]

    Reference:
        Joulin et al., 2016, [Bag of tricks for efficient text
        classification](https://arxiv.org/abs/1607.01759), section 2, for the
        mean; the other combiners are those of
        `tf.nn.embedding_lookup_sparse` and `torch.nn.EmbeddingBag`.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        combiner: str = "mean",
        padding_index: int | None = None,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        **kwargs: Any,
    ):
        # Half precision has no integers above 2,048.
        super().__init__(autocast=False, **kwargs)
        _validation.at_least("input_dim", input_dim, 1)
        _validation.at_least("output_dim", output_dim, 1)
        _validation.one_of("combiner", combiner, COMBINERS)
        if padding_index is not None:
            _validation.at_least("padding_index", padding_index, 0)
            if padding_index >= input_dim:
                raise ValueError(
                    "`padding_index` must be below `input_dim`. Received: "
                    f"padding_index={padding_index}, input_dim={input_dim}"
                )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.combiner = combiner
        self.padding_index = padding_index
        self.embeddings_initializer = keras.initializers.get(
            embeddings_initializer
        )
        self.embeddings_regularizer = keras.regularizers.get(
            embeddings_regularizer
        )
        self.embeddings_constraint = keras.constraints.get(
            embeddings_constraint
        )
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if isinstance(input_shape[0], list | tuple):
            items, weights = input_shape
            if self.combiner == "max":
                raise ValueError(
                    'Weights need another `combiner` than "max". '
                    f"Received: input_shape={input_shape}"
                )
            if not _numerics.same_shape(items, weights):
                raise ValueError(
                    "Weights must have the shape of the items. "
                    f"Received: input_shape={input_shape}"
                )
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )

    def call(self, inputs: Any, mask: Any = None) -> Any:
        weights = None
        if isinstance(inputs, list | tuple):
            inputs, weights = inputs
            mask = mask[0] if mask else None
            weights = ops.cast(weights, self.compute_dtype)
        items = ops.cast(inputs, "int32")
        _numerics.require(
            items,
            lambda found: (found >= 0) & (found < self.input_dim),
            f"Items must lie in [0, {self.input_dim}).",
        )
        vectors = ops.take(self.embeddings, items, axis=0)
        vectors = ops.cast(vectors, self.compute_dtype)
        present = self._present(items, mask)
        if self.combiner == "max":
            return _largest(vectors, present)
        if present is None and weights is None:
            weights = ops.ones_like(items, dtype=self.compute_dtype)
        elif weights is None:
            weights = ops.cast(present, self.compute_dtype)
        elif present is not None:
            weights = ops.where(present, weights, ops.zeros_like(weights))
        return self._weighted(vectors, weights)

    def _present(self, items: Any, mask: Any) -> Any:
        """Which items count, or None if all do."""
        present = None
        if self.padding_index is not None:
            present = items != self.padding_index
        if mask is not None:
            mask = ops.cast(mask, "bool")
            for _ in range(len(items.shape) - len(mask.shape)):
                mask = ops.expand_dims(mask, -1)
            if present is None:
                present = ops.ones_like(items, dtype="bool")
            present = ops.logical_and(present, mask)
        return present

    def _weighted(self, vectors: Any, weights: Any) -> Any:
        # A row times a matrix, for every bag.
        total = ops.squeeze(
            ops.matmul(ops.expand_dims(weights, -2), vectors), -2
        )
        if self.combiner == "sum":
            return total
        weights = _geometry.widened(weights)
        divisor = (
            ops.sum(weights, axis=-1, keepdims=True)
            if self.combiner == "mean"
            else _geometry.length(weights, keepdims=True)
        )
        divided = _geometry.ratio(_geometry.widened(total), divisor)
        return ops.cast(divided, self.compute_dtype)

    def compute_mask(self, *_: Any) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> Any:
        several = isinstance(input_shape[0], list | tuple)
        items = input_shape[0] if several else input_shape
        return (*items[:-1], self.output_dim)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "combiner": self.combiner,
            "padding_index": self.padding_index,
            "embeddings_initializer": serialize(self.embeddings_initializer),
            "embeddings_regularizer": serialize(self.embeddings_regularizer),
            "embeddings_constraint": serialize(self.embeddings_constraint),
        }


def _largest(vectors: Any, present: Any) -> Any:
    """The largest of each number; 0 where nothing is present."""
    if present is None:
        return _numerics.largest(vectors, axis=-2)
    lowest = ops.full_like(vectors, float("-inf"))
    present = ops.expand_dims(present, -1)
    largest = _numerics.largest(ops.where(present, vectors, lowest), axis=-2)
    return ops.where(ops.any(present, axis=-2), largest, 0)
