"""oom-kill: the member's own memory limit is exceeded, and the kernel ends the member."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.errors import UsageError
from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from ._process import bring_back, excused, led_shards, new_epoch, process_links, serves_again, still
from ._proof import judge, old_connections
from ._resources import confinement_of, hog, needs_limit
from ._selectors import Selector, insist_running, select, words

__all__ = ["OomKill", "OomKillSettings"]

POLL_S = 0.01


class OomKillSettings(Settings):
    """Whose memory to exhaust."""

    target: Selector = "primary"
    deadline_s: float = Field(default=20.0, gt=0, le=60, description="until the kernel must have ended it")


class OomKill:
    """A member that asks for memory which its limit does not have."""

    name: ClassVar[str] = "oom-kill"
    kind: ClassVar[str] = "resource"
    settings: ClassVar[type[Settings]] = OomKillSettings

    def __init__(self, settings: OomKillSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return (
            f"Takes memory inside the limit of {words(self._settings.target)} until the kernel ends its main process. "
            "Undone by giving it back, and by starting the member again on its own disk at the end of the window."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_limit(stage, "memory_mb")

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, processes = context.cluster, context.cluster.stage.processes
        confinement = confinement_of(cluster.stage)
        target = select(self._settings.target, context)
        insist_running(target, context)
        limit = confinement.limits(target).memory_bytes
        if limit is None:
            raise UsageError(f"memory of {target} is not limited; set memory_mb in [backend]")
        topology = cluster.topology()
        wanted = process_links(target, context)
        before, pid = confinement.usage(target).oom_kills, processes.pid(target)
        with old_connections(cluster, wanted) as old, contextlib.ExitStack() as healing:
            begun_ns = time.monotonic_ns()
            healing.callback(bring_back, target, context)
            healing.callback(confinement.spare, target)
            confinement.doom(target, expires_ns=context.expires_ns)
            # Far more than there is, in case some of it goes to swap; slowly at the end, so that the first process that
            # the kernel ends is seen to be gone before there is need to end a second.
            command = hog("memory", str(4 * limit), str(limit * 8 // 10))
            helper = confinement.start(target, command, expires_ns=context.expires_ns)
            healing.callback(confinement.end, helper)
            until_s = time.monotonic() + self._settings.deadline_s
            while processes.state(target) is not MemberState.EXITED and time.monotonic() < until_s:
                time.sleep(POLL_S)
            confinement.end(helper)
            took_s = (time.monotonic_ns() - begun_ns) / 1e9

            def prove() -> Evidence:
                state, kills = processes.state(target), confinement.usage(target).oom_kills
                how = (
                    f"the kernel ended {kills - before} processes for want of memory inside the {limit >> 20} MB of "
                    f"{target}, expected 1 at least; {target} (pid {pid}) is {state}, {took_s:.2f} s after it began"
                )
                silence = judge(cluster, old, wanted, endings_allowed=True)
                dead = kills > before and state is MemberState.EXITED
                return Evidence(proven=dead and silence.proven, facts=(how, *silence.facts))

            yield Injection(
                targets=(target,),
                description=f"{target} was ended by the kernel for want of memory",
                cut_off=excused(target, topology, cluster.stage),
                prove=prove,
                verify_healed=lambda: serves_again(target, context),
                reaction=new_epoch(led_shards(target, topology)),
                began_ns=begun_ns,
                still_on=lambda: still(target, MemberState.EXITED, context),
            )
