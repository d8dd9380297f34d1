"""The process backend: members are child processes on loopback, every directed link is a Toxiproxy proxy.

It needs no root and no Docker (DESIGN section 5). One Toxiproxy server serves a stage; ports are reserved for as long
as the stage is open, so two runs at once never meet.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from ..errors import SetupError
from ..identity import run_token
from ..interfaces import (
    Address,
    Confinement,
    Disks,
    EventSink,
    Journal,
    Member,
    MemberState,
    Network,
    Processes,
    ProcessSpec,
    Role,
    Settings,
    Stage,
)
from ..porcupine.programs import toxiproxy_path
from ..toxiproxy import Toxiproxy, ToxiproxyError
from .children import Children
from .ports import PortReserver
from .proxied_network import ProxiedNetwork
from .requirements import why_no_linux
from .roster import Roster

__all__ = ["ProcessBackend", "ProcessBackendSettings", "ProcessStage", "open_links"]

# Not a member: no fault can be aimed at it, but it has a log and an exit like one.
_TOXIPROXY: Final = "toxiproxy"
_TOXIPROXY_DEADLINE_S: Final = 15.0
_POLL_S: Final = 0.01


class ProcessBackendSettings(Settings):
    """It has none: shape and size are the system's."""


class ProcessStage:
    """One run's members as processes. Keeps interfaces.Stage; made by `ProcessBackend.open`."""

    backend = "process"
    python = sys.executable
    confinement: Confinement | None = None  # members share the machine
    disks: Disks | None = None  # and its file system

    def __init__(self, *, folder: Path, children: Children, network: ProxiedNetwork, ports: PortReserver) -> None:
        self.folder = folder
        self.processes: Processes = children
        self.network: Network = network
        self._children = children
        self._proxied = network
        self._ports = ports
        self._roster = Roster(taken=(_TOXIPROXY,))
        self._listening: dict[tuple[str, str], Address] = {}

    @property
    def members(self) -> Mapping[str, Member]:
        return self._roster.members

    def add(self, member: Member) -> None:
        self._roster.add(member)
        if member.role is not Role.CLIENT:
            (self.folder / member.name).mkdir(parents=True, exist_ok=True)

    def listen(self, member: str, port: str) -> Address:
        self._roster.insist(member)
        key = (member, port)
        if key not in self._listening:
            self._listening[key] = self._ports.reserve()
        return self._listening[key]

    def link(self, source: str, target: str, port: str) -> Address:
        self._roster.insist(source)
        return self._proxied.link(source, target, port, self.listen(target, port))

    def connect(self, source: str, address: Address, *, timeout_s: float) -> socket.socket:
        self._roster.insist(source)
        return socket.create_connection(address, timeout=timeout_s)  # the link's own proxy is the faulted path

    def log(self, member: str) -> Path:
        return self._children.log(member)

    def run(self, spec: ProcessSpec) -> None:
        self._roster.insist(spec.member.name)
        self._proxied.populate()
        self._children.add(spec)
        self._children.start(spec.member.name)


class ProcessBackend:
    """Keeps interfaces.Backend."""

    name: ClassVar[str] = "process"
    settings: ClassVar[type[Settings]] = ProcessBackendSettings

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def available(self) -> str | None:
        return why_no_linux() or why_no_links()

    @contextmanager
    def open(self, *, run_id: str, run_folder: Path, journal: Journal, events: EventSink) -> Iterator[Stage]:
        """See interfaces.Backend. Members' data is in `run_folder/data/<member>` and stays there.

        Raises SetupError when the links' server does not start, and on leaving HealError for what does not end.
        """
        with open_links(run_folder, journal=journal, events=events) as (children, network, ports):
            yield ProcessStage(folder=run_folder / "data", children=children, network=network, ports=ports)


def why_no_links() -> str | None:
    """None when there is a program for proxied links; otherwise why not."""
    try:
        toxiproxy_path()
    except SetupError as error:
        return str(error)
    return None


@contextmanager
def open_links(
    run_folder: Path, *, journal: Journal, events: EventSink
) -> Iterator[tuple[Children, ProxiedNetwork, PortReserver]]:
    """Proxied links on loopback, with a server of their own, for members of whatever kind.

    Raises SetupError when the links' server does not start, and on leaving HealError for what does not end.
    """
    for folder in (run_folder / "logs", run_folder / "data"):
        folder.mkdir(parents=True, exist_ok=True)
    children = Children(logs=run_folder / "logs", token=run_token(run_folder), journal=journal, events=events)
    with ExitStack() as stack:
        ports = stack.enter_context(closing(PortReserver()))
        address = ports.reserve()
        api = stack.enter_context(closing(Toxiproxy(address)))
        network = ProxiedNetwork(
            api=api, ports=ports, journal=journal, events=events, server=lambda: children.identity(_TOXIPROXY)
        )
        # Left in the opposite order: members and then their links' server end; with it goes every toxic.
        stack.callback(_forget_toxics, children, network)
        stack.callback(children.close, last=_TOXIPROXY)
        _start_toxiproxy(children, api)
        yield children, network, ports


def _forget_toxics(children: Children, network: ProxiedNetwork) -> None:
    if children.state(_TOXIPROXY) in (MemberState.EXITED, MemberState.ABSENT):
        network.server_ended()


def _start_toxiproxy(children: Children, api: Toxiproxy) -> None:
    host, port = api.address
    server = Member(name=_TOXIPROXY, role=Role.ROUTER)
    command = (str(toxiproxy_path()), "-host", host, "-port", str(port))
    # It would log every connection of every link.
    children.add(ProcessSpec(member=server, argv=command, environment={"LOG_LEVEL": "warn"}))
    children.start(_TOXIPROXY)
    until = time.monotonic() + _TOXIPROXY_DEADLINE_S
    while True:
        try:
            api.version()
            return
        except ToxiproxyError as error:
            ended = children.state(_TOXIPROXY) is MemberState.EXITED
            if ended or time.monotonic() > until:
                what = "ended at once" if ended else f"did not answer within {_TOXIPROXY_DEADLINE_S:g} s ({error})"
                log = children.log(_TOXIPROXY)
                raise SetupError(
                    f"the Toxiproxy server, which carries all links, {what}; its log is {log}:\n"
                    f"{log.read_text(errors='replace')[-2000:]}"
                ) from None
        time.sleep(_POLL_S)
