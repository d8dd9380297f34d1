"""Round trips of probes, before, during and after a delay, on old and on new connections."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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


# Seconds by connection; infinite where no answer came.
RoundTrips = Mapping[Connection, float]


def measure(
    cluster: Cluster,
    old: OldConnections | None,
    links: Iterable[Link],
    *,
    longest_s: float,
    count: int,
    of: Callable[[Sequence[float]], float] = statistics.median,
) -> RoundTrips:
    """`of` `count` round trips on a new connection of every link, and on the old ones if given.

    `longest_s` is by how much a delay that is on may lengthen one.
    """
    timeout_s = 2.0 + longest_s

    def one_s(connection: Connection) -> float:
        taken_s = []
        for _ in range(count):
            if connection.old and old is not None:
                seen = observe(old.probes[connection.link], timeout_s=timeout_s)
            else:
                seen = observe_new(cluster, connection.link, timeout_s=timeout_s)
            taken_s.append(seen.seconds if seen.outcome.answered else math.inf)
        return of(taken_s)

    wanted = [Connection(link, old=False) for link in links]
    if old is not None:
        wanted += [Connection(link, old=True) for link in old.probes]
    return at_once(one_s, wanted)


def grown(
    before: RoundTrips, now: RoundTrips, *, control: Collection[Link], least_s: float, broken: Iterable[str]
) -> Evidence:
    """Every round trip is longer by `least_s` at least, and none is endless: a cut is not a delay.

    By what the links in `control`, which nobody holds, have grown meanwhile, the machine became slower: that is no
    delay of ours, and does not count.
    """
    growth_s = {connection: _growth_s(before[connection], now_s) for connection, now_s in now.items()}
    beside_s = [grew_s for connection, grew_s in growth_s.items() if connection.link in control]
    held_s = {connection: grew_s for connection, grew_s in growth_s.items() if connection.link not in control}
    by_itself_s = max(0.0, statistics.median(beside_s)) if beside_s else 0.0
    wrong = list(broken)
    for connection, grew_s in held_s.items():
        if not (math.isfinite(grew_s) and grew_s - by_itself_s >= least_s):
            wrong.append(
                f"{connection.words()}: {before[connection] * 1e3:.1f} ms before, {now[connection] * 1e3:.1f} ms now, "
                f"expected at least {(least_s + by_itself_s) * 1e3:.0f} ms more"
            )
    usual_s = statistics.median(held_s.values())
    facts = [f"round trips grew by {usual_s * 1e3:.0f} ms (median of {len(held_s)} connections, old and new)"]
    if beside_s:
        facts.append(
            f"those of {len(beside_s)} connections that are not held grew by {by_itself_s * 1e3:.0f} ms meanwhile, "
            "which does not count"
        )
    else:
        facts.append("every link touches the target, so nothing shows that the machine itself did not become slower")
    return Evidence(proven=not wrong, facts=(*facts, *wrong[:6]))


def _growth_s(before_s: float, now_s: float) -> float:
    """Infinite also where no answer came before: nothing can be said then, and nothing must be proven by it."""
    return now_s - before_s if math.isfinite(before_s) else math.inf


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
        # Written so that no answer before and none now, which is not a number, is slow.
        slow = {connection: now_s for connection, now_s in now.items() if not (now_s - before[connection] <= most_s)}
        if slow and time.monotonic_ns() > deadline_ns:
            facts = [f"{connection.words()} still takes {now_s * 1e3:.1f} ms" for connection, now_s in slow.items()]
            return Evidence(proven=False, facts=tuple(facts[:6]))
        waiting = [connection.link for connection in slow]
    return Evidence(proven=True, facts=(f"round trips on new connections of {count} links are as short as before",))
