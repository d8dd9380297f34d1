"""What every end of a request means. The one table (DESIGN section 4, operations): clients pick a code, nothing else.

`fail` is claimed only where the operation certainly did not happen: nothing left this process, or the service itself
says so. Everything else that is not an answer is `unknown`. A read that got no answer is unknown too; nothing follows
from it, but nothing is lost by saying so.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..harness.operation import Outcome
from .connection import Trouble

__all__ = [
    "DEFECTS",
    "ERRORS",
    "ERROR_CODES",
    "NOT_SENT",
    "RESULTS",
    "UNANSWERED",
    "Completion",
    "ended",
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
    "not-primary": (Outcome.FAIL, "the node says that it is not the primary, and that it did nothing"),
    "not-replicated": (Outcome.UNKNOWN, "it was done, but too few replicas confirmed it in time"),
    "protocol-error": (Outcome.UNKNOWN, "an error was answered that says nothing certain about the operation"),
    "http-1xx": (Outcome.UNKNOWN, "a status below 200 came, which is not one that the scenario expects"),
    "http-2xx": (Outcome.UNKNOWN, "a 2xx status came which is not one that the scenario expects"),
    "http-3xx": (Outcome.UNKNOWN, "a 3xx status came which is not one that the scenario expects"),
    "http-4xx": (Outcome.UNKNOWN, "a 4xx status came which is not one that the scenario expects"),
    "http-5xx": (Outcome.UNKNOWN, "a 5xx status came: the service failed or shed the request"),
    "no-primary": (Outcome.FAIL, "nobody named a primary that could be asked, so the operation was never sent"),
    "no-lock": (Outcome.FAIL, "the lock was not to be had, so nothing was written"),
    "fenced": (Outcome.FAIL, "the lock was no longer held, so the service wrote nothing"),
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


class Completion(NamedTuple):
    """How an operation ended. `seen` is the value read, or the one that stood there instead of the expected one; of
    a request without value semantics, the status that came."""

    # A named tuple for its speed, as in `requests`.
    outcome: Outcome
    result: str = ""
    error: str = ""
    seen: int | None = None
    version: int | None = None
    attempts: int = 1


def of_trouble(trouble: Trouble) -> Completion:
    """The end of a request that got no answer."""
    return ended(_TROUBLES[trouble])


def ended(code: str, *, attempts: int = 1, seen: int | None = None) -> Completion:
    """The end that a code of the table stands for."""
    return Completion(ERRORS[code][0], error=code, seen=seen, attempts=attempts)
