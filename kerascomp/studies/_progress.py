"""What a study says while it runs."""

import time
from typing import Any

import rich.console
import rich.progress

from kerascomp.studies import _records


class Silent:
    """Says nothing."""

    def start(self, title: str, total: int | None, done: int) -> None:
        """The search starts, or goes on after `done` trials of `total`."""

    def batch(self, trials: int, epochs: int) -> None:
        """Trials start together; `epochs` is the sum over all trainings."""

    def epochs(self, trainings: int) -> None:
        """So many trainings have ended an epoch."""

    def finish_trial(self, trial: _records.Trial, objective: str) -> None:
        """All runs of a trial have ended."""

    def say(self, text: str) -> None:
        """Anything else worth a line."""

    def stop(self) -> None:
        """The search has ended or was interrupted."""


class Terminal(Silent):
    """A line for each trial and two bars, of trials and epochs."""

    def __init__(self) -> None:
        self._console = rich.console.Console(highlight=False)
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=None),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._started = time.perf_counter()

    def start(self, title: str, total: int | None, done: int) -> None:
        self.say(title)
        self._trials = self._bars.add_task(
            "trials", total=total, completed=done
        )
        self._bar = self._bars.add_task("epochs", total=None)
        self._bars.start()

    def batch(self, trials: int, epochs: int) -> None:
        self._bars.update(
            self._bar,
            description=f"epochs of {trials} at once",
            completed=0,
            total=epochs,
        )

    def epochs(self, trainings: int) -> None:
        self._bars.advance(self._bar, trainings)

    def finish_trial(self, trial: _records.Trial, objective: str) -> None:
        self._bars.advance(self._trials)
        values = "  ".join(
            f"{name}={_short(value)}"
            for name, value in trial.hyperparameters.items()
        )
        if trial.score is None:
            result = f"{trial.status}: {trial.message}"
        else:
            spread = "" if trial.std is None else f" ± {trial.std:.4f}"
            result = f"{objective} {trial.score:.4f}{spread}"
            pruned = trial.pruned_epoch
            result += "" if pruned is None else f", ended after {pruned}"
        self.say(f"{trial.id}  {values}  {result}  {trial.seconds:.1f} s")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def stop(self) -> None:
        self._bars.stop()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
