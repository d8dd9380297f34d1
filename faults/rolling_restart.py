"""rolling-restart: every member of a role, one after another, as an upgrade does it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ..harness.errors import UsageError
from ..harness.interfaces import Evidence, FaultContext, Injection, Role, Settings, Stage
from ._process import bring_back, connections_ended, excused, needs_processes, process_links, serves_again
from ._proof import old_connections
from ._selectors import insist_running

__all__ = ["RollingRestart", "RollingRestartSettings"]

# Between two looks whether a member serves again; meanwhile the window may end.
LOOK_S = 0.5
POLL_S = 0.01


class RollingRestartSettings(Settings):
    """Which members, and when the next one's turn comes."""

    role: Literal["node", "router", "controller"] = "node"
    pause_s: float | None = Field(
        default=None, ge=0, description="between a start and the next stop; default: until it serves again"
    )
    deadline_s: float = Field(default=5.0, gt=0, le=60, description="from SIGTERM until SIGKILL")
    serve_deadline_s: float = Field(
        default=15.0, gt=0, description="without pause_s: after this the next one's turn comes all the same"
    )


class RollingRestart:
    """All members of a role are stopped and started, never two at a time."""

    name: ClassVar[str] = "rolling-restart"
    kind: ClassVar[str] = "process"
    settings: ClassVar[type[Settings]] = RollingRestartSettings

    def __init__(self, settings: RollingRestartSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        pause_s = self._settings.pause_s
        then = "when it serves again" if pause_s is None else f"{pause_s:g} s later"
        return (
            f"Stops every {self._settings.role} with SIGTERM and starts it at once, one after another, the next one "
            f"{then}. There is nothing to undo later; what does not run at the end of the window is started again."
        )

    def available(self, stage: Stage) -> str | None:
        reason = needs_processes(stage)
        if reason is not None or _members(stage, self._settings.role):
            return reason
        return f"this system has no {self._settings.role} to restart; there are {', '.join(sorted(stage.members))}"

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster = context.cluster
        targets = _members(cluster.stage, self._settings.role)
        if not targets:
            raise UsageError(f"this system has no {self._settings.role} to restart")
        for target in targets:
            insist_running(target, context)
        topology = cluster.topology()
        lost: dict[str, tuple[int, ...] | None] = {}
        for target in targets:
            _add(lost, excused(target, topology, cluster.stage))
        roll = _Roll(targets, self._settings, context)
        with old_connections(cluster, process_links(targets[0], context)) as old, contextlib.ExitStack() as healing:
            for target in targets:
                healing.callback(bring_back, target, context)
            begun_ns = time.monotonic_ns()
            healing.callback(roll.end)
            roll.begin()

            def prove() -> Evidence:
                fact = roll.first()
                ended = connections_ended(old, targets[0])
                return Evidence(proven=fact.proven and ended.proven, facts=(*fact.facts, *ended.facts))

            yield Injection(
                targets=targets,
                description=f"{', '.join(targets)} are restarted one after another",
                cut_off=lost,
                prove=prove,
                verify_healed=lambda: serves_again(targets, context),
                began_ns=begun_ns,
                still_on=roll.finished,
            )


class _Roll:
    """Restarts the members in turn, in a thread; `end` lets it finish the one it is at."""

    def __init__(self, targets: tuple[str, ...], settings: RollingRestartSettings, context: FaultContext) -> None:
        self._targets, self._settings, self._context = targets, settings, context
        self._processes = context.cluster.stage.processes
        self._before = {target: self._processes.pid(target) for target in targets}
        self._restarted: dict[str, str] = {}  # member -> how it went
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rolling-restart", daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def first(self) -> Evidence:
        """That the first of them was replaced by another process, once it has been."""
        target = self._targets[0]
        while target not in self._restarted and self._thread.is_alive():
            time.sleep(POLL_S)
        how = self._restarted.get(target, f"{target} was not restarted")
        return Evidence(proven=self._replaced(target), facts=(how,))

    def finished(self) -> Evidence:
        """At the end of the window: all of them were replaced, or who was not."""
        left = [target for target in self._targets if not self._replaced(target)]
        if not left:
            return Evidence(proven=True, facts=())
        fact = f"at the end of the window {', '.join(left)} of {len(self._targets)} members were not restarted yet"
        return Evidence(proven=False, facts=(f"{fact}; make the window longer",))

    def _replaced(self, target: str) -> bool:
        pid = self._processes.pid(target)
        return target in self._restarted and pid is not None and pid != self._before[target]

    def _run(self) -> None:
        for target in self._targets:
            if self._ending.is_set():
                return
            try:
                self._restart(target)
            except Exception as error:
                self._context.events("warning", text=f"{target} could not be restarted in its turn: {error}")
                return
            self._wait(target)

    def _restart(self, target: str) -> None:
        begun_ns = time.monotonic_ns()
        status = self._processes.stop(target, deadline_s=self._settings.deadline_s)
        bring_back(target, self._context)
        took_s = (time.monotonic_ns() - begun_ns) / 1e9
        now, state = self._processes.pid(target), self._processes.state(target)
        self._restarted[target] = (
            f"{target} (pid {self._before[target]}) ended with status {status} and was started again, which took "
            f"{took_s:.2f} s; it is {state} with pid {now}, expected another pid"
        )

    def _wait(self, target: str) -> None:
        """Until the next one's turn, or the end of the window."""
        if self._settings.pause_s is not None:
            self._ending.wait(self._settings.pause_s)
            return
        until_s = time.monotonic() + self._settings.serve_deadline_s
        missing = self._missing(target)
        while missing is not None and not self._ending.is_set():
            if time.monotonic() > until_s:
                waited_s = self._settings.serve_deadline_s
                self._context.events("warning", text=f"{target} did not serve within {waited_s:g} s: {missing}")
                return
            self._ending.wait(POLL_S)
            missing = self._missing(target)

    def _missing(self, target: str) -> str | None:
        try:
            return self._context.cluster.wait_member(target, deadline_s=LOOK_S)
        except Exception as error:  # one look that fails is one that says nothing; the deadline ends them
            return f"{type(error).__name__}: {error}"


def _members(stage: Stage, role: str) -> tuple[str, ...]:
    return tuple(sorted(name for name, member in stage.members.items() if member.role is Role(role)))


def _add(lost: dict[str, tuple[int, ...] | None], more: Mapping[str, tuple[int, ...] | None]) -> None:
    """Whom the restart of one member excuses is excused for the window: when its turn comes is not known before."""
    for group, shards in more.items():
        known = lost.get(group, ())
        lost[group] = None if shards is None or known is None else tuple(sorted({*known, *shards}))
