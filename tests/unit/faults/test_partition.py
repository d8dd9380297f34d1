"""partition: every shape and direction is proven where it took, and not where it did not take exactly as asked."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.interfaces import Flow, Link, MemberState
from aftershock.harness.relation import SHAPES
from pydantic import ValidationError

from tests.fakes import RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out, context, fault

DIRECTIONS = ("both", "out", "in")
SIDES = [["n1", "r1"], ["n2", "n3", "c1"]]


def shaped(shape: str) -> dict[str, Any]:
    return {"shape": shape, "sides": SIDES} if shape == "custom" else {"shape": shape}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_shape_and_direction_is_proven_and_healed(shape: str, direction: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()

    record = carry_out(cluster, "partition", events=events, **shaped(shape), direction=direction)

    assert (record.proven, record.heal_verified, record.error) == (True, True, None)
    assert cluster.world.changed_anything() == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", ["out", "in"])
def test_a_one_way_cut_that_took_both_ways_is_not_proven(shape: str, direction: str) -> None:
    cluster, events = small_cluster(lies=["blocks-both"]), RecordedEvents()

    assert not carry_out(cluster, "partition", events=events, **shaped(shape), direction=direction).proven
    wrong = [
        fact for fact in events.of("fault.unproven")[0]["facts"] if "expected request delivered, not answered" in fact
    ]
    assert wrong, events.of("fault.unproven")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lie", ["block-ignored", "old-escape", "new-escape", "blocks-everything"])
def test_no_shape_is_proven_by_a_network_that_lies(shape: str, direction: str, lie: str) -> None:
    cluster, events = small_cluster(lies=[lie]), RecordedEvents()

    assert not carry_out(cluster, "partition", events=events, **shaped(shape), direction=direction).proven


def test_the_facts_count_both_kinds_of_connection_and_the_links_that_are_whole() -> None:
    cluster, events = small_cluster(), RecordedEvents()

    carry_out(cluster, "partition", events=events, shape="isolate-alone", direction="out", target="n1")

    # n1 opens to four nodes and the controller; they and two routers open to it: r1 and r2 only see no answer.
    assert events.of("fault.proven")[0]["facts"] == [
        "10 of 10 probes on 5 links (5 old connections, 5 new): request not delivered, as it must be",
        "14 of 14 probes on 7 links (7 old connections, 7 new): request delivered, not answered, as it must be",
        "16 of 16 probes on 8 links (8 old connections, 8 new): request delivered and answered, as it must be",
    ]


def test_connections_that_did_not_work_before_prove_nothing() -> None:
    cluster, events = small_cluster(), RecordedEvents()
    cluster.world.held = {Flow("n1", "n2")}

    assert not carry_out(cluster, "partition", events=events, target="n1").proven
    assert any("before the fault n1 -> n2 did not answer" in f for f in events.of("fault.unproven")[0]["facts"])


def test_members_that_are_down_are_left_out_of_the_proof() -> None:
    cluster, events = small_cluster(), RecordedEvents()
    cluster.world.states["n5"] = MemberState.EXITED

    assert carry_out(cluster, "partition", events=events, target="n1").proven
    assert not any("n5" in probe._link for probe in cluster.probes)


def test_large_cuts_are_sampled_with_all_pairs_of_the_target() -> None:
    cluster = small_cluster(nodes=20, routers=4, controllers=3)
    with fault("partition", shape="halves", target="n7").inject(context(cluster)) as injection:
        assert injection.prove().proven
        cut = {frozenset(link) for link in map(_link, cluster.probes) if _is_cut(cluster, link)}
        wanted = {frozenset(link) for link in cluster.world.links if "n7" in link and _is_cut(cluster, link)}

    assert wanted <= cut
    assert len(cut) == 24


def _link(probe: object) -> Link:
    link: Link = probe._link  # type: ignore[attr-defined]
    return link


def _is_cut(cluster: object, link: Link) -> bool:
    return bool({Flow(*link), Flow(link.target, link.source)} & cluster.world.blocked)  # type: ignore[attr-defined]


def test_only_flows_that_a_link_carries_are_blocked() -> None:
    cluster = small_cluster()
    with fault("partition").inject(context(cluster)):
        pairs = {frozenset(link) for link in cluster.world.links}
        assert cluster.world.blocked
        assert all(frozenset(flow) in pairs for flow in cluster.world.blocked)


def test_a_block_that_breaks_off_half_way_is_undone() -> None:
    cluster, events = small_cluster(lies=["block-raises-halfway"]), RecordedEvents()

    record = carry_out(cluster, "partition", events=events)

    assert record.error == "OSError: the proxy server hung up"
    assert cluster.world.calls == ["block", "unblock"]
    assert cluster.world.changed_anything() == []


def test_what_the_network_says_is_still_cut_is_not_healed() -> None:
    cluster = small_cluster(lies=["unblock-ignored"])
    with fault("partition", target="n1").inject(context(cluster)) as injection:
        pass
    cluster.world.held.clear()  # bytes flow again, and yet the network says that they do not
    healed = injection.verify_healed()

    assert not healed.proven
    assert "is still impaired" in healed.facts[0]


def test_a_member_that_ended_meanwhile_does_not_make_the_heal_fail() -> None:
    cluster = small_cluster()
    with fault("partition", target="n1").inject(context(cluster)) as injection:
        cluster.world.states["n1"] = MemberState.EXITED
    healed = injection.verify_healed()

    assert healed.proven
    assert "links of n1 not probed: it ended" in healed.facts


# -------------------------------------------------------------------------------------- what it tells the checks


def leads(cluster: object) -> str:
    """A node that leads a shard whose replicas are all in sync."""
    return cluster.shards[0].primary  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("settings", "duration_s", "shards"),
    [
        ({"shape": "isolate"}, 5.0, [0]),
        ({"shape": "isolate-alone", "direction": "out"}, 5.0, [0]),
        ({"shape": "isolate-alone", "direction": "in"}, 5.0, [0]),
        ({"shape": "replication-only"}, 2.5, [0]),
        ({"shape": "isolate"}, 2.0, None),  # too short to promise anything
        ({"shape": "isolate", "reaction_after_s": 1.0}, 2.0, [0]),
        ({"shape": "control-only"}, 5.0, None),
    ],
)
def test_the_reaction_that_is_expected(settings: dict[str, Any], duration_s: float, shards: list[int] | None) -> None:
    cluster = small_cluster()
    with fault("partition", target=leads(cluster), **settings).inject(
        context(cluster, duration_s=duration_s)
    ) as injection:
        assert injection.reaction == (None if shards is None else {"kind": "new-epoch", "shards": shards})


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_clients_that_are_cut_off(direction: str) -> None:
    cluster = small_cluster()
    with fault("partition", target="n1", direction=direction).inject(context(cluster)) as injection:
        (group,) = injection.cut_off
        assert injection.cut_off[group] is None
        assert group.removeprefix("clients-") in injection.description
    with fault("partition", target="n1", shape="isolate-alone").inject(context(cluster)) as injection:
        assert injection.cut_off == {}


@pytest.mark.parametrize(
    ("shape", "count"),
    [("isolate", 1), ("isolate-alone", 1), ("replication-only", 1), ("majority-ring", 5), ("halves", 4)],
)
def test_targets_are_whom_the_shape_hits(shape: str, count: int) -> None:
    with fault("partition", shape=shape, target="n1").inject(context(small_cluster())) as injection:
        assert "n1" in injection.targets
        assert len(injection.targets) == count


def test_cut_off_uses_the_configuration_of_the_moment() -> None:
    cluster = small_cluster()
    cluster.shards = tuple(replace(s, in_sync=("n1",)) if s.shard == 0 else s for s in cluster.shards)
    with fault("partition", target="n1", shape="isolate-alone").inject(context(cluster)) as injection:
        assert injection.cut_off == {"clients-r1": (0,), "clients-r2": (0,)}


def test_a_shape_that_the_cluster_is_too_small_for_fails() -> None:
    cluster = small_cluster(routers=1)

    with pytest.raises(UsageError, match="isolate-alone"), fault("partition").inject(context(cluster)):
        pass
    assert cluster.world.calls == []


def test_the_dated_start_is_before_the_first_change_and_after_the_probes_were_opened() -> None:
    cluster = small_cluster()
    with fault("partition").inject(context(cluster, rng=random.Random(1))) as injection:
        assert injection.began_ns is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "custom"}, "between two sides"),
        ({"shape": "custom", "sides": [["n1"]]}, "between two sides"),
        ({"shape": "custom", "sides": [["n1"], []]}, "between two sides"),
        ({"shape": "custom", "sides": [["n1"], ["n2", "n1"]]}, "between two sides"),
        ({"shape": "isolate", "sides": SIDES}, "sides are those of shape 'custom'"),
    ],
)
def test_sides_belong_to_the_custom_shape_and_to_no_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        fault("partition", **settings)


def test_a_custom_cut_says_who_is_on_which_side_and_brings_clients_along() -> None:
    cluster, events = small_cluster(), RecordedEvents()
    settings = {"shape": "custom", "sides": SIDES}

    assert "n1, r1 against n2, n3, c1" in fault("partition", **settings).describe()
    carry_out(cluster, "partition", events=events, **settings)

    (injected,) = events.of("fault.injected")
    assert "no bytes either way between n1, r1, clients-r1 and n2, n3, c1" in injected["description"]
    assert injected["targets"] == ["n1", "r1", "clients-r1"]


def test_a_custom_cut_around_a_member_that_is_nobody_fails_and_names_those_there_are() -> None:
    events = RecordedEvents()

    record = carry_out(small_cluster(), "partition", events=events, shape="custom", sides=[["n1"], ["n9"]])

    assert "no member is named 'n9'; members: c1, clients-r1" in (record.error or "")


@pytest.mark.parametrize("shape", ["isolate", "isolate-alone"])
@pytest.mark.parametrize("target", [["n1", "n2"], "40%:node"])
def test_several_targets_are_isolated_together(shape: str, target: list[str] | str) -> None:
    cluster, events = small_cluster(), RecordedEvents()

    record = carry_out(cluster, "partition", events=events, shape=shape, target=target)

    assert (record.proven, record.heal_verified, len(record.targets)) == (True, True, 2)
    assert cluster.world.changed_anything() == []
    with fault("partition", shape=shape, target=["n1", "n2"]).inject(context(cluster)):
        held = cluster.world.held
        assert {Flow("n1", "n3"), Flow("n3", "n2"), Flow("n2", "c1")} <= held
        assert Flow("n1", "n2") not in held, "they still reach each other"
        beside = {name for name in ("r1", "r2") if Flow(name, "n1") not in held}
        assert len(beside) == (1 if shape == "isolate" else 0)


@pytest.mark.parametrize("shape", ["halves", "majority-ring", "replication-only"])
def test_several_targets_have_no_other_shape(shape: str) -> None:
    with pytest.raises(ValueError, match="several targets are isolated together by isolate or isolate-alone"):
        fault("partition", shape=shape, target=["n1", "n2"])
