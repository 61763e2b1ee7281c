"""`kill -9` amid a batch, and a chief whose workers die."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import keras
import pytest
import tuning
from keras_tuner.src.distribute import oracle_chief

from kerascomp.tuners import _batch

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent
EPOCHS = 12
# A pause makes an epoch long enough to be killed in.
SCRIPT = """
import json, sys
import tuning
folder, log, kind, settings = sys.argv[1:]
settings = json.loads(settings)
tuning.searched(
    folder,
    kind=kind,
    fit={"epochs": 12, "callbacks": [tuning.LaneWise(log, 0.02)]},
    **settings,
)
"""


def started(folder, log, kind, settings, **environment):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SCRIPT,
            str(folder),
            str(log),
            kind,
            json.dumps(settings),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
            "CUDA_VISIBLE_DEVICES": "",
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill(process):
    assert process.poll() is None, process.stderr.read().decode()
    process.send_signal(signal.SIGKILL)
    process.wait()


def lines(log):
    return len(log.read_text().splitlines()) if log.exists() else 0


def finish(process):
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()[-3000:]


def approximately(value):
    """Compares the numbers of nested data within rounding."""
    if isinstance(value, dict):
        return {k: approximately(v) for k, v in value.items()}
    if isinstance(value, list):
        return [approximately(v) for v in value]
    return pytest.approx(value, rel=1e-5) if type(value) is float else value


@pytest.mark.parametrize(
    ("kind", "settings", "after_lines"),
    [
        # Some epochs of all six lanes, and of the longest of 17.
        ("random", {"max_trials": 3, "executions_per_trial": 2}, 18),
        ("hyperband", {"max_epochs": 9, "factor": 3}, 26),
    ],
)
def test_a_killed_search_ends_as_if_it_had_never_been(
    kind, settings, after_lines, tmp_path
):
    logs = {name: tmp_path / name for name in ("whole", "killed", "resumed")}
    whole = tuning.searched(
        tmp_path / "a",
        kind=kind,
        fit={"epochs": EPOCHS, "callbacks": [tuning.LaneWise(logs["whole"])]},
        **settings,
    )
    process = started(tmp_path / "b", logs["killed"], kind, settings)
    wait_for(lambda: lines(logs["killed"]) >= after_lines, process)
    time.sleep(random.Random(kind).uniform(0, 0.1))
    kill(process)
    assert 0 < lines(logs["killed"]) < lines(logs["whole"])

    finish(started(tmp_path / "b", logs["resumed"], kind, settings))
    assert lines(logs["resumed"]) < lines(logs["whole"]), "began anew"
    again = tuning.tuner(tmp_path / "b", kind=kind, **settings)
    assert_same(again, whole)
    assert not list((tmp_path / "b").rglob("*running*"))
    assert not list((tmp_path / "b").rglob(".writing-*"))


def assert_same(again, whole):
    """Compares what two searches have found, and the models they kept."""
    assert len(again.oracle.end_order) == len(set(again.oracle.end_order))
    for own, theirs in zip(
        tuning.trials(again), tuning.trials(whole), strict=True
    ):
        assert tuning.file_of(again, own) == approximately(
            tuning.file_of(whole, theirs)
        )
    loss, _ = again.get_best_models()[0].evaluate(
        *tuning.fit_arguments()["validation_data"], verbose=0
    )
    best = whole.oracle.get_best_trials()[0]
    curve = tuning.curve_of(whole, best)
    assert loss == pytest.approx(min(map(min, curve.values())), rel=1e-5)


class Killed(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("structures", [1, 2])
def test_a_batch_that_was_trained_is_not_trained_again(
    structures, tmp_path, monkeypatch
):
    def build(hp):
        rate = hp.Choice("rate", [0.01, 0.02])
        units = structures if rate == 0.02 else 1
        return tuning.model(keras.optimizers.SGD(rate), units)

    def search(name):
        log = tmp_path / f"{name}.log"
        callbacks = [tuning.LaneWise(log)]
        tuner = tuning.tuner(tmp_path / "project", build, "grid")
        tuner.search(**tuning.fit_arguments(epochs=3, callbacks=callbacks))
        return lines(log), tuner

    def end(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tuning.CLASSES["grid"], "on_trial_end", end)
        patch.setattr(_batch._Checkpoint, "_SHARE", 1.0)  # Every epoch.
        with pytest.raises(Killed):
            search("first")
    again, tuner = search("second")
    assert again == 0
    assert tuning.statuses(tuner) == ["COMPLETED"] * 2
    for model, score in zip(
        tuner.get_best_models(2), sorted(tuning.scores(tuner)), strict=True
    ):
        loss, _ = model.evaluate(
            *tuning.fit_arguments()["validation_data"], verbose=0
        )
        assert loss == pytest.approx(score, rel=1e-5)


def test_lanes_that_are_trained_alone_resume_alone(tmp_path, monkeypatch):
    """One lane breaks the batch; the process dies before the last is done."""
    calls = []

    def failing(outcomes, settings, alone=False, real=_batch._train):
        calls.append([own.lane.key for own in outcomes])
        if not alone:
            raise RuntimeError("together")
        if len(calls) == 4:
            raise Killed
        real(outcomes, settings, alone)

    log = tmp_path / "log"
    tuner = tuning.tuner(tmp_path, max_trials=3)
    fit = tuning.fit_arguments(callbacks=[tuning.LaneWise(log)])
    with monkeypatch.context() as patch:
        patch.setattr(_batch, "_train", failing)
        patch.setattr(_batch._Checkpoint, "_SHARE", 1.0)  # Every epoch.
        with pytest.raises(Killed):
            tuner.search(**fit)
    assert lines(log) == 4
    assert len(list((tmp_path / "search").glob("*running*"))) == 2
    again = tuning.tuner(tmp_path, max_trials=3)
    again.search(**fit)
    assert lines(log) == 6
    assert tuning.statuses(again) == ["COMPLETED"] * 3
    assert not list((tmp_path / "search").glob("*running*"))


def test_a_model_that_changed_begins_anew(tmp_path, monkeypatch):
    def end(*arguments):
        raise Killed

    tuner = tuning.tuner(tmp_path, max_trials=2)
    with monkeypatch.context() as patch:
        patch.setattr(_batch, "forget", end)
        patch.setattr(tuner, "on_trial_end", end)
        with pytest.raises(Killed):
            tuner.search(**tuning.fit_arguments())

    def wider(hp):
        hp.Float("rate", 1e-3, 1e-1, sampling="log")
        return tuning.model("sgd", 5)

    log = tmp_path / "log"
    again = tuning.searched(
        tmp_path, wider, max_trials=2, fit={"callbacks": [tuning.LaneWise(log)]}
    )
    assert tuning.statuses(again) == ["COMPLETED"] * 2
    assert lines(log) == 4


SHARED = {"max_trials": 8, "max_lanes": 2}


def test_a_chief_outlives_its_workers(chief, tmp_path, monkeypatch):
    chief, thread, address = chief

    def worker(name):
        log = tmp_path / f"{name}.log"
        own = {**address, "KERASTUNER_TUNER_ID": name}
        return started(tmp_path, log, "random", SHARED, **own)

    workers = [worker("first"), worker("second")]
    log = tmp_path / "first.log"
    wait_for(lambda: lines(log) >= 6, workers[0])
    kill(workers[0])
    workers[0] = worker("first")
    for process in workers:
        finish(process)
    thread.join(60)
    assert not thread.is_alive(), "the chief waits for ever"

    assert tuning.statuses(chief) == ["COMPLETED"] * 8
    assert sorted(chief.oracle.end_order) == sorted(chief.oracle.trials)
    for trial in tuning.trials(chief):
        curve = tuning.curve_of(chief, trial)
        assert {len(values) for values in curve.values()} == {1}
        assert [*curve] == list(range(EPOCHS))
    # With the seed of the search, not one that a worker drew.
    monkeypatch.undo()
    alone = tuning.searched(
        tmp_path / "b", max_trials=8, fit={"epochs": EPOCHS}
    )
    assert tuning.scores(chief) == pytest.approx(tuning.scores(alone), rel=1e-5)


@pytest.fixture
def chief(tmp_path, monkeypatch):
    """A chief that is searching, its thread, and the address of both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }
    # It would look every 20 seconds whether all have gone.
    soon = types.SimpleNamespace(sleep=lambda _: time.sleep(0.05))
    monkeypatch.setattr(oracle_chief, "time", soon)
    for name, value in {**address, "KERASTUNER_TUNER_ID": "chief"}.items():
        monkeypatch.setenv(name, value)
    own = tuning.tuner(tmp_path, **SHARED)
    thread = threading.Thread(
        target=own.search, kwargs={"verbose": 0}, daemon=True
    )
    thread.start()
    return own, thread, address
