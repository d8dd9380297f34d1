"""noop: changes nothing. The control arm: with it everything must pass, or the scenario or the system is at fault."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Role, Settings, Stage

__all__ = ["Noop", "NoopSettings"]


class NoopSettings(Settings):
    """There is nothing to set."""


class Noop:
    """A fault window in which nothing is done."""

    name: ClassVar[str] = "noop"
    kind: ClassVar[str] = "none"
    settings: ClassVar[type[Settings]] = NoopSettings

    def __init__(self, settings: NoopSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return "Changes nothing; there is nothing to undo. The control arm: all promises must hold."

    def available(self, stage: Stage) -> str | None:
        return None

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        yield Injection(
            targets=(),
            description="Nothing was done, on purpose.",
            cut_off={},
            prove=lambda: Evidence(proven=True, facts=("nothing was to be done, so there is nothing to prove",)),
            verify_healed=lambda: _untouched(context),
        )


def _untouched(context: FaultContext) -> Evidence:
    """Nothing that Aftershock changes is changed. A member that died by itself is told: that is not ours to heal."""
    stage = context.cluster.stage
    changed = [f"{flow.source} -> {flow.target} is {what}" for flow, what in sorted(stage.network.impaired().items())]
    states = {
        name: stage.processes.state(name) for name, member in stage.members.items() if member.role is not Role.CLIENT
    }
    # A member that is no process (interfaces.Hosting) cannot have ended.
    states = {name: state for name, state in states.items() if state is not MemberState.ABSENT}
    changed += [f"{name} is paused" for name, state in states.items() if state is MemberState.PAUSED]
    down = [name for name, state in states.items() if state is MemberState.EXITED]
    if down:
        context.events("warning", text=f"{', '.join(down)} had ended by the end of a window in which nothing was done")
    running = f"no flow is impaired, {len(states) - len(down)} of {len(states)} members run"
    return Evidence(proven=not changed, facts=(*changed, *(f"{name} does not run" for name in down), running))
