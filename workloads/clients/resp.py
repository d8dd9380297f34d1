"""One RESP2 connection (redis.io/docs/reference/protocol-spec): hiredis parses, a plain socket carries.

Unlike `http_client.Connection` it never opens itself again: with Redis it matters that it is still the same one. WAIT
speaks of the writes of its own connection, and a node that was a primary when it was asked need not be one the next
time.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

import hiredis

from ...harness.interfaces import Address
from ..http_client import ClientError, Trouble

__all__ = ["RespConnection"]

_MORE: Final = object()


class RespConnection:
    """Open from the beginning until closed. After a ClientError it is closed."""

    def __init__(self, address: Address, *, deadline_ns: int) -> None:
        """Raises ClientError with one of the CONNECT troubles."""
        try:
            self._socket = socket.create_connection(address, timeout=_left_s(deadline_ns, Trouble.CONNECT_TIMEOUT))
        except ConnectionRefusedError as error:
            raise ClientError(Trouble.CONNECT_REFUSED) from error
        except TimeoutError as error:
            raise ClientError(Trouble.CONNECT_TIMEOUT) from error
        except OSError as error:
            raise ClientError(Trouble.CONNECT_FAILED) from error
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return  # the peer has closed it again; `alive` will tell

    def alive(self) -> bool:
        """Whether it is open and silent, as it should be between two requests."""
        if self._socket.fileno() < 0:
            return False
        try:
            self._socket.settimeout(0.0)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        # Ended, or bytes that nobody asked for: either makes the next reply untrustworthy.
        self.close()
        return False

    def ask(self, *commands: tuple[str, ...], deadline_ns: int) -> list[Any]:
        """Send commands together and wait for as many replies: bytes, int, None, list, or hiredis.ReplyError.

        Raises ClientError, which says whether any byte can have left.
        """
        try:
            # Its type stub allows tuples of one part only.
            data = b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]
            self._send(data, deadline_ns)
            return self._receive(len(commands), deadline_ns)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes, deadline_ns: int) -> None:
        sent = 0
        while sent < len(data):
            trouble = Trouble.SEND_CUT if sent else Trouble.SEND_FAILED
            self._socket.settimeout(_left_s(deadline_ns, trouble))
            try:
                sent += self._socket.send(data[sent:])
            except OSError as error:
                raise ClientError(trouble) from error

    def _receive(self, count: int, deadline_ns: int) -> list[Any]:
        replies: list[Any] = []
        while len(replies) < count:
            self._socket.settimeout(_left_s(deadline_ns, Trouble.TIMEOUT))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise ClientError(Trouble.TIMEOUT) from error
            except OSError as error:
                raise ClientError(Trouble.RESET) from error
            if not data:
                raise ClientError(Trouble.RESET)
            replies += self._parsed(data)
        if len(replies) > count or self._reader.has_data():
            raise ClientError(Trouble.MALFORMED)
        return replies

    def _parsed(self, data: bytes) -> list[Any]:
        found = []
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                found.append(reply)
        except hiredis.ProtocolError as error:
            raise ClientError(Trouble.MALFORMED) from error
        return found


def _left_s(deadline_ns: int, trouble: Trouble) -> float:
    left_ns = deadline_ns - time.monotonic_ns()
    if left_ns <= 0:
        raise ClientError(trouble)
    return left_ns / 1e9
