"""url: any HTTP service that runs already, reached by its URL; its containers where the backend is attached to them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ..harness.errors import SetupError
from ..harness.interfaces import Address, Cluster, Probe, Settings, Stage
from ._http_ready import Tls, tls_problem
from ._own_service import OwnService, OwnServiceSettings
from ._witness import Witness, WitnessProbe
from .reference_access import CONNECT_TIMEOUT_S

__all__ = ["UrlSettings", "UrlSystem"]

_SERVICE = "service"
_PROBE = "probe"


class UrlSettings(OwnServiceSettings):
    """Where the service is."""

    url: str = Field(description="http://HOST:PORT/PATH or https://...; PATH goes before every path of a request")
    host: str | None = Field(default=None, description="Host header; default: as in the URL")
    verify: bool = Field(default=True, description="https: its certificate must prove its name")
    ca_file: str | None = Field(default=None, description="https: who may testify; default: this machine's authorities")

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected http://HOST or https://HOST, found {url!r}")
        if parts.query or parts.fragment or parts.username:
            raise ValueError(
                "a URL with a query, a fragment or a user is not for all requests: put those into requests"
            )
        _ = parts.port  # raises ValueError for what is no port
        return url


class UrlSystem:
    """Keeps interfaces.System."""

    name: ClassVar[str] = "url"
    settings: ClassVar[type[Settings]] = UrlSettings

    @contextlib.contextmanager
    def deploy(self, stage: Stage, settings: UrlSettings, *, seed: int) -> Iterator[Cluster]:
        """Nothing is started, and nothing is stopped."""
        with contextlib.closing(Witness()) as witness:
            service = _UrlService(stage, settings, witness)
            service.add_members()
            service.add_links()
            service.hosting.bring_up()
            yield service


class _UrlService(OwnService):
    front = _SERVICE

    def __init__(self, stage: Stage, settings: UrlSettings, witness: Witness) -> None:
        super().__init__(stage, settings, system="url")
        if _SERVICE in self.services:
            raise SetupError(f"a container named {_SERVICE!r} cannot be attached: the service as a whole has this name")
        parts = urlsplit(settings.url)
        assert parts.hostname is not None
        self._witness = witness
        self._address = _resolved(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self.http_host = settings.host or parts.netloc
        self.base_path = parts.path.rstrip("/")
        self.tls: Tls | None = None
        if parts.scheme == "https":
            # The name that requests ask for is the name that is to be proven, as in workloads/clients/http.py.
            name = urlsplit(f"//{self.http_host}").hostname or parts.hostname
            self.tls = Tls(server_name=name, verify=settings.verify, ca_file=settings.ca_file)
            problem = tls_problem(self.tls)
            if problem is not None:
                raise SetupError(f"system.{problem}")

    def front_address(self) -> Address:
        return self._address

    def link_clients(self) -> None:
        """The link of the load, and beside it one of the same pair that ends at the witness."""
        self.hosting.place(_SERVICE, "http", self._address)
        self.hosting.place(_SERVICE, _PROBE, self._witness.address)
        super().link_clients()
        self._probed = self.stage.link(self.group, _SERVICE, _PROBE)

    def open_front_probe(self) -> Probe:
        path = self.stage.connect(self.group, self._probed, timeout_s=CONNECT_TIMEOUT_S)
        return WitnessProbe(path, self._witness)


def _resolved(host: str, port: int) -> Address:
    """Once, so that load and probes all go to one place. Raises SetupError when nobody knows the name."""
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise SetupError(f"system.url: no IPv4 address is known for {host!r} ({error})") from error
    return Address(str(found[0][4][0]), port)
