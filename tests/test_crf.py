"""The numbers of conditional random fields, against all paths one by one."""

import itertools

import keras
import numpy as np
import pytest
import sequence_reference as reference
from backend import NAME, central_difference, compiled, gradient

from kerascomp import _chains, export
from kerascomp.layers import (
    CRF,
    ViterbiDecoder,
    bio_transitions,
    crf_log_likelihood,
    crf_log_norm,
    crf_marginals,
    crf_sequence_score,
    crf_unpack,
    viterbi_decode,
)
from kerascomp.losses import CRFNegativeLogLikelihood
from kerascomp.metrics import ViterbiAccuracy

ops = keras.ops

# Lengths 1 to 5, then padding in front, gaps, and no step at all.
MASK = np.array(
    [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [0, 1, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ],
    bool,
)
BATCH, TIME, TAGS = 8, 5, 3
EMPTY = 7


def parts(seed, shared=False, whole=False):
    """Scores of a batch, each sequence with transitions of its own."""
    rng = np.random.default_rng(seed)
    batch = () if shared else (BATCH,)
    shapes = ((BATCH, TIME, TAGS), (*batch, TAGS, TAGS), *[(*batch, TAGS)] * 2)
    drawn = [1.5 * rng.normal(size=shape) for shape in shapes]
    if whole:  # Many paths have the same score.
        drawn = [np.round(each / 1.5) for each in drawn]
    return [each.astype("float32") for each in drawn]


def chains(given):
    """Each sequence without its masked steps, in float64."""
    for b, mask in enumerate(MASK):
        emissions, *others = (np.asarray(each, "float64") for each in given)
        if others[0].ndim == 3:
            others = [each[b] for each in others]
        yield emissions[b][mask], *others


def arrays(tensors):
    return [ops.convert_to_numpy(each) for each in tensors]


@pytest.fixture(scope="module")
def tags():
    drawn = np.random.default_rng(5).integers(0, TAGS, size=(BATCH, TIME))
    return np.where(MASK, drawn, -9)


@pytest.mark.parametrize("shared", [False, True])
def test_everything_equals_the_sum_over_all_paths(tags, shared):
    given = parts(1, shared)

    def everything(emissions):
        chain = (emissions, *given[1:], MASK)
        return (
            crf_log_norm(*chain),
            crf_sequence_score(tags, *chain),
            crf_log_likelihood(tags, *chain),
            crf_marginals(*chain),
            *viterbi_decode(*chain),
        )

    received = arrays(compiled(everything)(given[0]))
    for b, chain in enumerate(chains(given)):
        norm, score, likelihood, marginals, path, highest = (
            each[b] for each in received
        )
        expected = reference.log_norm(*chain)
        own = reference.score(tags[b][MASK[b]], *chain)
        assert norm == pytest.approx(expected, 2e-6, 2e-6)
        assert score == pytest.approx(own, 2e-6, 2e-6)
        assert likelihood == pytest.approx(own - expected, 5e-6, 5e-6)
        assert (path[~MASK[b]] == -1).all()
        assert (marginals[~MASK[b]] == 0).all()
        if b != EMPTY:
            np.testing.assert_allclose(
                marginals[MASK[b]], reference.marginals(*chain), atol=2e-6
            )
            best, top = reference.best(*chain)
            assert path[MASK[b]].tolist() == best
            assert highest == pytest.approx(top, 2e-6)


def test_of_equal_paths_it_finds_the_smallest_from_the_end():
    given = parts(2, whole=True)
    found = compiled(lambda e: viterbi_decode(e, *given[1:], MASK))(given[0])
    paths, _ = arrays(found)
    ties = 0
    for b, chain in enumerate(chains(given)):
        if b != EMPTY:
            assert paths[b][MASK[b]].tolist() == reference.best(*chain)[0]
            scores = reference.paths(*chain)[1]
            ties += (scores == scores.max()).sum() > 1
    assert ties >= 2


def packed_rows(emissions, transitions, start, end):
    """Scores as a `CRF` layer packs them."""
    rows = [transitions, start[:, None], end[:, None], emissions]
    rows = np.concatenate(rows, axis=1)
    column = np.concatenate([np.zeros((BATCH, TAGS + 2)), MASK], axis=1)
    packed = np.concatenate([rows, column[..., None]], axis=-1)
    return packed.astype("float32")


def test_gradients_equal_central_differences(tags):
    given = parts(3)
    weights = np.arange(1.0, BATCH + 1)

    def value(packed):
        chain = crf_unpack(packed)
        total = crf_log_norm(*chain) - 2 * crf_sequence_score(tags, *chain)
        return ops.sum(total * ops.cast(weights, "float32"))

    received = gradient(value, packed_rows(*given))
    assert (received[..., -1] == 0).all()  # The mask has none.
    received = arrays(crf_unpack(received))
    for b, (own, mask) in enumerate(zip(tags, MASK, strict=True)):
        for place, part in enumerate(given):

            def exact(x, b=b, place=place, own=own[mask], mask=mask):
                chain = [each[b].astype("float64") for each in given]
                chain[place] = x
                chain[0] = chain[0][mask]
                norm = reference.log_norm(*chain)
                return norm - 2 * reference.score(own, *chain)

            expected = weights[b] * central_difference(exact, part[b])
            # Of float32 and of the differences, times up to 8.
            np.testing.assert_allclose(received[place][b], expected, atol=2e-5)


def test_the_gradient_of_the_sum_over_paths_is_the_marginals():
    emissions, *others = parts(3)
    received = gradient(
        lambda e: ops.sum(crf_log_norm(e, *others, MASK)), emissions
    )
    p = ops.convert_to_numpy(crf_marginals(emissions, *others, MASK))
    np.testing.assert_allclose(received, p, atol=1e-6)


def test_a_score_of_minus_infinity_forbids():
    emissions = np.zeros((3, 3, 2), "float32")
    emissions[0, 1] = [-np.inf, 0]
    emissions[1, 1] = -np.inf  # No path at all.
    change = np.array([[0, 0], [-np.inf, 0]], "float32")
    tags = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 1]])

    def both(e):
        return crf_log_norm(e, change), crf_log_likelihood(tags, e, change)

    norm, likelihood = arrays(compiled(both)(emissions))
    # Paths 011 and 111; none; and 000, 001, 011, 111.
    np.testing.assert_allclose(norm, [np.log(2), -np.inf, np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(
        likelihood, [-np.log(2), -np.inf, -np.inf], rtol=1e-6
    )
    by_transitions = gradient(
        lambda x: ops.sum(crf_log_norm(emissions[::2], x)), change
    )
    # How often each transition is expected, summed over both sequences.
    np.testing.assert_allclose(
        by_transitions, [[0.75, 1.0], [0, 2.25]], rtol=1e-5
    )


def test_allowed_paths_alone_are_found(rng):
    given = parts(4)
    edges = np.ones((TAGS + 1, TAGS + 1), bool)
    edges[0, 2] = edges[TAGS, 1] = edges[2, TAGS] = False
    steps = rng.random((TIME, TAGS)) < 0.8
    steps[:, 0] = True
    forbidden = np.where(edges, 0, -np.inf)

    def decode(emissions):
        return (
            *viterbi_decode(emissions, *given[1:], MASK, edges, steps),
            viterbi_decode(
                emissions, *given[1:], MASK, edges[:-1, :-1], steps[0]
            )[0],
        )

    paths, scores, others = arrays(compiled(decode)(given[0]))
    for b, (emissions, transitions, start, end) in enumerate(chains(given)):
        if b == EMPTY:
            continue
        inner = transitions + forbidden[:-1, :-1]
        best, top = reference.best(
            emissions + np.where(steps, 0, -np.inf)[MASK[b]],
            inner,
            start + forbidden[-1, :-1],
            end + forbidden[:-1, -1],
        )
        assert paths[b][MASK[b]].tolist() == best
        assert scores[b] == pytest.approx(top, 2e-6)
        first = emissions + np.where(steps[0], 0, -np.inf)
        best, _ = reference.best(first, inner, start, end)
        assert others[b][MASK[b]].tolist() == best


@pytest.mark.parametrize(
    ("scheme", "good", "bad"),
    [
        (
            "BIO",
            ["B-a I-a B-a O", "B-b", "O O B-a"],
            ["I-a", "B-b I-a", "O I-b"],
        ),
        (
            "BIOES",
            ["B-a I-a E-a O S-b", "B-b E-b B-a E-a"],
            ["B-a", "S-a E-a", "B-a O", "B-a E-b", "O I-a E-a", "E-a"],
        ),
    ],
)
def test_spans_begin_and_end_as_their_scheme_says(scheme, good, bad):
    labels = ["O", *(f"{p}-{t}" for t in "ab" for p in scheme if p != "O")]
    allowed = bio_transitions(labels, scheme)

    def is_allowed(text):
        path = [len(labels), *map(labels.index, text.split()), len(labels)]
        return all(allowed[a][b] for a, b in itertools.pairwise(path))

    assert [*map(is_allowed, good)] == [True] * len(good)
    assert [*map(is_allowed, bad)] == [False] * len(bad)
    with pytest.raises(ValueError, match=r"Received: 'X-a'"):
        bio_transitions(["X-a"], scheme)


def test_long_chains_keep_their_digits(rng):
    emissions = rng.normal(size=(1, 2000, 4)).astype("float32")
    transitions = 2 * rng.normal(size=(4, 4)).astype("float32")
    received = compiled(lambda e: crf_log_norm(e, transitions))(emissions)
    expected = reference.long_log_norm(
        emissions[0].astype("float64"), transitions.astype("float64")
    )
    assert float(received[0]) == pytest.approx(expected, 1e-6)


def test_scores_of_many_thousands_stay_finite():
    emissions = np.array([[[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]]], "float32")
    by_emissions = gradient(
        lambda e: ops.sum(crf_log_norm(e, 1e4 * np.eye(2))), emissions
    )
    # 0, 1, 1 has 3e4 + 1e4, more than 0, 1, 0 and all others.
    np.testing.assert_allclose(by_emissions[0], [[1, 0], [0, 1], [0, 1]])


def test_bad_tags_raise_where_they_can_be_seen_and_else_give_nan(tags):
    given = parts(1)
    bad = tags.copy()
    bad[2, 1] = TAGS
    with pytest.raises(ValueError, match=r"in \[0, 3\).*Received: 3"):
        crf_log_likelihood(bad, *given, MASK)

    def value(y):
        return crf_sequence_score(y, *given, MASK)

    if NAME != "torch":  # Nothing is compiled there.
        received = ops.convert_to_numpy(compiled(value)(bad))
        assert np.isnan(received).tolist() == [b == 2 for b in range(BATCH)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emissions": np.zeros((2, 3))}, r"`emissions` must have"),
        ({"transitions": np.zeros((3, 4))}, r"`transitions` must have"),
        ({"start": np.zeros(2)}, r"`start` must have the shape \(3,\)"),
        ({"end": np.zeros((5, 3))}, r"`end` must have the shape \(3,\)"),
        ({"mask": np.ones((2, 5))}, r"`mask` must have the shape"),
        ({"allowed_tags": np.ones(4)}, r"`allowed_tags` must have"),
        ({"allowed_transitions": np.ones((2, 2))}, r"`allowed_transitions`"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    good = {"emissions": np.zeros((2, 4, 3)), "transitions": np.zeros((3, 3))}
    with pytest.raises(ValueError, match=message):
        viterbi_decode(**{**good, **change})


def test_tags_and_scores_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="Tags must have the shape"):
        crf_sequence_score(np.zeros((2, 3)), np.zeros((2, 4, 3)), np.eye(3))
    for shape in ((2, 3), (2, 4, 3), (2, 9, 1)):
        with pytest.raises(ValueError, match="output of a `CRF` layer"):
            crf_unpack(np.zeros(shape))


def test_the_recursion_of_the_reference_is_the_sum_over_all_paths():
    emissions, transitions, *_ = parts(1, shared=True)
    exact = reference.log_norm(
        emissions[0], transitions, np.zeros(TAGS), np.zeros(TAGS)
    )
    received = reference.long_log_norm(emissions[0], transitions)
    assert received == pytest.approx(exact, 1e-5)


def test_the_layer_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="`units` must be an integer"):
        CRF(units=1)
    with pytest.raises(ValueError, match=r"shape \(batch, time, features\)"):
        CRF(units=3).build((2, 4))
    with pytest.raises(ValueError, match="features must be known"):
        CRF(units=3).build((2, 4, None))
    with pytest.raises(ValueError, match="one score for each tag"):
        CRF(units=3, use_kernel=False).build((2, 4, 5))


def test_the_output_holds_weights_scores_and_mask(rng):
    layer = CRF(TAGS, transition_initializer="he_normal")
    x = rng.normal(size=(2, 4, 5)).astype("float32")
    mask = np.array([[1, 1, 1, 0], [0, 1, 0, 1]], bool)
    found = arrays(crf_unpack(layer(x, mask=mask)))
    kernel, bias, transitions, start, end = arrays(layer.weights)
    np.testing.assert_allclose(found[0], x @ kernel + bias, atol=1e-5)
    for part, weight in zip(found[1:4], (transitions, start, end), strict=True):
        np.testing.assert_allclose(part, np.stack([weight] * 2), rtol=1e-6)
    assert (found[4] == mask).all()


def test_without_transitions_the_loss_is_the_crossentropy(rng):
    x = np.array([[3, 1, 2, 0], [1, 2, 0, 0]])
    y = rng.integers(0, TAGS, size=(2, 4))
    inputs = keras.Input((None,), dtype="int32")
    features = keras.layers.Embedding(5, 6, mask_zero=True)(inputs)
    crf = CRF(TAGS)
    model = keras.Model(inputs, crf(features))
    model.compile(
        "sgd", CRFNegativeLogLikelihood(), metrics=[ViterbiAccuracy()]
    )
    received = model.evaluate(x, y[..., None], verbose=0, return_dict=True)
    logits = ops.convert_to_numpy(crf_unpack(model(x))[0])
    each = keras.losses.SparseCategoricalCrossentropy(True, reduction=None)
    real = x > 0
    expected = (ops.convert_to_numpy(each(y, logits)) * real).sum() / 2
    assert received["loss"] == pytest.approx(expected, 2e-6)
    hits = logits.argmax(-1) == y
    assert received["viterbi_accuracy"] == pytest.approx(hits[real].mean())


def spans(rng, count, length):
    """Sentences of spans of two or three words, which all look alike.

    Features tell, most of the time, whether a word is in a span; which word of
    it, only its neighbors do. Tags are O, B, I.
    """
    tags = np.zeros((count, length), int)
    for row in tags:
        place = int(rng.integers(0, 3))
        while place + 3 <= length:
            size = int(rng.integers(2, 4))
            row[place : place + size] = [1, *[2] * (size - 1)]
            place += size + int(rng.integers(1, 4))
    seen = (tags > 0) ^ (rng.random(tags.shape) < 0.03)
    x = np.stack([seen, ~seen], axis=-1).astype("float32")
    x[count // 2 :, length - 3 :] = 0  # Padding.
    return x, tags


def tagger(last, loss, metric, data):
    """A trained model that sees each word alone, and its accuracy."""
    (x, y), test = data
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, last(keras.layers.Masking()(inputs)))
    model.compile(keras.optimizers.Adam(0.1), loss, weighted_metrics=[metric])
    model.fit(x, y, batch_size=50, epochs=12, verbose=0)
    return model, model.evaluate(*test, verbose=0)[1]


@pytest.mark.extended
def test_it_learns_what_no_tag_by_itself_can_and_survives_saving(rng, tmp_path):
    data = spans(rng, 200, 14), spans(rng, 100, 14)
    each = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    _, baseline = tagger(keras.layers.Dense(3), each, "accuracy", data)
    model, accuracy = tagger(
        CRF(3), CRFNegativeLogLikelihood(), ViterbiAccuracy(), data
    )
    # The better of "all B" and "all I" in spans; 5 points is far off noise.
    assert accuracy > 0.93 > baseline + 0.05
    x, y = data[1]
    allowed = bio_transitions(["O", "B-x", "I-x"])
    tags = keras.Model(model.input, ViterbiDecoder(allowed)(model.output))
    found = tags.predict(x, verbose=0)
    real = (x > 0).any(-1)
    assert (found[real] == y[real]).mean() > 0.93
    assert (found[~real] == -1).all()
    starts = np.pad(found, [(0, 0), (1, 0)])[:, :-1]
    assert not ((found == 2) & (starts <= 0)).any()
    model.save(tmp_path / "whole.keras")
    twin = keras.models.load_model(tmp_path / "whole.keras")
    assert twin.evaluate(x, y, verbose=0) == pytest.approx(
        model.evaluate(x, y, verbose=0), 1e-5
    )
    assert twin.train_on_batch(x, y)[0] > 0


@pytest.mark.slow  # Serves in a process of its own.
def test_a_tagger_is_exported(rng, tmp_path):
    inputs = keras.Input((None, 4))
    crf = CRF(TAGS, transition_initializer="he_normal")
    scores = crf(keras.layers.Masking()(inputs))
    allowed = np.triu(np.ones((TAGS, TAGS), bool)).tolist()
    tagger = keras.Model(inputs, ViterbiDecoder(allowed)(scores))
    x = rng.normal(size=(5, 9, 4)).astype("float32")
    x[2, 6:] = 0
    report = export.export_model(tagger, tmp_path, sample=x)["formats"]
    assert report["keras"]["status"] == "passed", report
    assert report["tf_saved_model"]["status"] != "failed", report


def test_mixed_precision_sums_in_float32(rng):
    x = rng.normal(size=(2, 60, 4)).astype("float32")
    y = rng.integers(0, TAGS, size=(2, 60))
    losses = []
    for dtype in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [CRF(TAGS, transition_initializer="he_normal", dtype=dtype)]
        )
        model.compile(keras.optimizers.SGD(0.01), CRFNegativeLogLikelihood())
        losses.append(model.train_on_batch(x, y))
        assert np.isfinite(model.get_weights()[2]).all()
    # Scores have 11 bits; sums of 60 of them keep these.
    assert losses[1] == pytest.approx(losses[0], 5e-4)


def test_the_metric_counts_steps_by_their_weight():
    scores = np.zeros((2, 7, 3), "float32")
    scores[:, 4:] = [[1, 0, 1], [0, 3, 1], [2, 0, 1]]  # The path 0, 1, 0.
    scores[1, 6, 2] = 0
    y = np.array([[0, 1, 1], [1, 1, 7]])
    metric = ViterbiAccuracy()
    metric.update_state(y, scores)
    assert float(metric.result()) == pytest.approx(3 / 5)
    metric.reset_state()
    metric.update_state(y, scores, sample_weight=np.array([2, 1]))
    assert float(metric.result()) == pytest.approx(5 / 8)
    y[0, 0] = 2
    with pytest.raises(ValueError, match=r"integers in \[0, 2\)"):
        metric.update_state(y, scores)
    scores[0, 4, 0] = np.nan
    metric.update_state(y % 2, scores)
    assert np.isnan(float(metric.result()))


def test_packing_and_unpacking_are_inverse():
    emissions, transitions, start, end = parts(1, shared=True)
    packed = _chains.crf_pack(
        *map(ops.convert_to_tensor, (emissions, transitions, start, end, MASK))
    )
    assert tuple(packed.shape) == (BATCH, TAGS + 2 + TIME, TAGS + 1)
    found = arrays(crf_unpack(packed))
    for part, given in zip(
        found, (emissions, transitions, start, end, MASK), strict=True
    ):
        assert (part == np.broadcast_to(given, part.shape)).all()
