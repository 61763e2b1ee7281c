"""What the commands do. Options and help are in `kerascomp_cli`."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich.console
import rich.padding
import rich.table

from kerascomp import _files
from kerascomp._validation import UserError

__all__ = ["run"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130  # 130 is what shells use for Ctrl-C.

_LOGARITHMIC = ("learning_rate", "weight_decay")
_SPACE = (
    "batch_size",
    "learning_rate",
    "dropout",
    "weight_decay",
    "warmup_fraction",
    "label_smoothing",
)


class UsageError(UserError):
    """An option that cannot be understood."""


def run(command: str, options: dict[str, Any], debug: bool) -> int:
    """Runs a command and turns errors into messages and exit codes.

    Args:
        command: `"study"`, `"lr-range"`, `"report"` or `"components"`.
        options: As the command line defines them.
        debug: Whether errors keep their traceback.

    Returns:
        0; 1 if it failed; 2 for a mistake of the user; 130 after Ctrl-C.
    """
    try:
        return _COMMANDS[command](**options)
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        mistake = isinstance(error, UserError | FileNotFoundError | ImportError)
        print(f"Error: {error}", file=sys.stderr)
        if not mistake:
            print(
                f"({type(error).__name__}; --debug shows where)",
                file=sys.stderr,
            )
        return USAGE if mistake else FAILED


def _study(data: str, quiet: bool, **options: Any) -> int:
    from kerascomp import studies

    loaded = _load(data, options)
    directory = options["directory"] or Path("runs", _stem(data))
    study = studies.Study(
        _model(options["model"]),
        loaded,
        space=_space(loaded, options),
        algorithm=options["algorithm"].value,
        max_trials=options["trials"],
        epochs=options["epochs"],
        seeds=options["seeds"],
        folds=options["folds"],
        halving=options["halving"],
        max_lanes=options["max_lanes"],
        directory=directory,
        objective=_objective(options["objective"]),
        seed=options["seed"],
        max_minutes=options["max_minutes"],
        overwrite=options["overwrite"],
    )
    if not quiet:
        print(loaded)
    result = study.run(verbose=0 if quiet else 1)
    return _conclude(result)


def _load(data: str, options: dict[str, Any]) -> Any:
    from kerascomp import datasets

    if options["missing"] not in ("refuse", "median"):
        raise UsageError(
            "--missing must be refuse or median. "
            f"Received: {options['missing']!r}"
        )
    return datasets.load(
        data,
        options["target"],
        seed=options["seed"],
        missing=options["missing"],
    )


def _conclude(result: Any) -> int:
    if result.status == "time limit":
        print("The time is up. Run the same command again to go on.")
    best = result.best
    if best is None:
        print(
            "Error: no trial completed; the report says why: "
            f"{result.directory / 'report.html'}",
            file=sys.stderr,
        )
        return FAILED
    values = ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
        for k, v in best.hyperparameters.items()
    )
    print(f"Best: trial {best.id} with {values}")
    print(f"      {result.record.objective} {best.score:.4f}")
    print(f"Report: {result.directory / 'report.html'}")
    print(f"Model:  {result.directory / 'best' / 'model.keras'}")
    return 0


def _lr_range(data: str, **options: Any) -> int:
    loaded = _load(data, options)
    test = _range_test(options)
    model = _model_of_one_trial(loaded, options)
    print(loaded)
    try:
        test.run(
            model,
            loaded.train.x,
            loaded.train.y,
            batch_size=options["batch_size"],
        )
    except ValueError as error:  # Such as a schedule in the optimizer.
        raise UsageError(str(error)) from error
    directory = options["directory"] or Path("runs", f"{_stem(data)}-lr-range")
    table, picture = (
        directory / f"range.{suffix}"
        for suffix in ("csv", options["picture"].value)
    )
    test.to_csv(table)
    with _files.atomic_path(picture) as path:
        test.plot().savefig(path, dpi=150)
    return _tell(test, table, picture)


def _range_test(options: dict[str, Any]) -> Any:
    from kerascomp import callbacks

    try:
        return callbacks.LearningRateRangeTest(
            minimum=options["minimum"],
            maximum=options["maximum"],
            steps=options["steps"],
            ramp=options["ramp"].value,
            smoothing=options["smoothing"],
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _model_of_one_trial(data: Any, options: dict[str, Any]) -> Any:
    """The model that a study would train, with the values of the options."""
    from kerascomp._compat import keras
    from kerascomp.studies import _checks, _space

    names = ("batch_size", "dropout")
    given = {n: options[n] for n in names if options[n] is not None}
    space = _space.make_space(given, len(data.train), grid=False)
    _, build = _checks.resolve_model(_model(options["model"]), data)
    keras.utils.set_random_seed(options["seed"])
    return _checks.guarded(build)(space)


def _tell(test: Any, table: Path, picture: Path) -> int:
    """Prints what a range test has found."""
    steps = len(test.history["step"])
    ended = {
        "maximum": "reached the last rate",
        "diverged": "the loss diverged",
        "not finite": "the loss was not finite",
    }
    print(f"{steps} steps: {ended.get(test.ended, test.ended)}.")
    columns = rich.table.Table(box=None, pad_edge=False)
    columns.add_column("suggestion")
    columns.add_column("learning rate", justify="right")
    for name, rate in test.suggestions.items():
        text = "the loss never falls" if rate is None else f"{rate:.2g}"
        columns.add_row(name.replace("_", " "), text)
    rich.console.Console(highlight=False).print(columns)
    print(f"Plot:  {picture}")
    print(f"Table: {table}")
    return 0


def _report(directory: Path, output: Path | None) -> int:
    from kerascomp import studies

    print(studies.write_report(directory, output))
    return 0


def _components(kind: str | None) -> int:
    from kerascomp import _registry

    if kind is not None and kind not in _registry.KINDS:
        raise UsageError(
            f"There is no kind {kind!r}. Kinds: {', '.join(_registry.KINDS)}."
        )
    console = rich.console.Console(highlight=False, soft_wrap=False)
    chosen = [e for e in _registry.entries() if kind in (None, e.kind)]
    if console.width < _WIDE:
        for entry in chosen:
            console.print(f"{entry.path}  {entry.kind}, since {entry.since}")
            console.print(rich.padding.Padding(entry.summary, (0, 0, 0, 4)))
        return 0
    table = rich.table.Table(box=None, pad_edge=False)
    for column in ("name", "kind", "since", "what it does"):
        table.add_column(column, no_wrap=column != "what it does")
    for entry in chosen:
        table.add_row(entry.path, entry.kind, entry.since, entry.summary)
    console.print(table)
    return 0


_WIDE = 110  # Columns below which a table would be all line breaks.

_COMMANDS: dict[str, Callable[..., int]] = {
    "study": _study,
    "lr-range": _lr_range,
    "report": _report,
    "components": _components,
}


def _stem(data: str) -> str:
    return re.sub(r"(\.csv)?(\.gz)?(\.npz)?$", "", Path(data).name)


def _space(data: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The default space, with what the options say instead or besides."""
    from kerascomp.studies import default_space

    space = default_space(len(data.train))
    for name in _SPACE:
        if options[name] is not None:
            space[name] = _values(name, options[name])
    return space


def _values(name: str, text: str) -> Any:
    """Reads `low:high`, `a,b,c` or one value."""
    kind = int if name == "batch_size" else float
    try:
        if ":" in text:
            low, high = (kind(part) for part in text.split(":"))
            log = name in _LOGARITHMIC and low > 0
            return (low, high, "log") if log else (low, high)
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        option = name.replace("_", "-")
        example = "16,32,64" if kind is int else "0.1:0.5 or 0.1,0.2"
        raise UsageError(
            f"--{option} takes numbers such as {example}. Received: {text!r}"
        ) from None
    return values if len(values) > 1 else values[0]


def _objective(text: str | None) -> Any:
    if text is None or ":" not in text:
        return text
    import keras_tuner

    name, _, direction = text.rpartition(":")
    if direction not in ("min", "max"):
        raise UsageError(
            "--objective takes a metric, or a metric with its direction such "
            f"as val_f1:max. Received: {text!r}"
        )
    return keras_tuner.Objective(name, direction)


def _model(text: str) -> Any:
    """A built-in model's name, or the function of `file.py:function`."""
    if ":" not in text:
        return text
    path, _, name = text.rpartition(":")
    if not Path(path).is_file():
        raise UsageError(f"--model names no file: {path!r}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--model must name a Python file. Received: {path!r}")
    module = importlib.util.module_from_spec(spec)
    # Classes of the file must be importable while models are saved.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            f"{path} raised {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{path} has no function {name!r}.")
    return function
