"""Redis and Sentinel in containers: faults take on programs that know nothing of us, and what is published happens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aftershock.harness.interfaces import Cluster, Link, MemberState, ProbeOutcome
from aftershock.harness.operation import Outcome
from aftershock.systems_under_test.redis_sentinel import RedisSentinel

from tests.docker.stock_systems import client_of, deployed, execute, injected, soon
from tests.processes.stages import wait_until

pytestmark = pytest.mark.docker

SETTLED_S = 60.0
GROUPS = ("clients-s1", "clients-s2", "clients-s3")
WHOLE = ProbeOutcome(delivered=True, answered=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Redis as it comes; one for all tests of this file, which leave it whole."""
    with deployed(tmp_path_factory.mktemp("redis"), RedisSentinel, "redis") as made:
        yield made


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    assert cluster.wait_settled(deadline_s=SETTLED_S) is None
    yield
    assert cluster.stage.network.impaired() == {}
    assert cluster.wait_settled(deadline_s=SETTLED_S) is None


def primary_of(cluster: Cluster) -> str:
    name = cluster.topology().shards[0].primary
    assert name is not None
    return name


def test_every_group_writes_through_its_own_links_and_reads_what_the_others_wrote(cluster: Cluster) -> None:
    clients = {group: client_of(cluster, group) for group in GROUPS}
    for number, client in enumerate(clients.values()):
        assert execute(client, "insert", 100 + number, key=100 + number).result == "done"
    for client in clients.values():
        found = client.read_many(["i-100", "i-101", "i-102", "i-9"], request_id="t", deadline_ns=soon())
        assert [one.seen for one in found] == [100, 101, 102, None]
        assert execute(client, "insert", 7, key=100).result == "mismatch"


def test_replicas_hold_the_same(cluster: Cluster) -> None:
    states = cluster.replicas()

    assert {state.member for state in states} == {"n1", "n2", "n3"}
    assert len({state.digest for state in states}) == 1
    assert all(state.in_sync for state in states)


@pytest.mark.parametrize(
    "link", [Link("n2", "n1"), Link("s1", "n3"), Link("s1", "s2"), Link("clients-s1", "n1"), Link("clients-s1", "s1")]
)
def test_every_kind_of_link_can_be_probed(cluster: Cluster, link: Link) -> None:
    probe = cluster.open_probe(link)

    assert [probe.exchange(timeout_s=5), probe.exchange(timeout_s=5)] == [WHOLE, WHOLE]
    probe.close()


@pytest.mark.parametrize(
    ("shape", "direction"),
    [
        pytest.param(shape, direction, marks=[] if always == direction else [pytest.mark.nightly])
        for shape, always in (("isolate-alone", "both"), ("replication-only", "out"), ("control-only", "in"))
        for direction in ("both", "out", "in")
    ],
)
def test_cuts_are_proven_on_old_and_new_connections_and_healed(cluster: Cluster, shape: str, direction: str) -> None:
    backup = min({"n1", "n2", "n3"} - {primary_of(cluster)})
    with injected(cluster, "partition", shape=shape, direction=direction, target=backup):
        assert cluster.stage.network.impaired()


def test_a_paused_replica_takes_no_bytes(cluster: Cluster) -> None:
    """Its kernel does: what a stopped program has not read was not delivered."""
    backup = min({"n1", "n2", "n3"} - {primary_of(cluster)})
    with injected(cluster, "pause", target=backup):
        assert cluster.stage.processes.state(backup) is MemberState.PAUSED


def test_an_isolated_primary_goes_on_acknowledging_what_is_thrown_away_later(cluster: Cluster) -> None:
    """The anomaly itself, write by write. aphyr.com/posts/283-jepsen-redis"""
    old = primary_of(cluster)
    with injected(cluster, "partition", shape="isolate", target="primary") as injection:
        (inside,) = injection.cut_off
        outside = next(group for group in GROUPS if group != inside)
        lost, kept = client_of(cluster, inside), client_of(cluster, outside)
        assert injection.reaction == {"kind": "new-epoch", "shards": [0]}
        wait_until(lambda: primary_of(cluster) != old, "a replica was promoted", deadline_s=60)
        assert execute(lost, "insert", 1, key=201).result == "done"
        wait_until(lambda: execute(kept, "insert", 2, key=202).outcome is Outcome.OK, "it serves", deadline_s=30)
    assert cluster.wait_settled(deadline_s=SETTLED_S) is None

    for client in (lost, kept):
        found = client.read_many(["i-201", "i-202"], request_id="t", deadline_ns=soon())
        assert [one.seen for one in found] == [None, 2], "the acknowledged write is gone"


def test_with_wait_an_isolated_primary_acknowledges_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    with deployed(tmp_path_factory.mktemp("wait"), RedisSentinel, "redis", wait=2) as cluster:
        with injected(cluster, "partition", shape="isolate", target="primary") as injection:
            (inside,) = injection.cut_off
            client = client_of(cluster, inside)
            completion = execute(client, "insert", 1, key=301)

        assert (completion.outcome, completion.error) == (Outcome.UNKNOWN, "not-replicated")
