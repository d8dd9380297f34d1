"""etcd: members that agree by Raft. Each has clients of its own, `clients-n1`…, which never speak to another one."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import permutations
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..harness.interfaces import ClientSpec, Cluster, Link, ProcessSpec, ReplicaState, Role, Settings, ShardState, Stage
from ._ask import post_json
from ._stock_cluster import Ping, StockCluster, running
from .reference_access import NoAnswerError, get_json

__all__ = ["Etcd", "EtcdSettings"]

_CLIENTS = {"register": "EtcdClient", "lock-set": "EtcdLockSetClient"}
_ALL_KEYS = {"key": base64.b64encode(b"\0").decode(), "range_end": base64.b64encode(b"\0").decode()}


class EtcdSettings(Settings):
    """Shape, and how clients use it. etcd's own settings are its defaults."""

    nodes: int = Field(default=3, ge=1, le=9)
    pre_vote: bool = Field(default=False, description="etcd's own: who comes back does not depose a healthy leader")
    clients: Literal["register", "lock-set"] = "register"
    serializable: bool = Field(default=False, description="register: reads are answered by the member alone")
    fenced: bool = Field(default=False, description="lock-set: a write is refused when the lock is no longer held")
    lock_ttl_s: int = Field(default=2, ge=1)
    hold_s: float = Field(default=0.1, ge=0, description="lock-set: how long a client works while it holds the lock")


class Etcd:
    """Keeps interfaces.System."""

    name: ClassVar[str] = "etcd"
    settings: ClassVar[type[Settings]] = EtcdSettings

    def deploy(self, stage: Stage, settings: EtcdSettings, *, seed: int) -> AbstractContextManager[Cluster]:
        return running(_EtcdCluster(stage, settings))


class _EtcdCluster(StockCluster):
    # Both ports have this page, and it asks nobody else.
    ping = Ping(request=b"GET /version HTTP/1.1\r\nHost: probe\r\n\r\n", mark=b"HTTP/1.1 200")

    def __init__(self, stage: Stage, settings: EtcdSettings) -> None:
        self._settings = settings
        self._nodes = [f"n{number}" for number in range(1, settings.nodes + 1)]
        groups = {f"clients-{name}": name for name in self._nodes}
        members = dict.fromkeys(self._nodes, Role.NODE) | dict.fromkeys(groups, Role.CLIENT)
        links = {Link(group, own): "client" for group, own in groups.items()}
        links |= {Link(*pair): "peer" for pair in permutations(self._nodes, 2)}
        super().__init__(stage, members=members, links=links)

    def specs(self) -> Sequence[ProcessSpec]:
        peers = {name: f"http://{self.address(name, 'peer')}" for name in self._nodes}
        found = []
        for name, peer in peers.items():
            client = f"http://{self.address(name, 'client')}"
            options = {
                "name": name,
                "data-dir": self.stage.folder / name / "etcd",
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "initial-cluster": ",".join(f"{other}={url}" for other, url in peers.items()),
                "pre-vote": str(self._settings.pre_vote).lower(),
                "logger": "zap",
            }
            argv = ("etcd", *(f"--{option}={value}" for option, value in options.items()))
            found.append(ProcessSpec(member=self.stage.members[name], argv=argv, image="etcd"))
        return found

    def clients(self) -> ClientSpec:
        chosen = self._settings.model_dump(exclude={"nodes", "clients", "pre_vote"})
        kind = _CLIENTS[self._settings.clients]
        return ClientSpec(client=f"aftershock.workloads.clients.etcd:{kind}", groups=self.groups(), settings=chosen)

    def state(self) -> ShardState:
        """By who says of itself that it leads, in the newest term: one that is cut off still believes in an older."""
        pages = {name: page for name, page in self.ask(self._status, self._nodes).items() if isinstance(page, dict)}
        if not pages:
            raise NoAnswerError("no member answers")
        terms = {name: int(page["raftTerm"]) for name, page in pages.items()}
        leaders = [name for name, page in pages.items() if page.get("leader") == page["header"]["member_id"]]
        primary = max(leaders, key=lambda name: terms[name], default=None)
        epoch = terms[primary] if primary is not None else max(terms.values())
        leader = pages[primary]["leader"] if primary is not None else None
        in_sync = tuple(name for name in pages if (pages[name].get("leader"), terms[name]) == (leader, epoch))
        learners = tuple(name for name in self._nodes if name not in in_sync)
        return ShardState(shard=0, epoch=epoch, primary=primary, in_sync=in_sync, learners=learners)

    def not_serving(self, member: str) -> str | None:
        page = get_json(self.address(member, "client"), "/health", also=(503,))
        return None if page["health"] == "true" else "says that it is not healthy"

    def not_agreed(self) -> str | None:
        problems = [self._problem(member) for member in self._nodes]
        return next((problem for problem in problems if problem is not None), None)

    def replica(self, member: str, state: ShardState) -> ReplicaState:
        """From one serializable read of everything; `chain` covers when each key was made and last changed."""
        page = post_json(
            self.address(member, "client"), "/v3/kv/range", {**_ALL_KEYS, "serializable": True}, timeout_s=10
        )
        entries = page.get("kvs", [])
        revision = int(page["header"]["revision"])
        return ReplicaState(
            shard=0,
            member=member,
            in_sync=member in state.in_sync,
            last_index=revision,
            commit_index=revision,
            chain=_hash([[entry["key"], entry["create_revision"], entry["mod_revision"]] for entry in entries]),
            digest=_hash([[entry["key"], entry.get("value")] for entry in entries]),
        )

    def _status(self, member: str) -> Any:
        return post_json(self.address(member, "client"), "/v3/maintenance/status", {})


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
