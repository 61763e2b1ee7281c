"""Long sequences in chunks, for truncated backpropagation through time."""

from typing import Any

import numpy as np

from kerascomp import _validation
from kerascomp._compat import keras


class SequenceChunks(keras.utils.PyDataset):
    """Cuts long sequences into chunks that `fit` trains on in order.

    Use it to train stateful recurrent layers on sequences too long for
    backpropagation through all of their steps: time and memory of an update
    are those of one chunk. Gradients end where a chunk begins; the states go
    on. Each batch holds one chunk of `batch_size` sequences, and the next
    batch the chunk behind it. `kerascomp.callbacks.ResetStates` forgets the
    states between sequences:

        chunks = SequenceChunks(x, y, length=50, batch_size=32)
        reset = kc.callbacks.ResetStates(every=chunks.chunks)
        model.fit(chunks, shuffle=False, callbacks=[reset])

    With chunks as long as the sequences it is plain backpropagation through
    time. Chunks of the same sequence are not independent, so shuffle sequences
    between calls of `fit` if at all.

    Args:
        x: `(sequences, time, ...)`.
        y: `(sequences, time, ...)`: a target at each step.
        length: Steps of a chunk, at least 1; divides the steps of `x`.
        batch_size: Sequences of a batch, at least 1; divides those of `x`,
            since stateful layers know no other batch size. On TensorFlow at
            least 2: there, Keras takes 1 for any number, which layers that
            are stateful refuse.
        sample_weight: `(sequences, time)`, or None.

    Attributes:
        chunks: The number of chunks of a sequence.

    Raises:
        ValueError: If an argument is out of range, arrays do not fit each
            other, or a length is not divided; in `fit`, if it shuffles.

    Examples:
        >>> x = np.arange(12).reshape(2, 6)  # Two sequences of six steps.
        >>> chunks = SequenceChunks(x, -x, length=3, batch_size=1)
        >>> len(chunks), chunks.chunks
        (4, 2)
        >>> for batch in range(3):
        ...     print(chunks[batch][0])
        [[0 1 2]]
        [[3 4 5]]
        [[6 7 8]]

    Reference:
        Williams & Peng, 1990, [An efficient gradient-based algorithm for
        on-line training of recurrent network
        trajectories](https://doi.org/10.1162/neco.1990.2.4.490): BPTT(h; h'),
        with h = h' inside each chunk.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        length: int,
        batch_size: int,
        sample_weight: Any = None,
    ):
        super().__init__()
        _validation.at_least("length", length, 1)
        _validation.at_least("batch_size", batch_size, 1)
        arrays = {"x": x, "y": y, "sample_weight": sample_weight}
        self._arrays = {
            name: np.asarray(each)
            for name, each in arrays.items()
            if each is not None
        }
        shape = self._arrays["x"].shape[:2]
        for name, each in self._arrays.items():
            if each.ndim < 2 or each.shape[:2] != shape:
                raise ValueError(
                    "All arrays must begin with the same axes (sequences, "
                    f"time). Received: {name}.shape={each.shape}, "
                    f"x.shape={self._arrays['x'].shape}"
                )
        for name, part, whole in (
            ("batch_size", batch_size, shape[0]),
            ("length", length, shape[1]),
        ):
            if whole == 0 or whole % part:
                raise ValueError(
                    f"`{name}` must divide the {whole} of x.shape={shape}, "
                    "which would leave a remainder. Cut or pad the arrays. "
                    f"Received: {name}={part}"
                )
        self.length = length
        self.batch_size = batch_size
        self.chunks = shape[1] // length
        self._batches = self.chunks * (shape[0] // batch_size)
        self._next: int | None = None  # While an epoch runs.

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> tuple:
        if self._next is not None and index > self._next:
            raise ValueError(
                "Chunks must be trained on in their order. Pass shuffle=False "
                f"to fit. Received: batch {index} before batch {self._next}"
            )
        if self._next is not None:
            self._next = max(self._next, index + 1)
        group, chunk = divmod(index, self.chunks)
        rows = slice(group * self.batch_size, (group + 1) * self.batch_size)
        steps = slice(chunk * self.length, (chunk + 1) * self.length)
        return tuple(each[rows, steps] for each in self._arrays.values())

    def on_epoch_begin(self) -> None:
        """Has the batches read in their order from now on."""
        self._next = 0

    def on_epoch_end(self) -> None:
        """Lets the batches be read in any order again."""
        self._next = None
