"""Plants faults in the components and shows that the tests notice each.

    python tests/seeded_faults.py             # all, in some minutes
    python tests/seeded_faults.py --sample    # some, as the suite does

Run it whenever a check changes. The source of one module at a time is edited
in memory and executed anew; then the contract and the numbers tests of the
component run until one fails. That test must pass again once the fault is
gone.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import pathlib
import re
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import backend  # noqa: E402  (before Keras: it quietens TensorFlow)
import keras  # noqa: E402

from kerascomp import _registry  # noqa: E402

LAYERS = ("kerascomp.layers._drop_path", "test_layers.py")
LOSSES = ("kerascomp.losses._smooth", "test_losses.py")
METRICS = ("kerascomp.metrics._confusion", "test_metrics_classes.py")
CORRELATIONS = (
    "kerascomp.metrics._correlation",
    "test_metrics_regression.py",
)
REGULARIZERS = ("kerascomp.regularizers._norms", "test_regularizers.py")
SPARSITY = ("kerascomp.regularizers._sparsity", "test_regularizers_numbers.py")
SPECTRUM = ("kerascomp.regularizers._spectrum", "test_regularizers_numbers.py")
SENSITIVITY = (
    "kerascomp.regularizers._sensitivity",
    "test_regularizers_sensitivity.py",
)
ACTIVITIES = (
    "kerascomp.regularizers._activities",
    "test_regularizers_numbers.py",
)
CALIBRATION = (
    "kerascomp.metrics._calibration",
    "test_metrics_probabilities.py",
)
CLASSIFICATION = (
    "kerascomp.losses._classification",
    "test_losses_classification.py",
)
IMBALANCE = ("kerascomp.losses._imbalance", "test_losses_imbalance.py")
MARGIN = ("kerascomp.losses._margin", "test_losses_margin.py")
ORDINAL = ("kerascomp.losses._ordinal", "test_losses_ordinal.py")
REGRESSION = ("kerascomp.losses._regression", "test_losses_regression.py")
WRAPPERS = ("kerascomp.losses._wrappers", "test_losses_wrappers.py")
BOXES = ("kerascomp.losses._boxes", "test_boxes.py")
TRIPLETS = ("kerascomp.losses._metric_learning", "test_metric_learning.py")
SOFTMAXES = (
    "kerascomp.losses._metric_learning_softmax",
    "test_metric_learning.py",
)
ROWS = ("kerascomp.distances._rows", "test_distances.py")
PAIRS = ("kerascomp.distances._pairwise", "test_distances.py")
DIVERGENCES = (
    "kerascomp.distances._distributions",
    "test_distances_distributions.py",
)
GEOMETRY = ("kerascomp._geometry", "test_distances.py")
SPARSEMAX = ("kerascomp._numerics", "test_activations.py")
SCHEDULES = ("kerascomp.schedules._cosine", "test_schedules.py")
PLATEAUS = ("kerascomp.schedules._plateau", "test_schedules.py")
CYCLES = (
    "kerascomp.schedules._cyclical",
    "test_schedules_numbers.py",
)
CALLBACKS = ("kerascomp.callbacks._schedule", "test_learning_rate.py")


@dataclasses.dataclass(frozen=True)
class Fault:
    """Pieces of source that are replaced, each by the one after it."""

    name: str
    where: tuple[str, str]
    component: str
    edits: tuple[str, ...]
    # The backends on which it is a fault: others know every size when they run.
    backends: tuple[str, ...] = ("tensorflow", "jax", "torch")


FAULTS = [
    Fault(
        "argument missing from config",
        LOSSES,
        "SmoothL1",
        (', "beta": self.beta}', "}"),
    ),
    Fault(
        "unregistered class",
        REGULARIZERS,
        "ScaledL2",
        ('@component(since="0.1")\n', ""),
    ),
    Fault(
        "config mutated in build",
        LAYERS,
        "DropPath",
        (
            "    def call(",
            "    def build(self, input_shape):\n"
            "        self.rate = self.rate / 2\n\n"
            "    def call(",
        ),
    ),
    Fault(
        "float32 upcast in the training branch",
        LAYERS,
        "DropPath",
        (
            "multiply_no_nan(inputs, factor)",
            'multiply_no_nan(ops.cast(inputs, "float32"), factor * 1.0)',
        ),
    ),
    Fault(
        "premature mean",
        LOSSES,
        "SmoothL1",
        ("ops.mean(element, axis=-1)", "ops.mean(element)"),
    ),
    Fault(
        "mean over the wrong axis",
        LOSSES,
        "SmoothL1",
        ("ops.mean(element, axis=-1)", "ops.mean(element, axis=0)"),
    ),
    Fault(
        "swapped arguments",
        LOSSES,
        "SmoothedSparseCategoricalCrossentropy",
        (
            "(1 - smoothing) * hard + smoothing * uniform",
            "(1 - smoothing) * uniform + smoothing * hard",
        ),
    ),
    Fault(
        "class axis ignored",
        LOSSES,
        "SmoothedSparseCategoricalCrossentropy",
        ("(y_true, y_pred, self.axis)", "(y_true, y_pred)"),
    ),
    Fault(
        "0/0 at zero weight",
        REGULARIZERS,
        "ScaledL2",
        (
            "ops.sum(ops.square(x))",
            "ops.square(ops.sum(ops.square(x))) / ops.sum(ops.square(x))",
        ),
    ),
    Fault(
        "tensor in an attribute",
        REGULARIZERS,
        "ScaledL2",
        (
            "self.factor = factor",
            "self.factor = factor\n"
            "        self._scale = ops.convert_to_tensor(float(factor))",
        ),
    ),
    Fault(
        "lost dtype",
        LOSSES,
        "SmoothL1",
        (', "beta": self.beta}', ', "beta": self.beta, "dtype": None}'),
    ),
    Fault(
        "mask dropped",
        LAYERS,
        "DropPath",
        ("self.supports_masking = True", "self.supports_masking = False"),
    ),
    Fault(
        "non-finite gradient at the kink",
        LOSSES,
        "SmoothL1",
        (
            "error = y_pred - y_true",
            "size = ops.exp(ops.log(ops.abs(y_pred - y_true)))\n"
            "        error = ops.sign(y_pred - y_true) * size",
        ),
    ),
    Fault(
        "overflow of large errors in half precision",
        LOSSES,
        "SmoothL1",
        (
            "element = (near / self.beta) * (error - 0.5 * near)",
            "rest = error - near\n"
            "        element = (error**2 - rest**2) / (2 * self.beta)",
        ),
    ),
    Fault(
        "state shared between instances",
        CALLBACKS,
        "ScheduleLearningRate",
        (
            "        self._found: list[tuple[Any, float]] = []\n",
            "",
            "    def __init__(",
            "    _found: list = []\n\n    def __init__(",
            "        self._found = []\n",
            "        self._found.clear()\n",
        ),
    ),
    Fault(
        "argument not stored",
        CALLBACKS,
        "ScheduleLearningRate",
        ("self.schedule = schedule", "self.schedule = None"),
    ),
    Fault(
        "learning rate not given back",
        CALLBACKS,
        "ScheduleLearningRate",
        ("for variable, value in self._found:", "for variable, value in []:"),
    ),
    Fault(
        "one step late",
        CALLBACKS,
        "ScheduleLearningRate",
        ("self._first_step + np.arange", "self._first_step + 1 + np.arange"),
    ),
    Fault(
        "seed ignored",
        LAYERS,
        "DropPath",
        ("seed=self.seed_generator", "seed=None"),
    ),
    Fault(
        "number passed as seed, not the generator",
        LAYERS,
        "DropPath",
        ("seed=self.seed_generator", "seed=self.seed"),
    ),
    Fault(
        "batch size fixed while tracing",
        LAYERS,
        "DropPath",
        ("(ops.shape(inputs)[0],)", "(inputs.shape[0],)"),
        backends=("tensorflow",),
    ),
    Fault(
        "one draw for the batch where its size is unknown",
        LAYERS,
        "DropPath",
        ("(ops.shape(inputs)[0],)", "(inputs.shape[0] or 1,)"),
        backends=("tensorflow",),
    ),
    Fault(
        "kept samples not scaled",
        LAYERS,
        "DropPath",
        ("factor * ops.cast(1 / (1 - rate), inputs.dtype)", "factor"),
    ),
    Fault(
        "steps counted in half precision",
        SCHEDULES,
        "WarmupCosine",
        (
            "self._cosine(_shapes.since(step))",
            'self._cosine(ops.cast(step, "float16"))',
        ),
    ),
    Fault(
        "transposed confusion matrix",
        METRICS,
        "ConfusionMatrix",
        (
            "cells = samples.labels * self.num_classes\n"
            "        cells = cells + samples.predicted(self.threshold)",
            "cells = samples.predicted(self.threshold)\n"
            "        cells = cells * self.num_classes + samples.labels",
        ),
    ),
    Fault(
        "sample weight ignored",
        METRICS,
        "MultiLabelConfusionMatrix",
        (
            "y_true, y_pred, sample_weight, self.threshold",
            "y_true, y_pred, None, self.threshold",
        ),
    ),
    Fault(
        "batches averaged instead of merged",
        CORRELATIONS,
        "StreamingPearsonCorrelation",
        (
            "products + self.weight * share * between",
            "products",
        ),
    ),
    Fault(
        "some of the data pass for all",
        CORRELATIONS,
        "SpearmanCorrelation",
        ("self.output(self.buffer.or_nan(value))", "self.output(value)"),
    ),
    Fault(
        "cosine rises again past the end",
        SCHEDULES,
        "WarmupCosine",
        (
            "ops.clip((end - step) / (end - begin), 0.0, 1.0)",
            "(end - step) / (end - begin)",
        ),
    ),
    Fault(
        "decay over the whole run, not at its end",
        PLATEAUS,
        "WarmupStableDecay",
        ("begin = self.total_steps - self.decay_steps", "begin = 0"),
    ),
    Fault(
        "power of a rounded number",
        CYCLES,
        "Cyclical",
        (
            "ops.exp(\n"
            "                _shapes.since(step) * math.log(self.decay)\n"
            "            )",
            "ops.power(self.decay, _shapes.since(step))",
        ),
    ),
    Fault(
        "infinite gradient of a group of zeros",
        SPARSITY,
        "GroupLasso",
        (
            "_geometry.safe_sqrt(squares)",
            "ops.sqrt(squares)",
        ),
    ),
    Fault(
        "identity of the wrong size",
        SPECTRUM,
        "SoftOrthogonality",
        ("if rows < columns:", "if rows > columns:"),
    ),
    Fault(
        "estimate not scaled by the number of outputs",
        SENSITIVITY,
        "JacobianPenalty",
        ('unit * ops.sqrt(ops.cast(size, "float32"))', "unit"),
    ),
    Fault(
        "training not passed on to the wrapped network",
        SENSITIVITY,
        "JacobianPenalty",
        ("return self._run(inputs, True)", "return self._run(inputs, False)"),
    ),
    Fault(
        "factors of two terms swapped",
        CLASSIFICATION,
        "SymmetricCrossentropy",
        (
            "self.alpha * forward + self.beta",
            "self.beta * forward + self.alpha",
        ),
    ),
    Fault(
        "offsets of the wrong sign",
        IMBALANCE,
        "LogitAdjusted",
        ("offsets = tau * np.log", "offsets = -tau * np.log"),
    ),
    Fault(
        "true class counted as a wrong one",
        MARGIN,
        "MulticlassHinge",
        (
            "ops.logical_not(_targets.is_class(y_true, y_pred))",
            "y_pred == y_pred",
        ),
    ),
    Fault(
        "last question not asked",
        ORDINAL,
        "CORN",
        ("question <= labels", "question < labels"),
    ),
    Fault(
        "gradient through a weight",
        REGRESSION,
        "GaussianNegativeLogLikelihood",
        (
            "ops.stop_gradient(weight)",
            "weight",
        ),
    ),
    Fault(
        "padding counted in the average",
        WRAPPERS,
        "SequenceLoss",
        ("ones * ops.divide_no_nan(ops.sum(ones), ops.sum(tokens))", "ones"),
    ),
    Fault(
        "boxes inside out have an area",
        BOXES,
        "GIoU",
        ("ops.maximum(first, second)", "second"),
    ),
    Fault(
        "anchors without a positive counted",
        TRIPLETS,
        "TripletHard",
        (
            "ops.any(positive, axis=-1) & ops.any(negative, axis=-1)",
            "ops.any(negative, axis=-1)",
        ),
    ),
    Fault(
        "falling beyond a half turn lost",
        SOFTMAXES,
        "ArcFace",
        (
            "ops.where(cosine > -math.cos(self.margin), turned, beyond)",
            "turned",
        ),
    ),
    Fault(
        "confidence on an edge in the next bin",
        CALIBRATION,
        "ExpectedCalibrationError",
        ("confidence > edges", "confidence >= edges"),
    ),
    Fault(
        "variances punished as covariances",
        ACTIVITIES,
        "DeCov",
        ("covariance * pairs", "covariance"),
    ),
    Fault(
        "probabilities that do not sum to 1",
        SPARSEMAX,
        "sparsemax",
        ("(total - 1.0) / size", "total / size"),
    ),
    Fault(
        "cosine from a product, which cancels",
        ROWS,
        "cosine",
        (
            "half = ops.sum(ops.square(x - y), axis=-1) / 2",
            "half = 1 - ops.sum(x * y, axis=-1)",
        ),
    ),
    Fault(
        "row not at distance 0 of itself",
        PAIRS,
        "pairwise",
        (
            "ops.where(itself, ops.zeros_like(distances), distances)",
            "distances",
        ),
    ),
    Fault(
        "outcomes that cannot be divide",
        DIVERGENCES,
        "kl",
        ("ops.where(possible, q, ops.ones_like(q))", "q"),
    ),
    Fault(
        "infinite gradient at distance 0",
        GEOMETRY,
        "safe_sqrt",
        ("ops.sqrt(ops.maximum(x, 2.0**-120)) - 2.0**-60", "ops.sqrt(x)"),
    ),
]


def main() -> int:
    """Plants each fault; returns the number of those that went unnoticed."""
    missed = 0
    faults = [fault for fault in FAULTS if backend.NAME in fault.backends]
    if "--sample" in sys.argv:
        # One of each source file: all of them take minutes.
        faults = list({fault.where: fault for fault in faults}.values())[::8]
    width = max(len(fault.name) for fault in faults)
    for fault in faults:
        noticed = noticed_by(fault)
        missed += noticed is None
        text = noticed or "NOT NOTICED"
        print(f"{fault.name:{width}}  {fault.component}: {text}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} faults noticed")
    return missed


def noticed_by(fault: Fault) -> str | None:
    """Returns the test that fails with the fault and passes without it."""
    module = importlib.import_module(fault.where[0])
    original = source_of(fault)
    try:
        execute(module, with_edits(original, fault))
        failed = first_failure(fault)
    finally:
        execute(module, original)
    if failed and run([failed]):
        raise AssertionError(f"{failed} fails without the fault, too.")
    return failed and failed.rpartition("::")[2]


def source_of(fault: Fault) -> str:
    """Returns the source that a fault is planted in."""
    module = importlib.import_module(fault.where[0])
    return pathlib.Path(str(module.__file__)).read_text(encoding="utf-8")


def with_edits(source: str, fault: Fault) -> str:
    """Returns the source with the pieces replaced, from the component on."""
    definition = rf"^(?:class|def) {fault.component}\("
    start = re.search(definition, source, re.M).start()  # type: ignore[union-attr]
    if fault.edits[0] not in source[start:]:  # In a decorator or a base.
        # What is nowhere is reported below.
        start = max(source.rfind(fault.edits[0], 0, start), 0)
    head, tail = source[:start], source[start:]
    for old, new in zip(fault.edits[::2], fault.edits[1::2], strict=True):
        if old not in tail:
            raise AssertionError(f"{fault.name}: there is no {old!r} to edit.")
        tail = tail.replace(old, new, 1)
    return head + tail


def execute(module: object, source: str) -> None:
    """Runs a source in a module, its components registered anew."""
    name = module.__name__  # type: ignore[attr-defined]
    for path, entry in list(_registry._entries.items()):
        if entry.symbol.__module__ == name:
            del _registry._entries[path]
            registered = f"{_registry.PACKAGE}>{entry.name}"
            if entry.kind != "callback":
                keras.saving.get_custom_objects().pop(registered, None)
    exec(compile(source, f"<{name}>", "exec"), vars(module))
    package = importlib.import_module(name.partition("._")[0])
    for public in package.__all__:
        if public in vars(module):
            setattr(package, public, vars(module)[public])


def first_failure(fault: Fault) -> str | None:
    """Runs the component's tests until one fails, and returns its id."""
    contract = importlib.import_module("test_contract")
    module = importlib.import_module(fault.where[0])
    symbol = getattr(module, fault.component)
    kind = _registry.kind_of(symbol) if inspect.isclass(symbol) else None
    ids = [
        f"test_contract.py::test_keeps_the_contract[{parameter.id}]"
        for parameter in contract._parameters()
        if (parameter.values[0].name, parameter.values[0].kind)
        == (fault.component, kind)
    ]
    # Functions have no contract; without ids, pytest would run everything.
    return (run(ids) if ids else None) or run([fault.where[1]])


class Recorder:
    """Notes the first test that fails."""

    failed: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def run(tests: list[str]) -> str | None:
    """Runs tests until one fails, and returns its id."""
    for name, module in list(sys.modules.items()):
        # Tests hold on to the classes that they imported.
        path = pathlib.Path(getattr(module, "__file__", None) or "")
        is_test = path.parent == TESTS and path.name.startswith("test_")
        if is_test or path.parent == TESTS / "catalog":
            del sys.modules[name]
    recorder = Recorder()
    arguments = [str(TESTS / test.removeprefix("tests/")) for test in tests]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore", *arguments],
            plugins=[recorder],
        )
    if code not in (0, 1):
        raise AssertionError(f"pytest ended with {code}:\n{output.getvalue()}")
    return recorder.failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
