"""The numbers of the losses on embeddings."""

import distances_reference as reference
import keras
import numpy as np
import pytest
from backend import central_difference, gradient
from scipy.spatial.distance import cdist

from kerascomp import layers, losses

ops = keras.ops

# Float32 distances by a matrix product.
RTOL = 1e-5
LABELS = np.array([2, 0, 2, 1, 0, 2, 3, 1])


def values(loss, y_true, y_pred):
    return ops.convert_to_numpy(loss(y_true, y_pred))


@pytest.fixture
def points(rng):
    return rng.normal(size=(8, 4)).astype("float32")


@pytest.fixture
def pairs(rng):
    return rng.normal(size=(8, 2, 4)).astype("float32")


def between(points, metric="euclidean"):
    points = np.asarray(points, "float64")
    return cdist(points, points, metric)


def semi_hard(points, labels=LABELS, margin=0.7):
    return reference.triplet_semi_hard(
        labels, between(points, "sqeuclidean"), margin
    )


def hard(points, labels=LABELS):
    return reference.triplet_hard(labels, between(points), 0.7, False)


def soft(points, labels=LABELS):
    return reference.triplet_hard(labels, between(points), 0.7, True)


def lifted(points, labels=LABELS):
    return reference.lifted_structure(labels, between(points), 0.7)


def contrast(points, labels=LABELS):
    return reference.supervised_contrastive(labels, points, 0.3)


MINED = [
    (losses.TripletSemiHard(margin=0.7), semi_hard),
    (losses.TripletHard(margin=0.7), hard),
    (losses.TripletHard(margin=0.7, soft_margin=True), soft),
    (losses.LiftedStructure(margin=0.7), lifted),
    (losses.SupervisedContrastive(temperature=0.3), contrast),
]
IDS = ["semi_hard", "hard", "soft", "lifted", "contrast"]
mined = pytest.mark.parametrize(("loss", "expected"), MINED, ids=IDS)


@mined
def test_loss_equals_the_equation(points, loss, expected):
    assert float(loss(LABELS, points)) == pytest.approx(
        expected(points.astype("float64")), rel=RTOL
    )


@mined
def test_gradient_equals_central_differences(points, loss, expected):
    np.testing.assert_allclose(
        gradient(lambda p: loss(LABELS, p), points),
        central_difference(expected, points, step=1e-6),
        rtol=1e-4,
        atol=2e-5,
    )


@mined
@pytest.mark.parametrize(
    "labels",
    [np.arange(8), np.zeros(8, int), np.array([0, 0, 0, 0, 0, 0, 0, 1])],
)
def test_batches_that_lack_pairs_are_finite(points, loss, expected, labels):
    value = float(loss(labels, points))
    assert value == pytest.approx(
        expected(points.astype("float64"), labels), rel=RTOL, abs=1e-7
    )
    assert np.isfinite(gradient(lambda p: loss(labels, p), points)).all()


@mined
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_large_and_equal_embeddings_are_finite(loss, expected, dtype):
    loss = type(loss).from_config({**loss.get_config(), "dtype": dtype})
    # The squares of distances must be numbers in half precision.
    sizes = [0, 0, 0, 0, 50, 50, -50, 50]
    if dtype == "float32":
        sizes = [200 * size for size in sizes]
    points = np.array([sizes] * 4, dtype).T
    assert np.isfinite(values(loss, LABELS, points))
    assert np.isfinite(gradient(lambda p: loss(LABELS, p), points)).all()


@mined
def test_sample_weights_act_on_anchors(points, loss, expected):
    weights = np.arange(8.0)
    loss = type(loss).from_config({**loss.get_config(), "reduction": None})
    each = values(loss, LABELS, points)
    assert each.shape == (8,)
    assert each.mean() == pytest.approx(
        expected(points.astype("float64")), rel=RTOL
    )
    weighted = ops.convert_to_numpy(loss(LABELS, points, weights))
    np.testing.assert_allclose(weighted, each * weights, rtol=1e-6)


def test_semi_hard_takes_no_negative_at_the_distance_of_the_positive():
    points = np.array([[0.0], [1.0], [-1.0], [3.0]], "float32")
    labels = np.array([0, 0, 1, 1])
    loss = losses.TripletSemiHard(margin=3.0, distance="euclidean")
    # Anchor 0: the negative at 1 ties with the positive, so 3 + 1 - 3 = 1.
    # Anchor 1: 3 + 1 - 2. Anchors 2 and 3, at 4: the farthest, at 2 and 3.
    expected = [1.0, 2.0, 5.0, 4.0]
    loss.reduction = None
    np.testing.assert_allclose(values(loss, labels, points), expected)


def test_soft_margin_does_not_overflow():
    points = np.array([[0.0], [100.0], [1.0]], "float32")
    loss = losses.TripletHard(soft_margin=True)
    # Anchor 0: log(1 + exp(100 - 1)), where exp overflows; anchor 1: 100 - 99.
    expected = (99 + np.logaddexp(0, 1)) / 2
    labels = np.array([0, 0, 1])
    assert float(loss(labels, points)) == pytest.approx(expected, rel=RTOL)


@pytest.mark.parametrize(
    ("name", "arguments", "oracle"),
    [
        ("manhattan", None, "cityblock"),
        ("cosine", None, "cosine"),
        (
            "minkowski",
            {"p": 3},
            lambda u, v: np.sum(np.abs(u - v) ** 3) ** (1 / 3),
        ),
        (
            "standardized_euclidean",
            {"variance": [1.0, 2.0, 3.0, 4.0]},
            lambda u, v: np.sqrt(np.sum((u - v) ** 2 / [1, 2, 3, 4])),
        ),
    ],
)
def test_any_distance_may_be_used(points, name, arguments, oracle):
    matrix = between(points, oracle)
    arguments = {"distance": name, "distance_arguments": arguments}
    for loss, expected in (
        (
            losses.TripletSemiHard(0.7, **arguments),
            reference.triplet_semi_hard(LABELS, matrix, 0.7),
        ),
        (
            losses.TripletHard(0.7, **arguments),
            reference.triplet_hard(LABELS, matrix, 0.7, False),
        ),
        (
            losses.LiftedStructure(0.7, **arguments),
            reference.lifted_structure(LABELS, matrix, 0.7),
        ),
    ):
        assert float(loss(LABELS, points)) == pytest.approx(expected, rel=RTOL)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_contrastive_equals_the_equation(rng, shape):
    labels = np.array([0, 1, 1, 0, 1, 0])
    far = np.array([0.0, 0.0, 0.3, 0.7, 1e4, 2.0], "float32")
    loss = losses.Contrastive(0.7, reduction=None)
    expected = reference.contrastive(labels, far.astype("float64"), 0.7)
    other = losses.Contrastive(0.7, similar_label=0, reduction=None)
    for received in (
        values(loss, labels, far.reshape(shape)),
        values(other, 1 - labels, far.reshape(shape)),
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        gradient(lambda d: ops.sum(loss(labels, d)), far),
        central_difference(
            lambda d: reference.contrastive(labels, d, 0.7).sum(), far
        ),
        rtol=1e-5,
        atol=1e-3,  # The step of the difference, at the kink.
    )


def test_n_pairs_equals_the_equation(pairs):
    same = (LABELS[:, None] == LABELS).astype("float64")

    def expected(p):
        return reference.n_pairs(same, p[:, 0], p[:, 1])

    loss = losses.NPairs(reduction=None)
    np.testing.assert_allclose(
        values(loss, LABELS, pairs),
        expected(pairs.astype("float64")),
        rtol=RTOL,
    )
    np.testing.assert_allclose(
        gradient(lambda p: ops.sum(loss(LABELS, p)), pairs),
        central_difference(lambda p: expected(p).sum(), pairs),
        rtol=1e-4,
        atol=1e-5,
    )


def test_n_pairs_multilabel_equals_the_equation(pairs, rng):
    hot = (rng.random((8, 5)) < 0.5).astype("int32")
    hot[:, 0] = 1
    expected = reference.n_pairs(
        (hot @ hot.T).astype("float64"), *pairs.astype("float64").swapaxes(0, 1)
    )
    loss = losses.NPairsMultilabel(reduction=None)
    np.testing.assert_allclose(values(loss, hot, pairs), expected, rtol=RTOL)


def test_n_pairs_multilabel_of_one_label_is_n_pairs(pairs):
    hot = np.eye(4)[LABELS]
    np.testing.assert_allclose(
        values(losses.NPairsMultilabel(reduction=None), hot, pairs),
        values(losses.NPairs(reduction=None), LABELS, pairs),
        rtol=1e-6,
    )


def test_samples_without_a_label_add_nothing(pairs):
    hot = np.eye(4)[LABELS]
    hot[2] = 0
    loss = losses.NPairsMultilabel(reduction=None)
    assert values(loss, hot, pairs)[2] == 0
    slope = gradient(lambda p: ops.sum(loss(hot, p)), pairs)
    assert np.isfinite(slope).all()


def test_nt_xent_is_supervised_by_the_sample(pairs):
    loss = losses.NTXent(temperature=0.3)
    flat = pairs.astype("float64").reshape(16, 4)
    labels = np.repeat(np.arange(8), 2)
    expected = reference.supervised_contrastive(labels, flat, 0.3)
    assert float(loss(np.zeros(8), pairs)) == pytest.approx(expected, rel=RTOL)


def test_views_share_the_label_of_their_sample(rng):
    views = rng.normal(size=(8, 3, 4)).astype("float32")
    loss = losses.SupervisedContrastive(temperature=0.3)
    expected = reference.supervised_contrastive(
        np.repeat(LABELS, 3), views.astype("float64").reshape(24, 4), 0.3
    )
    assert float(loss(LABELS, views)) == pytest.approx(expected, rel=RTOL)


MARGINS = [
    (losses.ArcFace, reference.arc_face),
    (losses.CosFace, reference.cos_face),
]


@pytest.mark.parametrize(("loss", "oracle"), MARGINS)
def test_margins_equal_the_equations(rng, loss, oracle):
    cosines = rng.uniform(-0.8, 0.9, size=(8, 4)).astype("float32")
    loss = loss(margin=0.4, scale=5.0, reduction=None)

    def expected(c):
        return oracle(LABELS, c.copy(), 0.4, 5.0)

    np.testing.assert_allclose(
        values(loss, LABELS, cosines),
        expected(cosines.astype("float64")),
        rtol=RTOL,
    )
    np.testing.assert_allclose(
        gradient(lambda c: ops.sum(loss(LABELS, c)), cosines),
        central_difference(lambda c: expected(c).sum(), cosines, step=1e-5),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(("loss", "oracle"), MARGINS)
def test_without_a_margin_it_is_the_crossentropy(rng, loss, oracle):
    cosines = rng.uniform(-1, 1, size=(8, 4)).astype("float32")
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    received = float(loss(margin=0.0, scale=64.0)(LABELS, cosines))
    assert received == pytest.approx(
        float(expected(LABELS, 64 * cosines)), rel=1e-6
    )


def test_arc_face_falls_beyond_a_half_turn():
    cosines = np.linspace(-1, 1, 2001).astype("float32")
    loss = losses.ArcFace(margin=0.5, scale=1.0, reduction=None)
    rows = np.stack([cosines, np.zeros_like(cosines)], axis=1)
    assert (np.diff(values(loss, np.zeros(2001, int), rows)) < 0).all()


@pytest.mark.parametrize("loss", [losses.ArcFace, losses.CosFace])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_margins_are_finite_at_corners_and_beyond(loss, dtype, size):
    corners = np.array([[size, -size], [-size, size], [size, size]], dtype)
    loss = loss(scale=2.0, dtype=dtype)
    labels = np.array([0, 0, 1])
    assert np.isfinite(values(loss, labels, corners))
    assert np.isfinite(gradient(lambda c: loss(labels, c), corners)).all()


def test_cosine_dense_gives_the_cosines(rng):
    inputs = rng.normal(size=(5, 3, 4)).astype("float32")
    inputs[0, 0] = 0
    layer = layers.CosineDense(6)
    received = ops.convert_to_numpy(layer(inputs))
    kernel = layer.get_weights()[0]
    expected = 1 - cdist(inputs[1:].reshape(-1, 4), kernel.T, "cosine")
    np.testing.assert_allclose(
        received[1:].reshape(-1, 6), expected, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(received[0, 0], np.zeros(6))


def test_arc_face_trains_with_its_layer_in_plain_fit(rng):
    labels = np.arange(60) % 3
    centers = 3 * np.eye(3, 4)
    x = (centers[labels] + 0.3 * rng.normal(size=(60, 4))).astype("float32")
    model = keras.Sequential([keras.Input((4,)), layers.CosineDense(3)])
    model.compile(
        keras.optimizers.Adam(0.1),
        losses.ArcFace(scale=8.0),
        metrics=["accuracy"],
    )
    history = model.fit(x, labels, batch_size=20, epochs=15, verbose=0).history
    assert history["accuracy"][-1] == 1.0
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.Contrastive(margin=0.0), "`margin` must be in"),
        (lambda: losses.Contrastive(similar_label=2), "`similar_label` must"),
        (lambda: losses.TripletHard(margin=-1.0), "`margin` must be in"),
        (lambda: losses.TripletSemiHard(distance="l2"), "`distance` must be"),
        (lambda: losses.TripletHard(distance="hamming"), "`distance` must be"),
        (
            lambda: losses.LiftedStructure(distance="minkowski"),
            "`distance_arguments` must hold",
        ),
        (
            lambda: losses.LiftedStructure(distance_arguments={"p": 2}),
            "`distance_arguments` must hold",
        ),
        (lambda: losses.NTXent(temperature=0.0), "`temperature` must be in"),
        (lambda: losses.ArcFace(margin=2.0), "`margin` must be in"),
        (lambda: losses.CosFace(scale=0.0), "`scale` must be in"),
        (lambda: layers.CosineDense(units=0), "`units` must be an integer"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred", "message"),
    [
        (losses.Contrastive(), np.array([0, 2]), np.ones(2), "zeros and ones"),
        (losses.TripletHard(), LABELS[:3], np.ones((8, 4)), "one label for"),
        (
            losses.TripletHard(),
            LABELS,
            np.ones((8, 2, 2)),
            r"\(batch, features",
        ),
        (losses.NPairs(), LABELS, np.ones((8, 3, 4)), r"\(batch, 2, features"),
        (losses.NTXent(), LABELS, np.ones((8, 4)), r"\(batch, 2, features"),
        (losses.NPairsMultilabel(), LABELS, np.ones((8, 2, 4)), "labels"),
        (losses.ArcFace(), LABELS, np.ones((8, 3)), r"integers in \[0, 3\)"),
        (losses.CosFace(), np.ones((8, 3)), np.ones((8, 3)), "one axis less"),
    ],
)
def test_calls_that_do_not_match_are_refused(loss, y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        loss(y_true, y_pred)
