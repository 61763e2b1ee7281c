"""The gradient probe on TensorFlow."""

from collections.abc import Callable
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
        self._previous: list = []
        self._read_so_far = 0
        # A custom `train_step` may call the optimizer several times, so how
        # many rows an execution writes is learned after the first one.
        self._executions, self._rows_an_execution = 0, float(self._capacity)
        super().attach()

    def subscribe(self, request: _probe.Request) -> _probe.Subscription:
        if self._replicas > 1 and _probe.PRODUCT in request.quantities:
            raise ValueError(
                "Gradients of successive steps can be compared on one replica. "
                f"Received: {self._replicas} replicas"
            )
        return super().subscribe(request)

    def relieve(self) -> None:
        if self._replicas > 1 and self._ring is None:
            # A step of a replica cannot make variables. Under a strategy,
            # the model is built before training, and its optimizer need not.
            self._allocate(
                len(self.layout) * len(self.model.trainable_variables)
            )
        # At most half the ring may be full after the coming execution.
        rows = (self._executions + 1) * self._rows_an_execution
        if 2 * rows > self._capacity:
            self.collect()
        self._executions += 1

    @property
    def delivered(self) -> int:
        return self._read_so_far

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        if self._count is None:
            return np.zeros(0, "int64"), np.zeros((0, 0), "float32")
        count, ring = int(self._count.numpy()), self._ring.numpy()
        rows = count - self._read_so_far
        steps = np.arange(max(self._read_so_far, count - self._capacity), count)
        if self._executions and rows:
            self._rows_an_execution = rows / self._executions
            self._executions = 0
        self._read_so_far = count
        steps = steps[steps % self.period == 0]
        found = ring[steps % self._capacity]
        # Undoes `l2_loss`; the sign marks a missing gradient.
        norms = np.where(
            found == _probe.NO_GRADIENT, found, np.sqrt(2 * np.abs(found))
        )
        products = [name == _probe.PRODUCT for name in self.layout]
        width = found.shape[1] // len(self.layout)
        return steps, np.where(np.repeat(products, width), found, norms)

    def _replacement(self, original: Any) -> Any:
        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            grads = list(grads)
            if not grads:
                return original(grads, trainable_variables)
            call = self._arrange(grads, trainable_variables)
            due = self._due(len(self.layout) * len(call.variables))
            blocks, old = self._blocks_before(call, due)
            result = original(grads, trainable_variables)
            if old:
                rows = lambda: self._rows_after(old, self._weights(call))[0]
                blocks.append(self._at(_probe.UPDATE, rows))
            self._write(tf.concat(blocks, 0))
            return result

        return apply

    def _arrange(self, gradients: list, variables: Any) -> _probe.Call:
        if self._replicas > 1:
            gradients = _sum_over_replicas(gradients)
        return self._call(gradients, variables)

    # What is read here is read only where it is wanted; see `_weights_before`.

    def _weights(self, call: _probe.Call) -> list:
        return [_probe.native(v).read_value() for v in call.variables]

    def _weight(self, call: _probe.Call) -> Any:
        return self._norms(self._weights(call))

    def _product(self, call: _probe.Call) -> Any:
        call.previous = [v.read_value() for v in self._previous]
        return super()._product(call)

    def _before(self, call: _probe.Call) -> Any:
        return self._norms([v.read_value() for v in self._previous])

    def _due(self, width: int) -> Any:
        """Whether this step is measured; None if all are."""
        if self._ring is None:
            self._allocate(width)
        return self._is_step(self.period)

    def _is_step(self, period: int, ahead: int = 0) -> Any:
        # A replica cannot sum over all of them within a condition.
        if period == 1 or self._replicas > 1:
            return None
        return tf.equal((self._count.read_value() + ahead) % period, 0)

    def _blocks_before(self, call: _probe.Call, due: Any) -> tuple[list, list]:
        """Returns the blocks without the updates, and the weights for those."""
        keeps = _probe.PRODUCT in self.layout
        if keeps and not self._previous:
            self._previous = self._no_gradients(call)
        count = len(self.layout) - (_probe.UPDATE in self.layout)
        blocks = self._if(due, lambda: self._rows_before(call), count)
        if keeps:
            with tf.control_dependencies(blocks):
                self._keep(call, self._keeps())
        if _probe.UPDATE not in self.layout:
            return blocks, []
        due = self._is_step(self.periods[_probe.UPDATE])
        return blocks, self._weights_before(call, due)

    def _no_gradients(self, call: _probe.Call) -> list:
        """What comes before the first step: its product is NaN."""
        with tf.init_scope():
            return [
                tf.Variable(
                    tf.fill(tuple(v.shape), np.float32("nan")),
                    trainable=False,
                )
                for v in call.variables
            ]

    def _keep(self, call: _probe.Call, due: Any) -> None:
        """Keeps the gradients for the next step, where it wants them."""

        def assign() -> tf.Tensor:
            for variable, gradient in zip(
                self._previous, call.dense, strict=True
            ):
                variable.assign(
                    tf.zeros_like(variable) if gradient is None else gradient
                )
            return tf.constant(True)

        if due is None:
            assign()
        else:
            tf.cond(due, assign, lambda: tf.constant(False))

    def _weights_before(self, call: _probe.Call, due: Any) -> list:
        """Returns the weights. TensorFlow copies what is read when it writes.

        So they are read only if they are needed.
        """
        if due is None or self.model.jit_compile:  # XLA has no open shapes.
            return self._weights(call)
        none = lambda: [
            tf.zeros([0] * len(v.shape), v.dtype) for v in call.variables
        ]
        return tf.cond(due, lambda: self._weights(call), none)

    def _if(self, due: Any, compute: Callable[[], list], count: int) -> list:
        """Returns blocks, computed where they are due."""
        if due is None or not count:
            return compute()
        width = self._ring.shape[1] // len(self.layout)
        return list(tf.cond(due, compute, lambda: [tf.zeros((width,))] * count))

    def _write(self, row: tf.Tensor) -> None:
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

    def _stack(self, scalars: list) -> tf.Tensor:
        return tf.stack(scalars)

    def _when(self, condition: Any, compute: Callable[[], Any]) -> tf.Tensor:
        nothing = lambda: tf.fill((len(self.names),), _probe.NO_GRADIENT)
        return tf.cond(condition, compute, nothing)

    def _densified(self, gradient: Any) -> tf.Tensor:
        return tf.convert_to_tensor(gradient)

    def _unscaled(self, gradient: Any, scale: Any) -> tf.Tensor:
        if isinstance(gradient, tf.IndexedSlices):
            gradient = _without_duplicates(gradient)
        gradient = tf.cast(gradient, "float32")
        return gradient if scale is None else gradient / scale

    def _norm(self, tensor: tf.Tensor) -> tf.Tensor:
        # Half its square, which one fused operation gives: `_read` takes the
        # root.
        return tf.nn.l2_loss(tf.cast(tensor, "float32"))


def _sum_over_replicas(gradients: list) -> list:
    """Sums as the optimizer does after clipping, which would be too late."""
    present = [g for g in gradients if g is not None]
    context = tf.distribute.get_replica_context()
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [g if g is None else next(sums) for g in gradients]


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
