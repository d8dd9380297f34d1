"""restart: stopped and started again at once. Short enough that detection may miss it; what was in memory is gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from ._process import bring_back, connections_ended, excused, needs_processes, process_links, serves_again
from ._proof import old_connections
from ._selectors import Selector, insist_running, select, words

__all__ = ["Restart", "RestartSettings"]


class RestartSettings(Settings):
    """Whom to restart, and how its process ends."""

    target: Selector = "primary"
    by: Literal["term", "kill"] = Field(default="term", description="SIGTERM, or SIGKILL at once")
    deadline_s: float = Field(default=5.0, gt=0, le=60, description="from SIGTERM until it is ended by SIGKILL")


class Restart:
    """A process that is replaced by a new one of the same member."""

    name: ClassVar[str] = "restart"
    kind: ClassVar[str] = "process"
    settings: ClassVar[type[Settings]] = RestartSettings

    def __init__(self, settings: RestartSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        how = "SIGKILL" if self._settings.by == "kill" else f"SIGTERM (SIGKILL after {self._settings.deadline_s:g} s)"
        return (
            f"Ends {words(self._settings.target)} with {how} and starts it again on its own disk at once. "
            "There is nothing to undo later; if the start failed, it is tried again at the end of the window."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_processes(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, processes, chosen = context.cluster, context.cluster.stage.processes, self._settings
        target = select(chosen.target, context)
        insist_running(target, context)
        topology = cluster.topology()
        wanted = process_links(target, context)
        with old_connections(cluster, wanted) as old, contextlib.ExitStack() as healing:
            healing.callback(bring_back, target, context)
            begun_ns, before = time.monotonic_ns(), processes.pid(target)
            kill = chosen.by == "kill"
            status = processes.kill(target) if kill else processes.stop(target, deadline_s=chosen.deadline_s)
            bring_back(target, context)
            took_s = (time.monotonic_ns() - begun_ns) / 1e9

            def prove() -> Evidence:
                now, state = processes.pid(target), processes.state(target)
                replaced = state is MemberState.RUNNING and now not in (None, before)
                how = (
                    f"{target} (pid {before}) ended with status {status}; {took_s:.2f} s after it began the start was "
                    f"done, and it is {state} with pid {now}, expected another pid"
                )
                ended = connections_ended(old, target)
                return Evidence(proven=replaced and ended.proven, facts=(how, *ended.facts))

            yield Injection(
                targets=(target,),
                description=f"{target} was ended with {'SIGKILL' if kill else 'SIGTERM'} and started again at once",
                cut_off=excused(target, topology, cluster.stage),
                prove=prove,
                verify_healed=lambda: serves_again(target, context),
                # None is expected: a member may be back before anybody has had to notice that it was away.
                reaction=None,
                began_ns=begun_ns,
            )
