"""The seams: what a backend, a system, a fault and a workload promise each other. Values and Protocols only.

Words are DESIGN section 2's. Members are nodes, routers, controllers and *client groups* (the clients pinned to one
router, named `clients-<router>`); a partition is a relation over all of them.

A **link** is directed: `Link("r1", "n2")` is how r1 opens connections to n2. Bytes flow both ways on it, so cutting
the **flow** r1 -> n2 concerns the requests on link (r1, n2) and the replies on link (n2, r1).
"""

from __future__ import annotations

import enum
import random
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from .impairment import Impairment
from .member_resources import Confinement, Disks, DiskTrial, Limits, Usage
from .topology import ReplicaState, ShardState, Topology

__all__ = [
    "Address",
    "Attaching",
    "Backend",
    "BulkProbe",
    "ClientSpec",
    "Cluster",
    "Confinement",
    "DiskTrial",
    "Disks",
    "Evidence",
    "Fault",
    "FaultContext",
    "Flow",
    "Hosting",
    "Injection",
    "Journal",
    "Limits",
    "Link",
    "Member",
    "MemberState",
    "Network",
    "Probe",
    "ProbeOutcome",
    "ProcessSpec",
    "Processes",
    "ReplicaState",
    "Role",
    "Settings",
    "ShardState",
    "Stage",
    "System",
    "Topology",
    "Usage",
    "EventSink",
    "Workload",
]


class Settings(BaseModel):
    """Base of every settings model of a plugin: unknown names are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(enum.StrEnum):
    """What a member is to the system. Client groups are members too: partitions may cut them off."""

    NODE = "node"
    ROUTER = "router"
    CONTROLLER = "controller"
    CLIENT = "client"


class Address(NamedTuple):
    """A TCP address on loopback or on a private network of the run."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One participant. `name` is unique in the run and needs no quoting anywhere (`n1`, `r2`, `clients-r1`)."""

    name: str
    role: Role


class Link(NamedTuple):
    """`source` opens connections to `target`."""

    source: str
    target: str


class Flow(NamedTuple):
    """Application bytes from `source` to `target`, on whichever link they travel."""

    source: str
    target: str


class MemberState(enum.StrEnum):
    """State of a member's process as the operating system tells it."""

    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How to run one member: no shell, no inherited environment beyond what the backend documents."""

    member: Member
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str = "reference"  # which image of `aftershock images` it needs, on backends that run containers


# ------------------------------------------------------------------------------------------------ backend


class EventSink(Protocol):
    """Appends to the run's `events.jsonl` (docs/run-folder.md lists the kinds). Safe to call from any thread."""

    def __call__(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        """Write one event; `t_ns` is CLOCK_MONOTONIC and defaults to now."""
        ...


class Journal(Protocol):
    """The inverse of whatever is about to be done, fsynced before it is done (DESIGN section 4, faults)."""

    def record(self, inverse: str, /, *, expires_ns: int | None, **arguments: Any) -> str:
        """Write how to undo something, durably, *before* doing it. Returns the entry's id.

        `inverse` names one of the journal's known inverses; `expires_ns` (CLOCK_MONOTONIC) is when the watchdog
        carries it out although the tool lives, None for things that last as long as the run.
        """
        ...

    def done(self, entry: str) -> None:
        """The inverse of `entry` was carried out and verified."""
        ...


class Processes(Protocol):
    """Control of members' processes. Every method names the member; all act through a pidfd."""

    def state(self, member: str) -> MemberState: ...

    def pid(self, member: str) -> int | None: ...

    def start(self, member: str) -> None:
        """Start a member that is not running, with the specification it had; does not wait for readiness."""
        ...

    def kill(self, member: str) -> int:
        """SIGKILL and wait for the exit. Returns the exit status as subprocess does (-9)."""
        ...

    def stop(self, member: str, *, deadline_s: float) -> int:
        """SIGTERM, wait, then SIGKILL with an event that says so. Returns the exit status."""
        ...

    def pause(self, member: str, *, expires_ns: int) -> None:
        """Journal the inverse, SIGSTOP, and wait until the operating system says stopped.

        `expires_ns` (CLOCK_MONOTONIC): when the watchdog resumes it if nobody has.
        """
        ...

    def resume(self, member: str) -> None:
        """SIGCONT, and wait until the operating system says running."""
        ...


class Network(Protocol):
    """Control of links. Inverses are journalled before anything is touched.

    Every change is verified by reading it back; a change that did not take raises.
    """

    @property
    def links(self) -> Sequence[Link]: ...

    def why_not(self, kind: type[Impairment]) -> str | None:
        """None when this network can impair flows in this way; otherwise the reason and what would mend it."""
        ...

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        """Journal the inverse, then impair the bytes of these flows, all of them or (raising) none.

        `expires_ns` (CLOCK_MONOTONIC): when the kernel or the watchdog undoes it if nobody has. Idempotent.
        """
        ...

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        """Take an impairment of this kind off these flows, where it is on.

        It may close connections that carried them (Toxiproxy does for `Block`; the report says so).
        """
        ...

    def impaired(self) -> Mapping[Flow, str]:
        """Flows that are impaired now, and how, in words, as read back from the network itself."""
        ...

    def counters(self, flows: Iterable[Flow], kind: type[Impairment]) -> Mapping[Flow, int]:
        """Packets of these flows that bear the mark of an impairment of this kind, counted since it was put on.

        For `Reorder`, segments that the receiver's TCP got out of order. Flows on which nobody counts are left out:
        all of them on a network that carries no packets. A count is read where packets are, not from our own books.
        """
        ...


class Stage(Protocol):
    """One run's place on a backend: members, their links, and control of both.

    A system first calls `listen` and `link` to learn all addresses, then `run`. Links exist before members start.
    """

    backend: str
    folder: Path  # private to this run; `folder / member` is that member's data folder, at this very path for it too
    python: str  # a Python that members of this stage can run, which has the reference cluster's package
    processes: Processes
    network: Network
    confinement: Confinement | None  # None where members have no limits of their own
    disks: Disks | None  # None where members' data has no file system of its own

    @property
    def members(self) -> Mapping[str, Member]: ...

    def add(self, member: Member) -> None:
        """Announce a member (client groups too) before its addresses are asked for."""
        ...

    def listen(self, member: str, port: str) -> Address:
        """Address on which `member` must listen for `port` (a name). Reserved for it until the stage closes."""
        ...

    def link(self, source: str, target: str, port: str) -> Address:
        """Address at which `source` reaches `port` of `target`: through the pair's own link, which faults act on."""
        ...

    def connect(self, source: str, address: Address, *, timeout_s: float) -> socket.socket:
        """Open a TCP connection as `source` would, by an address from `link`, so that faults act on it: for probes.

        Raises OSError when nothing takes it, or when `source` is not there to connect from.
        """
        ...

    def log(self, member: str) -> Path:
        """File that the member's output goes to; it may not exist yet."""
        ...

    def run(self, spec: ProcessSpec) -> None:
        """Start a member's process. Its output goes to `logs/<member>.log`; does not wait for readiness."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A place where nodes run."""

    name: ClassVar[str]
    settings: ClassVar[type[Settings]]

    def __init__(self, settings: Any) -> None: ...

    def available(self) -> str | None:
        """None when it can be used here; otherwise the reason and the command that mends it."""
        ...

    def open(
        self, *, run_id: str, run_folder: Path, journal: Journal, events: EventSink
    ) -> AbstractContextManager[Stage]:
        """Open a stage. Leaving it ends every process of the run and removes all that it added, in any exit."""
        ...


@runtime_checkable
class Hosting(Protocol):
    """What a stage has besides, whose services are the user's own: it brings them, and a system says what they are.

    A service is a container; it becomes a member when the system adds one of its name.
    """

    def services(self) -> Mapping[str, Mapping[str, str]]:
        """Labels by service."""
        ...

    def host(self, service: str) -> str:
        """The service's IPv4 address, at which this host reaches it past every fault."""
        ...

    def place(self, member: str, port: str, address: Address, *, of: str | None = None) -> None:
        """Say where a member listens that nobody starts. `of`: the service whose port that is, where it is one's."""
        ...

    def bring_up(self) -> None:
        """Start the services that are members, where the stage starts them; does not wait until they serve."""
        ...

    def unhealthy(self, service: str) -> str | None:
        """None when the service's own health check is content or there is none; otherwise what it says."""
        ...

    def command(self, service: str, argv: Sequence[str], *, timeout_s: float) -> str | None:
        """Run a program in a service's container. None when it exits with 0, otherwise half a sentence."""
        ...


@runtime_checkable
class Attaching(Protocol):
    """What a backend or a system class may have besides, when it acts on things that it does not start itself."""

    @staticmethod
    def attached(settings: Any) -> Sequence[str]:
        """What outside our own labels faults may touch under these settings, as `KIND:NAME` (`container:web-1`).

        Asked before anything is touched: a run goes on only where the scenario's `safety.allow` names each of them,
        and the user has confirmed it. Empty when all that is touched is started by the run.
        """
        ...


# ------------------------------------------------------------------------------------------------ system


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSpec:
    """How clients speak to a system. Goes to the load processes as JSON.

    `client` is `module:Class` of a `workloads.client.Client`; `settings` are for all clients of the run; `groups` has,
    per client group, the addresses it may use by name (for the reference cluster: its one router's).
    """

    client: str
    groups: Mapping[str, Mapping[str, Address]]
    settings: Mapping[str, Any] = field(default_factory=dict)


class ProbeOutcome(NamedTuple):
    """`delivered`: the target itself testified that the request arrived. `answered`: its reply came back."""

    delivered: bool
    answered: bool


class Probe(Protocol):
    """One open application connection along a link, through the faulted path, kept open until closed."""

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        """Send one fresh nonce over this connection and see how far it came."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class BulkProbe(Probe, Protocol):
    """A probe that can also fill its connection, which takes to prove a limit of bandwidth or a change of order."""

    def exchange_bulk(self, *, size_bytes: int, timeout_s: float) -> ProbeOutcome:
        """As `exchange`, with a request and an answer that each carry at least `size_bytes`, all sent at once."""
        ...


class Cluster(Protocol):
    """A deployed system."""

    stage: Stage

    def wait_ready(self, *, deadline_s: float) -> None:
        """Poll until every member serves; raises SetupError naming the member, its last state and its log."""
        ...

    def clients(self) -> ClientSpec:
        """How the load speaks to this system, and where each client group reaches it, through the group's own links."""
        ...

    def shard_of(self, key: str) -> int | None: ...

    def topology(self) -> Topology:
        """Asked from the system now, over a path that no fault touches."""
        ...

    def open_probe(self, link: Link) -> Probe:
        """Connect along a link, as its source does (`Stage.connect`).

        Raises TimeoutError when nothing answers the connection, which is silence; anything else that goes wrong as
        OSError or AftershockError.
        """
        ...

    def wait_member(self, member: str, *, deadline_s: float) -> str | None:
        """Poll until the member serves again. None when it does, otherwise what is still missing."""
        ...

    def wait_settled(self, *, deadline_s: float) -> str | None:
        """Poll until every shard has a primary and all its replicas in sync. None, or what is still missing."""
        ...

    def replicas(self) -> Sequence[ReplicaState]: ...

    def collect_events(self, events: EventSink) -> None:
        """Copy the system's own event log (topology, detection, promotion, node up/down) into the run's events."""
        ...


@runtime_checkable
class System(Protocol):
    """A kind of system under test."""

    name: ClassVar[str]
    settings: ClassVar[type[Settings]]

    def deploy(self, stage: Stage, settings: Any, *, seed: int) -> AbstractContextManager[Cluster]:
        """Start it on a stage. Does not wait for readiness; leaving stops it gracefully, and says who would not."""
        ...


# ------------------------------------------------------------------------------------------------ faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Outcome of a proof. `facts` are sentences with numbers, for the report; also when it is not proven."""

    proven: bool
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """A fault that is on. Returned by `Fault.inject`'s context manager; leaving that heals."""

    targets: tuple[str, ...]
    description: str  # one sentence: what was done to whom
    cut_off: Mapping[str, tuple[int, ...] | None]  # client group -> shards it is not owed; None = all of them
    prove: Callable[[], Evidence]  # active: looks at the effect, never at our own bookkeeping
    verify_healed: Callable[[], Evidence]  # called after leaving the context
    reaction: Mapping[str, Any] | None = None  # expected of the system: {"kind": "new-epoch", "shards": [...]}
    began_ns: int | None = None  # CLOCK_MONOTONIC just before the first change; None = when inject was entered
    still_on: Callable[[], Evidence] | None = None  # a cheap look at the end of the window: did the effect last?


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultContext:
    """All that a fault may use."""

    cluster: Cluster
    rng: random.Random
    journal: Journal
    events: EventSink
    fault_id: str
    duration_s: float
    expires_ns: int  # CLOCK_MONOTONIC; pass to journal.record
    hot_key: str  # a key that the load uses; "the primary" means the primary of its shard


@runtime_checkable
class Fault(Protocol):
    """One kind of fault. Instances hold settings only; what is on lives in the context manager of `inject`."""

    name: ClassVar[str]
    kind: ClassVar[str]  # network, process, disk, clock, resource or none: the report's colours
    settings: ClassVar[type[Settings]]

    def __init__(self, settings: Any) -> None: ...

    def describe(self) -> str:
        """What will be broken and how it is undone, for --dry-run, before anything is deployed."""
        ...

    def available(self, stage: Stage) -> str | None:
        """None when it can be injected there; otherwise the reason and what would mend it."""
        ...

    def inject(self, context: FaultContext) -> AbstractContextManager[Injection]: ...


# ------------------------------------------------------------------------------------------------ workloads


@runtime_checkable
class Workload(Protocol):
    """One key space and what clients do to it. Instances are made in the load process from validated settings.

    What the load process needs of it besides is in `workloads.requests.KeyedWorkload`: the key prefix, and `next(rng,
    values)`, which gives the next request of one worker. `values()` makes a value that was never used before, so every
    history is decidable in O(n log n).
    """

    name: ClassVar[str]
    settings: ClassVar[type[Settings]]

    @staticmethod
    def hot_keys(settings: Any) -> Sequence[str]:
        """Keys that are used all the time under these settings, for faults to aim at; may be empty."""
        ...
