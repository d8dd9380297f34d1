"""A small key-value service for tests of the load.

    python stub_service.py PORT_FILE [SEEN_FILE] [--reject] [--uvloop]

One process, one dictionary, so it is linearizable; speaks the reference cluster's HTTP API over asyncio. With
SEEN_FILE it appends every X-Request-Id to that file, with one write(2), *before* it answers: the file is what the
service testifies. It prints nothing and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import cast

import httptools

REJECT = "--reject" in sys.argv
Stored = dict[str, tuple[int, int]]  # key -> value, version


class Store:
    def __init__(self) -> None:
        self.data: Stored = {}
        self.clock = 0

    def answer(self, method: bytes, url: bytes, body: bytes) -> tuple[int, dict[str, object]]:
        path = url.decode()
        if REJECT:
            return 400, {"error": "bad-request", "detail": "the stub was told to reject"}
        if path == "/v1/multi-get":
            return 200, {"entries": {key: self.entry(key) for key in json.loads(body)["keys"]}, "failed": {}}
        _, _, _, key, *verb = path.split("/")
        if method == b"GET":
            entry = self.entry(key)
            return (200 if entry["found"] else 404), entry
        wanted = json.loads(body) if body else {}
        if verb == ["insert"] and key in self.data:
            return 409, self.entry(key)
        if verb == ["cas"]:
            expect, entry = wanted["expect"], self.entry(key)
            if entry["value"] != expect.get("value"):
                return 409, entry
        self.clock += 1
        if method == b"DELETE":
            self.data.pop(key, None)
        else:
            self.data[key] = (wanted["value"], self.clock)
        return (201 if verb == ["insert"] else 200), {"version": self.clock}

    def entry(self, key: str) -> dict[str, object]:
        value, version = self.data.get(key, (None, 0))
        return {"found": value is not None, "value": value, "version": version}


class Client(asyncio.Protocol):
    def __init__(self, store: Store, seen: int | None) -> None:
        self._store = store
        self._seen = seen
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = self._body = self._id = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._id = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._seen is not None:
            os.write(self._seen, self._id + b"\n")
        status, answer = self._store.answer(self._parser.get_method(), self._url, self._body)
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nX-Attempts: 1\r\n\r\n"
        self._transport.write(head.encode() + body)


async def main(port_file: Path, seen_file: Path | None) -> None:
    loop = asyncio.get_running_loop()
    seen = os.open(seen_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if seen_file is not None else None
    store = Store()
    server = await loop.create_server(lambda: Client(store, seen), "127.0.0.1", 0, backlog=1000)
    partial = port_file.with_suffix(".partial")
    partial.write_text(str(server.sockets[0].getsockname()[1]))
    partial.rename(port_file)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 4096) else ended.set())
    await ended.wait()


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.install()
    files = [Path(name) for name in sys.argv[1:] if not name.startswith("--")]
    asyncio.run(main(files[0], files[1] if len(files) > 1 else None))
