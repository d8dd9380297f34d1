"""Several windows on one cluster: none undoes another's change, and each is told only what it did itself."""

from __future__ import annotations

import time

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.impairment import Block, Delay
from aftershock.harness.interfaces import Cluster, Flow, Member, MemberState, Role, ShardState, Topology
from aftershock.harness.open_windows import OpenWindows, SharedNetwork
from aftershock.harness.relation import clients_of

from tests.fakes import FakeCluster, small_cluster

AB, BC, CD = Flow("n1", "n2"), Flow("n2", "n3"), Flow("n3", "n4")
LATER_NS = time.monotonic_ns() + 60_000_000_000


@pytest.fixture
def cluster() -> FakeCluster:
    return small_cluster()


def two(cluster: FakeCluster) -> tuple[OpenWindows, Cluster, Cluster]:
    windows = OpenWindows(cluster)
    return windows, windows.open("f1"), windows.open("f2")


def test_a_flow_that_two_windows_block_is_mended_with_the_second(cluster: FakeCluster) -> None:
    windows, first, second = two(cluster)
    first.stage.network.impair([AB, BC], Block(), expires_ns=LATER_NS)
    second.stage.network.impair([BC, CD], Block(), expires_ns=LATER_NS)

    first.stage.network.mend([AB, BC], Block)

    assert cluster.world.held == {BC, CD}
    assert first.stage.network.impaired() == {}, "what is left is the other's, and its own healing is verified by that"
    assert set(second.stage.network.impaired()) == {BC, CD}
    windows.close("f1")
    assert windows.left() == []
    second.stage.network.mend([BC, CD], Block)
    assert cluster.world.held == set()


def test_whichever_window_ends_first(cluster: FakeCluster) -> None:
    _, first, second = two(cluster)
    first.stage.network.impair([AB], Block(), expires_ns=LATER_NS)
    second.stage.network.impair([AB], Block(), expires_ns=LATER_NS)

    second.stage.network.mend([AB], Block)

    assert cluster.world.held == {AB}
    assert set(first.stage.network.impaired()) == {AB}


def test_a_shared_flow_expires_with_the_last_of_those_who_share_it(cluster: FakeCluster) -> None:
    _, first, second = two(cluster)
    first.stage.network.impair([AB], Block(), expires_ns=LATER_NS)
    second.stage.network.impair([AB], Block(), expires_ns=LATER_NS - 5)

    assert cluster.world.expiries_ns == [LATER_NS, LATER_NS]


def test_another_impairment_of_the_same_kind_is_refused_and_touches_nothing(cluster: FakeCluster) -> None:
    _, first, second = two(cluster)
    first.stage.network.impair([AB], Delay(latency_ms=100), expires_ns=LATER_NS)

    with pytest.raises(UsageError, match=r"n1 -> n2 is delayed by 100 ± 0 ms by f1 until that window ends"):
        second.stage.network.impair([AB, BC], Delay(latency_ms=300), expires_ns=LATER_NS)
    second.stage.network.mend([AB, BC], Delay)  # as every fault does on its way out

    assert cluster.world.delays_ms == {AB: 100}


def test_two_kinds_on_one_flow_do_not_meet(cluster: FakeCluster) -> None:
    _, first, second = two(cluster)
    first.stage.network.impair([AB], Delay(latency_ms=100), expires_ns=LATER_NS)
    second.stage.network.impair([AB], Block(), expires_ns=LATER_NS)

    first.stage.network.mend([AB], Delay)

    assert cluster.world.delays_ms == {}
    assert cluster.world.held == {AB}


def test_what_is_left_without_a_window_that_did_it_is_told(cluster: FakeCluster) -> None:
    windows, first, second = two(cluster)
    first.stage.network.impair([AB], Block(), expires_ns=LATER_NS)
    second.stage.network.impair([CD], Block(), expires_ns=LATER_NS)
    second.stage.processes.pause("n4", expires_ns=LATER_NS)
    assert windows.left() == []

    windows.close("f1")

    assert windows.left() == ["n1 -> n2 is still impaired: impaired"]
    windows.close("f2")
    assert len(windows.left()) == 3


def test_a_mend_that_raises_leaves_no_excuse(cluster: FakeCluster) -> None:
    windows, first, _ = two(cluster)
    first.stage.network.impair([AB], Block(), expires_ns=LATER_NS)
    cluster.world.lies = frozenset({"unblock-raises"})

    with pytest.raises(OSError, match="hung up"):
        first.stage.network.mend([AB], Block)

    assert windows.left() == ["n1 -> n2 is still impaired: impaired"]


@pytest.mark.parametrize("act", ["kill", "pause", "stop"])
def test_a_member_is_in_the_hands_of_one_window(cluster: FakeCluster, act: str) -> None:
    windows, first, second = two(cluster)
    first.stage.processes.kill("n2")
    more = {"pause": {"expires_ns": LATER_NS}, "stop": {"deadline_s": 1.0}}.get(act, {})

    with pytest.raises(UsageError, match="n2 is in the hands of f1 until that window ends"):
        getattr(second.stage.processes, act)("n2", **more)
    with pytest.raises(UsageError, match="in the hands of f1"):
        second.stage.processes.start("n2")

    assert cluster.world.calls == ["kill n2"]
    first.stage.processes.start("n2")
    windows.close("f1")
    second.stage.processes.pause("n2", expires_ns=LATER_NS)
    assert cluster.world.states["n2"] is MemberState.PAUSED


def test_a_disk_whose_mending_ends_the_member_takes_the_member_too(cluster: FakeCluster) -> None:
    _, first, second = two(cluster)
    disks = first.stage.disks
    assert disks is not None

    disks.make_read_only("n1", expires_ns=LATER_NS)

    with pytest.raises(UsageError, match="n1 is in the hands of f1"):
        second.stage.processes.pause("n1", expires_ns=LATER_NS)


def test_links_that_others_impair_are_known(cluster: FakeCluster) -> None:
    _, first, second = two(cluster)
    first.stage.network.impair([AB], Block(), expires_ns=LATER_NS)

    assert isinstance(second.stage.network, SharedNetwork)
    assert isinstance(first.stage.network, SharedNetwork)
    assert second.stage.network.of_others() == {AB}
    assert first.stage.network.of_others() == frozenset()


def test_the_rest_of_the_stage_is_the_real_one(cluster: FakeCluster) -> None:
    _, first, _ = two(cluster)

    assert first.stage.backend == "fake"
    assert first.stage.members == cluster.stage.members
    assert first.shard_of("k") == cluster.shard_of("k")
    assert first.stage.processes.pid("n1") == cluster.stage.processes.pid("n1")


# ------------------------------------------------------------------------------------------------ taken together


def _isolated(*names: str) -> list[Flow]:
    members = small_cluster().world.members
    pairs = [(name, other) for name in names for other in members if other != name]
    return [flow for a, b in pairs for flow in (Flow(a, b), Flow(b, a))]


def test_two_cuts_that_each_leave_a_majority_may_leave_none(cluster: FakeCluster) -> None:
    """Shard 0 is on n1, n2, n3: without n1 alone it is owed, without n1 and n2 nobody can be served."""
    windows, first, second = two(cluster)
    first.stage.network.impair(_isolated("n1"), Block(), expires_ns=LATER_NS)
    assert windows.together() == {}

    second.stage.network.impair(_isolated("n2"), Block(), expires_ns=LATER_NS)

    # Shards whose three replicas have both: those that begin at n1 (n1 n2 n3) and at n5 (n5 n1 n2).
    assert windows.together() == {"clients-r1": (0, 4), "clients-r2": (0, 4)}


def test_members_that_are_down_count_as_cut_off(cluster: FakeCluster) -> None:
    windows, first, second = two(cluster)
    first.stage.processes.kill("n1")
    second.stage.network.impair(_isolated("n2"), Block(), expires_ns=LATER_NS)
    assert windows.together() == {"clients-r1": (0, 4), "clients-r2": (0, 4)}

    first.stage.processes.start("n1")  # as `down_s` does inside the window

    assert windows.together() == {}


def test_a_controller_that_is_down_cuts_off_nobody_by_itself(cluster: FakeCluster) -> None:
    windows, first, second = two(cluster)
    first.stage.processes.kill("c1")
    second.stage.processes.kill("n1")

    assert windows.together() == {}


def test_a_primary_that_cannot_be_replaced_is_not_expected_to_be(cluster: FakeCluster) -> None:
    windows, first, second = two(cluster)
    second.stage.processes.kill("n1")
    assert windows.still_deposed([0]) == [0]

    first.stage.network.impair(_isolated("n2"), Block(), expires_ns=LATER_NS)

    assert windows.still_deposed([0]) == []


def test_a_member_that_is_no_process_at_all_is_not_down(cluster: FakeCluster) -> None:
    """Somebody's own service has a name for its entry that never runs: two faults behind it excuse nobody."""
    entry, group = "entry", clients_of("entry")
    cluster.world.members = {
        **{name: cluster.world.members[name] for name in ("n1", "n2", "n3")},
        entry: Member(name=entry, role=Role.CONTROLLER),
        group: Member(name=group, role=Role.CLIENT),
    }
    cluster.world.states[entry] = MemberState.ABSENT
    cluster.topology = lambda: Topology(  # type: ignore[method-assign]
        shards=(ShardState(shard=0, epoch=0, primary=None, in_sync=(entry,)),)
    )
    windows, first, second = two(cluster)

    first.stage.processes.kill("n1")
    second.stage.processes.kill("n2")

    assert windows.together() == {}
    first.stage.network.impair([Flow(group, entry)], Block(), expires_ns=LATER_NS)
    assert windows.together() == {group: None}, "who is cut from the entry itself is owed nothing"
