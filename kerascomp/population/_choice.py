"""Which engine runs a group, by trying."""

import dataclasses
from typing import Any

from kerascomp import _compat
from kerascomp.population import _engine, _looped, _members, _program

VECTORIZED, XLA, LOOPED = "vectorized", "vectorized with XLA", "looped"

# A step of one lane takes longer than this, whatever the model: so many
# tensors have to pass into a compiled function and out again.
_LEAST_SECONDS_A_LANE = {"tensorflow": 4e-4, "jax": 1e-4}
# XLA compiles slowly, and anew for every shape. It is tried where the training
# that is left takes this many times as long as the compilation without it.
_XLA_PATIENCE = 20.0

# An engine that is so many times slower than another one is not timed again
# for other batch sizes.
_HOPELESS = 2.0

# So many are kept, however many structures there are: each holds a model.
_MOST_PROGRAMS = 16


@dataclasses.dataclass(frozen=True)
class Trial:
    """What engines may be timed with.

    Attributes:
        batch: A batch to train on; None times nothing.
        steps: How many steps the training will take.
        probing: What it measures, of `_probe.QUANTITIES`.
        verbose: Whether to say what runs and why.
    """

    batch: _program.Batch | None = None
    steps: int = 0
    probing: tuple[str, ...] = ()
    verbose: int = 0


class Programs:
    """Keeps what was compiled for a group, and makes engines of it.

    Args:
        lift_all: Whether programs are to serve members that come later, and
            may differ in other numbers.
    """

    def __init__(self, lift_all: bool = False):
        self.lift_all = lift_all
        self._programs: dict[Any, _program.Program] = {}
        self._faster: dict[Any, str] = {}
        self._hopeless: set[Any] = set()  # Structures that need no loop.
        # What a structure took to compile: later groups may find it compiled.
        self.compiling: dict[Any, float] = {}

    def engine(
        self, group: _members.Group, wish: str, trial: Trial | None = None
    ) -> _engine.Engine:
        """Returns an engine with the present state of a group.

        Args:
            group: The members.
            wish: `"auto"`, `"vectorized"` or `"looped"`.
            trial: What `"auto"` may time. Without it, what was found before
                is taken, else the group is looped.
        """
        trial = trial or Trial()
        engine: _engine.Engine
        try:
            engine, why = self._wished(group, wish, trial)
        except _program.UnsupportedError as reason:
            engine = _looped.OwnStepsEngine(group.models, group.lifting)
            why = str(reason)
            if len(group.lanes) > 1:
                engine.notes.append(f"every lane runs its own steps: {why}")
        if trial.verbose:
            lifted = ", ".join(group.lifting.names) or "nothing"
            print(
                f"{len(group.lanes)} lanes, {engine.kind} ({why}); differ by "
                f"lane: weights, {lifted}"
            )
        return engine

    def _wished(
        self, group: _members.Group, wish: str, trial: Trial
    ) -> tuple[_engine.Engine, str]:
        if wish == VECTORIZED and trial.batch is not None:
            return self._vectorized(group, trial)
        if wish != "auto":
            return self._make(group, wish, trial), "as asked for"
        if len(group.lanes) == 1:
            return self._make(group, LOOPED, trial), "a group of one"
        known = self._faster.get(_situation(group, trial))
        if known is not None:
            return self._make(group, known, trial), f"{known}, as before"
        if trial.batch is None:
            return self._make(group, LOOPED, trial), "nothing was timed"
        return self._fastest(group, trial)

    def _vectorized(
        self, group: _members.Group, trial: Trial
    ) -> tuple[_engine.Engine, str]:
        """What was asked for, or a loop where that cannot be traced."""
        engine = self._make(group, VECTORIZED, trial)
        race = _Race(self, group, trial)
        if race.run(VECTORIZED, repeats=1) is not None:
            return engine, "as asked for"
        return self._looped_for_want(group, trial, race)

    def _looped_for_want(
        self, group: _members.Group, trial: Trial, race: "_Race"
    ) -> tuple[_engine.Engine, str]:
        """A loop where lanes cannot be vectorized, which says so."""
        why = "; ".join(race.notes)
        if race.run(LOOPED, repeats=1) is None:
            raise _program.UnsupportedError("; ".join(race.notes))
        engine = self._make(group, LOOPED, trial)
        engine.notes.append(f"lanes run one after the other: {why}")
        return engine, why

    def _fastest(
        self, group: _members.Group, trial: Trial
    ) -> tuple[_engine.Engine, str]:
        race = _Race(self, group, trial)
        seconds = race.run(VECTORIZED)
        if seconds is None:
            return self._looped_for_want(group, trial, race)
        least = _LEAST_SECONDS_A_LANE.get(_compat.backend(), 0.0)
        least *= len(group.lanes)
        structure = group.key, trial.probing
        if race.pays(seconds - least, 1.0) and structure not in self._hopeless:
            looped = race.run(LOOPED)
            if looped is not None and looped > _HOPELESS * seconds:
                self._hopeless.add(structure)
        with_xla = _compat.backend() == "tensorflow"
        if with_xla and race.pays(min(race.seconds.values()), _XLA_PATIENCE):
            race.run(XLA)
        winner = min(race.seconds, key=lambda kind: race.seconds[kind])
        # What did not pay this time may in a longer training.
        settled = seconds <= least or structure in self._hopeless
        if (LOOPED in race.tried or settled) and (
            XLA in race.tried or not with_xla
        ):
            self._faster[_situation(group, trial)] = winner
        why = f"a step of all lanes: {', '.join(race.notes)}"
        return self._make(group, winner, trial), why

    def _make(
        self, group: _members.Group, kind: str, trial: Trial
    ) -> _engine.StateEngine:
        vectorized = kind != LOOPED
        seeds: tuple[bool, ...] = ()
        if vectorized:
            common = _engine.common_seeds(group.models)
            seeds = tuple(c and not group.own_noise for c in common)
        settings = _program.Settings(
            vectorized, seeds, trial.probing, xla=kind == XLA
        )
        key = group.key, settings
        program = self._programs.pop(key, None)
        if program is None:
            program = _engine.backend_program()(
                group.models[0], group.lifting, settings
            )
        self._programs[key] = program  # At the end: the latest used.
        while len(self._programs) > _MOST_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        if vectorized:
            return _engine.VectorizedEngine(
                group.models, group.lifting, program
            )
        return _looped.LoopedEngine(group.models, group.lifting, program)


class _Race:
    """Times the engines of a group, each with a state that is thrown away."""

    def __init__(self, programs: Programs, group: _members.Group, trial: Trial):
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.tried: set[str] = set()
        self._programs, self._group, self._trial = programs, group, trial

    def run(self, kind: str, repeats: int = 3) -> float | None:
        """Returns the seconds of a step, None for an engine that fails."""
        batch = self._trial.batch
        if batch is None:
            return None
        self.tried.add(kind)
        try:
            engine = self._programs._make(self._group, kind, self._trial)
            seconds, first = _engine.seconds_a_step(engine, batch, repeats)
        except Exception as error:  # Not every model can be traced so.
            said = str(error).strip().partition("\n")[0]
            self.notes.append(f"{kind} failed: {type(error).__name__}: {said}")
            return None
        self.seconds[kind] = seconds
        known = self._programs.compiling.setdefault(self._group.key, first)
        self._programs.compiling[self._group.key] = max(known, first)
        self.notes.append(f"{kind} {seconds * 1e3:.2f} ms")
        return seconds

    def pays(self, seconds: float, patience: float) -> bool:
        """Whether saving so much a step may win back what compiling costs.

        Args:
            seconds: What could be saved of a step, at best.
            patience: How much longer than any so far another one compiles.
        """
        compiling = self._programs.compiling.get(self._group.key, 0.0)
        return seconds * self._trial.steps > patience * compiling


def _situation(group: _members.Group, trial: Trial) -> tuple:
    """What the fastest engine depends on."""
    size = 0
    if trial.batch is not None:
        axis = 1 if trial.batch.data_by_lane else 0
        size = _program.tree.flatten(trial.batch.x)[0].shape[axis]
    return group.key, len(group.lanes), size, trial.probing
