"""Redis with Sentinel: one primary, replicas that follow it asynchronously, and sentinels that decide who it is.

Members are nodes `n1`… (`n1` begins as the primary), sentinels `s1`…, and for each sentinel its clients,
`clients-s1`…: a client asks its own sentinel who the primary is, and then speaks to that node.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import permutations
from typing import Any, ClassVar

from ..harness.interfaces import (
    Address,
    ClientSpec,
    Cluster,
    Link,
    ProcessSpec,
    ReplicaState,
    Role,
    Settings,
    ShardState,
    Stage,
)
from ._ask import ask_redis
from ._redis_configuration import SERVICE, RedisSentinelSettings, configuration
from ._stock_cluster import Ping, StockCluster, running
from .reference_access import NoAnswerError

__all__ = ["RedisSentinel", "RedisSentinelSettings"]


class RedisSentinel:
    """Keeps interfaces.System."""

    name: ClassVar[str] = "redis-sentinel"
    settings: ClassVar[type[Settings]] = RedisSentinelSettings

    def deploy(self, stage: Stage, settings: RedisSentinelSettings, *, seed: int) -> AbstractContextManager[Cluster]:
        return running(_RedisCluster(stage, settings))


class _RedisCluster(StockCluster):
    # +PONG, or an error such as -LOADING: one line in any case
    ping = Ping(request=b"PING\r\n", mark=b"\r\n")

    def __init__(self, stage: Stage, settings: RedisSentinelSettings) -> None:
        self._settings = settings
        self._nodes = [f"n{number}" for number in range(1, settings.nodes + 1)]
        self._sentinels = [f"s{number}" for number in range(1, settings.sentinels + 1)]
        groups = {f"clients-{name}": name for name in self._sentinels}
        roles = dict.fromkeys(self._nodes, Role.NODE) | dict.fromkeys(self._sentinels, Role.CONTROLLER)
        links = dict.fromkeys([Link(*pair) for pair in permutations(self._nodes, 2)], "redis")
        links |= dict.fromkeys([Link(*pair) for pair in permutations(self._sentinels, 2)], "sentinel")
        links |= {Link(group, own): "sentinel" for group, own in groups.items()}
        links |= {Link(source, node): "redis" for source in (*self._sentinels, *groups) for node in self._nodes}
        super().__init__(stage, members=roles | dict.fromkeys(groups, Role.CLIENT), links=links)
        self._names = {self.address(name, "redis"): name for name in self._nodes}

    def specs(self) -> Sequence[ProcessSpec]:
        """A member rewrites its own configuration when roles change, so it is in its data folder."""
        first = self.address(self._nodes[0], "redis")
        found = []
        for name in (*self._nodes, *self._sentinels):
            port = "redis" if name in self._nodes else "sentinel"
            file, own = self.stage.folder / name / f"{port}.conf", self.address(name, port)
            text = configuration(self._settings, port, own=own, first=first, folder=file.parent)
            file.write_text(text, encoding="utf-8")
            argv = ("redis-server", str(file), *(("--sentinel",) if port == "sentinel" else ()))
            found.append(ProcessSpec(member=self.stage.members[name], argv=argv, image="redis"))
        return found

    def too_early(self, member: str) -> str | None:
        """A sentinel that asks a primary before it has all its replicas asks again only 10 s later."""
        if member in self._nodes or len(self._role(self._nodes[0])[2]) == len(self._nodes) - 1:
            return None
        return "the replicas do not follow yet"

    def clients(self) -> ClientSpec:
        return ClientSpec(
            client="aftershock.workloads.clients.redis:RedisClient",
            groups=self.groups(),
            settings={
                "members": {str(address): name for address, name in self._names.items()},
                "service": SERVICE,
                "wait": self._settings.wait,
                "wait_timeout_ms": self._settings.wait_timeout_ms,
            },
        )

    def state(self) -> ShardState:
        """By the newest configuration that a sentinel has: one that is cut off still believes in an older one."""
        views = [view for view in self.ask(self._view, self._sentinels).values() if isinstance(view, dict)]
        if not views:
            raise NoAnswerError("no sentinel answers")
        view = max(views, key=lambda view: int(view["config-epoch"]))
        primary = self._names.get(Address(view["ip"], int(view["port"])))
        roles = self.ask(self._role, self._nodes)
        follows = ["slave", view["ip"], int(view["port"]), "connected"]
        in_sync = tuple(
            name
            for name, role in roles.items()
            if isinstance(role, list) and (role[0] == "master" if name == primary else role[:4] == follows)
        )
        learners = tuple(name for name in self._nodes if name not in in_sync)
        return ShardState(shard=0, epoch=int(view["config-epoch"]), primary=primary, in_sync=in_sync, learners=learners)

    def not_serving(self, member: str) -> str | None:
        if member in self._sentinels:
            return None if self._view(member) else "watches nothing"
        role = self._role(member)
        return None if role[0] == "master" or role[3] == "connected" else f"is a replica whose link is {role[3]!r}"

    def not_agreed(self) -> str | None:
        views = {name: self._view(name) for name in self._sentinels}
        others = {"num-slaves": len(self._nodes) - 1, "num-other-sentinels": len(self._sentinels) - 1}
        wanted = {"flags": "master", **{key: str(value) for key, value in others.items()}}
        for name, view in views.items():
            for key, value in wanted.items():
                if view[key] != value:
                    return f"{name} says {key} = {view[key]}, expected {value}"
        told = {(view["ip"], view["port"], view["config-epoch"]) for view in views.values()}
        return None if len(told) == 1 else "sentinels name different primaries"

    def replica(self, member: str, state: ShardState) -> ReplicaState:
        digest = ask_redis(self.address(member, "redis"), "DEBUG", "DIGEST")
        role = self._role(member)
        return ReplicaState(
            shard=0,
            member=member,
            in_sync=member in state.in_sync,
            last_index=int(role[1] if role[0] == "master" else role[4]),
            commit_index=0,  # nothing is written any more when replicas are compared, and Redis commits nothing
            chain="",
            digest=digest,
        )

    def _view(self, sentinel: str) -> dict[str, str]:
        flat = ask_redis(self.address(sentinel, "sentinel"), "SENTINEL", "MASTER", SERVICE)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _role(self, node: str) -> Any:
        return ask_redis(self.address(node, "redis"), "ROLE")
