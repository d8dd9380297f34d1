"""How the harness asks stock services something, directly: one question a connection, past every fault."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any, Final

import hiredis

from ..harness.interfaces import Address
from .reference_access import NoAnswerError

__all__ = ["ask_redis", "post_json"]

# A member that is stopped must not hold up those who are asked for the topology beside it.
_TIMEOUT_S: Final = 1.0


def ask_redis(address: Address, *command: str) -> Any:
    """A Redis' or a sentinel's reply, text decoded. Raises NoAnswerError when there is none, or it is an error."""
    asked = f"{' '.join(command)} at {address}"
    reader = hiredis.Reader(encoding="utf-8", notEnoughData=Ellipsis)
    try:
        with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
            connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub allows one part only
            while (reply := reader.gets()) is Ellipsis:
                data = connection.recv(65536)
                if not data:
                    raise NoAnswerError(f"{asked}: the connection ended before the reply")
                reader.feed(data)
    except (OSError, hiredis.ProtocolError) as error:
        raise NoAnswerError(f"{asked}: {error or type(error).__name__}") from error
    if isinstance(reply, hiredis.ReplyError):
        raise NoAnswerError(f"{asked}: {reply}")
    return reply


def post_json(address: Address, path: str, body: Any, *, timeout_s: float = _TIMEOUT_S) -> Any:
    """POST JSON, get JSON. Raises NoAnswerError unless the answer is a 200."""
    asked = f"POST {path} at {address}"
    with contextlib.closing(http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)) as connection:
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(f"{asked}: {error or type(error).__name__}") from error
    if response.status != 200:
        raise NoAnswerError(f"{asked}: HTTP {response.status}: {data[:200]!r}")
    try:
        return json.loads(data)
    except ValueError as error:
        raise NoAnswerError(f"{asked}: not JSON: {data[:200]!r}") from error
