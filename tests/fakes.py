"""A small fake cluster that behaves (stage, processes, network, probes), and that can lie, so that proofs are tested.

Time is virtual where a delay is concerned: a probe on a delayed link advances a clock of its own thread instead of
sleeping (`virtual_now_ns`, which tests/unit/faults/conftest.py puts in place of the proofs' clock). Nothing here waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftershock.harness.interfaces import (
    Address,
    EventSink,
    Flow,
    Link,
    Member,
    MemberState,
    Network,
    ProbeOutcome,
    Processes,
    ProcessSpec,
    ReplicaState,
    Role,
    ShardState,
    Stage,
    Topology,
)

__all__ = [
    "LIES",
    "FakeCluster",
    "FakeJournal",
    "FakeStage",
    "RecordedEvents",
    "World",
    "small_cluster",
    "virtual_now_ns",
]

# What a world can lie about; each is a way in which a real backend could be wrong.
LIES = {
    "block-ignored": "block returns and reads back well, but bytes still flow",
    "blocks-both": "a one-way block takes in both directions",
    "blocks-out-only": "of a two-way block only the flows that leave the first member named take",
    "blocks-too-much": "every flow of the members concerned is blocked",
    "blocks-everything": "no flow passes at all",
    "old-escape": "connections opened before keep working (toxiproxy issue 148)",
    "new-escape": "only connections opened before are blocked",
    "refuses": "a blocked connection is refused instead of silent",
    "closes": "a blocked connection is closed instead of silent",
    "unblock-ignored": "unblock returns, and bytes are still held back",
    "unblock-hidden": "as unblock-ignored, and the network also claims that nothing is impaired",
    "unblock-raises": "unblock raises",
    "stalls-first-look": "the machine stalls: after a block, the first exchange on every connection is silent",
    "block-raises-halfway": "block raises after half of the flows are blocked",
    "delay-ignored": "delay returns but adds nothing",
    "slow-machine": "delay adds nothing, and the machine itself has become that slow on every link",
    "delay-one-way": "only what the target sends is delayed",
    "delay-old-escape": "connections opened before are not delayed",
    "delay-is-cut": "delayed bytes never arrive",
    "kill-survives": "kill reports -9, but the process goes on",
    "kill-by-term": "the process ended by signal 15",
    "kill-still-answers": "something answers in place of the killed process",
    "pause-ignored": "pause returns, and the process goes on",
    "pause-still-answers": "the process is stopped, but something answers in its place",
    "resume-ignored": "resume returns, and the process stays stopped",
    "start-ignored": "start returns, and no process is there",
    "never-serves": "a process that was started or resumed runs, but does not serve",
}


@dataclass(slots=True)
class World:
    """What is really the case, whatever the seams say."""

    members: dict[str, Member]
    links: tuple[Link, ...]
    lies: frozenset[str] = frozenset()
    blocked: set[Flow] = field(default_factory=set)  # as the network claims
    held: set[Flow] = field(default_factory=set)  # as it really is
    delays_ms: dict[Flow, int] = field(default_factory=dict)
    states: dict[str, MemberState] = field(default_factory=dict)
    serves: dict[str, bool] = field(default_factory=dict)
    expiries_ns: list[int] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    stalled: set[tuple[Link, bool]] = field(default_factory=set)  # links (and whether old) that have stalled once
    changed: bool = False  # whether a fault was ever injected: probes opened before are "old"

    def changed_anything(self) -> list[str]:
        """What a heal has left behind."""
        left = [f"{flow.source} -> {flow.target} held" for flow in sorted(self.held)]
        left += [f"{flow.source} -> {flow.target} delayed" for flow in sorted(self.delays_ms)]
        return left + [f"{name} {state}" for name, state in self.states.items() if state is not MemberState.RUNNING]

    def alive(self, member: str) -> bool:
        """Whether bytes that reach it are answered."""
        if self.members[member].role is Role.CLIENT:
            return False
        if {"kill-still-answers", "pause-still-answers"} & self.lies:
            return True
        return self.states[member] is MemberState.RUNNING and self.serves[member]


_delayed = threading.local()


def virtual_now_ns() -> int:
    """Real time plus what probes of this thread were delayed by."""
    return time.monotonic_ns() + int(getattr(_delayed, "ns", 0))


def _delay_ms(duration_ms: int) -> None:
    _delayed.ns = getattr(_delayed, "ns", 0) + duration_ms * 1_000_000


class FakeProbe:
    def __init__(self, world: World, link: Link) -> None:
        self._world = world
        self._link = link
        self._old = not world.changed
        self.closed = False

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        assert timeout_s > 0
        assert not self.closed
        world, (source, target) = self._world, self._link
        if world.states[target] is MemberState.EXITED and not world.alive(target):
            raise ConnectionResetError("connection reset by peer")
        if "stalls-first-look" in world.lies and world.changed and (self._link, self._old) not in world.stalled:
            world.stalled.add((self._link, self._old))
            _delay_ms(round(timeout_s * 1000))
            return ProbeOutcome(delivered=False, answered=False)
        if self._held(Flow(source, target)) or not world.alive(target):
            if "refuses" in world.lies and self._held(Flow(source, target)):
                raise ConnectionRefusedError("connection refused")
            if "closes" not in world.lies:
                _delay_ms(round(timeout_s * 1000))
            return ProbeOutcome(delivered=False, answered=False)
        if self._held(Flow(target, source)):
            if "closes" not in world.lies:
                _delay_ms(round(timeout_s * 1000))
            return ProbeOutcome(delivered=True, answered=False)
        if not (self._old and "delay-old-escape" in world.lies):
            _delay_ms(world.delays_ms.get(Flow(source, target), 0) + world.delays_ms.get(Flow(target, source), 0))
        return ProbeOutcome(delivered=True, answered=True)

    def close(self) -> None:
        self.closed = True

    def _held(self, flow: Flow) -> bool:
        if self._old and "old-escape" in self._world.lies:
            return False
        if not self._old and "new-escape" in self._world.lies:
            return False
        return flow in self._world.held


class FakeNetwork:
    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def links(self) -> Sequence[Link]:
        return self._world.links

    def block(self, flows: Iterable[Flow], *, expires_ns: int) -> None:
        world, wanted = self._world, sorted(flows)
        world.changed = True
        world.calls.append("block")
        world.expiries_ns.append(expires_ns)
        if "block-raises-halfway" in world.lies:
            half = wanted[: len(wanted) // 2 + 1]
            world.blocked |= set(half)
            world.held |= set(half)
            raise OSError("the proxy server hung up")
        world.blocked |= set(wanted)
        world.held |= self._really(wanted)

    def _really(self, wanted: list[Flow]) -> set[Flow]:
        lies, names = self._world.lies, {name for flow in wanted for name in flow}
        everywhere = {Flow(a, b) for a in self._world.members for b in self._world.members if a != b}
        if "block-ignored" in lies:
            return set()
        if "blocks-both" in lies:
            return {flow for a, b in wanted for flow in (Flow(a, b), Flow(b, a))}
        if "blocks-out-only" in lies:
            return {flow for flow in wanted if flow.source == wanted[0].source}
        if "blocks-too-much" in lies:
            return {flow for flow in everywhere if flow.source in names and flow.target in names}
        return everywhere if "blocks-everything" in lies else set(wanted)

    def unblock(self, flows: Iterable[Flow]) -> None:
        world, wanted = self._world, set(flows)
        world.calls.append("unblock")
        if "unblock-raises" in world.lies:
            raise OSError("the proxy server hung up")
        if "unblock-ignored" in world.lies:
            return
        world.blocked -= wanted
        if "unblock-hidden" not in world.lies:
            world.held.clear()

    def delay(self, flows: Iterable[Flow], *, latency_ms: int, jitter_ms: int, expires_ns: int) -> None:
        world, wanted = self._world, sorted(flows)
        assert jitter_ms >= 0
        world.changed = True
        world.calls.append("delay")
        world.expiries_ns.append(expires_ns)
        world.blocked |= set(wanted)
        if "delay-ignored" in world.lies:
            return
        if "slow-machine" in world.lies:
            wanted = [Flow(a, b) for a in world.members for b in world.members if a != b]
        if "delay-is-cut" in world.lies:
            world.held |= set(wanted)
        if "delay-one-way" in world.lies:
            common = set.intersection(*({*flow} for flow in wanted))
            wanted = [flow for flow in wanted if flow.source in common]
        world.delays_ms |= dict.fromkeys(wanted, latency_ms)

    def undelay(self, flows: Iterable[Flow]) -> None:
        world, wanted = self._world, set(flows)
        world.calls.append("undelay")
        if "unblock-raises" in world.lies:
            raise OSError("the proxy server hung up")
        if "unblock-ignored" in world.lies:
            return
        world.blocked -= wanted
        if "unblock-hidden" not in world.lies:
            world.held -= wanted
            if "slow-machine" in world.lies:
                world.delays_ms.clear()
            for flow in wanted:
                world.delays_ms.pop(flow, None)

    def impaired(self) -> Mapping[Flow, str]:
        return dict.fromkeys(self._world.blocked, "impaired")


class FakeProcesses:
    def __init__(self, world: World) -> None:
        self._world = world

    def state(self, member: str) -> MemberState:
        return self._world.states[member]

    def pid(self, member: str) -> int | None:
        return (
            None
            if self._world.states[member] is MemberState.EXITED
            else 1000 + sorted(self._world.states).index(member)
        )

    def start(self, member: str) -> None:
        self._world.calls.append(f"start {member}")
        assert self._world.states[member] is not MemberState.RUNNING, "start of a member that runs"
        if "start-ignored" not in self._world.lies:
            self._come_back(member)

    def kill(self, member: str) -> int:
        world = self._world
        world.changed = True
        world.calls.append(f"kill {member}")
        if "kill-survives" not in world.lies:
            world.states[member] = MemberState.EXITED
        return -15 if "kill-by-term" in world.lies else -9

    def stop(self, member: str, *, deadline_s: float) -> int:
        raise NotImplementedError("no fault stops a member gracefully")

    def pause(self, member: str, *, expires_ns: int) -> None:
        self._world.changed = True
        self._world.calls.append(f"pause {member}")
        self._world.expiries_ns.append(expires_ns)
        if "pause-ignored" not in self._world.lies:
            self._world.states[member] = MemberState.PAUSED

    def resume(self, member: str) -> None:
        self._world.calls.append(f"resume {member}")
        if "resume-ignored" not in self._world.lies:
            self._come_back(member)

    def _come_back(self, member: str) -> None:
        self._world.states[member] = MemberState.RUNNING
        self._world.serves[member] = "never-serves" not in self._world.lies


class FakeStage:
    backend: str = "fake"
    folder: Path = Path("/nonexistent")

    def __init__(self, world: World) -> None:
        self._world = world
        self.processes: Processes = FakeProcesses(world)
        self.network: Network = FakeNetwork(world)

    @property
    def members(self) -> Mapping[str, Member]:
        return self._world.members

    def add(self, member: Member) -> None:
        raise NotImplementedError("members of a fake stage are given to it")

    def listen(self, member: str, port: str) -> Address:
        raise NotImplementedError("a fake stage has no addresses")

    def link(self, source: str, target: str, port: str) -> Address:
        raise NotImplementedError("a fake stage has no addresses")

    def log(self, member: str) -> Path:
        raise NotImplementedError("members of a fake stage write no log")

    def run(self, spec: ProcessSpec) -> None:
        raise NotImplementedError("members of a fake stage run from the start")


class FakeCluster:
    def __init__(self, world: World, shards: Sequence[ShardState]) -> None:
        self.world = world
        self.stage: Stage = FakeStage(world)
        self.shards = tuple(shards)
        self.probes: list[FakeProbe] = []

    def wait_ready(self, *, deadline_s: float) -> None: ...

    def endpoints(self) -> Mapping[str, Address]:
        return {}

    def shard_of(self, key: str) -> int | None:
        return sum(key.encode()) % len(self.shards) if self.shards else None

    def topology(self) -> Topology:
        controllers = tuple(n for n, m in self.world.members.items() if m.role is Role.CONTROLLER)
        return Topology(shards=self.shards, controllers=controllers)

    def open_probe(self, link: Link) -> FakeProbe:
        assert link in self.world.links, f"there is no link {link}"
        probe = FakeProbe(self.world, link)
        self.probes.append(probe)
        return probe

    def wait_member(self, member: str, *, deadline_s: float) -> str | None:
        assert deadline_s > 0
        return None if self.world.alive(member) else f"{member} does not answer /healthz"

    def wait_settled(self, *, deadline_s: float) -> str | None:
        return None

    def replicas(self) -> Sequence[ReplicaState]:
        return []

    def collect_events(self, events: EventSink) -> None: ...


class RecordedEvents:
    """An event sink that keeps what it is given. `fail_on` makes one kind raise, as a full disk would."""

    def __init__(self, *, fail_on: str | None = None) -> None:
        self.all: list[dict[str, Any]] = []
        self._fail_on = fail_on

    def __call__(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        if kind == self._fail_on:
            raise OSError(28, "No space left on device")
        self.all.append({"kind": kind, "source": source, "t_ns": t_ns or time.monotonic_ns(), **fields})

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.all]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.all if event["kind"] == kind]


class FakeJournal:
    """Network and processes journal what they do themselves; faults have nothing to add today."""

    def record(self, inverse: str, /, *, expires_ns: int | None, **arguments: Any) -> str:
        raise NotImplementedError("no built-in fault writes to the journal itself")

    def done(self, entry: str) -> None:
        raise NotImplementedError("no built-in fault writes to the journal itself")


def small_cluster(*, nodes: int = 5, routers: int = 2, controllers: int = 1, lies: Iterable[str] = ()) -> FakeCluster:
    """n1…, r1…, c1… with client groups, three replicas a shard, and one shard led by each node."""
    unknown = set(lies) - set(LIES)
    assert not unknown, f"unknown lies {unknown}"
    named = [(f"n{i}", Role.NODE) for i in range(1, nodes + 1)]
    named += [(f"r{i}", Role.ROUTER) for i in range(1, routers + 1)]
    named += [(f"c{i}", Role.CONTROLLER) for i in range(1, controllers + 1)]
    named += [(f"clients-r{i}", Role.CLIENT) for i in range(1, routers + 1)]
    members = {name: Member(name=name, role=role) for name, role in named}
    world = World(members=members, links=_links(members), lies=frozenset(lies))
    world.states = {name: MemberState.RUNNING for name, role in named if role is not Role.CLIENT}
    world.serves = dict.fromkeys(world.states, True)
    names = [name for name, role in named if role is Role.NODE]
    shards = []
    for number, primary in enumerate(names):
        replicas = tuple(names[(number + step) % len(names)] for step in range(min(3, len(names))))
        shards.append(ShardState(shard=number, epoch=1, primary=primary, in_sync=replicas))
    return FakeCluster(world, shards)


def _links(members: Mapping[str, Member]) -> tuple[Link, ...]:
    """Who opens connections to whom, as in the reference cluster."""
    opens = {
        (Role.NODE, Role.NODE),
        (Role.NODE, Role.CONTROLLER),
        (Role.CONTROLLER, Role.NODE),
        (Role.ROUTER, Role.NODE),
        (Role.ROUTER, Role.CONTROLLER),
    }
    found = [
        Link(a.name, b.name)
        for a in members.values()
        for b in members.values()
        if a is not b and ((a.role, b.role) in opens or (a.role is Role.CLIENT and a.name == f"clients-{b.name}"))
    ]
    return tuple(found)
