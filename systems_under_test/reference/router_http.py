"""The clients' HTTP API of a router (docs/reference-http-api.md): requests in, operations out, outcomes to statuses."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from .http_common import Header, Receive, Response, Scope, json_response, read_body
from .messages import ReplyKind
from .metrics import Metrics
from .ring import shard_of
from .routing import Certainty, Outcome, Routing
from .settings import MS, ClusterSettings
from .wire import pack

KEY_LIMIT: Final = 512  # bytes of UTF-8
VALUE_LIMIT: Final = 64 * 1024  # bytes as msgpack
VALUE_DEPTH: Final = 64  # arrays and objects inside each other
MULTI_GET_LIMIT: Final = 1_000  # keys of one request
IN_FLIGHT_LIMIT: Final = 1_000
DEADLINE_LIMIT_MS: Final = 60_000
_JSON_TYPES: Final = (str, int, float, bool, list, dict)


class BadRequestError(ValueError):
    """The request is malformed; nothing happened. The message goes to the client."""


class ClientApi:
    """Answers `/v1/...`."""

    def __init__(self, *, router: str, settings: ClusterSettings, routing: Routing, metrics: Metrics) -> None:
        self._settings = settings
        self._routing = routing
        self._metrics = metrics
        self._client = f"{router}-{secrets.token_hex(4)}"  # for requests that bring no id: new with every start
        self._numbers = itertools.count(1)
        self.in_flight = 0
        metrics.describe("reference_requests_total", "Requests of clients, by operation and HTTP status.")
        metrics.describe("reference_attempts_total", "Attempts at nodes for these requests.")

    async def page(self, scope: Scope, receive: Receive) -> Response | None:
        if not scope["path"].startswith("/v1/"):
            return None
        if self.in_flight >= IN_FLIGHT_LIMIT:
            self._metrics.count("reference_requests_total", 'operation="any",status="503"')
            return _refused(f"{IN_FLIGHT_LIMIT} requests are in flight here", 0)
        self.in_flight += 1
        try:
            operation, response = await self._dispatch(scope, receive)
        except BadRequestError as error:
            operation = "any"
            response = json_response(400, {"error": "bad-request", "detail": str(error)})
        finally:
            self.in_flight -= 1
        self._metrics.count("reference_requests_total", f'operation="{operation}",status="{response.status}"')
        return response

    async def _dispatch(self, scope: Scope, receive: Receive) -> tuple[str, Response]:
        headers = dict(scope["headers"])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _deadline_ms(headers, self._settings) / 1000
        method = scope["method"]
        # The raw path: a key may hold an escaped slash.
        parts = scope["raw_path"].decode("latin-1").split("/")[2:]
        match method, parts:
            case "POST", ["multi-get"]:
                return "multi-get", await self._multi_get(_object(await read_body(receive)), deadline)
            case _, ["keys", raw_key]:
                operation = {"GET": "get", "PUT": "put", "DELETE": "delete"}.get(method)
            case "POST", ["keys", raw_key, "insert" | "cas" as operation]:
                pass
            case _:
                operation = raw_key = None
        if operation is None or raw_key is None:
            detail = f"there is no {method} at {scope['path']}"
            return "any", json_response(404, {"error": "bad-request", "detail": detail})
        body = _object(await read_body(receive)) if operation in ("put", "insert", "cas") else {}
        kind, args = _arguments(operation, body)
        key = _key(raw_key)
        outcome = await self._routing.execute(
            shard=shard_of(key, self._settings.shards),
            kind=kind,
            key=key,
            args=args,
            request_id=self._request_id(headers),
            deadline=deadline,
        )
        self._metrics.count("reference_attempts_total", amount=outcome.attempts)
        return operation, _answer(operation, outcome)

    def _request_id(self, headers: dict[bytes, bytes]) -> tuple[str, int]:
        given = headers.get(b"x-request-id")
        if given is None:
            return self._client, next(self._numbers)
        client, _, number = given.decode("latin-1").rpartition(":")
        if not 0 < len(client) <= 200 or not number.isascii() or not number.isdigit() or len(number) > 18:
            raise BadRequestError("X-Request-Id: expected <client>:<number>, with up to 200 characters and 18 digits")
        return client, int(number)

    async def _multi_get(self, body: dict[str, Any], deadline: float) -> Response:
        keys = body.get("keys")
        if not isinstance(keys, list) or not 0 < len(keys) <= MULTI_GET_LIMIT:
            raise BadRequestError(f'expected {{"keys": [...]}} with 1 to {MULTI_GET_LIMIT} keys')
        shards: dict[int, list[str]] = {}
        for key in dict.fromkeys(map(_checked_key, keys)):
            shards.setdefault(shard_of(key, self._settings.shards), []).append(key)
        outcomes = await asyncio.gather(
            *(
                self._routing.execute(
                    shard=shard,
                    kind="multi-get",
                    key="",
                    args=tuple(part),
                    request_id=(self._client, next(self._numbers)),
                    deadline=deadline,
                )
                for shard, part in shards.items()
            )
        )
        entries: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for part, outcome in zip(shards.values(), outcomes, strict=True):
            for key in part:
                if outcome.reply is None:
                    failed[key] = outcome.certainty.value
                else:
                    found, value, version = outcome.reply.value[key]
                    entries[key] = {"found": found, "value": value, "version": version}
        attempts = sum(outcome.attempts for outcome in outcomes)
        self._metrics.count("reference_attempts_total", amount=attempts)
        return json_response(200, {"entries": entries, "failed": failed}, (_attempts(attempts),))


# ---------------------------------------------------------------------------------------------- requests


def _deadline_ms(headers: dict[bytes, bytes], settings: ClusterSettings) -> float:
    given = headers.get(b"x-deadline-ms")
    if given is None:
        return settings.deadline_ns / MS
    text = given.decode("latin-1")
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= DEADLINE_LIMIT_MS:
        raise BadRequestError(f"X-Deadline-Ms: expected a whole number from 1 to {DEADLINE_LIMIT_MS}")
    return int(text)


def _key(raw: str) -> str:
    try:
        return _checked_key(unquote(raw, errors="strict"))
    except UnicodeDecodeError as error:
        raise BadRequestError("the key is not UTF-8") from error


def _checked_key(key: Any) -> str:
    try:
        if isinstance(key, str) and 0 < len(key.encode()) <= KEY_LIMIT:
            return key
    except UnicodeEncodeError:
        pass
    raise BadRequestError(f"a key is a text of 1 to {KEY_LIMIT} bytes of UTF-8")


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadRequestError("the body must be a JSON object")
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _arguments(operation: str, body: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Kind and arguments of the log entry."""
    if operation in ("get", "delete"):
        return operation, ()
    known = ("value", "expect") if operation == "cas" else ("value",)
    for name in body:
        if name not in known:
            raise BadRequestError(f"{name}: unknown; expected {' and '.join(known)}")
    value = _value(body, "value")
    if operation == "put":
        return "put", (value,)
    if operation == "insert":
        return "cas", (["absent"], value)
    match body.get("expect"):
        case {"value": expected, **rest} if not rest:
            return "cas", (["value", _value({"expect.value": expected}, "expect.value")], value)
        case {"version": int(version), **rest} if not rest and not isinstance(version, bool) and 0 <= version < 2**63:
            return "cas", (["version", version], value)
        case {"absent": True, **rest} if not rest:
            return "cas", (["absent"], value)
    raise BadRequestError('expect: expected {"value": v}, {"version": n} or {"absent": true}')


def _value(body: Mapping[str, Any], name: str) -> Any:
    value = body.get(name)
    if not isinstance(value, _JSON_TYPES):
        raise BadRequestError(
            f"{name}: {'missing' if value is None else 'wrong'}; expected a JSON value other than null"
        )
    if isinstance(value, list | dict) and _too_deep(value, VALUE_DEPTH):
        raise BadRequestError(f"{name}: more than {VALUE_DEPTH} arrays and objects inside each other")
    try:
        size = len(pack(value))
    except (ValueError, OverflowError, TypeError) as error:  # integers above 64 bits, lone surrogates
        raise BadRequestError(f"{name}: cannot be stored: {error}") from error
    if size > VALUE_LIMIT:
        raise BadRequestError(f"{name}: {size} bytes; the limit is {VALUE_LIMIT}")
    return value


def _too_deep(value: Any, left: int) -> bool:
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return left == 0 or any(_too_deep(item, left - 1) for item in inner)


# ---------------------------------------------------------------------------------------------- answers


def _attempts(count: int) -> Header:
    return b"x-attempts", str(count).encode()


def _refused(detail: str, attempts: int) -> Response:
    headers = ((b"retry-after", b"1"), _attempts(attempts))
    return json_response(503, {"error": "refused", "detail": detail}, headers)


def _answer(operation: str, outcome: Outcome) -> Response:
    """One outcome, one status: the table in docs/reference-http-api.md."""
    headers = (_attempts(outcome.attempts),)
    reply = outcome.reply
    if reply is None:
        if outcome.certainty is Certainty.REFUSED:
            return _refused(outcome.detail, outcome.attempts)
        return json_response(504, {"error": "unknown", "detail": outcome.detail}, headers)
    if reply.kind is ReplyKind.CAS_FAILED:
        return json_response(409, {"found": reply.found, "value": reply.value, "version": reply.version}, headers)
    if operation == "get":
        if not reply.found:
            return json_response(404, {"version": reply.version}, headers)
        return json_response(200, {"value": reply.value, "version": reply.version}, headers)
    return json_response(201 if operation == "insert" else 200, {"version": reply.version}, headers)
