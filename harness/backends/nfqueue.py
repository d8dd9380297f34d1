"""Packet queues of the kernel (NFQUEUE): the rule that fills one, and the socket that empties it.

The rule is an nftables rule with iptables' NFQUEUE target in it, which nft itself cannot write, so it is sent as the
netlink message that it is (linux/netfilter/nf_tables.h, nf_tables_compat.h, nfnetlink_queue.h). Kernels that lack the
native `queue` statement have the target; those that have both give the same. Standard library only.

Everything here works in the network namespace of the calling thread.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Final, NamedTuple

__all__ = ["Packet", "PacketQueue", "add_queue_rule"]

_NETLINK_NETFILTER: Final = 12
_SOL_NETLINK: Final = 270
_NETLINK_NO_ENOBUFS: Final = 5
_SO_RCVBUFFORCE: Final = 33
_NLMSG_ERROR: Final = 2
_REQUEST, _ACK, _CREATE_APPEND = 1, 4, 0x400 | 0x800
_NESTED: Final = 0x8000

_NFTABLES, _QUEUE = 10 << 8, 3 << 8
_BATCH_BEGIN, _BATCH_END, _NEW_RULE = 16, 17, _NFTABLES | 6
_MSG_PACKET, _MSG_VERDICT, _MSG_CONFIG = _QUEUE, _QUEUE | 1, _QUEUE | 2
_ACCEPT, _DROP = 1, 0
_BIND, _COPY_PACKET, _FAIL_OPEN = 1, 2, 1
_BYPASS: Final = 1  # packets pass when no program listens

# Enough of a packet for the headers of IPv4 and TCP with all their options.
_COPIED_BYTES: Final = 120
_QUEUE_PACKETS_MAX: Final = 65_536
_SOCKET_BYTES: Final = 8 << 20
_NUMBERS: Final = range(20_000, 60_000)
_TRIES: Final = 64
_TIMEOUT_S: Final = 2.0


class Packet(NamedTuple):
    """A packet that the kernel holds until it has a verdict. `head` begins with its IPv4 header."""

    id: int
    head: bytes


class PacketQueue:
    """One queue of one network namespace. It lets go of what it holds when it is closed."""

    def __init__(self, rng: random.Random) -> None:
        """Bind a number that nobody has. Raises OSError, also when the kernel has no such queues."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(_TIMEOUT_S)
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _SOCKET_BYTES)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
            self.number = self._bind_some(rng)
            # Not GSO: packets come as they would be on a wire, each with its checksum. When the queue is full, or when
            # this program is gone, packets pass.
            self._configure(2, struct.pack(">IB", _COPIED_BYTES, _COPY_PACKET))
            self._configure(3, struct.pack(">I", _QUEUE_PACKETS_MAX))
            self._configure(4, struct.pack(">I", _FAIL_OPEN), also=_attribute(5, struct.pack(">I", _FAIL_OPEN)))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def packets(self, at_most: int) -> Iterator[Packet]:
        """What has come, without waiting."""
        for _ in range(at_most):
            try:
                data = self._socket.recv(65_536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue
                raise
            yield from _packets(data)

    def accept(self, packet: int) -> None:
        """Let a packet go on."""
        self._verdict(packet, b"")

    def replace(self, packet: int, data: bytes) -> None:
        """Let other bytes, no more than it had, go on in its place. Their checksums must be right."""
        self._verdict(packet, _attribute(10, data))

    def _verdict(self, packet: int, also: bytes) -> None:
        body = _attribute(2, struct.pack(">II", _ACCEPT, packet)) + also
        message = _message(_MSG_VERDICT, _REQUEST, 0, socket.AF_UNSPEC, self.number, body)
        while True:
            try:
                self._socket.send(message)
                return
            except BlockingIOError:
                continue
            except FileNotFoundError:  # the kernel has let it go: its device is gone, or the namespace is
                return

    def _bind_some(self, rng: random.Random) -> int:
        for _ in range(_TRIES):
            number = rng.choice(_NUMBERS)
            command = _attribute(1, struct.pack(">BBH", _BIND, 0, socket.AF_INET))
            code = self._ask(_message(_MSG_CONFIG, _REQUEST | _ACK, 1, socket.AF_UNSPEC, number, command))
            if code == 0:
                return number
            if code not in (errno.EBUSY, errno.EPERM, errno.EEXIST):
                raise OSError(code, f"{os.strerror(code)}: binding a packet queue")
        raise OSError(errno.EBUSY, f"{_TRIES} packet queues were tried, and every one is in use")

    def _configure(self, kind: int, value: bytes, *, also: bytes = b"") -> None:
        body = _attribute(kind, value) + also
        code = self._ask(_message(_MSG_CONFIG, _REQUEST | _ACK, 1, socket.AF_UNSPEC, self.number, body))
        if code != 0:
            raise OSError(code, f"{os.strerror(code)}: configuring packet queue {self.number}")

    def _ask(self, message: bytes) -> int:
        """Send, and wait for the kernel's answer: 0 or an errno."""
        self._socket.send(message)
        return _answer(self._socket, sequence=1)


def add_queue_rule(*, table: str, chain: str, sources: str, queue: int) -> None:
    """Append to a chain of a table of family ip: packets whose source is in the set `sources` go to this queue.

    Raises OSError when the kernel refuses.
    """
    load = _expression("payload", _u32(1, 8), _u32(2, 1), _u32(3, 12), _u32(4, 4))  # to register 8: IPv4's source
    look_up = _expression("lookup", _attribute(1, _text(sources)), _u32(2, 8))
    info = struct.pack("=HHH", queue, 1, _BYPASS)  # struct xt_NFQ_info_v3
    target = _expression("target", _attribute(1, _text("NFQUEUE")), _u32(2, 3), _attribute(3, info))
    expressions = _attribute(4 | _NESTED, load + look_up + target)
    rule = _attribute(1, _text(table)) + _attribute(2, _text(chain)) + expressions
    batch = (
        _message(_BATCH_BEGIN, _REQUEST, 0, socket.AF_UNSPEC, _NFTABLES >> 8, b"")
        + _message(_NEW_RULE, _REQUEST | _ACK | _CREATE_APPEND, 1, socket.AF_INET, 0, rule)
        + _message(_BATCH_END, _REQUEST, 2, socket.AF_UNSPEC, _NFTABLES >> 8, b"")
    )
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)) as link:
        link.bind((0, 0))
        link.settimeout(_TIMEOUT_S)
        link.send(batch)
        code = _answer(link, sequence=1)
    if code != 0:
        raise OSError(code, f"{os.strerror(code)}: the rule that sends packets to queue {queue}")


# ------------------------------------------------------------------------------------------------ netlink


def _answer(link: socket.socket, *, sequence: int) -> int:
    while True:
        data = link.recv(65_536)
        while len(data) >= 16:
            length, kind, _, number, _ = struct.unpack_from("=IHHII", data)
            if kind == _NLMSG_ERROR and number == sequence:
                return -int(struct.unpack_from("=i", data, 16)[0])
            data = data[(length + 3) & ~3 :]


def _packets(data: bytes) -> Iterator[Packet]:
    while len(data) >= 20:
        length, kind = struct.unpack_from("=IH", data)
        if kind == _MSG_PACKET:
            found: dict[int, bytes] = {}
            at = 20
            while at + 4 <= length:
                size, name = struct.unpack_from("=HH", data, at)
                found[name & 0x7FFF] = data[at + 4 : at + size]
                at += max((size + 3) & ~3, 4)
            if 1 in found:
                yield Packet(int(struct.unpack_from(">I", found[1])[0]), found.get(10, b""))
        data = data[(max(length, 4) + 3) & ~3 :]


def _message(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    data = struct.pack("=BB", family, 0) + struct.pack(">H", resource) + body
    return struct.pack("=IHHII", 16 + len(data), kind, flags, sequence, 0) + data


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value))


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _expression(name: str, *attributes: bytes) -> bytes:
    return _attribute(1 | _NESTED, _attribute(1, _text(name)) + _attribute(2 | _NESTED, b"".join(attributes)))
