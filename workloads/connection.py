"""One kept-open TCP connection of one client, plain or TLS, whatever is spoken over it: a `Reader` takes the answers.

Bare `socket` calls: in the load process gevent has patched them, anywhere else they block. What can go wrong is a
`ClientError` with one `Trouble`, and the troubles say the one thing that matters to a history: whether any byte of
the request can have left. `outcomes` gives each its meaning.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Generic, Protocol, TypeVar

from ..harness.interfaces import Address

__all__ = ["ClientError", "Connection", "Reader", "Tls", "Trouble"]

T_co = TypeVar("T_co", covariant=True)


class Trouble(enum.Enum):
    """Every way in which a request can end without an answer."""

    CONNECT_REFUSED = "the port refused the connection"
    CONNECT_TIMEOUT = "no connection came about in time"
    CONNECT_FAILED = "the connection could not be made for another reason"
    SEND_FAILED = "the connection failed before the first byte was sent"
    SEND_CUT = "the connection failed after a part of the request was sent"
    TIMEOUT = "the request was sent; no answer came in time"
    RESET = "the request was sent; the connection ended before the answer was whole"
    MALFORMED = "the request was sent; what came back is not what the protocol allows"


class ClientError(Exception):
    """A request without an answer. `trouble` says why; the cause carries the operating system's error."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the peer must prove who it is. `ca_file` None: by the machine's own authorities. Without `verify` anybody
    may answer, which is for tests of services with certificates of their own."""

    server_name: str
    verify: bool = True
    ca_file: str | None = None


class Reader(Protocol[T_co]):
    """Takes one answer after the other from one connection."""

    complete: bool  # the answer is whole
    keep_alive: bool  # once it is: whether the connection may be used again

    def start_connection(self) -> None: ...

    def start_message(self) -> None: ...

    def feed(self, data: bytes) -> None:
        """What came; empty at the end of the connection. Raises ClientError(MALFORMED)."""

    def response(self) -> T_co: ...


class Connection(Generic[T_co]):
    """A connection to one address, opened when needed. One request at a time; never changes its address."""

    def __init__(self, address: Address, reader: Reader[T_co], *, tls: Tls | None = None) -> None:
        self.address = address
        self._socket: socket.socket | None = None
        self._answer = reader
        self._tls = tls

    def connect(self, *, deadline_ns: int) -> None:
        """Open the connection if it is not. Raises ClientError (one of the CONNECT troubles)."""
        if self._socket is not None:
            return
        try:
            opened = socket.create_connection(self.address, timeout=_left_s(deadline_ns, Trouble.CONNECT_TIMEOUT))
            if self._tls is not None:
                opened = self._wrapped(opened, self._tls, deadline_ns)
        except ConnectionRefusedError as error:
            raise ClientError(Trouble.CONNECT_REFUSED) from error
        except OSError as error:
            late = _is_timeout(error, deadline_ns)
            raise ClientError(Trouble.CONNECT_TIMEOUT if late else Trouble.CONNECT_FAILED) from error
        self._socket = opened
        self._answer.start_connection()
        # A connection that the peer has already closed again may refuse the option; sending will tell.
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, data: bytes, *, deadline_ns: int) -> T_co:
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

    @staticmethod
    def _wrapped(plain: socket.socket, tls: Tls, deadline_ns: int) -> socket.socket:
        try:
            plain.settimeout(_left_s(deadline_ns, Trouble.CONNECT_TIMEOUT))
            # An end without TLS's own good-bye may be a cut one: it must not look like the end of an answer.
            return _context(tls).wrap_socket(plain, server_hostname=tls.server_name, suppress_ragged_eofs=False)
        except BaseException:
            plain.close()
            raise

    def _drop_if_stale(self) -> None:
        """Close a connection that the peer closed while it was idle, *before* anything is sent over it.

        Otherwise every request that meets a healed link's closed connection would end unknown instead of never sent.
        """
        if self._socket is None:
            return
        try:
            self._socket.settimeout(0.0)
            # TLS has no peeking; what it reads by the way (a server's session tickets) is its own business.
            self._socket.recv(1, 0 if self._tls is not None else socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # alive and silent, as it should be
        except OSError:
            pass
        # End of stream, an error, or bytes that nobody asked for: each makes the next answer untrustworthy.
        self.close()

    def _send(self, opened: socket.socket, data: bytes, deadline_ns: int) -> None:
        sent = 0
        while sent < len(data):
            # Under TLS a failed send may have sent whole records of what it was given.
            trouble = Trouble.SEND_CUT if sent or self._tls is not None else Trouble.SEND_FAILED
            opened.settimeout(_left_s(deadline_ns, trouble))
            try:
                sent += opened.send(data[sent:] if sent else data)
            except OSError as error:
                raise ClientError(trouble) from error

    def _receive(self, opened: socket.socket, deadline_ns: int) -> T_co:
        answer = self._answer
        answer.start_message()
        while not answer.complete:
            opened.settimeout(_left_s(deadline_ns, Trouble.TIMEOUT))
            try:
                data = opened.recv(65536)
            except OSError as error:
                raise ClientError(Trouble.TIMEOUT if _is_timeout(error, deadline_ns) else Trouble.RESET) from error
            answer.feed(data)
            if not data and not answer.complete:
                raise ClientError(Trouble.RESET)
        return answer.response()


def _left_s(deadline_ns: int, trouble: Trouble) -> float:
    left_ns = deadline_ns - time.monotonic_ns()
    if left_ns <= 0:
        raise ClientError(trouble)
    return left_ns / 1e9


def _is_timeout(error: OSError, deadline_ns: int) -> bool:
    # gevent's TLS sockets have errors of their own for what took too long.
    return isinstance(error, TimeoutError) or (isinstance(error, ssl.SSLError) and time.monotonic_ns() >= deadline_ns)


@cache  # reading the authorities takes some 20 ms, and every client of a process has the same
def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
