"""A conditional random field, and the tags it finds."""

from typing import Any

from kerascomp import _chains, _validation
from kerascomp._compat import keras
from kerascomp._registry import component

ops = keras.ops


@component(since="0.1")
class CRF(keras.layers.Layer):
    """Scores sequences of tags in which neighbors depend on each other.

    Use it as the last layer of a tagger, where which tag comes next depends on
    the last one, and train it in plain `compile` and `fit` with
    `kerascomp.losses.CRFNegativeLogLikelihood`. The tags of a trained model
    come from `ViterbiDecoder` behind it, or from `crf_unpack` of what it
    predicts and `viterbi_decode`.

    The score of tags y is the sum of those of each step, a linear function of
    its features as of `keras.layers.Dense(units)`, and those of neighbors:

        start[y_1] + emission_1[y_1] + transition[y_1, y_2] + emission_2[y_2]
        + ... + transition[y_n-1, y_n] + emission_n[y_n] + end[y_n]

    The output holds all of these numbers, so that losses and metrics need no
    other access to the layer. At first transitions and boundaries are 0, where
    the loss is the sum of the tags' crossentropies.

    Args:
        units: Number of tags, at least 2.
        use_kernel: Whether the layer has a kernel and a bias. Otherwise the
            inputs are the scores of the steps, and `units` of them.
        use_boundary: Whether tags have scores as the first and the last.
        transition_initializer: Of the scores of transitions, `(units, units)`
            from row to column.
        transition_regularizer: As in `keras.layers.Dense`, of these scores.
        transition_constraint: As in `keras.layers.Dense`, of these scores.
        boundary_initializer: Of the scores of the first and the last tag.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, time, features)`, float.
        mask: `(batch, time)`, boolean. Steps with False are left out, wherever
            they are: those around them become neighbors.

    Returns:
        `(batch, units + 2 + time, units + 1)`, in the compute dtype: in each
        sequence the rows of transitions, start, end, and one row a step. The
        last column of these is 1, or 0 for masked steps. See `crf_unpack`.

    Masking:
        Not passed on as Keras' mask: the output has other rows than the input
        has steps, and holds the mask itself.

    Raises:
        ValueError: If `units` is below 2, or the input has another rank, no
            known number of features, or without kernel another one than
            `units`.

    Examples:
        >>> model = keras.Sequential([keras.Input((None, 5)), CRF(units=3)])
        >>> scores = model.predict(np.ones((2, 7, 5)), verbose=0)
        >>> scores.shape  # 3 + 2 + 7 rows, 3 + 1 columns.
        (2, 12, 4)
        >>> tags, _ = viterbi_decode(*crf_unpack(scores))
        >>> tuple(tags.shape)
        (2, 7)

    Reference:
        Lafferty et al., 2001, [Conditional random fields: probabilistic models
        for segmenting and labeling sequence
        data](https://repository.upenn.edu/handle/20.500.14332/6188).
    """

    def __init__(
        self,
        units: int,
        use_kernel: bool = True,
        use_boundary: bool = True,
        transition_initializer: Any = "zeros",
        transition_regularizer: Any = None,
        transition_constraint: Any = None,
        boundary_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _validation.at_least("units", units, 2)
        self.units = units
        self.use_kernel = use_kernel
        self.use_boundary = use_boundary
        self.transition_initializer = keras.initializers.get(
            transition_initializer
        )
        self.transition_regularizer = keras.regularizers.get(
            transition_regularizer
        )
        self.transition_constraint = keras.constraints.get(
            transition_constraint
        )
        self.boundary_initializer = keras.initializers.get(boundary_initializer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        features = self._features(tuple(input_shape))
        if self.use_kernel:
            self.kernel = self.add_weight(
                name="kernel", shape=(features, self.units)
            )
            self.bias = self.add_weight(
                name="bias", shape=(self.units,), initializer="zeros"
            )
        self.transitions = self.add_weight(
            name="transitions",
            shape=(self.units, self.units),
            initializer=self.transition_initializer,
            regularizer=self.transition_regularizer,
            constraint=self.transition_constraint,
        )
        if self.use_boundary:
            self.start, self.end = (
                self.add_weight(
                    name=name,
                    shape=(self.units,),
                    initializer=self.boundary_initializer,
                )
                for name in ("start", "end")
            )

    def _features(self, input_shape: tuple) -> int:
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                "The input must have the shape (batch, time, features), and "
                "the number of features must be known. Received: "
                f"input_shape={input_shape}"
            )
        if not self.use_kernel and input_shape[-1] != self.units:
            raise ValueError(
                "With `use_kernel=False` the input must have one score for "
                f"each tag. Received: units={self.units}, "
                f"input_shape={input_shape}"
            )
        return input_shape[-1]

    def call(self, inputs: Any, mask: Any = None) -> Any:
        emissions = inputs
        if self.use_kernel:
            emissions = ops.matmul(inputs, self.kernel) + self.bias
        if mask is None:
            mask = ops.ones_like(inputs[..., 0], dtype="bool")
        transitions = ops.cast(self.transitions, emissions.dtype)
        none = ops.zeros_like(transitions[0])
        return _chains.crf_pack(
            emissions,
            transitions,
            ops.cast(self.start, none.dtype) if self.use_boundary else none,
            ops.cast(self.end, none.dtype) if self.use_boundary else none,
            mask,
        )

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:  # noqa: ARG002
        return None

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, time = input_shape[:2]
        rows = None if time is None else self.units + 2 + time
        return (batch, rows, self.units + 1)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "units": self.units,
            "use_kernel": self.use_kernel,
            "use_boundary": self.use_boundary,
            "transition_initializer": serialize(self.transition_initializer),
            "transition_regularizer": serialize(self.transition_regularizer),
            "transition_constraint": serialize(self.transition_constraint),
            "boundary_initializer": serialize(self.boundary_initializer),
        }


@component(since="0.1")
class ViterbiDecoder(keras.layers.Layer):
    """Turns the scores of a `CRF` layer into tags.

    Use it to predict with, and to export, a trained model:
    `keras.Model(model.input, ViterbiDecoder()(model.output))`. It has no
    weights, and its output no gradient, so leave it out of training.

    Args:
        allowed_transitions: `(tags, tags)` or `(tags + 1, tags + 1)` booleans
            as lists, such as `bio_transitions` gives: as in `viterbi_decode`.
            None for all.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, tags + 2 + time, tags + 1)`, float, from `CRF`.

    Returns:
        `(batch, time)`, int32: the tags of the best path, -1 at masked steps.

    Masking:
        Not passed on: masked steps have the tag -1.

    Raises:
        ValueError: If `inputs` has another shape, or the number of tags is
            another one than that of `allowed_transitions`.

    Examples:
        >>> inputs = keras.Input((None, 2))
        >>> crf = CRF(units=2, use_kernel=False)
        >>> tagger = keras.Model(inputs, ViterbiDecoder()(crf(inputs)))
        >>> x = np.array([[[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]]])
        >>> tagger.predict(x, verbose=0).tolist()
        [[0, 1, 0]]
        >>> changed = crf.transitions.assign([[0.0, -4.0], [-4.0, 0.0]])
        >>> tagger.predict(x, verbose=0).tolist()  # To change costs 4.
        [[0, 0, 0]]

    Reference:
        Viterbi, 1967, [Error bounds for convolutional codes and an
        asymptotically optimum decoding
        algorithm](https://doi.org/10.1109/TIT.1967.1054010).
    """

    def __init__(self, allowed_transitions: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.allowed_transitions = allowed_transitions
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        tags, _ = _chains.viterbi_decode(
            *_chains.crf_unpack(inputs),
            allowed_transitions=self.allowed_transitions,
        )
        return tags

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:  # noqa: ARG002
        return None

    def compute_output_spec(self, inputs: Any) -> Any:
        # Keras would take the dtype of the layer.
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, "int32")

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, rows, columns = input_shape
        if None in (rows, columns):
            return (batch, None)
        return (batch, rows - columns - 1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "allowed_transitions": self.allowed_transitions,
        }
