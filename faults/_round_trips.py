"""Round trips of probes, before, during and after a delay, on old and on new connections."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..harness.interfaces import Cluster, Evidence, Link
from ._links import live_links
from ._proof import OldConnections, at_once, observe, observe_new

__all__ = ["Connection", "RoundTrips", "grown", "measure", "short_again"]


class Connection(NamedTuple):
    """A link, and whether it is the connection opened before the fault or one opened for each exchange."""

    link: Link
    old: bool

    def words(self) -> str:
        return f"{'old' if self.old else 'new'} connection {self.link.source} -> {self.link.target}"


# Median seconds by connection; infinite where no answer came.
RoundTrips = Mapping[Connection, float]


def measure(
    cluster: Cluster, old: OldConnections | None, links: Iterable[Link], *, longest_s: float, count: int
) -> RoundTrips:
    """Median of `count` round trips on a new connection of every link, and on the old ones if given.

    `longest_s` is by how much a delay that is on may lengthen one.
    """
    timeout_s = 2.0 + longest_s

    def median_s(connection: Connection) -> float:
        taken_s = []
        for _ in range(count):
            if connection.old and old is not None:
                seen = observe(old.probes[connection.link], timeout_s=timeout_s)
            else:
                seen = observe_new(cluster, connection.link, timeout_s=timeout_s)
            taken_s.append(seen.seconds if seen.outcome.answered else math.inf)
        return statistics.median(taken_s)

    wanted = [Connection(link, old=False) for link in links]
    if old is not None:
        wanted += [Connection(link, old=True) for link in old.probes]
    return at_once(median_s, wanted)


def grown(before: RoundTrips, now: RoundTrips, *, least_s: float, broken: Iterable[str]) -> Evidence:
    """Every round trip is longer by `least_s` at least, and none is endless: a cut is not a delay."""
    wrong = list(broken)
    for connection, now_s in now.items():
        if not (math.isfinite(now_s) and now_s - before[connection] >= least_s):
            wrong.append(
                f"{connection.words()}: {before[connection] * 1e3:.1f} ms before, {now_s * 1e3:.1f} ms now, "
                f"expected at least {least_s * 1e3:.0f} ms more"
            )
    usual_s = statistics.median(now[connection] - before[connection] for connection in now)
    fact = f"round trips grew by {usual_s * 1e3:.0f} ms (median of {len(now)} connections, old and new)"
    return Evidence(proven=not wrong, facts=(fact, *wrong[:6]))


def short_again(
    cluster: Cluster, before: RoundTrips, *, most_s: float, longest_s: float, deadline_s: float
) -> Evidence:
    """Poll new connections until no round trip is longer than before by more than `most_s`."""
    deadline_ns = time.monotonic_ns() + int(deadline_s * 1e9)
    # A member that has ended by itself meanwhile cannot answer; that is not a delay that stayed.
    alive = set(live_links(cluster.stage))
    waiting = sorted({connection.link for connection in before if connection.link in alive})
    count = len(waiting)
    while waiting:
        now = measure(cluster, None, waiting, longest_s=longest_s, count=1)
        slow = {connection: now_s for connection, now_s in now.items() if now_s - before[connection] > most_s}
        if slow and time.monotonic_ns() > deadline_ns:
            facts = [f"{connection.words()} still takes {now_s * 1e3:.1f} ms" for connection, now_s in slow.items()]
            return Evidence(proven=False, facts=tuple(facts[:6]))
        waiting = [connection.link for connection in slow]
    return Evidence(proven=True, facts=(f"round trips on new connections of {count} links are as short as before",))
