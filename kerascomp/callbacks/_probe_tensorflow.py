"""The gradient probe on TensorFlow."""

from typing import Any

import numpy as np
import tensorflow as tf

from kerascomp.callbacks import _probe


class BackendProbe(_probe.Probe):
    """Writes the rows into a ring of variables that only the probe knows.

    The compiled function captures them. Neither model nor optimizer track
    them, so that they are saved with neither.
    """

    method = "apply"

    def attach(self) -> None:
        strategy = self.model.distribute_strategy
        self._replicas = strategy.num_replicas_in_sync
        mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
        if self._replicas > 1 and not mirrored:
            raise ValueError(
                "Gradients can be monitored on one replica and under "
                "`tf.distribute.MirroredStrategy`. "
                f"Received: strategy={strategy!r}"
            )
        self._capacity = 4 * max(64, self.model.steps_per_execution)
        self._ring: Any = None
        self._count: Any = None
        self._read_so_far = 0
        # A custom `train_step` may call the optimizer several times, so how
        # many rows an execution writes is learned after the first one.
        self._executions, self._rows_an_execution = 0, float(self._capacity)
        if self._replicas > 1:
            # A step of a replica cannot make variables. Under a strategy,
            # the model is built before training, and its optimizer need not.
            self._allocate(len(self.model.trainable_variables))
        super().attach()

    def relieve(self) -> None:
        # At most half the ring may be full after the coming execution.
        rows = (self._executions + 1) * self._rows_an_execution
        if 2 * rows > self._capacity:
            self.collect()
        self._executions += 1

    @property
    def _delivered(self) -> int:
        return self._read_so_far

    def _read(self) -> tuple[int, np.ndarray]:
        if self._count is None:
            return 0, np.zeros((0, 0), "float32")
        count, ring = int(self._count.numpy()), self._ring.numpy()
        rows = count - self._read_so_far
        first = max(self._read_so_far, count - self._capacity)
        if self._executions and rows:
            self._rows_an_execution = rows / self._executions
            self._executions = 0
        self._read_so_far = count
        halves = ring[np.arange(first, count) % self._capacity]
        # Undoes `l2_loss`; the sign marks a missing gradient.
        return first, np.where(
            halves == _probe.NO_GRADIENT, halves, np.sqrt(2 * np.abs(halves))
        )

    def _replacement(self, original: Any) -> Any:
        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            if grads:
                self._write(self._tensorflow_row(grads, trainable_variables))
            return original(grads, trainable_variables)

        return apply

    def _tensorflow_row(self, gradients: list, variables: Any) -> tf.Tensor:
        scale = self._loss_scale()
        if self._replicas > 1:
            gradients = _sum_over_replicas(gradients)
        row = self._row(
            gradients,
            variables,
            lambda g: _half_squared_norm(g, scale),
            _probe.NO_GRADIENT,
        )
        return tf.stack(row)

    def _write(self, row: tf.Tensor) -> None:
        if self._ring is None:
            self._allocate(row.shape[0])
        count = self._count.read_value()
        self._ring.scatter_update(tf.IndexedSlices(row, count % self._capacity))
        # The graph that asks for the next batch would count, too, when there
        # is none, did counting not wait for the row.
        with tf.control_dependencies([row]):
            self._count.assign_add(1)

    def _allocate(self, width: int) -> None:
        # Every replica computes the same row, and the first may write it.
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        with tf.init_scope(), self.model.distribute_strategy.scope():
            self._ring = tf.Variable(
                tf.zeros((self._capacity, width)),
                trainable=False,
                aggregation=first,
            )
            self._count = tf.Variable(
                tf.zeros((), "int64"), trainable=False, aggregation=first
            )


def _sum_over_replicas(gradients: list) -> list:
    """Sums as the optimizer does after clipping, which would be too late."""
    present = [g for g in gradients if g is not None]
    context = tf.distribute.get_replica_context()
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [g if g is None else next(sums) for g in gradients]


def _half_squared_norm(gradient: Any, scale: Any) -> tf.Tensor:
    """Returns what one fused operation gives; the host takes the root."""
    if isinstance(gradient, tf.IndexedSlices):
        gradient = _without_duplicates(gradient)
    gradient = tf.cast(gradient, "float32")
    if scale is not None:
        # First: a scaled gradient's square may overflow where its own not.
        gradient = gradient / scale
    return tf.nn.l2_loss(gradient)


def _without_duplicates(slices: tf.IndexedSlices) -> tf.Tensor:
    """Sums the rows of one index; `values` may hold it several times.

    By sorting, since XLA does not compile `tf.unique`, and in float32, since
    half precision would round the sums.
    """
    indices = tf.reshape(slices.indices, [-1])
    values = tf.cast(slices.values, "float32")
    order = tf.argsort(indices)
    indices = tf.gather(indices, order)
    changes = tf.cast(indices[1:] != indices[:-1], "int32")
    segments = tf.concat([[0], tf.cumsum(changes)], 0)
    return tf.math.unsorted_segment_sum(
        tf.gather(values, order), segments, tf.size(indices)
    )
