"""Values of the replication protocol: configuration, log entries, messages, and the effects of the I/O-free core.

Rule numbers (R1, W3, ...) are those of docs/replication.md. Nothing here does I/O. The core (`replica.py`,
`controller_core.py`) takes messages and answers effects; the shell (`node.py`, `controller.py`) or the simulator
carries the effects out **in order**: an effect that must be durable (`SaveConfig`, `Truncate`) is durable before the
next one is begun. `Append` is durable later, and the shell then calls `Replica.on_synced`.

Times are nanoseconds of an interval clock (CLOCK_BOOTTIME in the shell) that the core is given as a callable.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

Store = str  # store id: "<node>:<random id made when the data folder was initialised>"


def node_of(store: Store) -> str:
    """Node name of a store id."""
    return store.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Configuration of one shard. Replaced whole, by compare-and-set on `epoch`."""

    shard: int
    epoch: int
    term: int  # epoch at which this primary was installed
    primary: Store
    isr: frozenset[Store]  # in-sync stores; contains the primary
    learners: frozenset[Store] = frozenset()


class Kind(enum.StrEnum):
    """Kinds of log entries. Conditional ones are logged unevaluated and evaluated when applied."""

    NOOP = "noop"
    PUT = "put"
    CAS = "cas"  # args: (expect, value): expect is ["value", v], ["version", n] or ["absent"]
    DELETE = "delete"
    INCR = "incr"


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry. Its name for ever is (term, index); index is its place in the log, from 1."""

    index: int
    term: int
    kind: Kind
    request_id: tuple[str, int]  # (client, number); ("", 0) for noop
    born: int
    key: str
    args: tuple[Any, ...] = ()


# ---------------------------------------------------------------------------------------------- node to node


@dataclass(frozen=True, slots=True)
class Replicate:
    config: Config
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int


@dataclass(frozen=True, slots=True)
class Ack:
    shard: int
    epoch: int
    match: int


@dataclass(frozen=True, slots=True)
class Nack:
    shard: int
    epoch: int
    hint: int


@dataclass(frozen=True, slots=True)
class Stale:
    config: Config


@dataclass(frozen=True, slots=True)
class Beacon:
    config: Config
    number: int
    t_sent_ns: int  # the sender's clock; opaque to everyone else
    stalled: bool = False  # the primary needs a change of configuration and does not get one (section 10)


@dataclass(frozen=True, slots=True)
class BeaconAck:
    shard: int
    term: int
    t_sent_ns: int


@dataclass(frozen=True, slots=True)
class ConfigMessage:
    config: Config


PeerMessage = Replicate | Ack | Nack | Stale | Beacon | BeaconAck | ConfigMessage

# ---------------------------------------------------------------------------------------------- node to controller


class Role(enum.StrEnum):
    PRIMARY = "primary"
    BACKUP = "backup"
    LEARNER = "learner"
    WAITING = "waiting"  # X4: restarted as the configuration's primary; asks for a new term
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Request:
    """What a primary asks of the controller, always for the epoch of the heartbeat that carries it."""

    kind: str  # "add" (store = the learner), "bump"
    store: Store = ""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard in a heartbeat."""

    shard: int
    epoch: int
    role: Role
    active: bool
    last_term: int
    last_index: int
    commit: int
    damaged: bool = False
    needs_install: bool = False
    beacon_age_ns: int = 0  # since the primary was last heard; a very large number for a primary that is stalled
    suspects: frozenset[Store] = frozenset()
    request: Request | None = None
    tail_cut: bool = False  # X6: a torn or rotten last record was cut when the process started


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A node to every controller, every `heartbeat_ns`. `incarnation` is new with every start of the process."""

    store: Store
    incarnation: int
    statuses: tuple[ShardStatus, ...]


# ---------------------------------------------------------------------------------------------- clients


@dataclass(frozen=True, slots=True)
class ClientOp:
    """A request from a router. kind is "get" or a `Kind` other than noop."""

    shard: int
    request_id: tuple[str, int]
    born: int
    kind: str
    key: str
    args: tuple[Any, ...] = ()


class ReplyKind(enum.StrEnum):
    OK = "ok"
    CAS_FAILED = "cas-failed"  # an answer: a committed fact. value and version are what stood there
    REFUSED = "refused"  # this attempt was not appended and never will be
    TOO_OLD = "too-old"  # may have been applied and forgotten: unknown
    UNKNOWN = "unknown"  # appended, and this replica cannot tell any more


@dataclass(frozen=True, slots=True)
class Reply:
    kind: ReplyKind
    found: bool = False
    value: Any = None
    version: int = 0  # log index of the key's last change; survives deletion; 0 = never written
    commit: int = 0  # the shard's commit index, from which routers learn `born`
    reason: str = ""
    config: Config | None = None  # with REFUSED: the newest configuration that the replica knows


# ---------------------------------------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Send:
    to: Store
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class Append:
    """Write entries at the log's end and start an fsync (group commit); then `Replica.on_synced(last index)`."""

    shard: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Drop entries from `from_index` on; durable before the next effect.

    An fsync that was begun before this one must not be reported by `Replica.on_synced` afterwards: it speaks of
    entries that are gone.
    """

    shard: int
    from_index: int


@dataclass(frozen=True, slots=True)
class SaveConfig:
    """Durable before the next effect (A1)."""

    config: Config


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a client whose request came with this token."""

    token: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the event log; no meaning for the protocol. kind and fields as in docs/run-folder.md."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)


Effect = Send | Append | Truncate | SaveConfig | Answer | Note


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    """Controller: write `config` if the stored epoch is `expected_epoch` (0: no row yet). Answer by `on_cas`."""

    expected_epoch: int
    config: Config


@dataclass(frozen=True, slots=True)
class SendConfig:
    """Controller: push a configuration to a node."""

    node: str
    config: Config


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """Controller: read what is stored for a shard now (linearizable). Answer by `on_cas(shard, False, stored)`.

    Asked for once a second, because a change may have been stored without anybody hearing of it, and at once when a
    node knows a newer epoch than this controller: another controller changed it, or the store went back (rule 7).
    """

    shard: int


ControllerEffect = CompareAndSet | SendConfig | ReadConfig | Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a replica finds on its disk when it starts (rules X1, X2)."""

    config: Config | None = None
    entries: tuple[Entry, ...] = ()
    damaged: bool = False
    tail_cut: bool = False
