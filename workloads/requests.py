"""What a workload asks for, and how it is written in the reference cluster's HTTP API (docs/reference-http-api.md).

Keys are `prefix + number` within a key space: a slot then holds a number instead of a string.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from ..harness.interfaces import Settings

__all__ = ["KeyedWorkload", "Request", "encode", "encode_multi_get"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of one process. `f` is one of `slots.FUNCTIONS`; for cas, `expected` None means "absent"."""

    f: str
    key: int
    value: int | None = None
    expected: int | None = None


class KeyedWorkload(Protocol):
    """What the load generator needs of a `harness.interfaces.Workload`. One instance serves one load process."""

    name: ClassVar[str]
    settings: ClassVar[type[Settings]]
    key_prefix: ClassVar[str]

    def __init__(self, settings: Any) -> None: ...

    @staticmethod
    def hot_keys(settings: Any) -> Sequence[str]:
        """Keys that are used all the time under these settings, for faults to aim at; may be empty."""
        ...

    def next(self, rng: random.Random, values: Callable[[], int]) -> Request:
        """The next request of a worker. Randomness from `rng` only; `values()` may be called once."""
        ...

    def saw(self, key: int, value: int | None) -> None:
        """A client saw `value` (None = absent) under `key`, or wrote it and was acknowledged."""


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
