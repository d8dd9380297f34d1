"""TCP segments, as far as it takes to answer one with a reset (RFC 9293). Standard library only."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Segment"]

_RST, _ACK = 4, 16
_TTL: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The heads of an IPv4 packet with TCP in it. Addresses are four bytes."""

    source: bytes
    target: bytes
    source_port: int
    target_port: int
    sequence: int
    acknowledged: int
    data_bytes: int

    @classmethod
    def parse(cls, head: bytes) -> Self | None:
        """None for anything but the first fragment of a TCP segment."""
        if len(head) < 40 or head[0] >> 4 != 4 or head[9] != socket.IPPROTO_TCP:
            return None
        at = (head[0] & 15) * 4
        length, fragment = struct.unpack_from(">H2xH", head, 2)
        if fragment & 0x1FFF or len(head) < at + 20:
            return None
        source_port, target_port, sequence, acknowledged, offset = struct.unpack_from(">HHIIB", head, at)
        return cls(
            source=head[12:16],
            target=head[16:20],
            source_port=source_port,
            target_port=target_port,
            sequence=sequence,
            acknowledged=acknowledged,
            data_bytes=length - at - (offset >> 4) * 4,
        )

    @property
    def carries_data(self) -> bool:
        return self.data_bytes > 0

    def reset_for_receiver(self) -> bytes:
        """A packet that resets the connection at its receiver, as if its sender had."""
        ports = (self.source_port, self.target_port)
        return _reset(self.source, self.target, ports, sequence=self.sequence, acknowledged=self.acknowledged)

    def reset_for_sender(self) -> bytes:
        """A packet that resets the connection at its sender: in its window exactly (RFC 5961)."""
        ports = (self.target_port, self.source_port)
        next_sequence = (self.sequence + self.data_bytes) & 0xFFFF_FFFF
        return _reset(self.target, self.source, ports, sequence=self.acknowledged, acknowledged=next_sequence)


def _reset(source: bytes, target: bytes, ports: tuple[int, int], *, sequence: int, acknowledged: int) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, _RST | _ACK, 0, 0, 0)
    pseudo = source + target + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + _checksum(pseudo + tcp) + tcp[18:]
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, _TTL, socket.IPPROTO_TCP, 0, source, target)
    return ip[:10] + _checksum(ip) + ip[12:] + tcp


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
