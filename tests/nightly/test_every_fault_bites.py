"""Every fault on every backend really bites: measured from the members' side, on an old and on a new connection."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from aftershock.faults import cpu_pressure
from aftershock.harness.interfaces import Cluster, FaultContext, MemberState

from tests.fakes import FakeJournal, RecordedEvents
from tests.nightly.bites import BITES, IMPOSSIBLE, UNPROVABLE, Bite, settings_of
from tests.nightly.clusters import READY_S, deployed
from tests.nightly.scene import HOT_KEY, Scene, nodes_of
from tests.unit.faults.support import fault, registered

pytestmark = [pytest.mark.nightly, pytest.mark.processes]


@pytest.fixture(scope="module")
def cluster(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with deployed(backend, tmp_path_factory.mktemp("bites"), run_id=f"bites-{backend}") as made:
        yield made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that others keep busy, members may get less than their limit for long."""
    monkeypatch.setattr(cpu_pressure, "PROOF_DEADLINE_S", 120.0)


def insist_whole(cluster: Cluster) -> None:
    assert cluster.wait_settled(deadline_s=READY_S) is None
    assert cluster.stage.network.impaired() == {}
    for name in nodes_of(cluster):
        assert cluster.stage.processes.state(name) is MemberState.RUNNING
        assert cluster.stage.disks is None or cluster.stage.disks.condition(name) == {}


def test_every_registered_fault_is_in_the_table() -> None:
    assert {bite.fault for bite in BITES} == set(registered())


@pytest.mark.parametrize("bite", BITES, ids=[bite.id for bite in BITES])
def test_it_bites_old_and_new_connections_until_it_is_undone(cluster: Cluster, backend: str, bite: Bite) -> None:
    impossible = IMPOSSIBLE[backend].get(bite.fault)
    if impossible is not None:
        reason = fault(bite.fault, **bite.settings).available(cluster.stage)
        assert reason is not None
        assert impossible in reason
        return
    insist_whole(cluster)
    with ExitStack() as stack:
        scene = Scene(cluster, stack)
        made = fault(bite.fault, **settings_of(bite, backend, scene.target))
        assert made.available(cluster.stage) is None
        context = FaultContext(
            cluster=cluster,
            rng=random.Random(7),
            journal=FakeJournal(),
            events=RecordedEvents(),
            fault_id="f1",
            duration_s=5.0,
            expires_ns=time.monotonic_ns() + 300 * 10**9,
            hot_key=HOT_KEY,
        )
        unprovable = UNPROVABLE.get(backend, {}).get(bite.fault)
        if unprovable is not None:
            with made.inject(context) as injection:
                evidence = injection.prove()
            assert not evidence.proven
            assert any(unprovable in fact for fact in evidence.facts)
            assert cluster.stage.network.impaired() == {}
            return
        measure = bite.measure(scene)
        with made.inject(context) as injection:
            evidence = injection.prove()
            assert evidence.proven, evidence.facts
            measure()
            still_on = injection.still_on() if injection.still_on is not None else None
            assert still_on is None or still_on.proven, still_on.facts
        healed = injection.verify_healed()
        assert healed.proven, healed.facts
    insist_whole(cluster)
    with ExitStack() as stack:
        Scene(cluster, stack)  # every link answers, on a new connection
