"""partition: cuts flows between members, in one direction or both. Bytes vanish; nothing is refused."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from ..harness.errors import UsageError
from ..harness.impairment import Block
from ..harness.interfaces import (
    Evidence,
    FaultContext,
    Flow,
    Injection,
    Link,
    Member,
    MemberState,
    Role,
    Settings,
    Stage,
)
from ..harness.relation import Cut, Direction, Shape, clients_of, cut, cut_off, deposed
from ._links import carried, cut_links, expected, live_links, needs_links, still_impaired, whole_links
from ._process import new_epoch
from ._proof import answers_again, judge, old_connections
from ._selectors import Selectors, insist_all_running, means_several, select_many, words_of_many

__all__ = ["Partition", "PartitionSettings"]

HEAL_DEADLINE_S = 10.0
# Shapes that single one member out; the others hit every node of a side, or of the ring.
_AROUND_ONE = ("isolate", "isolate-alone", "replication-only", "control-only")
_AROUND_SEVERAL = ("isolate", "isolate-alone")
_DIRECTIONS = {"both": "in both directions", "out": "in what it sends", "in": "in what it receives"}


class PartitionSettings(Settings):
    """Which relation between members is cut (docs/faults.md has the table of shapes)."""

    shape: Shape = "isolate"
    sides: tuple[tuple[str, ...], ...] = Field(
        default=(), description="custom: members of the two sides; those to whom clients are pinned bring them along"
    )
    direction: Direction = Field(default="both", description="as seen from the isolated side")
    target: Selectors = Field(default="primary", description="several are isolated together, from all others")
    reaction_after_s: float = Field(
        default=2.0,
        gt=0,
        description="a longer cut must have led to a new epoch of shards whose primary lost a majority",
    )

    @model_validator(mode="before")
    @classmethod
    def _around_the_first(cls, values: Any) -> Any:
        """A custom cut is around whoever is named first, where the scenario does not say otherwise."""
        if isinstance(values, Mapping) and values.get("shape") == "custom" and "target" not in values:
            with contextlib.suppress(IndexError, KeyError, TypeError):
                return {**values, "target": values["sides"][0][0]}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if means_several(self.target) and self.shape not in _AROUND_SEVERAL:
            raise ValueError(
                f"several targets are isolated together by {' or '.join(_AROUND_SEVERAL)}, not {self.shape}"
            )
        if self.shape != "custom":
            if self.sides:
                raise ValueError(f"sides are those of shape 'custom', and shape is {self.shape!r}")
        elif len(self.sides) != 2 or not all(self.sides) or {*self.sides[0]} & {*self.sides[1]}:
            raise ValueError("shape 'custom' is between two sides with different members; write them as sides")
        return self


class Partition:
    """A network that does not deliver what some members send to some others."""

    name: ClassVar[str] = "partition"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = PartitionSettings

    def __init__(self, settings: PartitionSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        chosen = self._settings
        around = words_of_many(chosen.target)
        if chosen.shape == "custom":
            around = f"{', '.join(chosen.sides[0])} against {', '.join(chosen.sides[1])}"
        return (
            f"Partition {chosen.shape!r} around {around}, cut {_DIRECTIONS[chosen.direction]}. "
            "Undone by removing what cuts the links; connections that carried the cut flows are closed then."
        )

    def available(self, stage: Stage) -> str | None:
        return needs_links(stage)

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        cluster, stage, chosen = context.cluster, context.cluster.stage, self._settings
        targets = select_many(chosen.target, context)
        insist_all_running(targets, context)
        target = ", ".join(targets)
        members, topology = list(stage.members.values()), cluster.topology()
        relation = _relation(chosen, targets, members, context.rng)
        flows = carried(relation.flows, stage.network.links)
        if not flows:
            raise UsageError(f"partition {chosen.shape!r} around {target}: no link of this system carries a cut flow")
        nodes = tuple(name for name, member in stage.members.items() if member.role is Role.NODE)
        isolated = relation.sides[0] if relation.sides else nodes
        live = live_links(stage)
        probed = cut_links(live, flows, always=targets[0], rng=context.rng)
        wanted = {link: expected(link, flows) for link in probed}
        wanted |= {link: expected(link, flows) for link in whole_links(live, flows, near=isolated, rng=context.rng)}
        shards = deposed(flows, topology) if context.duration_s > chosen.reaction_after_s else ()
        with old_connections(cluster, wanted) as old:
            begun_ns = time.monotonic_ns()
            try:
                stage.network.impair(flows, Block(), expires_ns=context.expires_ns)
                yield Injection(
                    targets=targets if chosen.shape in _AROUND_ONE else isolated,
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
                stage.network.mend(flows, Block)


def _relation(chosen: PartitionSettings, targets: Sequence[str], members: Sequence[Member], rng: random.Random) -> Cut:
    """The cut around the target; several are on its side together, each with the clients that are pinned to it."""
    options: Any = {"direction": chosen.direction, "members": members, "target": targets[0], "rng": rng}
    relation = cut(chosen.shape, sides=chosen.sides, **options)
    if len(targets) == 1:
        return relation
    names = [member.name for member in members]
    isolated = dict.fromkeys((*relation.sides[0], *targets))
    pinned = {clients_of(name) for name in isolated}
    return cut("custom", sides=(list(isolated), [n for n in names if n not in isolated and n not in pinned]), **options)


def _healed(context: FaultContext, flows: Collection[Flow], probed: Collection[Link]) -> Evidence:
    """None of our flows is impaired, as the network says itself, and new connections carry bytes both ways again."""
    impaired = context.cluster.stage.network.impaired()
    left = [f"{flow.source} -> {flow.target} is still {impaired[flow]}" for flow in sorted(flows) if flow in impaired]
    if left:
        return Evidence(proven=False, facts=tuple(left))
    # A member that ended, or that another window cuts off, cannot answer; that is not a cut of ours that stayed.
    alive = set(live_links(context.cluster.stage))
    again = answers_again(context.cluster, [link for link in probed if link in alive], deadline_s=HEAL_DEADLINE_S)
    gone = [link for link in probed if link not in alive]
    ended = sorted({name for link in gone for name in link if not _runs(name, context.cluster.stage)})
    others = [link for link in gone if not set(link) & set(ended)]
    facts = ["the network says that no flow of this cut is impaired", *again.facts]
    facts += [f"links of {name} not probed: it ended" for name in ended]
    facts += [f"{len(others)} links not probed: another fault is on them"] if others else []
    return Evidence(proven=again.proven, facts=tuple(facts))


def _runs(name: str, stage: Stage) -> bool:
    return stage.members[name].role is Role.CLIENT or stage.processes.state(name) is MemberState.RUNNING
