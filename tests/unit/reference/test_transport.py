"""Links come back by themselves, lose only what they must, and never carry garbage on."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

from aftershock.systems_under_test.reference.messages import Ack, BeaconAck
from aftershock.systems_under_test.reference.outbox import Outbox
from aftershock.systems_under_test.reference.transport import Connection, FrameServer, Link, listening_socket
from aftershock.systems_under_test.reference.wire import pack_frame


class Sink:
    """A server that remembers frames."""

    def __init__(self, port: int = 0) -> None:
        self.frames: list[list[Any]] = []
        self.connections: list[Connection] = []
        self.lost = 0
        self.listener = listening_socket("127.0.0.1", port)
        self.address = self.listener.getsockname()[:2]
        self.server = FrameServer(self._on_frame, self._on_lost)

    async def start(self) -> Sink:
        await self.server.start(self.listener)
        return self

    def _on_frame(self, connection: Connection, frame: list[Any]) -> None:
        if connection not in self.connections:
            self.connections.append(connection)
        self.frames.append(frame)

    def _on_lost(self, _connection: Connection) -> None:
        self.lost += 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def make_link(address: tuple[str, int], **options: Any) -> Link:
    link = Link(address, on_frame=lambda _connection, _frame: None, rng=random.Random(1), **options)
    link.start()
    return link


def test_a_link_comes_back_and_delivers_what_waited() -> None:
    async def test() -> None:
        first = await Sink().start()
        link = make_link(first.address)
        link.send(pack_frame("x", 1))  # before the connection is there
        await until(lambda: len(first.frames) == 1)
        await first.server.close()
        await until(lambda: not link.connected)
        link.send(pack_frame("x", 2))
        second = await Sink(first.address[1]).start()
        await until(lambda: len(second.frames) == 1)
        assert second.frames == [["x", 2]]
        await link.close()
        await second.server.close()

    asyncio.run(test())


def test_the_oldest_frames_are_dropped_while_nobody_listens() -> None:
    async def test() -> None:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))  # reserved as the harness does it: bound, not listening
        link = make_link(holder.getsockname()[:2], queue_frames=2)
        assert [link.send(pack_frame("x", number)) for number in range(4)] == [True, True, False, False]
        assert link.dropped == 2
        sink = await Sink(holder.getsockname()[1]).start()
        await until(lambda: len(sink.frames) == 2)
        assert sink.frames == [["x", 2], ["x", 3]]
        await link.close()
        await sink.server.close()
        holder.close()

    asyncio.run(test())


def test_a_link_without_a_queue_says_that_nothing_was_sent() -> None:
    async def test() -> None:
        sink = Sink()
        link = make_link(sink.address, queue_frames=0)
        assert not link.send(pack_frame("x", 1))
        await sink.start()
        await until(lambda: link.connected)
        assert link.send(pack_frame("x", 2))
        await until(lambda: sink.frames == [["x", 2]])
        await link.close()
        await sink.server.close()

    asyncio.run(test())


def test_garbage_ends_the_connection_and_nothing_else() -> None:
    async def test() -> None:
        sink = await Sink().start()
        good = make_link(sink.address)
        _, writer = await asyncio.open_connection(*sink.address)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: sink.lost == 1)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        good.send(pack_frame("x", 1))
        await until(lambda: sink.frames == [["x", 1]])
        await good.close()
        await sink.server.close()

    asyncio.run(test())


def test_one_turn_is_one_frame_and_beacons_have_their_own_connection() -> None:
    async def test() -> None:
        sink = await Sink().start()
        outbox = Outbox("n1:a", {"n2": sink.address}, rng=random.Random(1))
        outbox.start()
        for shard in range(3):
            outbox.send("n2:b", Ack(shard, 1, 1))
            outbox.send("n2:b", BeaconAck(shard, 1, 1))
        outbox.send("n9:x", Ack(0, 1, 1))
        assert outbox.undeliverable == 1
        await until(lambda: len(sink.frames) == 2)
        assert all(frame[:2] == ["peer", "n1:a"] and len(frame[2]) == 3 for frame in sink.frames)
        assert sorted(frame[2][0][1][0] for frame in sink.frames) == ["A", "b"]
        assert len(sink.connections) == 2
        assert outbox.connected() == {"n2": True}
        await outbox.close()
        await sink.server.close()

    asyncio.run(test())


def test_messages_that_are_too_long_together_go_in_several_frames() -> None:
    async def test() -> None:
        sink = await Sink().start()
        outbox = Outbox("n1:a", {"n2": sink.address}, rng=random.Random(1))
        outbox.start()
        for _ in range(3):
            outbox._pending.setdefault(("n2", False), []).append(("n2:b", ("R", b"0" * 7_000_000)))
        outbox.send("n2:b", Ack(0, 1, 1))
        await until(lambda: len(sink.frames) == 4)
        await outbox.close()
        await sink.server.close()

    asyncio.run(test())
