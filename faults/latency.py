"""latency: holds the bytes on the target's links for a while before passing them on."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator

from ..harness.errors import UsageError
from ..harness.impairment import Delay
from ..harness.interfaces import Cluster, Evidence, FaultContext, Flow, Injection, Settings, Stage
from ..harness.relation import Direction, flows_of
from ._links import carried, live_links, needs_links, still_impaired
from ._proof import old_connections
from ._round_trips import RoundTrips, grown, measure, short_again
from ._selectors import Selector, insist_running, select, words

__all__ = ["Latency", "LatencySettings"]

LINKS_MAX = 12
CONTROL_LINKS_MAX = 4  # links that avoid the target, and show what the machine does by itself
HEAL_DEADLINE_S = 10.0
_WAYS = {"both": "sent or received by", "out": "sent by", "in": "received by"}


class LatencySettings(Settings):
    """How long to hold bytes, and whose."""

    target: Selector = "primary"
    direction: Direction = "both"
    latency_ms: int = Field(default=100, ge=10, le=10_000, description="per direction; twice this per round trip")
    jitter_ms: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _jitter_leaves_something_to_prove(self) -> Self:
        if self.jitter_ms > self.latency_ms // 2:
            raise ValueError(f"jitter_ms may be half of latency_ms at most ({self.latency_ms // 2})")
        return self

    @property
    def amount(self) -> str:
        return f"{self.latency_ms} ± {self.jitter_ms} ms" if self.jitter_ms else f"{self.latency_ms} ms"

    @property
    def ways(self) -> int:
        """Directions of a round trip that are held."""
        return 2 if self.direction == "both" else 1

    @property
    def samples(self) -> int:
        """Round trips to take the median of: one long delay is plain against the noise of a busy machine."""
        return 5 if self.jitter_ms else 3 if self.growth_s < 0.5 else 1

    @property
    def growth_s(self) -> float:
        """By how much a round trip may grow at most, without noise."""
        return self.ways * (self.latency_ms + self.jitter_ms) / 1000

    @property
    def least_growth_s(self) -> float:
        """By how much round trips must grow for a proof: half a direction's latency less than was asked for.

        So a delay in one direction where two were asked is no proof. Jitter may take some of it away again.
        """
        asked_s, jitter_s = self.latency_ms / 1000, self.jitter_ms / 1000
        return min((self.ways - 0.5) * asked_s, 0.8 * self.ways * (asked_s - jitter_s))


class Latency:
    """A slow network around one member."""

    name: ClassVar[str] = "latency"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = LatencySettings

    def __init__(self, settings: LatencySettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Holds bytes {_WAYS[chosen.direction]} {words(chosen.target)} for {chosen.amount}. "
            "Undone by removing the delay; connections stay open."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_links(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, network, chosen = context.cluster, context.cluster.stage.network, self._settings
        target = select(chosen.target, context)
        insist_running(target, context)
        flows = _held(target, chosen.direction, cluster)
        live = live_links(cluster.stage)
        links = [link for link in live if target in link]
        if not flows or not links:
            raise UsageError(f"latency: {target} has no link to a member that runs, so there is nothing to delay")
        links = sorted(context.rng.sample(links, min(len(links), LINKS_MAX)))
        beside = [link for link in live if target not in link]
        beside = context.rng.sample(beside, min(len(beside), CONTROL_LINKS_MAX))
        with old_connections(cluster, [*links, *beside]) as old:

            def measured(of: Callable[[Sequence[float]], float]) -> RoundTrips:
                return measure(cluster, old, [*links, *beside], longest_s=chosen.growth_s, count=chosen.samples, of=of)

            # A busy machine makes some round trips longer; how long they are without a fault, the shortest tells.
            before = measured(min)
            ours = {connection: s for connection, s in before.items() if target in connection.link}
            begun_ns = time.monotonic_ns()
            try:
                delay = Delay(latency_ms=chosen.latency_ms, jitter_ms=chosen.jitter_ms)
                network.impair(flows, delay, expires_ns=context.expires_ns)
                yield Injection(
                    targets=(target,),
                    description=f"bytes {_WAYS[chosen.direction]} {target} are held for {chosen.amount}",
                    cut_off={},
                    prove=lambda: grown(
                        before,
                        measured(statistics.median),
                        control=beside,
                        least_s=chosen.least_growth_s,
                        broken=old.broken,
                    ),
                    verify_healed=lambda: _healed(context, flows, ours, chosen),
                    began_ns=begun_ns,
                    still_on=lambda: still_impaired(flows, cluster.stage),
                )
            finally:
                network.mend(flows, Delay)


def _held(target: str, direction: Direction, cluster: Cluster) -> frozenset[Flow]:
    """The target's flows in this direction that some link carries."""
    flows = carried(flows_of(target, cluster.stage.members.values()), cluster.stage.network.links)
    if direction == "both":
        return flows
    return frozenset(flow for flow in flows if (flow.source if direction == "out" else flow.target) == target)


def _healed(context: FaultContext, flows: Collection[Flow], before: RoundTrips, chosen: LatencySettings) -> Evidence:
    """None of our flows is impaired, as the network says itself, and round trips are short again."""
    impaired = context.cluster.stage.network.impaired()
    left = [f"{flow.source} -> {flow.target} is still {impaired[flow]}" for flow in sorted(flows) if flow in impaired]
    if left:
        return Evidence(proven=False, facts=tuple(left))
    # Half of one direction: less than a delay that is still there would add.
    most_s = 0.5 * chosen.latency_ms / 1000
    again = short_again(context.cluster, before, most_s=most_s, longest_s=chosen.growth_s, deadline_s=HEAL_DEADLINE_S)
    return Evidence(proven=again.proven, facts=("the network says that no flow is impaired", *again.facts))
