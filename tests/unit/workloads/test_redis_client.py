"""The Redis client: whom it asks, when it asks again, and what every reply means. Its peers are scripted servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import hiredis
import pytest
from aftershock.harness.interfaces import Address
from aftershock.harness.operation import Outcome
from aftershock.workloads import outcomes
from aftershock.workloads.client import ClientSetup
from aftershock.workloads.clients.redis import RedisClient
from aftershock.workloads.clients.resp import RespConnection
from aftershock.workloads.http_client import ClientError, Trouble
from aftershock.workloads.requests import Request

Reply = bytes | Callable[[tuple[str, ...]], bytes | None]
MASTER = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
SLAVE = b"*5\r\n$5\r\nslave\r\n$2\r\nip\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"
NIL = b"$-1\r\n"


class Server:
    """Answers each command by its first word. A reply of None closes the connection, b"" stays silent."""

    def __init__(self, **replies: Reply) -> None:
        self.replies: dict[str, Reply] = {"ROLE": MASTER, **replies}
        self.commands: list[tuple[str, ...]] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address(*self._listener.getsockname())
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def words(self) -> list[str]:
        return [command[0] for command in self.commands]

    def hang_up(self) -> None:
        for connection in self._open:
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Also when it is closed already."""
        for opened in (self._listener, *self._open):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        for opened in (self._listener, *self._open):
            opened.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            reader.feed(data)
            while (command := reader.gets()) is not False:
                words = tuple(part.decode() for part in command)
                self.commands.append(words)
                reply = self.replies[words[0]]
                said = reply(words) if callable(reply) else reply
                if said is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(said)


class World:
    """One sentinel and two nodes; the sentinel names n1 until told otherwise."""

    def __init__(self, stack: ExitStack) -> None:
        self.primary: str | None = "n1"
        self.nodes = {name: self._made(stack) for name in ("n1", "n2")}
        self.sentinel = self._made(stack, SENTINEL=lambda _: self._named())

    def _made(self, stack: ExitStack, **replies: Reply) -> Server:
        server = Server(**replies)
        stack.callback(server.close)
        return server

    def _named(self) -> bytes:
        if self.primary is None:
            return b"*-1\r\n"
        ip, port = f"10.0.0.{self.primary[1:]}", "6379"
        return f"*2\r\n${len(ip)}\r\n{ip}\r\n$4\r\n{port}\r\n".encode()

    def client(self, *, wait: int = 0) -> RedisClient:
        settings = {
            "members": {"10.0.0.1:6379": "n1", "10.0.0.2:6379": "n2"},
            "service": "aftershock",
            "wait": wait,
            "wait_timeout_ms": 300,
        }
        addresses = {"s1": self.sentinel.address, **{name: node.address for name, node in self.nodes.items()}}
        return RedisClient(ClientSetup(addresses=addresses, settings=settings))


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


def soon(seconds: float = 5) -> int:
    return time.monotonic_ns() + round(seconds * 1e9)


def done(client: RedisClient, f: str, value: int | None = None, *, seconds: float = 5) -> outcomes.Completion:
    return client.execute(Request(f, 1, value), key="k-1", request_id="t", deadline_ns=soon(seconds)).completion


# ------------------------------------------------------------------------------------------------ finding the primary


def test_it_asks_its_sentinel_once_and_checks_the_role(world: World) -> None:
    world.nodes["n1"].replies["GET"] = b"$1\r\n7\r\n"
    client = world.client()

    assert [done(client, "read").seen for _ in range(3)] == [7, 7, 7]
    assert world.sentinel.commands == [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "aftershock")]
    assert world.nodes["n1"].words() == ["ROLE", "GET", "GET", "GET"]
    client.close()


def test_it_asks_again_when_the_node_hung_up_while_idle_and_nothing_is_lost(world: World) -> None:
    world.nodes["n1"].replies["GET"] = world.nodes["n2"].replies["GET"] = NIL
    client = world.client()
    client.connect(deadline_ns=soon())
    world.nodes["n1"].hang_up()
    world.primary = "n2"

    assert done(client, "read").result == "not-found"
    assert world.nodes["n2"].words() == ["ROLE", "GET"]
    client.close()


def test_a_node_that_hung_up_is_asked_for_its_role_again_even_when_it_is_named_again(world: World) -> None:
    world.nodes["n1"].replies["GET"] = NIL
    client = world.client()
    client.connect(deadline_ns=soon())
    world.nodes["n1"].replies["ROLE"] = SLAVE
    world.nodes["n1"].hang_up()

    completion = done(client, "read")

    assert (completion.outcome, completion.error) == (Outcome.FAIL, "not-primary")
    assert "GET" not in world.nodes["n1"].words(), "a replica must not be read in the primary's place"


def test_after_readonly_it_asks_again(world: World) -> None:
    world.nodes["n1"].replies["SET"] = b"-READONLY You can't write against a read only replica.\r\n"
    world.nodes["n2"].replies["SET"] = b"+OK\r\n"
    client = world.client()

    first = done(client, "write", 5)
    world.primary = "n2"

    assert (first.outcome, first.error) == (Outcome.FAIL, "not-primary")
    assert done(client, "write", 5).result == "done"
    client.close()


def test_what_one_client_learns_the_others_of_its_group_know(world: World) -> None:
    for node in world.nodes.values():
        node.replies["GET"] = NIL
    first, second = world.client(), world.client()
    first.connect(deadline_ns=soon())
    second.connect(deadline_ns=soon())
    world.primary = "n2"
    first.close()

    assert done(first, "read").result == done(second, "read").result == "not-found"
    assert "GET" not in world.nodes["n1"].words()
    assert world.nodes["n2"].words().count("GET") == 2
    first.close()
    second.close()


@pytest.mark.parametrize("stranger", [None, "n9"])
def test_without_a_primary_that_is_known_nothing_is_sent(world: World, stranger: str | None) -> None:
    world.primary = stranger

    completion = done(world.client(), "write", 5)

    assert (completion.outcome, completion.error) == (Outcome.FAIL, "no-primary")
    assert not any(node.commands for node in world.nodes.values())


@pytest.mark.parametrize("reply", [b"", None, b"-LOADING x\r\n", b"?garbage\r\n", b":1\r\n", b"*1\r\n$1\r\na\r\n"])
def test_a_sentinel_that_says_nothing_useful_makes_a_certain_failure(world: World, reply: bytes | None) -> None:
    world.sentinel.replies["SENTINEL"] = lambda _: reply

    completion = done(world.client(), "write", 5, seconds=0.2)

    assert (completion.outcome, completion.error) == (Outcome.FAIL, "no-primary")


@pytest.mark.parametrize("reply", [b"", None])
def test_a_primary_that_does_not_tell_its_role_makes_a_certain_failure(world: World, reply: bytes | None) -> None:
    world.nodes["n1"].replies["ROLE"] = lambda _: reply

    completion = done(world.client(), "write", 5, seconds=0.2)

    assert (completion.outcome, completion.error) == (Outcome.FAIL, "no-primary")
    assert "SET" not in world.nodes["n1"].words()


def test_a_sentinel_that_is_gone_makes_a_certain_failure(world: World) -> None:
    client = world.client()
    world.sentinel.close()

    completion = done(client, "write", 5)

    assert (completion.outcome, completion.error) == (Outcome.FAIL, "connect-refused")


# ------------------------------------------------------------------------------------------------ replies


@pytest.mark.parametrize(
    ("f", "reply", "result", "seen"),
    [
        ("read", b"$1\r\n7\r\n", "found", 7),
        ("read", b"$2\r\n-7\r\n", "found", -7),
        ("read", NIL, "not-found", None),
        ("write", b"+OK\r\n", "done", None),
        ("insert", NIL, "done", None),
        ("insert", b"$1\r\n9\r\n", "mismatch", 9),
    ],
)
def test_answers(world: World, f: str, reply: bytes, result: str, seen: int | None) -> None:
    world.nodes["n1"].replies |= {"GET": reply, "SET": reply}
    client = world.client()

    completion = done(client, f, None if f == "read" else 5)

    assert (completion.outcome, completion.result, completion.seen) == (Outcome.OK, result, seen)
    assert completion.version is None, "Redis tells no version"
    client.close()


def test_commands_are_what_was_asked(world: World) -> None:
    world.nodes["n1"].replies |= {"GET": NIL, "SET": NIL}
    client = world.client()
    for f in ("read", "write", "insert"):
        done(client, f, 5)

    assert world.nodes["n1"].commands[1:] == [
        ("GET", "k-1"),
        ("SET", "k-1", "5"),
        ("SET", "k-1", "5", "NX", "GET"),
    ]
    client.close()


@pytest.mark.parametrize("f", ["read", "write", "insert"])
@pytest.mark.parametrize(
    ("reply", "outcome", "error"),
    [
        (b"-READONLY x\r\n", Outcome.FAIL, "not-primary"),
        (b"-MASTERDOWN x\r\n", Outcome.FAIL, "not-primary"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", Outcome.FAIL, "refused"),
        (b"-LOADING x\r\n", Outcome.FAIL, "refused"),
        (b"-OOM x\r\n", Outcome.FAIL, "refused"),
        (b"-MISCONF x\r\n", Outcome.FAIL, "refused"),
        (b"-BUSY x\r\n", Outcome.FAIL, "refused"),
        (b"-WRONGTYPE x\r\n", Outcome.FAIL, "bad-request"),
        (b"-NOAUTH x\r\n", Outcome.FAIL, "bad-request"),
        (b"-ERR max number of clients reached\r\n", Outcome.UNKNOWN, "protocol-error"),
        (b"-UNBLOCKED x\r\n", Outcome.UNKNOWN, "protocol-error"),
        (b"-SOMETHING-NEW x\r\n", Outcome.UNKNOWN, "protocol-error"),
        (b"$5\r\nhello\r\n", Outcome.UNKNOWN, "malformed"),
        (b"$20\r\n99999999999999999999\r\n", Outcome.UNKNOWN, "malformed"),
        (b":7\r\n", Outcome.UNKNOWN, "malformed"),
        (b"*0\r\n", Outcome.UNKNOWN, "malformed"),
        (b"?x\r\n", Outcome.UNKNOWN, "malformed"),
        (b"", Outcome.UNKNOWN, "timeout"),
        (None, Outcome.UNKNOWN, "reset"),
    ],
)
def test_what_is_no_answer(world: World, f: str, reply: bytes | None, outcome: Outcome, error: str) -> None:
    world.nodes["n1"].replies |= {"GET": lambda _: reply, "SET": lambda _: reply}
    client = world.client()
    client.connect(deadline_ns=soon())

    completion = done(client, f, 5, seconds=0.1 if reply == b"" else 5)

    assert (completion.outcome, completion.error) == (outcome, error)
    client.close()


def test_a_defect_says_what_came(world: World) -> None:
    world.nodes["n1"].replies["SET"] = b"-WRONGTYPE Operation against a key\r\n"
    client = world.client()

    answer = client.execute(Request("write", 1, 5), key="k-1", request_id="t", deadline_ns=soon())

    assert "WRONGTYPE Operation against a key" in answer.note
    client.close()


# ------------------------------------------------------------------------------------------------ WAIT


@pytest.mark.parametrize(
    ("reply", "outcome", "error"),
    [
        (b":2\r\n", Outcome.OK, ""),
        (b":3\r\n", Outcome.OK, ""),
        (b":1\r\n", Outcome.UNKNOWN, "not-replicated"),
        (b":0\r\n", Outcome.UNKNOWN, "not-replicated"),
        (b"-UNBLOCKED force unblock\r\n", Outcome.UNKNOWN, "not-replicated"),
        (b"-ERR WAIT cannot be used with replica instances.\r\n", Outcome.UNKNOWN, "not-replicated"),
        (b"$1\r\n2\r\n", Outcome.UNKNOWN, "not-replicated"),
        (b"", Outcome.UNKNOWN, "timeout"),
        (None, Outcome.UNKNOWN, "reset"),
    ],
)
@pytest.mark.parametrize(("f", "said"), [("write", b"+OK\r\n"), ("insert", NIL)])
def test_a_write_counts_when_enough_replicas_have_it(
    world: World, f: str, said: bytes, reply: bytes | None, outcome: Outcome, error: str
) -> None:
    world.nodes["n1"].replies |= {"SET": said, "WAIT": lambda _: reply}
    client = world.client(wait=2)

    completion = done(client, f, 5, seconds=0.2 if reply == b"" else 5)

    assert (completion.outcome, completion.error) == (outcome, error)
    assert world.nodes["n1"].commands[-1][:2] == ("WAIT", "2")
    assert 0 < int(world.nodes["n1"].commands[-1][2]) <= 300
    client.close()


def test_wait_is_never_asked_on_another_connection_than_the_write(world: World) -> None:
    # A fresh connection has no writes, so WAIT there would say at once that every replica has them.
    world.nodes["n1"].replies |= {"SET": lambda _: None, "WAIT": b":2\r\n"}
    client = world.client(wait=2)

    completion = done(client, "insert", 5)

    assert (completion.outcome, completion.error) == (Outcome.UNKNOWN, "reset")
    assert world.nodes["n1"].connections == 1
    client.close()


def test_a_refused_write_stays_refused_whatever_wait_says(world: World) -> None:
    world.nodes["n1"].replies |= {"SET": b"-NOREPLICAS x\r\n", "WAIT": b":0\r\n"}
    client = world.client(wait=2)

    assert done(client, "insert", 5).outcome is Outcome.FAIL


def test_reads_and_mismatches_wait_for_nobody(world: World) -> None:
    world.nodes["n1"].replies |= {"SET": b"$1\r\n9\r\n", "WAIT": b":0\r\n", "GET": NIL}
    client = world.client(wait=2)

    assert done(client, "insert", 5).result == "mismatch"
    assert done(client, "read").result == "not-found"
    client.close()


# ------------------------------------------------------------------------------------------------ reading many


def test_many_keys_are_read_at_the_primary_in_one_go(world: World) -> None:
    world.nodes["n1"].replies["MGET"] = b"*3\r\n$1\r\n7\r\n$-1\r\n$1\r\nx\r\n"
    client = world.client()

    found = client.read_many(["a", "b", "c"], request_id="t", deadline_ns=soon())

    assert [one.result or one.error for one in found] == ["found", "not-found", "malformed"]
    client.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"*1\r\n$-1\r\n", "malformed"),
        (b":1\r\n", "malformed"),
        (b"-LOADING x\r\n", "refused"),
        (None, "reset"),
    ],
)
def test_many_keys_that_were_not_read(world: World, reply: bytes | None, error: str) -> None:
    world.nodes["n1"].replies["MGET"] = lambda _: reply
    client = world.client()

    found = client.read_many(["a", "b"], request_id="t", deadline_ns=soon())

    assert [one.error for one in found] == [error, error]
    client.close()


# ------------------------------------------------------------------------------------------------ RESP


def test_replies_may_come_in_any_pieces() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    connection = RespConnection(Address(*listener.getsockname()), deadline_ns=soon())
    peer, _ = listener.accept()
    data = b"*2\r\n$3\r\nf\r\n\r\n:-1\r\n-ERR no\r\n$-1\r\n"

    def drip() -> None:
        peer.recv(65536)
        for place in range(len(data)):
            peer.sendall(data[place : place + 1])

    thread = threading.Thread(target=drip)
    thread.start()
    found = connection.ask(("A",), ("B",), ("C",), deadline_ns=soon())
    thread.join()

    assert found[0] == [b"f\r\n", -1]
    assert isinstance(found[1], hiredis.ReplyError)
    assert found[2] is None
    assert connection.alive()
    for one in (connection, peer, listener):
        one.close()


@pytest.mark.parametrize("data", [b"+OK\r\n+extra\r\n", b"+OK\r\n$5\r\nhal", b"HTTP/1.1 400 Bad Request\r\n"])
def test_bytes_that_nobody_asked_for_end_the_connection(data: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = RespConnection(Address(*listener.getsockname()), deadline_ns=soon())
        peer, _ = listener.accept()
        with peer:
            peer.sendall(data)
            with pytest.raises(ClientError) as caught:
                connection.ask(("PING",), deadline_ns=soon())

    assert caught.value.trouble is Trouble.MALFORMED
    assert not connection.alive()
