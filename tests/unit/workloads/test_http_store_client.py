"""A store that somebody else wrote, by templates: what is sent, and what each answer says of a value."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aftershock.harness.interfaces import Address
from aftershock.harness.operation import REQUEST, Outcome
from aftershock.workloads.client import ClientSetup
from aftershock.workloads.clients.http_store import HttpStoreClient, HttpStoreSettings
from aftershock.workloads.http_requests import HttpRequest, Template
from aftershock.workloads.outcomes import Completion
from aftershock.workloads.requests import Request
from pydantic import ValidationError

from .peers import Peer, listening, replies, soon

STORE: dict[str, Any] = {
    "write": {"method": "PUT", "path": "/k/{key}", "body": '{"v": {value}}', "expect_status": [200, 201]},
    "read": {"path": "/k/{key}"},
    "value": "/data/0/v",
    "refused_status": [429],
}


@pytest.fixture
def peer() -> Iterator[Peer]:
    with listening() as made:
        yield made


@pytest.fixture
def client(peer: Peer) -> Iterator[HttpStoreClient]:
    made = HttpStoreClient(ClientSetup(addresses={"store": peer.address}, settings=STORE))
    yield made
    made.close()


def ask(client: HttpStoreClient, f: str, value: int | None = None) -> Completion:
    request = Request(f, 7, value)
    return client.execute(request, key="i-7", request_id="t-1:2", deadline_ns=soon()).completion


def answer(status: int, body: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_templates_are_filled(peer: Peer, client: HttpStoreClient) -> None:
    got: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        for status in (201, 404):
            got.append(connection.recv(65536))
            connection.sendall(answer(status))

    peer.serve(listen)
    assert ask(client, "insert", 5_000_003) == Completion(Outcome.OK, "done")
    assert ask(client, "read") == Completion(Outcome.OK, "not-found")
    assert got[0].startswith(b"PUT /k/i-7 HTTP/1.1\r\n")
    assert got[0].endswith(b'Content-Length: 14\r\n\r\n{"v": 5000003}')
    assert got[1].startswith(b"GET /k/i-7 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("f", "status", "body", "outcome", "error"),
    [
        ("insert", 204, "", Outcome.UNKNOWN, "http-2xx"),
        ("insert", 404, "", Outcome.UNKNOWN, "http-4xx"),
        ("insert", 409, "", Outcome.UNKNOWN, "http-4xx"),
        ("insert", 429, "", Outcome.FAIL, "refused"),
        ("insert", 503, "", Outcome.UNKNOWN, "http-5xx"),
        ("read", 429, "", Outcome.UNKNOWN, "http-4xx"),
        ("read", 500, "", Outcome.UNKNOWN, "http-5xx"),
        ("read", 200, "no json", Outcome.UNKNOWN, "malformed"),
        ("read", 200, "", Outcome.UNKNOWN, "malformed"),
        ("read", 200, "[" * 100_000, Outcome.UNKNOWN, "malformed"),
        ("read", 200, '{"data": []}', Outcome.UNKNOWN, "malformed"),
        ("read", 200, '{"data": {"0": {"w": 5}}}', Outcome.UNKNOWN, "malformed"),
        ("read", 200, '{"data": [{"v": true}]}', Outcome.UNKNOWN, "malformed"),
        ("read", 200, '{"data": [{"v": null}]}', Outcome.UNKNOWN, "malformed"),
        ("read", 200, '{"data": [{"v": 5.0}]}', Outcome.UNKNOWN, "malformed"),
        ("read", 200, '{"data": [{"v": 9223372036854775808}]}', Outcome.UNKNOWN, "malformed"),
        ("read", 200, '{"data": [{"v": "five"}]}', Outcome.UNKNOWN, "malformed"),
    ],
)
def test_what_is_no_answer(
    peer: Peer, client: HttpStoreClient, f: str, status: int, body: str, outcome: Outcome, error: str
) -> None:
    peer.serve(replies(answer(status, body)))
    completion = ask(client, f, 5)
    client.close()

    assert (completion.outcome, completion.error, completion.seen) == (outcome, error, None)


@pytest.mark.parametrize("body", ['{"data": [{"v": -5}]}', '{"data": [{"v": "-5"}]}', '{"data": {"0": {"v": -5}}}'])
def test_the_value_is_where_the_pointer_says(peer: Peer, client: HttpStoreClient, body: str) -> None:
    peer.serve(replies(answer(200, body)))

    assert ask(client, "read") == Completion(Outcome.OK, "found", seen=-5)


def test_many_keys_are_read_one_after_the_other(peer: Peer, client: HttpStoreClient) -> None:
    def listen(connection: socket.socket) -> None:
        for status, body in ((200, '{"data": [{"v": 1}]}'), (404, ""), (500, "")):
            connection.recv(65536)
            connection.sendall(answer(status, body))

    peer.serve(listen)
    found = client.read_many(["i-1", "i-2", "i-3"], request_id="t-1:2", deadline_ns=soon())

    assert [(c.result, c.seen, c.error) for c in found] == [
        ("found", 1, ""),
        ("not-found", None, ""),
        ("", None, "http-5xx"),
    ]


def test_keys_that_there_is_no_time_for_are_not_read(client: HttpStoreClient) -> None:
    found = client.read_many(["i-1", "i-2"], request_id="t-1:2", deadline_ns=soon(-1))

    assert [c.outcome for c in found] == [Outcome.FAIL] * 2, "and nothing was sent"


def test_it_makes_requests_without_values_too(peer: Peer, client: HttpStoreClient) -> None:
    peer.serve(replies(answer(200)))
    template = Template.of(HttpRequest(path="/health"))
    done = client.execute(Request(REQUEST, 0, payload=template), key="x", request_id="t-1:2", deadline_ns=soon())

    assert done.completion == Completion(Outcome.OK, "done", seen=200)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"write": {"method": "PUT", "path": "/k", "body": "{value}"}}, "write: {key} stands nowhere"),
        ({"write": {"method": "PUT", "path": "/k/{key}"}}, "write: {value} stands nowhere"),
        ({"read": {"path": "/k"}}, "read: {key} stands nowhere"),
        ({"read": {"path": "/k/{key}", "method": "HEAD"}}, "needs an answer with a body"),
        ({"absent_status": [200]}, "a status that absent_status does not have"),
        ({"absent_status": []}, "at least 1 item"),
        ({"refused_status": [201]}, "cannot both be expected and mean that it was refused"),
        ({"value": "data"}, "expected a JSON pointer such as /value"),
    ],
)
def test_settings_that_could_not_work_are_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpStoreSettings.model_validate({**STORE, **change})
    assert complaint in str(caught.value)


def test_its_settings_are_read_from_json() -> None:
    written = HttpStoreSettings.model_validate(STORE).model_dump(mode="json")

    assert HttpStoreClient(ClientSetup(addresses={"a": Address("127.0.0.1", 1)}, settings=written))


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
@pytest.mark.parametrize("f", ["insert", "read"])
def test_being_sent_elsewhere_is_no_answer_unless_the_templates_say_so(peer: Peer, f: str, status: int) -> None:
    """A follower that redirects to the leader has written nothing: not an acknowledgement, whatever requests take."""
    settings = {**STORE, "write": {key: STORE["write"][key] for key in ("method", "path", "body")}}
    client = HttpStoreClient(ClientSetup(addresses={"store": peer.address}, settings=settings))
    peer.serve(replies(answer(status, '{"data": [{"v": 1}]}' if status != 304 else "")))
    completion = ask(client, f, 5)
    client.close()

    assert completion == Completion(Outcome.UNKNOWN, error="http-3xx")
