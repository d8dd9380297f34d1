"""The client of any HTTP service: what it sends, and what each end of a request means. Real sockets, no wall clock."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme
from aftershock.harness.interfaces import Address
from aftershock.harness.operation import REQUEST, Outcome
from aftershock.workloads.client import Answer, ClientSetup
from aftershock.workloads.clients.http import HttpClient
from aftershock.workloads.http_requests import HttpRequest, Template
from aftershock.workloads.outcomes import ERRORS, Completion
from aftershock.workloads.requests import Request

from .peers import Peer, listening, replies, reset, soon


@pytest.fixture
def peer() -> Iterator[Peer]:
    with listening() as made:
        yield made


def client_of(address: Address, **settings: Any) -> HttpClient:
    return HttpClient(ClientSetup(addresses={"service": address}, settings=settings))


def ask(client: HttpClient, *, n: int | None = None, seconds: float = 5, **request: Any) -> Answer:
    template = Template.of(HttpRequest(**{"path": "/", **request}))
    return client.execute(
        Request(REQUEST, 0, n, None, template), key="request-0", request_id="t-1:2", deadline_ns=soon(seconds)
    )


def status(code: int, head: str = "Content-Length: 2\r\n", body: str = "{}") -> bytes:
    return f"HTTP/1.1 {code} X\r\n{head}\r\n{body}".encode()


# ------------------------------------------------------------------------------------------------ what is sent


def sent(peer: Peer, client: HttpClient, **request: Any) -> bytes:
    """The bytes of one request, as the other end got them."""
    got: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        data = connection.recv(65536)
        got.append(data)
        connection.sendall(status(200, "Connection: close\r\nContent-Length: 2\r\n"))

    peer.serve(answer)
    assert ask(client, **request).completion.outcome is Outcome.OK
    return got[0]


def test_a_request_is_written_as_the_scenario_says(peer: Peer) -> None:
    client = client_of(peer.address)
    data = sent(
        peer,
        client,
        method="POST",
        path="/items/{n}?again={n}",
        body='{"id": {n}, "name": "ä"}',
        headers={"Content-Type": "application/json", "Idempotency-Key": "k-{n}"},
        n=17,
    )
    body = '{"id": 17, "name": "ä"}'.encode()

    assert data == (
        b"POST /items/17?again=17 HTTP/1.1\r\n"
        b"Host: " + str(peer.address).encode() + b"\r\n"
        b"User-Agent: aftershock\r\nAccept: */*\r\nX-Request-Id: t-1:2\r\n"
        b"Content-Type: application/json\r\nIdempotency-Key: k-17\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )


def test_headers_of_the_scenario_win_over_ours(peer: Peer) -> None:
    client = client_of(peer.address, host="shop.example:8080", base_path="/api/")
    data = sent(peer, client, headers={"host": "other.example", "accept": "text/html"})

    assert data.startswith(b"GET /api/ HTTP/1.1\r\nUser-Agent: aftershock\r\n")
    assert data.count(b"ost: ") == data.count(b"ccept: ") == 1
    assert b"\r\nHost: shop.example:8080\r\n" in sent(peer, client)


@pytest.mark.parametrize(("method", "length"), [("POST", True), ("PUT", True), ("GET", False), ("DELETE", False)])
def test_a_request_that_usually_has_a_body_says_that_it_has_none(peer: Peer, method: str, length: bool) -> None:
    assert (b"Content-Length: 0\r\n\r\n" in sent(peer, client_of(peer.address), method=method)) == length


# ------------------------------------------------------------------------------------------------ what it means


@pytest.mark.parametrize(
    ("expected", "came", "outcome", "error"),
    [
        (None, 200, Outcome.OK, ""),
        (None, 302, Outcome.OK, ""),
        (None, 204, Outcome.OK, ""),
        (None, 404, Outcome.UNKNOWN, "http-4xx"),
        (None, 500, Outcome.UNKNOWN, "http-5xx"),
        (None, 503, Outcome.UNKNOWN, "http-5xx"),
        (None, 999, Outcome.UNKNOWN, "malformed"),
        ((200, 404), 404, Outcome.OK, ""),
        ((200, 404), 201, Outcome.UNKNOWN, "http-2xx"),
        ((200,), 301, Outcome.UNKNOWN, "http-3xx"),
        ((503,), 503, Outcome.OK, ""),
    ],
)
def test_success_is_a_status_that_the_scenario_expects(
    peer: Peer, expected: tuple[int, ...] | None, came: int, outcome: Outcome, error: str
) -> None:
    peer.serve(replies(status(came)))
    client = client_of(peer.address)
    completion = ask(client, expect_status=expected).completion
    client.close()

    assert (completion.outcome, completion.error) == (outcome, error)
    assert completion.seen == came
    assert completion.result == ("done" if outcome is Outcome.OK else "")


def hangs_up(connection: socket.socket) -> None:
    connection.recv(65536)


def resets(connection: socket.socket) -> None:
    connection.recv(65536)
    reset(connection)


def breaks_off(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(status(200, "Content-Length: 100\r\n"))


def says_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (hangs_up, "reset"),
        (resets, "reset"),
        (breaks_off, "reset"),
        (says_nothing, "timeout"),
        (replies(b"220 mail.example ESMTP\r\n"), "malformed"),
        (replies(b"\0\xff" * 500), "malformed"),
        (replies(status(200) + status(200)), "malformed"),
        (replies(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 1_100_000), "malformed"),
        (replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), "malformed"),
        (replies(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "malformed"),
    ],
)
def test_a_hostile_service_is_never_taken_for_one_that_answered(
    peer: Peer, behaviour: Callable[[socket.socket], None], error: str
) -> None:
    def behave(connection: socket.socket) -> None:
        try:
            behaviour(connection)
        except OSError:
            return  # the client has had enough

    peer.serve(behave, replies(status(200)))
    client = client_of(peer.address)
    answer = ask(client, seconds=0.2 if behaviour is says_nothing else 5)

    assert answer.completion == Completion(Outcome.UNKNOWN, error=error)
    assert ERRORS[error][0] is Outcome.UNKNOWN
    assert ask(client).completion.outcome is Outcome.OK, "and the next operation has another connection"
    client.close()


def test_a_port_that_refuses_is_a_certain_fail() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
    client = client_of(address)
    client.connect(deadline_ns=soon())  # never raises: the operation tells

    assert ask(client).completion == Completion(Outcome.FAIL, error="connect-refused")


def test_the_answer_has_come_before_it_is_judged(peer: Peer) -> None:
    peer.serve(replies(status(200)))
    client = client_of(peer.address)
    before_ns = soon(0)
    answer = ask(client)
    client.close()

    assert answer.end_ns is not None
    assert before_ns < answer.end_ns <= soon(0)
    assert answer.bytes_read == 2


def test_settings_that_fit_no_service_are_refused() -> None:
    address = Address("127.0.0.1", 1)
    with pytest.raises(ValueError, match="without blanks"):
        client_of(address, host="a\r\nX: y")
    with pytest.raises(ValueError, match="one address, found 2"):
        HttpClient(ClientSetup(addresses={"a": address, "b": address}))


# ------------------------------------------------------------------------------------------------ real servers


class Handler(BaseHTTPRequestHandler):
    """The standard library's server, as plain as people write it."""

    connections: ClassVar[set[Any]] = set()

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == "/sized":
            self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201 if body == b'{"id": 7}' else 400)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its own name
        """Nothing is printed."""


@pytest.fixture(params=["HTTP/1.0", "HTTP/1.1"])
def plain_server(request: pytest.FixtureRequest) -> Iterator[Address]:
    handler = type("Chosen", (Handler,), {"protocol_version": request.param, "timeout": 5, "connections": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Address(str(server.server_address[0]), int(server.server_address[1]))
        server.shutdown()
        thread.join(5)


def test_python_s_own_server_is_understood(plain_server: Address) -> None:
    client = client_of(plain_server)
    for _ in range(2):
        assert ask(client, path="/sized").completion.seen == 200
        assert ask(client, path="/missing", expect_status=(404,)).completion.outcome is Outcome.OK
        assert ask(client, method="HEAD").completion.seen == 200
    client.close()


# ------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def over_tls(peer: Peer, authority: trustme.CA, *answers: Callable[[Any], None]) -> None:
    """Serve one connection per function, each under TLS; a handshake that fails is the client's to report."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("shop.example").configure_cert(context)

    def wrapped(answer: Callable[[Any], None]) -> Callable[[socket.socket], None]:
        def serve(plain: socket.socket) -> None:
            try:
                with context.wrap_socket(plain, server_side=True) as secure:
                    answer(secure)
            except OSError:
                return

        return serve

    peer.serve(*map(wrapped, answers))


def test_https_answers_and_keeps_its_connection(peer: Peer, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    over_tls(peer, authority, replies(status(200), times=3))
    client = client_of(peer.address, tls=True, host="shop.example", ca_file=str(tmp_path / "ca.pem"))
    for _ in range(3):
        assert ask(client).completion.seen == 200
    client.close()


@pytest.mark.parametrize("settings", [{"host": "shop.example"}, {"host": "other.example", "ca": True}])
def test_a_certificate_that_proves_nothing_is_refused_before_anything_is_sent(
    peer: Peer, authority: trustme.CA, tmp_path: Path, settings: dict[str, Any]
) -> None:
    if settings.pop("ca", False):
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        settings["ca_file"] = str(tmp_path / "ca.pem")
    over_tls(peer, authority, replies(status(200)))

    assert ask(client_of(peer.address, tls=True, **settings)).completion.error == "connect-failed"


def test_without_verification_any_certificate_will_do(peer: Peer, authority: trustme.CA) -> None:
    over_tls(peer, authority, replies(status(200)))
    client = client_of(peer.address, tls=True, verify=False)

    assert ask(client).completion.seen == 200
    client.close()


def test_a_tls_connection_that_ended_while_idle_is_replaced(peer: Peer, authority: trustme.CA) -> None:
    over_tls(peer, authority, replies(status(200)))
    client = client_of(peer.address, tls=True, verify=False)
    ask(client)
    peer.threads[0].join(5)
    over_tls(peer, authority, replies(status(200)))

    assert ask(client).completion.seen == 200
    client.close()


def test_an_end_without_tls_s_good_bye_is_no_end_of_a_body(peer: Peer, authority: trustme.CA) -> None:
    def cut(secure: Any) -> None:
        secure.recv(65536)
        secure.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        secure.shutdown(socket.SHUT_RDWR)

    over_tls(peer, authority, cut)
    assert ask(client_of(peer.address, tls=True, verify=False)).completion.error == "reset"


def test_silence_in_the_handshake_is_a_timeout_of_the_connection(peer: Peer) -> None:
    peer.serve(says_nothing)

    assert ask(client_of(peer.address, tls=True), seconds=0.2).completion.error == "connect-timeout"
