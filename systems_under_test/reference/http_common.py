"""HTTP of every member: a thin ASGI application on uvicorn, and the pages that all members have.

`/healthz`, `/status`, `/metrics`, `/probe` and `/probe/seen` are described in docs/reference-http-api.md. The last two
let a tester prove which direction of a link carries bytes: the member itself testifies what it has received.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import uvicorn

from .metrics import Metrics

BODY_LIMIT: Final = 2 * 1024 * 1024  # bytes of a request's body
_NONCES: Final = 10_000
_NONCE_LIMIT: Final = 200  # characters

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: bytes = b"application/json"


def json_response(status: int, value: Any, headers: tuple[Header, ...] = ()) -> Response:
    return Response(status, json.dumps(value, separators=(",", ":")).encode(), headers)


class BodyTooLargeError(Exception):
    """A request's body is above `BODY_LIMIT`; it was not read to its end."""


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises BodyTooLargeError."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise BodyTooLargeError
        if not message.get("more_body", False):
            return bytes(body)


class SeenNonces:
    """The newest nonces that arrived here, by ping or by /probe."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, nonce: str) -> None:
        self._seen[nonce] = None
        if len(self._seen) > _NONCES:
            self._seen.popitem(last=False)

    def __contains__(self, nonce: str) -> bool:
        return nonce in self._seen


Page = Callable[[Scope, Receive], Awaitable[Response | None]]


class MemberApp:
    """The ASGI application of one member."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        missing: Callable[[], str],
        status: Callable[[], dict[str, Any]],
        seen: SeenNonces,
        page: Page | None = None,
    ) -> None:
        """`missing` says what is still missing before the member serves, or nothing. `page` answers further paths."""
        self._metrics = metrics
        self._missing = missing
        self._status = status
        self._seen = seen
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await self._page(scope, receive) if self._page is not None else None
            if response is None:
                response = self._common(scope)
        except BodyTooLargeError:
            detail = f"the body is above {BODY_LIMIT} bytes"
            response = json_response(413, {"error": "bad-request", "detail": detail}, ((b"connection", b"close"),))
        length = str(len(response.body)).encode()
        headers = [(b"content-type", response.content_type), (b"content-length", length), *response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    def _common(self, scope: Scope) -> Response:
        path = scope["path"]
        if scope["method"] != "GET":
            return json_response(405, {"error": "bad-request", "detail": f"no {scope['method']} at {path}"})
        if path == "/healthz":
            missing = self._missing()
            return (
                json_response(503, {"ready": False, "missing": missing})
                if missing
                else json_response(200, {"ready": True})
            )
        if path == "/status":
            return json_response(200, self._status())
        if path == "/metrics":
            return Response(200, self._metrics.render().encode(), content_type=b"text/plain; version=0.0.4")
        if path in ("/probe", "/probe/seen"):
            return self._probe(path, scope)
        return json_response(404, {"error": "bad-request", "detail": f"there is nothing at {path}"})

    def _probe(self, path: str, scope: Scope) -> Response:
        nonce = parse_qs(scope["query_string"].decode("latin-1")).get("nonce", [""])[0]
        if not 0 < len(nonce) <= _NONCE_LIMIT:
            return json_response(400, {"error": "bad-request", "detail": f"nonce: 1 to {_NONCE_LIMIT} characters"})
        if path == "/probe/seen":
            return json_response(200, {"seen": nonce in self._seen})
        self._seen.add(nonce)
        return Response(200, nonce.encode(), content_type=b"text/plain")


class HttpServer(uvicorn.Server):
    """uvicorn on a socket of ours. Signals are the member's own business."""

    def __init__(self, app: MemberApp, *, graceful_s: int = 2) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=graceful_s,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def begin(self, listener: socket.socket) -> None:
        """Serve in a task of the running loop."""
        self._task = asyncio.get_running_loop().create_task(self.serve(sockets=[listener]))

    async def finish(self) -> None:
        """Stop accepting, let running requests end, close."""
        self.should_exit = True
        if self._task is not None:
            await self._task
