import os
import pathlib
import subprocess
import sys

import backend
import pytest

pytestmark = pytest.mark.one_backend

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))


def test_there_are_examples():
    assert SCRIPTS


@pytest.mark.extended
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    run(script, tmp_path)


@pytest.mark.every_backend
@pytest.mark.extended
@pytest.mark.skipif(backend.NAME == "tensorflow", reason="All run there.")
def test_an_example_runs_on_this_backend(tmp_path):
    run(FOLDER / "05_gradient_norms.py", tmp_path)


def run(script, tmp_path):
    result = subprocess.run(
        [sys.executable, script, "--smoke"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_is_short(script):
    assert len(script.read_text().splitlines()) < 150
