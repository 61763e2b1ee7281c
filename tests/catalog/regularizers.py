"""Cases of regularizers."""

import keras

from catalog.inputs import KERNEL, normal
from kerascomp import regularizers
from kerascomp.testing import Case

SAMPLES = normal(5, 3)
WRAPPER = {
    "check_config_equals_the_arguments_given": (
        "the config holds the network serialized"
    ),
    "check_attributes_hold_no_tensors": (
        "Keras itself keeps the losses of a layer's last call"
    ),
}


def network(units, settings):
    """A network with noise, in the dtype of what wraps it."""
    dtype = settings.get("dtype")
    return keras.Sequential(
        [
            keras.Input(SAMPLES.shape[1:]),
            keras.layers.Dense(6, activation="tanh", dtype=dtype),
            keras.layers.Dropout(0.3, seed=5, dtype=dtype),
            keras.layers.Dense(units, dtype=dtype),
        ],
        name="network",
    )


CASES = [
    Case(lambda: regularizers.ScaledL2(factor=0.7, num_samples=9), KERNEL),
    Case(lambda: regularizers.ScaledL1(factor=0.7, num_samples=9), KERNEL),
    Case(lambda: regularizers.GroupLasso(factor=0.7, axis=1), KERNEL),
    Case(
        lambda: regularizers.SparseGroupLasso(
            factor=0.7, l1_fraction=0.3, axis=[0, 2]
        ),
        KERNEL,
    ),
    Case(lambda: regularizers.Hoyer(factor=0.7, square=False), KERNEL),
    Case(lambda: regularizers.Hoyer(factor=0.3), KERNEL),
    Case(
        lambda: regularizers.SpectralNorm(factor=0.7, num_iterations=3), KERNEL
    ),
    Case(
        lambda: regularizers.SpectralNorm(factor=0.3, num_iterations=None),
        KERNEL,
    ),
    Case(lambda: regularizers.NuclearNorm(factor=0.7), KERNEL),
    *(
        Case(
            lambda variant=variant: regularizers.SoftOrthogonality(
                factor=0.7, variant=variant, num_iterations=4
            ),
            KERNEL,
        )
        for variant in (
            "soft",
            "double",
            "mutual_coherence",
            "restricted_isometry",
        )
    ),
    Case(lambda: regularizers.KLSparsity(factor=0.7, target=0.2), KERNEL),
    Case(lambda: regularizers.DeCov(factor=0.7), KERNEL),
    *(
        Case(
            lambda count=count, **k: regularizers.JacobianPenalty(
                network(4, k), factor=0.7, num_projections=count, seed=3, **k
            ),
            SAMPLES,
            xfail=WRAPPER,
        )
        for count in (2, None)
    ),
    *(
        Case(
            lambda between=between, **k: regularizers.GradientPenalty(
                network(1, k),
                factor=0.7,
                target=0.3,
                interpolate=between,
                seed=3,
                **k,
            ),
            SAMPLES,
            xfail=WRAPPER,
        )
        for between in (True, False)
    ),
]
