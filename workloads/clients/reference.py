"""The reference cluster's client: its HTTP API (docs/reference-http-api.md) over one connection to one router."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from ...harness.operation import Outcome
from .. import outcomes
from ..client import Answer, ClientSetup
from ..http_client import ClientError, Connection, Response
from ..outcomes import Completion
from ..requests import Request

__all__ = ["ReferenceClient", "encode", "encode_multi_get", "of_answer", "of_entry", "of_multi_get"]

_NOTED_BYTES: Final = 300


class ReferenceClient:
    """Keeps workloads.client.Client. Its group has one address, the router's."""

    functions: ClassVar[frozenset[str]] = frozenset({"read", "write", "cas", "insert", "delete"})

    def __init__(self, setup: ClientSetup) -> None:
        (router,) = setup.addresses.values()
        self._connection = Connection(router)

    def connect(self, *, deadline_ns: int) -> None:
        try:
            self._connection.connect(deadline_ns=deadline_ns)
        except ClientError:
            return  # the operation will tell

    def execute(self, request: Request, *, key: str, request_id: str, deadline_ns: int) -> Answer:
        data = encode(request, key=key, request_id=request_id, deadline_ms=_told_ms(deadline_ns))
        try:
            response = self._connection.request(data, deadline_ns=deadline_ns)
        except ClientError as error:
            return Answer(outcomes.of_trouble(error.trouble), time.monotonic_ns())
        end_ns = time.monotonic_ns()
        completion = of_answer(request.f, response)
        note = ""
        if completion.error in outcomes.DEFECTS:
            body = response.body[:_NOTED_BYTES].decode("utf-8", "replace")
            note = f"answered with status {response.status}: {body}"
        return Answer(completion, end_ns, len(response.body), note)

    def read_many(self, keys: Sequence[str], *, request_id: str, deadline_ns: int) -> Sequence[Completion]:
        data = encode_multi_get(keys, request_id=request_id, deadline_ms=_told_ms(deadline_ns))
        try:
            response = self._connection.request(data, deadline_ns=deadline_ns)
        except ClientError as error:
            return [outcomes.of_trouble(error.trouble)] * len(keys)
        answer = of_multi_get(response)
        if isinstance(answer, Completion):
            return [answer] * len(keys)
        entries, failed = answer
        return [of_entry(entries, failed, key, attempts=response.attempts) for key in keys]

    def close(self) -> None:
        self._connection.close()


def _told_ms(deadline_ns: int) -> int:
    """What the service is told: a tenth less than the client waits, so that its own answer still arrives."""
    return max(1, (deadline_ns - time.monotonic_ns()) * 9 // 10_000_000)


def encode(request: Request, *, key: str, request_id: str, deadline_ms: int) -> bytes:
    """The HTTP/1.1 request, whole."""
    f = request.f
    if f == "read":
        return _head("GET", f"/v1/keys/{key}", request_id, deadline_ms, None)
    if f == "write":
        return _head("PUT", f"/v1/keys/{key}", request_id, deadline_ms, f'{{"value":{request.value}}}')
    if f == "insert":
        return _head("POST", f"/v1/keys/{key}/insert", request_id, deadline_ms, f'{{"value":{request.value}}}')
    if f == "cas":
        expect = '{"absent":true}' if request.expected is None else f'{{"value":{request.expected}}}'
        body = f'{{"expect":{expect},"value":{request.value}}}'
        return _head("POST", f"/v1/keys/{key}/cas", request_id, deadline_ms, body)
    if f == "delete":
        return _head("DELETE", f"/v1/keys/{key}", request_id, deadline_ms, None)
    raise ValueError(f"unknown function {f!r}; expected read, write, insert, cas or delete")


def encode_multi_get(keys: Iterable[str], *, request_id: str, deadline_ms: int) -> bytes:
    """A linearizable read of several keys. Keys are ours (`prefix + number`): nothing in them needs escaping."""
    listed = ",".join(f'"{key}"' for key in keys)
    return _head("POST", "/v1/multi-get", request_id, deadline_ms, f'{{"keys":[{listed}]}}')


def _head(method: str, path: str, request_id: str, deadline_ms: int, body: str | None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: sut\r\nX-Request-Id: {request_id}\r\nX-Deadline-Ms: {deadline_ms}\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


# ---------------------------------------------------------------------------------------------- answers


def of_answer(f: str, response: Response) -> Completion:
    """The end of a request for `f` that was answered."""
    attempts = response.attempts
    status = response.status
    if status not in _ANSWERS[f]:
        return outcomes.ended(_error_of(response), attempts=attempts)
    body = _json(response.body)
    if body is None or not _is_int64(body.get("version")):
        # An absent key's 404 carries a version; one without comes from something else that has no such path.
        return outcomes.ended("unexpected-status" if status == 404 else "malformed", attempts=attempts)
    version = body["version"]
    result = _ANSWERS[f][status]
    if result == "found" or (result == "mismatch" and body.get("found") is True):
        if not _is_int64(body.get("value")):
            return outcomes.ended("malformed", attempts=attempts)
        return Completion(Outcome.OK, result, seen=body["value"], version=version, attempts=attempts)
    if result == "mismatch" and body.get("found") is not False:
        return outcomes.ended("malformed", attempts=attempts)
    return Completion(Outcome.OK, result, version=version, attempts=attempts)


def of_multi_get(response: Response) -> tuple[dict[str, Any], dict[str, Any]] | Completion:
    """(entries, failed) of a multi-get, to be given to `of_entry` key by key; or the end that all its keys share."""
    if response.status != 200:
        return outcomes.ended(_error_of(response), attempts=response.attempts)
    body = _json(response.body)
    if body is None or not isinstance(body.get("entries"), dict) or not isinstance(body.get("failed"), dict):
        return outcomes.ended("malformed", attempts=response.attempts)
    return body["entries"], body["failed"]


def of_entry(entries: dict[str, Any], failed: dict[str, Any], key: str, *, attempts: int) -> Completion:
    """The end of the read of one key of a multi-get."""
    entry = entries.get(key)
    if isinstance(entry, dict) and _is_int64(entry.get("version")):
        if entry.get("found") is True and _is_int64(entry.get("value")):
            return Completion(Outcome.OK, "found", seen=entry["value"], version=entry["version"], attempts=attempts)
        if entry.get("found") is False:
            return Completion(Outcome.OK, "not-found", version=entry["version"], attempts=attempts)
    if failed.get(key) == "refused":
        return outcomes.ended("refused", attempts=attempts)
    return outcomes.ended("gave-up" if failed.get(key) == "unknown" else "malformed", attempts=attempts)


_ANSWERS: Final[dict[str, dict[int, str]]] = {
    "read": {200: "found", 404: "not-found"},
    "write": {200: "done"},
    "insert": {201: "done", 409: "mismatch"},
    "cas": {200: "done", 409: "mismatch"},
    "delete": {200: "done"},
}


def _error_of(response: Response) -> str:
    """The code of a status that is no answer. Certainty is only believed when the body says it in so many words."""
    status = response.status
    if status == 503:
        body = _json(response.body)
        return "refused" if body is not None and body.get("error") == "refused" else "server-error"
    if status == 504:
        return "gave-up"
    if 500 <= status < 600:
        return "server-error"
    if status == 400:
        body = _json(response.body)
        return "bad-request" if body is not None and body.get("error") == "bad-request" else "unexpected-status"
    return "unexpected-status"


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
