"""The faults of processes, resources and disks on the reference cluster in containers, each of them whole."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aftershock.faults import cpu_pressure
from aftershock.harness import loop_files
from aftershock.harness.interfaces import Cluster, FaultContext, MemberState
from aftershock.systems_under_test.reference_system import ReferenceSettings, ReferenceSystem

from tests.docker.stages import left_behind, open_stage
from tests.fakes import FakeJournal, RecordedEvents
from tests.unit.faults.support import fault

pytestmark = pytest.mark.docker

KEY = "h-1"
READY_S = 90.0
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("stop", {}),
    ("restart", {}),
    ("crash-loop", {"kill_every_s": 2.5, "down_s": 0.5}),
    ("rolling-restart", {"role": "node"}),
    ("cpu-pressure", {"percent": 1000}),
    ("memory-pressure", {}),
    ("oom-kill", {"deadline_s": 60}),
    ("disk-full", {}),
    ("disk-slow", {"writes_per_s": 10}),
    ("disk-read-only", {}),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, two routers, a controller, with limits and disks of their own; one for all tests of this file."""
    folder: Path = tmp_path_factory.mktemp("members")
    with (
        open_stage(folder, RecordedEvents(), name="members", cpus=0.4, memory_mb=128, disk_mb=32) as stage,
        ReferenceSystem().deploy(stage, ReferenceSettings(nodes=3, shards=4), seed=7) as deployed,
    ):
        deployed.wait_ready(deadline_s=READY_S)
        yield deployed
    assert left_behind(folder / "members") == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert str(folder) not in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that others keep busy, members may get less than their limit for long."""
    monkeypatch.setattr(cpu_pressure, "PROOF_DEADLINE_S", 120.0)


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    """Before and after every test the cluster is whole."""
    assert cluster.wait_settled(deadline_s=READY_S) is None
    yield
    assert cluster.wait_settled(deadline_s=READY_S) is None
    assert cluster.stage.disks is not None
    for name in ("n1", "n2", "n3"):
        assert cluster.stage.processes.state(name) is MemberState.RUNNING
        assert cluster.stage.disks.condition(name) == {}
        assert loop_files.mount_of(cluster.stage.folder / name) is not None


@pytest.mark.parametrize(("name", "settings"), FAULTS, ids=[name for name, _ in FAULTS])
def test_it_bites_until_it_is_left_and_is_undone(cluster: Cluster, name: str, settings: dict[str, Any]) -> None:
    made = fault(name, **settings)
    assert made.available(cluster.stage) is None
    context = FaultContext(
        cluster=cluster,
        rng=random.Random(7),
        journal=FakeJournal(),
        events=RecordedEvents(),
        fault_id="f1",
        duration_s=5.0,
        expires_ns=time.monotonic_ns() + 240 * 10**9,
        hot_key=KEY,
    )
    with made.inject(context) as injection:
        evidence = injection.prove()
        if name == "rolling-restart":
            _wait_rolled(injection.still_on)
        still_on = injection.still_on() if injection.still_on is not None else None
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert still_on is None or still_on.proven, still_on.facts
    assert healed.proven, healed.facts
    print(name, *evidence.facts, *healed.facts, sep="\n    ")


def _wait_rolled(still_on: Any) -> None:
    until = time.monotonic() + READY_S
    while not still_on().proven:
        assert time.monotonic() < until, still_on().facts
        time.sleep(0.1)
