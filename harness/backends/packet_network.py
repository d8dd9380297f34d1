"""Links as addresses on a bridge of this host, and what is done to the packets between them. Keeps interfaces.Network.

Everything is done from outside the members, and everything ends in the kernel at its time, with everything of ours
dead: what acts on a packet is always an nftables rule on set elements with a timeout.

| impairment | how |
|---|---|
| block, loss | the rule drops, where the bridge forwards |
| bandwidth | the rule gives a class, by which the receiver's device on the host sends slowly |
| duplicate | the rule sends the packet once more, where it leaves that device |
| delay, reorder, reset | the rule, in the receiver's namespace, hands it to the packet queue |

netem would do most of this on kernels that have it; those without it have all of the above, so this is the one way.
Loss counts packets as the bridge sees them: a sender's kernel may put up to 64 KiB of a stream into one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from .. import nft
from ..errors import HealError, InternalError, SetupError
from ..identity import ProcessIdentity
from ..impairment import IMPAIRMENTS, Bandwidth, Block, Delay, Duplicate, Impairment, Loss, Reorder, Reset
from ..interfaces import EventSink, Flow, Journal, Link
from . import traffic_control
from .held_packets import HeldPackets
from .host_devices import devices_of
from .member_sockets import OutOfOrder, reset_connections
from .packet_rules import (
    Device,
    Pair,
    Rules,
    RuleState,
    Timed,
    bridge_text,
    device_indexes,
    device_text,
    read,
    table_name,
)
from .packet_trials import reason_against
from .queue_program import QueueProgram
from .undoing import Undoing

__all__ = ["PacketNetwork"]

_QUEUED: Final = (Delay, Reorder, Reset)
_BRIDGED: Final = (Block, Loss, Bandwidth)


class _On(NamedTuple):
    impairment: Impairment
    expires_ns: int


# What is to be on a flow, by kind.
_Wanted = dict[str, dict[Flow, _On]]


class PacketNetwork:
    """The links of one run on a network of packets."""

    def __init__(
        self,
        *,
        run_id: str,
        bridge: str,
        address: Callable[[str], str],
        pid: Callable[[str], int | None],
        journal: Journal,
        events: EventSink,
    ) -> None:
        """`bridge`: this host's interface of the run's network. `address`: a member's IPv4 address there.

        `pid`: a process in the member's network namespace, None when it does not run.
        """
        self._bridge = bridge
        self._address = address
        self._pid = pid
        self._events = events
        self._table = table_name(run_id)
        self._comment = f"of Aftershock run {run_id}".replace('"', "")
        self._lock = threading.RLock()
        self._links: dict[Link, None] = {}
        self._on: _Wanted = {kind.kind: {} for kind in IMPAIRMENTS}
        self._minors: dict[Flow, int] = {}
        self._losses: set[int] = set()  # amounts whose sets the bridge table may have
        self._reasons: dict[type[Impairment], str | None] = {}
        self._out_of_order = OutOfOrder()
        self._undoing = Undoing(journal)
        self._held = HeldPackets(
            table=self._table, comment=self._comment, program=QueueProgram(journal), undoing=self._undoing
        )

    def link(self, source: str, target: str) -> None:
        """Announce that `source` opens connections to `target`."""
        with self._lock:
            self._links[Link(source, target)] = None

    @property
    def links(self) -> Sequence[Link]:
        with self._lock:
            return tuple(self._links)

    def why_not(self, kind: type[Impairment]) -> str | None:
        with self._lock:
            if kind not in self._reasons:
                self._reasons[kind] = reason_against(kind)
            return self._reasons[kind]

    def impair(self, flows: Iterable[Flow], impairment: Impairment, *, expires_ns: int) -> None:
        """See interfaces.Network. What takes a running receiver is put on flows to those that run now."""
        kind, flows = type(impairment), list(flows)
        reason = self.why_not(kind)
        if reason is not None:
            raise SetupError(f"{impairment.words()}: {reason}")
        with self._lock:
            carried = [flow for flow in flows if flow in self._flows()]
            if not carried:
                named = ", ".join(f"{a} -> {b}" for a, b in flows) or "no flow at all"
                raise InternalError(f"cannot {kind.kind} {named}: no link carries it")
            older, now_ns = self._on[kind.kind], time.monotonic_ns()
            wanted = {flow: on for flow, on in older.items() if on.expires_ns > now_ns}
            for flow in carried:
                until = older[flow].expires_ns if flow in older else 0
                wanted[flow] = _On(impairment, max(expires_ns, until))
            self._on[kind.kind] = wanted
            try:
                self._bring(kind)
                if kind is Reset:
                    self._reset_open(carried)
                self._verify(carried, impairment)
            except BaseException as error:
                self._on[kind.kind] = older
                # What cannot be taken back stays in the journal, and ends at its time.
                with suppress(OSError, RuntimeError, SetupError):
                    self._bring(kind)
                if isinstance(error, OSError | RuntimeError):
                    raise SetupError(f"{impairment.words()}: {error}") from error
                raise

    def mend(self, flows: Iterable[Flow], kind: type[Impairment]) -> None:
        with self._lock:
            on = self._on[kind.kind]
            ours = [flow for flow in flows if flow in on]
            if not ours:
                return
            gone: list[Flow] = []
            # Only to tell what was whole before: that it cannot be looked at must not keep it from being mended.
            with suppress(OSError, RuntimeError, SetupError):
                there = self._conditions(kind)
                gone = [flow for flow in ours if flow not in there]
            self._on[kind.kind] = {flow: each for flow, each in on.items() if flow not in ours}
            try:
                self._bring(kind)
            except (OSError, RuntimeError, SetupError) as error:
                self._on[kind.kind] = on
                raise HealError(f"{kind.kind}: {error}; run `aftershock heal`") from error
            if gone:
                named = ", ".join(f"{a} -> {b}" for a, b in gone[:6])
                self._events(
                    "warning",
                    text=f"{kind.kind}: {len(gone)} of {len(ours)} flows were whole before this run mended them "
                    f"({named}): their time was up, or their receiver was started anew",
                )

    def impaired(self) -> Mapping[Flow, str]:
        with self._lock:
            found: dict[Flow, list[str]] = {}
            for kind in IMPAIRMENTS:
                for flow, words in self._conditions(kind).items():
                    found.setdefault(flow, []).append(words)
            return {flow: ", ".join(words) for flow, words in sorted(found.items())}

    def counters(self, flows: Iterable[Flow], kind: type[Impairment]) -> Mapping[Flow, int]:
        """See interfaces.Network. The kernel's rules or the receiver's TCP count; for `Delay` and `Reset` the queue."""
        with self._lock:
            flows = list(flows)
            if kind is Reorder:
                return self._out_of_order_on([flow for flow in flows if flow in self._on["reorder"]])
            if kind in _QUEUED:
                acted = self._held.acted()
                return {
                    flow: acted[flow.target].get(self._address(flow.source), {}).get(kind.kind, 0)
                    for flow in flows
                    if flow.target in acted
                }
            states = self._states(kind)
            return {flow: states[self._pair(flow)].packets for flow in flows if self._pair(flow) in states}

    def close(self) -> None:
        """Take away everything of ours. Raises HealError when something stays, which the journal then has."""
        with self._lock:
            for on in self._on.values():
                on.clear()
            problems = self._undoing.undo_where(lambda _key: True)
            try:
                self._held.bring({}, {})
            except (OSError, RuntimeError, SetupError) as problem:
                problems.append(str(problem))
        if problems:
            raise HealError("; ".join(problems) + "; run `aftershock heal`")

    # ------------------------------------------------------------------------------------------ putting on

    def _bring(self, kind: type[Impairment]) -> None:
        """Bring everything of this kind to what is wanted of it, and take away what serves nothing any more."""
        if kind in _QUEUED:
            self._bring_queue()
        elif kind is Duplicate:
            self._bring_devices()
        else:
            self._bring_bridge(kind)

    def _bring_bridge(self, kind: type[Impairment]) -> None:
        if not any(self._on[each.kind] for each in _BRIDGED):
            self._undoing.undo("bridge")
            self._losses.clear()
            self._raise(self._undoing.undo_where(lambda key: key[0] == "qdisc"))
            return
        if kind is Bandwidth:
            self._bring_classes()
        self._undoing.announce("bridge", "delete-tables", table=self._table, families=["bridge"])
        lossy = self._rules(Loss, _hundredths)
        older_losses = set(self._losses)
        self._losses |= {timed.amount for timed in lossy.values()}
        text = bridge_text(
            self._table,
            self._comment,
            blocked=self._rules(Block, lambda _flow, _on: 0),
            lossy=lossy,
            older_losses=older_losses,
            limited=self._rules(Bandwidth, lambda flow, _on: self._minors[flow]),
            changed=kind.kind,
            now_ns=time.monotonic_ns(),
        )
        nft.apply(text)
        if not self._on["bandwidth"]:
            self._raise(self._undoing.undo_where(lambda key: key[0] == "qdisc"))

    def _bring_classes(self) -> None:
        on = self._on["bandwidth"]
        ports = self._devices(on)
        by_device: dict[Device, dict[int, int]] = {}
        for flow, each in on.items():
            assert isinstance(each.impairment, Bandwidth)
            minor = self._minors.setdefault(flow, len(self._minors) + 1)
            if flow.target in ports:
                by_device.setdefault(ports[flow.target], {})[minor] = each.impairment.kbit_per_s
        for device, classes in by_device.items():
            self._undoing.announce(("qdisc", device), "delete-qdisc", device=device.name, index=device.number)
            traffic_control.limit(device.name, classes)

    def _bring_devices(self) -> None:
        on = self._on["duplicate"]
        if not on:
            self._undoing.undo("netdev")
            return
        ports, rules = self._devices(on), self._rules(Duplicate, _hundredths)
        doubled: dict[Device, dict[Pair, Timed]] = {}
        for flow in on:
            if flow.target in ports:
                pair = self._pair(flow)
                doubled.setdefault(ports[flow.target], {})[pair] = rules[pair]
        self._undoing.announce("netdev", "delete-tables", table=self._table, families=["netdev"])
        nft.apply(device_text(self._table, self._comment, doubled=doubled, now_ns=time.monotonic_ns()))

    def _bring_queue(self) -> None:
        wanted: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        on = [(kind.kind, flow, each) for kind in _QUEUED for flow, each in self._on[kind.kind].items()]
        processes = self._processes({flow.target for _, flow, _ in on})
        for kind, flow, each in on:
            if flow.target in processes:
                sources = wanted.setdefault(flow.target, {})
                told = {**_settings(each.impairment), "expires_ns": each.expires_ns}
                sources.setdefault(self._address(flow.source), {})[kind] = told
        self._held.bring(wanted, processes)

    def _reset_open(self, flows: Iterable[Flow]) -> None:
        by_target: dict[str, list[str]] = {}
        for flow in flows:
            by_target.setdefault(flow.target, []).append(self._address(flow.source))
        for target, process in self._processes(by_target).items():
            reset_connections(process, by_target[target])

    def _verify(self, flows: Sequence[Flow], impairment: Impairment) -> None:
        there = self._conditions(type(impairment))
        needs_receiver = not isinstance(impairment, Block | Loss)
        running = self._processes({flow.target for flow in flows}) if needs_receiver else {}
        able = [flow for flow in flows if flow.target in running] if needs_receiver else list(flows)
        if not able:
            raise SetupError(
                f"{impairment.words()}: none of the receiving members runs, so there is nobody to do it to"
            )
        wrong = [flow for flow in able if there.get(flow) != impairment.words()]
        if wrong:
            flow = wrong[0]
            raise SetupError(
                f"{flow.source} -> {flow.target} was to be {impairment.words()}, and the kernel has it as "
                f"{there.get(flow, 'whole')}"
            )

    # ------------------------------------------------------------------------------------------ reading back

    def _conditions(self, kind: type[Impairment]) -> dict[Flow, str]:
        """Flows on which an impairment of this kind is now, in words, as read from the kernel."""
        if kind in _QUEUED:
            return self._queue_conditions(kind)
        states = self._states(kind)
        pairs = (
            {flow: states[self._pair(flow)] for flow in self._flows() if self._pair(flow) in states} if states else {}
        )
        if kind is Block:
            return {flow: Block().words() for flow in pairs}
        if kind is Loss:
            return {flow: Loss(percent=state.amount / 100).words() for flow, state in pairs.items()}
        if not pairs:
            return {}
        ports = self._devices(pairs)
        if kind is Duplicate:
            ours = device_indexes(nft.list_table("netdev", self._table) or ())
            return {
                flow: Duplicate(percent=state.amount / 100).words()
                for flow, state in pairs.items()
                if flow.target in ports and ports[flow.target].number in ours
            }
        limits = {device: traffic_control.limits(device.name) for device in set(ports.values())}
        found = {}
        for flow, state in pairs.items():
            kbit_per_s = limits[ports[flow.target]].get(state.amount) if flow.target in ports else None
            if kbit_per_s is not None:
                found[flow] = Bandwidth(kbit_per_s=kbit_per_s).words()
        return found

    def _queue_conditions(self, kind: type[Impairment]) -> dict[Flow, str]:
        sources, found = self._held.sources(), dict[Flow, str]()
        for flow in self._flows():
            source = self._address(flow.source) if flow.target in sources else ""
            told = sources.get(flow.target, {}).get(source, {}).get(kind.kind)
            if told is not None:
                found[flow] = kind(**{name: value for name, value in told.items() if name != "expires_ns"}).words()
        return found

    def _states(self, kind: type[Impairment]) -> dict[Pair, RuleState]:
        family = "netdev" if kind is Duplicate else "bridge"
        found = read(nft.list_table(family, self._table) or ()).get(kind.kind, {})
        return {Pair(*addresses): state for addresses, state in found.items()}

    def _out_of_order_on(self, flows: Iterable[Flow]) -> dict[Flow, int]:
        by_target: dict[str, list[Flow]] = {}
        for flow in flows:
            by_target.setdefault(flow.target, []).append(flow)
        found = dict[Flow, int]()
        for target, process in self._processes(by_target).items():
            its = by_target[target]
            with suppress(ProcessLookupError):
                counts = self._out_of_order.count(process, [self._address(flow.source) for flow in its])
                found |= {flow: counts[self._address(flow.source)] for flow in its}
        return found

    # ------------------------------------------------------------------------------------------ names

    def _flows(self) -> set[Flow]:
        return {Flow(*link) for link in self._links} | {Flow(b, a) for a, b in self._links}

    def _pair(self, flow: Flow) -> Pair:
        return Pair(self._address(flow.source), self._address(flow.target))

    def _rules(self, kind: type[Impairment], amount: Callable[[Flow, Any], int]) -> Rules:
        rules: dict[Pair, Timed] = {}
        for flow, on in self._on[kind.kind].items():
            rules[self._pair(flow)] = Timed(amount(flow, on.impairment), on.expires_ns)
        return rules

    def _processes(self, members: Iterable[str]) -> dict[str, ProcessIdentity]:
        """Those of these members that run."""
        found = {}
        for name in sorted(set(members)):
            pid = self._pid(name)
            identity = ProcessIdentity.of(pid) if pid is not None and pid > 0 else None
            if identity is not None:
                found[name] = identity
        return found

    def _devices(self, flows: Iterable[Flow]) -> dict[str, Device]:
        """Receiver -> its device on this host, for those that run."""
        processes = self._processes({flow.target for flow in flows})
        return devices_of(self._bridge, processes, self._address)

    @staticmethod
    def _raise(problems: list[str]) -> None:
        if problems:
            raise RuntimeError("; ".join(problems))


def _hundredths(_flow: Flow, impairment: Loss | Duplicate) -> int:
    return round(impairment.percent * 100)


def _settings(impairment: Impairment) -> dict[str, Any]:
    """As packet_queue takes them."""
    match impairment:
        case Delay(latency_ms=latency_ms, jitter_ms=jitter_ms):
            return {"latency_ms": latency_ms, "jitter_ms": jitter_ms}
        case Reorder(percent=percent, hold_ms=hold_ms):
            return {"percent": percent, "hold_ms": hold_ms}
        case _:
            return {}
