"""The adapter on a real, small reference cluster: ready, asked, probed along its links, broken, whole again."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aftershock.harness.errors import SetupError
from aftershock.harness.impairment import Block
from aftershock.harness.interfaces import Address, Cluster, Flow, Link, MemberState, ProbeOutcome, Role, Stage
from aftershock.systems_under_test.reference_system import ReferenceCluster, ReferenceSettings, ReferenceSystem

from tests.processes.stages import Events, open_stage

pytestmark = pytest.mark.processes

READY_S = 40.0
SHORT_S = 0.3
SMALL = ReferenceSettings(nodes=3, routers=2, shards=4)


@pytest.fixture(scope="module")
def events() -> Events:
    return Events()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, events: Events) -> Iterator[Cluster]:
    with (
        open_stage(tmp_path_factory.mktemp("cluster"), events) as stage,
        ReferenceSystem().deploy(stage, SMALL, seed=1) as cluster,
    ):
        cluster.wait_ready(deadline_s=READY_S)
        yield cluster


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Stage]:
    yield cluster.stage
    # Every test leaves the cluster whole.
    assert cluster.stage.network.impaired() == {}
    assert cluster.wait_settled(deadline_s=READY_S) is None


def later_ns() -> int:
    return time.monotonic_ns() + 600 * 10**9


def request(address: Address, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    with closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_members_and_links_are_all_there(cluster: Cluster, stage: Stage) -> None:
    names = {role: {m.name for m in stage.members.values() if m.role is role} for role in Role}
    assert names == {
        Role.NODE: {"n1", "n2", "n3"},
        Role.ROUTER: {"r1", "r2"},
        Role.CONTROLLER: {"c1"},
        Role.CLIENT: {"clients-r1", "clients-r2"},
    }
    expected = {Link(a, b) for a in names[Role.NODE] for b in names[Role.NODE] if a != b}
    expected |= {Link(*pair) for node in names[Role.NODE] for pair in ((node, "c1"), ("c1", node))}
    expected |= {Link(router, target) for router in ("r1", "r2") for target in ("n1", "n2", "n3", "c1")}
    expected |= {Link("clients-r1", "r1"), Link("clients-r2", "r2")}
    assert set(stage.network.links) == expected


def test_it_serves_at_every_endpoint(cluster: Cluster, stage: Stage) -> None:
    groups = cluster.clients().groups
    assert set(groups) == {"clients-r1", "clients-r2"}
    for number, address in enumerate(addresses["router"] for addresses in groups.values()):
        status, page = request(address, "PUT", f"/v1/keys/k{number}", {"value": number})
        assert status == 200, page
        assert request(address, "GET", f"/v1/keys/k{number}")[1]["value"] == number


def test_topology_and_replicas_agree(cluster: Cluster, stage: Stage) -> None:
    topology = cluster.topology()
    assert [shard.shard for shard in topology.shards] == [0, 1, 2, 3]
    assert topology.controllers == ("c1",)
    assert sum(len(shards) for shards in topology.primaries().values()) == 4
    replicas = cluster.replicas()
    assert len(replicas) == 12
    assert all(replica.in_sync for replica in replicas)
    for shard in range(4):
        assert len({(r.commit_index, r.chain, r.digest) for r in replicas if r.shard == shard}) == 1
    assert cluster.shard_of("k1") in range(4)


@pytest.mark.parametrize("link", [Link("n1", "n2"), Link("c1", "n1"), Link("r1", "c1"), Link("clients-r1", "r1")])
def test_a_probe_tells_which_direction_is_cut(cluster: Cluster, stage: Stage, link: Link) -> None:
    there, back = [Flow(*link)], [Flow(link.target, link.source)]
    # One connection opened before the fault, one during it; healing closes both, as it must.
    for flows, expected in (
        (there, ProbeOutcome(delivered=False, answered=False)),
        (back, ProbeOutcome(delivered=True, answered=False)),
    ):
        with closing(cluster.open_probe(link)) as old:
            assert old.exchange(timeout_s=5) == (True, True)
            stage.network.impair(flows, Block(), expires_ns=later_ns())
            assert old.exchange(timeout_s=SHORT_S) == expected
            with closing(cluster.open_probe(link)) as new:
                assert new.exchange(timeout_s=SHORT_S) == expected
            stage.network.mend(flows, Block)
            assert old.exchange(timeout_s=SHORT_S) == (False, False)
        with closing(cluster.open_probe(link)) as healed:
            assert healed.exchange(timeout_s=5) == (True, True)


def test_a_pair_without_a_link_cannot_be_probed(cluster: Cluster) -> None:
    with pytest.raises(SetupError, match="n1 never opens connections to r1"):
        cluster.open_probe(Link("n1", "r1"))


def test_a_killed_primary_is_missed_and_comes_back(cluster: Cluster, stage: Stage, events: Events) -> None:
    shard = cluster.topology().shards[0]
    assert shard.primary is not None
    stage.processes.kill(shard.primary)
    assert cluster.wait_member(shard.primary, deadline_s=0) == f"{shard.primary} is exited"
    assert cluster.wait_settled(deadline_s=0) is not None
    stage.processes.start(shard.primary)
    assert cluster.wait_member(shard.primary, deadline_s=READY_S) is None
    assert cluster.wait_settled(deadline_s=READY_S) is None
    assert cluster.topology().shards[0].epoch > shard.epoch


def test_a_paused_member_does_not_serve(cluster: Cluster, stage: Stage) -> None:
    stage.processes.pause("r2", expires_ns=later_ns())
    assert stage.processes.state("r2") is MemberState.PAUSED
    assert cluster.wait_member("r2", deadline_s=0) == "r2 is paused"
    stage.processes.resume("r2")
    assert cluster.wait_member("r2", deadline_s=READY_S) is None


def test_events_of_members_are_collected_with_their_own_times(cluster: Cluster, stage: Stage) -> None:
    collected = Events()
    cluster.collect_events(collected)
    assert collected.of("warning") == []
    opened = collected.of("primary.open")
    assert {event["shard"] for event in opened} == {0, 1, 2, 3}
    assert {event["source"] for event in opened} <= {"n1", "n2", "n3"}
    assert all(isinstance(event["t_ns"], int) and event["t_ns"] < time.monotonic_ns() for event in opened)
    assert {event["source"] for event in collected.of("topology")} == {"c1"}


def test_a_graceful_stop_leaves_nobody_who_would_not(tmp_path: Path) -> None:
    events = Events()
    with (
        open_stage(tmp_path, events) as stage,
        ReferenceSystem().deploy(stage, ReferenceSettings(nodes=3, routers=1, shards=1), seed=1) as cluster,
    ):
        cluster.wait_ready(deadline_s=READY_S)
    assert events.of("warning") == []
    exits = {event["member"]: event["status"] for event in events.of("member.exited")}
    assert exits == dict.fromkeys(("n1", "n2", "n3", "r1", "c1", "toxiproxy"), 0)


def test_a_member_that_cannot_start_is_told_at_once_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ReferenceCluster._configuration

    def broken(self: ReferenceCluster, name: str) -> dict[str, object]:
        return {**own(self, name), **({"colour": "red"} if name == "n2" else {})}

    monkeypatch.setattr(ReferenceCluster, "_configuration", broken)
    started = time.monotonic()
    with (
        open_stage(tmp_path, Events()) as stage,
        ReferenceSystem().deploy(stage, SMALL, seed=1) as cluster,
        pytest.raises(SetupError, match=r"(?s)n2 ended while it was starting.*n2\.log:.*colour"),
    ):
        cluster.wait_ready(deadline_s=600)
    assert time.monotonic() - started < 300


def test_a_member_that_never_becomes_ready_is_named_with_its_log(tmp_path: Path) -> None:
    with open_stage(tmp_path, Events()) as stage, ReferenceSystem().deploy(stage, SMALL, seed=1) as cluster:
        stage.processes.pause("n3", expires_ns=later_ns())
        for member in ("n1", "n2"):
            assert cluster.wait_member(member, deadline_s=READY_S) is None
        # The controller waits for its third node, so nobody gets further.
        with pytest.raises(SetupError, match=r"(?s)not ready within 0.5 s: n3 is paused; .*n3\.log"):
            cluster.wait_ready(deadline_s=0.5)
