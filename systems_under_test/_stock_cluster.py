"""What adapters of stock programs have in common: members that know nothing of us, and one group of equal replicas.

Such a program tells its own address to its peers and to clients, so its links cannot be proxies at other addresses:
these systems need a backend whose faults act on packets (docker). How a system is asked, what its configuration files
say and when it serves is the adapter's; all the rest is here.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ClassVar, Final, NamedTuple, TypeVar

from ..harness.errors import SetupError
from ..harness.interfaces import (
    Address,
    ClientSpec,
    Cluster,
    EventSink,
    Link,
    Member,
    MemberState,
    Probe,
    ProcessSpec,
    ReplicaState,
    Role,
    ShardState,
    Stage,
    Topology,
)
from ._tcp_probe import open_tcp_probe
from .reference_access import NoAnswerError, poll

__all__ = ["Ping", "StockCluster", "running"]

_START_DEADLINE_S: Final = 10.0
_STOP_DEADLINE_S: Final = 5.0
_TOPOLOGY_DEADLINE_S: Final = 3.0
_AGREE_DEADLINE_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.2
_LOG_LINES: Final = 20

_Value = TypeVar("_Value")


class Ping(NamedTuple):
    """A request that a service answers by itself, with something that has `mark` in it exactly once."""

    request: bytes
    mark: bytes


class StockCluster(ABC):
    """A deployed system. Subclasses keep interfaces.Cluster with it. All replicas of everything are shard 0."""

    ping: ClassVar[Ping]  # what a probe says, on every port

    def __init__(self, stage: Stage, *, members: Mapping[str, Role], links: Mapping[Link, str]) -> None:
        """`links`: who opens connections to which port of whom."""
        self.stage = stage
        self.members = members
        self._links = links
        for name, role in members.items():
            stage.add(Member(name=name, role=role))
        self._address = {(target, port): stage.listen(target, port) for (_, target), port in links.items()}
        for (source, target), port in links.items():
            link = stage.link(source, target, port)
            if members[source] is not Role.CLIENT and link != self.address(target, port):
                raise SetupError(
                    f"on backend {stage.backend!r} {source} would reach {target} at {link}, but this system tells its "
                    f"members their own addresses, so faults would miss their traffic; use the backend docker"
                )
        self._running = [name for name, role in members.items() if role is not Role.CLIENT]
        self._seen: list[tuple[int, ShardState]] = []
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="topology", daemon=True)

    # ------------------------------------------------------------------------------------------ the adapter's part

    @abstractmethod
    def specs(self) -> Sequence[ProcessSpec]:
        """Write every member's configuration, and say how it runs."""

    def too_early(self, member: str) -> str | None:
        """What a member's start has to wait for, or None. May raise NoAnswerError."""
        return None

    @abstractmethod
    def state(self) -> ShardState:
        """Who leads and who follows, asked now. Raises NoAnswerError when nobody can tell."""

    @abstractmethod
    def not_serving(self, member: str) -> str | None:
        """What a running member lacks to serve, or None. May raise NoAnswerError."""

    @abstractmethod
    def not_agreed(self) -> str | None:
        """What is missing, besides all replicas being in sync, until the system is whole. May raise NoAnswerError."""

    @abstractmethod
    def replica(self, member: str, state: ShardState) -> ReplicaState:
        """What one replica holds. Raises NoAnswerError."""

    @abstractmethod
    def clients(self) -> ClientSpec:
        """See interfaces.Cluster."""

    # ------------------------------------------------------------------------------------------ addresses

    def address(self, member: str, port: str) -> Address:
        """The member's own address: at it the harness asks, past every fault."""
        return self._address[member, port]

    def groups(self) -> dict[str, dict[str, Address]]:
        """Per client group the addresses of its own links, by member."""
        found: dict[str, dict[str, Address]] = {}
        for (source, target), port in self._links.items():
            if self.members[source] is Role.CLIENT:
                found.setdefault(source, {})[target] = self.stage.link(source, target, port)
        return found

    def ask(self, question: Callable[[str], _Value], members: Sequence[str]) -> dict[str, _Value | NoAnswerError]:
        """Ask members at the same time: one that is stopped must not hold up the others."""

        def asked(member: str) -> _Value | NoAnswerError:
            try:
                return question(member)
            except NoAnswerError as error:
                return error

        with ThreadPoolExecutor(len(members)) as threads:
            return dict(zip(members, threads.map(asked, members), strict=True))

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        for spec in self.specs():
            # Whoever waited in vain starts all the same: what is missing then is for `wait_ready` to tell.
            poll(lambda name=spec.member.name: self._too_early(name), deadline_s=_START_DEADLINE_S)  # type: ignore[misc]
            self.stage.run(spec)

    def _too_early(self, member: str) -> str | None:
        try:
            return self.too_early(member)
        except NoAnswerError as error:
            return str(error)

    def stop(self) -> None:
        """Ask every member that runs to end, the leader last: it would try to hand over to one that ends as well.

        The stage says who would not.
        """
        self._ended.set()
        if self._watcher.is_alive():
            self._watcher.join()
        leader = self._seen[-1][1].primary if self._seen else None
        for group in ([name for name in self._running if name != leader], [leader]):
            running = [name for name in group if name is not None and self._runs(name)]
            if running:
                with ThreadPoolExecutor(len(running)) as threads:
                    list(threads.map(self._stop_one, running))

    def _runs(self, member: str) -> bool:
        return self.stage.processes.state(member) in (MemberState.RUNNING, MemberState.PAUSED)

    def _stop_one(self, member: str) -> None:
        self.stage.processes.stop(member, deadline_s=_STOP_DEADLINE_S)

    def wait_ready(self, *, deadline_s: float) -> None:
        """See interfaces.Cluster. From then on changes of the topology are noted as they are seen."""
        missing = poll(self._not_ready, deadline_s=deadline_s)
        if missing is not None:
            raise SetupError(f"the system was not ready within {deadline_s:g} s: {missing}")
        self.look()
        self._watcher.start()

    def wait_member(self, member: str, *, deadline_s: float) -> str | None:
        return poll(lambda: self._problem(member), deadline_s=deadline_s)

    def wait_settled(self, *, deadline_s: float) -> str | None:
        return poll(self._not_settled, deadline_s=deadline_s)

    # ------------------------------------------------------------------------------------------ asking

    def shard_of(self, key: str) -> int | None:
        """0: every replica holds every key."""
        return 0

    def topology(self) -> Topology:
        """See interfaces.Cluster. Raises SetupError when nobody can tell it for a while."""
        found: list[ShardState] = []

        def missing() -> str | None:
            try:
                found.append(self.state())
            except NoAnswerError as error:
                return str(error)
            return None

        problem = poll(missing, deadline_s=_TOPOLOGY_DEADLINE_S)
        if problem is not None:
            raise SetupError(f"nobody tells who leads: {problem}")
        return Topology(shards=tuple(found), controllers=self.controllers())

    def controllers(self) -> tuple[str, ...]:
        """Members of whom a majority decides who leads; none when the replicas do it themselves."""
        return tuple(name for name, role in self.members.items() if role is Role.CONTROLLER)

    def open_probe(self, link: Link) -> Probe:
        """See interfaces.Cluster. Raises SetupError for a pair without a link, or when the connection is refused;
        TimeoutError when nothing is said at all, as where packets are cut.

        From inside the source to the target's own address: a client group's link goes on from the group in the same
        way, and the kernel of the target tells connections apart by their source.
        """
        port = self._links.get(link)
        if port is None:
            raise SetupError(f"{link.source} never opens connections to {link.target}: there is no link to probe")
        target = self.address(link.target, port)
        return open_tcp_probe(self.stage, link, target, request=self.ping.request, mark=self.ping.mark)

    def replicas(self) -> Sequence[ReplicaState]:
        """What every replica holds, once all are at the same place (or as it is after a few seconds).

        Raises SetupError when one does not answer: a replica that is not shown agrees with none.
        """
        states: list[ReplicaState] = []

        def missing() -> str | None:
            state = self.state()
            nodes = [name for name, role in self.members.items() if role is Role.NODE]
            states[:] = [self.replica(name, state) for name in nodes]
            differ = len({(one.commit_index, one.digest) for one in states}) > 1
            return "replicas differ" if differ else None

        try:
            poll(missing, deadline_s=_AGREE_DEADLINE_S)
        except NoAnswerError as error:
            raise SetupError(f"a replica does not tell what it holds: {error}") from error
        return states

    def collect_events(self, events: EventSink) -> None:
        """Who led and who followed, as it was seen from outside every fifth of a second."""
        primary: str | None = None
        for t_ns, state in list(self._seen):
            events(
                "topology",
                source="observer",
                t_ns=t_ns,
                shard=state.shard,
                epoch=state.epoch,
                primary=state.primary,
                in_sync=list(state.in_sync),
                learners=list(state.learners),
            )
            if state.primary is not None and state.primary != primary:
                primary = state.primary
                events("primary.open", source=primary, t_ns=t_ns, shard=state.shard, epoch=state.epoch)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        try:
            state = self.state()
        except NoAnswerError:
            return  # there is nothing to note down
        if not self._seen or self._seen[-1][1] != state:
            self._seen.append((time.monotonic_ns(), state))

    # ------------------------------------------------------------------------------------------ what is missing

    def _not_ready(self) -> str | None:
        """What is missing. Raises SetupError at once for a member that has ended: it will not come by waiting."""
        for member in self._running:
            if self.stage.processes.state(member) is MemberState.EXITED:
                raise SetupError(f"{member} ended while it was starting; {self._last_log_lines(member)}")
        for member in self._running:
            problem = self._problem(member)
            if problem is not None:
                return f"{problem}; {self._last_log_lines(member)}"
        return self._not_settled()

    def _problem(self, member: str) -> str | None:
        state = self.stage.processes.state(member)
        if state is not MemberState.RUNNING:
            return f"{member} is {state}"
        try:
            missing = self.not_serving(member)
        except NoAnswerError as error:
            return f"{member} is running but does not answer ({error})"
        return f"{member} {missing}" if missing is not None else None

    def _not_settled(self) -> str | None:
        try:
            state = self.state()
            if state.primary is None:
                return "nobody leads"
            if state.learners:
                return f"{', '.join(state.learners)}: not in sync with {state.primary}"
            return self.not_agreed()
        except NoAnswerError as error:
            return str(error)

    def _last_log_lines(self, member: str) -> str:
        log = self.stage.log(member)
        try:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            lines = []
        text = "".join(f"\n  {line}" for line in lines)
        return f"the end of its log {log}:{text}" if text else f"its log {log} is empty"


@contextmanager
def running(cluster: StockCluster) -> Iterator[Cluster]:
    """A cluster from its start to its end: the whole of an adapter's `deploy`."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
