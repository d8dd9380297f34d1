"""The etcd clients: what is sent to the gateway, and what every answer means. The gateway is a scripted HTTP server."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aftershock.harness.interfaces import Address
from aftershock.harness.operation import Outcome
from aftershock.workloads import outcomes
from aftershock.workloads.client import ClientSetup
from aftershock.workloads.clients.etcd import EtcdClient, EtcdLockSetClient
from aftershock.workloads.requests import Request

HEADER = {"cluster_id": "1", "revision": "12", "raft_term": "2"}
KEY = base64.b64encode(b"k-1").decode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kv(value: str, *, revision: str = "9") -> dict[str, str]:
    return {"key": KEY, "create_revision": "3", "mod_revision": revision, "version": "2", "value": encoded(value)}


class Gateway:
    """Answers POSTs by path. An answer is (status, body), or a function of the request's body that gives one."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any] | Callable[[Any], tuple[int, Any]]] = {}
        self.requests: list[tuple[str, Any]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path = self.path.removeprefix("/v3/")
                gateway.requests.append((path, body))
                answer = gateway.answers.get(path, (404, b"Not Found"))
                status, content = answer(body) if callable(answer) else answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """It tells nobody."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = Address(*self.server.server_address[:2])  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.close()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[EtcdClient]:
    made = EtcdClient(ClientSetup(addresses={"n1": gateway.address}, settings={"serializable": False}))
    yield made
    made.close()


def soon(seconds: float = 5) -> int:
    return time.monotonic_ns() + round(seconds * 1e9)


def done(client: Any, f: str, value: int | None = None, expected: int | None = None) -> outcomes.Completion:
    request = Request(f, 1, value, expected)
    found: outcomes.Completion = client.execute(request, key="k-1", request_id="t", deadline_ns=soon()).completion
    return found


# ------------------------------------------------------------------------------------------------ what is sent


@pytest.mark.parametrize(
    ("f", "value", "expected", "path", "body"),
    [
        ("read", None, None, "kv/range", {"key": KEY, "serializable": False}),
        ("write", 5, None, "kv/put", {"key": KEY, "value": encoded("5")}),
        ("delete", None, None, "kv/deleterange", {"key": KEY}),
    ],
)
def test_plain_operations(
    gateway: Gateway, client: EtcdClient, f: str, value: int | None, expected: int | None, path: str, body: Any
) -> None:
    done(client, f, value, expected)

    assert gateway.requests == [(path, body)]


@pytest.mark.parametrize(
    ("f", "expected", "guard"),
    [
        ("insert", None, {"target": "CREATE", "create_revision": 0}),
        ("cas", None, {"target": "CREATE", "create_revision": 0}),
        ("cas", 4, {"target": "VALUE", "value": encoded("4")}),
    ],
)
def test_compare_and_set_is_a_transaction_that_reads_what_stands_there(
    gateway: Gateway, client: EtcdClient, f: str, expected: int | None, guard: Any
) -> None:
    done(client, f, 5, expected)

    ((path, body),) = gateway.requests
    assert path == "kv/txn"
    assert body == {
        "compare": [{"key": KEY, "result": "EQUAL", **guard}],
        "success": [{"request_put": {"key": KEY, "value": encoded("5")}}],
        "failure": [{"request_range": {"key": KEY}}],
    }


def test_serializable_reads_are_asked_for_by_the_setting_but_never_for_many_keys(gateway: Gateway) -> None:
    client = EtcdClient(ClientSetup(addresses={"n1": gateway.address}, settings={"serializable": True}))
    done(client, "read")
    client.read_many(["a", "b"], request_id="t", deadline_ns=soon())
    client.close()

    assert gateway.requests[0][1]["serializable"] is True
    ranges = [{"request_range": {"key": encoded(key)}} for key in ("a", "b")]
    assert gateway.requests[1] == ("kv/txn", {"success": ranges})


# ------------------------------------------------------------------------------------------------ what is answered


@pytest.mark.parametrize(
    ("f", "answer", "result", "seen", "version"),
    [
        ("read", {"header": HEADER, "kvs": [kv("7")], "count": "1"}, "found", 7, 9),
        ("read", {"header": HEADER}, "not-found", None, None),
        ("write", {"header": HEADER}, "done", None, 12),
        ("delete", {"header": HEADER, "deleted": "1"}, "done", None, 12),
        ("delete", {"header": HEADER}, "done", None, None),
        ("insert", {"header": HEADER, "succeeded": True, "responses": [{}]}, "done", None, 12),
        ("cas", {"header": HEADER, "succeeded": True, "responses": [{}]}, "done", None, 12),
        (
            "cas",
            {"header": HEADER, "responses": [{"response_range": {"header": {"revision": "12"}, "kvs": [kv("-7")]}}]},
            "mismatch",
            -7,
            9,
        ),
        (
            "cas",
            {"header": HEADER, "responses": [{"response_range": {"header": {"revision": "12"}}}]},
            "mismatch",
            None,
            None,
        ),
    ],
)
def test_answers(
    gateway: Gateway,
    client: EtcdClient,
    f: str,
    answer: Any,
    result: str,
    seen: int | None,
    version: int | None,
) -> None:
    gateway.answers = dict.fromkeys(("kv/range", "kv/put", "kv/txn", "kv/deleterange"), (200, answer))

    completion = done(client, f, 5, 4)

    assert completion == outcomes.Completion(Outcome.OK, result, seen=seen, version=version)


@pytest.mark.parametrize("f", sorted(EtcdClient.functions))
@pytest.mark.parametrize(
    ("status", "body", "outcome", "error"),
    [
        (503, {"error": "etcdserver: request timed out", "code": 14}, Outcome.UNKNOWN, "server-error"),
        (503, {"message": "etcdserver: leader changed", "code": 14}, Outcome.UNKNOWN, "server-error"),
        (503, {"message": "etcdserver: no leader", "code": 14}, Outcome.UNKNOWN, "server-error"),
        (503, {"message": "etcdserver: server stopped", "code": 14}, Outcome.UNKNOWN, "server-error"),
        (503, {"message": "transport is closing", "code": 14}, Outcome.UNKNOWN, "server-error"),
        (408, {"message": "context deadline exceeded", "code": 4}, Outcome.UNKNOWN, "server-error"),
        (503, {"message": "etcdserver: too many requests", "code": 8}, Outcome.FAIL, "refused"),
        (503, {"message": "etcdserver: mvcc: database space exceeded", "code": 8}, Outcome.FAIL, "refused"),
        (400, {"message": "etcdserver: key is not provided", "code": 3}, Outcome.FAIL, "bad-request"),
        (500, {"message": "what is this", "code": 2}, Outcome.UNKNOWN, "server-error"),
        (404, b"Not Found", Outcome.UNKNOWN, "unexpected-status"),
        (301, b"", Outcome.UNKNOWN, "unexpected-status"),
        (502, b"<html>", Outcome.UNKNOWN, "server-error"),
        (200, b"not json", Outcome.UNKNOWN, "malformed"),
        (200, [], Outcome.UNKNOWN, "malformed"),
        (200, {}, Outcome.UNKNOWN, "malformed"),
        (200, {"header": {}, "kvs": [kv("hello")]}, Outcome.UNKNOWN, "malformed"),
        (200, {"header": {}, "kvs": [kv("7", revision="x")]}, Outcome.UNKNOWN, "malformed"),
        (200, {"header": {}, "kvs": [kv("7"), kv("8")]}, Outcome.UNKNOWN, "malformed"),
        (200, {"header": {}, "kvs": [{"value": "="}]}, Outcome.UNKNOWN, "malformed"),
    ],
)
def test_what_is_no_answer(
    gateway: Gateway, client: EtcdClient, f: str, status: int, body: Any, outcome: Outcome, error: str
) -> None:
    gateway.answers = dict.fromkeys(("kv/range", "kv/put", "kv/txn", "kv/deleterange"), (status, body))

    answer = client.execute(Request(f, 1, 5, 4), key="k-1", request_id="t", deadline_ns=soon())

    assert (answer.completion.outcome, answer.completion.error) == (outcome, error)
    assert bool(answer.note) == (error in outcomes.DEFECTS)


def test_many_keys(gateway: Gateway, client: EtcdClient) -> None:
    gateway.answers["kv/txn"] = (
        200,
        {
            "header": HEADER,
            "succeeded": True,
            "responses": [
                {"response_range": {"header": {"revision": "12"}, "kvs": [kv("7")]}},
                {"response_range": {"header": {"revision": "12"}}},
                {"response_range": {"header": {"revision": "12"}, "kvs": [kv("x")]}},
            ],
        },
    )

    found = client.read_many(["a", "b", "c"], request_id="t", deadline_ns=soon())

    assert [one.result or one.error for one in found] == ["found", "not-found", "malformed"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, {"header": HEADER, "responses": [{}]}), "malformed"),
        ((200, {"header": HEADER}), "malformed"),
        ((503, {"message": "etcdserver: request timed out", "code": 14}), "server-error"),
    ],
)
def test_many_keys_that_were_not_read(gateway: Gateway, client: EtcdClient, answer: Any, error: str) -> None:
    gateway.answers["kv/txn"] = answer

    found = client.read_many(["a", "b"], request_id="t", deadline_ns=soon())

    assert [one.error for one in found] == [error, error]


# ------------------------------------------------------------------------------------------------ the lock-set


class Store:
    """As much of etcd as the lock-set uses: one value, one lock. `expired` is what a leader's pause may do to it."""

    def __init__(self, gateway: Gateway) -> None:
        self.text: str | None = None
        self.expired = False
        gateway.answers = {
            "lease/grant": (200, {"header": HEADER, "ID": "77", "TTL": "2"}),
            "lock/lock": (200, {"header": HEADER, "key": encoded("lock/4d")}),
            "lease/revoke": (200, {"header": HEADER}),
            "kv/range": lambda _: (200, self._range()),
            "kv/txn": lambda body: (200, self._txn(body)),
        }

    def _range(self) -> Any:
        return {"header": HEADER} | ({} if self.text is None else {"kvs": [kv(self.text)]})

    def _txn(self, body: Any) -> Any:
        if body["compare"] and self.expired:
            return {"header": HEADER}
        self.text = base64.b64decode(body["success"][0]["request_put"]["value"]).decode()
        return {"header": HEADER, "succeeded": True}


def lock_set(gateway: Gateway, *, fenced: bool) -> EtcdLockSetClient:
    settings = {"fenced": fenced, "lock_ttl_s": 2, "hold_s": 0.0}
    return EtcdLockSetClient(ClientSetup(addresses={"n1": gateway.address}, settings=settings))


@pytest.mark.parametrize("fenced", [False, True])
def test_an_insert_takes_the_lock_and_extends_the_list(gateway: Gateway, fenced: bool) -> None:
    store = Store(gateway)
    store.text = "[3, 4]"
    client = lock_set(gateway, fenced=fenced)

    completion = done(client, "insert", 5)
    client.close()

    assert completion == outcomes.Completion(Outcome.OK, "done")
    assert store.text == "[3, 4, 5]"
    assert gateway.paths() == ["lease/grant", "lock/lock", "kv/range", "kv/txn", "lease/revoke"]
    assert gateway.requests[0][1] == {"TTL": 2}
    assert gateway.requests[1][1] == {"name": encoded("lock"), "lease": "77"}
    guard = {"key": encoded("lock/4d"), "target": "VERSION", "result": "GREATER", "version": 0}
    assert gateway.requests[3][1]["compare"] == ([guard] if fenced else [])
    assert gateway.requests[4][1] == {"ID": "77"}


def test_a_lock_that_was_lost_meanwhile_is_noticed_by_the_fence_alone(gateway: Gateway) -> None:
    store = Store(gateway)
    store.expired = True
    fenced, trusting = lock_set(gateway, fenced=True), lock_set(gateway, fenced=False)

    refused = done(fenced, "insert", 5)
    assert (refused.outcome, refused.error, store.text) == (Outcome.FAIL, "fenced", None)

    assert done(trusting, "insert", 6).result == "done"
    assert store.text == "[6]"
    fenced.close()
    trusting.close()


@pytest.mark.parametrize("path", ["lease/grant", "lock/lock", "kv/range"])
@pytest.mark.parametrize("answer", [(503, {"message": "etcdserver: request timed out", "code": 14}), (200, b"x")])
def test_until_the_write_nothing_has_happened(gateway: Gateway, path: str, answer: tuple[int, Any]) -> None:
    store = Store(gateway)
    gateway.answers[path] = answer
    client = lock_set(gateway, fenced=False)

    completion = done(client, "insert", 5)
    client.close()

    assert (completion.outcome, completion.error, store.text) == (Outcome.FAIL, "no-lock", None)


def test_a_write_without_an_answer_is_unknown(gateway: Gateway) -> None:
    Store(gateway)
    gateway.answers["kv/txn"] = (503, {"message": "etcdserver: request timed out", "code": 14})
    client = lock_set(gateway, fenced=True)

    completion = done(client, "insert", 5)
    client.close()

    assert (completion.outcome, completion.error) == (Outcome.UNKNOWN, "server-error")


def test_a_lock_that_cannot_be_given_back_changes_nothing(gateway: Gateway) -> None:
    Store(gateway)
    gateway.answers["lease/revoke"] = (503, {"code": 14})
    client = lock_set(gateway, fenced=True)

    assert done(client, "insert", 5).result == "done"
    client.close()


def test_reads_look_into_the_set(gateway: Gateway) -> None:
    store = Store(gateway)
    client = lock_set(gateway, fenced=False)
    assert done(client, "read").result == "not-found"
    store.text = "[3, 1]"

    found = client.read_many(["i-1", "i-2"], request_id="t", deadline_ns=soon())
    assert [(one.result, one.seen) for one in found] == [("found", 1), ("not-found", None)]

    store.text = '{"not": "a list"}'
    assert done(client, "read").error == "malformed"
    client.close()
