"""The other end of a client's connection, made with real sockets on loopback."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aftershock.harness.interfaces import Address


class Peer:
    """A listener whose accepted connections are handed to the test."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(5)
        self.address = Address(*self.listener.getsockname())
        self.threads: list[threading.Thread] = []

    def serve(self, *answers: Callable[[socket.socket], None]) -> None:
        """Accept one connection per function and let each have it."""

        def run() -> None:
            for answer in answers:
                accepted, _ = self.listener.accept()
                with accepted:
                    accepted.settimeout(5)
                    answer(accepted)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()


def soon(seconds: float = 5) -> int:
    return time.monotonic_ns() + round(seconds * 1e9)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def replies(data: bytes, times: int = 1) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for _ in range(times):
            connection.recv(65536)
            connection.sendall(data)

    return answer


@contextmanager
def listening() -> Iterator[Peer]:
    """A peer; on leaving, all that it was asked to serve must have been."""
    made = Peer()
    try:
        yield made
    finally:
        for thread in made.threads:
            thread.join(5)
        made.listener.close()
    assert not any(thread.is_alive() for thread in made.threads)
