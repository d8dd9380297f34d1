"""partition: cuts flows between members, in one direction or both. Bytes vanish; nothing is refused."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from typing import ClassVar

from pydantic import Field

from ..harness.errors import UsageError
from ..harness.interfaces import Evidence, FaultContext, Flow, Injection, Link, Role, Settings, Stage
from ..harness.relation import Direction, Shape, cut, cut_off, deposed
from ._links import carried, cut_links, expected, live_links, needs_links, still_impaired, whole_links
from ._process import new_epoch
from ._proof import answers_again, judge, old_connections
from ._selectors import Selector, insist_running, select, words

__all__ = ["Partition", "PartitionSettings"]

HEAL_DEADLINE_S = 10.0
# Shapes that single one member out; the others hit every node of a side, or of the ring.
_AROUND_ONE = ("isolate", "isolate-alone", "replication-only", "control-only")
_DIRECTIONS = {"both": "in both directions", "out": "in what it sends", "in": "in what it receives"}


class PartitionSettings(Settings):
    """Which relation between members is cut (docs/faults.md has the table of shapes)."""

    shape: Shape = "isolate"
    direction: Direction = Field(default="both", description="as seen from the isolated side")
    target: Selector = "primary"
    reaction_after_s: float = Field(
        default=2.0,
        gt=0,
        description="a longer cut must have led to a new epoch of shards whose primary lost a majority",
    )


class Partition:
    """A network that does not deliver what some members send to some others."""

    name: ClassVar[str] = "partition"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = PartitionSettings

    def __init__(self, settings: PartitionSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        return (
            f"Partition {chosen.shape!r} around {words(chosen.target)}, cut {_DIRECTIONS[chosen.direction]}. "
            "Undone by removing what cuts the links; connections that carried the cut flows are closed then."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_links(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, stage, chosen = context.cluster, context.cluster.stage, self._settings
        target = select(chosen.target, context)
        insist_running(target, context)
        members, topology = list(stage.members.values()), cluster.topology()
        relation = cut(chosen.shape, direction=chosen.direction, members=members, target=target, rng=context.rng)
        flows = carried(relation.flows, stage.network.links)
        if not flows:
            raise UsageError(f"partition {chosen.shape!r} around {target}: no link of this system carries a cut flow")
        nodes = tuple(name for name, member in stage.members.items() if member.role is Role.NODE)
        isolated = relation.sides[0] if relation.sides else nodes
        live = live_links(stage)
        probed = cut_links(live, flows, always=target, rng=context.rng)
        wanted = {link: expected(link, flows) for link in probed}
        wanted |= {link: expected(link, flows) for link in whole_links(live, flows, near=isolated, rng=context.rng)}
        shards = deposed(flows, topology) if context.duration_s > chosen.reaction_after_s else ()
        with old_connections(cluster, wanted) as old:
            begun_ns = time.monotonic_ns()
            try:
                stage.network.block(flows, expires_ns=context.expires_ns)
                yield Injection(
                    targets=(target,) if chosen.shape in _AROUND_ONE else isolated,
                    description=f"Partition {chosen.shape} around {target}: {relation.words}",
                    cut_off=cut_off(flows, topology, members),
                    prove=lambda: judge(cluster, old, wanted),
                    verify_healed=lambda: _healed(context, flows, probed),
                    reaction=new_epoch(shards),
                    began_ns=begun_ns,
                    still_on=lambda: still_impaired(flows, stage),
                )
            finally:
                # Also when `block` broke off half way: what it did is undone, what it did not is left as it is.
                stage.network.unblock(flows)


def _healed(context: FaultContext, flows: Collection[Flow], probed: Collection[Link]) -> Evidence:
    """None of our flows is impaired, as the network says itself, and new connections carry bytes both ways again."""
    impaired = context.cluster.stage.network.impaired()
    left = [f"{flow.source} -> {flow.target} is still {impaired[flow]}" for flow in sorted(flows) if flow in impaired]
    if left:
        return Evidence(proven=False, facts=tuple(left))
    # A member that has ended by itself meanwhile cannot answer; that is not a cut that stayed.
    alive = set(live_links(context.cluster.stage))
    again = answers_again(context.cluster, [link for link in probed if link in alive], deadline_s=HEAL_DEADLINE_S)
    gone = sorted({link.target for link in probed if link not in alive})
    facts = ("the network says that no flow of this cut is impaired", *again.facts)
    return Evidence(proven=again.proven, facts=(*facts, *(f"links of {name} not probed: it ended" for name in gone)))
