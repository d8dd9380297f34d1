"""Somebody's own HTTP service under load: what the systems `url` and `compose` have in common.

Clients enter by one member, the *front*. Nothing is known of the service's inside but what the scenario, or labels on
its containers, say: which are its members, and how one sees that each serves.

All clients have the same way in, so none is ever cut off in favour of others: whatever is broken, they are owed it,
and a scenario that cuts everything says `expect = "unavailable"`. That is what the member `entry` is for: clients are
pinned to it, it is no process, and no link that could be cut leads to it.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ..harness.errors import AftershockError, SetupError
from ..harness.interfaces import (
    Address,
    ClientSpec,
    EventSink,
    Hosting,
    Link,
    Member,
    MemberState,
    Probe,
    ReplicaState,
    Role,
    Settings,
    ShardState,
    Stage,
    Topology,
)
from ._http_ready import Tls, ask_status
from ._stock_cluster import Ping
from ._tcp_probe import TcpProbe, open_tcp_probe
from .reference_access import poll

__all__ = ["OwnService", "OwnServiceSettings", "ServiceSettings", "hosting"]

_HTTP = "http"
_ASK_TIMEOUT_S: Final = 2.0
_COMMAND_TIMEOUT_S: Final = 5.0
_LOG_LINES: Final = 20
_CLIENT: Final = "aftershock.workloads.clients.http:HttpClient"
_STORE_CLIENT: Final = "aftershock.workloads.clients.http_store:HttpStoreClient"


class ServiceSettings(Settings):
    """What one container is, and how one sees that it serves. Labels `aftershock.<name>` say the same."""

    role: Literal["node", "router", "controller"] | None = None
    port: int | None = Field(default=None, ge=1, le=65535, description="TCP; probes of its links go there")
    path: str | None = Field(
        default=None, pattern=r"^/[!-~]*$", description="HTTP: serves when this answers 200 to 399"
    )
    command: tuple[str, ...] | None = Field(default=None, min_length=1, description="serves when this exits 0 in it")
    send: str | None = Field(default=None, min_length=1, description="no HTTP: a request that it answers by itself...")
    expect: str | None = Field(default=None, min_length=1, description="...with something that has this in it once")

    @model_validator(mode="before")
    @classmethod
    def _split_command(cls, values: Any) -> Any:
        """A label is one line."""
        if isinstance(values, Mapping) and isinstance(values.get("command"), str):
            return {**values, "command": tuple(shlex.split(values["command"]))}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> ServiceSettings:
        if (self.send is None) != (self.expect is None):
            raise ValueError("send and expect belong together")
        if self.port is None and (self.path is not None or self.send is not None):
            raise ValueError("path and send need a port to be asked at")
        if self.path is not None and self.send is not None:
            raise ValueError("either path (HTTP) or send and expect, not both")
        return self

    @property
    def ping(self) -> Ping:
        """What probes of a link say there. HEAD: its answer has no body that could have the mark in it once more."""
        if self.send is not None and self.expect is not None:
            return Ping(request=self.send.encode(), mark=self.expect.encode())
        request = f"HEAD {self.path or '/'} HTTP/1.1\r\nHost: probe\r\n\r\n"
        return Ping(request=request.encode(), mark=b"HTTP/1.1 ")


class OwnServiceSettings(Settings):
    """How clients speak to the service, when it is ready, and what its containers are."""

    ready_path: str = Field(default="/", pattern=r"^/[!-~]*$")
    ready_status: tuple[int, ...] | None = Field(default=None, description="statuses that mean ready; 200 to 399")
    services: dict[str, ServiceSettings] = Field(default_factory=dict, description="by container or Compose service")
    store: dict[str, Any] | None = Field(
        default=None, description="write, read, value, ... of a REST store, for insert-only (docs/load.md)"
    )

    @field_validator("ready_status")
    @classmethod
    def _are_statuses(cls, statuses: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if statuses is not None and not (statuses and all(200 <= status <= 599 for status in statuses)):
            raise ValueError("expected at least one status, each from 200 to 599")
        return statuses

    @property
    def client(self) -> str:
        return _CLIENT if self.store is None else _STORE_CLIENT


def hosting(stage: Stage, system: str) -> Hosting:
    """The stage as one that brings services. Raises SetupError for another backend."""
    if not isinstance(stage, Hosting):
        raise SetupError(
            f"system {system!r} needs a backend that knows services of one's own, and {stage.backend!r} does not: "
            f'write [backend] name = "{system}"'
        )
    return stage


class OwnService(ABC):
    """Keeps interfaces.Cluster with what a subclass adds: who clients enter by, and where."""

    def __init__(self, stage: Stage, settings: OwnServiceSettings, *, system: str) -> None:
        self.stage = stage
        self.hosting = hosting(stage, system)
        self._settings = settings
        labels = self.hosting.services()
        unknown = sorted(set(settings.services) - set(labels))
        if unknown:
            there = ", ".join(sorted(labels)) or "none"
            raise SetupError(f"system.services names {', '.join(unknown)}, which are not there; services: {there}")
        self.services = {name: _merged(name, labels[name], settings.services.get(name)) for name in labels}
        self.pin = next(name for name in ("entry", "entry-0", "entry-00") if name not in labels)

    # ------------------------------------------------------------------------------------------ the subclass's part

    front: str  # the member that clients enter by
    http_host: str  # the Host header
    base_path: str
    tls: Tls | None

    @property
    def group(self) -> str:
        return f"clients-{self.pin}"

    @abstractmethod
    def front_address(self) -> Address:
        """Where the service is reached past every fault."""

    @abstractmethod
    def open_front_probe(self) -> Probe:
        """Along the link of the clients to the front."""

    # ------------------------------------------------------------------------------------------ members and links

    def add_members(self) -> None:
        """Announce the services, the front (which may be one of them) and the clients."""
        for name, service in self.services.items():
            role = Role.ROUTER if name == self.front else Role(service.role or "node")
            self.stage.add(Member(name=name, role=role))
        if self.front not in self.services:
            self.stage.add(Member(name=self.front, role=Role.ROUTER))
        # Of all roles the one that faults choose from least; and it is never one that runs.
        self.stage.add(Member(name=self.pin, role=Role.CONTROLLER))
        self.stage.add(Member(name=self.group, role=Role.CLIENT))

    def add_links(self) -> None:
        """Every service that says its port is linked from all others, and from the front where there is no other."""
        for name, service in self.services.items():
            if service.port is not None:
                self.hosting.place(name, _HTTP, Address(self.hosting.host(name), service.port), of=name)
        for source, target in permutations(self.services, 2):
            if self.services[target].port is not None:
                self.stage.link(source, target, _HTTP)
        self.link_clients()
        reached = {link.target for link in self.stage.network.links}
        for name, service in self.services.items():
            if service.port is not None and name not in reached and self.front not in self.services:
                self.stage.link(self.front, name, _HTTP)

    def link_clients(self) -> None:
        self._door = self.stage.link(self.group, self.front, _HTTP)

    def clients(self) -> ClientSpec:
        """See interfaces.Cluster."""
        chosen: dict[str, Any] = {"host": self.http_host, "base_path": self.base_path, "tls": self.tls is not None}
        if self.tls is not None:
            chosen |= {"verify": self.tls.verify, "ca_file": self.tls.ca_file}
        settings = {**chosen, **(self._settings.store or {})}
        return ClientSpec(
            client=self._settings.client, groups={self.group: {self.front: self._door}}, settings=settings
        )

    def open_probe(self, link: Link) -> Probe:
        """See interfaces.Cluster. Raises SetupError when there is no such link, or the connection is refused."""
        if link == Link(self.group, self.front):
            return self.open_front_probe()
        service = self.services.get(link.target)
        if service is None or service.port is None:
            raise SetupError(f"{link.source} has no link to {link.target} that could be probed")
        return self.packet_probe(link.source, link.target, service.port, service.ping)

    def packet_probe(self, source: str, target: str, port: int, ping: Ping) -> Probe:
        """From inside the source to the target's own address, with the target's kernel as witness."""
        address = Address(self.hosting.host(target), port)
        return open_tcp_probe(self.stage, Link(source, target), address, request=ping.request, mark=ping.mark)

    # ------------------------------------------------------------------------------------------ readiness

    def wait_ready(self, *, deadline_s: float) -> None:
        """See interfaces.Cluster."""
        missing = poll(self._not_ready, deadline_s=deadline_s, interval_s=0.1)
        if missing is not None:
            raise SetupError(f"the service was not ready within {deadline_s:g} s: {missing}")
        for name, service in self.services.items():
            if service.port is not None:
                self._insist_on_kept_connections(name, service)

    def wait_member(self, member: str, *, deadline_s: float) -> str | None:
        return poll(lambda: self._problem(member), deadline_s=deadline_s)

    def wait_settled(self, *, deadline_s: float) -> str | None:
        return poll(self._anything_missing, deadline_s=deadline_s)

    def _not_ready(self) -> str | None:
        for name in self.services:
            if self.stage.processes.state(name) is MemberState.EXITED:
                raise SetupError(f"{name} has ended, so the service will not be ready; {self._last_log_lines(name)}")
        return self._anything_missing()

    def _anything_missing(self) -> str | None:
        problems = (self._problem(name) for name in dict.fromkeys([*self.services, self.front]))
        return next((problem for problem in problems if problem is not None), None)

    def _problem(self, member: str) -> str | None:
        if member in self.services:
            problem = self._service_problem(member, self.services[member])
            if problem is not None:
                return f"{member}: {problem}"
        if member == self.front:
            problem = ask_status(
                self.front_address(),
                self.base_path + self._settings.ready_path,
                host=self.http_host,
                tls=self.tls,
                expected=self._settings.ready_status,
                timeout_s=_ASK_TIMEOUT_S,
            )
            return f"{member}: {problem}" if problem is not None else None
        return None

    def _service_problem(self, name: str, service: ServiceSettings) -> str | None:
        """Its own command, its health check, its page, its port, or that it runs: the first of them that it has."""
        state = self.stage.processes.state(name)
        if state is not MemberState.RUNNING:
            return f"it is {state}"
        try:
            if service.command is not None:
                return self.hosting.command(name, service.command, timeout_s=_COMMAND_TIMEOUT_S)
            problem = self.hosting.unhealthy(name)
            if problem is not None or service.port is None:
                return problem
            address = Address(self.hosting.host(name), service.port)
        except AftershockError as error:
            return str(error)
        if service.path is not None:
            return ask_status(
                address, service.path, host=str(address), tls=None, expected=None, timeout_s=_ASK_TIMEOUT_S
            )
        try:
            socket.create_connection(address, timeout=_ASK_TIMEOUT_S).close()
        except OSError as error:
            return f"it takes no connection at {address}: {error}"
        return None

    def _insist_on_kept_connections(self, name: str, service: ServiceSettings) -> None:
        """Raises SetupError when a connection is not kept open after an answer: no fault could be proven."""
        ping, address = service.ping, Address(self.hosting.host(name), service.port or 0)
        with contextlib.ExitStack() as stack:
            try:
                path = stack.enter_context(socket.create_connection(address, timeout=_ASK_TIMEOUT_S))
            except OSError as error:
                raise SetupError(f"{name} takes no connection at {address}: {error}") from error
            probe = TcpProbe(path=path, target=address, pid=lambda: None, request=ping.request, mark=ping.mark)
            answers = [probe.exchange(timeout_s=_ASK_TIMEOUT_S).answered for _ in range(2)]
        if not all(answers):
            asked = ping.request.decode(errors="replace").partition("\r\n")[0]
            problem = "does not answer" if not answers[0] else "ends the connection after its first answer to"
            raise SetupError(
                f"{name} at {address} {problem} {asked!r}, and probes of faults need connections that are kept open "
                "(HTTP/1.1). Name another path or port, or send and expect, in [system.services."
                f"{name}] or by labels; without a port no link to it is probed"
            )

    def _last_log_lines(self, member: str) -> str:
        log = self.stage.log(member)
        with contextlib.suppress(OSError):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
            if lines:
                return f"the end of its log {log}:" + "".join(f"\n  {line}" for line in lines)
        return f"docker logs {member} may say why"

    # ------------------------------------------------------------------------------------------ what is not known

    def shard_of(self, key: str) -> int | None:
        """None: nobody knows where the service keeps what."""
        return None

    def topology(self) -> Topology:
        """One thing to reach, which is the entry: clients always do."""
        only = ShardState(shard=0, epoch=0, primary=None, in_sync=(self.pin,))
        return Topology(shards=(only,))

    def replicas(self) -> Sequence[ReplicaState]:
        """None that are known."""
        return []

    def collect_events(self, events: EventSink) -> None:
        """It keeps none that we could read."""
        return


def _merged(name: str, labels: Mapping[str, str], settings: ServiceSettings | None) -> ServiceSettings:
    """Labels of a container, and over them what the scenario says."""
    prefix = "aftershock."
    known = {
        key.removeprefix(prefix): value
        for key, value in labels.items()
        if key.removeprefix(prefix) in ServiceSettings.model_fields and key.startswith(prefix)
    }
    told = settings.model_dump(exclude_unset=True) if settings is not None else {}
    try:
        return ServiceSettings.model_validate({**known, **told})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "together"
        raise SetupError(f"the labels and settings of service {name} do not fit ({where}): {first['msg']}") from None
