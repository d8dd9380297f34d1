"""A small application server: pages that need no memory, and a store that has one.

GET /health          200
GET /items/N         200
PUT /store/KEY       204; kept in memory, or with STORE=FOLDER in files that are fsynced
GET /store/KEY       200 with {"value": ...}, or 404
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STORE = os.environ.get("STORE")
memory: dict[str, str] = {}


def put(key: str, value: str) -> None:
    memory[key] = value
    if STORE is not None:
        path = Path(STORE, key)
        with path.with_suffix(".new").open("w") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        path.with_suffix(".new").replace(path)


def get(key: str) -> str | None:
    if STORE is None:
        return memory.get(key)
    path = Path(STORE, key)
    return path.read_text() if path.exists() else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "store":
            value = get(name)
            self.answer(200, {"value": value}) if value is not None else self.answer(404, {"error": "no such key"})
        else:
            self.answer(200, {"page": self.path})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        value = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        put(self.path.rpartition("/")[2], value)
        self.answer(204, None)

    def answer(self, status: int, body: object) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default is 5: too few when nginx comes back and everybody connects at once


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if STORE is not None:
        Path(STORE).mkdir(parents=True, exist_ok=True)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    Server((os.environ.get("HOST", "0.0.0.0"), port), Handler).serve_forever()
