"""The processes of a container, seen from outside: all that share the pid namespace of its process 1.

It needs root. Nothing but the standard library: the watchdog imports this.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from .identity import ProcessIdentity, os_state, send, wait_state

__all__ = ["continue_all", "processes_inside", "stop_all"]

_POLL_S: Final = 0.005


def processes_inside(init: ProcessIdentity) -> list[ProcessIdentity]:
    """Processes of the pid namespace whose process 1 is `init`, itself first; none when it is gone.

    When process 1 ends the kernel ends all others, so none can outlive it. Raises PermissionError without root, and
    RuntimeError when it is in our own namespace: then it is no container's, and the others would be the whole machine.
    """
    try:
        wanted = _namespace(init.pid)
    except FileNotFoundError:
        return []
    if not init.alive():
        return []  # the number may be somebody else's by now, and so may the namespace
    if wanted == _namespace("self"):
        raise RuntimeError(f"process {init.pid} is in this machine's own pid namespace, so it is no container's")
    found = [init]
    for path in Path("/proc").iterdir():
        name = path.name
        if not name.isdigit() or int(name) == init.pid:
            continue
        # One that has more privileges than we is not to be looked at, and is in no container that we could look into.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if _namespace(name) == wanted:
                identity = ProcessIdentity.of(int(name))
                if identity is not None:
                    found.append(identity)
    return found if init.alive() else []


def stop_all(init: ProcessIdentity, *, deadline_s: float) -> bool:
    """SIGSTOP every process of a container, and wait until the kernel says that all are stopped.

    False at the deadline or when it is gone. Processes that fork meanwhile are found by the next look: it is over only
    when a second look in a row finds nothing that runs.
    """
    until = time.monotonic() + deadline_s
    quiet_looks = 0
    while quiet_looks < 2:
        inside = processes_inside(init)
        if not inside or time.monotonic() > until:
            return False
        running = [each for each in inside if each.alive() and not wait_state(each, stopped=True, deadline_s=0)]
        quiet_looks = 0 if running else quiet_looks + 1
        for each in running:
            send(each, signal.SIGSTOP)
        if running:
            time.sleep(_POLL_S)
    return True


def continue_all(init: ProcessIdentity, *, deadline_s: float) -> int:
    """SIGCONT every process of a container until none is stopped. Returns how many were; 0 also when it is gone.

    Raises RuntimeError at the deadline. Also what is not stopped gets the signal: it takes back a SIGSTOP under way.
    """
    until = time.monotonic() + deadline_s
    were: set[int] = set()
    waiting = processes_inside(init)
    while waiting:
        for each in waiting:
            if os_state(each) == "T":
                were.add(each.pid)
            send(each, signal.SIGCONT)
        waiting = [each for each in processes_inside(init) if os_state(each) == "T"]
        if waiting and time.monotonic() > until:
            raise RuntimeError(f"processes {', '.join(str(each.pid) for each in waiting)} are still stopped")
        if waiting:
            time.sleep(_POLL_S)
    return len(were)


def _namespace(process: int | str) -> str:
    return str(Path(f"/proc/{process}/ns/pid").readlink())
