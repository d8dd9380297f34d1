"""A small fake cluster that behaves (stage, processes, network, probes), and that can lie, so that proofs are tested.

Time is virtual where a delay is concerned: a probe on a delayed link advances a clock of its own thread instead of
sleeping (`virtual_now_ns`, which tests/unit/faults/conftest.py puts in place of the proofs' clock). Nothing here waits.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.impairment import Block, Delay, Impairment
from aftershock.harness.interfaces import (
    Address,
    ClientSpec,
    Confinement,
    Disks,
    DiskTrial,
    EventSink,
    Flow,
    Limits,
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
    Usage,
)

from tests.fake_packets import PACKET_LIES, FakePackets

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
    "stop-ignored": "stop reports 0, but the process goes on",
    "stop-still-answers": "something answers in place of the stopped process",
    "same-process": "start returns, and it is the old process that goes on, with its connections",
    "loop-stops": "from the second kill on, kills are ignored",
    "hog-idle": "a helper runs in the member's limits, and takes nothing",
    "hog-outside": "a helper runs outside of the member's limits, and takes from all members alike",
    "hog-dies": "a helper ends as soon as it was started",
    "hog-stays": "end returns, and the helper goes on",
    "oom-spares": "the kernel ends something else than the member for want of memory",
    "oom-uncounted": "the member ends by itself, and the kernel counts no lack of memory",
    "disk-ignored": "a change of a disk returns and reads back well, but writes go on as before",
    "disk-of-all": "a change of a member's disk hits every member's",
    "mend-ignored": "mend returns, and the disk stays as it is",
    "mend-hidden": "as mend-ignored, and the disk is also said to be whole",
    "mend-raises": "mend raises",
    **PACKET_LIES,
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
    incarnations: dict[str, int] = field(default_factory=dict)  # how often a member was started anew
    helpers: dict[int, Helper] = field(default_factory=dict)  # by pid
    oom_kills: dict[str, int] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    disks: dict[str, set[str]] = field(default_factory=dict)  # member -> what is said to be wrong with its disk
    broken_disks: dict[str, set[str]] = field(default_factory=dict)  # as it really is
    changed: bool = False  # whether a fault was ever injected: probes opened before are "old"
    packets: FakePackets = field(init=False)

    def __post_init__(self) -> None:
        self.packets = FakePackets(self.lies)

    def changed_anything(self) -> list[str]:
        """What a heal has left behind."""
        left = [f"{flow.source} -> {flow.target} held" for flow in sorted(self.held)]
        left += [f"{flow.source} -> {flow.target} delayed" for flow in sorted(self.delays_ms)]
        left += [f"{flow.source} -> {flow.target} {each.words()}" for (_, flow), each in self.packets.on.items()]
        left += [f"helper in {helper.member}" for helper in self.helpers.values()]
        left += [f"{name} is doomed" for name in sorted(self.doomed)]
        left += [f"disk of {name} {sorted(kinds)}" for name, kinds in self.broken_disks.items() if kinds]
        return left + [f"{name} {state}" for name, state in self.states.items() if state is not MemberState.RUNNING]

    def alive(self, member: str) -> bool:
        """Whether bytes that reach it are answered."""
        if self.members[member].role is Role.CLIENT:
            return False
        if {"kill-still-answers", "pause-still-answers", "stop-still-answers"} & self.lies:
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
        self._incarnation = world.incarnations.get(link.target, 0)
        self.closed = False
        if world.packets.refuses([Flow(*link), Flow(link.target, link.source)]):
            raise ConnectionRefusedError("connection refused")

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        return self.exchange_bulk(size_bytes=0, timeout_s=timeout_s)

    def exchange_bulk(self, *, size_bytes: int, timeout_s: float) -> ProbeOutcome:
        assert timeout_s > 0
        assert not self.closed
        world, (source, target) = self._world, self._link
        gone = self._incarnation != world.incarnations.get(target, 0) and "same-process" not in world.lies
        if gone or (world.states[target] is MemberState.EXITED and not world.alive(target)):
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
        return self._as_packets(size_bytes, timeout_s)

    def _as_packets(self, size_bytes: int, timeout_s: float) -> ProbeOutcome:
        packets, there, back = self._world.packets, Flow(*self._link), Flow(self._link.target, self._link.source)
        if packets.is_reset([there, back], old=self._old):
            return ProbeOutcome(delivered=False, answered=False)
        ways = [packets.passage(flow, old=self._old, size_bytes=size_bytes) for flow in (there, back)]
        for delivered, way in zip((False, True), ways, strict=True):
            if not way.arrives:
                _delay_ms(0 if way.is_reset else round(timeout_s * 1000))
                return ProbeOutcome(delivered=delivered, answered=False)
        _delay_ms(sum(way.wait_ms for way in ways) + max(way.stream_ms for way in ways))
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

    def why_not(self, kind: type[Impairment]) -> str | None:
        return None

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        match impairment:
            case Block():
                self._block(flows, expires_ns=expires_ns)
            case Delay(latency_ms=latency_ms, jitter_ms=jitter_ms):
                self._delay(flows, latency_ms=latency_ms, jitter_ms=jitter_ms, expires_ns=expires_ns)
            case _:
                self._impair_packets(list(flows), impairment, expires_ns=expires_ns)

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        if kind is Block:
            self._unblock(flows)
        elif kind is Delay:
            self._undelay(flows)
        else:
            self._mend_packets(list(flows), kind)

    def counters(self, flows: Iterable[Flow], kind: type[Impairment]) -> Mapping[Flow, int]:
        return self._world.packets.counters(flows, kind.kind)

    def _impair_packets(self, flows: list[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        world = self._world
        world.changed = True
        world.calls.append(impairment.kind)
        world.expiries_ns.append(expires_ns)
        world.blocked |= set(flows)
        everywhere = [Flow(a, b) for a in world.members for b in world.members if a != b]
        world.packets.impair(flows, impairment, everywhere=everywhere)

    def _mend_packets(self, flows: list[Flow], kind: type[Impairment]) -> None:
        world = self._world
        world.calls.append(f"mend {kind.kind}")
        if "unblock-raises" in world.lies:
            raise OSError("the proxy server hung up")
        if "unblock-ignored" in world.lies:
            return
        world.blocked -= set(flows)
        if "unblock-hidden" not in world.lies:
            world.packets.mend(flows, kind.kind)

    def _block(self, flows: Iterable[Flow], *, expires_ns: int) -> None:
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

    def _unblock(self, flows: Iterable[Flow]) -> None:
        world, wanted = self._world, set(flows)
        world.calls.append("unblock")
        if "unblock-raises" in world.lies:
            raise OSError("the proxy server hung up")
        if "unblock-ignored" in world.lies:
            return
        others = world.blocked - wanted  # what another window blocks stays held
        world.blocked -= wanted - set(world.delays_ms)  # a delay is a kind of its own
        if "unblock-hidden" not in world.lies:
            world.held &= others

    def _delay(self, flows: Iterable[Flow], *, latency_ms: int, jitter_ms: int, expires_ns: int) -> None:
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

    def _undelay(self, flows: Iterable[Flow]) -> None:
        world, wanted = self._world, set(flows)
        world.calls.append("undelay")
        if "unblock-raises" in world.lies:
            raise OSError("the proxy server hung up")
        if "unblock-ignored" in world.lies:
            return
        if "delay-is-cut" in world.lies:
            world.held -= wanted
        world.blocked -= wanted - world.held
        if "unblock-hidden" not in world.lies:
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
        if self._world.states[member] is MemberState.EXITED:
            return None
        started = 0 if "same-process" in self._world.lies else self._world.incarnations.get(member, 0)
        return 1000 + 100 * started + sorted(self._world.states).index(member)

    def start(self, member: str) -> None:
        self._world.calls.append(f"start {member}")
        assert self._world.states[member] is not MemberState.RUNNING, "start of a member that runs"
        if "start-ignored" not in self._world.lies:
            self._world.incarnations[member] = self._world.incarnations.get(member, 0) + 1
            self._come_back(member)

    def kill(self, member: str) -> int:
        world = self._world
        world.changed = True
        world.calls.append(f"kill {member}")
        later = world.calls.count(f"kill {member}") > 1
        if "kill-survives" not in world.lies and not ("loop-stops" in world.lies and later):
            world.states[member] = MemberState.EXITED
        return -15 if "kill-by-term" in world.lies else -9

    def stop(self, member: str, *, deadline_s: float) -> int:
        assert deadline_s > 0
        self._world.changed = True
        self._world.calls.append(f"stop {member}")
        if "stop-ignored" not in self._world.lies:
            self._world.states[member] = MemberState.EXITED
        return 0

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


@dataclass(frozen=True, slots=True)
class Helper:
    """A helper of ours inside a member's limits, and what it takes: CPU from `since_ns` on, or memory."""

    member: str
    argv: tuple[str, ...]
    since_ns: int


class FakeConfinement:
    """Half a CPU and 64 MB for each member; who burns is held back for half of the time."""

    LIMIT_BYTES = 64 << 20
    USED_BYTES = 8 << 20

    def __init__(self, world: World) -> None:
        self._world = world

    def limits(self, member: str) -> Limits:
        return Limits(cpus=0.5, memory_bytes=self.LIMIT_BYTES)

    def usage(self, member: str) -> Usage:
        throttled_ns, memory = 0, self.USED_BYTES
        for helper in self._world.helpers.values():
            if "hog-idle" in self._world.lies or (helper.member != member and "hog-outside" not in self._world.lies):
                continue
            if helper.argv[0] == "cpu":
                throttled_ns += (time.monotonic_ns() - helper.since_ns) // 2
            else:
                memory = max(memory, min(int(helper.argv[1]), self.LIMIT_BYTES))
        kills = self._world.oom_kills.get(member, 0)
        return Usage(cpu_ns=throttled_ns, throttled_ns=throttled_ns, memory_bytes=memory, oom_kills=kills)

    def start(self, member: str, argv: Sequence[str], *, expires_ns: int) -> ProcessIdentity:
        world, pid = self._world, 2_000_000_000 + len(self._world.calls)
        world.changed = True
        world.calls.append(f"helper in {member}")
        world.expiries_ns.append(expires_ns)
        if "hog-dies" not in world.lies:
            world.helpers[pid] = Helper(member, tuple(argv[argv.index("memory" if "memory" in argv else "cpu") :]),
                                        time.monotonic_ns())  # fmt: skip
        wants_too_much = "memory" in argv and int(argv[-2]) > self.LIMIT_BYTES
        if wants_too_much and not {"hog-idle", "hog-dies"} & world.lies:
            assert member in world.doomed, "the kernel could have ended anything"
            world.oom_kills[member] = 0 if "oom-uncounted" in world.lies else 1
            if "oom-spares" not in world.lies:
                world.states[member] = MemberState.EXITED
        return ProcessIdentity(pid, 1, "no boot of this machine")

    def holds(self, member: str, helper: ProcessIdentity) -> bool:
        known = self._world.helpers.get(helper.pid)
        return known is not None and known.member == member and "hog-outside" not in self._world.lies

    def end(self, helper: ProcessIdentity) -> None:
        if "hog-stays" not in self._world.lies:
            self._world.helpers.pop(helper.pid, None)

    def doom(self, member: str, *, expires_ns: int) -> None:
        self._world.calls.append(f"doom {member}")
        self._world.expiries_ns.append(expires_ns)
        self._world.doomed.add(member)

    def spare(self, member: str) -> None:
        self._world.doomed.discard(member)


class FakeDisks:
    """A disk of 16 MB for each member, which takes a write in a millisecond unless something is wrong with it."""

    FREE_BYTES = 16 << 20

    def __init__(self, world: World) -> None:
        self._world = world
        self._leave_bytes = 0
        self._writes_per_s = 0

    def why_not(self, kind: str) -> str | None:
        assert kind in ("full", "slow", "read-only")
        return None

    def fill(self, member: str, *, leave_bytes: int, expires_ns: int) -> None:
        self._leave_bytes = leave_bytes
        self._break(member, "full", expires_ns)

    def slow(self, member: str, *, writes_per_s: int, expires_ns: int) -> None:
        self._writes_per_s = writes_per_s
        self._break(member, "slow", expires_ns)

    def make_read_only(self, member: str, *, expires_ns: int) -> None:
        self._break(member, "read-only", expires_ns)

    def mend(self, member: str, kind: str) -> None:
        world = self._world
        world.calls.append(f"mend {member}")
        if "mend-raises" in world.lies:
            raise OSError("device or resource busy")
        in_use = kind == "read-only" and world.states[member] is not MemberState.EXITED
        assert not in_use or kind not in self._wrong(member), "the member has the old mount open"
        if "mend-ignored" in world.lies:
            return
        world.disks.get(member, set()).discard(kind)
        if "mend-hidden" not in world.lies:
            for kinds in world.broken_disks.values():
                kinds.discard(kind)

    def attempt(self, member: str, *, writes: int, size_bytes: int, timeout_s: float) -> DiskTrial:
        assert timeout_s > 0
        wrong = self._wrong(member)
        free = self._leave_bytes if "full" in wrong else self.FREE_BYTES
        if "read-only" in wrong:
            return DiskTrial(written=0, error="EROFS", seconds=0.0, free_bytes=free)
        if size_bytes > free:
            return DiskTrial(written=0, error="ENOSPC", seconds=0.0, free_bytes=free)
        seconds = writes / self._writes_per_s if "slow" in wrong else writes / 1000
        return DiskTrial(written=writes, error="", seconds=seconds, free_bytes=free)

    def condition(self, member: str) -> Mapping[str, str]:
        return dict.fromkeys(self._world.disks.get(member, ()), "as it was made")

    def _break(self, member: str, kind: str, expires_ns: int) -> None:
        world = self._world
        world.changed = True
        world.calls.append(f"{kind} {member}")
        world.expiries_ns.append(expires_ns)
        world.disks.setdefault(member, set()).add(kind)
        if "disk-ignored" in world.lies:
            return
        for name in world.states if "disk-of-all" in world.lies else (member,):
            world.broken_disks.setdefault(name, set()).add(kind)

    def _wrong(self, member: str) -> set[str]:
        return self._world.broken_disks.get(member, set())


class FakeStage:
    backend: str = "fake"
    folder: Path = Path("/nonexistent")
    python: str = sys.executable

    def __init__(self, world: World) -> None:
        self.confinement: Confinement | None = FakeConfinement(world)
        self.disks: Disks | None = FakeDisks(world)
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

    def connect(self, source: str, address: Address, *, timeout_s: float) -> socket.socket:
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

    def clients(self) -> ClientSpec:
        return ClientSpec(client="aftershock.workloads.clients.reference:ReferenceClient", groups={})

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
