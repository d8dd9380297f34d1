"""The inverse of toxics on the links of the process backend.

| inverse | arguments | undone when |
|---|---|---|
| `remove-toxics` | `address`, `toxics` ([[proxy, toxic], ...]), `server` (*) | the server lists none, or is gone |

(*) Identity of the server's process; entries may lack it, and then a server is gone when nothing listens.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

from ..identity import ProcessIdentity
from ._inverse import Inverse

__all__ = ["INVERSES"]

_REQUEST_TIMEOUT_S: Final = 2.0


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


def _by_hand(arguments: Mapping[str, Any]) -> str:
    host, port = arguments["address"]
    lines = [
        f"curl -X DELETE http://{host}:{port}/proxies/{quote(proxy, safe='')}/toxics/{quote(toxic, safe='')}"
        for proxy, toxic in arguments["toxics"]
    ]
    return "; ".join(lines)


INVERSES: Final[dict[str, Inverse]] = {"remove-toxics": Inverse(undo=_remove_toxics, by_hand=_by_hand, rank=10)}
