"""Loopback ports that nobody else can take while a run needs them, also when two runs start at once.

A socket that is bound with SO_REUSEADDR and does not listen keeps its port out of the kernel's free choices (bind to
port 0, and the ports that connect picks), yet a member may bind the same port, if it sets SO_REUSEADDR too, and
listen. So the port is never free for a moment, not even while a killed member is restarted. Linux behaves so;
tests/unit/backends/test_ports.py holds it to that.
"""

from __future__ import annotations

import socket

from ..errors import SetupError
from ..interfaces import Address

__all__ = ["PortReserver"]

_LOOPBACK = "127.0.0.1"


class PortReserver:
    """Reserves ports on loopback until it is closed."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def reserve(self) -> Address:
        """A port of its own. Raises SetupError when the machine has none left."""
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((_LOOPBACK, 0))
        except OSError as error:
            holder.close()
            raise SetupError(
                f"no free port on {_LOOPBACK} ({error.strerror}); {len(self._sockets)} are reserved by this run; "
                "see `ss -tan` for who holds the others and net.ipv4.ip_local_port_range for how many there are"
            ) from error
        self._sockets.append(holder)
        return Address(*holder.getsockname())

    def close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()
