"""The command line's front door: names, options and help.

It stands outside the package because importing the package imports Keras, and
`kerascomp --help` must answer at once. What a command does is in
`kerascomp.cli`, which is imported when one runs.
"""

import enum
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="kerascomp",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Studies over batch size, learning rate and dropout, their reports, "
    "and range tests.",
)


class Algorithm(enum.StrEnum):
    """How a study searches."""

    RANDOM = "random"
    GRID = "grid"
    BAYESIAN = "bayesian"
    HYPERBAND = "hyperband"


class Ramp(enum.StrEnum):
    """How a range test raises the learning rate."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"


class Picture(enum.StrEnum):
    """The format of a picture."""

    SVG = "svg"
    PNG = "png"


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="digits, breast_cancer, wine or diabetes (work offline); "
        "mnist, fashion_mnist, cifar10 or california_housing; or a .csv, "
        ".csv.gz or .npz file.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None, typer.Option(help="Column to predict, for CSV files.")
]
Missing = Annotated[
    str,
    typer.Option(
        metavar="HOW",
        help="Empty numbers in CSV files: refuse them, or fill them with "
        "the median and mark them.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="auto, mlp, cnn, gru, or file.py:function for a function "
        "that takes KerasTuner's hyperparameters and returns a compiled "
        "model.",
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.")
]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that go without a command."""
    if version:
        from importlib import metadata

        typer.echo(f"kerascomp {metadata.version('kerascomp')}")
        raise typer.Exit


@app.command()
def study(
    data: Data,
    target: Target = None,
    missing: Missing = "refuse",
    model: Model = "auto",
    algorithm: Annotated[
        Algorithm,
        typer.Option(
            metavar="NAME", help="random, grid, bayesian or hyperband."
        ),
    ] = Algorithm.RANDOM,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of trials. [default: 48, or the grid]"
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs of a training.")
    ] = 20,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings of each trial.")
    ] = 1,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Cross-validate each trial, instead of --seeds."
        ),
    ] = None,
    halving: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Twice while training, let one trial in so many go on.",
        ),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(metavar="VALUES", help="Choices `16,32,64`, or one."),
    ] = None,
    learning_rate: Annotated[
        str | None,
        typer.Option(
            metavar="VALUES",
            help="Range `1e-4:1e-1` (logarithmic), or choices.",
        ),
    ] = None,
    dropout: Annotated[
        str | None,
        typer.Option(metavar="VALUES", help="Range `0:0.6`, or choices."),
    ] = None,
    weight_decay: Annotated[
        str | None,
        typer.Option(
            metavar="VALUES",
            help="Range `1e-5:1e-1` (logarithmic), or choices.",
        ),
    ] = None,
    warmup_fraction: Annotated[
        str | None,
        typer.Option(
            metavar="VALUES",
            help="Share of the epochs to warm up. [default: 0.1]",
        ),
    ] = None,
    label_smoothing: Annotated[
        str | None,
        typer.Option(metavar="VALUES", help="Range `0:0.2`, or choices."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="Metric to improve, as `val_loss` or `val_f1:max`. "
            "[default: val_accuracy or val_loss]"
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where everything is kept. [default: runs/DATA]"),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides split, search and trainings.")
    ] = 0,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Stop after so many minutes; resume later."),
    ] = None,
    max_lanes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most trainings at once: lower it to save memory. "
            "[default: 64]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Delete a study in the directory first.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the result only.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Search hyperparameters and keep everything: tables, report, model.

    Run the same command again to resume an interrupted study.

    Examples:

        kerascomp study digits

        kerascomp study digits --batch-size 16,64,256 --learning-rate 1e-4:1

        kerascomp study prices.csv --target price --algorithm bayesian

        kerascomp study mnist --model my_model.py:build --max-minutes 30
    """
    options = dict(locals())
    _run("study", options)


@app.command()
def lr_range(
    data: Data,
    target: Target = None,
    missing: Missing = "refuse",
    model: Model = "auto",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Samples in a batch.")
    ] = 32,
    dropout: Annotated[
        float | None, typer.Option(help="Dropout rate of the model.")
    ] = None,
    minimum: Annotated[
        float, typer.Option(help="Learning rate of the first step.")
    ] = 1e-6,
    maximum: Annotated[
        float, typer.Option(help="Learning rate of the last step.")
    ] = 10.0,
    steps: Annotated[int, typer.Option(min=2, help="Number of steps.")] = 200,
    ramp: Annotated[
        Ramp, typer.Option(metavar="HOW", help="exponential or linear.")
    ] = Ramp.EXPONENTIAL,
    smoothing: Annotated[
        float, typer.Option(help="Weight of the past losses, below 1.")
    ] = 0.9,
    directory: Annotated[
        Path | None,
        typer.Option(
            help="Where table and plot are written. [default: "
            "runs/DATA-lr-range]"
        ),
    ] = None,
    picture: Annotated[
        Picture, typer.Option(metavar="FORMAT", help="svg or png.")
    ] = Picture.SVG,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides split, weights and batches.")
    ] = 0,
    debug: Debug = False,
) -> None:
    """Suggest a learning rate from one short run that raises it.

    Prints the suggestions, and writes `range.csv` and a plot: look at it
    before you believe them.

    Examples:

        kerascomp lr-range digits

        kerascomp lr-range prices.csv --target price --model my_model.py:build
    """
    _run("lr-range", dict(locals()))


@app.command()
def report(
    directory: Annotated[
        Path, typer.Argument(help="A study's directory.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="File. [default: report.html in the directory]"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the report of a study again, finished or not.

    Example:

        kerascomp report runs/digits
    """
    _run("report", dict(locals()))


@app.command()
def components(
    kind: Annotated[
        str | None,
        typer.Option(help="Only this kind, such as layer or loss."),
    ] = None,
    debug: Debug = False,
) -> None:
    """List what kerascomp adds to Keras.

    Example:

        kerascomp components --kind loss
    """
    _run("components", dict(locals()))


def main() -> None:
    """Runs the `kerascomp` command."""
    app()


def _run(command: str, options: dict[str, Any]) -> None:
    """Runs a command of `kerascomp.cli` and exits with what it returns."""
    debug = options.pop("debug")
    try:
        _import_quietly()
    except ImportError as error:  # No backend: the message says what to do.
        if debug:
            raise
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    from kerascomp import cli

    sys.exit(cli.run(command, options, debug))


def _import_quietly() -> None:
    """Imports the backend without its greetings, which hide what matters.

    TensorFlow writes them from C++, past `sys.stderr`, at its import and at
    its first operation. If anything goes wrong, all of it is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            from kerascomp._compat import keras

            keras.ops.zeros(1)
        except BaseException:
            written.seek(0)
            os.write(original, written.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
