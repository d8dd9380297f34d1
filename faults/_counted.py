"""Proofs by counting: packets of exactly these flows bear the fault's mark while probes are sent, on old connections
and on new ones, and those of other flows do not. A count is the network's own, read where packets are."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..harness.impairment import Impairment
from ..harness.interfaces import BulkProbe, Cluster, Evidence, Flow, Link, Probe, ProbeOutcome
from ._impairing import Around, alive
from ._proof import Observation, OldConnections, at_once, observe, observe_new
from ._round_trips import Connection

__all__ = ["Looks", "bulk_view", "counted", "growth", "no_bulk", "quiet", "rounds"]

# The chance that a fault which is on leaves no mark in all rounds together.
_MISSED: Final = 1e-6
_EXCHANGES_A_ROUND_MAX: Final = 300
ANSWER_TIMEOUT_S = 4.0


@dataclass(slots=True)
class Looks:
    """All exchanges of a proof, by connection."""

    seen: dict[Connection, list[Observation]] = field(default_factory=dict)

    def add(self, new: Mapping[Connection, Sequence[Observation]]) -> None:
        for connection, observations in new.items():
            self.seen.setdefault(connection, []).extend(observations)

    def of(self, links: Iterable[Link]) -> dict[Connection, list[Observation]]:
        wanted = set(links)
        return {connection: each for connection, each in self.seen.items() if connection.link in wanted}


def rounds(percent: float) -> tuple[int, int]:
    """How many rounds of how many exchanges until a fault of this chance has shown with near certainty."""
    chance = percent / 100
    in_all = math.ceil(math.log(_MISSED) / math.log1p(-min(chance, 0.99)))
    each = min(_EXCHANGES_A_ROUND_MAX, max(4, math.ceil(3 / chance)))
    return math.ceil(in_all / each) + 1, each


def counted(
    around: Around,
    old: OldConnections,
    kind: type[Impairment],
    *,
    percent: float,
    what: str,
    enough: Callable[[list[Observation]], bool] | None = None,
    cluster: Cluster | None = None,
) -> tuple[Evidence, Looks]:
    """Exchange until every probed flow was counted, and every connection showed `enough`, for each age in turn.

    `what` names what is counted. Unproven with the flows that were not, and with what other flows' counters say.
    """
    network, looks, wrong, facts = around.context.cluster.stage.network, Looks(), list(old.broken), list[str]()
    cluster = cluster if cluster is not None else around.context.cluster
    most, each = rounds(percent)
    for is_old in (True, False):
        before, grew = network.counters(around.probed_flows, kind), dict[Flow, int]()
        for _ in range(most):
            with _connections(cluster, old, [*around.links, *around.beside], is_old=is_old) as probes:
                looks.add(_exchanges(probes, count=each, enough=enough))
                # While they are open: what a connection has counted goes with it.
                now = network.counters(around.probed_flows, kind)
            grew = growth(before, now, around.probed_flows)
            ours = looks.of(around.links).items()
            if all(grew.values()) and (enough is None or all(enough(seen) for c, seen in ours if c.old == is_old)):
                break
        age = "old" if is_old else "new"
        facts.append(f"{sum(grew.values())} packets {what} on {len(grew)} flows while {age} connections were used")
        wrong += [
            f"{flow.source} -> {flow.target}: expected packets {what} while {age} connections were used, saw none"
            for flow, count in grew.items()
            if not count
        ]
    flows = [flow for link in around.beside for flow in (Flow(*link), Flow(link.target, link.source))]
    others = {flow: count for flow, count in network.counters(flows, kind).items() if count}
    wrong += [f"{a} -> {b}: expected no packet {what}, saw {count}" for (a, b), count in others.items()]
    return Evidence(proven=not wrong, facts=(*facts, *wrong[:6])), looks


def growth(before: Mapping[Flow, int], now: Mapping[Flow, int], flows: Iterable[Flow]) -> dict[Flow, int]:
    """By how much each flow's count grew; 0 where nobody counts."""
    return {flow: max(0, now.get(flow, 0) - before.get(flow, 0)) for flow in flows}


def quiet(around: Around, kind: type[Impairment], *, percent: float, cluster: Cluster | None = None) -> Evidence:
    """Exchanges on new connections leave no mark any more, in as many as would nearly always have left one."""
    network = around.context.cluster.stage.network
    cluster = cluster if cluster is not None else around.context.cluster
    before = network.counters(around.probed_flows, kind)
    none = OldConnections(probes={}, broken=())
    _, each = rounds(percent)
    with _connections(cluster, none, alive(around), is_old=False) as probes:
        _exchanges(probes, count=each)
        grew = growth(before, network.counters(around.probed_flows, kind), around.probed_flows)
    wrong = [
        f"{a} -> {b}: {count} more packets {kind.kind} after it was mended" for (a, b), count in grew.items() if count
    ]
    fact = f"{each} exchanges on a new connection of each link left no mark"
    return Evidence(proven=not wrong, facts=tuple(wrong[:6]) if wrong else (fact,))


@contextlib.contextmanager
def _connections(
    cluster: Cluster, old: OldConnections, links: Iterable[Link], *, is_old: bool
) -> Iterator[dict[Connection, Probe | Observation]]:
    """The old connections of these links, or new ones for a while; where one does not open, what was seen instead."""
    wanted = [Connection(link, old=is_old) for link in links if not is_old or link in old.probes]
    if is_old:
        yield {connection: old.probes[connection.link] for connection in wanted}
        return
    with contextlib.ExitStack() as stack:
        opened = at_once(lambda connection: _opened(cluster, connection.link), wanted)
        for probe in opened.values():
            if not isinstance(probe, Observation):
                stack.callback(probe.close)
        yield opened


def _exchanges(
    probes: Mapping[Connection, Probe | Observation],
    *,
    count: int,
    enough: Callable[[list[Observation]], bool] | None = None,
) -> dict[Connection, list[Observation]]:
    """Up to `count` exchanges on every connection, all connections at once."""

    def several(connection: Connection) -> list[Observation]:
        probe = probes[connection]
        if isinstance(probe, Observation):
            return [probe]
        seen: list[Observation] = []
        while len(seen) < count:
            seen.append(observe(probe, timeout_s=ANSWER_TIMEOUT_S))
            if not seen[-1].outcome.answered or (enough is not None and enough(seen)):
                break
        return seen

    return at_once(several, probes)


def _opened(cluster: Cluster, link: Link) -> Probe | Observation:
    """A new connection; where it does not open, what was seen instead."""
    try:
        return cluster.open_probe(link)
    except Exception:
        return observe_new(cluster, link, timeout_s=ANSWER_TIMEOUT_S)


# ------------------------------------------------------------------------------------------------ bulk


class _Bulk:
    """A probe whose every exchange is a large one."""

    def __init__(self, probe: Probe, size_bytes: int) -> None:
        self._probe = probe
        self._size_bytes = size_bytes

    def exchange(self, *, timeout_s: float) -> ProbeOutcome:
        assert isinstance(self._probe, BulkProbe)
        return self._probe.exchange_bulk(size_bytes=self._size_bytes, timeout_s=timeout_s)

    def close(self) -> None:
        self._probe.close()


class _BulkCluster:
    def __init__(self, cluster: Cluster, size_bytes: int) -> None:
        self._cluster = cluster
        self._size_bytes = size_bytes

    def __getattr__(self, name: str) -> object:
        return getattr(self._cluster, name)

    def open_probe(self, link: Link) -> Probe:
        return _Bulk(self._cluster.open_probe(link), self._size_bytes)


def bulk_view(cluster: Cluster, old: OldConnections | None, size_bytes: int) -> tuple[Cluster, OldConnections]:
    """The same cluster and the same old connections, on which every exchange is a large one."""
    probes = old.probes if old is not None else {}
    bulk = OldConnections(
        probes={link: _Bulk(probe, size_bytes) for link, probe in probes.items()},
        broken=old.broken if old is not None else (),
    )
    view: Cluster = _BulkCluster(cluster, size_bytes)  # type: ignore[assignment]  # all else is the cluster's own
    return view, bulk


def no_bulk(old: OldConnections) -> str | None:
    """Reason why the probes of this system cannot prove what takes a full connection, or None."""
    if all(isinstance(probe, BulkProbe) for probe in old.probes.values()):
        return None
    return "expected probes that can fill a connection; those of this system exchange single small messages"
