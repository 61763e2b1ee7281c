"""The command `kerascomp lr-range`, as a terminal sees it."""

import contextlib
import csv
import textwrap

import keras
import numpy as np
import pytest
import typer.testing

import kerascomp_cli

pytestmark = pytest.mark.one_backend


def lr_range(*arguments, cwd):
    with contextlib.chdir(cwd):
        result = typer.testing.CliRunner().invoke(
            kerascomp_cli.app,
            ["lr-range", *map(str, arguments)],
            env={"COLUMNS": "200"},
        )
    keras.utils.clear_session()
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    x = np.random.default_rng(0).normal(size=(60, 2))
    lines = [f"{a},{b},{'up' if a > b else 'down'}" for a, b in x]
    (folder / "points.csv").write_text("\n".join(["a,b,way", *lines]))
    (folder / "model.py").write_text(
        textwrap.dedent(
            """
            import keras

            def build(hp, rate=0.1):
                model = keras.Sequential(
                    [keras.Input((2,)), keras.layers.Dense(2, "softmax")]
                )
                optimizer = keras.optimizers.SGD(rate)
                model.compile(optimizer, "sparse_categorical_crossentropy")
                return model

            def scheduled(hp):
                schedules = keras.optimizers.schedules
                return build(hp, schedules.ExponentialDecay(0.1, 5, 0.9))
            """
        )
    )
    return folder


def test_it_prints_suggestions_and_writes_a_table_and_a_plot(folder):
    settings = ["--target", "way", "--steps", 12, "--maximum", 100]
    result = lr_range("points.csv", *settings, cwd=folder)
    assert result.exit_code == 0, result.stderr
    for name in ("valley", "steepest", "minimum tenth"):
        assert name in result.stdout
    written = folder / "runs" / "points-lr-range"
    assert (written / "range.svg").read_text().startswith("<?xml")
    with (written / "range.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert 1 < len(rows) <= 12
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-6)


def test_it_takes_a_users_model_and_writes_a_png(folder):
    settings = ["--target", "way", "--steps", 9, "--model", "model.py:build"]
    places = ["--directory", "own", "--picture", "png", "--ramp", "linear"]
    result = lr_range("points.csv", *settings, *places, cwd=folder)
    assert result.exit_code == 0, result.stderr
    assert (folder / "own" / "range.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minimum", "0"], "`minimum` must be in (0, inf)"),
        (["--minimum", "20"], "`maximum` must be in (20.0, inf)"),
        (["--dropout", "1"], "`dropout` must be in [0, 1)"),
        (["--batch-size", "900"], "must not be larger than the training part"),
        (["--model", "model.py:scheduled"], "has a schedule of its own"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(folder, arguments, message):
    result = lr_range("points.csv", "--target", "way", *arguments, cwd=folder)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
