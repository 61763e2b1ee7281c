"""Scores, sums, best paths and marginals of linear chains of tags."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kerascomp import _numerics, _validation
from kerascomp._compat import keras

ops = keras.ops

LOWEST = float(np.finfo("float32").min)


class _Chain(NamedTuple):
    """The parts of a batch of chains, checked, and float32 at least."""

    emissions: Any
    transitions: Any
    start: Any
    end: Any
    mask: Any


def crf_log_likelihood(
    tags: Any,
    emissions: Any,
    transitions: Any,
    start: Any = None,
    end: Any = None,
    mask: Any = None,
) -> Any:
    """Gives the log-probability of sequences of tags.

    It is `crf_sequence_score` minus `crf_log_norm`. With `transitions`,
    `start` and `end` of 0 it is the sum of the log-softmax at each step.

    Args:
        tags: `(batch, time)`, integers in [0, tags). Whatever at masked steps.
        emissions: `(batch, time, tags)`, float. The score of each tag.
        transitions: `(tags, tags)` or `(batch, tags, tags)`, float. Row i,
            column j is the score of tag i followed by tag j.
        start: `(tags,)` or `(batch, tags)`, float. The score of each tag as
            the first. None for 0.
        end: Like `start`, of each tag as the last.
        mask: `(batch, time)`, boolean. False where there is no step; None for
            steps everywhere. Steps that follow each other without those in
            between are neighbors: padding may be anywhere.

    Returns:
        `(batch,)`, in nats, at most 0: float64 if the emissions are, else
        float32. 0 without steps, -inf for tags that a score of -inf forbids.
        NaN in compiled code if a tag is out of range.

    Raises:
        ValueError: If shapes do not fit, or, in eager code, a tag that is not
            masked is out of range.

    Examples:
        >>> # Two steps, two tags; to change the tag costs log(3).
        >>> change = np.array([[0.0, -np.log(3)], [-np.log(3), 0.0]])
        >>> value = crf_log_likelihood([[0, 0]], np.zeros((1, 2, 2)), change)
        >>> round(float(np.exp(float(value[0]))), 4)  # 1 / (1 + 1 + 1/3 + 1/3)
        0.375

    Reference:
        Lafferty et al., 2001, [Conditional random fields: probabilistic models
        for segmenting and labeling sequence
        data](https://repository.upenn.edu/handle/20.500.14332/6188).
    """
    chain = _chain(emissions, transitions, start, end, mask)
    score = _score(chain, tags)
    # What is forbidden in a chain in which everything is: not -inf + inf.
    total = ops.where(score > -np.inf, _log_norm(*_floats(chain)), 0.0)
    return score - total


def crf_log_norm(
    emissions: Any,
    transitions: Any,
    start: Any = None,
    end: Any = None,
    mask: Any = None,
) -> Any:
    """Gives the logarithm of the sum over all paths of exp(score).

    Time grows with time steps times tags squared; the steps run in a loop of
    the compiled program, so compiling does not take longer for longer chains.
    The gradient by the emissions is `crf_marginals`, and is computed as these
    are, which takes memory for time steps times tags.

    Args:
        emissions: As in `crf_log_likelihood`.
        transitions: As in `crf_log_likelihood`.
        start: As in `crf_log_likelihood`.
        end: As in `crf_log_likelihood`.
        mask: As in `crf_log_likelihood`.

    Returns:
        `(batch,)`, in nats: float64 if the emissions are, else float32. 0
        without steps; -inf if scores of -inf forbid every path.

    Raises:
        ValueError: If shapes do not fit.

    Examples:
        >>> value = crf_log_norm(np.zeros((1, 3, 2)), np.zeros((2, 2)))
        >>> round(
        ...     float(np.exp(float(value[0]))), 4
        ... )  # 2 * 2 * 2 paths of score 0.
        8.0

    Reference:
        Sutton & McCallum, 2012, [An introduction to conditional random
        fields](https://arxiv.org/abs/1011.4088), section 4.1.
    """
    return _log_norm(*_floats(_chain(emissions, transitions, start, end, mask)))


def crf_sequence_score(
    tags: Any,
    emissions: Any,
    transitions: Any,
    start: Any = None,
    end: Any = None,
    mask: Any = None,
) -> Any:
    """Gives the score of sequences of tags.

    Args:
        tags: As in `crf_log_likelihood`.
        emissions: As in `crf_log_likelihood`.
        transitions: As in `crf_log_likelihood`.
        start: As in `crf_log_likelihood`.
        end: As in `crf_log_likelihood`.
        mask: As in `crf_log_likelihood`.

    Returns:
        `(batch,)`, the sum of the scores of the tags and of their
        transitions: float64 if the emissions are, else float32. 0 without
        steps. NaN in compiled code if a tag is out of range.

    Raises:
        ValueError: As `crf_log_likelihood`.

    Examples:
        >>> emissions = np.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> transitions = np.array([[10.0, 20.0], [30.0, 40.0]])
        >>> value = crf_sequence_score([[1, 0]], emissions, transitions)
        >>> float(value[0])  # 2 + 30 + 3
        35.0
    """
    return _score(_chain(emissions, transitions, start, end, mask), tags)


def crf_marginals(
    emissions: Any,
    transitions: Any,
    start: Any = None,
    end: Any = None,
    mask: Any = None,
) -> Any:
    """Gives the probability of each tag at each step, over all paths.

    Use it for the confidence of a tag. The most probable tags of the steps
    need not form the most probable path, which is `viterbi_decode`.

    Args:
        emissions: As in `crf_log_likelihood`.
        transitions: As in `crf_log_likelihood`.
        start: As in `crf_log_likelihood`.
        end: As in `crf_log_likelihood`.
        mask: As in `crf_log_likelihood`.

    Returns:
        `(batch, time, tags)`, float64 if the emissions are, else float32. 0
        at masked steps, and where every path is forbidden. Gradients do not
        pass.

    Raises:
        ValueError: If shapes do not fit.

    Examples:
        >>> emissions = np.array([[[np.log(3), 0.0], [0.0, 0.0]]])
        >>> p = crf_marginals(emissions, [[0.0, -np.inf], [-np.inf, 0.0]])
        >>> p = keras.ops.convert_to_numpy(p)
        >>> p.round(2).tolist()  # The tag cannot change.
        [[[0.75, 0.25], [0.75, 0.25]]]

    Reference:
        Sutton & McCallum, 2012, [An introduction to conditional random
        fields](https://arxiv.org/abs/1011.4088), section 4.1,
        *forward-backward*.
    """
    chain = _chain(emissions, transitions, start, end, mask)
    _, messages = _forward(chain)
    return ops.stop_gradient(_posterior(chain, messages))


def viterbi_decode(
    emissions: Any,
    transitions: Any,
    start: Any = None,
    end: Any = None,
    mask: Any = None,
    allowed_transitions: Any = None,
    allowed_tags: Any = None,
) -> tuple[Any, Any]:
    """Finds the path of the highest score, also among allowed ones alone.

    Of equal paths it gives the one whose last tag is the smallest, of these
    the one whose last tag but one is, and so on.

    Args:
        emissions: As in `crf_log_likelihood`.
        transitions: As in `crf_log_likelihood`.
        start: As in `crf_log_likelihood`.
        end: As in `crf_log_likelihood`.
        mask: As in `crf_log_likelihood`.
        allowed_transitions: `(tags, tags)`, boolean: whether tag i may be
            followed by tag j. Or `(tags + 1, tags + 1)`, as `bio_transitions`
            gives it: the last row says which tags may be the first, the last
            column which may be the last. None for all.
        allowed_tags: `(tags,)`, `(time, tags)` or `(batch, time, tags)`,
            boolean: which tags a step may have. None for all.

    Returns:
        The tags, `(batch, time)`, int32, -1 at masked steps; and their scores,
        `(batch,)`, as `crf_sequence_score` gives them, -inf if no path is
        allowed, for which the tags mean nothing.

    Raises:
        ValueError: If shapes do not fit.

    Examples:
        >>> emissions = np.array([[[0.0, 1.0], [5.0, 0.0], [0.0, 1.0]]])
        >>> stay = np.array([[True, False], [False, True]])
        >>> for allowed in (None, stay):
        ...     tags, scores = viterbi_decode(
        ...         emissions, np.zeros((2, 2)), allowed_transitions=allowed
        ...     )
        ...     keras.ops.convert_to_numpy(tags).tolist(), float(scores[0])
        ([[1, 0, 1]], 7.0)
        ([[0, 0, 0]], 5.0)

    Reference:
        Viterbi, 1967, [Error bounds for convolutional codes and an
        asymptotically optimum decoding
        algorithm](https://doi.org/10.1109/TIT.1967.1054010).
    """
    chain = _chain(emissions, transitions, start, end, mask)
    chain = _constrained(chain, allowed_transitions, allowed_tags)
    tags = _best(chain)
    scores = _score(chain, tags)
    return ops.where(chain.mask, tags, -1), ops.stop_gradient(scores)


def crf_pack(
    emissions: Any, transitions: Any, start: Any, end: Any, mask: Any
) -> Any:
    """Puts a batch of chains into one tensor, for losses to take.

    Transitions, start and end become rows before those of the steps, and the
    mask the last column: `(batch, tags + 2 + time, tags + 1)`.
    """
    batch, tags = ops.shape(emissions)[0], emissions.shape[-1]
    shared = ops.concatenate([transitions, start[None], end[None]], axis=0)
    shared = ops.broadcast_to(shared[None], (batch, tags + 2, tags))
    column = ops.cast(mask, emissions.dtype)[..., None]
    rows = ops.concatenate([emissions, column], axis=-1)
    padding = ops.zeros_like(shared[..., :1])
    shared = ops.concatenate([shared, padding], axis=-1)
    return ops.concatenate([shared, rows], axis=1)


def crf_unpack(scores: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Takes apart what `kerascomp.layers.CRF` returns and models predict.

    Use it for everything that is not tags: `crf_marginals(*crf_unpack(
    model.predict(x)))`, `viterbi_decode(*crf_unpack(...))`.

    Args:
        scores: `(batch, tags + 2 + time, tags + 1)`, float.

    Returns:
        The emissions, transitions, start, end and mask that
        `crf_log_likelihood` and the others take, each with a batch axis.

    Raises:
        ValueError: If `scores` has another shape.

    Examples:
        >>> scores = np.arange(15.0).reshape(1, 5, 3)  # One step, two tags.
        >>> parts = crf_unpack(scores)
        >>> for part in parts[:4]:
        ...     keras.ops.convert_to_numpy(part).tolist()
        [[[12.0, 13.0]]]
        [[[0.0, 1.0], [3.0, 4.0]]]
        [[6.0, 7.0]]
        [[9.0, 10.0]]
    """
    scores = ops.convert_to_tensor(scores)
    shape = tuple(scores.shape)
    if len(shape) != 3 or shape[2] is None or shape[2] < 2:
        _refuse_packed(shape)
    tags = shape[2] - 1
    if shape[1] is not None and shape[1] < tags + 3:
        _refuse_packed(shape)
    rows = scores[..., :tags]
    return (
        rows[:, tags + 2 :],
        rows[:, :tags],
        rows[:, tags],
        rows[:, tags + 1],
        scores[:, tags + 2 :, tags] > 0.5,
    )


def _refuse_packed(shape: tuple) -> None:
    raise ValueError(
        "`scores` must be the output of a `CRF` layer, of shape "
        "(batch, tags + 2 + time, tags + 1) with one step at least. "
        f"Received: scores.shape={shape}"
    )


def bio_transitions(labels: Sequence[str], scheme: str = "BIO") -> list:
    """Says which tags may follow each other where tags mark spans.

    Use it as `allowed_transitions` of `viterbi_decode` or
    `kerascomp.layers.ViterbiDecoder`, so that each prediction is made of whole
    spans.

    Args:
        labels: The names of the tags in the order of their numbers, such as
            `["O", "B-PER", "I-PER"]`.
        scheme: `"BIO"`, where `I` follows `B` or `I` of its type, also known
            as IOB2; or `"BIOES"`, where spans end in `E` and those of one
            step are `S`.

    Returns:
        `(tags + 1, tags + 1)` booleans as lists: whether the tag of the row
        may be followed by that of the column. The last row says which tags
        may be the first, the last column which may be the last.

    Raises:
        ValueError: If a label is not `"O"` or a prefix of the scheme, a hyphen
            and a type.

    Examples:
        >>> for row in bio_transitions(["O", "B-PER", "I-PER"]):
        ...     print(*map(int, row))
        1 1 0 1
        1 1 1 1
        1 1 1 1
        1 1 0 1
    """
    _validation.one_of("scheme", scheme, ("BIO", "BIOES"))
    parts = [_label(label, scheme) for label in labels] + [("O", "")]
    return [[_may_follow(a, b, scheme) for b in parts] for a in parts]


def _label(label: str, scheme: str) -> tuple[str, str]:
    prefix, hyphen, kind = label.partition("-")
    if label != "O" and not (hyphen and prefix in scheme and prefix not in "O"):
        raise ValueError(
            f"`labels` must be 'O', or one of the prefixes of {scheme} with a "
            f"hyphen and a type. Received: {label!r}"
        )
    return prefix, kind


def _may_follow(a: tuple, b: tuple, scheme: str) -> bool:
    """Whether tag `a` may be followed by `b`; the boundary is like "O"."""
    continues, goes_on = b[0] in ("I", "E"), a[0] in ("B", "I")
    if continues:
        return goes_on and a[1] == b[1]
    return scheme == "BIO" or not goes_on


def _chain(
    emissions: Any, transitions: Any, start: Any, end: Any, mask: Any
) -> _Chain:
    """Checks shapes, adds what is missing, and widens half precision."""
    emissions = ops.convert_to_tensor(emissions)
    shape = tuple(emissions.shape)
    if len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            "`emissions` must have the shape (batch, time, tags). "
            f"Received: emissions.shape={shape}"
        )
    dtype = keras.backend.standardize_dtype(emissions.dtype)
    dtype = "float64" if dtype == "float64" else "float32"
    emissions = ops.cast(emissions, dtype)
    batch, tags = ops.shape(emissions)[0], shape[-1]

    def part(name: str, given: Any, *axes: int) -> Any:
        given = ops.cast(ops.convert_to_tensor(given), dtype)
        found = tuple(given.shape)
        if not (
            found == axes or _numerics.same_shape(found, (shape[0], *axes))
        ):
            raise ValueError(
                f"`{name}` must have the shape {axes}, with or without the "
                f"axis of the batch. Received: {name}.shape={found}"
            )
        return ops.broadcast_to(given, (batch, *axes))

    zeros = np.zeros(tags)
    return _Chain(
        emissions,
        part("transitions", transitions, tags, tags),
        part("start", zeros if start is None else start, tags),
        part("end", zeros if end is None else end, tags),
        _mask(mask, emissions),
    )


def _mask(mask: Any, emissions: Any) -> Any:
    if mask is None:
        return ops.ones_like(emissions[..., 0], dtype="bool")
    mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    if not _numerics.same_shape(mask.shape, emissions.shape[:2]):
        raise ValueError(
            "`mask` must have the shape (batch, time) of the emissions, "
            f"{tuple(emissions.shape[:2])}. Received: "
            f"mask.shape={tuple(mask.shape)}"
        )
    return mask


def _floats(chain: _Chain) -> tuple:
    """The chain as functions with a gradient of their own take it."""
    return (*chain[:4], ops.cast(chain.mask, chain.emissions.dtype))


def _constrained(chain: _Chain, transitions: Any, tags: Any) -> _Chain:
    """Gives what is not allowed the score -inf."""
    dtype = chain.emissions.dtype

    def penalty(allowed: Any) -> Any:
        allowed = ops.cast(ops.convert_to_tensor(allowed), "bool")
        forbidden = ops.cast(ops.full(allowed.shape, -np.inf), dtype)
        return ops.where(allowed, ops.zeros_like(forbidden), forbidden)

    size, steps = chain.emissions.shape[-1], chain.emissions.shape
    if tags is not None:
        scores = penalty(tags)
        shape = tuple(scores.shape)
        # Read from the end, so that axes may be missing.
        if not _numerics.same_shape(shape, steps[3 - len(shape) :]):
            raise ValueError(
                "`allowed_tags` must have the shape (tags,), (time, tags) or "
                f"(batch, time, tags) of the emissions, {tuple(steps)}. "
                f"Received: allowed_tags.shape={shape}"
            )
        chain = chain._replace(emissions=chain.emissions + scores)
    if transitions is None:
        return chain
    scores = penalty(transitions)
    if tuple(scores.shape) not in ((size, size), (size + 1, size + 1)):
        raise ValueError(
            f"`allowed_transitions` must have the shape {(size, size)}, or one "
            "more of each for the first and the last. Received: "
            f"allowed_transitions.shape={tuple(scores.shape)}"
        )
    chain = chain._replace(transitions=chain.transitions + scores[:size, :size])
    if scores.shape[0] == size:
        return chain
    return chain._replace(
        start=chain.start + scores[size, :size],
        end=chain.end + scores[:size, size],
    )


def _score(chain: _Chain, tags: Any) -> Any:
    """The score of a path: `(batch,)`."""
    emissions, transitions, start, end, mask = chain
    tags = ops.convert_to_tensor(tags)
    require_tags_of(tags, emissions)
    size = emissions.shape[-1]
    is_tag = _in_range(tags, mask, size)
    # Masked and bad ones must not be looked up.
    tags = ops.where(ops.logical_and(mask, is_tag), ops.cast(tags, "int32"), 0)
    is_own = ops.arange(size, dtype="int32") == tags[..., None]
    is_own = ops.logical_and(is_own, mask[..., None])
    at_steps = _sum_where(is_own, emissions, (1, 2))
    # Neighbors, with the masked steps moved to the end.
    time = ops.cumsum(ops.ones_like(tags), axis=1) - 1
    length = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
    order = ops.argsort(
        ops.where(mask, time, time + ops.shape(tags)[1]), axis=1
    )
    tags = ops.take_along_axis(tags, order, axis=1)
    pairs = ops.take_along_axis(
        ops.reshape(transitions, (-1, size * size)),
        tags[:, :-1] * size + tags[:, 1:],
        axis=1,
    )
    between = _sum_where(time[:, 1:] < length, pairs, 1)
    last = ops.take_along_axis(tags, ops.maximum(length - 1, 0), axis=1)
    ends = ops.take_along_axis(start, tags[:, :1], axis=1)
    ends = (ends + ops.take_along_axis(end, last, axis=1))[:, 0]
    score = at_steps + between + _where(length[:, 0] > 0, ends)
    bad = ops.any(ops.logical_and(mask, ops.logical_not(is_tag)), axis=1)
    return ops.where(bad, float("nan"), score)


def require_tags_of(tags: Any, emissions: Any) -> None:
    """Raises unless there is one tag for each step."""
    if not _numerics.same_shape(tags.shape, emissions.shape[:2]):
        raise ValueError(
            "Tags must have the shape (batch, time) of the emissions, "
            f"{tuple(emissions.shape[:2])}. Received: {tuple(tags.shape)}"
        )


def _where(condition: Any, values: Any) -> Any:
    return ops.where(condition, values, ops.zeros_like(values))


def _sum_where(condition: Any, values: Any, axis: Any) -> Any:
    return ops.sum(_where(condition, values), axis=axis)


def _in_range(tags: Any, mask: Any, size: int) -> Any:
    """Whether each is a tag; raises for one that is not, where it is seen."""
    is_tag = ops.logical_and(tags >= 0, tags < size)
    found, real = _numerics.readable(tags), _numerics.readable(mask)
    if found is not None and real is not None:
        bad = real & ~((found >= 0) & (found < size))
        if bad.any():
            raise ValueError(
                f"Tags must be integers in [0, {size}) where they are not "
                f"masked. Received: {found[bad][0]}"
            )
    return is_tag


def _normalized(scores: Any) -> tuple[Any, Any]:
    """Scores as logarithms of shares, so that long chains keep their digits.

    Also what was taken off. Not the largest, which Keras does not give of a
    batch of size 0.
    """
    total = ops.logsumexp(scores, axis=-1, keepdims=True)
    total = ops.maximum(total, LOWEST)  # All may be -inf.
    return scores - total, total


def _in_time(chain: _Chain) -> Any:
    """Emissions and mask as one tensor to scan, time first.

    One, since Keras on TensorFlow scans several only if their length is known
    when the program is traced.
    """
    mask = ops.cast(chain.mask, chain.emissions.dtype)[..., None]
    rows = ops.concatenate([chain.emissions, mask], axis=-1)
    return ops.swapaxes(rows, 0, 1)


def _forward(chain: _Chain) -> tuple[Any, Any]:
    """Sums over all that lies before.

    Returns:
        What of a path ends in each tag of the last step before each step,
        and what it brings to each tag of the step: both `(batch, time + 1,
        tags)`, logarithms up to a constant at each step.
    """
    transitions = chain.transitions

    def step(carry: Any, row: Any) -> Any:
        message, before = carry
        is_step = row[:, -1:] > 0.5
        after, _ = _normalized(message + row[:, :-1])
        onward = ops.logsumexp(after[:, :, None] + transitions, axis=1)
        new = (
            ops.where(is_step, onward, message),
            ops.where(is_step, after, before),
        )
        return new, carry

    first = chain.start, ops.zeros_like(chain.start)
    last, all_before = ops.scan(step, first, _in_time(chain))
    messages, before = (
        ops.concatenate([ops.swapaxes(each, 0, 1), end[:, None]], axis=1)
        for each, end in zip(all_before, last, strict=True)
    )
    return before, messages


def _backward(chain: _Chain) -> Any:
    """What all that lies behind brings to each tag: as from `_forward`."""
    transitions = chain.transitions

    def step(message: Any, row: Any) -> Any:
        after, _ = _normalized(message + row[:, :-1])
        onward = ops.logsumexp(after[:, None] + transitions, axis=2)
        return ops.where(row[:, -1:] > 0.5, onward, message), message

    _, messages = ops.scan(step, chain.end, _in_time(chain), reverse=True)
    return ops.swapaxes(messages, 0, 1)


def _posterior(chain: _Chain, messages: Any) -> Any:
    """The probability of each tag at each step; 0 where there is none."""
    joint = messages[:, :-1] + chain.emissions + _backward(chain)
    log_share, _ = _normalized(joint)
    return _where(chain.mask[..., None], ops.exp(log_share))


def _best(chain: _Chain) -> Any:
    """The tags of the best path; arbitrary at masked steps."""
    transitions, size = chain.transitions, chain.emissions.shape[-1]
    same = ops.zeros_like(chain.start, dtype="int32")
    same = same + ops.arange(size, dtype="int32")

    def step(carry: Any, row: Any) -> Any:
        message, before, _ = carry
        is_step = row[:, -1:] > 0.5
        after, _ = _normalized(message + row[:, :-1])
        through = after[:, :, None] + transitions
        source = ops.cast(ops.argmax(through, axis=1), "int32")
        best = ops.take_along_axis(through, source[:, None], axis=1)[:, 0]
        carry = (
            ops.where(is_step, best, message),
            ops.where(is_step, after, before),
            ops.where(is_step, source, same),
        )
        return carry, carry

    first = chain.start, ops.zeros_like(chain.start), same
    (_, last, _), (_, _, sources) = ops.scan(step, first, _in_time(chain))
    tag = ops.cast(ops.argmax(last + chain.end, axis=-1), "int32")
    # The last step has no next one to lead to.
    sources = ops.swapaxes(sources, 0, 1)
    is_before = _has_next(chain.mask)[..., None]
    sources = ops.where(is_before, sources, same[:, None])

    def back(tag: Any, source: Any) -> Any:
        found = ops.take_along_axis(source, tag[:, None], axis=1)[:, 0]
        return found, found

    _, tags = ops.scan(back, tag, ops.swapaxes(sources, 0, 1), reverse=True)
    return ops.swapaxes(tags, 0, 1)


def _has_next(mask: Any) -> Any:
    """Whether a step comes behind each place."""
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    return count < count[:, -1:]


def _has_previous(mask: Any) -> Any:
    """Whether a step comes before each place."""
    count = ops.cast(mask, "int32")
    return ops.cumsum(count, axis=1) > count


# By hand, since XLA cannot differentiate a loop whose length it is not told,
# and since a loop that is differentiated keeps `tags` squared numbers a step.
@ops.custom_gradient
def _log_norm(
    emissions: Any, transitions: Any, start: Any, end: Any, mask: Any
) -> Any:
    chain = _Chain(emissions, transitions, start, end, mask > 0.5)
    before, messages = _forward(chain)
    _, scale = _normalized(messages[:, :-1] + emissions)
    scale = _sum_where(chain.mask, scale[..., 0], 1)
    total = scale + ops.logsumexp(before[:, -1] + end, axis=-1)
    is_any = ops.any(chain.mask, axis=1)

    def gradient(*args: Any, upstream: Any = None) -> Any:
        if upstream is None:  # Torch passes the arguments as well.
            (upstream,) = args
        p = _posterior(chain, messages) * upstream[:, None, None]
        is_last = ops.logical_not(_has_next(chain.mask))
        inner = _where(_has_previous(chain.mask)[..., None], p)
        return (
            p,
            _pairs(chain, before[:, :-1], messages[:, :-1], inner),
            ops.sum(p - inner, axis=1),
            _sum_where(is_last[..., None], p, 1),
            ops.zeros_like(mask),
        )

    return _where(is_any, total), gradient


def _pairs(chain: _Chain, before: Any, messages: Any, p: Any) -> Any:
    """Sums over time how often tag i is followed by tag j.

    Row by row, so as not to hold `time` times `tags` squared numbers at once.
    """
    messages = ops.where(messages > -np.inf, messages, 0.0)

    def row(source: Any) -> Any:
        before, transitions = source[:, :-size], source[:, -size:]
        through = before[..., None] + transitions[:, None] - messages
        return ops.sum(p * ops.exp(through), axis=1)

    size = chain.emissions.shape[-1]
    before = ops.transpose(before, (2, 0, 1))
    transitions = ops.swapaxes(chain.transitions, 0, 1)
    sources = ops.concatenate([before, transitions], axis=-1)
    return ops.swapaxes(ops.map(row, sources), 0, 1)
