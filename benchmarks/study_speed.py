"""How long does a trial of a random search take?

Four ways to search the same space (learning rate, dropout, batch size) with
the same model, epochs and data take turns, each measurement in a process of
its own:

- `kerascomp.tuners.RandomSearch`;
- `keras_tuner.RandomSearch`, with the `HyperModel.fit` that it takes to tune
  the batch size;
- Optuna's random sampler, with a function that builds and fits a Keras model;
- `fit` of models that were built before, one by one, with no search around it.

Time runs from a fresh process with everything imported and the data in memory
to the end of the last trial: building (but for the last way), tracing and
compiling are in it, as they are for a user. It is divided by the number of
trials, which is smaller for the slow ways. The ratio is the median over the
rounds of KerasTuner's time over that of the same round. Best scores are of as
many random trials as the column says, so more trials find better ones.

In the first round the search then goes on for as many trials again, and memory
is what the process has grown by then, for each of these trials.

    python benchmarks/study_speed.py --backend jax --cases digits,cnn

The images are MNIST if `keras.datasets` has it already, else enlarged digits.
Optuna is left out where it is not installed, and KerasTuner on TensorFlow needs
TensorBoard: pip install "kerascomp[bench]" brings both.
"""

import argparse
import collections
import contextlib
import dataclasses
import gc
import importlib.metadata
import io
import itertools
import json
import os
import pathlib
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

BATCH_SIZES = (32, 64, 128)
LEARNING_RATES = (1e-4, 3e-2)
DROPOUTS = (0.1, 0.6)
PEER = "KerasTuner"
# No measurement takes so long, unless it hangs.
TIMEOUT_SECONDS = 2 * 3600


# --- What is trained ---


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and its data.

    Attributes:
        title: For the table.
        data: Returns training and validation data.
        layers: Returns the hidden layers, given a dropout rate.
        trials: Of kerascomp.
        others: Trials of the others.
        batch_sizes: To choose from.
    """

    title: str
    data: object
    layers: object
    trials: int
    others: int
    batch_sizes: tuple = BATCH_SIZES


def digits(_):
    """1,797 handwritten digits of 64 pixels."""
    import kerascomp as kc

    data = kc.datasets.load("digits")
    return [(p.x / 16, p.y) for p in (data.train, data.validation)]


def steps(options):
    """The digits as 8 steps of 8 pixels."""
    return [(x.reshape(-1, 8, 8), y) for x, y in digits(options)]


def wide(options):
    """A table: that of `--wide`, or one that scikit-learn makes."""
    import kerascomp as kc

    if options.wide:
        data = kc.datasets.load(options.wide, target=options.target)
        if data.task != "classification":
            raise SystemExit("--wide takes data for classification.")
    else:
        from sklearn import datasets

        x, y = datasets.make_classification(
            12_500, 64, n_informative=32, n_classes=10, random_state=0
        )
        data = kc.datasets.from_arrays(
            x.astype("float32"), y, test_fraction=0.01
        )
    mean, deviation = data.train.x.mean(0), data.train.x.std(0)
    deviation[deviation == 0] = 1
    return [
        ((part.x - mean) / deviation, part.y)
        for part in (data.train, data.validation)
    ]


def images(options):
    """Images of 28 x 28 pixels."""
    import kerascomp as kc

    if not mnist_file().exists():
        return [(enlarged(x), y) for x, y in digits(options)]
    data = kc.datasets.load("mnist")
    return [
        (part.x[:count] / np.float32(255), part.y[:count])
        for part, count in ((data.train, 1600), (data.validation, 400))
    ]


def enlarged(x):
    """Returns digits with 9 pixels for each, and an edge."""
    pixels = np.ones((1, 3, 3, 1), x.dtype)
    edges = ((0, 0), (2, 2), (2, 2), (0, 0))
    return np.pad(np.kron(x.reshape(-1, 8, 8, 1), pixels), edges)


def mnist_file():
    """Where Keras keeps MNIST once it was loaded."""
    home = os.environ.get("KERAS_HOME", "~/.keras")
    return pathlib.Path(home).expanduser() / "datasets" / "mnist.npz"


def mlp(units):
    """Two dense layers, as a function of the dropout rate."""

    def layers(dropout):
        from keras import layers

        return [
            layers.Dense(units, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(units, activation="relu"),
        ]

    return layers


def convolutions(dropout):
    """A small convolutional network."""
    from keras import layers

    return [
        layers.Conv2D(16, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(dropout),
    ]


def recurrent(dropout):
    """A recurrent network."""
    from keras import layers

    return [layers.GRU(64), layers.Dropout(dropout)]


CASES = {
    "digits": Case("MLP, digits", digits, mlp(128), 64, 6),
    "digits64": Case(
        "MLP, digits, batches of 64", digits, mlp(128), 64, 6, (64,)
    ),
    "wide": Case("MLP, wide table", wide, mlp(256), 64, 4),
    "cnn": Case("CNN, 28 x 28 images", images, convolutions, 16, 4),
    "gru": Case("GRU, digits by rows", steps, recurrent, 64, 4),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """What every way of searching is given."""

    case: Case
    train: tuple
    validation: tuple
    epochs: int
    folder: str

    def build(self, learning_rate, dropout):
        """Returns a compiled model."""
        import keras

        classes = int(self.train[1].max()) + 1
        model = keras.Sequential(
            [
                keras.Input(self.train[0].shape[1:]),
                *self.case.layers(dropout),
                keras.layers.Dense(classes),
            ]
        )
        model.compile(
            keras.optimizers.Adam(learning_rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    def tuned(self, hp):
        """Returns a compiled model for KerasTuner's hyperparameters."""
        hp.Choice("batch_size", list(self.case.batch_sizes))
        return self.build(
            hp.Float("learning_rate", *LEARNING_RATES, sampling="log"),
            hp.Float("dropout", *DROPOUTS),
        )

    @property
    def arguments(self):
        """The arguments of `fit`, but for the batch size."""
        return {
            "x": self.train[0],
            "y": self.train[1],
            "epochs": self.epochs,
            "validation_data": self.validation,
            "verbose": 0,
        }


# --- Ways of searching ---


class Way:
    """A search that goes on until there are so many trials."""

    def go_on(self, trials):
        """Searches on; returns what there is to say about how."""
        self.search(trials)
        return ""


class Tuner(Way):
    """A tuner of KerasTuner's interface."""

    def __init__(self, problem, make, hypermodel):
        self.arguments = problem.arguments
        self.tuner = make(
            hypermodel,
            objective="val_accuracy",
            seed=1,
            directory=problem.folder,
        )

    def search(self, trials, **changes):
        """Searches."""
        self.tuner.oracle.max_trials = trials
        self.tuner.search(**{**self.arguments, **changes})
        for trial in self.tuner.oracle.trials.values():
            if "Traceback" in (trial.message or ""):  # Fails without a word.
                raise RuntimeError(trial.message)

    @property
    def best(self):
        """The best score so far."""
        return self.tuner.oracle.get_best_trials(1)[0].score


class Kerascomp(Tuner):
    """Many trials in one program."""

    def __init__(self, problem, trials):
        from kerascomp.tuners import RandomSearch

        del trials
        super().__init__(problem, RandomSearch, problem.tuned)

    def go_on(self, trials):
        """Searches on; returns which engines that took, by lanes."""
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            self.search(trials, verbose=3)
        lanes = collections.Counter()
        for count, kind in re.findall(
            r"^(\d+) lanes, ([^(]+) \(", told.getvalue(), re.M
        ):
            lanes[kind] += int(count)
        if len(lanes) == 1:
            return next(iter(lanes))
        return ", ".join(f"{n} {kind}" for kind, n in lanes.most_common())


class KerasTuner(Tuner):
    """One trial after the other."""

    def __init__(self, problem, trials):
        import keras_tuner

        del trials

        class Tuned(keras_tuner.HyperModel):
            def build(self, hp):
                return problem.tuned(hp)

            def fit(self, hp, model, *args, **kwargs):
                size = hp.get("batch_size")
                return model.fit(*args, batch_size=size, **kwargs)

        super().__init__(problem, keras_tuner.RandomSearch, Tuned())


class Optuna(Way):
    """A function that builds and fits a model."""

    def __init__(self, problem, trials):
        import optuna

        del trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.RandomSampler(seed=1)
        self.problem = problem
        self.study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(self, trial):
        """Returns the score of a trial."""
        import keras

        keras.utils.clear_session()
        model = self.problem.build(
            trial.suggest_float("learning_rate", *LEARNING_RATES, log=True),
            trial.suggest_float("dropout", *DROPOUTS),
        )
        size = trial.suggest_categorical(
            "batch_size", self.problem.case.batch_sizes
        )
        history = model.fit(batch_size=size, **self.problem.arguments)
        return max(history.history["val_accuracy"])

    def search(self, trials):
        """Searches."""
        done = len(self.study.trials)
        self.study.optimize(self.objective, n_trials=trials - done)

    @property
    def best(self):
        """The best score so far."""
        return self.study.best_value


class Fit(Way):
    """Models that are built before the clock starts."""

    def __init__(self, problem, trials):
        rng = np.random.default_rng(1)
        self.arguments = problem.arguments
        self.members = [
            (
                problem.build(
                    float(np.exp(rng.uniform(*np.log(LEARNING_RATES)))),
                    rng.uniform(*DROPOUTS),
                ),
                int(rng.choice(problem.case.batch_sizes)),
            )
            for _ in range(trials)
        ]
        self.scores = []

    def search(self, trials):
        """Trains models."""
        for model, size in self.members[len(self.scores) : trials]:
            history = model.fit(batch_size=size, **self.arguments)
            self.scores.append(max(history.history["val_accuracy"]))

    @property
    def best(self):
        """The best score so far."""
        return max(self.scores)


WAYS = {
    "kerascomp": Kerascomp,
    PEER: KerasTuner,
    "Optuna": Optuna,
    "fit of built models": Fit,
}


# --- A measurement, in a process of its own ---


def measure(job, options):
    """Returns the time and the memory of one way of searching."""
    import keras

    case = CASES[job["case"]]
    train, validation = (
        (x[: options.samples], y[: options.samples])
        for x, y in case.data(options)
    )
    trials, all_trials = job["trials"], job["trials"] * (1 + job["further"])
    keras.utils.set_random_seed(job["round"])
    keras.ops.convert_to_numpy(keras.ops.ones(1))  # Starts the device.
    with tempfile.TemporaryDirectory() as folder:
        problem = Problem(case, train, validation, options.epochs, folder)
        way = WAYS[job["way"]](problem, all_trials)
        start = time.perf_counter()
        way.search(trials)
        seconds = time.perf_counter() - start
        found = {"seconds": seconds / trials, "best": way.best}
        if job["further"]:
            before = resident_bytes()
            found["engine"] = way.go_on(all_trials)
            grown = resident_bytes() - before
            found["megabytes"] = grown / 1e6 / (all_trials - trials)
    return {**found, "version": version(), "devices": devices()}


def resident_bytes():
    """Returns the memory of this process; NaN where the system hides it."""
    gc.collect()
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        return float("nan")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def version():
    """Returns the backend with its version."""
    import keras

    backend = keras.backend.backend()
    return f"{backend} {installed(backend) or installed(f'{backend}_cpu')}"


def installed(package):
    """Returns the version of a package, None if it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def devices():
    """Returns the devices that the backend sees."""
    import keras

    with contextlib.suppress(Exception):  # Not every backend tells.
        return ", ".join(keras.distribution.list_devices())
    return "unknown devices"


# --- All measurements ---


def main():
    """Measures everything, and prints the table."""
    options = arguments()
    if options.child:
        print(json.dumps(measure(json.loads(options.child), options)))
        return
    ways = [way for way in WAYS if way != "Optuna" or installed("optuna")]
    results, failures = collections.defaultdict(dict), []
    for job in jobs(options, ways):
        print(described(job), end=": ", file=sys.stderr, flush=True)
        try:
            found = run(job)
        except RuntimeError as error:
            failures.append(f"{described(job)}: {error}")
            print("failed", file=sys.stderr)
            continue
        print(f"{found['seconds']:.3f} s a trial", file=sys.stderr)
        place = job["backend"], job["case"], job["way"]
        results[place][job["round"]] = found
    print(machine(results))
    print(f"{options.epochs} epochs; medians of {options.rounds} rounds.\n")
    print(table(options, ways, results))
    if "Optuna" not in ways:
        print("\nOptuna is left out: it is not installed.")
    if failures:
        sys.exit("\n".join(["", "Failed:", *failures]))


def arguments():
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", default="tensorflow,jax")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--trials", type=int, help="of kerascomp")
    parser.add_argument("--others", type=int, help="trials of the others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, help="at most, in each part")
    parser.add_argument("--wide", help="name or file of another wide table")
    parser.add_argument("--target", help="the column of it to predict")
    parser.add_argument(
        "--smoke", action="store_true", help="a little of everything"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.epochs, options.samples = 1, 1, 128
        options.trials, options.others = 4, 1
    for case in options.cases.split(","):
        if case not in CASES:
            parser.error(f"--cases takes {', '.join(CASES)}; not {case!r}")
    return options


def jobs(options, ways):
    """Yields the measurements, the ways by turns and in random order."""
    order = random.Random(0)
    for number in range(options.rounds):
        for backend, name in itertools.product(
            options.backend.split(","), options.cases.split(",")
        ):
            case = CASES[name]
            for way in order.sample(ways, len(ways)):
                trials = options.others or case.others
                if way == "kerascomp":
                    trials = options.trials or case.trials
                yield {
                    "round": number,
                    "backend": backend,
                    "case": name,
                    "way": way,
                    "trials": trials,
                    "further": int(number == 0),
                }


def described(job):
    """Returns a line about a measurement."""
    return "round {round}, {backend}, {case}, {way}".format(**job)


def run(job):
    """Measures in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:]]
    try:
        process = subprocess.run(
            [*command, "--child", json.dumps(job)],
            env={
                **os.environ,
                "KERAS_BACKEND": job["backend"],
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"took {TIMEOUT_SECONDS} seconds") from error
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [""]
        raise RuntimeError(lines[-1])
    found = json.loads(process.stdout.strip().splitlines()[-1])
    return {**found, "trials": job["trials"]}


def machine(results):
    """Describes the machine and what is installed."""
    processor = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text())
        processor = names[0] if names else processor
    parts = [processor, f"{os.cpu_count()} cores"]
    if shutil.which("nvidia-smi"):
        query = ["--query-gpu=name", "--format=csv,noheader"]
        listed = subprocess.run(
            ["nvidia-smi", *query], capture_output=True, text=True
        )
        parts += listed.stdout.split("\n")[:-1]
    parts.append(f"Python {platform.python_version()}")
    for package in ("keras", "keras-tuner", "optuna"):
        parts.append(f"{package} {installed(package) or 'missing'}")
    backends = {
        f"{found['version']} on {found['devices']}"
        for rounds in results.values()
        for found in rounds.values()
    }
    return ", ".join([*parts, *sorted(backends)]) + "."


TITLES = (
    "Backend",
    "Model, data",
    "Search",
    "Trials",
    "s a trial",
    f"Times as fast as {PEER}",
    "Best accuracy",
    "MB more a trial",
)


def table(options, ways, results):
    """Returns a Markdown table, a line for each way of searching."""
    lines = [TITLES, ("---",) * len(TITLES)]
    for backend, case, way in itertools.product(
        options.backend.split(","), options.cases.split(","), ways
    ):
        own, peer = results[backend, case, way], results[backend, case, PEER]
        lines.append((backend, CASES[case].title, *cells(way, own, peer)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(way, own, peer):
    """Returns what was found of one way, as text."""
    if not own:
        return [way, "", "failed", "", "", ""]
    found = list(own.values())
    common = own.keys() & peer.keys()
    ratios = [peer[n]["seconds"] / own[n]["seconds"] for n in common]
    engine = next((f["engine"] for f in found if f.get("engine")), "")
    grown = next((f["megabytes"] for f in found if "megabytes" in f), None)
    return [
        f"{way}, {engine}" if engine else way,
        str(found[0]["trials"]),
        f"{statistics.median(f['seconds'] for f in found):.3f}",
        f"{statistics.median(ratios):.1f}" if ratios else "",
        f"{max(f['best'] for f in found):.3f}",
        "" if grown is None else f"{grown:.1f}",
    ]


if __name__ == "__main__":
    main()
