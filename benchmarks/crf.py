"""What does a conditional random field cost a step, and how does it grow?

The log-likelihood of 32 sequences of 50, 100 and 200 steps with 20 tags, and
its gradient by scores and transitions, in a compiled program: kerascomp's, and
the forward recursion as a Python loop that the compiler unrolls. "Compile" is
the first call. Medians of runs that take turns.

    KERAS_BACKEND=jax python benchmarks/crf.py
"""

import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from kerascomp.layers import crf_log_likelihood, crf_sequence_score

ops = keras.ops
BATCH, TAGS, LENGTHS, RUNS = 32, 20, (50, 100, 200), 20


def unrolled(tags, emissions, transitions):
    """The forward recursion, one operation after the other."""
    alpha = emissions[:, 0]
    for step in range(1, emissions.shape[1]):
        through = ops.expand_dims(alpha, -1) + transitions
        alpha = ops.logsumexp(through, axis=1) + emissions[:, step]
    norm = ops.logsumexp(alpha, axis=-1)
    return crf_sequence_score(tags, emissions, transitions) - norm


def with_gradient(function, tags):
    """A compiled function of scores and transitions that waits for both."""

    def loss(emissions, transitions):
        return ops.mean(-function(tags, emissions, transitions))

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=True)
        def step(*args):
            with tf.GradientTape() as tape:
                tape.watch(args)
                value = loss(*args)
            return tape.gradient(value, args)

        return lambda *args: [each.numpy() for each in step(*args)]
    if backend == "jax":
        import jax

        step = jax.jit(jax.grad(loss, (0, 1)))
        return lambda *args: jax.block_until_ready(step(*args))
    import torch

    def step(*args):
        args = [each.detach().requires_grad_() for each in args]
        return torch.autograd.grad(loss(*args), args)

    return step


def measure(length, rng):
    """Seconds of the first call and of the median one, for both."""
    emissions = rng.normal(size=(BATCH, length, TAGS)).astype("float32")
    transitions = rng.normal(size=(TAGS, TAGS)).astype("float32")
    tags = ops.convert_to_tensor(rng.integers(0, TAGS, size=(BATCH, length)))
    args = [ops.convert_to_tensor(each) for each in (emissions, transitions)]
    steps, first, results = [], [], []
    for function in (crf_log_likelihood, unrolled):
        steps.append(with_gradient(function, tags))
        begin = time.perf_counter()
        results.append(steps[-1](*args))
        first.append(time.perf_counter() - begin)
    for ours, plain in zip(*results, strict=True):
        ours, plain = map(ops.convert_to_numpy, (ours, plain))
        np.testing.assert_allclose(ours, plain, atol=1e-4)
    seconds = [[], []]
    for _ in range(RUNS):
        for step, times in zip(steps, seconds, strict=True):
            begin = time.perf_counter()
            step(*args)
            times.append(time.perf_counter() - begin)
    return first, [statistics.median(times) for times in seconds]


def main():
    """Prints one line a length."""
    print(f"{keras.backend.backend()}, {BATCH} sequences, {TAGS} tags\n")
    print("steps   kerascomp: ms   compile s   unrolled: ms   compile s")
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        first, median = measure(length, rng)
        print(
            f"{length:5}   {1e3 * median[0]:13.2f}   {first[0]:9.2f}   "
            f"{1e3 * median[1]:12.2f}   {first[1]:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
