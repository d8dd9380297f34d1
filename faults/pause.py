"""pause: SIGSTOP for the window, then SIGCONT. Long enough, and a primary wakes up not knowing that it was replaced."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from ._process import excused, led_shards, needs_processes, new_epoch, process_links, serves_again, still
from ._proof import judge, old_connections
from ._selectors import Selector, insist_running, select, words

__all__ = ["Pause", "PauseSettings"]


class PauseSettings(Settings):
    """Whom to stop. The window must be longer than the system's lease to mean anything."""

    target: Selector = "primary"
    reaction_after_s: float = Field(
        default=2.0, gt=0, description="a pause longer than this must have led to a new epoch of the shards it led"
    )


class Pause:
    """A process that stands still: its sockets stay open, nothing answers, and its clocks go on."""

    name: ClassVar[str] = "pause"
    kind: ClassVar[str] = "process"
    settings: ClassVar[type[Settings]] = PauseSettings

    def __init__(self, settings: PauseSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return f"Stops {words(self._settings.target)} with SIGSTOP. Undone by SIGCONT at the end of the window."

    def available(self, stage: Stage) -> str | None:
        return needs_processes(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, processes = context.cluster, context.cluster.stage.processes
        target = select(self._settings.target, context)
        insist_running(target, context)
        topology = cluster.topology()
        wanted = process_links(target, context)
        long_enough = context.duration_s > self._settings.reaction_after_s
        with old_connections(cluster, wanted) as old:

            def prove() -> Evidence:
                before = processes.state(target)
                silence = judge(cluster, old, wanted)
                stopped = before is MemberState.PAUSED and processes.state(target) is MemberState.PAUSED
                how = f"the operating system says that {target} (pid {processes.pid(target)}) is {before}"
                return Evidence(proven=stopped and silence.proven, facts=(how, *silence.facts))

            begun_ns = time.monotonic_ns()
            try:
                processes.pause(target, expires_ns=context.expires_ns)
                yield Injection(
                    targets=(target,),
                    description=f"{target} was stopped with SIGSTOP",
                    cut_off=excused(target, topology, cluster.stage),
                    prove=prove,
                    verify_healed=lambda: serves_again(target, context),
                    reaction=new_epoch(led_shards(target, topology) if long_enough else []),
                    began_ns=begun_ns,
                    still_on=lambda: still(target, MemberState.PAUSED, context),
                )
            finally:
                # Also when it is not stopped (yet): a SIGSTOP that is still under way must not outlive us. Not when it
                # died meanwhile: there is nothing to continue, and the verification says that it is down.
                if processes.state(target) in (MemberState.PAUSED, MemberState.RUNNING):
                    processes.resume(target)
