"""Partitions as relations over all members (DESIGN section 4): which flows a named shape cuts, and who that excuses.

Pure. A shape names an *isolated* side and the *others*; the direction is seen from the isolated side: `out` cuts what
it sends, `in` what it receives. Halves, majority-ring and bridge are Jepsen's (nemesis.clj: partition-halves,
partition-majorities-ring, bridge), widened from nodes to routers, controllers and client groups.

| shape | isolated side | others |
|---|---|---|
| `isolate` | a node with an entry and its clients; an entry with its clients; another member alone | everybody else |
| `isolate-alone` | the target alone | everybody else |
| `replication-only` | the target, a node | the other nodes; all else is whole |
| `control-only` | the target, a node or router | the controllers; all else is whole |
| `halves` | the target, up to half of the nodes, half of the entries with their clients | the rest |
| `bridge` | as halves, without one node that reaches both sides and is never the target | as halves |
| `majority-ring` | none: every node reaches a majority of the nodes, no two the same one | |
| `custom` | the members that the scenario names first, with their clients | those that it names second, with theirs |

An *entry* is a member to which clients are pinned (`clients-<its name>`): the routers of the reference cluster, with
Redis the sentinels. Where nodes have clients of their own (etcd), a node is its own entry.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, get_args

from .errors import UsageError
from .interfaces import Flow, Member, Role, Topology

__all__ = [
    "SHAPES",
    "Cut",
    "Direction",
    "Shape",
    "clients_of",
    "cut",
    "cut_off",
    "deposed",
    "flows_of",
    "with_down",
]

Direction = Literal["both", "out", "in"]
Shape = Literal[
    "isolate", "isolate-alone", "replication-only", "control-only", "halves", "majority-ring", "bridge", "custom"
]  # fmt: skip
SHAPES: tuple[Shape, ...] = get_args(Shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A partition. `sides` has the isolated side first; a ring has none, and a member may be on no side."""

    flows: frozenset[Flow]
    sides: tuple[tuple[str, ...], ...]
    words: str  # one clause: who cannot exchange what with whom


def cut(
    shape: Shape,
    *,
    direction: Direction = "both",
    members: Sequence[Member],
    target: str,
    rng: random.Random,
    sides: Sequence[Sequence[str]] = (),
) -> Cut:
    """The flows that a shape cuts around `target`. Every choice left open is made by `rng`, in a fixed order.

    `sides` are the two of shape `custom`, which has no target.

    Raises UsageError when there is no such member, or the cluster is too small for the shape: a partition that
    isolates nothing must not look like one.
    """
    roster = _Roster(members)
    if shape == "custom":
        isolated, others = _named_sides(roster, sides)
        flows = _flows(list(product(isolated, others)), direction)
        return Cut(flows=flows, sides=(isolated, others), words=_words(isolated, others, direction))
    if target not in roster.roles:
        raise UsageError(f"partition: no member is named {target!r}; members: {', '.join(sorted(roster.roles))}")
    if shape == "majority-ring":
        return _ring(roster, direction, rng)
    if shape in ("halves", "bridge"):
        isolated, others, apart = _split(roster, shape, target, rng)
    else:
        isolated, others, apart = *_around(roster, shape, target, rng), ()
    pairs = list(product(isolated, others))
    if not pairs:
        raise UsageError(f"partition: shape {shape!r} around {target} isolates nothing in this cluster")
    words = _words(isolated, others, direction) + (f"; {apart[0]} reaches both sides" if apart else "")
    return Cut(flows=_flows(pairs, direction), sides=(isolated, others), words=words)


def cut_off(flows: Iterable[Flow], topology: Topology, members: Sequence[Member]) -> dict[str, tuple[int, ...] | None]:
    """Client group -> shards that it is *not* owed while these flows are cut; None means all of them.

    DESIGN section 4, targets under faults: a group is owed a shard when its entry (its router) reaches a majority of
    the shard's replicas (in-sync and learners) and of the controllers. "Reaches" is both directions, and the group must
    reach its entry too. Groups that are owed everything are left out. A system without shards counts its nodes as
    replicas.
    """
    reach = _Reach(flows)
    roster = _Roster(members)
    excused: dict[str, tuple[int, ...] | None] = {}
    for group, router in roster.groups.items():
        served = (
            router is not None
            and reach.both(group, router)
            and (not topology.controllers or reach.majority(router, topology.controllers))
        )
        if not topology.shards:
            if not (served and router is not None and reach.majority(router, roster.nodes)):
                excused[group] = None
            continue
        lost = tuple(
            state.shard
            for state in topology.shards
            if not (served and router is not None and reach.majority(router, {*state.in_sync, *state.learners}))
        )
        if lost:
            excused[group] = None if len(lost) == len(topology.shards) else lost
    return excused


def deposed(flows: Iterable[Flow], topology: Topology) -> tuple[int, ...]:
    """Shards whose primary a system must replace under this cut, once it has had time to notice.

    replication.md section 10: a primary that cannot exchange messages (a broken direction is enough) with a majority
    of its replicas, while that majority are in-sync members who reach a majority of the controllers. A primary cut from
    the controllers only, or from one backup of two, may stay; claiming more would call a correct system unknown.
    """
    reach = _Reach(flows)
    found = []
    for state in topology.shards:
        if state.primary is None:
            continue
        replicas = {state.primary, *state.in_sync, *state.learners}
        able = [
            member
            for member in state.in_sync
            if not reach.both(state.primary, member)
            and (not topology.controllers or reach.majority(member, topology.controllers))
        ]
        if 2 * len(able) > len(replicas):
            found.append(state.shard)
    return tuple(found)


def with_down(topology: Topology, down: Collection[str]) -> Topology:
    """The topology while these members are down: they are replicas as before, and can take over no shard."""
    shards = tuple(
        replace(
            state,
            in_sync=tuple(name for name in state.in_sync if name not in down),
            learners=(*state.learners, *(name for name in state.in_sync if name in down)),
        )
        for state in topology.shards
    )
    return replace(topology, shards=shards)


def flows_of(target: str, members: Iterable[Member]) -> frozenset[Flow]:
    """Every flow from and to one member: what its death or its pause takes away."""
    return _flows([(target, member.name) for member in members if member.name != target], "both")


def clients_of(router: str) -> str:
    """Name of the client group that is pinned to a router (interfaces: `clients-<router>`)."""
    return f"clients-{router}"


# ------------------------------------------------------------------------------------------------ shapes


class _Roster:
    """Members by role, in name order, so that a seed means the same whatever the order they were announced in."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.roles = {member.name: member.role for member in sorted(members, key=lambda m: m.name)}
        self.nodes = self._named(Role.NODE)
        self.routers = self._named(Role.ROUTER)
        self.controllers = self._named(Role.CONTROLLER)
        self.entries = tuple(name for name in self.roles if self.roles.get(clients_of(name)) is Role.CLIENT)
        pinned = {clients_of(entry): entry for entry in self.entries}
        self.groups = {group: pinned.get(group) for group in self._named(Role.CLIENT)}

    def _named(self, role: Role) -> tuple[str, ...]:
        return tuple(name for name, its in self.roles.items() if its is role)

    def with_clients(self, names: Iterable[str]) -> tuple[str, ...]:
        """Members, each followed by the clients that are pinned to it."""
        found = (n for name in names for n in (name, clients_of(name)) if n in self.roles)
        return tuple(dict.fromkeys(found))

    def known(self, names: Sequence[str]) -> Sequence[str]:
        """The same names. Raises UsageError when one is nobody's."""
        strange = [name for name in names if name not in self.roles]
        if strange:
            raise UsageError(
                f"partition: no member is named {', '.join(map(repr, strange))}; "
                f"members: {', '.join(sorted(self.roles))}"
            )
        return names

    def but(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(name for name in self.roles if name not in names)


def _named_sides(roster: _Roster, sides: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if len(sides) != 2:
        raise UsageError(f"partition: shape 'custom' is between two sides, found {len(sides)}")
    isolated, others = (roster.with_clients(roster.known(side)) for side in sides)
    both = [name for name in isolated if name in others]
    if both or not isolated or not others:
        what = f"{', '.join(both)} on both" if both else "nobody on one"
        raise UsageError(f"partition: shape 'custom' is between two sides, found {what} of them")
    return isolated, others


def _around(roster: _Roster, shape: Shape, target: str, rng: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    role = roster.roles[target]
    if shape == "replication-only":
        if role is not Role.NODE:
            raise UsageError(f"partition: shape 'replication-only' cuts a node from other nodes; {target} is a {role}")
        return (target,), tuple(node for node in roster.nodes if node != target)
    if shape == "control-only":
        if role not in (Role.NODE, Role.ROUTER):
            raise UsageError(f"partition: shape 'control-only' cuts a node or router; {target} is a {role}")
        return (target,), roster.controllers
    isolated: tuple[str, ...] = (target,)
    if shape == "isolate" and target in roster.entries:
        isolated = roster.with_clients([target])
    elif shape == "isolate" and role is Role.NODE:
        if len(roster.entries) < 2:
            raise UsageError(
                f"partition: shape 'isolate' keeps a router with {target} and leaves one to the others, and this "
                f"cluster has {len(roster.entries)}; use two routers, or shape 'isolate-alone'"
            )
        isolated = (target, *roster.with_clients([rng.choice(roster.entries)]))
    return isolated, roster.but(isolated)


def _split(
    roster: _Roster, shape: Shape, target: str, rng: random.Random
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The target's side is never the larger one; controllers are on the other, but for those that clients enter by."""
    if roster.roles[target] not in (Role.NODE, Role.ROUTER):
        raise UsageError(f"partition: shape {shape!r} wants a node or router as target, {target} is neither")
    nodes = [name for name in roster.nodes if name != target]
    entries = [name for name in roster.entries if name != target and name not in roster.nodes]
    rng.shuffle(nodes)
    rng.shuffle(entries)
    apart: tuple[str, ...] = (nodes.pop(),) if shape == "bridge" and nodes else ()
    if shape == "bridge" and (not apart or not nodes):
        raise UsageError(f"partition: shape 'bridge' needs three nodes, this cluster has {len(roster.nodes)}")
    own_nodes = [target] if target in roster.nodes else []
    own_entries = [target] if target in roster.routers else []
    half = (len(entries) + len(own_entries)) // 2
    own_nodes += nodes[: max(0, (len(nodes) + len(own_nodes)) // 2 - len(own_nodes))]
    own_entries += entries[: max(0, half - len(own_entries))]
    own = [*sorted(own_nodes, key=lambda n: (n != target, n)), *sorted(own_entries)]
    isolated, apart = roster.with_clients(own), roster.with_clients(apart)
    return isolated, roster.but({*isolated, *apart}), apart


def _ring(roster: _Roster, direction: Direction, rng: random.Random) -> Cut:
    """Nodes on a ring see as many neighbours on either hand as make a majority; the far side is cut.

    One-way, `out` cuts what every node sends clockwise to the far side. Routers and controllers reach every node: a
    router that lost sight of a healthy primary would measure routing, not agreement.
    """
    ring = list(roster.nodes)
    rng.shuffle(ring)
    near = (len(ring) // 2 + 1) // 2
    pairs = []
    for place, node in enumerate(ring):
        for step in range(near + 1, len(ring) // 2 + 1):
            # Opposite nodes of an even ring are half a turn apart both ways: take the pair once.
            if 2 * step < len(ring) or place < step:
                pairs.append((node, ring[(place + step) % len(ring)]))
    if not pairs:
        raise UsageError(f"partition: shape 'majority-ring' cuts nothing below four nodes, there are {len(ring)}")
    way = {"both": "in either direction", "out": "clockwise", "in": "counter-clockwise"}[direction]
    words = f"on the ring {' '.join(ring)} no node exchanges bytes {way} with one more than {near} away"
    return Cut(flows=_flows(pairs, direction), sides=(), words=words)


def _flows(pairs: Iterable[tuple[str, str]], direction: Direction) -> frozenset[Flow]:
    found = set()
    for inside, outside in pairs:
        if direction != "in":
            found.add(Flow(inside, outside))
        if direction != "out":
            found.add(Flow(outside, inside))
    return frozenset(found)


def _words(isolated: Sequence[str], others: Sequence[str], direction: Direction) -> str:
    first, second = ", ".join(isolated), ", ".join(others)
    if direction == "both":
        return f"no bytes either way between {first} and {second}"
    return f"no bytes from {first} to {second}" if direction == "out" else f"no bytes from {second} to {first}"


class _Reach:
    def __init__(self, flows: Iterable[Flow]) -> None:
        self._cut = frozenset(flows)

    def both(self, first: str, second: str) -> bool:
        return Flow(first, second) not in self._cut and Flow(second, first) not in self._cut

    def majority(self, member: str, of: Collection[str]) -> bool:
        return 2 * sum(self.both(member, other) for other in of) > len(of)
