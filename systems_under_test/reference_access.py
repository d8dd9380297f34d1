"""How the harness talks to members of a reference cluster: their HTTP pages, directly, and probes along a link."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from ..harness.interfaces import Address, ProbeOutcome
from .reference import wire

__all__ = ["CONNECT_TIMEOUT_S", "HttpProbe", "NoAnswerError", "PeerProbe", "get_json", "poll"]

# Where packets are cut a connection does not even open: what a probe waits for that is part of every proof's time.
CONNECT_TIMEOUT_S: Final = 1.0
_SEEN_TIMEOUT_S: Final = 2.0
_FILLING: Final = "filling-" + "0" * 184  # as long as members take


class NoAnswerError(Exception):
    """A member does not answer on its own http port, or not with what was asked. The message is half a sentence."""


def get_json(address: Address, path: str, *, timeout_s: float = 2.0, also: tuple[int, ...] = ()) -> Any:
    """GET a page of a member as JSON. Raises NoAnswerError unless it answers 200 (or one of the statuses `also`)."""
    with contextlib.closing(http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)) as connection:
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(f"GET {path} at {address}: {error or type(error).__name__}") from error
    if response.status not in (200, *also):
        raise NoAnswerError(f"GET {path} at {address}: HTTP {response.status}: {body[:200]!r}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise NoAnswerError(f"GET {path} at {address}: not JSON: {body[:200]!r}") from error


class _Probe:
    """One connection through a link. Subclasses say how a nonce is sent and how its answer is known.

    `delivered` is the target's own word, given on its http port, which no fault touches.
    """

    def __init__(self, *, path: socket.socket, witness: Address) -> None:
        """`path`: a connection through the link, which the probe closes; `witness`: the target's http port."""
        self._witness = witness
        self._connection = path
        path.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        """See interfaces.Probe. A connection that has been closed delivers nothing and answers nothing."""
        return self.exchange_bulk(size_bytes=0, timeout_s=timeout_s)

    def exchange_bulk(self, *, size_bytes: int, timeout_s: float) -> ProbeOutcome:
        """See interfaces.BulkProbe: as many messages with one and the same long nonce as it takes, then a fresh one."""
        nonce, filling = f"probe-{secrets.token_hex(12)}", self._message(_FILLING)
        count = -(-size_bytes // len(_FILLING))
        # Sent beside the waiting: the other end may not read on until somebody reads what it has answered.
        sender = threading.Thread(target=self._send_all, args=(filling * count + self._message(nonce),), daemon=True)
        try:
            self._connection.settimeout(timeout_s)
            if count:
                sender.start()
            else:
                self._connection.sendall(self._message(nonce))
            answered = self._answered(nonce, timeout_s)
        except OSError:
            answered = False
        if count:
            sender.join(timeout_s)
        return ProbeOutcome(delivered=answered or self._seen(nonce), answered=answered)

    def close(self) -> None:
        self._connection.close()

    def _seen(self, nonce: str) -> bool:
        try:
            page = get_json(self._witness, f"/probe/seen?nonce={quote(nonce)}", timeout_s=_SEEN_TIMEOUT_S)
        except NoAnswerError:
            return False  # it cannot testify, so nothing is shown
        return bool(page["seen"])

    def _send_all(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # that no answer comes is all there is to see
            self._connection.sendall(data)

    def _message(self, nonce: str) -> bytes:
        raise NotImplementedError

    def _answered(self, nonce: str, timeout_s: float) -> bool:
        raise NotImplementedError


class PeerProbe(_Probe):
    """Ping frames on the port on which nodes and controllers speak to members."""

    def _message(self, nonce: str) -> bytes:
        return wire.pack_frame(wire.PING, nonce)

    def _answered(self, nonce: str, timeout_s: float) -> bool:
        return wire.wait_pong(self._connection, nonce, timeout_s=timeout_s)


class HttpProbe(_Probe):
    """`GET /probe` on a router's port. Requests are pipelined, so an old answer that is late does no harm."""

    def _message(self, nonce: str) -> bytes:
        return f"GET /probe?nonce={nonce} HTTP/1.1\r\nHost: probe\r\n\r\n".encode()

    def _answered(self, nonce: str, timeout_s: float) -> bool:
        return _receive_until(self._connection, nonce.encode(), timeout_s=timeout_s)


def _receive_until(connection: socket.socket, wanted: bytes, *, timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    received = b""
    while wanted not in received:
        left_s = until - time.monotonic()
        if left_s <= 0:
            return False
        connection.settimeout(left_s)
        data = connection.recv(65536)
        if not data:
            return False
        received += data
    return True


def poll(missing: Callable[[], str | None], *, deadline_s: float, interval_s: float = 0.05) -> str | None:
    """Ask until nothing is missing. None then, otherwise what was still missing at the deadline."""
    until = time.monotonic() + deadline_s
    while True:
        text = missing()
        if text is None or time.monotonic() >= until:
            return text
        time.sleep(interval_s)
