"""stop: SIGTERM, and down for the window. What a deployment does, or an administrator: the member may say goodbye."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from ._process import (
    bring_back,
    excused,
    led_shards,
    needs_processes,
    new_epoch,
    process_links,
    serves_again,
    still,
)
from ._proof import judge, old_connections
from ._selectors import Selector, insist_running, select, words

__all__ = ["Stop", "StopSettings"]


class StopSettings(Settings):
    """Whom to stop, and how long it may take to end by itself."""

    target: Selector = "primary"
    deadline_s: float = Field(default=5.0, gt=0, le=60, description="from SIGTERM until it is ended by SIGKILL")
    reaction_after_s: float = Field(
        default=2.0, gt=0, description="a stop longer than this must have led to a new epoch of the shards it led"
    )


class Stop:
    """A process that is asked to end, and is away until the end of the window."""

    name: ClassVar[str] = "stop"
    kind: ClassVar[str] = "process"
    settings: ClassVar[type[Settings]] = StopSettings

    def __init__(self, settings: StopSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return (
            f"Stops {words(self._settings.target)} with SIGTERM, and with SIGKILL when it has not ended within "
            f"{self._settings.deadline_s:g} s. Undone by starting it again on its own disk at the end of the window."
        )

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
        with old_connections(cluster, wanted) as old, contextlib.ExitStack() as healing:
            healing.callback(bring_back, target, context)
            begun_ns, pid = time.monotonic_ns(), processes.pid(target)
            status = processes.stop(target, deadline_s=self._settings.deadline_s)
            took_s = (time.monotonic_ns() - begun_ns) / 1e9

            def prove() -> Evidence:
                state = processes.state(target)
                # That it had to be killed is the member's own doing, and no reason to doubt that it is away.
                how = f"{target} (pid {pid}) ended with status {status}, {took_s:.2f} s after SIGTERM; it is {state}"
                silence = judge(cluster, old, wanted, endings_allowed=True)
                return Evidence(proven=state is MemberState.EXITED and silence.proven, facts=(how, *silence.facts))

            yield Injection(
                targets=(target,),
                description=f"{target} was stopped with SIGTERM",
                cut_off=excused(target, topology, cluster.stage),
                prove=prove,
                verify_healed=lambda: serves_again(target, context),
                reaction=new_epoch(led_shards(target, topology) if long_enough else []),
                began_ns=begun_ns,
                still_on=lambda: still(target, MemberState.EXITED, context),
            )
