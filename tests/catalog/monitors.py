"""Cases of callbacks that observe training."""

from catalog.inputs import FOLDER
from kerascomp import callbacks
from kerascomp.testing import Case

CASES = [
    Case(
        lambda: callbacks.GradientNormMonitor(
            per_layer=False,
            every=2,
            groups={"kernels": "kernel$"},
            log_dir=FOLDER,
        ),
    ),
    Case(
        lambda: callbacks.GradientFlowMonitor(
            vanishing=(1e-9, 1e-9),
            exploding=1e9,
            smoothing=0.5,
            warmup_steps=2,
            action="stop",
            every=2,
            log_dir=FOLDER,
        ),
    ),
    Case(lambda: callbacks.UpdateRatioMonitor(every=2, log_dir=FOLDER)),
    Case(
        lambda: callbacks.GradientNoiseScale(
            batch_size=3, smoothing=0.5, seed=1, log_dir=FOLDER, every=2
        ),
    ),
]
