"""Which engine runs a group, by trying."""

from typing import Any

from kerascomp.population import _engine, _looped, _members, _program


class Programs:
    """Keeps what was compiled for a group, and makes engines of it."""

    def __init__(self) -> None:
        self._programs: dict[Any, _program.Program] = {}
        self._faster: dict[Any, str] = {}

    def engine(
        self,
        group: _members.Group,
        wish: str,
        batch: _program.Batch | None = None,
        verbose: int = 0,
    ) -> _engine.Engine:
        """Returns an engine with the present state of a group.

        Args:
            group: The members.
            wish: `"auto"`, `"vectorized"` or `"looped"`.
            batch: What `"auto"` may time training steps with. Without one, it
                takes what was found before, else loops.
            verbose: Whether to say what runs and why.
        """
        try:
            engine, why = self._wished(group, wish, batch)
        except _program.UnsupportedError as reason:
            engine = _looped.OwnStepsEngine(group.models, group.lifting)
            why = str(reason)
        if verbose:
            lifted = ", ".join(group.lifting.names) or "nothing"
            print(
                f"{len(group.lanes)} lanes, {engine.kind} ({why}); differ by "
                f"lane: weights, {lifted}"
            )
        return engine

    def _wished(
        self,
        group: _members.Group,
        wish: str,
        batch: _program.Batch | None,
    ) -> tuple[_engine.Engine, str]:
        if wish != "auto":
            return self._make(group, wish), "as asked for"
        if len(group.lanes) == 1:
            return self._make(group, "looped"), "a group of one"
        if group.key in self._faster:
            return self._make(group, self._faster[group.key]), "as before"
        if batch is None:
            return self._make(group, "looped"), "nothing was timed"
        return self._timed(group, batch)

    def _timed(
        self, group: _members.Group, batch: _program.Batch
    ) -> tuple[_engine.Engine, str]:
        seconds, notes = {}, []
        for kind in ("vectorized", "looped"):
            # The steps are taken with a state of their own, thrown away.
            try:
                engine = self._make(group, kind)
                seconds[kind] = _engine.seconds_a_step(engine, batch)
            except _program.UnsupportedError:
                raise
            except Exception as error:  # Not every model can be traced so.
                notes.append(f"{kind} failed: {type(error).__name__}: {error}")
            else:
                notes.append(f"{kind} {seconds[kind] * 1e3:.2f} ms")
        if not seconds:
            raise _program.UnsupportedError("; ".join(notes))
        faster = min(seconds, key=lambda kind: seconds[kind])
        self._faster[group.key] = faster
        why = f"a step of all lanes: {', '.join(notes)}"
        return self._make(group, faster), why

    def _make(self, group: _members.Group, kind: str) -> _engine.Engine:
        vectorized = kind == "vectorized"
        seeds = _engine.common_seeds(group.models) if vectorized else ()
        key = (group.key, tuple(map(id, group.models[:1])), vectorized, seeds)
        if key not in self._programs:
            self._programs[key] = _engine.backend_program()(
                group.models[0], group.lifting, vectorized, seeds
            )
        classes = _looped.LoopedEngine, _engine.VectorizedEngine
        return classes[vectorized](
            group.models, group.lifting, self._programs[key]
        )
