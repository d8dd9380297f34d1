"""The load on a service that knows nothing of us: the standard library's own HTTP server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.interfaces import Address, ClientSpec
from aftershock.harness.scenario import WorkloadPlan

from .load_support import history_of, loading, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

HTTP_CLIENT = "aftershock.workloads.clients.http:HttpClient"
REQUESTS: list[dict[str, Any]] = [
    {"path": "/items/{n}", "weight": 3, "expect_status": [200, 404], "n": [1, 20]},
    {"method": "POST", "path": "/items", "body": '{"id": {n}}', "n": "unique", "expect_status": [201]},
    {"method": "HEAD", "path": "/health"},
]


@dataclass
class Shop:
    """A service with items, and what it has seen: the number of requests by their first line's two words."""

    items: set[int] = field(default_factory=set)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    status: int | None = None  # what every answer says instead of the truth
    hold: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str, body: bytes) -> int:
        if self.status is not None:
            return self.status
        if method == "POST":
            self.items.add(int(body.removeprefix(b'{"id": ').removesuffix(b"}")))
            return 201
        if method == "HEAD":
            return 200
        return 200 if int(path.rpartition("/")[2]) % 2 else 404


def handler_of(shop: Shop) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            shop.seen[self.command, self.path] += 1
            shop.ids.append(self.headers["X-Request-Id"].rpartition("-")[2])
            shop.hold.wait(20)
            self.send_response(shop.answer(self.command, self.path, body))
            self.send_header("Content-Length", "2")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"{}")

        do_GET = do_POST = do_HEAD = _do  # noqa: N815  # the standard library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its own name
            """Nothing is printed."""

    return Handler


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    made.hold.set()
    return made


@pytest.fixture
def clients(shop: Shop) -> Iterator[ClientSpec]:
    """How to reach the shop, for two client groups."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(shop)) as server:
        server.daemon_threads = True
        server.socket.listen(100)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = Address("127.0.0.1", int(server.server_address[1]))
        yield ClientSpec(client=HTTP_CLIENT, groups={"clients-a": {"service": address}, "clients-b": {"web": address}})
        shop.hold.set()
        server.shutdown()
        thread.join(5)


def plan(requests: list[dict[str, Any]]) -> dict[str, Any]:
    return {"workloads": (WorkloadPlan(name="http-requests", share=1, settings={"requests": requests}),)}


def test_requests_of_a_scenario_are_sent_and_recorded(shop: Shop, clients: ClientSpec, tmp_path: Path) -> None:
    with loading(tmp_path / "load", clients, rate_per_s=100, duration_s=2, in_flight=20, **plan(REQUESTS)) as load:
        assert load.wait(60)
        assert load.alive() is None
        reads = load.final_reads(deadline_s=20)
        assert (reads.read, reads.failed, reads.problem) == (0, (), None), "there is nothing to read back"
    history, summary = history_of(tmp_path / "load")

    assert len(history) == summary["planned"] == 200
    assert summary["final_reads"] == summary["not_sent"] == 0
    assert set(history["f"]) == {"request"}
    assert set(history["space"]) == {"http-requests"}
    assert set(history["key"]) == {"GET /items/{n}", "POST /items", "HEAD /health"}
    assert dict(history["outcome"].value_counts().iter_rows()) == {"ok": 200}
    assert set(history["client"].value_counts()["count"]) == {100}
    # The service testifies to the same requests, with the same numbers in them.
    rows = history.select("key", "value", "observed", "process").rows()
    expected = Counter(tuple(key.replace("{n}", str(value)).split(" ")) for key, value, _, _ in rows)
    assert expected == shop.seen
    assert {value for key, value, _, _ in rows if key == "POST /items"} == shop.items
    assert len(set(shop.ids)) == 200
    assert {int(who.partition(":")[0]) for who in shop.ids} == {process for *_, process in rows}
    # The status that came is in the history, also where two are expected.
    statuses = {(key, value % 2 if key.startswith("GET") else None, observed) for key, value, observed, _ in rows}
    assert statuses == {
        ("GET /items/{n}", 1, 200),
        ("GET /items/{n}", 0, 404),
        ("POST /items", None, 201),
        ("HEAD /health", None, 200),
    }


def test_unexpected_answers_and_silence_are_no_success(shop: Shop, clients: ClientSpec, tmp_path: Path) -> None:
    with loading(
        tmp_path / "load", clients, rate_per_s=100, duration_s=3, in_flight=30, timeout_s=0.3, **plan(REQUESTS)
    ) as load:
        wait_until(lambda: load.progress().ok > 30, "load runs")
        shop.status = 503
        wait_until(lambda: load.progress().unknown > 30, "the service sheds load")
        shop.status = None
        shop.hold.clear()
        held_ns = time.monotonic_ns()
        wait_until(lambda: load.progress().unknown > 60, "requests time out")
        shop.hold.set()
        assert load.wait(60)
        assert load.alive() is None, "an unexpected status is the service's, and no disagreement on an API"
    history, summary = history_of(tmp_path / "load")

    assert len(history) == summary["planned"] == 300
    shed = history.filter(pl.col("error") == "http-5xx")
    assert len(shed) >= 30
    assert (shed["outcome"] == "unknown").all()
    assert set(shed["observed"]) == {503}
    late = history.filter(pl.col("error") == "timeout")
    assert len(late) >= 20
    assert late["observed"].is_null().all()
    assert (late["end_ns"] > held_ns).all()
    after = history.filter((pl.col("outcome") == "ok") & (pl.col("start_ns") > late["end_ns"].max()))
    assert len(after) > 0, "and it goes on afterwards"


def test_the_same_seed_asks_for_the_same(shop: Shop, clients: ClientSpec, tmp_path: Path) -> None:
    streams = []
    for run in ("a", "b"):
        with loading(
            tmp_path / run, clients, rate_per_s=100, duration_s=1, in_flight=1, seed=3, **plan(REQUESTS)
        ) as load:
            assert load.wait(60)
        history, _ = history_of(tmp_path / run)
        mine = history.filter(pl.col("worker") == 0).sort("start_ns")
        streams.append(mine.select("key", "value").rows())

    common = min(map(len, streams))
    assert common >= 10
    assert streams[0][:common] == streams[1][:common]


def test_a_workload_that_the_client_cannot_carry_out_is_refused(clients: ClientSpec, tmp_path: Path) -> None:
    mixed = (WorkloadPlan(name="cas-register", share=1, settings={"read": 0.5, "write": 0.5, "cas": 0}),)
    with (
        pytest.raises(UsageError, match=r"'cas-register' asks for read, write, which the system's client .*HttpClient"),
        loading(tmp_path / "load", clients, workloads=mixed),
    ):
        pass
    assert not (tmp_path / "load").exists(), "nothing was started"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (ClientSpec(client="no.such:Client", groups={"a": {}}), "client no.such:Client: cannot be imported"),
        (ClientSpec(client="json:loads", groups={"a": {}}), "expected module:Class, found <function loads"),
        (ClientSpec(client="json:JSONDecoder", groups={"a": {}}), "lacks `functions`"),
        (ClientSpec(client=HTTP_CLIENT, groups={}), "at least one client group"),
        (ClientSpec(client=HTTP_CLIENT, groups={"a": {}}), "cannot be made for group 'a': .*one address, found 0"),
    ],
)
def test_clients_that_cannot_be_made_are_found_before_anything_starts(
    spec: ClientSpec, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=complaint), loading(tmp_path / "load", spec, **plan(REQUESTS)):
        pass
    assert not (tmp_path / "load").exists()


def test_a_load_that_is_ready_has_opened_few_connections(tmp_path: Path) -> None:
    """A service with a short queue would drop a burst of hundreds, and be blamed for what we did."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        spec = ClientSpec(
            client=HTTP_CLIENT, groups={"clients-a": {"service": Address("127.0.0.1", listener.getsockname()[1])}}
        )
        with loading(tmp_path / "load", spec, begin=False, in_flight=300, **plan(REQUESTS)):
            listener.setblocking(False)
            opened = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    opened += 1
    assert opened == 4
