"""One keep-alive HTTP/1.1 connection of one client: a plain socket and httptools' parser.

Bare `socket` calls: in the load process gevent has patched them, anywhere else they block. What can go wrong is a
`ClientError` with one `Trouble`, and the troubles say the one thing that matters to a history: whether any byte of
the request can have left. `outcomes` gives each its meaning.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import time
from dataclasses import dataclass
from typing import Final

import httptools

from ..harness.interfaces import Address

__all__ = ["ClientError", "Connection", "Response", "Trouble"]

_LARGEST_BODY: Final = 64 * 2**20


class Trouble(enum.Enum):
    """Every way in which a request can end without an answer."""

    CONNECT_REFUSED = "the router's port refused the connection"
    CONNECT_TIMEOUT = "no connection came about in time"
    CONNECT_FAILED = "the connection could not be made for another reason"
    SEND_FAILED = "the connection failed before the first byte was sent"
    SEND_CUT = "the connection failed after a part of the request was sent"
    TIMEOUT = "the request was sent; no answer came in time"
    RESET = "the request was sent; the connection ended before the answer was whole"
    MALFORMED = "the request was sent; what came back is not HTTP/1.1"


class ClientError(Exception):
    """A request without an answer. `trouble` says why; the cause carries the operating system's error."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `attempts` is the X-Attempts header, 1 without it."""

    status: int
    body: bytes
    attempts: int = 1


class Connection:
    """A connection to one address, opened when needed. One request at a time; never changes its address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._socket: socket.socket | None = None
        self._answer = _Answer()

    def connect(self, *, deadline_ns: int) -> None:
        """Open the connection if it is not. Raises ClientError (one of the CONNECT troubles)."""
        if self._socket is not None:
            return
        try:
            opened = socket.create_connection(self.address, timeout=_left_s(deadline_ns, Trouble.CONNECT_TIMEOUT))
        except ConnectionRefusedError as error:
            raise ClientError(Trouble.CONNECT_REFUSED) from error
        except TimeoutError as error:
            raise ClientError(Trouble.CONNECT_TIMEOUT) from error
        except OSError as error:
            raise ClientError(Trouble.CONNECT_FAILED) from error
        self._socket = opened
        self._answer.start_connection()
        # A connection that the peer has already closed again may refuse the option; sending will tell.
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, data: bytes, *, deadline_ns: int) -> Response:
        """Send one request and wait for its answer until `deadline_ns` (CLOCK_MONOTONIC).

        Raises ClientError; the connection is then closed, so that a late answer is never taken for another one's.
        """
        try:
            self._drop_if_stale()
            self.connect(deadline_ns=deadline_ns)
            opened = self._socket
            assert opened is not None
            self._send(opened, data, deadline_ns)
            response = self._receive(opened, deadline_ns)
        except BaseException:
            self.close()
            raise
        if not self._answer.keep_alive:
            self.close()
        return response

    def close(self) -> None:
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def _drop_if_stale(self) -> None:
        """Close a connection that the peer closed while it was idle, *before* anything is sent over it.

        Otherwise every request that meets a healed link's closed connection would end unknown instead of never sent.
        """
        if self._socket is None:
            return
        try:
            self._socket.settimeout(0.0)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return  # alive and silent, as it should be
        except OSError:
            pass
        # End of stream, an error, or bytes that nobody asked for: each makes the next answer untrustworthy.
        self.close()

    def _send(self, opened: socket.socket, data: bytes, deadline_ns: int) -> None:
        sent = 0
        while sent < len(data):
            trouble = Trouble.SEND_CUT if sent else Trouble.SEND_FAILED
            opened.settimeout(_left_s(deadline_ns, trouble))
            try:
                sent += opened.send(data[sent:] if sent else data)
            except OSError as error:
                raise ClientError(trouble) from error

    def _receive(self, opened: socket.socket, deadline_ns: int) -> Response:
        answer = self._answer
        answer.start_message()
        while not answer.complete:
            opened.settimeout(_left_s(deadline_ns, Trouble.TIMEOUT))
            try:
                data = opened.recv(65536)
            except TimeoutError as error:
                raise ClientError(Trouble.TIMEOUT) from error
            except OSError as error:
                raise ClientError(Trouble.RESET) from error
            if not data:
                raise ClientError(Trouble.RESET)
            answer.feed(data)
        return answer.response()


def _left_s(deadline_ns: int, trouble: Trouble) -> float:
    left_ns = deadline_ns - time.monotonic_ns()
    if left_ns <= 0:
        raise ClientError(trouble)
    return left_ns / 1e9


class _Answer:
    """httptools' callbacks: collects one answer after the other from one connection."""

    def __init__(self) -> None:
        self.start_connection()

    def start_connection(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.start_message()

    def start_message(self) -> None:
        self.complete = False
        self.keep_alive = False
        self._messages = 0
        self._attempts = 1
        self._status = 0
        self._size = 0
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError) as error:
            raise ClientError(Trouble.MALFORMED) from error
        if self._messages > 1 or self._size > _LARGEST_BODY:
            raise ClientError(Trouble.MALFORMED)

    def response(self) -> Response:
        return Response(self._status, b"".join(self._body), self._attempts)

    # The names below are httptools' own.

    def on_message_begin(self) -> None:
        self._messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-attempts" and value.isdigit() and len(value) < 10:
            self._attempts = int(value)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True
        self._status = self._parser.get_status_code()
        self.keep_alive = self._parser.should_keep_alive()
