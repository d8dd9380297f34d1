"""The faults of resources and disks, whole, on members with real cgroups and real disks: they bite, only there, and
are undone. Their proofs are tried with the effect taken away behind their back, too."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aftershock.faults import cpu_pressure, memory_pressure
from aftershock.harness import loop_files
from aftershock.harness.identity import ProcessIdentity, find_by_token
from aftershock.harness.interfaces import Cluster, FaultContext, MemberState
from aftershock.harness.journal import RunJournal

from tests.fakes import RecordedEvents
from tests.processes.confined import needs_cgroups
from tests.processes.confined_cluster import confined_cluster
from tests.unit.faults.support import fault

pytestmark = [pytest.mark.processes, needs_cgroups]

FAULTS: dict[str, dict[str, Any]] = {
    "cpu-pressure": {},
    "memory-pressure": {},
    "oom-kill": {"deadline_s": 60},
    "disk-full": {},
    "disk-slow": {"writes_per_s": 10},
    "disk-read-only": {},
}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunJournal]:
    folder = tmp_path_factory.mktemp("confined")
    (folder / "run").mkdir()
    with RunJournal.open(folder / "run", "confined", folder / "state") as journal:
        yield journal
    assert find_by_token(journal.token) == []


@pytest.fixture(scope="module")
def cluster(journal: RunJournal) -> Iterator[Cluster]:
    folder: Path = journal.path.parent
    with confined_cluster(folder, journal, RecordedEvents()) as cluster:
        yield cluster
    assert all(loop_files.mount_of(folder / "data" / name) is None for name in ("n1", "n2"))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """These members are of the idle class: on a machine that others keep busy they may get less than their limit."""
    monkeypatch.setattr(cpu_pressure, "PROOF_DEADLINE_S", 90.0)
    monkeypatch.setattr(memory_pressure, "PROOF_DEADLINE_S", 90.0)


@pytest.fixture(autouse=True)
def whole(cluster: Cluster, journal: RunJournal) -> Iterator[None]:
    """After every test both members serve, their disks are whole, and only what lasts as long as the run is open."""
    yield
    assert cluster.stage.disks is not None
    for name in ("n1", "n2"):
        assert cluster.stage.processes.state(name) is MemberState.RUNNING
        assert cluster.stage.disks.condition(name) == {}
        assert cluster.wait_member(name, deadline_s=60) is None
    assert sorted(entry.inverse for entry in journal.open_entries()) == ["end-process"] * 2 + ["unmount"] * 2
    assert len(find_by_token(journal.token)) == 2


def context(cluster: Cluster, journal: RunJournal) -> FaultContext:
    return FaultContext(
        cluster=cluster,
        rng=random.Random(7),
        journal=journal,
        events=RecordedEvents(),
        fault_id="f1",
        duration_s=5.0,
        expires_ns=time.monotonic_ns() + 180_000_000_000,
        hot_key="h-1",
    )


@pytest.mark.parametrize("name", FAULTS)
def test_it_bites_until_it_is_left_and_is_undone(cluster: Cluster, journal: RunJournal, name: str) -> None:
    made = fault(name, target="n1", **FAULTS[name])
    assert made.available(cluster.stage) is None
    with made.inject(context(cluster, journal)) as injection:
        evidence = injection.prove()
        assert injection.still_on is not None
        still_on = injection.still_on()
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert still_on.proven, still_on.facts
    assert healed.proven, healed.facts
    print(name, *evidence.facts, *healed.facts, sep="\n    ")


def test_the_hog_of_cpu_pressure_is_seen_to_be_gone(cluster: Cluster, journal: RunJournal) -> None:
    with fault("cpu-pressure", target="n1").inject(context(cluster, journal)) as injection:
        _end_helpers(journal, cluster)
        evidence = injection.prove()
        assert injection.still_on is not None
        assert not injection.still_on().proven

    assert not evidence.proven
    assert "is not inside the limits of n1, expected it there" in evidence.facts[-1]


def test_the_hog_of_memory_pressure_is_seen_to_be_gone(cluster: Cluster, journal: RunJournal) -> None:
    with fault("memory-pressure", target="n1").inject(context(cluster, journal)) as injection:
        _end_helpers(journal, cluster)
        assert not injection.prove().proven


def test_out_of_memory_that_was_somebody_elses_kill_is_not_proven(
    cluster: Cluster, journal: RunJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member is gone, and the kernel counted no lack of memory."""
    confinement = cluster.stage.confinement
    assert confinement is not None
    start = confinement.start

    def start_another(member: str, argv: Sequence[str], *, expires_ns: int) -> ProcessIdentity:
        helper = start(member, ["/bin/sleep", "300"], expires_ns=expires_ns)
        cluster.stage.processes.kill(member)
        return helper

    monkeypatch.setattr(confinement, "start", start_another)
    with fault("oom-kill", target="n1", deadline_s=60).inject(context(cluster, journal)) as injection:
        evidence = injection.prove()

    assert not evidence.proven
    assert "ended 0 processes for want of memory" in evidence.facts[0]


@pytest.mark.parametrize(("name", "kind"), [("disk-full", "full"), ("disk-slow", "slow")])
def test_a_disk_that_somebody_mended_is_not_proven(cluster: Cluster, journal: RunJournal, name: str, kind: str) -> None:
    assert cluster.stage.disks is not None
    with fault(name, target="n1", **FAULTS[name]).inject(context(cluster, journal)) as injection:
        cluster.stage.disks.mend("n1", kind)
        assert not injection.prove().proven
        assert injection.still_on is not None
        assert not injection.still_on().proven


def test_a_read_only_disk_ends_the_member_and_starts_it_again(cluster: Cluster, journal: RunJournal) -> None:
    before = cluster.stage.processes.pid("n1")
    with fault("disk-read-only", target="n1").inject(context(cluster, journal)) as injection:
        assert cluster.stage.processes.pid("n1") == before, "open files fail, and the member goes on"
    assert injection.verify_healed().proven
    assert cluster.stage.processes.pid("n1") != before


def test_a_member_that_ends_under_a_fault_is_started_again(cluster: Cluster, journal: RunJournal) -> None:
    made = context(cluster, journal)
    with fault("disk-full", target="n1").inject(made) as injection:
        cluster.stage.processes.kill("n1")
    assert injection.verify_healed().proven
    assert isinstance(made.events, RecordedEvents)
    assert "n1 had ended by itself" in made.events.of("warning")[0]["text"]


def _end_helpers(journal: RunJournal, cluster: Cluster) -> None:
    members = {cluster.stage.processes.pid(name) for name in ("n1", "n2")}
    assert cluster.stage.confinement is not None
    for identity in find_by_token(journal.token):
        if identity.pid not in members:
            cluster.stage.confinement.end(identity)
