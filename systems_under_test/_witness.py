"""The far end of a link that we proxy, for probes: it answers itself, and knows which requests have come.

A service that knows nothing of us cannot say that a request has arrived, and a probe must tell a link that is cut from
a service that is down. So probes of such a link end here, where its proxy's other half would go on to the service: on a
second proxy of the very same link, which carries the same toxics.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from typing import Final

from ..harness.interfaces import Address, ProbeOutcome

__all__ = ["Witness", "WitnessProbe"]

_LINE_BYTES_MAX: Final = 1 << 22  # a nonce with filling for bulk probes
_SEEN_MAX: Final = 100_000
# What has come out of the link is noted by another thread of ours, a moment after the kernel has it.
_SEEN_WITHIN_S: Final = 0.2
_POLL_S: Final = 0.005


class Witness:
    """Listens on loopback, and answers every line with that line. Close it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = Address(*self._listener.getsockname()[:2])
        self._seen: set[bytes] = set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="witness", daemon=True)
        self._thread.start()

    def has_seen(self, nonce: bytes) -> bool:
        """Whether the request with this nonce has come, or comes within a moment."""
        until = time.monotonic() + _SEEN_WITHIN_S
        while nonce not in self._seen:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        return True

    def close(self) -> None:
        with self._lock:
            self._closed = True
            open_now = list(self._open)
        for each in (self._listener, *open_now):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="witness", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while line := lines.readline(_LINE_BYTES_MAX):
                nonce = line.partition(b" ")[0].strip()
                if len(self._seen) < _SEEN_MAX:
                    self._seen.add(nonce)
                connection.sendall(line)
        with self._lock:
            self._open.discard(connection)


class WitnessProbe:
    """Keeps interfaces.BulkProbe, on a connection through the link to the witness."""

    def __init__(self, path: socket.socket, witness: Witness) -> None:
        path.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._path = path
        self._witness = witness
        self._received = b""

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        return self.exchange_bulk(size_bytes=0, timeout_s=timeout_s)

    def exchange_bulk(self, *, size_bytes: int, timeout_s: float) -> ProbeOutcome:
        """See interfaces.BulkProbe: one line, which comes back whole."""
        nonce = secrets.token_hex(12).encode()
        line = nonce + b" " + b"." * min(size_bytes, _LINE_BYTES_MAX - 64) + b"\n"
        answered = False
        until = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self._path.settimeout(timeout_s)
            # Beside the waiting: a slow link takes long to take it all.
            sender = threading.Thread(target=self._send, args=(line,), daemon=True)
            sender.start()
            answered = self._wait_for(line, until)
        return ProbeOutcome(delivered=answered or self._witness.has_seen(nonce), answered=answered)

    def close(self) -> None:
        self._path.close()

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # that no answer comes is all there is to see
            self._path.sendall(line)

    def _wait_for(self, line: bytes, until: float) -> bool:
        while line not in self._received:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            self._path.settimeout(left_s)
            data = self._path.recv(1 << 16)
            if not data:
                return False
            self._received = (self._received + data)[-2 * _LINE_BYTES_MAX :]
        self._received = b""
        return True
