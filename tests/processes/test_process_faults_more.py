"""stop, restart, crash-loop and rolling-restart on a small real cluster (reference system, process backend), and the
faults of resources and disks, which say there why they cannot be injected. What the faults claim is believed only as
far as the process table, the members' logs and second probes agree."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.identity import ProcessIdentity, find_by_token, run_token
from aftershock.harness.interfaces import Cluster, FaultContext, Link, MemberState
from aftershock.harness.journal import RunJournal
from aftershock.harness.schedule import Schedule, Window
from aftershock.harness.timeline import Timeline, WindowRecord
from aftershock.systems_under_test.reference_system import ReferenceSettings, ReferenceSystem

from tests.fakes import FakeJournal, RecordedEvents
from tests.unit.faults.support import fault, registry

pytestmark = pytest.mark.processes

KEY = "h-1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, two routers, a controller; one for all tests of this file, which leave it as they found it."""
    folder: Path = tmp_path_factory.mktemp("faults")
    run_folder = folder / "run"
    run_folder.mkdir()
    with (
        RunJournal.open(run_folder, "faults-more", folder / "state") as journal,
        ProcessBackend(ProcessBackendSettings()).open(
            run_id="faults-more", run_folder=run_folder, journal=journal, events=RecordedEvents()
        ) as stage,
        ReferenceSystem().deploy(stage, ReferenceSettings(nodes=3, shards=4), seed=7) as deployed,
    ):
        deployed.wait_ready(deadline_s=60)
        yield deployed
    assert find_by_token(run_token(run_folder)) == []


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> Iterator[None]:
    """Before and after every test the cluster is whole."""
    assert cluster.wait_settled(deadline_s=60) is None
    yield
    assert cluster.wait_settled(deadline_s=60) is None


def context(cluster: Cluster, *, duration_s: float = 5.0) -> FaultContext:
    return FaultContext(
        cluster=cluster,
        rng=random.Random(7),
        journal=FakeJournal(),
        events=RecordedEvents(),
        fault_id="f1",
        duration_s=duration_s,
        expires_ns=time.monotonic_ns() + 60_000_000_000,
        hot_key=KEY,
    )


def primary(cluster: Cluster) -> str:
    return next(s.primary for s in cluster.topology().shards if s.shard == cluster.shard_of(KEY)) or ""


def identity(cluster: Cluster, member: str) -> ProcessIdentity:
    pid = cluster.stage.processes.pid(member)
    found = ProcessIdentity.of(pid) if pid is not None else None
    assert found is not None
    return found


def seen(cluster: Cluster, source: str, target: str) -> tuple[bool, bool]:
    """Delivered, answered: by a probe of our own on a new connection."""
    try:
        probe = cluster.open_probe(Link(source, target))
    except OSError:
        return (False, False)
    try:
        return tuple(probe.exchange(timeout_s=1.0))  # type: ignore[return-value]
    except OSError:
        return (False, False)
    finally:
        probe.close()


def test_stop_asks_the_member_to_end_and_starts_another(cluster: Cluster) -> None:
    target = primary(cluster)
    before = identity(cluster, target)
    with fault("stop").inject(context(cluster)) as injection:
        assert not before.alive()
        assert cluster.stage.processes.state(target) is MemberState.EXITED
        evidence = injection.prove()
        assert seen(cluster, "r1", target) == (False, False)
        assert injection.still_on is not None
        assert injection.still_on().proven
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert "after SIGTERM" in evidence.facts[0]
    assert "status 0" in evidence.facts[0], "it ended by itself"
    assert healed.proven, healed.facts
    assert seen(cluster, "r1", target) == (True, True)
    assert cluster.stage.processes.pid(target) != before.pid


def test_a_stop_that_somebody_undid_is_not_proven(cluster: Cluster) -> None:
    with fault("stop").inject(context(cluster)) as injection:
        cluster.stage.processes.start(injection.targets[0])
        assert not injection.prove().proven


@pytest.mark.parametrize("by", ["term", "kill"])
def test_restart_replaces_the_process_and_ends_its_connections(cluster: Cluster, by: str) -> None:
    target = primary(cluster)
    before, probe = identity(cluster, target), cluster.open_probe(Link("r1", target))
    assert probe.exchange(timeout_s=2).answered
    with fault("restart", by=by).inject(context(cluster)) as injection:
        assert not before.alive()
        evidence = injection.prove()
        with pytest.raises(OSError):
            assert probe.exchange(timeout_s=2).answered or _raise()
    probe.close()
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert healed.proven, healed.facts
    assert identity(cluster, target) != before


def _raise() -> bool:
    """A connection that carries nothing any more, without an error, has ended too."""
    raise ConnectionError


def test_a_member_that_was_not_restarted_is_not_proven(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same proof on the same cluster, with a stop that does nothing."""
    monkeypatch.setattr(cluster.stage.processes, "stop", lambda member, deadline_s: 0)
    with fault("restart").inject(context(cluster)) as injection:
        evidence = injection.prove()

    assert not evidence.proven
    assert any("expected no answer" in fact for fact in evidence.facts)


def test_crash_loop_kills_again_and_again_and_then_leaves_it_alone(cluster: Cluster) -> None:
    target = "n2"
    with fault("crash-loop", target=target, kill_every_s=1.5, down_s=0.4).inject(context(cluster)) as injection:
        evidence = injection.prove()
        assert injection.still_on is not None
        assert injection.still_on().proven
    healed, after = injection.verify_healed(), identity(cluster, target)

    assert evidence.proven, evidence.facts
    assert evidence.facts[0].startswith(("2 kills of 2", "3 kills of 3")), evidence.facts
    assert healed.proven, healed.facts
    assert cluster.wait_settled(deadline_s=60) is None
    assert identity(cluster, target) == after, "nobody kills it any more"


def test_rolling_restart_takes_one_node_after_another(cluster: Cluster) -> None:
    before = {name: identity(cluster, name) for name in ("n1", "n2", "n3")}
    down_together = _watch_down(cluster, list(before))
    with fault("rolling-restart", role="node").inject(context(cluster, duration_s=30)) as injection:
        evidence = injection.prove()
        assert injection.still_on is not None
        until = time.monotonic() + 60
        while not injection.still_on().proven:
            assert time.monotonic() < until, injection.still_on().facts
            time.sleep(0.05)
    most = down_together()
    healed = injection.verify_healed()

    assert injection.targets == ("n1", "n2", "n3")
    assert evidence.proven, evidence.facts
    assert healed.proven, healed.facts
    assert all(not old.alive() for old in before.values())
    assert most == 1, "never two at a time"


def test_a_rolling_restart_that_the_window_cuts_short_says_who_is_left(cluster: Cluster) -> None:
    with fault("rolling-restart", role="node", pause_s=60).inject(context(cluster)) as injection:
        assert injection.prove().proven
        assert injection.still_on is not None
        evidence = injection.still_on()

    assert not evidence.proven
    assert "n2, n3 of 3 members were not restarted yet; make the window longer" in evidence.facts[0]
    assert injection.verify_healed().proven


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cpu-pressure", "no limits of their own (no cgroup)"),
        ("memory-pressure", "no limits of their own (no cgroup)"),
        ("oom-kill", "no limits of their own (no cgroup)"),
        ("disk-full", "no file system of its own"),
        ("disk-slow", "no file system of its own"),
        ("disk-read-only", "no file system of its own"),
    ],
)
def test_what_processes_on_this_machine_do_not_have_cannot_be_taken(cluster: Cluster, name: str, reason: str) -> None:
    said = fault(name).available(cluster.stage)
    assert said is not None
    assert "backend 'process'" in said
    assert reason in said
    assert "docker" in said


def test_a_whole_timeline_is_proven_healed_and_reacted_to(cluster: Cluster) -> None:
    """Each in turn; where a new epoch was announced as the expected reaction, it came."""
    plans: list[tuple[str, dict[str, Any]]] = [
        ("stop", {}),
        ("restart", {}),
        ("crash-loop", {"target": "n1", "kill_every_s": 1.8, "down_s": 0.5}),
    ]
    for name, settings in plans:
        assert cluster.wait_settled(deadline_s=60) is None
        events = RecordedEvents()
        before = {state.shard: state.epoch for state in cluster.topology().shards}
        record = _carry_out(cluster, name, settings, events)
        assert (record.proven, record.heal_verified, record.error) == (True, True, None), (
            name,
            events.of("fault.unproven"),
        )
        (injected,) = events.of("fault.injected")
        after = {state.shard: state.epoch for state in cluster.topology().shards}
        assert (injected["reaction"] is None) == (name != "stop")
        for shard in (injected["reaction"] or {"shards": []})["shards"]:
            assert after[shard] > before[shard], (name, settings, shard)


def _carry_out(cluster: Cluster, name: str, settings: dict[str, Any], events: RecordedEvents) -> WindowRecord:
    window = Window(id="f1", name=name, start_s=0, end_s=4.0, expect="recovers", rto_s=4, settings=settings, rng_seed=3)
    ran = Timeline(
        schedule=Schedule(scenario="t", seed=1, rate_per_s=1, load_s=9, settle_s=9, windows=(window,)),
        cluster=cluster,
        registry=registry(),
        events=events,
        journal=FakeJournal(),
        origin_ns=time.monotonic_ns(),
        hot_key=KEY,
    )
    (record,) = ran.run(threading.Event())
    return record


def _watch_down(cluster: Cluster, members: list[str]):  # type: ignore[no-untyped-def]
    """Look all the time how many of them are down at once; the function that is returned ends it and gives the most."""
    over, most = threading.Event(), [0]

    def look() -> None:
        while not over.wait(0.002):
            states = [cluster.stage.processes.state(name) for name in members]
            most[0] = max(most[0], sum(state is MemberState.EXITED for state in states))

    thread = threading.Thread(target=look)
    thread.start()

    def result() -> int:
        over.set()
        thread.join()
        return most[0]

    return result
