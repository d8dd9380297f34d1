"""Connections between members: a server for a peer port, and links that keep one outgoing connection each.

A cut network shows as silence: the connection stays open and nothing arrives, so nobody here concludes anything from
silence but the callers. TCP_USER_TIMEOUT ends a connection whose bytes were not taken for a second, because the
kernel's own retransmissions back off for longer than a partition lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from .wire import FrameReader, WireError

DIAL_TIMEOUT_S: Final = 0.5
BACKOFF_S: Final = (0.02, 0.1)  # first and longest pause between two dials
CLOSE_TIMEOUT_S: Final = 0.5
QUEUE_FRAMES: Final = 1024  # frames kept while there is no connection; the oldest are dropped
BUFFER_BYTES: Final = 32 * 1024 * 1024  # bytes that a connection may hold back before frames are dropped
USER_TIMEOUT_MS: Final = 1000
_USER_TIMEOUT_OPTION: Final = getattr(socket, "TCP_USER_TIMEOUT", 18)

FrameHandler = Callable[["Connection", list[Any]], None]
LostHandler = Callable[["Connection"], None]


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind and listen. SO_REUSEADDR, because whoever reserved the port holds it with a bound socket. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class Connection(asyncio.Protocol):
    """One TCP connection that carries frames both ways."""

    def __init__(self, on_frame: FrameHandler, on_lost: LostHandler | None = None) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received_frames = 0
        self.problem = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but inheritance
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                raw.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT_OPTION, USER_TIMEOUT_MS)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self.received_frames += 1
                self._on_frame(self, frame)
        except WireError as error:
            self.problem = str(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        if self._on_lost is not None:
            self._on_lost(self)

    def send(self, frame: bytes) -> bool:
        """Hand a frame to the kernel, or drop it: False when the connection is gone or holds back too much."""
        transport = self._transport
        if transport is None or transport.get_write_buffer_size() > BUFFER_BYTES:
            return False
        transport.write(frame)
        return True

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def finish(self) -> None:
        """Close after what is buffered was sent; at once when the other side does not take it."""
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait([self.lost], timeout=CLOSE_TIMEOUT_S)
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class FrameServer:
    """Accepts connections on a listening socket."""

    def __init__(self, on_frame: FrameHandler, on_lost: LostHandler | None = None) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._connections: set[Connection] = set()
        self._server: asyncio.AbstractServer | None = None

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._accept, sock=listener)

    def _accept(self) -> Connection:
        connection = Connection(self._on_frame, self._forget)
        self._connections.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._on_lost is not None:
            self._on_lost(connection)

    def stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Stop accepting and close every connection after its buffered bytes."""
        self.stop_accepting()
        await asyncio.gather(*(connection.finish() for connection in list(self._connections)))


class Link:
    """One outgoing connection to one address, dialled again for as long as the link lives.

    `on_frame` gets what comes back on it, `on_lost` is called when an established connection ended, `on_up` when one
    was made. Frames sent while there is no connection wait for the next one, up to `queue_frames`.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        on_frame: FrameHandler,
        rng: random.Random,
        on_lost: Callable[[], None] | None = None,
        on_up: Callable[[], None] | None = None,
        queue_frames: int = QUEUE_FRAMES,
    ) -> None:
        self._address = address
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._on_up = on_up
        self._rng = rng
        self._queue: deque[bytes] = deque(maxlen=queue_frames) if queue_frames else deque(maxlen=0)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0  # frames that were not handed to a connection

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._connection.is_open

    @property
    def received_frames(self) -> int:
        """Frames that came back on the present connection."""
        return self._connection.received_frames if self._connection is not None else 0

    @property
    def connection(self) -> Connection | None:
        return self._connection

    def send(self, frame: bytes) -> bool:
        """Send now, or keep for the next connection. False when a frame, this or an older one, was dropped."""
        if self._connection is not None and self._connection.is_open:
            if self._connection.send(frame):
                return True
            self.dropped += 1
            return False
        full = len(self._queue) == self._queue.maxlen
        self._queue.append(frame)
        self.dropped += full
        return not full

    def reset(self) -> None:
        """End the present connection; the next one is dialled at once."""
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        """Stop dialling; close the connection after its buffered bytes."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            await self._connection.finish()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._address
        pause_s = BACKOFF_S[0]
        while True:
            try:
                async with asyncio.timeout(DIAL_TIMEOUT_S):
                    _, connection = await loop.create_connection(lambda: Connection(self._on_frame), host, port)
            except (OSError, TimeoutError):
                await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, BACKOFF_S[1])
                continue
            pause_s = BACKOFF_S[0]
            self._connection = connection
            while self._queue:
                connection.send(self._queue.popleft())
            if self._on_up is not None:
                self._on_up()
            await connection.lost
            self._connection = None
            if self._on_lost is not None:
                self._on_lost()
            # A proxy in front of a dead member accepts and closes: without a pause that would be a busy loop.
            await asyncio.sleep(BACKOFF_S[0] * self._rng.uniform(0.5, 1.0))
