"""Clients of etcd 3.4: its HTTP/JSON gateway (etcd.io/docs/v3.4/dev-guide/api_grpc_gateway), one request at a time.

Keys and values are base64 in JSON; a value is a decimal number. A key's version is its `mod_revision`.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from ...harness.operation import Outcome
from .. import outcomes
from ..client import Answer, ClientSetup
from ..http_client import ClientError, Connection, Response
from ..outcomes import Completion
from ..requests import Request

__all__ = ["EtcdClient", "EtcdLockSetClient"]

_INVALID_ARGUMENT: Final = 3  # of gRPC's status codes
# Refusals that etcd gives before it proposes anything, or instead of applying it (v3_server.go, quota.go,
# apply.go of 3.4). "request timed out", "leader changed", "server stopped" and all others promise nothing: the
# proposal may be in a log and be committed any time later.
_REFUSED: Final = frozenset({"etcdserver: too many requests", "etcdserver: mvcc: database space exceeded"})
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_INT64: Final = range(-(2**63), 2**63)

Json = dict[str, Any]


class _Gateway:
    """A connection to the gateway of one member, which is the only address of its group."""

    def __init__(self, setup: ClientSetup) -> None:
        (member,) = setup.addresses.values()
        self._connection = Connection(member)

    def connect(self, *, deadline_ns: int) -> None:
        try:
            self._connection.connect(deadline_ns=deadline_ns)
        except ClientError:
            return  # the operation will tell

    def close(self) -> None:
        self._connection.close()

    def _post(self, path: str, body: Json, deadline_ns: int) -> Json:
        """What etcd answered. Raises _NoAnswerError with the completion that an operation then has."""
        data = json.dumps(body).encode()
        head = (
            f"POST /v3/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        )
        try:
            response = self._connection.request(head.encode() + b"\r\n\r\n" + data, deadline_ns=deadline_ns)
        except ClientError as error:
            raise _NoAnswerError(outcomes.of_trouble(error.trouble)) from error
        found = _object(response.body)
        if response.status != 200:
            raise _refusal(response, found)
        if found is None:
            raise _NoAnswerError(outcomes.ended("malformed"))
        return found


class EtcdClient(_Gateway):
    """Keeps workloads.client.Client. With the setting `serializable` reads are answered by the member alone."""

    functions: ClassVar[frozenset[str]] = frozenset({"read", "write", "cas", "insert", "delete"})

    def __init__(self, setup: ClientSetup) -> None:
        super().__init__(setup)
        self._serializable: bool = setup.settings["serializable"]

    def execute(self, request: Request, *, key: str, request_id: str, deadline_ns: int) -> Answer:
        # etcd has no request ids: a request whose answer was lost is not sent again.
        path, body = _operation(request, key, serializable=self._serializable)
        try:
            answer = self._post(path, body, deadline_ns)
        except _NoAnswerError as error:
            return Answer(error.completion, note=error.note)
        end_ns = time.monotonic_ns()
        return Answer(_completed(request.f, answer), end_ns)

    def read_many(self, keys: Sequence[str], *, request_id: str, deadline_ns: int) -> Sequence[Completion]:
        """One transaction, linearizable whatever `serializable` says. At most 128 keys (etcd's --max-txn-ops)."""
        ranges = [{"request_range": {"key": _encoded(key)}} for key in keys]
        try:
            answer = self._post("kv/txn", {"success": ranges}, deadline_ns)
        except _NoAnswerError as error:
            return [error.completion] * len(keys)
        responses = answer.get("responses")
        if not isinstance(responses, list) or len(responses) != len(keys):
            return [outcomes.ended("malformed")] * len(keys)
        return [_of_range(one.get("response_range"), "found", "not-found") for one in responses]


class EtcdLockSetClient(_Gateway):
    """A set as one value that clients read, extend and write back under a lock: Jepsen's etcd lock-set.

    `insert` takes the lock (v3lock, a lease of `lock_ttl_s`), reads the set, works for `hold_s`, writes it back and
    lets go; `read` looks into the set. It trusts the lock, which is what the test is about. With the setting `fenced`
    the write is a transaction that etcd refuses unless the lock's own key is still there.
    """

    functions: ClassVar[frozenset[str]] = frozenset({"read", "insert"})
    _SET: Final = "lock-set"
    _LOCK: Final = "lock"

    def __init__(self, setup: ClientSetup) -> None:
        super().__init__(setup)
        self._fenced: bool = setup.settings["fenced"]
        self._lock_ttl_s: int = setup.settings["lock_ttl_s"]
        self._hold_s: float = setup.settings["hold_s"]

    def execute(self, request: Request, *, key: str, request_id: str, deadline_ns: int) -> Answer:
        if request.f == "read":
            (completion,) = self.read_many([key], request_id=request_id, deadline_ns=deadline_ns)
            return Answer(completion)
        assert request.value is not None
        try:
            return self._insert(request.value, deadline_ns)
        except _NoAnswerError as error:
            return Answer(error.completion, note=error.note)

    def read_many(self, keys: Sequence[str], *, request_id: str, deadline_ns: int) -> Sequence[Completion]:
        """Which of the keys' numbers are in the set now: one linearizable read for all of them."""
        try:
            members = set(self._members(deadline_ns))
        except _NoAnswerError as error:
            return [error.completion] * len(keys)
        # A key is a prefix, a hyphen and the number that is inserted under it (insert_only).
        numbers = [int(key.rpartition("-")[2]) for key in keys]
        return [
            Completion(Outcome.OK, "found", seen=number) if number in members else Completion(Outcome.OK, "not-found")
            for number in numbers
        ]

    def _insert(self, value: int, deadline_ns: int) -> Answer:
        try:
            lease = str(self._post("lease/grant", {"TTL": self._lock_ttl_s}, deadline_ns)["ID"])
            lock = str(self._post("lock/lock", {"name": _encoded(self._LOCK), "lease": lease}, deadline_ns)["key"])
            members = self._members(deadline_ns)
        except (_NoAnswerError, KeyError):
            # Whatever became of the lease and the lock: the set was not written. They end by themselves.
            return Answer(outcomes.ended("no-lock"))
        time.sleep(self._hold_s)  # the client's own work, in which it does not look at the clock
        written = {"request_put": {"key": _encoded(self._SET), "value": _encoded(json.dumps([*members, value]))}}
        guard = {"key": lock, "target": "VERSION", "result": "GREATER", "version": 0}
        body: Json = {"compare": [guard] if self._fenced else [], "success": [written]}
        answer = self._post("kv/txn", body, deadline_ns)
        end_ns = time.monotonic_ns()
        self._let_go(lease, deadline_ns)
        return Answer(Completion(Outcome.OK, "done") if answer.get("succeeded") else outcomes.ended("fenced"), end_ns)

    def _let_go(self, lease: str, deadline_ns: int) -> None:
        try:
            self._post("lease/revoke", {"ID": lease}, deadline_ns)
        except _NoAnswerError:
            return  # it ends by itself

    def _members(self, deadline_ns: int) -> list[int]:
        answer = self._post("kv/range", {"key": _encoded(self._SET)}, deadline_ns)
        try:
            found = [json.loads(base64.b64decode(one["value"])) for one in answer.get("kvs", ())]
            return [int(number) for members in found for number in members]
        except (KeyError, TypeError, ValueError) as error:
            raise _NoAnswerError(outcomes.ended("malformed")) from error


class _NoAnswerError(Exception):
    """An operation without an answer: how it ends, and for a defect what came."""

    def __init__(self, completion: Completion, note: str = "") -> None:
        super().__init__(completion.error)
        self.completion = completion
        self.note = note


# ------------------------------------------------------------------------------------------------ requests


def _operation(request: Request, key: str, *, serializable: bool) -> tuple[str, Json]:
    """Path and body. A compare-and-set is a transaction that reads what stands there when it does not match."""
    place = {"key": _encoded(key)}
    if request.f == "read":
        return "kv/range", {**place, "serializable": serializable}
    if request.f == "delete":
        return "kv/deleterange", place
    write = {**place, "value": _encoded(str(request.value))}
    if request.f == "write":
        return "kv/put", write
    if request.f not in ("insert", "cas"):
        raise ValueError(f"unknown function {request.f!r}; expected one of {sorted(EtcdClient.functions)}")
    if request.f == "insert" or request.expected is None:
        guard: Json = {**place, "target": "CREATE", "result": "EQUAL", "create_revision": 0}
    else:
        guard = {**place, "target": "VALUE", "result": "EQUAL", "value": _encoded(str(request.expected))}
    otherwise = [{"request_range": place}]
    return "kv/txn", {"compare": [guard], "success": [{"request_put": write}], "failure": otherwise}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


# ------------------------------------------------------------------------------------------------ answers


def _completed(f: str, answer: Json) -> Completion:
    """The end of an operation that was answered. proto3 leaves out what is zero, false or empty."""
    if f == "read":
        return _of_range(answer, "found", "not-found")
    revision = _int64(_part(answer, "header").get("revision"))
    if revision is None:
        return outcomes.ended("malformed")
    if f == "delete":
        # What was absent already stays as it was, and etcd tells no version of it.
        deleted = _int64(answer.get("deleted", "0"))
        return Completion(Outcome.OK, "done", version=revision if deleted else None)
    if f == "write" or answer.get("succeeded") is True:
        return Completion(Outcome.OK, "done", version=revision)
    responses = answer.get("responses")
    if not isinstance(responses, list) or len(responses) != 1 or not isinstance(responses[0], dict):
        return outcomes.ended("malformed")
    return _of_range(responses[0].get("response_range"), "mismatch", "mismatch")


def _of_range(answer: Any, found: str, absent: str) -> Completion:
    """What a range of one key says, as result `found` or `absent`."""
    if not isinstance(answer, dict) or "header" not in answer:
        return outcomes.ended("malformed")
    entries = answer.get("kvs", [])
    if not entries:
        return Completion(Outcome.OK, absent)
    try:
        (entry,) = entries
        text = base64.b64decode(entry["value"]).decode("ascii")
        version = _int64(entry["mod_revision"])
    except (KeyError, TypeError, ValueError):
        return outcomes.ended("malformed")
    value = _int64(text)
    if value is None or version is None:
        return outcomes.ended("malformed")
    return Completion(Outcome.OK, found, seen=value, version=version)


def _refusal(response: Response, body: Json | None) -> _NoAnswerError:
    """How an operation ends whose answer has another status than 200."""
    if body is None or "code" not in body:
        # Not from the gateway's handlers: a path that it does not have, or somebody else's answer.
        code = "unexpected-status" if response.status < 500 else "server-error"
    elif body["code"] == _INVALID_ARGUMENT:
        code = "bad-request"
    else:
        code = "refused" if body.get("message") in _REFUSED else "server-error"
    text = response.body[:300].decode("utf-8", "replace")
    note = f"answered with status {response.status}: {text}" if code in outcomes.DEFECTS else ""
    return _NoAnswerError(outcomes.ended(code), note)


def _part(answer: Json, name: str) -> Mapping[str, Any]:
    found = answer.get(name)
    return found if isinstance(found, dict) else {}


def _object(body: bytes) -> Json | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _int64(text: Any) -> int | None:
    """A number as the gateway writes it, in a string."""
    if not isinstance(text, str) or not _INTEGER.fullmatch(text) or int(text) not in _INT64:
        return None
    return int(text)
