"""Whether an HTTP service answers as it should, in words that say what is wrong: asked directly, past every fault."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Collection
from typing import Final

from pydantic import Field

from ..harness.interfaces import Address, Settings

__all__ = ["Tls", "ask_status", "tls_problem"]

_READY: Final = range(200, 400)


class Tls(Settings):
    """How a service proves who it is."""

    server_name: str = Field(description="the name that its certificate must have")
    verify: bool = True
    ca_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Raises OSError (ssl.SSLError is one) for a file that cannot be used."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def tls_problem(tls: Tls) -> str | None:
    """What is wrong with the settings themselves, before anybody is asked."""
    try:
        tls.context()
    except OSError as error:
        return f"ca_file = {tls.ca_file!r} cannot be used: {error}"
    return None


def ask_status(
    address: Address, path: str, *, host: str, tls: Tls | None, expected: Collection[int] | None, timeout_s: float
) -> str | None:
    """GET the path. None when the status is one of `expected` (200 to 399 without), otherwise half a sentence."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    with contextlib.closing(connection):
        try:
            connection.connect()
            if tls is not None:
                connection.sock = tls.context().wrap_socket(connection.sock, server_hostname=tls.server_name)
            connection.request("GET", path, headers={"Host": host, "User-Agent": "aftershock", "Accept": "*/*"})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return _words(error, address, tls)
    wanted = _READY if expected is None else expected
    if status in wanted:
        return None
    accepted = "200 to 399" if expected is None else ", ".join(map(str, sorted(expected)))
    return f"GET {path} answers {status}, expected {accepted} (ready_path and ready_status say what is asked)"


def _words(error: Exception, address: Address, tls: Tls | None) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            name = tls.server_name if tls is not None else ""
            return (
                f"its certificate does not prove that it is {name} ({error.verify_message}); name the authority with "
                "ca_file, or do without proof with verify = false"
            )
        case ssl.SSLError():
            return f"it does not speak TLS as expected ({error.reason or error}); is the URL's scheme right?"
        case ConnectionRefusedError():
            return f"nobody listens at {address}: connection refused"
        case socket.timeout():
            return f"{address} does not answer in time"
        case http.client.BadStatusLine() | http.client.LineTooLong():
            return f"what answers at {address} does not speak HTTP ({type(error).__name__}); is it https?"
        case _:
            return f"{address}: {error or type(error).__name__}"
