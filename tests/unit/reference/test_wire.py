"""The codec loses nothing, frames survive any cutting of the stream, and garbage is refused by name."""

from __future__ import annotations

import socket
import threading
from typing import Any, get_args

import pytest
from aftershock.systems_under_test.reference import wire
from aftershock.systems_under_test.reference.messages import (
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

CONFIG = Config(
    shard=3,
    epoch=7,
    term=5,
    primary="n1:aa",
    isr=frozenset({"n1:aa", "n2:bb"}),
    learners=frozenset({"n3:cc"}),
)
VALUE: Any = {"é": [1, -(2**63), 2**64 - 1, 2.5, True, None, "", {"x": []}]}
ENTRIES = (
    Entry(1, 1, Kind.NOOP, ("", 0), 0, ""),
    Entry(2, 5, Kind.PUT, ("c", 9), 1, "k", (VALUE,)),
    Entry(3, 5, Kind.CAS, ("c", 10), 2, "k", (["version", 2], "w")),
    Entry(4, 5, Kind.DELETE, ("c", 11), 2, "k"),
    Entry(5, 5, Kind.INCR, ("c", 12), 2, "n", (1,)),
)
MESSAGES: list[PeerMessage] = [
    Replicate(CONFIG, 4, 2, ENTRIES, 3),
    Replicate(CONFIG, 0, 0, (), 0),
    Ack(3, 7, 12),
    Nack(3, 7, 11),
    Stale(CONFIG),
    Beacon(CONFIG, 99, 2**62),
    Beacon(CONFIG, 99, 2**62, stalled=True),
    BeaconAck(3, 5, 2**62),
    ConfigMessage(CONFIG),
]
STATUSES = (
    ShardStatus(3, 7, Role.PRIMARY, True, 5, 12, 11, suspects=frozenset({"n2:bb"}), request=Request("add", "n3:cc")),
    ShardStatus(
        4, 1, Role.WAITING, False, 0, 0, 0, damaged=True, needs_install=True, beacon_age_ns=2**62, tail_cut=True
    ),
)
REPLIES = [
    Reply(ReplyKind.OK, True, VALUE, 4, 9),
    Reply(ReplyKind.CAS_FAILED, True, "there", 4, 9),
    Reply(ReplyKind.REFUSED, reason="not the primary", config=CONFIG),
    Reply(ReplyKind.TOO_OLD),
    Reply(ReplyKind.UNKNOWN),
]


def over_the_wire(fields: Any) -> Any:
    (frame,) = wire.FrameReader().feed(wire.pack_frame("x", fields))
    return frame[1]


def test_every_kind_of_message_is_in_this_test() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(PeerMessage))
    assert {reply.kind for reply in REPLIES} == set(ReplyKind)
    assert {entry.kind for entry in ENTRIES} == set(Kind)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_equal(message: PeerMessage) -> None:
    back = wire.unpack_message(over_the_wire(wire.pack_message(message)))
    assert back == message
    assert type(back) is type(message)
    assert wire.shard_of_message(back) == 3


def test_heartbeats_operations_and_replies_come_back_equal() -> None:
    heartbeat = Heartbeat("n1:aa", 12345, STATUSES)
    assert wire.unpack_heartbeat(over_the_wire(wire.pack_heartbeat(heartbeat))) == heartbeat
    op = ClientOp(3, ("client", 7), 5, "cas", "k", (["value", VALUE], 2))
    assert wire.unpack_op(over_the_wire(wire.pack_op(op))) == op
    for reply in REPLIES:
        assert wire.unpack_reply(over_the_wire(wire.pack_reply(reply))) == reply
    assert wire.unpack_config(wire.pack_config(CONFIG)) == CONFIG


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_frames_survive_any_cutting_of_the_stream(size: int) -> None:
    stream = b"".join(wire.pack_frame("x", number, "y" * number) for number in range(20))
    reader = wire.FrameReader()
    frames = [frame for start in range(0, len(stream), size) for frame in reader.feed(stream[start : start + size])]
    assert frames == [["x", number, "y" * number] for number in range(20)]


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"\xff\xff\xff\xff", "the limit is"),
        (b"\x00\x00\x00\x01\xc1", "not msgpack"),
        (b"\x00\x00\x00\x02\x93\x01", "not msgpack"),
        (b"\x00\x00\x00\x01\x01", "must be an array"),
        (b"\x00\x00\x00\x01\x90", "must be an array"),
        (b"\x00\x00\x00\x02\x91\x01", "must be an array"),
        (b"\x00\x00\x00\x00", "not msgpack"),
    ],
)
def test_garbage_is_refused(stream: bytes, text: str) -> None:
    with pytest.raises(wire.WireError, match=text):
        list(wire.FrameReader().feed(stream))


@pytest.mark.parametrize(
    "fields", [None, [], ["?"], ["A"], ["A", 1], ["R", b"", 0, 0, [], 0], ["S", [1]], [[1]], 5, {}]
)
def test_malformed_messages_are_refused(fields: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack_message(fields)
    with pytest.raises(wire.WireError):
        wire.unpack_heartbeat(fields)
    with pytest.raises(wire.WireError):
        wire.unpack_op(fields)
    with pytest.raises(wire.WireError):
        wire.unpack_reply(fields)


def test_what_fits_no_frame_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(wire.WireError, match="the limit is"):
        wire.pack_frame("x", b"0" * (wire.FRAME_LIMIT + 1))
    with pytest.raises(wire.WireError, match="cannot be sent"):
        wire.pack_frame("x", 2**64)


def test_ping_client_tells_an_answer_from_silence_and_from_the_end() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()[:2]
    silence = threading.Event()

    def member() -> None:
        connection, _ = listener.accept()
        with connection:
            (frame,) = wire.FrameReader().feed(connection.recv(1000))
            pong = wire.pack_frame(wire.PONG, "older") + wire.pack_frame(wire.PONG, frame[1])
            connection.sendall(pong[:7])
            connection.sendall(pong[7:])
            silence.wait(10)

    thread = threading.Thread(target=member)
    thread.start()
    with listener, wire.connect(address, timeout_s=5) as connection:
        wire.send_ping(connection, "n-1")
        assert wire.wait_pong(connection, "n-1", timeout_s=5)
        assert not wire.wait_pong(connection, "n-2", timeout_s=0.01)
        silence.set()
        assert not wire.wait_pong(connection, "n-2", timeout_s=5)
    thread.join()
