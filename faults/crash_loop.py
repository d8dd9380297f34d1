"""crash-loop: killed, started, killed again, all through the window. A member that nobody can rely on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from ..harness.errors import UsageError
from ..harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from ._process import (
    bring_back,
    excused,
    led_shards,
    needs_processes,
    new_epoch,
    process_links,
    serves_again,
)
from ._proof import judge, old_connections
from ._selectors import Selector, insist_running, select, words

__all__ = ["CrashLoop", "CrashLoopSettings"]

# A loop on a busy machine may be late by this much and still count as going on.
LATE_S = 5.0
POLL_S = 0.005


class CrashLoopSettings(Settings):
    """Whom to kill again and again, and in what rhythm."""

    target: Selector = "primary"
    kill_every_s: float = Field(default=3.0, gt=0, description="from one kill to the next")
    down_s: float = Field(default=0.5, gt=0, description="from a kill to the start that follows it")
    reaction_after_s: float = Field(
        default=2.0, gt=0, description="a down_s longer than this must have led to a new epoch of the shards it led"
    )

    @model_validator(mode="after")
    def _runs_between(self) -> Self:
        if self.down_s >= self.kill_every_s:
            raise ValueError(f"down_s ({self.down_s:g}) must be less than kill_every_s ({self.kill_every_s:g})")
        return self


class CrashLoop:
    """A process that comes up and dies, until the window ends."""

    name: ClassVar[str] = "crash-loop"
    kind: ClassVar[str] = "process"
    settings: ClassVar[type[Settings]] = CrashLoopSettings

    def __init__(self, settings: CrashLoopSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Ends {words(chosen.target)} with SIGKILL every {chosen.kill_every_s:g} s and starts it again "
            f"{chosen.down_s:g} s after each. Undone by starting it and leaving it alone at the end of the window."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_processes(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, chosen = context.cluster, self._settings
        target = select(chosen.target, context)
        insist_running(target, context)
        if context.duration_s < 2 * chosen.kill_every_s:
            raise UsageError(
                f"the window ({context.duration_s:g} s) is too short for a second kill after kill_every_s = "
                f"{chosen.kill_every_s:g}; make it {2 * chosen.kill_every_s:g} s at least, or kill_every_s smaller"
            )
        topology = cluster.topology()
        wanted = process_links(target, context)
        loop = _Loop(target, chosen, context)
        with old_connections(cluster, wanted) as old, contextlib.ExitStack() as healing:
            healing.callback(bring_back, target, context)
            begun_ns = time.monotonic_ns()
            healing.callback(loop.end)
            loop.begin()

            def prove() -> Evidence:
                with loop.while_down():
                    silence = judge(cluster, old, wanted, endings_allowed=True)
                deaths = loop.wait_for_deaths(2)
                how = [
                    f"{target} (pid {it.pid}) ended with status {it.status}, expected -9; it was {it.state} then"
                    for it in deaths
                ]
                pids, ends = {it.pid for it in deaths}, {(it.status, it.state) for it in deaths}
                again = len(deaths) >= 2 and len(pids) == len(deaths) and ends == {(-9, MemberState.EXITED)}
                count = f"{len(deaths)} kills of {len(pids)} processes so far, expected 2 at least"
                return Evidence(proven=again and silence.proven, facts=(count, *how[:3], *silence.facts))

            yield Injection(
                targets=(target,),
                description=f"{target} is ended with SIGKILL every {chosen.kill_every_s:g} s",
                cut_off=excused(target, topology, cluster.stage),
                prove=prove,
                verify_healed=lambda: serves_again(target, context),
                reaction=new_epoch(led_shards(target, topology) if chosen.down_s > chosen.reaction_after_s else []),
                began_ns=begun_ns,
                still_on=loop.goes_on,
            )


class _Death(NamedTuple):
    pid: int | None
    status: int
    state: MemberState  # of the member, just after
    t_s: float


class _Loop:
    """Kills and starts one member in a thread. Whoever holds `_turn` keeps it as it is."""

    def __init__(self, target: str, settings: CrashLoopSettings, context: FaultContext) -> None:
        self._target, self._settings, self._context = target, settings, context
        self._processes = context.cluster.stage.processes
        self._turn = threading.Lock()
        self._ending = threading.Event()
        self._deaths: list[_Death] = []
        self._thread = threading.Thread(target=self._run, name=f"crash-loop of {target}", daemon=True)

    def begin(self) -> None:
        """The first kill, whose failure is the caller's to hear; then the others, in a thread."""
        self._kill()
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    @contextlib.contextmanager
    def while_down(self) -> Iterator[None]:
        """Inside, the member is down and stays so; or, if it never was in time, it is as it is."""
        until_s = time.monotonic() + self._settings.kill_every_s + LATE_S
        while True:
            with self._turn:
                down = self._processes.state(self._target) is MemberState.EXITED
                if down or time.monotonic() > until_s:
                    yield
                    return
            time.sleep(POLL_S)

    def wait_for_deaths(self, count: int) -> list[_Death]:
        until_s = time.monotonic() + count * self._settings.kill_every_s + LATE_S
        while len(self._deaths) < count and time.monotonic() < until_s and self._thread.is_alive():
            time.sleep(POLL_S)
        return list(self._deaths)

    def goes_on(self) -> Evidence:
        since_s = time.monotonic() - self._deaths[-1].t_s
        if self._thread.is_alive() and since_s <= self._settings.kill_every_s + LATE_S:
            return Evidence(proven=True, facts=())
        fact = f"at the end of the window the last kill of {self._target} was {since_s:.1f} s ago"
        return Evidence(proven=False, facts=(f"{fact}, expected {self._settings.kill_every_s:g} s at most",))

    def _run(self) -> None:
        """A step that fails is told, and tried again with the next one; healing tries once more, and raises."""
        chosen = self._settings
        while not self._ending.wait(chosen.down_s):
            self._step("started", lambda: bring_back(self._target, self._context))
            if self._ending.wait(chosen.kill_every_s - chosen.down_s):
                return
            self._step("killed", self._kill)

    def _step(self, what: str, act: Callable[[], None]) -> None:
        with self._turn:
            try:
                act()
            except Exception as error:
                self._context.events("warning", text=f"{self._target} could not be {what} in its crash loop: {error}")

    def _kill(self) -> None:
        """Kill it if it lives; one that died by itself meanwhile needs nobody to kill it, and does not count."""
        if self._processes.state(self._target) in (MemberState.RUNNING, MemberState.PAUSED):
            pid = self._processes.pid(self._target)
            status = self._processes.kill(self._target)
            self._deaths.append(_Death(pid, status, self._processes.state(self._target), time.monotonic()))
