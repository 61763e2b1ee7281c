"""Directories of made-up studies, as a real study would leave them."""

import dataclasses
import math

import numpy as np

from kerascomp import _files
from kerascomp.studies import _records

ACCURACY = {"name": "val_accuracy", "direction": "max"}
LOSS = {"name": "val_loss", "direction": "min"}
SPACE = {
    "batch_size": {
        "class_name": "Choice",
        "config": {"name": "batch_size", "values": [16, 64, 256]},
    },
    "learning_rate": {
        "class_name": "Float",
        "config": {
            "name": "learning_rate",
            "min_value": 1e-4,
            "max_value": 0.1,
            "sampling": "log",
        },
    },
    "dropout": {
        "class_name": "Float",
        "config": {
            "name": "dropout",
            "min_value": 0.0,
            "max_value": 0.6,
            "sampling": "linear",
        },
    },
}
BASELINES = [
    {
        "name": "majority class",
        "validation": {"accuracy": 0.1014, "loss": 2.303},
        "test": {"accuracy": 0.1009, "loss": 2.303},
        "notes": [],
    },
    {
        "name": "logistic regression",
        "validation": {"accuracy": 0.9566, "loss": 0.21},
        "test": {"accuracy": 0.9378, "loss": 0.25},
        "notes": ["Stopped after 1000 iterations, before it converged."],
    },
]
# What studies on lanes say besides.
LANES = {"max_lanes": None, "engine": "auto"}
SURROUNDINGS = {
    "versions": {
        "kerascomp": "0.1.0",
        "python": "3.11.9",
        "keras": "3.15.1",
        "tensorflow": "2.21.0",
        "numpy": "2.4.6",
        "keras-tuner": "1.4.8",
    },
    "machine": {
        "processor": "Some Processor @ 2.20GHz",
        "cores": 2,
        "system": "Linux x86_64",
    },
}


def simulated_run(trial, seed, choices, epochs=15, first_epoch=0):
    """A run of a made-up training whose quality depends on the choices."""
    rng = np.random.default_rng([int(trial), seed])
    updates = -(-1077 // choices.get("batch_size", 64))
    epoch = np.arange(first_epoch, epochs) + 1
    curves = simulated_curves(rng, choices, updates, epoch)
    accuracy = curves["val_accuracy"]
    best = int(np.argmax(accuracy))
    return _records.Run(
        trial=trial,
        seed=seed,
        status=_records.COMPLETED,
        hyperparameters=choices,
        score=float(accuracy[best]),
        best_epoch=first_epoch + best,
        first_epoch=first_epoch,
        curves={k: v.tolist() for k, v in curves.items()},
        updates_per_epoch=updates,
        seconds=float(curves["seconds"].sum()) + 0.8,
        examples_per_second=float(1077 / np.median(curves["seconds"][1:]))
        if len(epoch) > 1
        else None,
    )


def simulated_curves(rng, choices, updates, epoch):
    """The curves over the given epochs, counted from 1."""
    size = choices.get("batch_size", 64)
    rate = choices.get("learning_rate", 0.01)
    ideal = 0.004 * math.sqrt(size / 32)
    miss = abs(math.log10(rate / ideal))
    speed = 0.5 * min(rate / ideal, 1.5) ** 0.6 * (updates / 17) ** 0.3
    ceiling = 0.977 - 0.02 * miss**2 - 0.03 * choices.get("dropout", 0.2)
    progress = 1 - np.exp(-speed * epoch)
    accuracy = np.clip(
        0.1 + (ceiling - 0.1) * progress + rng.normal(0, 0.004, len(epoch)),
        0,
        1,
    )
    train = np.clip(0.1 + 0.898 * (1 - np.exp(-1.1 * speed * epoch)), 0, 1)
    norm = (0.3 + 2.5 * np.exp(-speed * epoch)) * (1 + 20 * rate)
    norm = norm * np.exp(rng.normal(0, 0.06, len(epoch)))
    return {
        "loss": -np.log(np.clip(train, 0.05, 0.999)),
        "accuracy": train,
        "val_loss": -np.log(accuracy) + 0.02 * progress,
        "val_accuracy": accuracy,
        "learning_rate": rate * np.cos(epoch / epoch[-1] * np.pi / 2) ** 2,
        "grad_norm": norm,
        "grad_norm_max": norm * np.exp(rng.uniform(0.2, 1.2, len(epoch))),
        "seconds": updates * 0.0009 * (1 + size / 400)
        + 0.01
        + 0.4 * (epoch == 1),
    }


def diverged(run, epoch=3):
    """The same run, ended by a NaN in an epoch counted from 0."""
    curves = {k: [*v[:epoch], None] for k, v in run.curves.items()}
    curves["seconds"] = list(run.curves["seconds"][: epoch + 1])
    for name in ("grad_norm", "grad_norm_max"):
        growth = 9.0 ** np.arange(epoch)
        curves[name] = [*(np.array(run.curves[name][:epoch]) * growth), None]
    return dataclasses.replace(
        run,
        status=_records.DIVERGED,
        score=None,
        best_epoch=None,
        diverged_epoch=epoch,
        message=f"not finite in epoch {epoch + 1}: loss",
        curves=curves,
    )


def failed(run, message="ResourceExhaustedError: out of memory"):
    return dataclasses.replace(
        run,
        status=_records.FAILED,
        score=None,
        best_epoch=None,
        curves={},
        updates_per_epoch=None,
        examples_per_second=None,
        message=message,
    )


def random_choices(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "batch_size": int(rng.choice([16, 64, 256])),
            "learning_rate": float(10 ** rng.uniform(-4, -1)),
            "dropout": float(rng.uniform(0, 0.6)),
        }
        for _ in range(count)
    ]


def write_study(
    directory,
    runs,
    objective=ACCURACY,
    space=SPACE,
    status="finished",
    settings=(),
    **more,
):
    for run in runs:
        _records.write_run(directory, run)
    _files.write_json(
        directory / "study.json",
        {
            "format": 1,
            "status": status,
            "created": "2025-03-01T12:00:05+00:00",
            "updated": "2025-03-01T12:01:40+00:00",
            "settings": {
                "algorithm": "random",
                "max_trials": 16,
                "epochs": 15,
                "seeds": 1,
                "seed": 0,
                "objective": objective,
                "model": "mlp",
                "space": space,
                "data": "sha256:4be1",
                "backend": "tensorflow",
                **dict(settings),
            },
            "data": {
                "name": "digits",
                "task": "classification",
                "sizes": {"train": 1077, "validation": 360, "test": 360},
                "input_shape": [64],
                "num_classes": 10,
                "fingerprint": "4be1" * 16,
            },
            **SURROUNDINGS,
            "baselines": BASELINES,
            **more,
        },
    )
    return directory


def write_best(directory, trial, accuracy=0.9694, status="passed"):
    _files.write_json(
        directory / "best" / "metrics.json",
        {
            "trial": trial,
            "seed": 0,
            "epoch": 11,
            "hyperparameters": {},
            "validation": {"loss": 0.09, "accuracy": 0.9722},
            "test": {"loss": 0.1123, "accuracy": accuracy},
        },
    )
    formats = {
        "keras": {"status": "passed", "max_abs_difference": 0.0},
        "tf_saved_model": {
            "status": status,
            "max_abs_difference": 1.2e-7,
            "reason": "",
        },
        "onnx": {"status": "skipped", "reason": "onnx is not installed"},
    }
    _files.write_json(
        directory / "best" / "parity.json", {"formats": formats, "samples": 32}
    )


def digits_study(directory, count=16, seeds=1, lost=(3,), **more):
    """A study like a real one: some trials diverged, a model saved."""
    runs = []
    for index, choices in enumerate(random_choices(count)):
        trial = f"{index:04d}"
        if index in lost:
            choices["learning_rate"] = 0.09
        for seed in range(seeds):
            run = simulated_run(trial, seed, choices)
            runs.append(diverged(run) if index in lost else run)
    write_study(directory, runs, **more)
    record = _records.read(directory)
    if record.best:
        write_best(directory, record.best.id)
    return directory


def one_rate_study(directory):
    """One trial over one hyperparameter, while the study runs."""
    run = simulated_run("0000", 0, {"learning_rate": 0.01})
    space = {"learning_rate": SPACE["learning_rate"]}
    return write_study(directory, [run], space=space, status="running")


def diverged_study(directory):
    """All diverged, some before the first epoch ended."""
    runs = [
        diverged(simulated_run(f"{i:04d}", 0, choices), epoch=i % 3)
        for i, choices in enumerate(random_choices(5))
    ]
    return write_study(directory, runs)


def hostile_study(directory):
    """Names that are markup, mathtext or control characters; huge losses."""
    script, long_name = (
        "<script>alert(1)</script>",
        '"a" & $b_$ \x00' + "x" * 60,
    )
    space = {
        **SPACE,
        script: {"class_name": "Choice", "config": {"values": [script, "$x$"]}},
        "batch_norm": {"class_name": "Boolean", "config": {}},
        long_name: {"class_name": "Int", "config": {"min_value": 1}},
    }
    runs = hostile_runs(script, long_name)
    baselines = [{**BASELINES[1], "name": script, "notes": [script]}]
    write_study(
        directory,
        runs,
        objective=LOSS,
        space=space,
        status=script,
        data={"name": script, "task": script},
        baselines=baselines,
        machine={script: {script: script}},
    )
    write_best(directory, "0001", status="failed")
    return directory


def hostile_runs(script, long_name):
    runs = []
    for index, choices in enumerate(random_choices(20)):
        choices[script] = (script, "$x$")[index % 2]
        choices["batch_norm"] = index % 3 == 0
        choices[long_name] = 1 + index
        run = simulated_run(f"{index:04d}", 0, choices)
        losses = run.curves["val_loss"]
        run = dataclasses.replace(
            run,
            score=min(losses) * (1000 if index == 4 else 1),
            best_epoch=losses.index(min(losses)),
        )
        runs.append(failed(run, script) if index == 7 else run)
    return runs


def regression_study(directory):
    runs = []
    for index, choices in enumerate(random_choices(12)):
        run = simulated_run(f"{index:04d}", 0, choices)
        curves = dict(run.curves)
        curves["mae"] = [60 - 48 * v for v in curves.pop("accuracy")]
        curves["val_mae"] = [60 - 48 * v for v in curves.pop("val_accuracy")]
        score = min(curves["val_mae"])
        runs.append(dataclasses.replace(run, curves=curves, score=score))
    write_study(
        directory,
        runs,
        objective={"name": "val_mae", "direction": "min"},
        data={"name": "diabetes", "task": "regression"},
        baselines=[
            {
                "name": "mean",
                "validation": {"mae": 64.0},
                "test": {"mae": 66.0},
            },
            {
                "name": "ridge regression",
                "validation": {"mae": 12.5},
                "test": {"mae": 13.0},
            },
        ],
    )
    best = {"trial": "0001", "seed": 0, "test": {"mae": 14.25}}
    _files.write_json(directory / "best" / "metrics.json", best)
    return directory


def hyperband_study(directory):
    """Four of twelve short trials go on as trials of their own."""
    runs = [
        simulated_run(f"{i:04d}", 0, {**choices, "tuner/epochs": 3}, epochs=3)
        for i, choices in enumerate(random_choices(12))
    ]
    for i, choices in enumerate(random_choices(4)):
        choices["tuner/trial_id"] = f"{i:04d}"
        trial = f"{12 + i:04d}"
        runs.append(simulated_run(trial, 0, choices, epochs=9, first_epoch=3))
    return write_study(directory, runs)


def pruned(run, epochs):
    """The same run, ended after so many epochs because others were better."""
    curves = {name: values[:epochs] for name, values in run.curves.items()}
    best = int(np.argmax(curves["val_accuracy"]))
    return dataclasses.replace(
        run,
        score=curves["val_accuracy"][best],
        best_epoch=best,
        pruned_epoch=epochs,
        curves=curves,
    )


def halving_study(directory):
    """Of 18 trials, 6 go on after epoch 2, and 2 of these after epoch 5.

    Trial 0003 diverges in epoch 4, so 5 are compared after epoch 5.
    """
    runs = []
    for index, choices in enumerate(random_choices(18)):
        run = simulated_run(f"{index:04d}", 0, choices)
        if index == 3:
            run = diverged(run)
        elif index >= 6:
            run = pruned(run, 2)
        elif index >= 2:
            run = pruned(run, 5)
        runs.append(run)
    settings = {"halving": 3, **LANES}
    write_study(directory, runs, settings=settings)
    write_best(directory, _records.read(directory).best.id)
    return directory


def folds_study(directory):
    """Eight trials, each trained on three folds."""
    runs = [
        simulated_run(f"{index:04d}", fold, choices)
        for index, choices in enumerate(random_choices(8))
        for fold in range(3)
    ]
    write_study(directory, runs, settings={"folds": 3, **LANES})
    write_best(directory, _records.read(directory).best.id)
    return directory


def bare_study(directory):
    """The least that a directory can hold: no curves, conditional choices."""
    runs = [
        _records.Run(
            trial=f"{i:04d}",
            seed=0,
            status=_records.COMPLETED,
            hyperparameters={"rate": 0.1 * i} if i % 2 else {},
            score=0.5 + i / 100,
        )
        for i in range(10)
    ]
    for run in runs:
        _records.write_run(directory, run)
    settings = {"objective": ACCURACY, "space": {"rate": None}}
    _files.write_json(directory / "study.json", {"settings": settings})
    return directory
