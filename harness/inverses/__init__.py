"""The known inverses: how what a journal entry names is undone. Each is idempotent, bounded in time, and verified.

| inverse | arguments | undone when |
|---|---|---|
| `resume` | `process` (identity) | the operating system says it is not stopped, or it is gone |
| `remove-toxics` | `address`, `toxics` ([[proxy, toxic], ...]), `server` (*) | the server lists none, or is gone |
| `end-process` | `process` (identity), `what` | it is gone |
| `end-processes` | `token` | no process of this user carries the run's token |

(*) Identity of the server's process; entries may lack it, and then a server is gone when nothing listens.

Standard library only: the watchdog imports this.
"""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

from .identity import ProcessIdentity, end, find_by_token, os_state, send, wait_state

__all__ = ["KNOWN_INVERSES", "by_hand", "undo"]

_REQUEST_TIMEOUT_S: Final = 2.0
_PROCESS_DEADLINE_S: Final = 3.0
# A process that is being started is found by a scan only after its exec: look twice with this between.
_SCAN_PAUSE_S: Final = 0.05


def undo(inverse: str, arguments: Mapping[str, Any]) -> str:
    """Carry out one inverse and verify it. Returns what was done, `""` when there was nothing left to undo.

    Raises OSError or RuntimeError saying what is still changed, and anything for an entry that is not what we write.
    """
    if inverse not in KNOWN_INVERSES:
        raise RuntimeError(f"unknown inverse {inverse!r}; known: {', '.join(sorted(KNOWN_INVERSES))}")
    return KNOWN_INVERSES[inverse](arguments)


def by_hand(inverse: str, arguments: Mapping[str, Any]) -> str:
    """What a person types to undo it when we could not. Never raises: one bad entry must not hide the others."""
    try:
        return _by_hand(inverse, arguments)
    except Exception:
        return f"we cannot read this entry; look at what {inverse!r} of {arguments!r} means, and undo that"


def _by_hand(inverse: str, arguments: Mapping[str, Any]) -> str:
    if inverse == "remove-toxics":
        host, port = arguments["address"]
        lines = [
            f"curl -X DELETE http://{host}:{port}/proxies/{quote(proxy, safe='')}/toxics/{quote(toxic, safe='')}"
            for proxy, toxic in arguments["toxics"]
        ]
        return "; ".join(lines)
    if inverse == "end-processes":
        pids = " ".join(str(identity.pid) for identity in find_by_token(arguments["token"]))
        return f"kill -KILL {pids}" if pids else "nothing: all have ended by now"
    signal_name = {"resume": "CONT", "end-process": "KILL"}[inverse]
    return f"kill -{signal_name} {arguments['process']['pid']}"


def _resume(arguments: Mapping[str, Any]) -> str:
    identity = ProcessIdentity.from_json(arguments["process"])
    if os_state(identity) != "T":
        return ""
    if send(identity, signal.SIGCONT) and not wait_state(identity, stopped=False, deadline_s=_PROCESS_DEADLINE_S):
        if identity.alive():
            raise RuntimeError(f"process {identity.pid} is still stopped")
        return ""
    return f"resumed process {identity.pid}"


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


def _remove_toxics(arguments: Mapping[str, Any]) -> str:
    host, port = arguments["address"]
    wanted = {(proxy, toxic) for proxy, toxic in arguments["toxics"]}
    server = arguments.get("server")
    if server is not None and not ProcessIdentity.from_json(server).alive():
        return ""  # every toxic went with it; who listens there now is somebody else
    with closing(http.client.HTTPConnection(host, port, timeout=_REQUEST_TIMEOUT_S)) as connection:
        try:
            present = wanted & _toxics_there(connection)
            for proxy, toxic in sorted(present):
                _request(connection, "DELETE", f"/proxies/{quote(proxy, safe='')}/toxics/{quote(toxic, safe='')}")
            left = wanted & _toxics_there(connection)
        except ConnectionRefusedError:
            return ""  # toxics live in the server: nothing listens there, so nothing is impaired any more
        except (http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise RuntimeError(f"{host}:{port} does not answer as Toxiproxy does: {error!r}") from error
    if left:
        raise RuntimeError(f"{len(left)} toxics are still on the proxies of {host}:{port}: {sorted(left)}")
    return f"removed {len(present)} toxics from {len({proxy for proxy, _ in present})} links" if present else ""


def _toxics_there(connection: http.client.HTTPConnection) -> set[tuple[str, str]]:
    status, body = _request(connection, "GET", "/proxies")
    if status != 200:
        raise RuntimeError(f"GET /proxies answered {status}: {body[:200]!r}")
    return {(name, toxic["name"]) for name, proxy in json.loads(body).items() for toxic in proxy["toxics"]}


def _request(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, bytes]:
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.read()


KNOWN_INVERSES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "resume": _resume,
    "remove-toxics": _remove_toxics,
    "end-process": _end_process,
    "end-processes": _end_processes,
}
