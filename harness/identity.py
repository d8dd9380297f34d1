"""Who a process is, beyond its pid, and signals that can only reach that one.

A pid is reused; (pid, start time, boot id) is not. Every signal of ours goes through a pidfd that was checked against
the identity *after* it was opened, so a process that took over the number is never hit. Linux only. Nothing but the
standard library: the watchdog imports this and must start at once.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = [
    "TOKEN_VARIABLE",
    "ProcessIdentity",
    "boot_id",
    "end",
    "find_by_token",
    "os_state",
    "run_token",
    "send",
    "wait_gone",
    "wait_state",
]

# Every process of a run carries the run's token under this name in its environment, and its children inherit it.
TOKEN_VARIABLE = "AFTERSHOCK_RUN"

_POLL_S = 0.002


@cache
def boot_id() -> str:
    """The kernel's id of this boot: after a restart of the machine no identity of before is alive."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (field 3 of proc(5) is index 0); None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in brackets and may itself hold blanks and brackets: read behind the last one.
    return text.rpartition(")")[2].split()


def run_token(run_folder: Path) -> str:
    """Token of the run in this folder: its resolved path, which no other run on this machine has at the same time."""
    return str(run_folder.resolve())


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process for all time: `start_ticks` is field 22 of /proc/PID/stat, in clock ticks since boot."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Identity of a running (or not yet reaped) process; None when there is none."""
        fields = _stat_fields(pid)
        return cls(pid, int(fields[19]), boot_id()) if fields is not None else None

    @classmethod
    def from_json(cls, value: Any) -> ProcessIdentity:
        return cls(int(value["pid"]), int(value["start_ticks"]), str(value["boot_id"]))

    def to_json(self) -> dict[str, Any]:
        return {"pid": self.pid, "start_ticks": self.start_ticks, "boot_id": self.boot_id}

    def alive(self) -> bool:
        """Whether this very process still runs. A zombie does not: it holds nothing but its exit status."""
        return os_state(self) not in (None, "Z", "X")


def os_state(identity: ProcessIdentity) -> str | None:
    """State letter of proc(5) (`T` is stopped, `Z` a zombie); None when this process is gone."""
    if identity.boot_id != boot_id():
        return None
    fields = _stat_fields(identity.pid)
    if fields is None or int(fields[19]) != identity.start_ticks:
        return None
    return fields[0]


@contextmanager
def _pidfd(identity: ProcessIdentity) -> Iterator[int | None]:
    """A pidfd of exactly this process, or None when it is gone."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # Checked after opening: what the descriptor points to can no longer change, so the answer stays true.
        yield fd if os_state(identity) is not None else None
    finally:
        os.close(fd)


def send(identity: ProcessIdentity, signal_number: int) -> bool:
    """Send a signal to exactly this process. False when it is gone. Raises PermissionError when it is not ours."""
    with _pidfd(identity) as fd:
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, signal_number)
        except ProcessLookupError:
            return False
        return True


def wait_gone(identity: ProcessIdentity, *, deadline_s: float) -> bool:
    """Wait until the process has ended (a zombie has). False when it still runs at the deadline."""
    until = time.monotonic() + deadline_s
    with _pidfd(identity) as fd:
        if fd is None:
            return True
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while identity.alive():
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            poller.poll(left_s * 1000)
    return True


def wait_state(identity: ProcessIdentity, *, stopped: bool, deadline_s: float) -> bool:
    """Wait until the operating system says stopped (or not stopped). False at the deadline or when it is gone."""
    until = time.monotonic() + deadline_s
    while identity.alive():
        # Threads stop one after the other: a process is stopped when its last thread is.
        states = _thread_states(identity.pid)
        if states and ("T" not in states if not stopped else states <= {"T", "Z", "X"}):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_S)
    return False


def _thread_states(pid: int) -> set[str]:
    states = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                text = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
                states.add(text.rpartition(")")[2].split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return states


def end(identity: ProcessIdentity, *, deadline_s: float) -> bool:
    """SIGKILL exactly this process and wait. True when it is gone, also when it was before."""
    return not send(identity, signal.SIGKILL) or wait_gone(identity, deadline_s=deadline_s)


def find_by_token(token: str) -> list[ProcessIdentity]:
    """All running processes of this user that carry the run's token, ourselves left out.

    This finds a child of the instant between its start and its entry in the journal, and children of children.
    """
    wanted = f"{TOKEN_VARIABLE}={token}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        identity = ProcessIdentity.of(int(entry.name))
        if identity is None:
            continue
        try:
            environment = Path(f"/proc/{entry.name}/environ").read_bytes()
        except OSError:  # gone in between, or somebody else's
            continue
        if wanted in environment.split(b"\0") and identity.alive():
            found.append(identity)
    return found
