"""bandwidth: the links of one member carry only so much."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import Field

from ..harness import impairment
from ..harness.interfaces import Evidence, FaultContext, Injection, Settings, Stage
from ..harness.relation import Direction
from ._counted import bulk_view, growth, no_bulk
from ._impairing import HEAL_DEADLINE_S, WAYS, Around, impairing, lacks
from ._proof import OldConnections
from ._round_trips import RoundTrips, grown, measure, short_again
from ._selectors import Selector, words

__all__ = ["Bandwidth", "BandwidthSettings"]

LINKS_MAX: Final = 4
# How long the bytes of one exchange take by themselves at the limit, each way.
EXCHANGE_S: Final = 0.2
# Of that, this much must show: a full bucket lets the first part through at once.
LEAST_SHARE: Final = 0.5
# How often an exchange is made at most, of which the shortest counts: a busy machine makes one longer, nothing shorter.
TRIES: Final = 3


class BandwidthSettings(Settings):
    """Whose flows, and how much each may carry."""

    target: Selector = "primary"
    direction: Direction = "both"
    kbit_per_s: int = Field(
        default=1000,
        ge=64,
        le=10_000,
        multiple_of=8,
        description="of 1000 bits, for each flow to or from another member",
    )

    @property
    def bulk_bytes(self) -> int:
        return int(self.kbit_per_s * 125 * EXCHANGE_S)


class Bandwidth:
    """A narrow network around one member."""

    name: ClassVar[str] = "bandwidth"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = BandwidthSettings

    def __init__(self, settings: BandwidthSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Lets each flow of bytes {WAYS[chosen.direction]} {words(chosen.target)} carry {chosen.kbit_per_s} kbit/s "
            "at most; what is above waits. Undone by removing the limit; connections stay open."
        )

    def available(self, stage: Stage) -> str | None:
        return lacks(stage, impairment.Bandwidth)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        chosen = self._settings
        with impairing(
            context,
            impairment.Bandwidth(kbit_per_s=chosen.kbit_per_s),
            selector=chosen.target,
            direction=chosen.direction,
            links_max=LINKS_MAX,
            look=lambda around, old: None if no_bulk(old) else self._measured(around, old, count=TRIES),
            prove=self._prove,
            healed=self._healed,
        ) as injection:
            yield injection

    def _measured(self, around: Around, old: OldConnections, *, count: int = 1) -> RoundTrips:
        """Large exchanges on all links at once. Those that share a flow share its bandwidth: up to four of them."""
        view, bulk = bulk_view(around.context.cluster, old, self._settings.bulk_bytes)
        return measure(view, bulk, [*around.links, *around.beside], longest_s=self._longest_s, count=count, of=min)

    def _prove(self, around: Around, old: OldConnections, before: RoundTrips | None) -> Evidence:
        if before is None:
            return Evidence(proven=False, facts=(no_bulk(old) or "",))
        network, kind = around.context.cluster.stage.network, impairment.Bandwidth
        counted = network.counters(around.probed_flows, kind)
        evidence = self._grown(around, old, before)
        grew = growth(counted, network.counters(around.probed_flows, kind), around.probed_flows)
        if counted:
            wrong = [
                f"{a} -> {b}: expected packets in its limit, saw none" for (a, b), count in grew.items() if not count
            ]
            said = wrong or [f"{sum(grew.values())} packets came into the limits of {len(grew)} flows"]
            evidence = Evidence(proven=evidence.proven and not wrong, facts=(*evidence.facts, *said[:6]))
        elif self._settings.direction == "both":
            said = ["this network counts no packets, so of the two directions only the slower one was seen"]
            evidence = Evidence(proven=evidence.proven, facts=(*evidence.facts, *said))
        size = f"exchanges of {self._settings.bulk_bytes} bytes each way"
        return Evidence(proven=evidence.proven, facts=(size, *evidence.facts))

    def _grown(self, around: Around, old: OldConnections, before: RoundTrips) -> Evidence:
        def judged() -> Evidence:
            least_s = LEAST_SHARE * EXCHANGE_S
            return grown(before, shortest, control=around.beside, least_s=least_s, broken=old.broken)

        shortest = self._measured(around, old)
        evidence = judged()
        for _ in range(TRIES - 1):
            if evidence.proven:
                break
            now = self._measured(around, old)
            shortest = {connection: min(now_s, shortest[connection]) for connection, now_s in now.items()}
            evidence = judged()
        return evidence

    def _healed(self, around: Around, before: RoundTrips | None) -> Evidence:
        if before is None:
            return Evidence(proven=True, facts=())
        view, _ = bulk_view(around.context.cluster, None, self._settings.bulk_bytes)
        ours = {connection: s for connection, s in before.items() if around.target in connection.link}
        most_s = LEAST_SHARE * LEAST_SHARE * EXCHANGE_S
        return short_again(view, ours, most_s=most_s, longest_s=self._longest_s, deadline_s=HEAL_DEADLINE_S)

    @property
    def _longest_s(self) -> float:
        return 2 * 4 * EXCHANGE_S * 2
