"""HTTP/1.1 over a kept-open connection, with httptools' parser: what the clients that speak HTTP share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import httptools

from ..harness.interfaces import Address
from . import connection
from .connection import ClientError, Tls, Trouble

__all__ = ["ClientError", "Connection", "Response", "Trouble"]

_LARGEST_BODY: Final = 64 * 2**20
_LARGEST_HEAD: Final = 2**20


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `attempts` is the X-Attempts header, 1 without it; `size` counts a body that was not kept, too."""

    status: int
    body: bytes
    attempts: int = 1
    size: int = field(default=0, compare=False)


class Connection(connection.Connection[Response]):
    """A connection that carries HTTP. Bodies are read to their end; without `keep_bodies` they are not kept."""

    def __init__(self, address: Address, *, tls: Tls | None = None, keep_bodies: bool = True) -> None:
        self._http = _Answer(keep_bodies=keep_bodies)
        super().__init__(address, self._http, tls=tls)

    def head(self, data: bytes, *, deadline_ns: int) -> Response:
        """`request` for a HEAD request, whose answer says how long a body would be, and has none."""
        self._http.no_body = True
        try:
            return self.request(data, deadline_ns=deadline_ns)
        finally:
            self._http.no_body = False


class _Answer:
    """httptools' callbacks: collects one answer after the other from one connection. Keeps connection.Reader."""

    def __init__(self, *, keep_bodies: bool) -> None:
        self.no_body = False
        self._keep_bodies = keep_bodies
        self.start_connection()

    def start_connection(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._waits_for_body = False
        self.start_message()

    def start_message(self) -> None:
        if self._waits_for_body:
            # The parser cannot be told that there is none: the next answer gets one of its own.
            self._parser = httptools.HttpResponseParser(self)
            self._waits_for_body = False
        self.complete = False
        self.keep_alive = False
        self._messages = 0
        self._attempts = 1
        self._status = 0
        self._size = 0
        self._head_size = 0
        self._body: list[bytes] = []
        self._start_head()

    def _start_head(self) -> None:
        self._head_complete = False
        self._length_is_told = False

    def feed(self, data: bytes) -> None:
        if not data:
            # Without a length, the end of the connection is the end of the body (RFC 9112, 6.3).
            self.complete = self._head_complete and not self._length_is_told
            return
        wrong = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError):
            wrong = True
        if not self._head_complete:
            self._head_size += len(data)
        if self._waits_for_body:
            # Some servers send a body where there can be none. The answer is there all the same; what follows it on
            # this connection cannot be trusted.
            self.keep_alive = self.keep_alive and not (wrong or self._size or self._messages > 1)
        elif wrong or self._messages > 1 or self._is_too_large():
            raise ClientError(Trouble.MALFORMED)

    def response(self) -> Response:
        return Response(self._status, b"".join(self._body), self._attempts, self._size)

    def _is_too_large(self) -> bool:
        return self._head_size > _LARGEST_HEAD or (self._keep_bodies and self._size > _LARGEST_BODY)

    # The names below are httptools' own.

    def on_message_begin(self) -> None:
        self._messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"content-length" or (lower == b"transfer-encoding" and b"chunked" in value.lower()):
            self._length_is_told = True
        elif lower == b"x-attempts" and value.isdigit() and len(value) < 10:
            self._attempts = int(value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim answer; the real one is still to come
        self._head_complete = True
        self._status = status
        if self.no_body or status in (204, 304):
            self.complete = self._waits_for_body = True
            self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._keep_bodies:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._head_complete:
            self._messages -= 1
            self._start_head()
            return
        if not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
