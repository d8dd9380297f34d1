"""Members as containers: start, signal, watch, end. Keeps interfaces.Processes.

A container's process 1 is the engine's small init, and its one child is the member's program. Signals go to processes
of this host by their identity (harness/identity.py), so neither a busy engine nor a reused number stands between; the
engine is asked only to make, start and remove. SIGKILL of process 1 ends the whole container at once. One thread a
container copies its output and waits for its end, so that a member which dies by itself is in the event log at once.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import HealError, SetupError
from ..identity import TOKEN_VARIABLE, ProcessIdentity, end, os_state, send, wait_gone
from ..interfaces import EventSink, Journal, MemberState
from ..pid_namespace import continue_all, stop_all
from .docker_engine import Engine, why_unreachable
from .docker_output import Output, wait_status

__all__ = ["ENGINE_MEMBER", "Containers"]

# Not a member: no fault can be aimed at it, but when it ends by itself the run does, as with every backend's helper.
ENGINE_MEMBER: Final = "docker-engine"

_SIGNAL_DEADLINE_S: Final = 10.0
_PROGRAM_DEADLINE_S: Final = 10.0
_POLL_S: Final = 0.002
_SHELL_SIGNAL_BASE: Final = 128  # a status above it is that of a signal, as shells and the engine's init count
_SIGKILL_STATUS: Final = -int(signal.SIGKILL)


@dataclass(slots=True)
class _Start:
    """One start of one container. A restart makes a new one."""

    init: ProcessIdentity | None  # None when it had ended before the engine could name it
    program: ProcessIdentity | None
    expected: bool = False  # we ended it
    status: int | None = None
    continue_entry: str | None = None  # in the journal: continues it
    exited: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class _Container:
    id: str
    stop_signal: int
    start: _Start


class Containers:
    """The containers of one stage, members' and helpers'."""

    def __init__(
        self, *, engine: Engine, logs: Path, token: str, parallel: int, journal: Journal, events: EventSink
    ) -> None:
        """`parallel`: how many are made and started at once."""
        self._engine = engine
        self._logs = logs
        self._token = token
        self._journal = journal
        self._events = events
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="docker")
        self._lock = threading.Lock()
        self._containers: dict[str, _Container] = {}
        self._launching: dict[str, Future[None]] = {}
        self._followers: list[threading.Thread] = []
        self._lost_lock = threading.Lock()
        self._engine_lost = False
        self._closing = False

    # ------------------------------------------------------------------------------------------ making

    def launch(self, member: str, make: Callable[[], str]) -> None:
        """Make and start a member's container in the background; `make` returns its id.

        What goes wrong is raised by whatever next asks for this member, or by the next launch.
        """
        for name in list(self._launching):
            if self._launching[name].done():
                self._launched(name)
        self._launching[member] = self._threads.submit(self._make, member, make)

    def in_background(self, work: Callable[[], None]) -> Future[None]:
        """Do something else beside the starts; it comes after those that were asked for before."""
        return self._threads.submit(work)

    def log(self, member: str) -> Path:
        return self._logs / f"{member}.log"

    def container(self, member: str) -> str:
        """Id of a member's container. Raises SetupError when it could not be started."""
        return self._known(member).id

    def namespace_owner(self, member: str) -> ProcessIdentity | None:
        """Process 1 of a member's container, whose network is the member's; None when it does not run."""
        container = self._containers.get(member)
        init = container.start.init if container is not None else None
        return init if init is not None and init.alive() else None

    def exit_status(self, member: str) -> int | None:
        """Status of the last start, as subprocess has it; None while it runs or when it never ran."""
        container = self._containers.get(member)
        return container.start.status if container is not None and container.start.exited.is_set() else None

    # ------------------------------------------------------------------------------------------ Processes

    def state(self, member: str) -> MemberState:
        """See interfaces.Processes. Waits for a start that is under way, and raises SetupError when it failed."""
        self._launched(member)
        container = self._containers.get(member)
        if container is None:
            return MemberState.ABSENT
        program = container.start.program
        letter = os_state(program) if program is not None else None
        if letter in (None, "Z", "X"):
            return MemberState.EXITED
        return MemberState.PAUSED if letter in ("T", "t") else MemberState.RUNNING

    def pid(self, member: str) -> int | None:
        """Of the member's program, as this host counts. Never waits."""
        container = self._containers.get(member)
        program = container.start.program if container is not None else None
        return program.pid if program is not None and program.alive() else None

    def start(self, member: str) -> None:
        """See interfaces.Processes: the same container again, on the same disk, at the same address."""
        container = self._known(member)
        with self._lock:
            old = container.start
            gone = old.program is None or not old.program.alive()
            if not old.exited.wait(_SIGNAL_DEADLINE_S if gone else 0):
                pid = old.program.pid if old.program is not None else "unknown"
                raise SetupError(f"{member} is already running (process {pid}); kill or stop it first")
            container.start = self._start(member, container.id)

    def kill(self, member: str) -> int:
        start = self._known(member).start
        start.expected = True
        if start.init is not None:
            end(start.init, deadline_s=_SIGNAL_DEADLINE_S)
        return self._status(member, start)

    def stop(self, member: str, *, deadline_s: float) -> int:
        """See interfaces.Processes. The signal is the one that the image names for this, SIGTERM if it names none."""
        container = self._known(member)
        start = container.start
        start.expected = True
        if start.init is not None and not start.exited.is_set():
            send(start.init, container.stop_signal)
            # A stopped process sees the request only once it runs again.
            continue_all(start.init, deadline_s=_SIGNAL_DEADLINE_S)
            if not start.exited.wait(deadline_s):
                end(start.init, deadline_s=_SIGNAL_DEADLINE_S)
                name = signal.Signals(container.stop_signal).name
                self._tell("warning", text=f"{member} did not end within {deadline_s:g} s of {name} and was killed")
        return self._status(member, start)

    def pause(self, member: str, *, expires_ns: int) -> None:
        """See interfaces.Processes: every process of the container, its children and its init too, is stopped."""
        start, init = self._running(member, "paused")
        entry = self._journal.record("continue-container", expires_ns=expires_ns, init=init.to_json(), what=member)
        older, start.continue_entry = start.continue_entry, entry
        if older is not None:
            self._journal.done(older)
        if not stop_all(init, deadline_s=_SIGNAL_DEADLINE_S):
            raise SetupError(f"{member} (process {init.pid}) did not stop on SIGSTOP: {self.state(member)}")
        self._events("member.paused", member=member)

    def resume(self, member: str) -> None:
        start, init = self._running(member, "resumed")
        was_paused = self.state(member) is MemberState.PAUSED
        paused_by_us = start.continue_entry is not None
        try:
            continue_all(init, deadline_s=_SIGNAL_DEADLINE_S)
        except RuntimeError as error:
            raise HealError(f"{member}: {error}; by hand: kill -CONT those") from error
        self._continued(start)
        if was_paused:
            self._tell("member.resumed", member=member)
        elif paused_by_us:
            text = "SIGSTOP had not taken effect, or it has been continued by somebody else"
            self._tell("warning", text=f"{member} was paused by this run, and was not stopped when resumed: {text}")

    # ------------------------------------------------------------------------------------------ ending

    def discard(self, member: str) -> None:
        """Remove a member's container, which may run still. Its data stays."""
        container = self._known(member)
        container.start.expected = True
        with self._engine.asked_to(f"remove the container of {member}"):
            self._engine.api.remove_container(container.id, force=True, v=True)
        self._status(member, container.start)
        del self._containers[member]

    def begin_to_close(self) -> None:
        """From here on ends are expected, and starts that have not begun are not carried out."""
        self._closing = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for container in self._containers.values():
            container.start.expected = True

    def end_processes(self) -> None:
        """SIGKILL every container, should the engine not be there to do it."""
        for container in self._containers.values():
            if container.start.init is not None:
                end(container.start.init, deadline_s=_SIGNAL_DEADLINE_S)

    def wait_followers(self) -> None:
        """Until all output is in the logs and all ends are told. Once the containers are removed, this is at once."""
        until = time.monotonic() + _SIGNAL_DEADLINE_S
        for thread in self._followers:
            thread.join(max(until - time.monotonic(), 0))

    # ------------------------------------------------------------------------------------------ inside

    def _make(self, member: str, make: Callable[[], str]) -> None:
        identifier = make()
        with self._engine.asked_to(f"look at the container of {member}"):
            config = self._engine.api.inspect_container(identifier)["Config"]
        start = self._start(member, identifier)
        self._containers[member] = _Container(
            id=identifier, stop_signal=_signal_number(config.get("StopSignal")), start=start
        )

    def _start(self, member: str, identifier: str) -> _Start:
        output = Output.attach(self._engine.endpoint, identifier)
        try:
            with self._engine.asked_to(f"start {member}"):
                self._engine.api.start(identifier)
                seen = self._engine.api.inspect_container(identifier)
            pid, has_init = int(seen["State"]["Pid"]), bool(seen["HostConfig"].get("Init"))
            init = self._own_init(member, identifier, pid)
            program = _only_child(init) if has_init and init is not None else init
            start = _Start(init=init, program=program)
        except BaseException:
            output.close()
            raise
        try:
            # Before its follower, so that no end is told before its start.
            self._events("member.started", member=member, pid=program.pid if program is not None else pid)
        finally:
            thread = threading.Thread(
                target=self._follow, args=(member, identifier, start, output), name=f"follow-{member}", daemon=True
            )
            self._followers.append(thread)
            thread.start()
        return start

    def _own_init(self, member: str, identifier: str, pid: int) -> ProcessIdentity | None:
        """Identity of a container's process 1: it will be signalled, so it must be the one of our container.

        It carries our token, or is in the container's cgroup: nginx writes its title over its environment.
        """
        if pid == 0:
            return None  # it has ended already; its follower tells how
        identity = ProcessIdentity.of(pid)
        token = f"{TOKEN_VARIABLE}={self._token}".encode()
        until = time.monotonic() + _PROGRAM_DEADLINE_S
        # The engine may say "started" an instant before the container's own program has taken the place of runc's.
        while identity is not None and identity.alive():
            with suppress(OSError):
                if token in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") or _runs_in(pid, identifier):
                    return identity
            if time.monotonic() > until:
                raise SetupError(
                    f"the Docker engine at {self._engine.endpoint} says that {member} is process {pid}, which on this "
                    "machine is another: the engine runs elsewhere (in a virtual machine?); use one that runs here"
                )
            time.sleep(_POLL_S)
        with self._engine.asked_to(f"look at the container of {member}"):
            if self._engine.api.inspect_container(identifier)["State"]["Pid"] == pid:
                raise SetupError(
                    f"the Docker engine at {self._engine.endpoint} says that {member} is process {pid}, which is not "
                    "on this machine: the engine runs elsewhere (in a virtual machine?); use one that runs here"
                )
        return None

    def _follow(self, member: str, identifier: str, start: _Start, output: Output) -> None:
        try:
            with self.log(member).open("ab") as file:
                output.copy_to(file)
        except OSError as error:  # the log cannot be opened: the end must be told all the same
            self._tell("warning", text=f"the output of {member} is not kept: {error}")
        finally:
            output.close()
        try:
            start.status = self._end_of(identifier, start)
            self._continued(start)
            self._tell("member.exited", member=member, status=start.status, expected=start.expected)
        finally:
            start.exited.set()  # last: whoever waits for it may close the journal and the events

    def _end_of(self, identifier: str, start: _Start) -> int:
        """Wait for the end, and return its status; without the engine the kernel knows when, but not how."""
        while True:
            try:
                code = wait_status(self._engine.endpoint, identifier)
            except OSError as error:
                self._lost(error)
                code = None
            if code is not None:
                return _SHELL_SIGNAL_BASE - code if code > _SHELL_SIGNAL_BASE else code
            if start.init is None or wait_gone(start.init, deadline_s=_SIGNAL_DEADLINE_S):
                return _SIGKILL_STATUS

    def _lost(self, error: OSError) -> None:
        """The engine has ended under us: told once, as the end of one of our own processes."""
        with self._lost_lock:
            first, self._engine_lost = not self._engine_lost, True
        if first and not self._closing:
            reason = why_unreachable(self._engine.endpoint) or f"it answers again, after having broken off ({error})"
            text = f"the Docker engine broke off in the middle of the run: {reason}"
            with suppress(OSError):
                self.log(ENGINE_MEMBER).write_text(f"{text}\nIts own log: journalctl -u docker\n", encoding="utf-8")
            self._tell("warning", text=text)
            self._tell("member.exited", member=ENGINE_MEMBER, status=-1, expected=False)

    def _launched(self, member: str) -> None:
        launching = self._launching.get(member)
        if launching is None:
            return
        try:
            launching.result()
        finally:
            # A failure is raised once: on the way out of it nobody must trip over it again.
            self._launching.pop(member, None)

    def _known(self, member: str) -> _Container:
        self._launched(member)
        container = self._containers.get(member)
        if container is None:
            raise SetupError(f"{member} was never started; started: {', '.join(sorted(self._containers)) or 'none'}")
        return container

    def _running(self, member: str, to_be: str) -> tuple[_Start, ProcessIdentity]:
        start = self._known(member).start
        if start.init is None or not start.init.alive():
            raise SetupError(f"{member} has ended (status {start.status}), so it cannot be {to_be}")
        return start, start.init

    def _status(self, member: str, start: _Start) -> int:
        if not start.exited.wait(_SIGNAL_DEADLINE_S) or start.status is None:
            pid = start.init.pid if start.init is not None else "unknown"
            raise HealError(f"{member} does not end on SIGKILL; by hand: kill -KILL {pid}")
        return start.status

    def _continued(self, start: _Start) -> None:
        entry, start.continue_entry = start.continue_entry, None
        if entry is not None:
            self._journal.done(entry)

    def _tell(self, kind: str, **fields: Any) -> None:
        """An event about what has been undone or has ended. A full disk must not stop what remains to be cleaned up."""
        with suppress(OSError):
            self._events(kind, **fields)


def _only_child(init: ProcessIdentity) -> ProcessIdentity | None:
    """The one child of a container's init, which may not have been born yet; None when all has ended."""
    until = time.monotonic() + _PROGRAM_DEADLINE_S
    while init.alive() and time.monotonic() < until:
        with suppress(FileNotFoundError, ProcessLookupError):
            for text in Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text(encoding="ascii").split():
                child = ProcessIdentity.of(int(text))
                if child is not None and child.alive():
                    return child
        time.sleep(_POLL_S)
    return None


def _runs_in(pid: int, container: str) -> bool:
    """Whether a process is the container's own program by now, as the kernel's list of its cgroups says."""
    cgroups = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    return container in cgroups and not Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("runc")


def _signal_number(name: str | None) -> int:
    """The number of a signal as an image names it: `SIGQUIT`, `QUIT` or `3`."""
    if not name:
        return int(signal.SIGTERM)
    if name.isdigit():
        return int(name)
    try:
        return int(signal.Signals["SIG" + name.removeprefix("SIG")])
    except KeyError:
        return int(signal.SIGTERM)
