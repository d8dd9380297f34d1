"""Shapes as relations: what each cuts in each direction, and whom it excuses."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.interfaces import Flow, Member, Role, ShardState, Topology
from aftershock.harness.relation import SHAPES, Cut, Shape, cut, cut_off, deposed, flows_of

NODES = ("n1", "n2", "n3", "n4", "n5")
REST = ("r1", "r2", "c1", "clients-r1", "clients-r2")
DIRECTIONS = ("both", "out", "in")
AROUND_A_TARGET = tuple(shape for shape in SHAPES if shape != "custom")


def members(*, nodes: int = 5, routers: int = 2, controllers: int = 1) -> list[Member]:
    found = [Member(name=f"n{i}", role=Role.NODE) for i in range(1, nodes + 1)]
    found += [Member(name=f"r{i}", role=Role.ROUTER) for i in range(1, routers + 1)]
    found += [Member(name=f"c{i}", role=Role.CONTROLLER) for i in range(1, controllers + 1)]
    return found + [Member(name=f"clients-r{i}", role=Role.CLIENT) for i in range(1, routers + 1)]


def made(shape: Any, direction: Any = "both", target: str = "n3", seed: int = 1, **size: int) -> Cut:
    """A cut of five nodes, two routers and a controller, or of a cluster of another size."""
    return cut(shape, direction=direction, members=members(**size), target=target, rng=random.Random(seed))


def between(first: tuple[str, ...], second: tuple[str, ...], direction: str) -> set[Flow]:
    out = {Flow(a, b) for a, b in product(first, second)}
    back = {Flow(b, a) for a, b in product(first, second)}
    return out | back if direction == "both" else out if direction == "out" else back


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("shape", "target", "isolated", "others"),
    [
        ("isolate-alone", "n3", ("n3",), ("n1", "n2", "n4", "n5", *REST)),
        ("isolate-alone", "r1", ("r1",), (*NODES, "r2", "c1", "clients-r1", "clients-r2")),
        ("isolate-alone", "clients-r2", ("clients-r2",), (*NODES, "r1", "r2", "c1", "clients-r1")),
        ("isolate", "r2", ("r2", "clients-r2"), (*NODES, "r1", "c1", "clients-r1")),
        ("isolate", "c1", ("c1",), (*NODES, "r1", "r2", "clients-r1", "clients-r2")),
        ("replication-only", "n3", ("n3",), ("n1", "n2", "n4", "n5")),
        ("control-only", "n3", ("n3",), ("c1",)),
        ("control-only", "r1", ("r1",), ("c1",)),
    ],
)
def test_shape_cuts_exactly_these_flows(
    shape: str, target: str, isolated: tuple[str, ...], others: tuple[str, ...], direction: str
) -> None:
    relation = made(shape, direction, target)

    assert relation.flows == between(isolated, others, direction)
    assert tuple(sorted(side) for side in relation.sides) == (sorted(isolated), sorted(others))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_isolate_keeps_a_router_and_its_clients_with_a_node(direction: str) -> None:
    """Otherwise nobody could see the old primary, and a pass would prove nothing (DESIGN section 4)."""
    kept = set()
    for seed in range(20):
        relation = made("isolate", direction, seed=seed)
        isolated, others = relation.sides
        assert isolated[0] == "n3"
        assert isolated in (("n3", "r1", "clients-r1"), ("n3", "r2", "clients-r2"))
        assert relation.flows == between(isolated, others, direction)
        kept.add(isolated[1])

    assert kept == {"r1", "r2"}, "the router is chosen by the seed"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(10))
def test_halves_put_the_target_on_the_smaller_side_and_the_controllers_on_the_other(direction: str, seed: int) -> None:
    relation = made("halves", direction, seed=seed)
    isolated, others = relation.sides

    assert {*isolated, *others} == {*NODES, *REST}
    assert len(set(isolated) & set(NODES)) == 2
    assert "n3" in isolated
    assert "c1" in others
    assert ("r1" in isolated) == ("clients-r1" in isolated) != ("r2" in isolated) == ("clients-r2" in isolated)
    assert relation.flows == between(isolated, others, direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("seed", range(10))
def test_bridge_leaves_one_node_that_reaches_both_sides(direction: str, seed: int) -> None:
    relation = made("bridge", direction, seed=seed)
    isolated, others = relation.sides
    (apart,) = {*NODES, *REST} - {*isolated, *others}

    assert apart in NODES
    assert apart != "n3"
    assert "n3" in isolated
    assert not any(apart in flow for flow in relation.flows)
    assert relation.flows == between(isolated, others, direction)
    assert f"{apart} reaches both sides" in relation.words


@pytest.mark.parametrize("nodes", [4, 5, 6, 7, 9])
@pytest.mark.parametrize("seed", range(5))
def test_on_a_majority_ring_every_node_reaches_a_majority_and_no_two_the_same(nodes: int, seed: int) -> None:
    relation = made("majority-ring", "both", "n1", seed, nodes=nodes)
    names = [f"n{i}" for i in range(1, nodes + 1)]
    seen = {a: frozenset(b for b in names if Flow(a, b) not in relation.flows) for a in names}

    assert all(2 * len(reached) > nodes for reached in seen.values())
    assert all(len(reached) < nodes for reached in seen.values())
    assert len(set(seen.values())) == nodes
    assert {name for flow in relation.flows for name in flow} == set(names)


@pytest.mark.parametrize("nodes", [4, 5, 6, 7])
def test_one_way_rings_are_the_two_halves_of_the_ring(nodes: int) -> None:
    both, out, back = (made("majority-ring", d, "n1", nodes=nodes).flows for d in DIRECTIONS)

    assert out | back == both
    assert not out & back
    assert back == {Flow(b, a) for a, b in out}


@pytest.mark.parametrize("shape", AROUND_A_TARGET)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_shape_isolates_nothing_and_one_way_is_half_of_both(shape: str, direction: str) -> None:
    flows, both = made(shape, direction).flows, made(shape, "both").flows

    assert flows
    assert flows <= both
    assert direction == "both" or 2 * len(flows) == len(both)
    assert not any(a == b for a, b in flows)


@pytest.mark.parametrize("shape", ["isolate", "isolate-alone", "halves", "bridge"])
def test_flows_are_over_all_roles(shape: str) -> None:
    ends = {name for flow in made(shape).flows for name in flow}

    assert {next(m.role for m in members() if m.name == name) for name in ends} == set(Role)


@pytest.mark.parametrize("shape", AROUND_A_TARGET)
def test_the_order_in_which_members_were_announced_means_nothing(shape: Shape) -> None:
    shuffled = members()
    random.Random(3).shuffle(shuffled)

    again = cut(shape, members=shuffled, target="n3", rng=random.Random(1))

    assert again == made(shape)


@pytest.mark.parametrize(
    ("shape", "target", "size", "message"),
    [
        ("isolate", "n9", {}, "no member is named 'n9'; members: c1, clients-r1"),
        ("isolate", "n1", {"routers": 1}, "this cluster has 1; use two routers, or shape 'isolate-alone'"),
        ("replication-only", "r1", {}, "r1 is a router"),
        ("replication-only", "n1", {"nodes": 1}, "isolates nothing"),
        ("control-only", "c1", {}, "c1 is a controller"),
        ("control-only", "n1", {"controllers": 0}, "isolates nothing"),
        ("halves", "c1", {}, "wants a node or router"),
        ("halves", "n1", {"nodes": 1, "routers": 0, "controllers": 0}, "isolates nothing"),
        ("bridge", "n1", {"nodes": 2}, "needs three nodes"),
        ("majority-ring", "n1", {"nodes": 3}, "below four nodes"),
    ],
)
def test_what_cannot_be_cut_is_an_error(shape: str, target: str, size: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(shape, "both", target, **size)


# ------------------------------------------------------------------------------------------------ who is excused

# Shard 0 on n1 n2 n3, shard 1 on n3 n4 n5, shard 2 on n1 n4 (in sync) and n5 (learning).
TOPOLOGY = Topology(
    shards=(
        ShardState(shard=0, epoch=1, primary="n3", in_sync=("n3", "n1", "n2")),
        ShardState(shard=1, epoch=1, primary="n3", in_sync=("n3", "n4", "n5")),
        ShardState(shard=2, epoch=1, primary="n1", in_sync=("n1", "n4"), learners=("n5",)),
    ),
    controllers=("c1",),
)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("shape", "target", "excused"),
    [
        ("isolate", "r1", {"clients-r1": None}),
        ("isolate-alone", "r1", {"clients-r1": None}),
        ("isolate-alone", "clients-r2", {"clients-r2": None}),
        ("isolate-alone", "n3", {}),
        ("replication-only", "n3", {}),
        ("control-only", "n3", {}),
        ("control-only", "r1", {"clients-r1": None}),
        ("isolate", "c1", {"clients-r1": None, "clients-r2": None}),
        ("majority-ring", "n3", {}),
    ],
)
def test_who_is_owed_nothing(shape: str, target: str, excused: dict[str, None], direction: str) -> None:
    """One broken direction is enough: a router that is not answered does not reach (DESIGN section 4)."""
    assert cut_off(made(shape, direction, target).flows, TOPOLOGY, members()) == excused


@pytest.mark.parametrize("shape", ["isolate", "halves", "bridge"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_clients_on_the_side_without_controllers_are_owed_nothing(shape: str, direction: str) -> None:
    for seed in range(10):
        relation = made(shape, direction, seed=seed)
        inside = {name for name in relation.sides[0] if name.startswith("clients")}
        excused = cut_off(relation.flows, TOPOLOGY, members())
        assert {group for group, lost in excused.items() if lost is None} >= inside
        assert len(inside) == 1


def test_a_group_is_owed_exactly_the_shards_of_which_its_router_reaches_a_majority() -> None:
    flows = [Flow("r1", "n4"), Flow("n5", "r1")]

    assert cut_off(flows, TOPOLOGY, members()) == {"clients-r1": (1, 2)}


def test_half_of_the_replicas_is_no_majority() -> None:
    topology = Topology(shards=(ShardState(shard=0, epoch=1, primary="n1", in_sync=("n1", "n2")),), controllers=("c1",))

    assert cut_off([Flow("r2", "n2")], topology, members()) == {"clients-r2": None}


def test_learners_count_as_replicas() -> None:
    state = ShardState(shard=0, epoch=1, primary="n1", in_sync=("n1", "n2"), learners=("n3", "n4", "n5"))
    topology = Topology(shards=(state,), controllers=("c1",))

    assert cut_off([Flow("r2", "n3"), Flow("r2", "n4"), Flow("r2", "n5")], topology, members()) == {"clients-r2": None}
    assert cut_off([Flow("r2", "n1"), Flow("r2", "n2")], topology, members()) == {}


def test_a_majority_of_three_controllers_is_enough() -> None:
    topology = Topology(shards=TOPOLOGY.shards, controllers=("c1", "c2", "c3"))
    one, two = [Flow("r1", "c1")], [Flow("r1", "c1"), Flow("c2", "r1")]

    assert cut_off(one, topology, members(controllers=3)) == {}
    assert cut_off(two, topology, members(controllers=3)) == {"clients-r1": None}


def test_without_shards_the_nodes_count_and_without_controllers_nobody_asks_for_them() -> None:
    two, three = [Flow("r1", f"n{i}") for i in (1, 2)], [Flow("r1", f"n{i}") for i in (1, 2, 3)]

    assert cut_off(two, Topology(), members()) == {}
    assert cut_off(three, Topology(), members()) == {"clients-r1": None}


def test_clients_without_a_router_are_owed_nothing() -> None:
    stray = [*members(), Member(name="clients-r9", role=Role.CLIENT)]

    assert cut_off([], TOPOLOGY, stray) == {"clients-r9": None}


# ------------------------------------------------------------------------------------------------ who must react


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("shape", "target", "shards"),
    [
        ("isolate", "n3", (0, 1)),
        ("isolate-alone", "n3", (0, 1)),
        ("replication-only", "n3", (0, 1)),
        ("control-only", "n3", ()),  # backups hear beacons: no fail-over, the primary serves
        ("isolate", "r1", ()),
        ("isolate-alone", "n5", ()),  # only a backup: dropping it is the system's choice of time
        ("isolate-alone", "n1", ()),  # of n1, n4 and the learner n5, one in-sync backup alone is no majority
    ],
)
def test_primaries_that_lost_a_majority_must_be_replaced(
    shape: str, target: str, shards: tuple[int, ...], direction: str
) -> None:
    """replication.md section 10: either broken direction between a primary and all its backups ends in a new epoch."""
    assert deposed(made(shape, direction, target).flows, TOPOLOGY) == shards


def test_nobody_can_decide_without_the_controllers() -> None:
    flows = made("isolate-alone", target="n3").flows | flows_of("c1", members())

    assert deposed(flows, TOPOLOGY) == ()


def test_one_backup_lost_of_two_is_tolerated() -> None:
    assert deposed([Flow("n3", "n1")], TOPOLOGY) == ()
    assert deposed([Flow("n3", "n1"), Flow("n2", "n3")], TOPOLOGY) == (0,)


def test_half_of_four_replicas_cannot_replace_a_primary() -> None:
    topology = Topology(shards=(ShardState(shard=0, epoch=1, primary="n1", in_sync=("n1", "n2", "n3", "n4")),))

    assert deposed([Flow("n1", "n2"), Flow("n1", "n3")], topology) == ()
    assert deposed([Flow("n1", "n2"), Flow("n1", "n3"), Flow("n1", "n4")], topology) == (0,)


def test_a_shard_without_a_primary_has_none_to_replace() -> None:
    topology = Topology(shards=(ShardState(shard=0, epoch=1, primary=None, in_sync=("n1", "n2", "n3")),))

    assert deposed(made("isolate-alone").flows, topology) == ()


def test_flows_of_a_member_are_all_from_and_to_it() -> None:
    flows = flows_of("n3", members())

    assert len(flows) == 2 * 9
    assert all("n3" in flow for flow in flows)


# ------------------------------------------------------------------------------------------------ other systems


def named(**roles: str) -> list[Member]:
    """Members by role, as `NODE="n1 n2"`."""
    return [Member(name=name, role=Role[role]) for role, names in roles.items() for name in names.split()]


# Redis: clients enter by their sentinel. etcd: every node has clients of its own.
SENTINELS = named(NODE="n1 n2 n3", CONTROLLER="s1 s2 s3", CLIENT="clients-s1 clients-s2 clients-s3")
OWN_CLIENTS = named(NODE="n1 n2 n3", CLIENT="clients-n1 clients-n2 clients-n3")
THREE = ShardState(shard=0, epoch=1, primary="n1", in_sync=("n1", "n2", "n3"))


def test_isolating_a_node_keeps_a_sentinel_and_its_clients_with_it() -> None:
    for seed in range(9):
        relation = cut("isolate", members=SENTINELS, target="n1", rng=random.Random(seed))
        isolated, others = relation.sides
        (sentinel,) = (name for name in isolated if name.startswith("s"))

        assert isolated == ("n1", sentinel, f"clients-{sentinel}")
        assert {*isolated, *others} == {member.name for member in SENTINELS}


def test_isolating_a_node_keeps_its_own_clients_with_it() -> None:
    relation = cut("isolate", members=OWN_CLIENTS, target="n2", rng=random.Random(1))

    assert relation.sides == (("n2", "clients-n2"), ("clients-n1", "clients-n3", "n1", "n3"))


@pytest.mark.parametrize("roster", [SENTINELS, OWN_CLIENTS])
def test_halves_bring_the_clients_of_each_side_along(roster: list[Member]) -> None:
    relation = cut("halves", members=roster, target="n1", rng=random.Random(1))
    for side in relation.sides:
        assert {name for name in side if f"clients-{name}" in {m.name for m in roster}} == {
            name.removeprefix("clients-") for name in side if name.startswith("clients-")
        }


def test_who_is_with_a_minority_of_the_sentinels_is_not_owed_service_and_the_primary_there_is_replaced() -> None:
    relation = cut("isolate", members=SENTINELS, target="n1", rng=random.Random(1))
    (group,) = (name for name in relation.sides[0] if name.startswith("clients-"))
    topology = Topology(shards=(THREE,), controllers=("s1", "s2", "s3"))

    assert cut_off(relation.flows, topology, SENTINELS) == {group: None}
    assert deposed(relation.flows, topology) == (0,)


def test_clients_of_an_isolated_node_are_not_owed_service_and_a_leader_there_is_replaced() -> None:
    relation = cut("isolate", members=OWN_CLIENTS, target="n1", rng=random.Random(1))
    topology = Topology(shards=(THREE,))

    assert cut_off(relation.flows, topology, OWN_CLIENTS) == {"clients-n1": None}
    assert deposed(relation.flows, topology) == (0,)


def test_a_custom_cut_is_between_exactly_those_named_and_their_clients() -> None:
    sides = (("n1", "n2", "s1"), ("n3", "s2", "s3"))

    relation = cut("custom", members=SENTINELS, target="n1", rng=random.Random(1), sides=sides)

    assert relation.sides == (
        ("n1", "n2", "s1", "clients-s1"),
        ("n3", "s2", "clients-s2", "s3", "clients-s3"),
    )
    assert relation.flows == between(*relation.sides, "both")


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((), "between two sides, found 0"),
        ((("n1",),), "between two sides, found 1"),
        ((("n1",), ()), "found nobody on one of them"),
        ((("n1", "s1"), ("n2", "clients-s1")), "found clients-s1 on both of them"),
        ((("n1",), ("n9",)), "no member is named 'n9'; members: clients-s1"),
    ],
)
def test_a_custom_cut_that_is_none_is_an_error(sides: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cut("custom", members=SENTINELS, target="n1", rng=random.Random(1), sides=sides)
