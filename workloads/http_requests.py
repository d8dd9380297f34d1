"""Requests to any HTTP service, written down in the scenario: answered as expected or not, and how soon.

They have no value semantics: nothing is known of what they do to the service's data, so availability, recovery, latency
and load are judged, and no check that compares values is asked for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, field_validator, model_validator

from ..harness.interfaces import Settings
from ..harness.operation import REQUEST
from .requests import Request

__all__ = ["HttpRequest", "HttpRequests", "HttpRequestsSettings", "Template"]

NUMBER: Final = "{n}"
_EXPECTED: Final = range(200, 400)
_TARGET: Final = re.compile(r"/[!-~]*")  # visible ASCII, no blank: what may stand in a request line
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_OURS: Final = ("content-length", "transfer-encoding")

Numbers = tuple[int, int] | Literal["unique"]


class HttpRequest(Settings):
    """One kind of request. `{n}` in path, header values and body is replaced by a number."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    path: str = Field(description="with the query, percent-encoded where it must be")
    weight: float = Field(default=1, gt=0, description="how often, against the other requests of this workload")
    expect_status: tuple[int, ...] | None = Field(default=None, description="statuses that are success; 200 to 399")
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None
    n: Numbers | None = Field(default=None, description="as in the workload, for this request alone")

    @field_validator("path")
    @classmethod
    def _is_target(cls, path: str) -> str:
        if not _TARGET.fullmatch(path):
            raise ValueError("a path begins with / and holds no blanks; write those and all but ASCII percent-encoded")
        return path

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name.lower() in _OURS:
                raise ValueError(f"header {name} follows from the body and cannot be set")
            if not _TOKEN.fullmatch(name) or not (value.isascii() and (value.isprintable() or not value)):
                raise ValueError(f"header {name}: expected a name without blanks, and a value of printable ASCII")
        return headers

    @field_validator("expect_status")
    @classmethod
    def _are_statuses(cls, statuses: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if statuses is not None and (not statuses or not all(200 <= status <= 599 for status in statuses)):
            raise ValueError("expected at least one status, each from 200 to 599")
        return statuses

    @field_validator("n")
    @classmethod
    def _is_range(cls, n: Numbers | None) -> Numbers | None:
        return _in_order(n)


class HttpRequestsSettings(Settings):
    """The requests, and what `{n}` stands for: `[first, last]` draws from that range by the seed, `"unique"` is a
    number that no other operation of the run has."""

    requests: tuple[HttpRequest, ...] = Field(min_length=1, max_length=1000)
    n: Numbers = (1, 1000)

    @field_validator("n")
    @classmethod
    def _is_range(cls, n: Numbers) -> Numbers | None:
        return _in_order(n)

    @model_validator(mode="after")
    def _has_number(self) -> HttpRequestsSettings:
        for place, request in enumerate(self.requests):
            if request.n is not None and not Template.of(request).numbered:
                raise ValueError(f"requests.{place}: has n, and no {NUMBER} in path, headers or body to put it in")
        return self


def _in_order(n: Numbers | None) -> Numbers | None:
    if isinstance(n, tuple) and not 0 <= n[0] <= n[1] < 2**53:
        raise ValueError('expected [first, last] with 0 <= first <= last < 2^53, or "unique"')
    return n


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A request as its client needs it: the payload of `Request`."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str | None
    expected: frozenset[int]

    @staticmethod
    def of(request: HttpRequest) -> Template:
        statuses = _EXPECTED if request.expect_status is None else request.expect_status
        return Template(
            method=request.method,
            path=request.path,
            headers=tuple(request.headers.items()),
            body=request.body,
            expected=frozenset(statuses),
        )

    @property
    def numbered(self) -> bool:
        """Whether there is a number to put in."""
        texts = (self.path, self.body or "", *(value for _, value in self.headers))
        return any(NUMBER in text for text in texts)


class HttpRequests:
    """Draws requests by their weights. Function, request and number of a worker's stream follow from the seed alone.

    An operation's key is its request, its value the number that it had.
    """

    name: ClassVar[str] = "http-requests"
    settings: ClassVar[type[Settings]] = HttpRequestsSettings
    key_prefix: ClassVar[str] = "request-"

    def __init__(self, settings: Any) -> None:
        self._templates = [Template.of(request) for request in settings.requests]
        self._numbers = [
            (request.n or settings.n) if template.numbered else None
            for request, template in zip(settings.requests, self._templates, strict=True)
        ]
        self._places = range(len(self._templates))
        self._cumulative = list(accumulate(request.weight for request in settings.requests))

    @staticmethod
    def hot_keys(settings: Any) -> tuple[str, ...]:
        """None: nobody knows where the service keeps what."""
        return ()

    @staticmethod
    def functions(settings: Any) -> frozenset[str]:
        """`request` alone."""
        return frozenset({REQUEST})

    @staticmethod
    def key_names(settings: Any) -> Sequence[str]:
        """`GET /items/{n}`; a second one of the same words is `GET /items/{n} #2`."""
        found: list[str] = []
        for request in settings.requests:
            words = f"{request.method} {request.path}"
            same = sum(1 for name in found if name.partition(" #")[0] == words)
            found.append(f"{words} #{same + 1}" if same else words)
        return found

    def next(self, rng: random.Random, values: Callable[[], int]) -> Request:
        place = rng.choices(self._places, cum_weights=self._cumulative)[0]
        numbers = self._numbers[place]
        n = values() if numbers == "unique" else rng.randint(*numbers) if numbers is not None else None
        return Request(REQUEST, place, n, None, self._templates[place])

    def saw(self, key: int, value: int | None) -> None:
        """Answers change nothing."""
