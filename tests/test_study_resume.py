"""`kill -9` at random moments: nothing lost, nothing counted twice."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Deterministic but for the wall clock: one engine, not the faster of two.
SCRIPT = """
import sys
import studying
from kerascomp import export
directory, algorithm, epochs = sys.argv[1:]
# Saving the best model is tested elsewhere and would take most of the time.
export.export_model = lambda model, folder, sample: folder.mkdir(exist_ok=True)
trials = None if algorithm == "hyperband" else 6
studying.study(
    directory,
    algorithm=algorithm,
    max_trials=trials,
    epochs=int(epochs),
    seeds=2,
    max_lanes=8,
    engine="looped",
).run(verbose=0)
"""
EPOCHS = {"bayesian": 60, "hyperband": 27}


def command(directory, algorithm):
    epochs = str(EPOCHS[algorithm])
    return [sys.executable, "-c", SCRIPT, str(directory), algorithm, epochs]


def environment():
    return {**os.environ, "PYTHONPATH": str(HERE), "CUDA_VISIBLE_DEVICES": ""}


def run(directory, algorithm):
    subprocess.run(
        command(directory, algorithm),
        check=True,
        env=environment(),
        capture_output=True,
    )


def run_and_kill(directory, algorithm, runs_more, delay):
    """Kills the study while it trains, after it has finished some more runs.

    Returns:
        The finished runs, and whether a batch was under way.
    """
    process = subprocess.Popen(
        command(directory, algorithm),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = directory / "runs"
    count = lambda: len(list(folder.glob("[!.]*.json")))
    target = count() + runs_more
    running = directory / "running.npz"
    deadline = time.monotonic() + 120
    while process.poll() is None and not (
        count() >= target and running.exists()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    runs = {path.name: path.read_bytes() for path in folder.glob("[!.]*.json")}
    return runs, running.exists()


def results(directory):
    """Everything that was found, without the wall clock."""
    with (directory / "curves.csv").open(newline="") as file:
        curves = [
            row for row in csv.DictReader(file) if row["metric"] != "seconds"
        ]
    with (directory / "trials.csv").open(newline="") as file:
        trials = [
            {k: v for k, v in row.items() if "second" not in k}
            for row in csv.DictReader(file)
        ]
    tuner = {
        path.name: json.loads(path.read_text())["hyperparameters"]["values"]
        for path in sorted(directory.glob("keras_tuner/trial_*/trial.json"))
    }
    return {"trials": trials, "curves": curves, "tuner": tuner}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", list(EPOCHS))
def test_a_killed_study_ends_as_if_it_had_never_been(tmp_path, algorithm):
    chance = random.Random(algorithm)
    run(tmp_path / "whole", algorithm)
    killed = tmp_path / "killed"
    kept, caught = {}, []
    for runs_more in (0, 1):
        delay = 0.1 * chance.random()
        now, under_way = run_and_kill(killed, algorithm, runs_more, delay)
        caught.append(under_way)
        # What was finished once is there for ever, to the byte.
        assert {name: now[name] for name in kept} == kept
        kept = now
    assert any(caught)
    run(killed, algorithm)
    after = {p.name: p.read_bytes() for p in (killed / "runs").glob("*.json")}
    assert {name: after[name] for name in kept} == kept
    assert results(killed) == results(tmp_path / "whole")
    assert not list(killed.rglob(".writing-*.json"))
    assert not (killed / "running.npz").exists()
