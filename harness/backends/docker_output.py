"""What a container prints, from before its start to its end, as the engine's attach stream has it; and how it ends.

Both are answers that take as long as the container lives, each on a connection of its own, which the SDK would leave
open when the engine dies under it. The output is attached before the start and read to its end, so nothing is lost and
nothing is kept by the engine. Frames: 1 byte stream, 3 bytes zero, 4 bytes length (big-endian), then the bytes.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from contextlib import closing, suppress
from typing import BinaryIO, Final, Self

from ..errors import SetupError
from ..inverses.containers import UnixConnection

__all__ = ["Output", "wait_status"]

_REQUEST_TIMEOUT_S: Final = 30.0
_HEADER: Final = struct.Struct(">BxxxL")


class Output:
    """One container's standard output and error. Close it."""

    def __init__(self, connection: UnixConnection, raw: socket.socket, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._raw = raw
        self._response = response

    @classmethod
    def attach(cls, endpoint: str, container: str) -> Self:
        """Raises SetupError when the engine does not give it."""
        connection = UnixConnection(endpoint.removeprefix("unix://"), timeout_s=_REQUEST_TIMEOUT_S)
        try:
            connection.connect()
            raw = connection.sock
            connection.request("POST", f"/containers/{container}/attach?stream=1&stdout=1&stderr=1")
            response = connection.getresponse()
            if response.status != 200:
                raise SetupError(f"the Docker engine gives no output (HTTP {response.status}): {response.read()!r}")
            raw.settimeout(None)  # a member may be silent for as long as it likes
            return cls(connection, raw, response)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise SetupError(f"the Docker engine at {endpoint} gives no output: {error}") from error
        except BaseException:
            connection.close()
            raise

    def copy_to(self, file: BinaryIO) -> None:
        """Copy until the container ends, or the stream breaks. A full disk ends the file, never the reading."""
        with suppress(OSError, http.client.HTTPException):
            while len(header := self._response.read(_HEADER.size)) == _HEADER.size:
                _, length = _HEADER.unpack(header)
                data = self._response.read(length)
                with suppress(OSError):
                    file.write(data)
                    file.flush()

    def close(self) -> None:
        """End it, also under a thread that reads."""
        with suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)
        self._response.close()
        self._connection.close()


def wait_status(endpoint: str, container: str) -> int | None:
    """Wait until a container has ended, and return its status; None when there is no such container any more.

    Raises OSError when the engine ends before it, or does not say.
    """
    with closing(UnixConnection(endpoint.removeprefix("unix://"), timeout_s=_REQUEST_TIMEOUT_S)) as connection:
        try:
            connection.connect()
            connection.sock.settimeout(None)
            connection.request("POST", f"/containers/{container}/wait")
            response = connection.getresponse()
            body = response.read()
            if response.status == 404:
                return None
            return int(json.loads(body)["StatusCode"])
        except (http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise OSError(f"the engine did not say how {container} ended: {error!r}") from error
