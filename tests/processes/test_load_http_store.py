"""Acknowledged writes of a store that knows nothing of us, over TLS: those that are gone are seen to be gone."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import trustme
from aftershock.harness.interfaces import Address, ClientSpec
from aftershock.harness.scenario import WorkloadPlan

from .load_support import history_of, loading

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

WORKLOADS = (
    WorkloadPlan(name="insert-only", share=0.7, settings={"read": 0.3}),
    WorkloadPlan(name="http-requests", share=0.3, settings={"requests": [{"path": "/health"}]}),
)
SETTINGS: dict[str, Any] = {
    "host": "store.example",
    "tls": True,
    "base_path": "/v1",
    "write": {"method": "PUT", "path": "/k/{key}", "body": "{value}"},
    "read": {"path": "/k/{key}"},
}


@dataclass
class Store:
    """Keys and values; the first `forgotten` writes are acknowledged and not kept."""

    data: dict[str, bytes] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    forget: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, path: str, body: bytes) -> None:
        with self.lock:
            if len(self.forgotten) < self.forget:
                self.forgotten.append(path)
            else:
                self.data[path] = body


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clients(store: Store, tmp_path: Path) -> Iterator[ClientSpec]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            found = b"{}" if self.path == "/v1/health" else store.data.get(self.path)
            self._say(404 if found is None else 200, found or b"")

        def do_PUT(self) -> None:
            store.put(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self._say(201, b"")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its own name
            """Nothing is printed."""

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("store.example").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = Address("127.0.0.1", int(server.server_address[1]))
        yield ClientSpec(
            client="aftershock.workloads.clients.http_store:HttpStoreClient",
            groups={"clients": {"store": address}},
            settings={**SETTINGS, "ca_file": str(tmp_path / "ca.pem")},
        )
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize("forget", [0, 3])
def test_what_was_acknowledged_is_looked_for(store: Store, clients: ClientSpec, tmp_path: Path, forget: int) -> None:
    store.forget = forget
    with loading(tmp_path / "load", clients, rate_per_s=80, duration_s=2, in_flight=10, workloads=WORKLOADS) as load:
        assert load.wait(60)
        assert load.alive() is None
        reads = load.final_reads(deadline_s=30)
        assert (reads.failed, reads.problem) == ((), None)
    history, _ = history_of(tmp_path / "load")

    inserts = history.filter(pl.col("f") == "insert")
    assert set(inserts["outcome"]) == {"ok"}, inserts["error"].value_counts()
    assert len(inserts) == reads.read == len(store.data) + forget > 50
    final = history.filter("final")
    assert set(final["key"]) == set(inserts["key"]), "requests have nothing to be read back"
    found = dict(final.select("key", "value").iter_rows())
    kept = {path.removeprefix("/v1/k/"): int(value) for path, value in store.data.items()}
    gone = {path.removeprefix("/v1/k/") for path in store.forgotten}
    assert {key: value for key, value in found.items() if value is not None} == kept
    assert {key for key, value in found.items() if value is None} == gone
    assert len(gone) == forget
    assert len(history.filter((pl.col("key") == "GET /health") & (pl.col("outcome") == "ok"))) > 10
