"""A service of somebody's own, by its URL alone: faults on the way to it, and what is said when it is not ready."""

from __future__ import annotations

import contextlib
import http.client
import random
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.backends.url import UrlBackend, UrlBackendSettings
from aftershock.harness.errors import SetupError
from aftershock.harness.identity import find_by_token, run_token
from aftershock.harness.interfaces import Cluster, FaultContext, Injection, Link, MemberState, ProbeOutcome
from aftershock.harness.journal import RunJournal
from aftershock.systems_under_test.url_system import UrlSettings, UrlSystem

from tests.fakes import FakeJournal, RecordedEvents
from tests.unit.faults.support import fault

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

CLIENTS = Link("clients-entry", "service")
WHOLE = ProbeOutcome(delivered=True, answered=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        status = 500 if self.path.endswith("/bad") else 200
        body = f"{self.headers['Host']} {self.path}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Broken connections are what these tests make."""


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def deployed(folder: Path, url: str, *, ready_s: float | None = 20, **settings: Any) -> Iterator[Cluster]:
    run_folder = folder / "run"
    run_folder.mkdir()
    backend = UrlBackend(UrlBackendSettings())
    assert backend.available() is None
    with (
        RunJournal.open(run_folder, folder.name, folder / "state") as journal,
        backend.open(run_id="u1", run_folder=run_folder, journal=journal, events=RecordedEvents()) as stage,
        UrlSystem().deploy(stage, UrlSettings(url=url, **settings), seed=1) as cluster,
    ):
        if ready_s is not None:
            cluster.wait_ready(deadline_s=ready_s)
        yield cluster
    assert find_by_token(run_token(run_folder)) == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with serving() as port, deployed(tmp_path_factory.mktemp("url"), f"http://127.0.0.1:{port}/shop") as made:
        yield made


@contextlib.contextmanager
def injected(cluster: Cluster, name: str, **settings: Any) -> Iterator[Injection]:
    context = FaultContext(
        cluster=cluster,
        rng=random.Random(7),
        journal=FakeJournal(),
        events=RecordedEvents(),
        fault_id="f1",
        duration_s=5.0,
        expires_ns=time.monotonic_ns() + 120 * 10**9,
        hot_key="h-1",
    )
    with fault(name, **settings).inject(context) as injection:
        evidence = injection.prove()
        assert evidence.proven, evidence.facts
        yield injection
    healed = injection.verify_healed()
    assert healed.proven, healed.facts


def ask(cluster: Cluster, path: str, *, timeout_s: float = 10) -> tuple[int, str]:
    (address,) = cluster.clients().groups["clients-entry"].values()
    with contextlib.closing(http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_clients_are_led_to_the_service_and_told_its_name_and_path(cluster: Cluster) -> None:
    spec = cluster.clients()
    assert spec.client == "aftershock.workloads.clients.http:HttpClient"
    assert spec.settings["base_path"] == "/shop"
    assert spec.settings["host"].startswith("127.0.0.1:")
    assert not spec.settings["tls"]
    assert ask(cluster, "/x")[0] == 200
    assert cluster.stage.network.links[0] == CLIENTS


def test_a_store_gets_the_client_that_knows_values(tmp_path: Path) -> None:
    store = {"write": {"method": "PUT", "path": "/{key}", "body": "{value}"}, "read": {"path": "/{key}"}}
    with serving() as port, deployed(tmp_path, f"http://127.0.0.1:{port}", store=store) as made:
        assert made.clients().client.endswith(":HttpStoreClient")
        assert made.clients().settings["write"] == store["write"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("partition", {"shape": "isolate-alone", "target": "service"}),
        ("partition", {"shape": "isolate-alone", "target": "service", "direction": "out"}),
        ("partition", {"shape": "isolate-alone", "target": "service", "direction": "in"}),
        ("latency", {"target": "service", "latency_ms": 150}),
        ("bandwidth", {"target": "service", "kbit_per_s": 256}),
        ("reset", {"target": "service"}),
    ],
)
def test_faults_on_the_way_to_the_service_bite_and_are_undone(
    cluster: Cluster, name: str, settings: dict[str, Any]
) -> None:
    with injected(cluster, name, **settings) as injection:
        assert injection.cut_off == {}, "all clients have this one way"
        if name in ("partition", "reset"):
            with pytest.raises((OSError, http.client.HTTPException)):
                ask(cluster, "/x", timeout_s=0.5)
    assert cluster.wait_member("service", deadline_s=5) is None
    assert ask(cluster, "/x")[0] == 200


def test_a_probe_tells_a_link_that_is_cut_from_a_service_that_is_down(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with serving() as port:
            made = stack.enter_context(deployed(tmp_path, f"http://127.0.0.1:{port}"))
        with contextlib.closing(made.open_probe(CLIENTS)) as probe:
            assert probe.exchange(timeout_s=5) == WHOLE, "the link is whole"
        missing = made.wait_member("service", deadline_s=0)
        assert missing is not None
        assert "nobody listens" in missing


def test_faults_on_processes_say_that_nothing_is_attached(cluster: Cluster) -> None:
    for name in ("kill", "pause", "stop", "restart"):
        reason = fault(name).available(cluster.stage)
        assert reason is not None
        assert "attached to no container" in reason
    assert cluster.stage.processes.state("service") is MemberState.RUNNING
    with pytest.raises(SetupError, match="service is no attached container"):
        cluster.stage.processes.kill("service")


# ------------------------------------------------------------------------------------------------ readiness


def problem(folder: Path, url: str, **settings: Any) -> str:
    with pytest.raises(SetupError) as caught, deployed(folder, url, ready_s=0.3, **settings):
        raise AssertionError("it was ready")
    return str(caught.value)


def test_a_service_that_is_not_there_is_said_to_be_refused(tmp_path: Path) -> None:
    with serving() as port:
        pass
    assert f"nobody listens at 127.0.0.1:{port}" in problem(tmp_path, f"http://127.0.0.1:{port}")


def test_a_wrong_status_is_told_with_what_was_expected(tmp_path: Path) -> None:
    with serving() as port:
        said = problem(tmp_path, f"http://127.0.0.1:{port}", ready_path="/bad")
        assert "GET /bad answers 500, expected 200 to 399" in said


def test_a_status_that_was_asked_for_is_ready(tmp_path: Path) -> None:
    with serving() as port, deployed(tmp_path, f"http://127.0.0.1:{port}", ready_path="/bad", ready_status=(500,)):
        pass


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    assert "no IPv4 address is known for 'nowhere.invalid'" in problem(tmp_path, "http://nowhere.invalid:80")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_port(authority: trustme.CA) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with serving(context) as port:
        yield port


def test_a_certificate_of_an_authority_that_is_named_is_ready(
    authority: trustme.CA, tls_port: int, tmp_path: Path
) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with deployed(tmp_path, f"https://localhost:{tls_port}", ca_file=str(ca_file)) as made:
        assert made.clients().settings["tls"] is True
        assert made.clients().settings["ca_file"] == str(ca_file)


@pytest.mark.parametrize(
    ("host", "settings", "says"),
    [
        ("localhost", {}, "does not prove that it is localhost"),
        ("127.0.0.1", {"named": True}, "does not prove that it is 127.0.0.1"),
    ],
)
def test_a_certificate_that_proves_nothing(
    authority: trustme.CA, tls_port: int, tmp_path: Path, host: str, settings: dict[str, Any], says: str
) -> None:
    chosen: dict[str, Any] = {}
    if settings:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        chosen = {"ca_file": str(tmp_path / "ca.pem")}
    assert says in problem(tmp_path, f"https://{host}:{tls_port}", **chosen)


def test_no_proof_is_asked_for_when_that_is_said(tls_port: int, tmp_path: Path) -> None:
    with deployed(tmp_path, f"https://localhost:{tls_port}", verify=False):
        pass


def test_https_where_http_is_spoken_and_the_other_way_round(tls_port: int, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    assert "does not speak HTTP" in problem(first, f"http://127.0.0.1:{tls_port}")
    with serving() as port:
        assert "does not speak TLS" in problem(second, f"https://127.0.0.1:{port}")


def test_an_authority_file_that_is_not_there(tmp_path: Path) -> None:
    assert "ca_file = '/nowhere.pem' cannot be used" in problem(tmp_path, "https://127.0.0.1:1", ca_file="/nowhere.pem")


def test_another_backend_is_refused_with_the_line_to_write(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    backend = ProcessBackend(ProcessBackendSettings())
    with (
        RunJournal.open(run_folder, "p1", tmp_path / "state") as journal,
        backend.open(run_id="p1", run_folder=run_folder, journal=journal, events=RecordedEvents()) as stage,
        pytest.raises(SetupError, match='write \\[backend\\] name = "url"'),
        UrlSystem().deploy(stage, UrlSettings(url="http://127.0.0.1:1"), seed=1),
    ):
        raise AssertionError("it was deployed")
