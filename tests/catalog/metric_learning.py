"""Cases of the losses on embeddings and boxes."""

import numpy as np

from catalog.inputs import normal
from kerascomp import losses
from kerascomp.testing import Case

GROUPS = np.array([2, 0, 2, 1, 0, 2, 3])
POINTS, PAIRS = normal(7, 4), normal(7, 2, 4)
MULTI_HOT = (normal(7, 5) > 0).astype("int32")
COSINES = np.tanh(normal(7, 4))
BOXES = np.abs(normal(5, 3, 4)) + np.array([0, 0, 1, 1])
SHIFTED = (BOXES + normal(5, 3, 4) / 4).astype("float32")

COMPARES = {
    "check_samples_do_not_mix": (
        "the samples of a batch are compared with each other"
    )
}
NO_TARGET = {
    "check_gradient_is_finite_at_the_kink": (
        "no prediction equals the label of a pair"
    )
}

CASES = [
    Case(
        lambda **k: losses.Contrastive(margin=0.7, similar_label=0, **k),
        (GROUPS[:, None] % 2, np.abs(normal(7, 1))),
    ),
    Case(
        lambda **k: losses.TripletSemiHard(
            margin=0.7,
            distance="minkowski",
            distance_arguments={"p": 3.0},
            **k,
        ),
        (GROUPS, POINTS),
        xfail=COMPARES,
    ),
    Case(
        lambda **k: losses.TripletHard(
            margin=0.7,
            distance="standardized_euclidean",
            distance_arguments={"variance": [0.5, 1.0, 2.0, 3.0]},
            **k,
        ),
        (GROUPS, POINTS),
        xfail=COMPARES,
    ),
    Case(
        lambda **k: losses.TripletHard(soft_margin=True, **k),
        (GROUPS[:, None], POINTS),
        xfail=COMPARES,
    ),
    Case(
        lambda **k: losses.LiftedStructure(
            margin=0.7,
            distance="mahalanobis",
            distance_arguments={"inverse_covariance": np.eye(4).tolist()},
            **k,
        ),
        (GROUPS, POINTS),
        xfail=COMPARES,
    ),
    Case(
        lambda **k: losses.NPairs(**k),
        (GROUPS, PAIRS),
        xfail=COMPARES | NO_TARGET,
    ),
    Case(
        lambda **k: losses.NPairsMultilabel(**k),
        (MULTI_HOT, PAIRS),
        xfail=COMPARES | NO_TARGET,
    ),
    Case(
        lambda **k: losses.SupervisedContrastive(temperature=0.3, **k),
        (GROUPS, POINTS),
        xfail=COMPARES,
    ),
    Case(
        lambda **k: losses.SupervisedContrastive(temperature=0.3, **k),
        (GROUPS, normal(7, 3, 4)),
        xfail=COMPARES | NO_TARGET,
    ),
    Case(
        lambda **k: losses.NTXent(temperature=0.3, **k),
        (GROUPS, PAIRS),
        xfail=COMPARES | NO_TARGET,
    ),
    Case(
        lambda **k: losses.ArcFace(margin=0.3, scale=5.0, **k),
        (GROUPS, COSINES),
    ),
    Case(
        lambda **k: losses.CosFace(margin=0.2, scale=5.0, **k),
        (GROUPS, COSINES),
    ),
    Case(
        lambda **k: losses.GIoU(bounding_box_format="yxyx", **k),
        (BOXES.astype("float32"), SHIFTED),
    ),
    Case(
        lambda **k: losses.DIoU(bounding_box_format="xywh", **k),
        (BOXES.astype("float32"), SHIFTED),
    ),
    Case(
        lambda **k: losses.CIoU(bounding_box_format="center_xywh", **k),
        (BOXES.astype("float32"), SHIFTED),
    ),
]
