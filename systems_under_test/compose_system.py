"""compose: the user's own Compose project, whose clients enter by one of its services."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.errors import SetupError
from ..harness.interfaces import Address, Cluster, Probe, Settings, Stage
from ._own_service import OwnService, OwnServiceSettings, ServiceSettings

__all__ = ["ComposeSettings", "ComposeSystem"]


class ComposeSettings(OwnServiceSettings):
    """Which service the load speaks to."""

    entry: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*:[0-9]{1,5}$", description="SERVICE:PORT, such as web:80")
    host: str | None = Field(default=None, description="Host header; default: the entry's service")


class ComposeSystem:
    """Keeps interfaces.System."""

    name: ClassVar[str] = "compose"
    settings: ClassVar[type[Settings]] = ComposeSettings

    @contextlib.contextmanager
    def deploy(self, stage: Stage, settings: ComposeSettings, *, seed: int) -> Iterator[Cluster]:
        """The stage ends what it has brought up, with everything else of the run."""
        service = _ComposeService(stage, settings)
        service.add_members()
        service.add_links()
        service.hosting.bring_up()
        yield service


class _ComposeService(OwnService):
    base_path = ""
    tls = None

    def __init__(self, stage: Stage, settings: ComposeSettings) -> None:
        super().__init__(stage, settings, system="compose")
        self.front, _, port = settings.entry.rpartition(":")
        self._port = int(port)
        self.http_host = settings.host or self.front
        if self.front not in self.services:
            there = ", ".join(sorted(self.services))
            raise SetupError(f"system.entry = {settings.entry!r}: there is no such service; services: {there}")
        own = self.services[self.front]
        if own.port is None:
            # It speaks HTTP there, or the load could not.
            given = {**own.model_dump(exclude_unset=True), "port": self._port}
            self.services[self.front] = ServiceSettings.model_validate(given)

    def front_address(self) -> Address:
        return Address(self.hosting.host(self.front), self._port)

    def link_clients(self) -> None:
        self.hosting.place(self.front, "entry", self.front_address(), of=self.front)
        self._door = self.stage.link(self.group, self.front, "entry")

    def open_front_probe(self) -> Probe:
        own = self.services[self.front]
        assert own.port is not None
        return self.packet_probe(self.group, self.front, own.port, own.ping)
