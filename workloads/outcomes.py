"""What every end of a request means. The one table (DESIGN section 4, operations): nobody else classifies.

`fail` is claimed only where the operation certainly did not happen: nothing left this process, or the service itself
says so. Everything else that is not an answer is `unknown`. A read that got no answer is unknown too; nothing follows
from it, but nothing is lost by saying so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ..harness.operation import Outcome
from .http_client import Response, Trouble

__all__ = [
    "DEFECTS",
    "ERRORS",
    "ERROR_CODES",
    "NOT_SENT",
    "RESULTS",
    "UNANSWERED",
    "Completion",
    "of_answer",
    "of_entry",
    "of_multi_get",
    "of_trouble",
]

RESULTS: Final = ("", "done", "found", "not-found", "mismatch")

# Code -> outcome and meaning. The order is that of the slots' numbers: append only.
ERRORS: Final[dict[str, tuple[Outcome, str]]] = {
    "": (Outcome.OK, "no error"),
    "not-sent": (Outcome.FAIL, "every client of the group was busy: the arrival was never sent"),
    "connect-refused": (Outcome.FAIL, Trouble.CONNECT_REFUSED.value),
    "connect-timeout": (Outcome.FAIL, Trouble.CONNECT_TIMEOUT.value),
    "connect-failed": (Outcome.FAIL, Trouble.CONNECT_FAILED.value),
    "send-failed": (Outcome.FAIL, Trouble.SEND_FAILED.value),
    "refused": (Outcome.FAIL, "503 with error refused: the service says that it certainly did not happen"),
    "bad-request": (Outcome.FAIL, "400: the service takes the request for malformed, so somebody has a bug"),
    "send-cut": (Outcome.UNKNOWN, Trouble.SEND_CUT.value),
    "timeout": (Outcome.UNKNOWN, Trouble.TIMEOUT.value),
    "reset": (Outcome.UNKNOWN, Trouble.RESET.value),
    "malformed": (Outcome.UNKNOWN, "an answer came that is not HTTP/1.1, or whose body is not what the API promises"),
    "gave-up": (Outcome.UNKNOWN, "504: the service does not know whether it happened, or will still happen"),
    "server-error": (Outcome.UNKNOWN, "another 5xx, or a 503 that does not say refused: it promises nothing"),
    "unexpected-status": (Outcome.UNKNOWN, "a status that the API does not have for this request: somebody has a bug"),
    "interrupted": (Outcome.UNKNOWN, "the load process ended before an answer or the timeout"),
}
ERROR_CODES: Final = tuple(ERRORS)
NOT_SENT: Final = ERROR_CODES.index("not-sent")
UNANSWERED: Final = ERROR_CODES.index("interrupted")

# These are never the doing of a fault: the run is told at once, and cannot pass.
DEFECTS: Final = frozenset({"bad-request", "unexpected-status"})

_TROUBLES: Final[dict[Trouble, str]] = {
    Trouble.CONNECT_REFUSED: "connect-refused",
    Trouble.CONNECT_TIMEOUT: "connect-timeout",
    Trouble.CONNECT_FAILED: "connect-failed",
    Trouble.SEND_FAILED: "send-failed",
    Trouble.SEND_CUT: "send-cut",
    Trouble.TIMEOUT: "timeout",
    Trouble.RESET: "reset",
    Trouble.MALFORMED: "malformed",
}


@dataclass(frozen=True, slots=True)
class Completion:
    """How an operation ended. `seen` is the value read, or the one that stood there instead of the expected one."""

    outcome: Outcome
    result: str = ""
    error: str = ""
    seen: int | None = None
    version: int | None = None
    attempts: int = 1


def of_trouble(trouble: Trouble) -> Completion:
    """The end of a request that got no answer."""
    return _ended(_TROUBLES[trouble])


def of_answer(f: str, response: Response) -> Completion:
    """The end of a request for `f` that was answered."""
    attempts = response.attempts
    status = response.status
    if status not in _ANSWERS[f]:
        return _ended(_error_of(response), attempts=attempts)
    body = _json(response.body)
    if body is None or not _is_int64(body.get("version")):
        # An absent key's 404 carries a version; one without comes from something else that has no such path.
        return _ended("unexpected-status" if status == 404 else "malformed", attempts=attempts)
    version = body["version"]
    result = _ANSWERS[f][status]
    if result == "found" or (result == "mismatch" and body.get("found") is True):
        if not _is_int64(body.get("value")):
            return _ended("malformed", attempts=attempts)
        return Completion(Outcome.OK, result, seen=body["value"], version=version, attempts=attempts)
    if result == "mismatch" and body.get("found") is not False:
        return _ended("malformed", attempts=attempts)
    return Completion(Outcome.OK, result, version=version, attempts=attempts)


def of_multi_get(response: Response) -> tuple[dict[str, Any], dict[str, Any]] | Completion:
    """(entries, failed) of a multi-get, to be given to `of_entry` key by key; or the end that all its keys share."""
    if response.status != 200:
        return _ended(_error_of(response), attempts=response.attempts)
    body = _json(response.body)
    if body is None or not isinstance(body.get("entries"), dict) or not isinstance(body.get("failed"), dict):
        return _ended("malformed", attempts=response.attempts)
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
        return _ended("refused", attempts=attempts)
    return _ended("gave-up" if failed.get(key) == "unknown" else "malformed", attempts=attempts)


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


def _ended(code: str, *, attempts: int = 1) -> Completion:
    return Completion(ERRORS[code][0], error=code, attempts=attempts)


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
