"""The url backend: a service that runs already, reached by its address, and containers of it that faults may touch.

The load goes through a Toxiproxy of ours on loopback, so faults on the way between clients and the service need
nothing else. Attached containers are somebody else's: their processes and the packets between them can be disturbed,
every inverse is in the journal before, and nothing of theirs is ever removed (DESIGN section 4, safety).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ..errors import SetupError
from ..identity import ProcessIdentity
from ..interfaces import (
    Address,
    Confinement,
    Disks,
    EventSink,
    Journal,
    Member,
    Network,
    Processes,
    ProcessSpec,
    Settings,
    Stage,
)
from ..network_namespace import inside
from .attached_containers import AttachedContainers, attach
from .docker_engine import DEFAULT_ENDPOINT, Engine, why_unreachable
from .joined_network import JoinedNetwork, WatchedLinks
from .packet_network import PacketNetwork
from .ports import PortReserver
from .process import open_links, why_no_links
from .proxied_network import ProxiedNetwork
from .requirements import why_no_linux
from .roster import Roster

__all__ = ["UrlBackend", "UrlBackendSettings", "UrlStage"]


class UrlBackendSettings(Settings):
    """Which containers of the service may be broken; each must be allowed in `[safety]` and confirmed."""

    containers: tuple[str, ...] = Field(default=(), description="names of running containers")
    labels: tuple[str, ...] = Field(default=(), description="KEY=VALUE: every running container that has one of them")
    network: str | None = Field(default=None, description="where they meet; none: the first that all are on")
    endpoint: str = Field(default=DEFAULT_ENDPOINT, description="of the Docker engine; no other is ever used")

    @field_validator("endpoint")
    @classmethod
    def _is_a_socket_here(cls, value: str) -> str:
        if not value.startswith("unix:///"):
            raise ValueError(f"expected unix:///PATH (the containers must be on this machine), found {value!r}")
        return value

    @field_validator("labels")
    @classmethod
    def _are_pairs(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            key, equals, _ = label.partition("=")
            if not (key and equals):
                raise ValueError(f"expected KEY=VALUE, found {label!r}")
        return labels


class UrlStage:
    """One run's service. Keeps interfaces.Stage and interfaces.Hosting; made by `UrlBackend.open`."""

    backend = "url"
    python = sys.executable
    confinement: Confinement | None = None  # the containers' limits are their owner's
    disks: Disks | None = None  # and so are their disks

    def __init__(
        self,
        *,
        folder: Path,
        proxied: ProxiedNetwork,
        ports: PortReserver,
        containers: AttachedContainers,
        network_id: str | None,
    ) -> None:
        self.folder = folder
        self.containers = containers
        self.processes: Processes = containers
        self._proxied = proxied
        self._ports = ports
        self._network_id = network_id
        self._packets: PacketNetwork | None = None
        self._watched = WatchedLinks()
        self.network: Network = JoinedNetwork(self._networks)
        self._roster = Roster()
        self._places: dict[tuple[str, str], Address] = {}
        self._hosts: dict[str, str] = {}

    def equip(self, packets: PacketNetwork) -> None:
        """What acts on packets between attached containers, which asks the stage where they are."""
        self._packets = packets

    def _networks(self) -> list[Network]:
        return [self._proxied, *([self._packets] if self._packets is not None else []), self._watched]

    @property
    def members(self) -> Mapping[str, Member]:
        return self._roster.members

    def add(self, member: Member) -> None:
        self._roster.add(member)

    def listen(self, member: str, port: str) -> Address:
        self._roster.insist(member)
        key = (member, port)
        if key not in self._places:
            self._places[key] = self._ports.reserve()
        return self._places[key]

    def link(self, source: str, target: str, port: str) -> Address:
        """See interfaces.Stage. From clients through a proxy; between containers that meet, on their own network."""
        self._roster.insist(source)
        address = self.listen(target, port)
        if target not in self.containers.names:
            return self._proxied.link(source, target, port, address)
        if self._packets is not None and source in self.containers.names:
            self._packets.link(source, target)
        else:
            self._watched.link(source, target)
        return address

    def connect(self, source: str, address: Address, *, timeout_s: float) -> socket.socket:
        self._roster.insist(source)
        if source not in self.containers.names:
            return socket.create_connection(address, timeout=timeout_s)
        pid = self.containers.pid(source)
        owner = ProcessIdentity.of(pid) if pid is not None else None
        if owner is None:
            raise ConnectionAbortedError(f"{source} does not run, so nothing can connect from it")
        return inside(owner, lambda: socket.create_connection(address, timeout=timeout_s))

    def log(self, member: str) -> Path:
        return self.folder.parent / "logs" / f"{member}.log"

    def run(self, spec: ProcessSpec) -> None:
        raise SetupError(
            f"backend 'url' starts nothing, so it cannot run {spec.member.name}: it is for system 'url', whose service "
            "runs already"
        )

    # ------------------------------------------------------------------------------------------ Hosting

    def services(self) -> Mapping[str, Mapping[str, str]]:
        return {name: self.containers.labels(name) for name in self.containers.names}

    def host(self, service: str) -> str:
        """See interfaces.Hosting. An engine may give another address at the next start: asked anew while it runs."""
        if self.containers.pid(service) is not None or service not in self._hosts:
            networks = self.containers.networks(service)
            found = networks.get(self._network_id or "") or next(iter(networks.values()), None)
            if found is None and service not in self._hosts:
                raise SetupError(f"container {service} has no IPv4 address on any network, so nothing can reach it")
            if found is not None:
                self._hosts[service] = found[1]
        return self._hosts[service]

    def place(self, member: str, port: str, address: Address, *, of: str | None = None) -> None:
        self._roster.insist(member)
        self._places[member, port] = address
        if of is None:
            self.containers.reached.add(member)

    def bring_up(self) -> None:
        """Everything runs already; the links are made."""
        self._proxied.populate()

    def unhealthy(self, service: str) -> str | None:
        return self.containers.health(service)

    def command(self, service: str, argv: Sequence[str], *, timeout_s: float) -> str | None:
        return self.containers.command(service, argv, timeout_s=timeout_s)


class UrlBackend:
    """Keeps interfaces.Backend and interfaces.Attaching."""

    name: ClassVar[str] = "url"
    settings: ClassVar[type[Settings]] = UrlBackendSettings

    def __init__(self, settings: UrlBackendSettings) -> None:
        self._settings = settings

    @staticmethod
    def attached(settings: UrlBackendSettings) -> Sequence[str]:
        """See interfaces.Attaching."""
        found = [f"container:{name}" for name in settings.containers]
        return [*found, *(f"label:{label}" for label in settings.labels)]

    def available(self) -> str | None:
        reason = why_no_linux() or why_no_links()
        if reason is not None or not self._attaches:
            return reason
        if os.geteuid() != 0:
            return "it needs root, to act on attached containers from outside; run it with sudo, or attach none"
        return why_unreachable(self._settings.endpoint)

    @property
    def _attaches(self) -> bool:
        return bool(self._settings.containers or self._settings.labels)

    @contextmanager
    def open(self, *, run_id: str, run_folder: Path, journal: Journal, events: EventSink) -> Iterator[Stage]:
        """See interfaces.Backend. Raises SetupError for a container that does not run, before anything is touched."""
        with ExitStack() as stack:
            engine = stack.enter_context(closing(Engine.open(self._settings.endpoint))) if self._attaches else None
            chosen = self._settings
            found = attach(engine, containers=chosen.containers, labels=chosen.labels) if engine is not None else []
            _, proxied, ports = stack.enter_context(open_links(run_folder, journal=journal, events=events))
            containers = AttachedContainers(found, engine=engine, journal=journal, events=events)
            stack.enter_context(closing(containers))
            shared = _shared(containers, chosen.network)
            stage = UrlStage(
                folder=run_folder.absolute() / "data",
                proxied=proxied,
                ports=ports,
                containers=containers,
                network_id=shared,
            )
            if engine is not None:
                words = (
                    f"attached to {', '.join(containers.names)}: {len(containers.names)} containers of somebody else's"
                )
                events("backend", name="url", endpoint=engine.endpoint, engine_version=engine.version, text=words)
            if engine is not None and shared is not None:
                packets = PacketNetwork(
                    run_id=run_id,
                    bridge=_bridge(engine, shared),
                    address=stage.host,
                    pid=containers.pid,
                    journal=journal,
                    events=events,
                )
                stage.equip(stack.enter_context(closing(packets)))
            yield stage


def _shared(containers: AttachedContainers, wanted: str | None) -> str | None:
    """Id of the network on which all attached containers meet; None below two, or where they do not meet."""
    names = containers.names
    if len(names) < 2:
        return None
    each = [containers.networks(name) for name in names]
    common = {key: each[0][key][0] for key in each[0] if all(key in others for others in each)}
    if wanted is None:
        return min(common, key=lambda key: common[key], default=None)
    for key, name in common.items():
        if name == wanted:
            return key
    there = ", ".join(sorted(common.values())) or "none"
    raise SetupError(f"backend.network = {wanted!r}: not all of {', '.join(names)} are on it; they meet on: {there}")


def _bridge(engine: Engine, network: str) -> str:
    """This host's interface of a network of the engine. Raises SetupError when it has none."""
    with engine.asked_to("look at the network of the attached containers"):
        seen: Any = engine.api.inspect_network(network)
    if seen["Driver"] != "bridge":
        raise SetupError(
            f"network {seen['Name']} has driver {seen['Driver']!r}; packets can be acted on where it is 'bridge'"
        )
    named: str | None = (seen.get("Options") or {}).get("com.docker.network.bridge.name")
    return named or f"br-{network[:12]}"
