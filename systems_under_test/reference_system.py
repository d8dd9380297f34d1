"""The reference cluster as a system under test: what is deployed, how it is asked, when it is ready and settled.

Members are nodes `n1`…, routers `r1`…, the controller `c1`, and for each router its clients, `clients-r1`…. Every
pair that speaks has its links; the harness itself reaches members' http ports directly, past every fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from ..harness.errors import SetupError
from ..harness.interfaces import (
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
    Settings,
    ShardState,
    Stage,
    Topology,
)
from .reference.ring import shard_of
from .reference_access import CONNECT_TIMEOUT_S, HttpProbe, NoAnswerError, PeerProbe, get_json, poll

__all__ = ["ReferenceCluster", "ReferenceSettings", "ReferenceSystem"]

_PROGRAM: Final = ("-m", "aftershock.systems_under_test.reference")
_STOP_DEADLINE_S: Final = 5.0
_AGREE_DEADLINE_S: Final = 5.0
_LOG_LINES: Final = 20


class ReferenceSettings(Settings):
    """Shape of the cluster and its unsafe switches; the defaults are safe (DESIGN section 6)."""

    nodes: int = Field(default=5, ge=1, le=50)
    routers: int = Field(default=2, ge=1, le=10)
    controllers: int = 1
    shards: int = Field(default=16, ge=1, le=1024)
    replicas: int = Field(default=3, ge=1)
    min_in_sync: int = Field(default=2, ge=1)
    ack: Literal["all", "primary"] = "all"
    lease: bool = True
    fencing: bool = True
    read_from: Literal["primary", "any"] = "primary"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.controllers != 1:
            raise ValueError(f"controllers is {self.controllers}; this version runs exactly 1, with an embedded store")
        if self.replicas > self.nodes:
            raise ValueError(f"replicas is {self.replicas}, but there are only {self.nodes} nodes to hold them")
        if self.min_in_sync > self.replicas:
            raise ValueError(f"min_in_sync is {self.min_in_sync}, but a shard has {self.replicas} replicas")
        return self

    def of_cluster(self) -> dict[str, Any]:
        """The part that members themselves are told."""
        names = ("shards", "replicas", "min_in_sync", "ack", "lease", "fencing", "read_from")
        return {name: getattr(self, name) for name in names}


class ReferenceSystem:
    """Keeps interfaces.System."""

    name: ClassVar[str] = "reference"
    settings: ClassVar[type[Settings]] = ReferenceSettings

    @contextmanager
    def deploy(self, stage: Stage, settings: ReferenceSettings, *, seed: int) -> Iterator[Cluster]:
        """See interfaces.System. The seed is the load's and the schedule's: members draw their own randomness."""
        cluster = ReferenceCluster(stage, settings)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


class ReferenceCluster:
    """A deployed reference cluster. Keeps interfaces.Cluster."""

    def __init__(self, stage: Stage, settings: ReferenceSettings) -> None:
        self.stage = stage
        self._settings = settings
        self._nodes = [f"n{number}" for number in range(1, settings.nodes + 1)]
        self._routers = [f"r{number}" for number in range(1, settings.routers + 1)]
        self._controllers = [f"c{number}" for number in range(1, settings.controllers + 1)]
        self._running = [*self._controllers, *self._nodes, *self._routers]
        roles = {Role.NODE: self._nodes, Role.ROUTER: self._routers, Role.CONTROLLER: self._controllers}
        for role, names in roles.items():
            for name in names:
                stage.add(Member(name=name, role=role))
        for router in self._routers:
            stage.add(Member(name=_clients(router), role=Role.CLIENT))
        self._ports = self._connect()
        self._http = {name: stage.listen(name, "http") for name in self._running}

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Write every member's configuration, then start them all; they wait for each other by themselves."""
        roles = self.stage.members
        specs = []
        for name in self._running:
            file = self.stage.folder / f"{name}.json"  # beside the data folder, which a fault may empty
            file.write_text(json.dumps(self._configuration(name), indent=1), encoding="utf-8")
            argv = (self.stage.python, *_PROGRAM, roles[name].role.value, "--config", str(file))
            specs.append(ProcessSpec(member=roles[name], argv=argv))
        for spec in specs:
            self.stage.run(spec)

    def stop(self) -> None:
        """Ask every member that runs to end, routers before those they depend on; the stage says who would not."""
        for group in (self._routers, [*self._nodes, *self._controllers]):
            running = [name for name in group if self._state(name) in (MemberState.RUNNING, MemberState.PAUSED)]
            if running:
                with ThreadPoolExecutor(len(running)) as threads:
                    list(threads.map(self._stop_one, running))

    def _stop_one(self, member: str) -> None:
        self.stage.processes.stop(member, deadline_s=_STOP_DEADLINE_S)

    def _connect(self) -> dict[Link, str]:
        """Make every link; returns the port that each leads to."""
        ports: dict[Link, str] = {}
        for node in self._nodes:
            ports |= {Link(node, peer): "peer" for peer in self._nodes if peer != node}
            for controller in self._controllers:
                ports[Link(node, controller)] = ports[Link(controller, node)] = "peer"
        for router in self._routers:
            ports |= {Link(router, target): "peer" for target in (*self._nodes, *self._controllers)}
            ports[Link(_clients(router), router)] = "http"
        for link, port in ports.items():
            self.stage.link(link.source, link.target, port)
        return ports

    def _configuration(self, name: str) -> dict[str, Any]:
        ports = ("http",) if name in self._routers else ("peer", "http")
        reach = {
            target: self.stage.link(name, target, port)
            for (source, target), port in self._ports.items()
            if source == name
        }
        nodes = {target: address for target, address in reach.items() if target in self._nodes}
        content: dict[str, Any] = {
            "name": name,
            "data": str((self.stage.folder / name).absolute()),
            "listen": {port: self.stage.listen(name, port) for port in ports},
            "controllers": {target: address for target, address in reach.items() if target in self._controllers},
            "settings": self._settings.of_cluster(),
        }
        if name in self._nodes:
            content["peers"] = nodes
        else:
            content["nodes"] = nodes
        if name in self._controllers:
            content["expected_nodes"] = self._nodes
        return content

    # ------------------------------------------------------------------------------------------ asking

    def wait_ready(self, *, deadline_s: float) -> None:
        missing = poll(self._not_ready, deadline_s=deadline_s)
        if missing is not None:
            raise SetupError(f"the reference cluster was not ready within {deadline_s:g} s: {missing}")

    def clients(self) -> ClientSpec:
        """See interfaces.Cluster. Each group has its router's address, on its own link."""
        return ClientSpec(
            client="aftershock.workloads.clients.reference:ReferenceClient",
            groups={
                _clients(router): {"router": self.stage.link(_clients(router), router, "http")}
                for router in self._routers
            },
        )

    def shard_of(self, key: str) -> int | None:
        return shard_of(key, self._settings.shards)

    def topology(self) -> Topology:
        """See interfaces.Cluster. Raises SetupError when the controller does not answer."""
        return Topology(shards=self._shards(), controllers=tuple(self._controllers))

    def open_probe(self, link: Link) -> Probe:
        """See interfaces.Cluster. Raises SetupError for a pair that has no link, or when nothing takes a connection."""
        port = self._ports.get(link)
        if port is None:
            raise SetupError(f"{link.source} never opens connections to {link.target}: there is no link to probe")
        kind = HttpProbe if port == "http" else PeerProbe
        try:
            path = self.stage.connect(link.source, self.stage.link(*link, port), timeout_s=CONNECT_TIMEOUT_S)
            return kind(path=path, witness=self._http[link.target])
        except TimeoutError:
            raise
        except OSError as error:
            raise SetupError(f"the link {link.source} -> {link.target} takes no connection: {error}") from error

    def wait_member(self, member: str, *, deadline_s: float) -> str | None:
        return poll(lambda: self._not_serving(member), deadline_s=deadline_s)

    def wait_settled(self, *, deadline_s: float) -> str | None:
        return poll(self._not_settled, deadline_s=deadline_s)

    def replicas(self) -> Sequence[ReplicaState]:
        """State of every replica, once those in sync have the same commit index (or as it is after a few seconds).

        Raises SetupError when a node or the controller does not answer: a replica that is not shown agrees with none.
        """
        states: list[ReplicaState] = []

        def missing() -> str | None:
            states[:] = self._replica_states()
            indices: dict[int, set[tuple[int, int]]] = {}
            for state in states:
                if state.in_sync:
                    indices.setdefault(state.shard, set()).add((state.last_index, state.commit_index))
            return "indices differ" if any(len(found) > 1 for found in indices.values()) else None

        poll(missing, deadline_s=_AGREE_DEADLINE_S)
        return states

    def collect_events(self, events: EventSink) -> None:
        for member in self._running:
            bad = 0
            with suppress(FileNotFoundError), (self.stage.folder / member / "events.jsonl").open("rb") as file:
                for line in file:
                    bad += not _copy_event(line, events)
            if bad:
                events("warning", text=f"{bad} lines of the event log of {member} could not be read")

    # ------------------------------------------------------------------------------------------ states

    def _not_ready(self) -> str | None:
        """What is missing. Raises SetupError at once for a member that has ended: it will not come by waiting."""
        for member in self._running:
            if self._state(member) is MemberState.EXITED:
                raise SetupError(f"{member} ended while it was starting; {self._last_log_lines(member)}")
        problems = [(self._problem(member), member) for member in self._running]
        # Those that do nothing at all come first: the others often only wait for them.
        found = sorted((problem, member) for problem, member in problems if problem is not None)
        if found:
            sentences = "; ".join(text for (_, text), _ in found)
            return f"{sentences}; {self._last_log_lines(found[0][1])}"
        return self._not_settled()

    def _not_serving(self, member: str) -> str | None:
        problem = self._problem(member)
        return problem[1] if problem is not None else None

    def _problem(self, member: str) -> tuple[int, str] | None:
        """Why a member does not serve, with how far it came: 0 no running process, 1 no answer, 2 not ready."""
        state = self._state(member)
        if state is not MemberState.RUNNING:
            return 0, f"{member} is {state.value}"
        try:
            page = get_json(self._http[member], "/healthz", also=(503,))
        except NoAnswerError as error:
            return 1, f"{member} is running but does not answer ({error})"
        return None if page["ready"] else (2, f"{member} is not ready: {page['missing']}")

    def _not_settled(self) -> str | None:
        try:
            shards = self._shards()
            # Shard -> epoch at which a node says of itself that it serves it as primary.
            open_at = {
                (shard["shard"], node): shard["epoch"]
                for node in {shard.primary for shard in shards if shard.primary is not None}
                for shard in get_json(self._http[node], "/status")["shards"]
                if shard["active"]
            }
        except (NoAnswerError, SetupError) as error:
            return str(error)
        if len(shards) < self._settings.shards:
            return f"{len(shards)} of {self._settings.shards} shards are placed"
        for shard in shards:
            if shard.primary is None or open_at.get((shard.shard, shard.primary)) != shard.epoch:
                return f"shard {shard.shard}: {shard.primary or 'no primary'} does not serve epoch {shard.epoch} yet"
            if len(shard.in_sync) < self._settings.replicas:
                have = ", ".join(shard.in_sync)
                return f"shard {shard.shard}: in sync are {have}; {self._settings.replicas} are wanted"
        return None

    def _shards(self) -> tuple[ShardState, ...]:
        (controller,) = self._controllers
        try:
            page = get_json(self._http[controller], "/status")
        except NoAnswerError as error:
            raise SetupError(f"{controller} does not tell the topology: {error}") from error
        return tuple(
            ShardState(
                shard=shard["shard"],
                epoch=shard["epoch"],
                primary=shard["primary"],
                in_sync=tuple(shard["in_sync"]),
                learners=tuple(shard["learners"]),
            )
            for shard in page["shards"]
        )

    def _replica_states(self) -> list[ReplicaState]:
        shards = {shard.shard: shard for shard in self._shards()}
        states = []
        for node in self._nodes:
            try:
                page = get_json(self._http[node], "/replicas", timeout_s=10)
            except NoAnswerError as error:
                raise SetupError(f"{node} does not tell what it holds: {error}") from error
            for replica in page:
                shard = shards.get(replica["shard"])
                if shard is None or node not in (*shard.in_sync, *shard.learners):
                    continue  # what it held once and is no replica of any more
                states.append(
                    ReplicaState(
                        shard=replica["shard"],
                        member=node,
                        in_sync=node in shard.in_sync,
                        last_index=replica["last_index"],
                        commit_index=replica["commit_index"],
                        chain=replica["chain"],
                        digest=replica["digest"],
                    )
                )
        return states

    def _state(self, member: str) -> MemberState:
        return self.stage.processes.state(member)

    def _last_log_lines(self, member: str) -> str:
        log = self.stage.log(member)
        try:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            lines = []
        text = "".join(f"\n  {line}" for line in lines)
        return f"the end of its log {log}:{text}" if text else f"its log {log} is empty"


def _clients(router: str) -> str:
    return f"clients-{router}"


def _copy_event(line: bytes, events: EventSink) -> bool:
    """Whether the line is an event of a member (the last one may be torn by a kill)."""
    try:
        value = json.loads(line)
        kind, source, t_ns = value.pop("kind"), value.pop("source"), value.pop("t_ns")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    events(kind, source=source, t_ns=t_ns, **value)
    return True
