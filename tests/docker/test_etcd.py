"""etcd in containers: stale reads at a member that is cut off, and none by default; locks that outlive a pause."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aftershock.harness.interfaces import Cluster, Link, MemberState, ProbeOutcome
from aftershock.harness.operation import Outcome
from aftershock.systems_under_test.etcd import Etcd
from aftershock.workloads.clients.etcd import EtcdLockSetClient

from tests.docker.stock_systems import client_of, deployed, execute, injected, soon
from tests.processes.stages import wait_until

pytestmark = pytest.mark.docker

SETTLED_S = 60.0
GROUPS = ("clients-n1", "clients-n2", "clients-n3")
WHOLE = ProbeOutcome(delivered=True, answered=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd as it comes; one for all tests of this file, which leave it whole."""
    with deployed(tmp_path_factory.mktemp("etcd"), Etcd, "etcd") as made:
        yield made


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    assert cluster.wait_settled(deadline_s=SETTLED_S) is None
    yield
    assert cluster.stage.network.impaired() == {}
    assert cluster.wait_settled(deadline_s=SETTLED_S) is None


def leader_of(cluster: Cluster) -> str:
    name = cluster.topology().shards[0].primary
    assert name is not None
    return name


def test_every_group_sees_one_register(cluster: Cluster) -> None:
    clients = [client_of(cluster, group) for group in GROUPS]
    versions = []
    for value, client in enumerate(clients, start=1):
        versions.append(execute(client, "write", value, key=1).version)
        assert [execute(other, "read", key=1).seen for other in clients] == [value] * 3
    assert versions == sorted(versions)
    assert len(set(versions)) == 3


def test_members_hold_the_same(cluster: Cluster) -> None:
    states = cluster.replicas()

    assert {state.member for state in states} == {"n1", "n2", "n3"}
    assert len({(state.commit_index, state.chain, state.digest) for state in states}) == 1


@pytest.mark.parametrize("link", [Link("n2", "n1"), Link("clients-n1", "n1")])
def test_every_kind_of_link_can_be_probed(cluster: Cluster, link: Link) -> None:
    probe = cluster.open_probe(link)

    assert [probe.exchange(timeout_s=5), probe.exchange(timeout_s=5)] == [WHOLE, WHOLE]
    probe.close()


@pytest.mark.parametrize(
    "direction", ["out", *(pytest.param(direction, marks=pytest.mark.nightly) for direction in ("both", "in"))]
)
def test_cuts_are_proven_on_old_and_new_connections_and_healed(cluster: Cluster, direction: str) -> None:
    follower = min({"n1", "n2", "n3"} - {leader_of(cluster)})
    with injected(cluster, "partition", shape="isolate-alone", direction=direction, target=follower):
        assert cluster.stage.network.impaired()


def test_a_paused_leader_is_replaced_and_takes_no_bytes(cluster: Cluster) -> None:
    old = leader_of(cluster)
    with injected(cluster, "pause", target="primary"):
        assert cluster.stage.processes.state(old) is MemberState.PAUSED
        wait_until(lambda: cluster.topology().shards[0].primary not in (old, None), "another leads", deadline_s=60)


def test_reads_at_a_member_that_is_cut_off_are_stale_when_serializable_and_unanswered_when_not(
    cluster: Cluster,
) -> None:
    follower = min({"n1", "n2", "n3"} - {leader_of(cluster)})
    other = next(name for name in ("n1", "n2", "n3") if name != follower)
    writer, trusting = client_of(cluster, f"clients-{other}"), client_of(cluster, f"clients-{follower}")
    stale = client_of(cluster, f"clients-{follower}", serializable=True)
    assert execute(writer, "write", 1, key=2).result == "done"
    assert execute(trusting, "read", key=2).seen == 1

    with injected(cluster, "partition", shape="isolate", target=follower) as injection:
        assert injection.cut_off == {f"clients-{follower}": None}
        wait_until(lambda: execute(writer, "write", 2, key=2).outcome is Outcome.OK, "it serves", deadline_s=60)
        assert execute(stale, "read", key=2).seen == 1, "an old value, after the new one was acknowledged"
        assert execute(trusting, "read", key=2, deadline_s=2).outcome is Outcome.UNKNOWN
    assert cluster.wait_settled(deadline_s=SETTLED_S) is None

    assert execute(trusting, "read", key=2).seen == 2


@pytest.mark.parametrize("fenced", [False, True])
def test_a_lock_guarded_set(cluster: Cluster, fenced: bool) -> None:
    clients = [client_of(cluster, group, EtcdLockSetClient, fenced=fenced) for group in GROUPS]
    base = 10 if fenced else 20
    for number, client in enumerate(clients):
        assert execute(client, "insert", base + number, key=base + number).result == "done"
    keys = [f"i-{base + number}" for number in range(4)]
    found = clients[0].read_many(keys, request_id="t", deadline_ns=soon())

    assert [one.seen for one in found] == [base, base + 1, base + 2, None]


@pytest.mark.parametrize(("fenced", "outcome"), [(False, Outcome.OK), (True, Outcome.FAIL)])
def test_who_holds_the_lock_no_longer_is_stopped_by_the_fence_alone(
    cluster: Cluster, fenced: bool, outcome: Outcome
) -> None:
    """The client works for longer than the lock's lease: what a pause of the leader does to one that is quick."""
    slow = client_of(cluster, "clients-n1", EtcdLockSetClient, fenced=fenced, lock_ttl_s=1, hold_s=4.0)

    assert execute(slow, "insert", 40 + fenced, key=40 + fenced, deadline_s=20).outcome is outcome
