"""The reference cluster in containers: the same adapter, the same faults, as on the process backend."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.interfaces import Address, Cluster, FaultContext, MemberState, ProbeOutcome
from aftershock.systems_under_test.reference_system import ReferenceSettings, ReferenceSystem

from tests.docker.stages import left_behind, open_stage
from tests.fakes import FakeJournal, RecordedEvents
from tests.unit.faults.support import fault

pytestmark = pytest.mark.docker

KEY = "h-1"
READY_S = 90.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, two routers, a controller; one for all tests of this file, which leave it as they found it."""
    folder: Path = tmp_path_factory.mktemp("reference")
    with (
        open_stage(folder, RecordedEvents(), name="reference") as stage,
        ReferenceSystem().deploy(stage, ReferenceSettings(nodes=3, shards=4), seed=7) as deployed,
    ):
        deployed.wait_ready(deadline_s=READY_S)
        yield deployed
    assert left_behind(folder / "reference") == []


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    """Before and after every test the cluster is whole."""
    assert cluster.wait_settled(deadline_s=READY_S) is None
    yield
    assert cluster.stage.network.impaired() == {}
    assert cluster.wait_settled(deadline_s=READY_S) is None


def carry_out(cluster: Cluster, name: str, **settings: Any) -> tuple[str, ...]:
    """Inject, prove, heal and verify one fault, each of which must hold. Returns its targets."""
    context = FaultContext(
        cluster=cluster,
        rng=random.Random(7),
        journal=FakeJournal(),
        events=RecordedEvents(),
        fault_id="f1",
        duration_s=5.0,
        expires_ns=time.monotonic_ns() + 120 * 10**9,
        hot_key=KEY,
    )
    with fault(name, **settings).inject(context) as injection:
        evidence = injection.prove()
        still_on = injection.still_on() if injection.still_on is not None else None
    healed = injection.verify_healed()
    assert evidence.proven, evidence.facts
    assert still_on is None or still_on.proven, still_on.facts
    assert healed.proven, healed.facts
    return injection.targets


def request(address: Address, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    with closing(http.client.HTTPConnection(*address, timeout=10)) as connection:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_client_group_reaches_its_router_and_what_it_writes_is_read_at_the_other(cluster: Cluster) -> None:
    groups = cluster.clients().groups
    assert set(groups) == {"clients-r1", "clients-r2"}
    first, second = (next(iter(addresses.values())) for addresses in groups.values())
    assert first.host != second.host
    status, answer = request(first, "PUT", "/v1/keys/written-here", {"value": 41})
    assert status == 200, answer
    status, answer = request(second, "GET", "/v1/keys/written-here")
    assert (status, answer["value"]) == (200, 41)


def test_every_link_carries_a_probe(cluster: Cluster) -> None:
    for link in cluster.stage.network.links:
        with closing(cluster.open_probe(link)) as probe:
            assert probe.exchange(timeout_s=5) == ProbeOutcome(delivered=True, answered=True), link


@pytest.mark.parametrize(
    ("shape", "direction"),
    [("isolate", "both"), ("isolate", "out"), ("isolate", "in"), ("replication-only", "both"), ("isolate-alone", "in")],
)
def test_partitions_are_proven_and_heal(cluster: Cluster, shape: str, direction: str) -> None:
    carry_out(cluster, "partition", shape=shape, direction=direction, reaction_after_s=60)


def test_a_kill_is_proven_and_heals(cluster: Cluster) -> None:
    (target,) = carry_out(cluster, "kill")
    assert cluster.stage.processes.state(target) is MemberState.RUNNING


def test_a_pause_is_proven_and_heals(cluster: Cluster) -> None:
    (target,) = carry_out(cluster, "pause", reaction_after_s=60)
    assert cluster.stage.processes.state(target) is MemberState.RUNNING


def test_latency_is_proven_and_heals(cluster: Cluster) -> None:
    carry_out(cluster, "latency", latency_ms=300)
