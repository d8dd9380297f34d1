"""The reference cluster's client: what every answer of its HTTP API means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aftershock.harness.operation import Outcome
from aftershock.workloads import outcomes
from aftershock.workloads.clients import reference
from aftershock.workloads.clients.reference import ReferenceClient
from aftershock.workloads.http_client import Response


def answer(status: int, body: Any) -> Response:
    return Response(status, json.dumps(body).encode())


@pytest.mark.parametrize("f", sorted(ReferenceClient.functions))
@pytest.mark.parametrize(
    ("status", "body", "outcome", "error"),
    [
        (503, {"error": "refused", "detail": "shed"}, Outcome.FAIL, "refused"),
        (503, {"error": "busy"}, Outcome.UNKNOWN, "server-error"),
        (503, "Service Unavailable", Outcome.UNKNOWN, "server-error"),
        (504, {"error": "unknown"}, Outcome.UNKNOWN, "gave-up"),
        (500, {}, Outcome.UNKNOWN, "server-error"),
        (502, {}, Outcome.UNKNOWN, "server-error"),
        (400, {"error": "bad-request", "detail": "x"}, Outcome.FAIL, "bad-request"),
        (400, {}, Outcome.UNKNOWN, "unexpected-status"),
        (404, {"detail": "Not Found"}, Outcome.UNKNOWN, "unexpected-status"),
        (418, {}, Outcome.UNKNOWN, "unexpected-status"),
        (302, {}, Outcome.UNKNOWN, "unexpected-status"),
    ],
)
def test_statuses_that_are_no_answer(f: str, status: int, body: Any, outcome: Outcome, error: str) -> None:
    completion = reference.of_answer(f, answer(status, body))

    assert (completion.outcome, completion.error) == (outcome, error)


@pytest.mark.parametrize("f", sorted(ReferenceClient.functions))
def test_every_status_there_is_gets_an_outcome(f: str) -> None:
    for status in range(100, 600):
        completion = reference.of_answer(f, answer(status, {"version": 1, "value": 2, "found": True}))
        assert (completion.outcome is Outcome.OK) == (completion.result != "")
        assert (completion.outcome is Outcome.OK) == (completion.error == "")


@pytest.mark.parametrize(
    ("f", "status", "body", "result", "seen"),
    [
        ("read", 200, {"value": 7, "version": 3}, "found", 7),
        ("read", 404, {"version": 0}, "not-found", None),
        ("write", 200, {"version": 3}, "done", None),
        ("insert", 201, {"version": 3}, "done", None),
        ("insert", 409, {"found": True, "value": 9, "version": 3}, "mismatch", 9),
        ("cas", 200, {"version": 3}, "done", None),
        ("cas", 409, {"found": True, "value": 9, "version": 3}, "mismatch", 9),
        ("cas", 409, {"found": False, "version": 3}, "mismatch", None),
        ("delete", 200, {"version": 3}, "done", None),
    ],
)
def test_answers(f: str, status: int, body: dict[str, Any], result: str, seen: int | None) -> None:
    completion = reference.of_answer(f, answer(status, body))

    assert completion.outcome is Outcome.OK
    assert (completion.result, completion.seen, completion.version) == (result, seen, body["version"])


@pytest.mark.parametrize(
    ("f", "status", "body"),
    [
        ("read", 200, b"not json"),
        ("read", 200, b"[1]"),
        ("read", 200, b'{"value": 7}'),
        ("read", 200, b'{"value": "7", "version": 1}'),
        ("read", 200, b'{"value": true, "version": 1}'),
        ("read", 200, b'{"value": 9223372036854775808, "version": 1}'),
        ("read", 200, b'{"version": 1}'),
        ("read", 200, b"\xff\xfe"),
        ("write", 200, b"{}"),
        ("cas", 409, b'{"version": 1}'),
        ("cas", 409, b'{"found": true, "version": 1}'),
    ],
)
def test_a_body_that_breaks_the_api_is_unknown_not_ok(f: str, status: int, body: bytes) -> None:
    completion = reference.of_answer(f, Response(status, body))

    assert (completion.outcome, completion.error) == (Outcome.UNKNOWN, "malformed")


def test_multi_get_is_judged_key_by_key() -> None:
    body = {
        "entries": {
            "a": {"found": True, "value": 1, "version": 4},
            "b": {"found": False, "value": None, "version": 0},
            "broken": {"found": True, "version": 1},
        },
        "failed": {"c": "refused", "d": "unknown"},
    }
    judged = reference.of_multi_get(answer(200, body))
    assert isinstance(judged, tuple)
    found = {key: reference.of_entry(*judged, key, attempts=1) for key in ("a", "b", "broken", "c", "d", "gone")}

    assert (found["a"].result, found["a"].seen, found["a"].version) == ("found", 1, 4)
    assert (found["b"].result, found["b"].seen) == ("not-found", None)
    assert (found["c"].outcome, found["c"].error) == (Outcome.FAIL, "refused")
    assert (found["d"].outcome, found["d"].error) == (Outcome.UNKNOWN, "gave-up")
    # A key that the answer forgot was not read as absent.
    assert found["gone"].error == found["broken"].error == "malformed"


@pytest.mark.parametrize(("status", "body"), [(503, {"error": "refused"}), (504, {}), (200, {"entries": []})])
def test_a_multi_get_without_an_answer_has_one_end_for_all_keys(status: int, body: Any) -> None:
    judged = reference.of_multi_get(answer(status, body))

    assert isinstance(judged, outcomes.Completion)
    assert judged.outcome is not Outcome.OK
