"""A client of any HTTP service: sends what the workload `http-requests` says, and looks at the status."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pydantic import field_validator

from ...harness.interfaces import Settings
from ...harness.operation import REQUEST, Outcome
from .. import outcomes
from ..client import Answer, ClientSetup
from ..connection import ClientError, Tls
from ..http_client import Connection, Response
from ..http_requests import NUMBER, Template
from ..outcomes import Completion
from ..requests import Request

__all__ = ["HttpClient", "HttpSettings", "code_of"]

_LINE: Final = "\r\n"


class HttpSettings(Settings):
    """Of the service. `host` is the Host header, the address by default; `base_path` goes before every path."""

    host: str = ""
    base_path: str = ""
    tls: bool = False
    verify: bool = True
    ca_file: str | None = None

    @field_validator("host", "base_path")
    @classmethod
    def _fits_a_header(cls, text: str) -> str:
        if not text.isascii() or any(c <= " " or c == "\x7f" for c in text):
            raise ValueError("expected visible ASCII without blanks")
        return text.rstrip("/")


class HttpClient:
    """Keeps workloads.client.Client. Its group has one address. Redirects are answers, and are not followed."""

    functions: ClassVar[frozenset[str]] = frozenset({REQUEST})
    settings: ClassVar[type[HttpSettings]] = HttpSettings
    keeps_bodies: ClassVar[bool] = False

    def __init__(self, setup: ClientSetup) -> None:
        settings = self.settings.model_validate(dict(setup.settings))
        if len(setup.addresses) != 1:
            raise ValueError(f"an HTTP client has one address, found {len(setup.addresses)}")
        (address,) = setup.addresses.values()
        self._host = settings.host or str(address)
        self._base_path = settings.base_path
        name = self._host.rpartition(":")[0] if ":" in self._host and not self._host.endswith("]") else self._host
        tls = Tls(server_name=name.strip("[]"), verify=settings.verify, ca_file=settings.ca_file)
        self._connection = Connection(address, tls=tls if settings.tls else None, keep_bodies=self.keeps_bodies)

    def connect(self, *, deadline_ns: int) -> None:
        try:
            self._connection.connect(deadline_ns=deadline_ns)
        except ClientError:
            return  # the operation will tell

    def execute(self, request: Request, *, key: str, request_id: str, deadline_ns: int) -> Answer:
        template = request.payload
        assert isinstance(template, Template), "only http-requests makes requests for this client"
        n = {} if request.value is None else {NUMBER: str(request.value)}
        try:
            response = self._ask(template, n, request_id=request_id, deadline_ns=deadline_ns)
        except ClientError as error:
            return Answer(outcomes.of_trouble(error.trouble), time.monotonic_ns())
        end_ns = time.monotonic_ns()
        status = response.status
        if status in template.expected:
            return Answer(Completion(Outcome.OK, "done", seen=status), end_ns, response.size)
        return Answer(outcomes.ended(code_of(status), seen=status), end_ns, response.size)

    def read_many(self, keys: Sequence[str], *, request_id: str, deadline_ns: int) -> Sequence[Completion]:
        raise NotImplementedError("requests have no keys that could be read back")

    def close(self) -> None:
        self._connection.close()

    def _ask(self, template: Template, replaced: Mapping[str, str], *, request_id: str, deadline_ns: int) -> Response:
        """The answer to a template with its places filled. Raises ClientError."""
        data = self._encode(template, replaced, request_id)
        if template.method == "HEAD":
            return self._connection.head(data, deadline_ns=deadline_ns)
        return self._connection.request(data, deadline_ns=deadline_ns)

    def _encode(self, template: Template, replaced: Mapping[str, str], request_id: str) -> bytes:
        """The HTTP/1.1 request, whole. A header of the scenario wins over one of ours."""
        own = {name.lower() for name, _ in template.headers}
        lines = [f"{template.method} {self._base_path}{template.path} HTTP/1.1"]
        ours = (("Host", self._host), ("User-Agent", "aftershock"), ("Accept", "*/*"), ("X-Request-Id", request_id))
        lines += [f"{name}: {value}" for name, value in ours if name.lower() not in own]
        lines += [f"{name}: {value}" for name, value in template.headers]
        head, body = _LINE.join(lines), template.body
        for place, text in replaced.items():
            head = head.replace(place, text)
            body = body.replace(place, text) if body is not None else None
        if body is None:
            # A method that usually has a body must say that there is none, or a server may wait for it.
            length = f"Content-Length: 0{_LINE}" if template.method in ("POST", "PUT", "PATCH") else ""
            return f"{head}{_LINE}{length}{_LINE}".encode()
        data = body.encode()
        return f"{head}{_LINE}Content-Length: {len(data)}{_LINE}{_LINE}".encode() + data


def code_of(status: int) -> str:
    """The code of a status that was not expected."""
    code = f"http-{status // 100}xx"
    # Statuses from 600 on are nobody's: what came is no HTTP answer.
    return code if code in outcomes.ERRORS else "malformed"
