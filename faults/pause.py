"""pause: SIGSTOP for the window, then SIGCONT. Long enough, and a primary wakes up not knowing that it was replaced."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from ._process import excused, needs_processes, new_epoch, process_links, replaceable, resume_all, serves_again, still
from ._proof import at_once, judge, old_connections
from ._selectors import Selectors, insist_all_running, select_many, words_of_many

__all__ = ["Pause", "PauseSettings"]


class PauseSettings(Settings):
    """Whom to stop. The window must be longer than the system's lease to mean anything."""

    target: Selectors = "primary"
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
        who = words_of_many(self._settings.target)
        return f"Stops {who} with SIGSTOP. Undone by SIGCONT at the end of the window."

    def available(self, stage: Stage) -> str | None:
        return needs_processes(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, processes = context.cluster, context.cluster.stage.processes
        targets = select_many(self._settings.target, context)
        insist_all_running(targets, context)
        topology, names = cluster.topology(), ", ".join(targets)
        wanted = process_links(targets, context)
        long_enough = context.duration_s > self._settings.reaction_after_s
        with old_connections(cluster, wanted) as old:

            def prove() -> Evidence:
                before = {target: processes.state(target) for target in targets}
                silence = judge(cluster, old, wanted)
                after = [processes.state(target) for target in targets]
                stopped = all(state is MemberState.PAUSED for state in (*before.values(), *after))
                how = [
                    f"the operating system says that {target} (pid {processes.pid(target)}) is {state}"
                    for target, state in before.items()
                ]
                return Evidence(proven=stopped and silence.proven, facts=(*how, *silence.facts))

            begun_ns = time.monotonic_ns()
            try:
                at_once(lambda target: processes.pause(target, expires_ns=context.expires_ns), targets)
                yield Injection(
                    targets=targets,
                    description=f"{names} {'was' if len(targets) == 1 else 'were'} stopped with SIGSTOP",
                    cut_off=excused(targets, topology, cluster.stage),
                    prove=prove,
                    verify_healed=lambda: serves_again(targets, context),
                    reaction=new_epoch(replaceable(targets, topology, cluster.stage) if long_enough else []),
                    began_ns=begun_ns,
                    still_on=lambda: still(targets, MemberState.PAUSED, context),
                )
            finally:
                resume_all(targets, context)
