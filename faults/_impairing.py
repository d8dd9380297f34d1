"""What faults on flows around one member have in common: whose flows, which links show it, putting it on, healing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from ..harness.errors import UsageError
from ..harness.impairment import Impairment
from ..harness.interfaces import Evidence, FaultContext, Flow, Injection, Link, Stage
from ..harness.relation import Direction, flows_of
from ._links import carried, live_links, needs_links, still_impaired
from ._proof import OldConnections, answers_again, old_connections
from ._selectors import insist_running, select

__all__ = ["WAYS", "Around", "impairing", "lacks"]

HEAL_DEADLINE_S = 10.0
CONTROL_LINKS_MAX = 4  # links that avoid the target, and show what the machine does by itself
WAYS: Final = {"both": "sent or received by", "out": "sent by", "in": "received by"}

_Before = TypeVar("_Before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """A member, the flows around it that are impaired, links that must show it and links that must not."""

    context: FaultContext
    target: str
    flows: frozenset[Flow]
    links: list[Link]
    beside: list[Link]

    @property
    def probed_flows(self) -> list[Flow]:
        """Impaired flows on which some probe's bytes travel."""
        pairs = {frozenset(link) for link in self.links}
        return sorted(flow for flow in self.flows if frozenset(flow) in pairs)


def lacks(stage: Stage, kind: type[Impairment]) -> str | None:
    """Reason why no flow of this stage can be impaired in this way, or None."""
    return needs_links(stage) or stage.network.why_not(kind)


@contextlib.contextmanager
def impairing(
    context: FaultContext,
    impairment: Impairment,
    *,
    selector: str,
    direction: Direction,
    links_max: int,
    look: Callable[[Around, OldConnections], _Before],
    prove: Callable[[Around, OldConnections, _Before], Evidence],
    healed: Callable[[Around, _Before], Evidence],
) -> Iterator[Injection]:
    """Impair the flows of one member that reach members that run, in one direction or both.

    `look` is what the proof compares with, before anything is changed; `healed` looks at new connections once the
    network says that it is whole.
    """
    cluster = context.cluster
    network, kind = cluster.stage.network, type(impairment)
    around = _around(context, selector, direction, links_max, kind)
    with old_connections(cluster, [*around.links, *around.beside]) as old:
        before = look(around, old)
        begun_ns = time.monotonic_ns()
        try:
            network.impair(around.flows, impairment, expires_ns=context.expires_ns)
            yield Injection(
                targets=(around.target,),
                description=f"packets {WAYS[direction]} {around.target}: {impairment.words()}",
                cut_off={},
                prove=lambda: prove(around, old, before),
                verify_healed=lambda: _healed(around, before, healed),
                began_ns=begun_ns,
                still_on=lambda: still_impaired(around.flows, cluster.stage),
            )
        finally:
            # Also when `impair` broke off half way: what it did is undone, what it did not is left as it is.
            network.mend(around.flows, kind)


def _around(
    context: FaultContext, selector: str, direction: Direction, links_max: int, kind: type[Impairment]
) -> Around:
    stage = context.cluster.stage
    target = select(selector, context)
    insist_running(target, context)
    live = live_links(stage)
    running = {name for link in live for name in link}
    flows = carried(flows_of(target, stage.members.values()), live)
    if direction != "both":
        flows = frozenset(flow for flow in flows if (flow.source if direction == "out" else flow.target) == target)
    flows = frozenset(flow for flow in flows if flow.source in running and flow.target in running)
    links = [link for link in live if target in link]
    if not flows or not links:
        raise UsageError(f"{kind.kind}: {target} has no link to a member that runs, so there is nothing to break")
    beside = [link for link in live if target not in link]
    return Around(
        context=context,
        target=target,
        flows=flows,
        links=sorted(context.rng.sample(links, min(len(links), links_max))),
        beside=sorted(context.rng.sample(beside, min(len(beside), CONTROL_LINKS_MAX))),
    )


def _healed(around: Around, before: _Before, healed: Callable[[Around, _Before], Evidence]) -> Evidence:
    """None of our flows is impaired, as the network says itself; new connections answer, and show nothing of it."""
    impaired = around.context.cluster.stage.network.impaired()
    left = [
        f"{flow.source} -> {flow.target} is still {impaired[flow]}" for flow in sorted(around.flows) if flow in impaired
    ]
    if left:
        return Evidence(proven=False, facts=tuple(left))
    again = answers_again(around.context.cluster, alive(around), deadline_s=HEAL_DEADLINE_S)
    facts = ("the network says that no flow of this fault is impaired", *again.facts)
    if not again.proven:
        return Evidence(proven=False, facts=facts)
    seen = healed(around, before)
    return Evidence(proven=seen.proven, facts=(*facts, *seen.facts))


def alive(around: Around) -> list[Link]:
    """Links of the fault whose members run still: one that has ended by itself cannot answer, healed or not."""
    still_there: Collection[Link] = live_links(around.context.cluster.stage)
    return [link for link in around.links if link in still_there]
