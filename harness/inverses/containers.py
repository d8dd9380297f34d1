"""Inverses on containers: continue what was stopped, remove a run's containers and its network.

| inverse | arguments | undone when |
|---|---|---|
| `continue-container` | `init` (identity of its process 1), `what` | none of its processes is stopped, or it is gone |
| `remove-containers` | `endpoint`, `token` | the engine lists no container with this token's label |
| `remove-volumes` | `endpoint`, `token` | the engine lists no volume with this token's label |
| `remove-networks` | `endpoint`, `token` | the engine lists no network with this token's label |
| `start-container` | `endpoint`, `container` (id), `what` | the engine says that it runs |

They ask the engine over its Unix socket. Only what carries the run's own label is ever removed. A container that the
run did not make is only ever started again.
"""

from __future__ import annotations

import http.client
import json
import shlex
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

from ..identity import ProcessIdentity
from ..pid_namespace import continue_all
from ._inverse import Inverse

__all__ = ["INVERSES", "TOKEN_LABEL", "UnixConnection"]

TOKEN_LABEL: Final = "aftershock.token"

_REQUEST_TIMEOUT_S: Final = 5.0
_CONTINUE_DEADLINE_S: Final = 3.0
# Bounded so that the watchdog, which has 9 s for all, comes to the others as well.
_REMOVE_DEADLINE_S: Final = 6.0
# A creation that was under way when the tool died is listed only when the engine is through with it: look twice.
_LOOK_PAUSE_S: Final = 0.15
_REMOVALS_AT_ONCE: Final = 4


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, *, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _continue_container(arguments: Mapping[str, Any]) -> str:
    init = ProcessIdentity.from_json(arguments["init"])
    count = continue_all(init, deadline_s=_CONTINUE_DEADLINE_S)
    return f"continued {count} processes of {arguments['what']}" if count else ""


def _remove_containers(arguments: Mapping[str, Any]) -> str:
    return _remove(arguments, listing="/containers/json?all=1&", one="/containers/{}?force=1&v=1", what="containers")


def _remove_volumes(arguments: Mapping[str, Any]) -> str:
    return _remove(arguments, listing="/volumes?", one="/volumes/{}", what="volumes")


def _start_container(arguments: Mapping[str, Any]) -> str:
    endpoint, container, what = arguments["endpoint"], arguments["container"], arguments["what"]
    path = f"/containers/{quote(container, safe='')}"
    until, started = time.monotonic() + _REMOVE_DEADLINE_S, False
    while True:
        seen = _ask(endpoint, "GET", f"{path}/json")
        if seen is None:
            raise RuntimeError(f"{what} is not there any more: somebody removed its container {container[:12]}")
        if seen["State"]["Running"]:
            return f"started {what} again" if started else ""
        if time.monotonic() > until:
            raise RuntimeError(f"{what} does not start: its container is {seen['State']['Status']}")
        if started:
            time.sleep(_LOOK_PAUSE_S)
        _ask(endpoint, "POST", f"{path}/start")
        started = True


def _remove_networks(arguments: Mapping[str, Any]) -> str:
    return _remove(arguments, listing="/networks?", one="/networks/{}", what="networks")


def _remove(arguments: Mapping[str, Any], *, listing: str, one: str, what: str) -> str:
    """Remove everything that carries the run's label until two looks in a row find nothing."""
    endpoint, token = arguments["endpoint"], arguments["token"]
    wanted = quote(json.dumps({"label": [f"{TOKEN_LABEL}={token}"]}))
    until = time.monotonic() + _REMOVE_DEADLINE_S
    removed: set[str] = set()
    empty_looks = 0
    while True:
        there = _listed(_ask(endpoint, "GET", f"{listing}filters={wanted}"))
        empty_looks = 0 if there else empty_looks + 1
        if empty_looks == 2:
            return f"removed {len(removed)} {what} of the run" if removed else ""
        problems: list[str] = []
        if there:
            with ThreadPoolExecutor(_REMOVALS_AT_ONCE) as threads:
                paths = [one.format(identifier) for identifier in there]
                problems = [text for text in threads.map(lambda path: _delete(endpoint, path), paths) if text]
            removed.update(there)
        if problems and time.monotonic() > until:
            raise RuntimeError(f"{len(there)} {what} of the run are still there: {problems[0]}")
        if problems or not there:
            time.sleep(_LOOK_PAUSE_S)


def _listed(answer: Any) -> list[str]:
    """Ids of containers and networks; volumes have names, and a list inside an object."""
    if isinstance(answer, dict):
        return [item["Name"] for item in answer["Volumes"] or ()]
    return [item["Id"] for item in answer]


def _delete(endpoint: str, path: str) -> str:
    """The engine's reason when it did not; what is gone already, or is being removed, is looked for again."""
    try:
        _ask(endpoint, "DELETE", path)
    except RuntimeError as error:
        return str(error)
    return ""


def _ask(endpoint: str, method: str, path: str) -> Any:
    if not endpoint.startswith("unix://"):
        raise RuntimeError(f"{endpoint}: only unix:// endpoints are known")
    with closing(UnixConnection(endpoint.removeprefix("unix://"), timeout_s=_REQUEST_TIMEOUT_S)) as connection:
        try:
            connection.request(method, path)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise RuntimeError(
                f"the Docker engine at {endpoint} does not answer ({reason}), so what the run left there stays; "
                "start it (systemctl start docker), then run `aftershock heal`"
            ) from error
    if status in (304, 404):  # 304: it is so already, by somebody who was quicker
        return None
    if status >= 300:
        raise RuntimeError(f"the Docker engine answered {status} to {method} {path.partition('?')[0]}: {_said(body)}")
    return json.loads(body) if body else None


def _said(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:200])


def _continue_by_hand(arguments: Mapping[str, Any]) -> str:
    pid = int(arguments["init"]["pid"])
    return f"kill -CONT {pid}; nsenter -t {pid} -p kill -CONT -1"


def _by_hand(arguments: Mapping[str, Any], *, listing: str, remove: str) -> str:
    docker = f"docker -H {shlex.quote(arguments['endpoint'])}"
    label = shlex.quote(f"label={TOKEN_LABEL}={arguments['token']}")
    return f"{docker} {remove} $({docker} {listing} --filter {label})"


INVERSES: Final[dict[str, Inverse]] = {
    "continue-container": Inverse(undo=_continue_container, by_hand=_continue_by_hand, rank=20),
    "remove-containers": Inverse(
        undo=_remove_containers, by_hand=lambda a: _by_hand(a, listing="ps -aq", remove="rm -f -v"), rank=40
    ),
    "start-container": Inverse(
        undo=_start_container,
        by_hand=lambda a: f"docker -H {shlex.quote(a['endpoint'])} start {shlex.quote(a['container'])}",
        rank=30,
    ),
    "remove-volumes": Inverse(
        undo=_remove_volumes, by_hand=lambda a: _by_hand(a, listing="volume ls -q", remove="volume rm"), rank=45
    ),
    "remove-networks": Inverse(
        undo=_remove_networks, by_hand=lambda a: _by_hand(a, listing="network ls -q", remove="network rm"), rank=50
    ),
}
