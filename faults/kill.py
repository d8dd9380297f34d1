"""kill: SIGKILL, then a restart from the member's own disk. What was written stays, what was in memory is gone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from ..harness.errors import UsageError
from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from ._process import excused, needs_processes, new_epoch, process_links, replaceable, serves_again, still
from ._proof import at_once, judge, old_connections
from ._selectors import Selectors, insist_all_running, select_many, words_of_many

__all__ = ["Kill", "KillSettings"]


class KillSettings(Settings):
    """Whom to kill, and when it comes back."""

    target: Selectors = "primary"
    down_s: float | None = Field(default=None, gt=0, description="until the restart; default: the whole window")
    restart: bool = Field(default=True, description="false: it stays down for the rest of the run")


class Kill:
    """A process that ends without a word, and starts again."""

    name: ClassVar[str] = "kill"
    kind: ClassVar[str] = "process"
    settings: ClassVar[type[Settings]] = KillSettings

    def __init__(self, settings: KillSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        who, down_s = words_of_many(self._settings.target), self._settings.down_s
        if not self._settings.restart:
            return f"Ends {who} with SIGKILL and leaves it down until the run ends; its disk is not touched."
        when = "at the end of the window" if down_s is None else f"after {down_s:g} s"
        return f"Ends {who} with SIGKILL. Undone by starting it again on its own disk {when}."

    def available(self, stage: Stage) -> str | None:
        return needs_processes(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, processes, down_s = context.cluster, context.cluster.stage.processes, self._settings.down_s
        if down_s is not None and down_s > context.duration_s:
            raise UsageError(f"down_s = {down_s:g} is longer than the window ({context.duration_s:g} s)")
        targets = select_many(self._settings.target, context)
        insist_all_running(targets, context)
        topology = cluster.topology()
        wanted = process_links(targets, context)
        with old_connections(cluster, wanted) as old, contextlib.ExitStack() as healing:
            if self._settings.restart:
                for target in targets:
                    healing.callback(_restart, target, context)
            begun_ns, pids = time.monotonic_ns(), {target: processes.pid(target) for target in targets}
            statuses = at_once(processes.kill, targets)
            if self._settings.restart and down_s is not None:
                timer = threading.Timer(down_s, _restart_early, (targets, context))
                healing.callback(timer.join)
                healing.callback(timer.cancel)
                timer.start()

            def prove() -> Evidence:
                states = {target: processes.state(target) for target in targets}
                how = [
                    f"{target} (pid {pids[target]}) ended with status {status}, expected -9 (signal 9); its state is "
                    f"{states[target]}"
                    for target, status in statuses.items()
                ]
                silence = judge(cluster, old, wanted, endings_allowed=True)
                dead = all(s == -9 for s in statuses.values()) and set(states.values()) == {MemberState.EXITED}
                return Evidence(proven=dead and silence.proven, facts=(*how, *silence.facts))

            yield Injection(
                targets=targets,
                description=f"{', '.join(targets)} {'was' if len(targets) == 1 else 'were'} ended with SIGKILL",
                cut_off=excused(targets, topology, cluster.stage),
                prove=prove,
                verify_healed=lambda: self._verify(targets, context),
                reaction=new_epoch(replaceable(targets, topology, cluster.stage)),
                began_ns=begun_ns,
                # With `down_s` it has been started again by then, as asked.
                still_on=None if down_s is not None else lambda: still(targets, MemberState.EXITED, context),
            )

    def _verify(self, targets: Sequence[str], context: FaultContext) -> Evidence:
        if self._settings.restart:
            return serves_again(targets, context)
        names = ", ".join(targets)
        stay = "stays" if len(targets) == 1 else "stay"
        return Evidence(proven=True, facts=(f"{names} {stay} down, as asked (restart = false)",))


def _restart(target: str, context: FaultContext) -> None:
    """Start the target unless it runs: the kill may not have come to pass, or `down_s` was over before the window."""
    processes = context.cluster.stage.processes
    if processes.state(target) in (MemberState.EXITED, MemberState.ABSENT):
        processes.start(target)


def _restart_early(targets: Sequence[str], context: FaultContext) -> None:
    """The restart inside the window. A failure is told, and the heal at the end tries again and raises."""
    for target in targets:
        try:
            _restart(target, context)
        except Exception as error:
            context.events("warning", text=f"{target} could not be started after down_s: {error}")
