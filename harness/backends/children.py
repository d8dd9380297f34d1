"""Members as child processes: start, signal, watch, end. Keeps interfaces.Processes.

A child has its own session, no terminal, a small environment, and no descriptor of ours but its log. Signals go to
its identity (harness/identity.py). One thread a child waits for its exit, so that a member which dies by itself is
in the event log at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import HealError, SetupError
from ..identity import TOKEN_VARIABLE, ProcessIdentity, end, find_by_token, os_state, send, wait_state
from ..interfaces import EventSink, Journal, MemberState, ProcessSpec

__all__ = ["Children"]

# What a member inherits of the tool's environment: enough to find its interpreter and our package, and no secrets.
_INHERITED: Final = ("PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LANG")
_SIGNAL_DEADLINE_S: Final = 10.0
_GRACE_S: Final = 2.0


@dataclass(slots=True)
class _Child:
    """One start of one member. A restart makes a new one."""

    process: subprocess.Popen[bytes]
    identity: ProcessIdentity
    entry: str  # in the journal: ends it
    expected: bool = False  # we ended it
    resume_entry: str | None = None  # in the journal: resumes it
    exited: threading.Event = field(default_factory=threading.Event)


class Children:
    """The processes of one stage."""

    def __init__(self, *, logs: Path, token: str, journal: Journal, events: EventSink) -> None:
        self._logs = logs
        self._token = token
        self._journal = journal
        self._events = events
        self._lock = threading.Lock()
        self._specs: dict[str, ProcessSpec] = {}
        self._children: dict[str, _Child] = {}

    def add(self, spec: ProcessSpec) -> None:
        """Say how a member is run, before its first start."""
        self._specs[spec.member.name] = spec

    def log(self, member: str) -> Path:
        return self._logs / f"{member}.log"

    def state(self, member: str) -> MemberState:
        child = self._children.get(member)
        if child is None:
            return MemberState.ABSENT
        letter = os_state(child.identity)
        if letter in (None, "Z", "X"):
            return MemberState.EXITED
        return MemberState.PAUSED if letter == "T" else MemberState.RUNNING

    def pid(self, member: str) -> int | None:
        child = self._children.get(member)
        return child.identity.pid if child is not None and child.identity.alive() else None

    def identity(self, member: str) -> ProcessIdentity | None:
        """Who the last start of a member is, whether it still runs or not; None when it never ran."""
        child = self._children.get(member)
        return child.identity if child is not None else None

    def exit_status(self, member: str) -> int | None:
        """Status of the last start, as subprocess has it; None while it runs or when it never ran."""
        child = self._children.get(member)
        return child.process.returncode if child is not None and child.exited.is_set() else None

    def start(self, member: str) -> None:
        """See interfaces.Processes. Raises SetupError when it runs already or its program cannot be run."""
        spec = self._specs.get(member)
        if spec is None:
            raise SetupError(f"{member}: no process is known for it; known: {', '.join(sorted(self._specs))}")
        with self._lock:
            old = self._children.get(member)
            if old is not None and not old.exited.wait(0 if old.identity.alive() else _SIGNAL_DEADLINE_S):
                raise SetupError(f"{member} is already running (process {old.identity.pid}); kill or stop it first")
            child = self._children[member] = self._spawn(spec)
        try:
            self._events("member.started", member=member, pid=child.identity.pid)
        finally:
            # Also when the disk is full: without its reaper nobody could end the process and know that it has ended.
            threading.Thread(target=self._reap, args=(member, child), name=f"reap-{member}", daemon=True).start()

    def kill(self, member: str) -> int:
        child = self._child(member)
        child.expected = True
        end(child.identity, deadline_s=_SIGNAL_DEADLINE_S)
        return self._status(member, child)

    def stop(self, member: str, *, deadline_s: float) -> int:
        child = self._child(member)
        child.expected = True
        self._ask_to_end(child)
        if not child.exited.wait(deadline_s):
            end(child.identity, deadline_s=_SIGNAL_DEADLINE_S)
            self._tell("warning", text=f"{member} did not end within {deadline_s:g} s of SIGTERM and was killed")
        return self._status(member, child)

    def pause(self, member: str, *, expires_ns: int) -> None:
        child = self._running(member, "paused")
        entry = self._journal.record("resume", expires_ns=expires_ns, process=child.identity.to_json(), what=member)
        older, child.resume_entry = child.resume_entry, entry
        if older is not None:
            self._journal.done(older)
        if not send(child.identity, signal.SIGSTOP) or not wait_state(
            child.identity, stopped=True, deadline_s=_SIGNAL_DEADLINE_S
        ):
            raise SetupError(f"{member} (process {child.identity.pid}) did not stop on SIGSTOP: {self.state(member)}")
        self._events("member.paused", member=member)

    def resume(self, member: str) -> None:
        child = self._running(member, "resumed")
        was_paused = os_state(child.identity) == "T"
        paused_by_us = child.resume_entry is not None
        # Also to one that is not stopped: it takes back a SIGSTOP that is still under way.
        send(child.identity, signal.SIGCONT)
        if not wait_state(child.identity, stopped=False, deadline_s=_SIGNAL_DEADLINE_S) and child.identity.alive():
            raise HealError(f"{member} is still stopped after SIGCONT; by hand: kill -CONT {child.identity.pid}")
        self._resumed(child)
        if was_paused:
            self._tell("member.resumed", member=member)
        elif paused_by_us:
            text = "SIGSTOP had not taken effect, or it has been resumed by somebody else"
            self._tell("warning", text=f"{member} was paused by this run, and was not stopped when resumed: {text}")

    def close(self, *, last: str) -> None:
        """End everything, politely, then firmly; `last` (the links' server) after all others.

        Raises HealError naming what does not end.
        """
        running = [member for member in self._children if member != last]
        self._end(running)
        self._end([last] if last in self._children else [])
        # Children of members, which nobody here ever started by name.
        strangers = find_by_token(self._token)
        for identity in strangers:
            end(identity, deadline_s=_SIGNAL_DEADLINE_S)
        if strangers:
            pids = ", ".join(str(identity.pid) for identity in strangers)
            self._tell("warning", text=f"members left processes of their own behind, which were killed: {pids}")
        left = find_by_token(self._token)
        if left:
            pids = " ".join(str(identity.pid) for identity in left)
            raise HealError(f"processes of the run do not end on SIGKILL; by hand: kill -KILL {pids}")

    def _spawn(self, spec: ProcessSpec) -> _Child:
        member = spec.member.name
        try:
            with self.log(member).open("ab") as log:
                process = subprocess.Popen(
                    spec.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment(spec.environment),
                    start_new_session=True,
                )
        except OSError as error:
            raise SetupError(f"{member}: cannot run {spec.argv[0]}: {error.strerror or error}") from error
        # It cannot be reaped yet, so the pid is its own still.
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        try:
            entry = self._journal.record("end-process", expires_ns=None, process=identity.to_json(), what=member)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return _Child(process=process, identity=identity, entry=entry)

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {**inherited, **extra, TOKEN_VARIABLE: self._token}

    def _reap(self, member: str, child: _Child) -> None:
        status = child.process.wait()
        try:
            self._journal.done(child.entry)
            self._resumed(child)
            self._tell("member.exited", member=member, status=status, expected=child.expected)
        finally:
            child.exited.set()  # last: whoever waits for it may close the journal and the events

    def _tell(self, kind: str, **fields: Any) -> None:
        """An event about what has been undone or has ended. A full disk must not stop what remains to be cleaned up."""
        with suppress(OSError):
            self._events(kind, **fields)

    def _resumed(self, child: _Child) -> None:
        entry, child.resume_entry = child.resume_entry, None
        if entry is not None:
            self._journal.done(entry)

    def _child(self, member: str) -> _Child:
        child = self._children.get(member)
        if child is None:
            raise SetupError(f"{member} was never started; started: {', '.join(sorted(self._children))}")
        return child

    def _running(self, member: str, to_be: str) -> _Child:
        child = self._child(member)
        if not child.identity.alive():
            raise SetupError(f"{member} has ended (status {child.process.returncode}), so it cannot be {to_be}")
        return child

    def _status(self, member: str, child: _Child) -> int:
        if not child.exited.wait(_SIGNAL_DEADLINE_S):
            raise HealError(f"{member} does not end on SIGKILL; by hand: kill -KILL {child.identity.pid}")
        return child.process.returncode

    def _ask_to_end(self, child: _Child) -> None:
        send(child.identity, signal.SIGTERM)
        # A stopped process sees the request only once it runs again.
        send(child.identity, signal.SIGCONT)

    def _end(self, members: list[str]) -> None:
        alive = [member for member in members if not self._children[member].exited.is_set()]
        for member in alive:
            self._children[member].expected = True
            self._ask_to_end(self._children[member])
        until = time.monotonic() + _GRACE_S
        for member in alive:
            child = self._children[member]
            if not child.exited.wait(max(until - time.monotonic(), 0)):
                end(child.identity, deadline_s=_SIGNAL_DEADLINE_S)
                self._tell("warning", text=f"{member} did not end within {_GRACE_S:g} s of SIGTERM and was killed")
            child.exited.wait(_SIGNAL_DEADLINE_S)
