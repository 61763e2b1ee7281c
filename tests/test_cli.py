"""The command line, as a terminal sees it."""

import contextlib
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import typer.testing

import kerascomp as kc
import kerascomp_cli

pytestmark = pytest.mark.one_backend


def kerascomp(*arguments, cwd):
    """Runs the command in this process, in another folder."""
    with contextlib.chdir(cwd):
        result = typer.testing.CliRunner().invoke(
            kerascomp_cli.app,
            [str(argument) for argument in arguments],
            env={"COLUMNS": "200"},
        )
    keras.utils.clear_session()
    return result


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    """A folder with a data file and models, where a study has run."""
    folder = tmp_path_factory.mktemp("terminal")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    lines = [f"{a},{b},{'up' if a > b else 'down'}" for a, b in x]
    (folder / "points.csv").write_text("\n".join(["a,b,way", *lines]))
    (folder / "model.py").write_text(
        textwrap.dedent(
            """
            import keras

            def build(hp):
                model = keras.Sequential(
                    [keras.Input((2,)), keras.layers.Dense(2, "softmax")]
                )
                rate = hp.Float("learning_rate", 1e-3, 1e-1)
                model.compile(
                    keras.optimizers.SGD(rate),
                    "sparse_categorical_crossentropy",
                    metrics=["accuracy"],
                )
                return model

            def broken(hp):
                raise RuntimeError("no layers left")
            """
        )
    )
    return folder


def study(*arguments, cwd):
    settings = [
        "--target",
        "way",
        "--trials",
        "2",
        "--epochs",
        "1",
        "--batch-size",
        "8,16",
    ]
    return kerascomp("study", "points.csv", *settings, *arguments, cwd=cwd)


def test_a_missing_backend_is_explained_without_a_traceback(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "sys.argv = ['kerascomp', 'components']\n"
        "import kerascomp_cli\n"
        "kerascomp_cli.main()\n"
    )
    for backend, message in (
        ("tensorflow", 'pip install "kerascomp[tensorflow]"'),
        ("theano", "KERAS_BACKEND=tensorflow, jax or torch"),
    ):
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "KERAS_BACKEND": backend},
        )
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr


def test_help_answers_without_importing_keras(tmp_path):
    code = (
        "import sys\n"
        "sys.argv = ['kerascomp', '--help']\n"
        "import kerascomp_cli\n"
        "try:\n"
        "    kerascomp_cli.main()\n"
        "finally:\n"
        "    assert not {'keras', 'numpy', 'kerascomp'} & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for command in ("study", "report", "components"):
        assert command in result.stdout


def test_version_is_that_of_the_package(tmp_path):
    result = kerascomp("--version", cwd=tmp_path)
    assert result.stdout.split() == ["kerascomp", kc.__version__]


def test_components_lists_everything_registered(tmp_path):
    result = kerascomp("components", cwd=tmp_path)
    for entry in kc.entries():
        line = next(
            text
            for text in result.stdout.splitlines()
            if text.startswith(f"{entry.path} ")
        )
        assert line.split()[1:3] == [entry.kind, entry.since]
        assert line.rstrip().endswith(entry.summary)


@pytest.mark.extended
def test_study_and_report_work_and_say_where_things_are(terminal):
    result = study(cwd=terminal)
    assert result.exit_code == 0, result.stderr
    assert "Best: trial" in result.stdout
    assert "val_accuracy" in result.stdout
    assert (terminal / "runs" / "points" / "best" / "model.keras").exists()
    again = study("--quiet", cwd=terminal)
    assert again.exit_code == 0
    assert again.stdout.startswith("Best: trial")
    report = kerascomp(
        "report", "runs/points", "--output", "copy.html", cwd=terminal
    )
    assert report.exit_code == 0
    assert report.stdout.strip() == "copy.html"
    copy = (terminal / "copy.html").read_text()
    assert copy == (terminal / "runs" / "points" / "report.html").read_text()


@pytest.mark.extended
def test_a_users_model_is_searched(terminal):
    result = study(
        "--model", "model.py:build", "-q", "--directory", "own", cwd=terminal
    )
    assert result.exit_code == 0, result.stderr
    assert "learning_rate" in result.stdout


MISTAKES = [
    (["--learning-rate", "fast"], "--learning-rate takes numbers such as"),
    (["--learning-rate", "0,1"], "`learning_rate` must be in (0, inf)"),
    (["--dropout", "0.5:1"], "`dropout` must be in [0, 1)"),
    (["--batch-size", "4000"], "must not be larger than the training part"),
    (["--model", "nothing.py:build"], "--model names no file"),
    (["--model", "model.py:nothing"], "has no function 'nothing'"),
    (["--model", "model.py:broken"], "RuntimeError: no layers left"),
    (["--objective", "val_f1:up"], "takes a metric"),
    (["--target", "direction"], "direction"),
    (["--directory", "."], "holds no study"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_gets_one_message_and_exit_code_2(
    terminal, arguments, message
):
    result = study(*arguments, cwd=terminal)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_data_set_is_a_mistake(terminal):
    result = kerascomp("study", "digit", cwd=terminal)
    assert result.exit_code == 2
    assert "digits" in result.stderr


def test_debug_shows_where_it_happened(terminal):
    result = study("--model", "model.py:broken", "--debug", cwd=terminal)
    assert "no layers left" in str(result.exception)


def test_unknown_options_exit_with_2(tmp_path):
    assert kerascomp("study", "--speed", "9", cwd=tmp_path).exit_code == 2


def test_a_report_needs_a_study(tmp_path):
    result = kerascomp("report", tmp_path, cwd=tmp_path)
    assert result.exit_code == 2
    assert "it has no study.json" in result.stderr
