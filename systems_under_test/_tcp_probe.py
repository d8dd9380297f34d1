"""Probes for services that know nothing of us: what came to the target is told by the kernel on the target's side.

`delivered` must be the target's own word, and a stock service has none for "this request has come". But its kernel has:
the socket at which our connection ends counts the bytes that it has received, and how many of them the program has
not read yet. All received and all read means delivered; a stopped program reads nothing, a cut link brings nothing.
Asked in the target's network namespace through sock_diag(7), a way that no fault touches. Linux, IPv4.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from ..harness.errors import SetupError
from ..harness.identity import ProcessIdentity
from ..harness.interfaces import Address, Link, ProbeOutcome, Stage
from ..harness.network_namespace import inside
from .reference_access import CONNECT_TIMEOUT_S

__all__ = ["Taken", "TcpProbe", "open_tcp_probe", "taken_at"]

# linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_INET_DIAG_INFO: Final = 2
_NO_COOKIE: Final = 0xFFFF_FFFF
_TCP_LISTEN: Final = 10
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI")
_SOCKET_ID: Final = struct.Struct("!HH16s16s")
_IDENTITY_END: Final = struct.Struct("=III")
_ATTRIBUTE: Final = struct.Struct("=HH")
# Within inet_diag_msg: its state, and rqueue behind the 48 bytes of the socket's id and `expires`.
_STATE_AT: Final = 1
_RQUEUE_AT: Final = 4 + 48 + 4
_MESSAGE_BYTES: Final = 4 + 48 + 20
_BYTES_RECEIVED_AT: Final = 128  # within struct tcp_info (linux/tcp.h, tcpi_bytes_received)

_KERNEL_TIMEOUT_S: Final = 2.0
# The kernel has the bytes before the program reads them, on a busy machine by tenths of a second.
_READ_WITHIN_S: Final = 1.0
_POLL_S: Final = 0.005


class Taken(NamedTuple):
    """What the target's kernel says of one connection."""

    received: int
    unread: int


class TcpProbe:
    """Keeps interfaces.Probe. Sends the same small request again and again over one connection.

    `request` must be one that the service answers by itself with something that has `mark` in it exactly once, whatever
    state it is in.
    """

    def __init__(
        self, *, path: socket.socket, target: Address, pid: Callable[[], int | None], request: bytes, mark: bytes
    ) -> None:
        """`path`: a connection to `target`, which the probe closes; `pid`: the target's process, where it has one."""
        self._path = path
        self._ends = (target, Address(*path.getsockname()))
        self._pid = pid
        self._request = request
        self._mark = mark
        self._sent = 0
        self._asked = 0
        self._received = b""
        self._answers = 0

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        """See interfaces.Probe. Answers come in the order of requests, so a late one is never taken for a newer."""
        until = time.monotonic() + timeout_s
        answered = False
        with contextlib.suppress(OSError):
            self._path.settimeout(timeout_s)
            self._path.sendall(self._request)
            self._sent += len(self._request)
            self._asked += 1
            answered = self._answered(until)
        return ProbeOutcome(delivered=answered or self._delivered(), answered=answered)

    def close(self) -> None:
        self._path.close()

    def _answered(self, until: float) -> bool:
        while self._answers < self._asked:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            self._path.settimeout(left_s)
            data = self._path.recv(65536)
            if not data:
                return False
            self._received += data
            *whole, self._received = self._received.split(self._mark)
            self._answers += len(whole)
            # What may be the beginning of the next mark is kept, the rest is of no use.
            self._received = self._received[-len(self._mark) :]
        return True

    def _delivered(self) -> bool:
        """Whether all that was sent has come to the target's kernel, and its program has read it."""
        until = time.monotonic() + _READ_WITHIN_S
        while True:
            pid = self._pid()
            process = ProcessIdentity.of(pid) if pid is not None else None
            if process is None:
                return False  # nobody is there to testify, so nothing is shown
            try:
                taken = inside(process, lambda: taken_at(*self._ends))
            except OSError:
                return False
            if taken is None or taken.received < self._sent:
                return False
            if taken.unread == 0 or time.monotonic() >= until:
                return taken.unread == 0
            time.sleep(_POLL_S)


def taken_at(local: Address, remote: Address) -> Taken | None:
    """What the socket at `local` has received from `remote`, in this thread's network namespace; None without one.

    Raises OSError when the kernel cannot be asked.
    """
    ends = _SOCKET_ID.pack(local.port, remote.port, socket.inet_aton(local.host), socket.inet_aton(remote.host))
    body = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, _NO_COOKIE)
    body += ends + _IDENTITY_END.pack(0, _NO_COOKIE, _NO_COOKIE)
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_KERNEL_TIMEOUT_S)
        kernel.sendto(header + body, (0, 0))
        data = kernel.recv(65536)
    kind = _HEADER.unpack_from(data)[1]
    if kind != _SOCK_DIAG_BY_FAMILY:
        code = -struct.unpack_from("=i", data, _HEADER.size)[0]
        if code in (2, 0):  # ENOENT: there is no such socket
            return None
        raise OSError(code, f"sock_diag: {os.strerror(code)}")
    message = data[_HEADER.size :]
    if message[_STATE_AT] == _TCP_LISTEN:
        return None  # the kernel falls back to who would take such a connection
    (unread,) = struct.unpack_from("=I", message, _RQUEUE_AT)
    return Taken(received=_bytes_received(message[_MESSAGE_BYTES:]), unread=unread)


def _bytes_received(attributes: bytes) -> int:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if kind == _INET_DIAG_INFO:
            (received,) = struct.unpack_from("=Q", attributes, _ATTRIBUTE.size + _BYTES_RECEIVED_AT)
            return int(received)
        attributes = attributes[max(4, (length + 3) & ~3) :]
    raise OSError(95, "sock_diag told no tcp_info")


def open_tcp_probe(stage: Stage, link: Link, target: Address, *, request: bytes, mark: bytes) -> TcpProbe:
    """From inside the source to the target's own address, with the target's kernel as witness.

    Raises SetupError when the connection is refused; TimeoutError when nothing is said at all, as where packets are
    cut.
    """
    try:
        path = stage.connect(link.source, target, timeout_s=CONNECT_TIMEOUT_S)
    except TimeoutError:
        raise
    except OSError as error:
        raise SetupError(f"{link.target} takes no connection from {link.source}: {error}") from error
    return TcpProbe(path=path, target=target, pid=lambda: stage.processes.pid(link.target), request=request, mark=mark)
