"""Each trouble of the client, made with a real socket on loopback; no timing is asserted, only what is concluded."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from aftershock.harness.interfaces import Address
from aftershock.workloads.http_client import ClientError, Connection, Response, Trouble

from .peers import Peer, listening, replies, reset, soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Attempts: 3\r\n\r\n{}"
REQUEST = b"GET /v1/keys/h-1 HTTP/1.1\r\nHost: sut\r\n\r\n"


@pytest.fixture
def peer() -> Iterator[Peer]:
    with listening() as made:
        yield made


def trouble_of(connection: Connection, *, seconds: float = 5) -> Trouble:
    with pytest.raises(ClientError) as caught:
        connection.request(REQUEST, deadline_ns=soon(seconds))
    return caught.value.trouble


def test_one_connection_serves_request_after_request(peer: Peer) -> None:
    peer.serve(replies(OK, times=3))
    connection = Connection(peer.address)

    for _ in range(3):
        assert connection.request(REQUEST, deadline_ns=soon()) == Response(200, b"{}", 3)
    connection.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", b""),
    ],
)
def test_any_framing_of_http_is_understood(peer: Peer, answer: bytes, body: bytes) -> None:
    peer.serve(replies(answer))
    connection = Connection(peer.address)

    assert connection.request(REQUEST, deadline_ns=soon()).body == body
    connection.close()


def test_an_answer_in_single_bytes_is_understood(peer: Peer) -> None:
    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in OK:
            connection.sendall(bytes([byte]))

    peer.serve(drip)
    connection = Connection(peer.address)
    assert connection.request(REQUEST, deadline_ns=soon()) == Response(200, b"{}", 3)
    connection.close()


def test_connection_close_is_honoured(peer: Peer) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    peer.serve(replies(closing), replies(closing))
    connection = Connection(peer.address)

    for _ in range(2):
        assert connection.request(REQUEST, deadline_ns=soon()).status == 200


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())

    assert trouble_of(Connection(address)) is Trouble.CONNECT_REFUSED


def test_no_connection_in_time() -> None:
    # A full backlog: the kernel drops the handshake of whoever comes next.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = Address(*listener.getsockname())
        with socket.create_connection(address):
            assert trouble_of(Connection(address), seconds=0.2) is Trouble.CONNECT_TIMEOUT
    assert trouble_of(Connection(address), seconds=-1) is Trouble.CONNECT_TIMEOUT


def test_connecting_fails_for_another_reason() -> None:
    assert trouble_of(Connection(Address("not an address", 1))) is Trouble.CONNECT_FAILED


def test_silence_is_a_timeout(peer: Peer) -> None:
    done = threading.Event()

    def silent(connection: socket.socket) -> None:
        connection.recv(65536)
        done.wait(5)

    peer.serve(silent)
    assert trouble_of(Connection(peer.address), seconds=0.1) is Trouble.TIMEOUT
    done.set()


def test_after_a_timeout_a_late_answer_is_not_taken_for_the_next_one(peer: Peer) -> None:
    late = threading.Event()

    def answers_late(connection: socket.socket) -> None:
        connection.recv(65536)
        late.wait(5)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    peer.serve(answers_late, replies(OK))
    connection = Connection(peer.address)
    assert trouble_of(connection, seconds=0.1) is Trouble.TIMEOUT
    late.set()

    assert connection.request(REQUEST, deadline_ns=soon()).body == b"{}"
    connection.close()


@pytest.mark.parametrize("part", [b"", OK[:20], OK[:-1]])
@pytest.mark.parametrize("hard", [False, True])
def test_an_end_before_the_answer_is_whole_is_a_reset(peer: Peer, part: bytes, hard: bool) -> None:
    def cut(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(part)
        if hard:
            reset(connection)

    peer.serve(cut)
    assert trouble_of(Connection(peer.address)) is Trouble.RESET


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", OK + OK, b"\0" * 100]
)
def test_what_is_not_http_is_malformed(peer: Peer, answer: bytes) -> None:
    peer.serve(replies(answer))

    assert trouble_of(Connection(peer.address)) is Trouble.MALFORMED


@pytest.mark.parametrize("hard", [False, True])
def test_a_connection_that_ended_while_idle_is_replaced_before_anything_is_sent(peer: Peer, hard: bool) -> None:
    """Otherwise every healed link would turn the next write of each client into an unknown one."""
    ended = threading.Event()

    def once(connection: socket.socket) -> None:
        replies(OK)(connection)
        if hard:
            reset(connection)

    def again(connection: socket.socket) -> None:
        replies(OK)(connection)

    def closed() -> None:
        peer.threads[0].join(5)
        ended.set()

    peer.serve(once)
    connection = Connection(peer.address)
    connection.request(REQUEST, deadline_ns=soon())
    closed()
    assert ended.is_set()
    peer.serve(again)

    assert connection.request(REQUEST, deadline_ns=soon()).status == 200
    connection.close()


class _Broken:
    """A socket whose send fails at the given call."""

    def __init__(self, sent: list[int | OSError]) -> None:
        self._sent = sent

    def settimeout(self, timeout_s: float) -> None: ...

    def recv(self, size: int, flags: int = 0) -> bytes:
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        step = self._sent.pop(0)
        if isinstance(step, OSError):
            raise step
        return step

    def close(self) -> None: ...


@pytest.mark.parametrize("error", [BrokenPipeError(), ConnectionResetError(), TimeoutError()])
@pytest.mark.parametrize(("before", "trouble"), [([], Trouble.SEND_FAILED), ([5], Trouble.SEND_CUT)])
def test_a_failing_send_is_certain_only_when_no_byte_left(
    error: OSError, before: list[int | OSError], trouble: Trouble
) -> None:
    connection = Connection(Address("127.0.0.1", 1))
    connection._socket = _Broken([*before, error])  # type: ignore[assignment]

    assert trouble_of(connection) is trouble


def test_whatever_interrupts_a_request_closes_its_connection(peer: Peer) -> None:
    class Interrupt(BaseException):
        pass

    class Interrupted(_Broken):
        def send(self, data: bytes) -> int:
            raise Interrupt

    connection = Connection(peer.address)
    connection._socket = Interrupted([])  # type: ignore[assignment]
    with pytest.raises(Interrupt):
        connection.request(REQUEST, deadline_ns=soon())

    assert connection._socket is None


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@pytest.mark.parametrize("pieces", [[INTERIM + OK], [INTERIM, OK], [INTERIM[:30], INTERIM[30:] + OK[:5], OK[5:]]])
def test_interim_answers_are_not_the_answer(peer: Peer, pieces: list[bytes]) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)
        replies(OK)(connection)

    peer.serve(answer)
    connection = Connection(peer.address)
    for _ in range(2):
        assert connection.request(REQUEST, deadline_ns=soon()) == Response(200, b"{}", 3)
    connection.close()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_without_a_length_the_body_ends_with_the_connection(peer: Peer, version: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/" + version + b" 200 OK\r\nX-Attempts: 2\r\n\r\nsome")
        connection.sendall(b" text")

    peer.serve(answer, replies(OK))
    connection = Connection(peer.address)
    assert connection.request(REQUEST, deadline_ns=soon()) == Response(200, b"some text", 2)
    assert connection.request(REQUEST, deadline_ns=soon()).body == b"{}", "on another connection"
    connection.close()


def test_a_reset_is_not_the_end_of_such_a_body(peer: Peer) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nsome")
        reset(connection)

    peer.serve(answer)
    assert trouble_of(Connection(peer.address)) is Trouble.RESET


@pytest.mark.parametrize("head", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_answer_that_tells_its_length_and_ends_early_is_a_reset(peer: Peer, head: bytes) -> None:
    peer.serve(replies(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n5\r\n12"))

    assert trouble_of(Connection(peer.address)) is Trouble.RESET


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_statuses_without_a_body_are_not_waited_for(peer: Peer, status: bytes) -> None:
    """A 304 may tell the length of what it does not send (RFC 9110, 8.6)."""
    peer.serve(replies(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n", times=2))
    connection = Connection(peer.address)
    for _ in range(2):
        assert connection.request(REQUEST, deadline_ns=soon()).body == b""
    connection.close()


def test_the_answer_to_head_has_no_body(peer: Peer) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        replies(OK)(connection)

    peer.serve(answer)
    connection = Connection(peer.address)
    assert connection.head(b"HEAD / HTTP/1.1\r\nHost: sut\r\n\r\n", deadline_ns=soon()) == Response(200, b"")
    assert connection.request(REQUEST, deadline_ns=soon()).body == b"{}", "the next answer has one again"
    connection.close()


def test_after_a_body_where_there_can_be_none_the_connection_is_not_used_again(peer: Peer) -> None:
    peer.serve(replies(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n12345"), replies(OK))
    connection = Connection(peer.address)

    assert connection.request(REQUEST, deadline_ns=soon()).status == 204
    assert connection.request(REQUEST, deadline_ns=soon()) == Response(200, b"{}", 3)
    connection.close()


def test_a_body_that_nobody_needs_is_read_and_not_kept(peer: Peer) -> None:
    body = b"x" * 200_000
    peer.serve(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + body, times=2))
    connection = Connection(peer.address, keep_bodies=False)
    for _ in range(2):
        response = connection.request(REQUEST, deadline_ns=soon())
        assert (response.body, response.size) == (b"", 200_000)
    connection.close()


@pytest.mark.parametrize("times", [1, 3])
def test_an_endless_answer_ends_at_the_deadline(peer: Peer, times: int) -> None:
    done = threading.Event()

    def endless(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while not done.is_set():
                connection.sendall(b"x" * 1000 * times)

    peer.serve(endless)
    assert trouble_of(Connection(peer.address, keep_bodies=False), seconds=0.1) is Trouble.TIMEOUT
    done.set()


def test_switching_protocols_is_no_answer(peer: Peer) -> None:
    peer.serve(replies(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))

    assert trouble_of(Connection(peer.address)) is Trouble.MALFORMED
