"""A client of any HTTP service that stores values: how one is written and read back is said by templates.

With it `insert-only` finds lost writes in a service of somebody's own. A key is written by one operation only and never
again, so a plain PUT is an insert: whatever else is read under the key was not written by anybody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from pydantic import Field, field_validator, model_validator

from ...harness.operation import REQUEST, Outcome
from .. import outcomes
from ..client import Answer, ClientSetup
from ..connection import ClientError
from ..http_client import Response
from ..http_requests import HttpRequest, Template
from ..outcomes import Completion
from ..requests import Request
from .http import HttpClient, HttpSettings, code_of

__all__ = ["HttpStoreClient", "HttpStoreSettings"]

_KEY: Final = "{key}"
_VALUE: Final = "{value}"
_INT64: Final = range(-(2**63), 2**63)
_ANSWERED: Final = frozenset(range(200, 300))
_ABSENT: Final = object()


class HttpStoreSettings(HttpSettings):
    """`write` and `read` are requests with `{key}` and `{value}` in them: keys such as `i-5000003`, values integers.

    `value` says where the value stands in the answer to `read`, as a JSON pointer (RFC 6901); empty is the whole body.
    A redirect is no answer, unless `expect_status` names it. `absent_status` means that there is no such key. By
    `refused_status` the service says that it certainly did nothing.
    """

    write: HttpRequest
    read: HttpRequest
    value: str = ""
    absent_status: tuple[int, ...] = Field(default=(404,), min_length=1)
    refused_status: tuple[int, ...] = ()

    @field_validator("value")
    @classmethod
    def _is_pointer(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("expected a JSON pointer such as /value, or nothing for the whole body")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> HttpStoreSettings:
        for name, request, places in (("write", self.write, (_KEY, _VALUE)), ("read", self.read, (_KEY,))):
            texts = (request.path, request.body or "", *request.headers.values())
            for place in places:
                if not any(place in text for text in texts):
                    raise ValueError(f"{name}: {place} stands nowhere in path, headers or body")
        answered = _template(self.read).expected
        if self.read.method == "HEAD" or answered & set(self.absent_status):
            raise ValueError("read: needs an answer with a body, and a status that absent_status does not have")
        if _template(self.write).expected & set(self.refused_status):
            raise ValueError("write: a status cannot both be expected and mean that it was refused")
        return self


class HttpStoreClient(HttpClient):
    """Keeps workloads.client.Client. Beside values it makes the requests of `http-requests`."""

    functions: ClassVar[frozenset[str]] = frozenset({REQUEST, "insert", "read"})
    settings: ClassVar[type[HttpSettings]] = HttpStoreSettings
    keeps_bodies: ClassVar[bool] = True

    def __init__(self, setup: ClientSetup) -> None:
        super().__init__(setup)
        settings = HttpStoreSettings.model_validate(dict(setup.settings))
        self._write = _template(settings.write)
        self._read = _template(settings.read)
        self._pointer = [part.replace("~1", "/").replace("~0", "~") for part in settings.value.split("/")[1:]]
        self._absent = frozenset(settings.absent_status)
        self._refused = frozenset(settings.refused_status)

    def execute(self, request: Request, *, key: str, request_id: str, deadline_ns: int) -> Answer:
        if request.f == REQUEST:
            return super().execute(request, key=key, request_id=request_id, deadline_ns=deadline_ns)
        template = self._read if request.f == "read" else self._write
        places = {_KEY: key} if request.f == "read" else {_KEY: key, _VALUE: str(request.value)}
        try:
            response = self._ask(template, places, request_id=request_id, deadline_ns=deadline_ns)
        except ClientError as error:
            return Answer(outcomes.of_trouble(error.trouble), time.monotonic_ns())
        end_ns = time.monotonic_ns()
        judged = self._of_read(response) if request.f == "read" else self._of_write(response)
        return Answer(judged, end_ns, response.size)

    def read_many(self, keys: Sequence[str], *, request_id: str, deadline_ns: int) -> Sequence[Completion]:
        # One after the other: such a service has no way to ask for several. What there is no time for is asked again.
        return [
            self.execute(Request("read", 0), key=key, request_id=request_id, deadline_ns=deadline_ns).completion
            for key in keys
        ]

    def _of_write(self, response: Response) -> Completion:
        if response.status in self._write.expected:
            return Completion(Outcome.OK, "done")
        return outcomes.ended("refused" if response.status in self._refused else code_of(response.status))

    def _of_read(self, response: Response) -> Completion:
        if response.status in self._absent:
            return Completion(Outcome.OK, "not-found")
        if response.status not in self._read.expected:
            return outcomes.ended(code_of(response.status))
        value = _integer(_at(response.body, self._pointer))
        return outcomes.ended("malformed") if value is None else Completion(Outcome.OK, "found", seen=value)


def _template(request: HttpRequest) -> Template:
    """Unless its statuses are said, 200 to 299: who is sent elsewhere (by a follower to its leader) has stored nothing,
    and was shown nothing."""
    found = Template.of(request)
    return found if request.expect_status is not None else replace(found, expected=found.expected & _ANSWERED)


def _at(body: bytes, pointer: list[str]) -> Any:
    """What stands at that place of a JSON document; `_ABSENT` when there is no such place."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return _ABSENT
    for part in pointer:
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return _ABSENT
    return found


def _integer(value: Any) -> int | None:
    """An integer that was written as a number, or as its digits in a string."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdecimal():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else None
