"""Inverses on processes: resume what was stopped, end what was started.

| inverse | arguments | undone when |
|---|---|---|
| `resume` | `process` (identity) | the operating system says it is not stopped, or it is gone |
| `end-process` | `process` (identity), `what` | it is gone |
| `end-processes` | `token` | no process of this user carries the run's token |
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any, Final

from ..identity import ProcessIdentity, end, find_by_token, os_state, send, wait_state
from ._inverse import Inverse

__all__ = ["INVERSES"]

_PROCESS_DEADLINE_S: Final = 3.0
# A process that is being started is found by a scan only after its exec: look twice with this between.
_SCAN_PAUSE_S: Final = 0.05


def _resume(arguments: Mapping[str, Any]) -> str:
    identity = ProcessIdentity.from_json(arguments["process"])
    was_stopped = os_state(identity) == "T"
    # Also one that is not stopped yet: this takes back a SIGSTOP that is still under way.
    if send(identity, signal.SIGCONT) and not wait_state(identity, stopped=False, deadline_s=_PROCESS_DEADLINE_S):
        if identity.alive():
            raise RuntimeError(f"process {identity.pid} is still stopped")
        return ""
    return f"resumed process {identity.pid}" if was_stopped else ""


def _end_process(arguments: Mapping[str, Any]) -> str:
    identity = ProcessIdentity.from_json(arguments["process"])
    if not identity.alive():
        return ""
    if not end(identity, deadline_s=_PROCESS_DEADLINE_S):
        raise RuntimeError(f"process {identity.pid} ({arguments['what']}) does not end")
    return f"ended {arguments['what']} (process {identity.pid})"


def _end_processes(arguments: Mapping[str, Any]) -> str:
    token = arguments["token"]
    until = time.monotonic() + _PROCESS_DEADLINE_S
    ended: set[int] = set()
    quiet_scans = 0
    while quiet_scans < 2:
        found = find_by_token(token)
        quiet_scans = 0 if found else quiet_scans + 1
        for identity in found:
            if end(identity, deadline_s=max(until - time.monotonic(), 0.1)):
                ended.add(identity.pid)
        if quiet_scans < 2:
            if time.monotonic() > until:
                pids = ", ".join(str(identity.pid) for identity in find_by_token(token))
                raise RuntimeError(f"processes {pids or 'of the run'} do not end")
            time.sleep(_SCAN_PAUSE_S)
    return f"ended {len(ended)} further processes of the run ({', '.join(map(str, sorted(ended)))})" if ended else ""


def _kill_by_hand(arguments: Mapping[str, Any]) -> str:
    pids = " ".join(str(identity.pid) for identity in find_by_token(arguments["token"]))
    return f"kill -KILL {pids}" if pids else "nothing: all have ended by now"


INVERSES: Final[dict[str, Inverse]] = {
    "resume": Inverse(undo=_resume, by_hand=lambda a: f"kill -CONT {a['process']['pid']}", rank=20),
    "end-process": Inverse(undo=_end_process, by_hand=lambda a: f"kill -KILL {a['process']['pid']}", rank=30),
    "end-processes": Inverse(undo=_end_processes, by_hand=_kill_by_hand, rank=90),
}
