"""The bytes between members: length-prefixed msgpack frames, a codec for every message, and a ping client.

A frame is four bytes of length (big-endian, of what follows) and one msgpack array whose first item is the frame's
kind. `FRAMES` lists the kinds. A message inside a frame is an array whose first item is the message's tag; packing
and unpacking is lossless for every message (values inside entries are JSON values, so lists stay lists).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from .messages import (
    Ack,
    Beacon,
    BeaconAck,
    ClientOp,
    Config,
    ConfigMessage,
    Entry,
    Heartbeat,
    Kind,
    Nack,
    PeerMessage,
    Replicate,
    Reply,
    ReplyKind,
    Request,
    Role,
    ShardStatus,
    Stale,
)

FRAME_LIMIT: Final = 16 * 1024 * 1024  # bytes; a longer frame closes the connection
_LENGTH: Final = struct.Struct(">I")

# Kinds of frames, and what follows the kind in the array.
PEER: Final = "peer"  # sender's store, [[receiver's store, message], ...]
HEARTBEAT: Final = "heartbeat"  # heartbeat; node to controller
CONFIGS: Final = "configs"  # controller's name, [config, ...]; controller to node
OP: Final = "op"  # id, client operation; router to node
REPLY: Final = "reply"  # id, reply
ASK_TABLE: Final = "table?"  # id, version that the asker has, ms to hold the answer if nothing is newer
TABLE: Final = "table"  # id, version, [config, ...] or null if the asker is up to date, {shard: commit index}
PING: Final = "ping"  # nonce
PONG: Final = "pong"  # nonce


class WireError(ValueError):
    """Bytes that no member of this version sends. The connection they came on is closed; nothing was done."""


# ---------------------------------------------------------------------------------------------- frames


def pack(value: Any) -> bytes:
    """msgpack of a value. Raises TypeError, ValueError or OverflowError for what it cannot hold."""
    packed: bytes | None = msgpack.packb(value)
    assert packed is not None  # only a packer that is told to keep its buffer gives None
    return packed


def pack_frame(*items: Any) -> bytes:
    """One frame with its length. Raises WireError for what does not fit a frame."""
    try:
        body = pack(items)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot be sent: {error}") from error
    if len(body) > FRAME_LIMIT:
        raise WireError(f"frame of {len(body)} bytes; the limit is {FRAME_LIMIT}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """Frames completed by `data`. Raises WireError; the stream cannot be read any further then."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= 4:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > FRAME_LIMIT:
                    raise WireError(f"frame of {length} bytes announced; the limit is {FRAME_LIMIT}")
                end = start + 4 + length
                if len(buffer) < end:
                    break
                body = bytes(buffer[start + 4 : end])
                start = end
                yield _unpack_body(body)
        finally:
            del buffer[:start]


def _unpack_body(body: bytes) -> list[Any]:
    try:
        frame = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"not msgpack: {error}") from error
    if not isinstance(frame, list) or not frame or not isinstance(frame[0], str):
        raise WireError("a frame must be an array that begins with its kind")
    return frame


# ---------------------------------------------------------------------------------------------- values


@lru_cache(maxsize=512)
def pack_config(config: Config) -> bytes:
    """A configuration as an opaque blob: every Replicate carries one, so it is packed and unpacked once."""
    return pack((config.shard, config.epoch, config.term, config.primary, sorted(config.isr), sorted(config.learners)))


@lru_cache(maxsize=512)
def unpack_config(blob: bytes) -> Config:
    """Inverse of `pack_config`. Raises WireError."""
    try:
        shard, epoch, term, primary, isr, learners = msgpack.unpackb(blob)
        return Config(
            shard=shard, epoch=epoch, term=term, primary=primary, isr=frozenset(isr), learners=frozenset(learners)
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not a configuration: {error}") from error


def pack_entry(entry: Entry) -> tuple[Any, ...]:
    client, number = entry.request_id
    return (entry.index, entry.term, entry.kind.value, client, number, entry.born, entry.key, entry.args)


_KINDS: Final = {kind.value: kind for kind in Kind}


def unpack_entry(fields: list[Any]) -> Entry:
    index, term, kind, client, number, born, key, args = fields
    return Entry(index, term, _KINDS[kind], (client, number), born, key, tuple(args))


def _pack_status(status: ShardStatus) -> tuple[Any, ...]:
    request = status.request
    return (
        status.shard,
        status.epoch,
        status.role.value,
        status.active,
        status.last_term,
        status.last_index,
        status.commit,
        status.damaged,
        status.needs_install,
        status.beacon_age_ns,
        sorted(status.suspects),
        None if request is None else (request.kind, request.store),
        status.tail_cut,
    )


def _unpack_status(fields: list[Any]) -> ShardStatus:
    shard, epoch, role, active, last_term, last_index, commit, damaged, needs, age, suspects, request, cut = fields
    return ShardStatus(
        shard=shard,
        epoch=epoch,
        role=Role(role),
        active=active,
        last_term=last_term,
        last_index=last_index,
        commit=commit,
        damaged=damaged,
        needs_install=needs,
        beacon_age_ns=age,
        suspects=frozenset(suspects),
        request=None if request is None else Request(*request),
        tail_cut=cut,
    )


def pack_heartbeat(heartbeat: Heartbeat) -> tuple[Any, ...]:
    return (heartbeat.store, heartbeat.incarnation, [_pack_status(status) for status in heartbeat.statuses])


def unpack_heartbeat(fields: Any) -> Heartbeat:
    """Raises WireError."""
    with _malformed("heartbeat"):
        store, incarnation, statuses = fields
        return Heartbeat(store=store, incarnation=incarnation, statuses=tuple(map(_unpack_status, statuses)))


def pack_op(op: ClientOp) -> tuple[Any, ...]:
    client, number = op.request_id
    return (op.shard, client, number, op.born, op.kind, op.key, op.args)


def unpack_op(fields: Any) -> ClientOp:
    """Raises WireError."""
    with _malformed("client operation"):
        shard, client, number, born, kind, key, args = fields
        return ClientOp(shard, (client, number), born, kind, key, tuple(args))


def pack_reply(reply: Reply) -> tuple[Any, ...]:
    """`value` of a multi-get is {key: (found, value, version)}; the triples come back as lists."""
    return (
        reply.kind.value,
        reply.found,
        reply.value,
        reply.version,
        reply.commit,
        reply.reason,
        None if reply.config is None else pack_config(reply.config),
    )


def unpack_reply(fields: Any) -> Reply:
    """Raises WireError."""
    with _malformed("reply"):
        kind, found, value, version, commit, reason, config = fields
        return Reply(
            ReplyKind(kind), found, value, version, commit, reason, None if config is None else unpack_config(config)
        )


# ---------------------------------------------------------------------------------------------- peer messages

_Packer = Callable[[Any], tuple[Any, ...]]

_PACK: Final[dict[type[Any], _Packer]] = {
    Replicate: lambda m: (
        "R",
        pack_config(m.config),
        m.prev_index,
        m.prev_term,
        [pack_entry(entry) for entry in m.entries],
        m.commit,
    ),
    Ack: lambda m: ("A", m.shard, m.epoch, m.match),
    Nack: lambda m: ("N", m.shard, m.epoch, m.hint),
    Stale: lambda m: ("S", pack_config(m.config)),
    Beacon: lambda m: ("B", pack_config(m.config), m.number, m.t_sent_ns, m.stalled),
    BeaconAck: lambda m: ("b", m.shard, m.term, m.t_sent_ns),
    ConfigMessage: lambda m: ("C", pack_config(m.config)),
}

_UNPACK: Final[dict[str, Callable[..., PeerMessage]]] = {
    "R": lambda config, prev_index, prev_term, entries, commit: Replicate(
        unpack_config(config), prev_index, prev_term, tuple(map(unpack_entry, entries)), commit
    ),
    "A": Ack,
    "N": Nack,
    "S": lambda config: Stale(unpack_config(config)),
    "B": lambda config, number, t_sent_ns, stalled: Beacon(unpack_config(config), number, t_sent_ns, stalled),
    "b": BeaconAck,
    "C": lambda config: ConfigMessage(unpack_config(config)),
}


def pack_message(message: PeerMessage) -> tuple[Any, ...]:
    return _PACK[type(message)](message)


def unpack_message(fields: Any) -> PeerMessage:
    """Raises WireError."""
    with _malformed("message"):
        return _UNPACK[fields[0]](*fields[1:])


def shard_of_message(message: PeerMessage) -> int:
    """Shard that a message is about."""
    if isinstance(message, Ack | Nack | BeaconAck):
        return message.shard
    return message.config.shard


class _malformed(contextlib.AbstractContextManager[None]):  # noqa: N801 (reads as a phrase at its uses)
    """Turns the errors of unpacking a foreign array into WireError. A class: a generator costs 1 µs a message."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, TypeError | ValueError | KeyError | IndexError | AttributeError):
            if isinstance(error, WireError):
                return
            raise WireError(f"not a {self._what}: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------------------------------------- ping client


def connect(address: tuple[str, int], *, timeout_s: float) -> socket.socket:
    """Open a connection to a member's peer port. Raises OSError. Blocking; for the harness, not for members."""
    connection = socket.create_connection(address, timeout=timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send_ping(connection: socket.socket, nonce: str) -> None:
    """Send one ping. Raises OSError. `GET /probe/seen?nonce=` on the member's http port tells whether it arrived."""
    connection.sendall(pack_frame(PING, nonce))


def wait_pong(connection: socket.socket, nonce: str, *, timeout_s: float) -> bool:
    """Whether the pong for `nonce` came within the time; older pongs are skipped. False also when the connection ended.

    Whatever follows the awaited pong in the same segment is dropped, so keep one ping in flight a connection. Half a
    pong that was left over by a wait before makes the connection useless; that is False, too.
    """
    deadline = time.monotonic() + timeout_s
    reader = FrameReader()
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(65536)
        except OSError:
            return False
        if not data:
            return False
        try:
            if [PONG, nonce] in reader.feed(data):
                return True
        except WireError:
            return False
    return False
