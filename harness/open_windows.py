"""Several fault windows on one cluster: each gets a view of it in which the others' changes are not its own.

A fault asks its stage as if it were alone: block these flows, pause that member, is anything still impaired? While two
windows are open, three rules keep one from undoing the other:

* **Flows are counted.** A flow that two windows impair in the same way is mended when the second of them ends. One that
  another window impairs otherwise (a delay of another length) is refused: a flow carries one impairment of a kind.
* **Members are held.** Who kills, stops or pauses a member, or breaks its disk, has it to itself until its window ends.
* **What is not ours is not seen.** `impaired` and `condition` leave out what only other windows have changed, so a
  fault that verifies its own healing does not wait for theirs.

What is refused raises UsageError, which makes that injection *failed* and touches nothing. Safe to call from threads.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

from .errors import UsageError
from .impairment import Block, Impairment, Reset
from .interfaces import Cluster, Disks, Flow, Link, MemberState, Network, Processes, Role, Topology
from .relation import cut_off, deposed, flows_of, with_down

__all__ = ["OpenWindows", "SharedNetwork"]


@runtime_checkable
class SharedNetwork(Protocol):
    """What a network has besides while other fault windows may be open."""

    def of_others(self) -> Collection[Flow]:
        """Flows that other windows impair now: a link that carries one proves nothing about this window's fault."""
        ...


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one window wants of one flow, and until when."""

    impairment: Impairment
    expires_ns: int


class OpenWindows:
    """Which windows are open, and which of them has changed what."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # Held while the network is changed, so that what is claimed and what is so cannot differ for an onlooker.
        self.lock = threading.RLock()
        self._open: dict[str, dict[tuple[Flow, str], _Claim]] = {}
        self._held: dict[str, str] = {}  # member, or a kind of damage to its disk -> the window that did it
        self._gone: set[str] = set()  # members that a window has left down
        self._topology: Topology | None = None

    def open(self, window: str) -> Cluster:
        """The cluster as this window's fault sees it, until `close`."""
        with self.lock:
            self._open[window] = {}
        return _view(self, self._cluster, window)

    def close(self, window: str) -> None:
        """The window has ended: nothing that is still changed is explained by it any more. Idempotent."""
        with self.lock:
            self._open.pop(window, None)
            self._gone |= {what for what, holder in self._held.items() if holder == window}
            self._held = {what: holder for what, holder in self._held.items() if holder != window}

    def several(self) -> bool:
        """Whether more is broken now than by one window alone: another is open, or has left a member down."""
        with self.lock:
            members = self._cluster.stage.members
            gone = any(name in members and self._is_down(name) for name in self._gone - set(self._held))
            return len(self._open) + gone > 1

    def left(self) -> list[str]:
        """What is changed although no open window has changed it, as the stage itself says; in words."""
        stage = self._cluster.stage
        with self.lock:
            explained = self.claimed()
            try:
                impaired = stage.network.impaired()
                left = [f"{f.source} -> {f.target} is still impaired: {impaired[f]}" for f in sorted(impaired)
                        if f not in explained]  # fmt: skip
                return left + [
                    f"{name} is still paused"
                    for name, member in stage.members.items()
                    if member.role is not Role.CLIENT
                    and name not in self._held
                    and stage.processes.state(name) is MemberState.PAUSED
                ]
            except Exception as error:
                return [f"the backend cannot say what is still changed: {type(error).__name__}: {error}"]

    # -------------------------------------------------------------------------------------------- flows and members

    def claimed(self, *, by: str | None = None, but: str | None = None) -> frozenset[Flow]:
        """Flows that open windows have impaired: all of them, those of one, or of all but one."""
        with self.lock:
            return frozenset(flow for _, flow, _ in self._claims(by=by, but=but))

    def claim(self, window: str, flows: Collection[Flow], impairment: Impairment, expires_ns: int) -> int:
        """Note that a window is about to impair these flows. Returns when the last of those who share them expires."""
        with self.lock:
            latest_ns, wanted = expires_ns, set(flows)
            for other, flow, claim in self._claims(but=window):
                if flow not in wanted or claim.impairment.kind != impairment.kind:
                    continue
                if claim.impairment != impairment:
                    raise UsageError(
                        f"{flow.source} -> {flow.target} is {claim.impairment.words()} by {other} until that window "
                        f"ends, so it cannot be {impairment.words()} now; let the windows follow each other"
                    )
                latest_ns = max(latest_ns, claim.expires_ns)
            for flow in wanted:
                self._open[window][flow, impairment.kind] = _Claim(impairment, expires_ns)
            return latest_ns

    def shared(self, window: str, kind: str) -> frozenset[Flow]:
        """Flows that other windows impair in this way."""
        with self.lock:
            return frozenset(flow for _, flow, claim in self._claims(but=window) if claim.impairment.kind == kind)

    def disclaim(self, window: str, flows: Iterable[Flow], kind: str) -> None:
        with self.lock:
            for flow in flows:
                self._open.get(window, {}).pop((flow, kind), None)

    def insist_free(self, window: str, what: str) -> None:
        """Raise UsageError when another window holds a member, or has damaged its disk in this way."""
        with self.lock:
            holder = self._held.get(what, window)
            if holder != window:
                raise UsageError(f"{what} is in the hands of {holder} until that window ends; nothing was done to it")

    def hold(self, window: str, what: str) -> None:
        with self.lock:
            self.insist_free(window, what)
            self._held[what] = window

    def holder(self, what: str) -> str | None:
        with self.lock:
            return self._held.get(what)

    def _claims(self, *, by: str | None = None, but: str | None = None) -> Iterator[tuple[str, Flow, _Claim]]:
        for window, claims in self._open.items():
            if window != but and by in (None, window):
                for (flow, _), claim in claims.items():
                    yield window, flow, claim

    # -------------------------------------------------------------------------------------------- taken together

    def together(self) -> Mapping[str, tuple[int, ...] | None]:
        """Client group -> shards that it is not owed while all that is broken now is broken at once.

        Two cuts that each leave a majority may leave none together (DESIGN section 4, targets under faults). Members
        that are down count as cut from everybody; a controller that is down is not counted among the controllers, for
        reads and writes must go on without it.
        """
        topology = self._seen()
        if topology is None:
            return {}
        flows, members = self._broken(), list(self._cluster.stage.members.values())
        up = tuple(name for name in topology.controllers if not self._is_down(name))
        return cut_off(flows, replace(topology, controllers=up), members)

    def still_deposed(self, shards: Sequence[int]) -> list[int]:
        """Those of these shards whose primary can, and must, be replaced under all that is broken now at once."""
        topology = self._seen()
        if topology is None:
            return []
        down = [
            name
            for name, member in self._cluster.stage.members.items()
            if member.role is not Role.CLIENT and self._is_down(name)
        ]
        return sorted(set(shards) & set(deposed(self._broken(), with_down(topology, down))))

    def note(self, topology: Topology) -> None:
        with self.lock:
            self._topology = topology

    def _seen(self) -> Topology | None:
        """The topology now, or as a fault saw it last: those who know may be down themselves."""
        try:
            self.note(self._cluster.topology())
        except Exception:
            return self._topology
        return self._topology

    def _broken(self) -> frozenset[Flow]:
        members = list(self._cluster.stage.members.values())
        with self.lock:
            cut = {flow for _, flow, claim in self._claims() if isinstance(claim.impairment, Block | Reset)}
        down = [member.name for member in members if member.role is not Role.CLIENT and self._is_down(member.name)]
        return frozenset(cut).union(*(flows_of(name, members) for name in down))

    def _is_down(self, name: str) -> bool:
        # Absent is what no window did: a name that never ran, such as that of the entry to somebody's own service.
        return self._cluster.stage.processes.state(name) in (MemberState.PAUSED, MemberState.EXITED)


# ------------------------------------------------------------------------------------------------ views


class _Over:
    """Something with a few members in place of its own. All else, also what a plugin added, is the real one's."""

    def __init__(self, real: Any, **instead: Any) -> None:
        self._real = real
        self.__dict__.update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _view(windows: OpenWindows, cluster: Cluster, window: str) -> Cluster:
    real = cluster.stage
    disks = getattr(real, "disks", None)
    stage = _Over(
        real,
        network=_NetworkView(real.network, windows, window),
        processes=_ProcessesView(real.processes, windows, window),
        disks=None if disks is None else _DisksView(disks, windows, window),
    )

    def topology() -> Topology:
        found = cluster.topology()
        windows.note(found)
        return found

    return cast("Cluster", _Over(cluster, stage=stage, topology=topology))


class _NetworkView(_Over):
    """interfaces.Network for one window; keeps SharedNetwork."""

    def __init__(self, real: Network, windows: OpenWindows, window: str) -> None:
        super().__init__(real)
        self._network, self._windows, self._window = real, windows, window

    @property
    def links(self) -> Sequence[Link]:
        return self._network.links

    def of_others(self) -> Collection[Flow]:
        return self._windows.claimed(but=self._window)

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        wanted = tuple(flows)
        with self._windows.lock:
            latest_ns = self._windows.claim(self._window, wanted, impairment, expires_ns)
            self._network.impair(wanted, impairment, expires_ns=latest_ns)

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        asked = tuple(flows)
        with self._windows.lock:
            shared = self._windows.shared(self._window, kind.kind)
            try:
                ours = tuple(flow for flow in asked if flow not in shared)
                if ours:
                    self._network.mend(ours, kind)
            finally:
                # Also when it raised: what is still on then is on without a reason, and `left` says so.
                self._windows.disclaim(self._window, asked, kind.kind)

    def impaired(self) -> Mapping[Flow, str]:
        with self._windows.lock:
            own, others = self._windows.claimed(by=self._window), self.of_others()
            seen = self._network.impaired()
        return {flow: what for flow, what in seen.items() if flow in own or flow not in others}


class _ProcessesView(_Over):
    """interfaces.Processes for one window."""

    def __init__(self, real: Processes, windows: OpenWindows, window: str) -> None:
        super().__init__(real)
        self._processes, self._windows, self._window = real, windows, window

    def kill(self, member: str) -> int:
        self._windows.hold(self._window, member)
        return self._processes.kill(member)

    def stop(self, member: str, *, deadline_s: float) -> int:
        self._windows.hold(self._window, member)
        return self._processes.stop(member, deadline_s=deadline_s)

    def pause(self, member: str, *, expires_ns: int) -> None:
        self._windows.hold(self._window, member)
        self._processes.pause(member, expires_ns=expires_ns)

    def start(self, member: str) -> None:
        self._windows.insist_free(self._window, member)
        self._processes.start(member)

    def resume(self, member: str) -> None:
        self._windows.insist_free(self._window, member)
        self._processes.resume(member)


class _DisksView(_Over):
    """interfaces.Disks for one window."""

    def __init__(self, real: Disks, windows: OpenWindows, window: str) -> None:
        super().__init__(real)
        self._disks, self._windows, self._window = real, windows, window

    def fill(self, member: str, *, leave_bytes: int, expires_ns: int) -> None:
        self._windows.hold(self._window, _disk(member, "full"))
        self._disks.fill(member, leave_bytes=leave_bytes, expires_ns=expires_ns)

    def slow(self, member: str, *, writes_per_s: int, expires_ns: int) -> None:
        self._windows.hold(self._window, _disk(member, "slow"))
        self._disks.slow(member, writes_per_s=writes_per_s, expires_ns=expires_ns)

    def make_read_only(self, member: str, *, expires_ns: int) -> None:
        # Undoing this one ends the member and starts it again.
        self._windows.hold(self._window, member)
        self._windows.hold(self._window, _disk(member, "read-only"))
        self._disks.make_read_only(member, expires_ns=expires_ns)

    def mend(self, member: str, kind: str) -> None:
        if self._ours(member, kind):
            self._disks.mend(member, kind)

    def condition(self, member: str) -> Mapping[str, str]:
        found = self._disks.condition(member)
        return {kind: what for kind, what in found.items() if self._ours(member, kind)}

    def _ours(self, member: str, kind: str) -> bool:
        return self._windows.holder(_disk(member, kind)) in (None, self._window)


def _disk(member: str, kind: str) -> str:
    return f"the disk of {member} ({kind})"
