"""The docker backend: members are containers on an internal network of the run, faults act on packets between them.

Every member, client groups too, has a container and a fixed address of its own; the host reaches all of them directly,
a way that no fault touches. Data is in the run folder, bind-mounted at the very same path, so configuration and
arguments are the same as on the process backend (DESIGN section 5).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import docker.types

from .. import images
from ..errors import HealError, SetupError
from ..identity import TOKEN_VARIABLE, run_token
from ..interfaces import (
    Address,
    Confinement,
    Disks,
    EventSink,
    Journal,
    Limits,
    Member,
    Network,
    Processes,
    ProcessSpec,
    Role,
    Settings,
    Stage,
)
from ..inverses import undo
from ..inverses.containers import TOKEN_LABEL
from ..network_namespace import inside
from .confinement import CgroupConfinement
from .disks import LoopDisks
from .docker_clients import ClientGroups, helper_of
from .docker_containers import Containers
from .docker_engine import Engine, not_followed
from .docker_network import POOLS, RUN_LABEL, RunNetwork, make_network
from .docker_settings import DockerBackendSettings
from .packet_network import PacketNetwork
from .requirements import why_no_containers, why_no_linux
from .roster import Roster

__all__ = ["DockerBackend", "DockerBackendSettings", "DockerStage", "equip", "removing", "run_network"]

_TOXIPROXY: Final = "toxiproxy"
_FIRST_PORT: Final = 7001
# Enough for any service, and far from what would keep this machine from starting processes.
_PROCESSES_MAX: Final = 4096
_MEMBER_LABEL: Final = "aftershock.member"


class DockerStage:
    """One run's members as containers. Keeps interfaces.Stage; made by `DockerBackend.open`."""

    backend = "docker"
    python = "python3"

    def __init__(
        self,
        *,
        settings: DockerBackendSettings,
        engine: Engine,
        bridge: RunNetwork,
        run_id: str,
        run_folder: Path,
        journal: Journal,
        events: EventSink,
    ) -> None:
        self.folder = run_folder.absolute() / "data"
        self.containers = containers = Containers(
            engine=engine,
            logs=run_folder / "logs",
            token=run_token(run_folder),
            parallel=settings.parallel,
            journal=journal,
            events=events,
        )
        self.processes: Processes = containers
        self.confinement: Confinement | None = None
        self.disks: Disks | None = None
        self._settings = settings
        self._engine = engine
        self._bridge = bridge
        self._run_id = run_id
        self._token = run_token(run_folder)
        self.disk_mb = settings.disk_mb
        self._images: dict[str, str] = {}  # by name, those that are known to be there
        self._roster = Roster()
        self._hosts: dict[str, str] = {}
        self._listening: dict[tuple[str, str], Address] = {}
        self._groups = ClientGroups(containers=containers, make=self._make_proxy)

    def equip(self, *, network: PacketNetwork, confinement: CgroupConfinement, disks: LoopDisks) -> None:
        """What acts on members, which needs to ask the stage where they are."""
        self.network: Network = network
        self._packets = network
        self.confinement = confinement
        self._loop_disks = disks
        self.disks = disks if self.disk_mb is not None else None

    @property
    def members(self) -> Mapping[str, Member]:
        return self._roster.members

    def add(self, member: Member) -> None:
        self._roster.add(member)
        self._hosts[member.name] = self._bridge.host(len(self._hosts))
        if member.role is Role.CLIENT:
            self._groups.add(member.name, self._hosts[member.name])
        else:
            (self.folder / member.name).mkdir(parents=True, exist_ok=True)

    def listen(self, member: str, port: str) -> Address:
        self._roster.insist(member)
        key = (member, port)
        if key not in self._listening:
            number = _FIRST_PORT + sum(name == member for name, _ in self._listening)
            self._listening[key] = Address(self._hosts[member], number)
        return self._listening[key]

    def link(self, source: str, target: str, port: str) -> Address:
        self._roster.insist(source)
        address = self.listen(target, port)
        self._packets.link(source, target)
        if self._roster.members[source].role is Role.CLIENT:
            return self._groups.link(source, target, port, address)
        return address

    def connect(self, source: str, address: Address, *, timeout_s: float) -> socket.socket:
        self._roster.insist(source)
        if address.host == self._hosts[source]:
            # A client group's link: the way from here to the group is not the faulted one, the way on from it is.
            return socket.create_connection(address, timeout=timeout_s)
        owner = self.containers.namespace_owner(self._container_of(source))
        if owner is None:
            raise ConnectionAbortedError(f"{source} does not run, so nothing can connect from it")
        return inside(owner, lambda: socket.create_connection(address, timeout=timeout_s))

    def log(self, member: str) -> Path:
        return self.containers.log(self._container_of(member))

    def run(self, spec: ProcessSpec) -> None:
        """See interfaces.Stage. The container starts in the background, a few at once.

        What goes wrong with one is raised by the next call that is about it, or by the next `run`.
        """
        self._roster.insist(spec.member.name)
        image = self._image(spec.image)
        self._groups.begin()
        self.containers.launch(spec.member.name, lambda: self._make_member(spec, image))

    def remove(self, member: str) -> None:
        """End a member for good: its container goes, its data and its address stay reserved until the stage closes."""
        self.containers.discard(self._container_of(member))

    def address(self, member: str) -> str:
        """The member's own IP address."""
        self._roster.insist(member)
        return self._hosts[member]

    def namespace_pid(self, member: str) -> int | None:
        """A process in whose namespaces and cgroups the member is, client groups too; None when it does not run."""
        owner = self.containers.namespace_owner(self._container_of(member))
        return owner.pid if owner is not None else None

    def limits(self, member: str) -> Limits:
        self._roster.insist(member)
        memory_mb = self._settings.memory_mb
        return Limits(cpus=self._settings.cpus, memory_bytes=None if memory_mb is None else memory_mb << 20)

    def _container_of(self, member: str) -> str:
        known = self._roster.members.get(member)
        return helper_of(member) if known is not None and known.role is Role.CLIENT else member

    # ------------------------------------------------------------------------------------------ making

    def _image(self, name: str) -> str:
        """Tag of an image that the engine has. Raises SetupError naming the command that builds it."""
        if name not in self._images:
            reason = images.missing(self._settings.endpoint, [name])
            if reason is not None:
                raise SetupError(reason)
            self._images[name] = images.tag(name)
        return self._images[name]

    def _make_member(self, spec: ProcessSpec, image: str) -> str:
        name = spec.member.name
        self._loop_disks.prepare(name)
        data = self.folder / name
        mounts = [_bind(data)]
        configuration = self.folder / f"{name}.json"  # beside the data folder, which a fault may empty
        if configuration.exists():
            mounts.append(_bind(configuration, read_only=True))
        memory = self.limits(name).memory_bytes
        limits: dict[str, Any] = {}
        if memory is not None:
            limits |= {"mem_limit": memory, "memswap_limit": memory}
        if self._settings.cpus is not None:
            limits["nano_cpus"] = int(self._settings.cpus * 1e9)
        host = {"init": True, "mounts": mounts, **limits}
        # The whole command line is the specification's; what the image would run of itself is left out.
        return self._make(name, name, image, host, dict(spec.environment), entrypoint=list(spec.argv))

    def _make_proxy(self, helper: str, host: str, arguments: tuple[str, ...]) -> str:
        member = next(name for name, address in self._hosts.items() if address == host)
        # It would log every connection of every link.
        environment = {"LOG_LEVEL": "warn"}
        # It dials in its accept loop: one silent target would hold up every client of that proxy for two minutes, and
        # after healing too. With one retry the kernel gives up after 3 s.
        host_config = {"sysctls": {"net.ipv4.tcp_syn_retries": "1"}}
        return self._make(helper, member, self._image(_TOXIPROXY), host_config, environment, entrypoint=list(arguments))

    def _make(
        self, name: str, member: str, image: str, host: dict[str, Any], environment: dict[str, str], **command: Any
    ) -> str:
        api = self._engine.api
        host_config = api.create_host_config(
            network_mode=self._bridge.name,
            pids_limit=_PROCESSES_MAX,
            log_config=docker.types.LogConfig(type="none"),  # its output goes to the run folder and nowhere else
            **host,
        )
        endpoint = api.create_endpoint_config(ipv4_address=self._hosts[member], aliases=[member])
        # The stubs take it for one endpoint; it is a mapping by network.
        networking: Any = {"EndpointsConfig": {self._bridge.name: endpoint}}
        with self._engine.asked_to(f"make a container for {name}"):
            made = api.create_container(
                image,
                hostname=name,
                name=f"{self._bridge.name}-{name}",
                environment={**environment, TOKEN_VARIABLE: self._token},
                host_config=host_config,
                networking_config=networking,
                labels={RUN_LABEL: self._run_id, TOKEN_LABEL: self._token, _MEMBER_LABEL: member},
                use_config_proxy=False,
                **command,
            )
        return str(made["Id"])


class DockerBackend:
    """Keeps interfaces.Backend."""

    name: ClassVar[str] = "docker"
    settings: ClassVar[type[Settings]] = DockerBackendSettings

    def __init__(self, settings: DockerBackendSettings) -> None:
        self._settings = settings

    def available(self) -> str | None:
        return why_no_linux() or why_no_containers(self._settings.endpoint)

    @contextmanager
    def open(self, *, run_id: str, run_folder: Path, journal: Journal, events: EventSink) -> Iterator[Stage]:
        """See interfaces.Backend. Members' data is in `run_folder/data/<member>` and stays there.

        Raises SetupError when the engine or the network is not to be had, and on leaving HealError for what is left.
        """
        for folder in (run_folder / "logs", run_folder / "data"):
            folder.mkdir(parents=True, exist_ok=True)
        token, settings = run_token(run_folder), self._settings
        with ExitStack() as stack:
            engine = stack.enter_context(the_engine(settings.endpoint, events))
            bridge = stack.enter_context(run_network(engine, run_id, token, settings, journal))
            events(
                "backend",
                name="docker",
                endpoint=engine.endpoint,
                engine_version=engine.version,
                network=bridge.name,
                subnet=str(bridge.subnet),
                text=f"Docker engine {engine.version} at {engine.endpoint}, network {bridge.subnet}",
            )
            stage = DockerStage(
                settings=settings,
                engine=engine,
                bridge=bridge,
                run_id=run_id,
                run_folder=run_folder,
                journal=journal,
                events=events,
            )
            equip(stack, stage, engine, bridge, run_id=run_id, token=token, journal=journal, events=events)
            yield stage


@contextmanager
def the_engine(endpoint: str, events: EventSink) -> Iterator[Engine]:
    """The engine at an endpoint. What the environment names instead, and is not followed, is said."""
    with closing(Engine.open(endpoint)) as engine:
        text = not_followed(endpoint)
        if text is not None:
            events("warning", text=text)
        yield engine


def equip(
    stack: ExitStack,
    stage: DockerStage,
    engine: Engine,
    bridge: RunNetwork,
    *,
    run_id: str,
    token: str,
    journal: Journal,
    events: EventSink,
) -> None:
    """What acts on members. Left in the opposite order: helpers and rules, then the containers, then their disks."""
    pid, containers = stage.namespace_pid, stage.containers
    disks = LoopDisks(folder=stage.folder, size_mb=stage.disk_mb, journal=journal, events=events, pid=pid)
    stack.enter_context(closing(disks))
    stack.enter_context(_removing_containers(containers, engine, token, journal))
    network = PacketNetwork(
        run_id=run_id, bridge=bridge.bridge, address=stage.address, pid=pid, journal=journal, events=events
    )
    stack.enter_context(closing(network))
    confinement = CgroupConfinement(
        pid=containers.pid, limits=stage.limits, journal=journal, token=token, ends_with_member=True
    )
    stack.enter_context(closing(confinement))
    stage.equip(network=network, confinement=confinement, disks=disks)


@contextmanager
def run_network(
    engine: Engine, run_id: str, token: str, settings: DockerBackendSettings, journal: Journal
) -> Iterator[RunNetwork]:
    arguments = {"endpoint": engine.endpoint, "token": token}
    entry = journal.record("remove-networks", expires_ns=None, **arguments)
    pools = POOLS if settings.address_range is None else (settings.address_range,)
    name = "aftershock-" + re.sub(r"[^a-zA-Z0-9_.-]", "-", run_id)
    try:
        yield make_network(engine, name=name, run_id=run_id, token=token, pools=pools)
    finally:
        _undo("remove-networks", arguments, entry, journal)


@contextmanager
def removing(inverse: str, engine: Engine, token: str, journal: Journal) -> Iterator[None]:
    """Remove what of the run has its label, by the inverse that the watchdog uses too. Raises HealError."""
    arguments = {"endpoint": engine.endpoint, "token": token}
    entry = journal.record(inverse, expires_ns=None, **arguments)
    try:
        yield
    finally:
        _undo(inverse, arguments, entry, journal)


@contextmanager
def _removing_containers(containers: Containers, engine: Engine, token: str, journal: Journal) -> Iterator[None]:
    """The watchdog's own inverse ends what we made, so that what a killed run relies on is used by every run."""
    arguments = {"endpoint": engine.endpoint, "token": token}
    entry = journal.record("remove-containers", expires_ns=None, **arguments)
    try:
        yield
    finally:
        containers.begin_to_close()
        try:
            _undo("remove-containers", arguments, entry, journal)
        finally:
            # Also when the engine did not end them: what runs on must be as little as can be.
            containers.end_processes()
            containers.wait_followers()


def _undo(inverse: str, arguments: Mapping[str, Any], entry: str, journal: Journal) -> None:
    try:
        undo(inverse, arguments)
    except (OSError, RuntimeError) as error:
        raise HealError(f"{inverse}: {error}") from error
    journal.done(entry)


def _bind(path: Path, *, read_only: bool = False) -> docker.types.Mount:
    """The same path inside as outside."""
    return docker.types.Mount(target=str(path), source=str(path), type="bind", read_only=read_only)
