"""The faults on a small real cluster: reference system, process backend. Their own proofs and heals are believed here
only as far as the process table and a second set of probes agree with them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.identity import find_by_token, run_token
from aftershock.harness.impairment import Bandwidth, Block, Delay, Reset
from aftershock.harness.interfaces import Cluster, Fault, FaultContext, Flow, Link, MemberState
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
        RunJournal.open(run_folder, "faults-real", folder / "state") as journal,
        ProcessBackend(ProcessBackendSettings()).open(
            run_id="faults-real", run_folder=run_folder, journal=journal, events=RecordedEvents()
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
    assert cluster.stage.network.impaired() == {}
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


def epochs(cluster: Cluster) -> dict[int, int]:
    return {state.shard: state.epoch for state in cluster.topology().shards}


def seen(cluster: Cluster, source: str, target: str) -> tuple[bool, bool]:
    """Delivered, answered: by a probe of our own on a new connection."""
    probe = cluster.open_probe(Link(source, target))
    try:
        return tuple(probe.exchange(timeout_s=1.0))  # type: ignore[return-value]
    finally:
        probe.close()


@pytest.mark.parametrize(
    ("shape", "direction"),
    [
        ("isolate", "both"),
        ("isolate", "out"),
        ("isolate", "in"),
        ("isolate-alone", "out"),
        ("replication-only", "both"),
        ("control-only", "in"),
    ],
)
def test_partition_cuts_bytes_in_exactly_its_direction(cluster: Cluster, shape: str, direction: str) -> None:
    target = primary(cluster)
    made: Fault = fault("partition", shape=shape, direction=direction, target=target)
    other = "c1" if shape == "control-only" else next(n for n in ("n1", "n2", "n3") if n != target)
    with made.inject(context(cluster)) as injection:
        evidence = injection.prove()
        out, back = seen(cluster, target, other), seen(cluster, other, target)
        impaired = set(cluster.stage.network.impaired())
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert healed.proven, healed.facts
    assert (Flow(target, other) in impaired, Flow(other, target) in impaired) == (direction != "in", direction != "out")
    assert out == {"both": (False, False), "out": (False, False), "in": (True, False)}[direction]
    assert back == {"both": (False, False), "out": (True, False), "in": (False, False)}[direction]
    assert seen(cluster, target, other) == seen(cluster, other, target) == (True, True)


@pytest.mark.parametrize("shape", ["halves", "bridge"])
def test_shapes_with_two_sides_take_on_real_links(cluster: Cluster, shape: str) -> None:
    with fault("partition", shape=shape).inject(context(cluster)) as injection:
        evidence = injection.prove()

    assert evidence.proven, evidence.facts
    assert injection.verify_healed().proven


def test_a_partition_that_was_not_made_is_not_proven(cluster: Cluster) -> None:
    """The same proof on the same cluster, with the cut taken away again behind the fault's back."""
    with fault("partition").inject(context(cluster)) as injection:
        cluster.stage.network.mend(list(cluster.stage.network.impaired()), Block)
        evidence = injection.prove()

    assert not evidence.proven
    assert any("expected request not delivered" in fact for fact in evidence.facts)


def test_half_of_a_partition_is_not_proven(cluster: Cluster) -> None:
    with fault("partition").inject(context(cluster)) as injection:
        cluster.stage.network.mend([min(cluster.stage.network.impaired())], Block)
        assert not injection.prove().proven


def test_kill_ends_the_process_and_starts_another(cluster: Cluster) -> None:
    target, processes = primary(cluster), cluster.stage.processes
    before = processes.pid(target)
    with fault("kill").inject(context(cluster)) as injection:
        assert injection.targets == (target,)
        assert processes.state(target) is MemberState.EXITED
        evidence = injection.prove()
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert healed.proven, healed.facts
    assert "serves again" in healed.facts[0]
    assert processes.pid(target) not in (None, before)


def test_pause_stops_the_process_and_continues_the_same(cluster: Cluster) -> None:
    target, processes = primary(cluster), cluster.stage.processes
    before = processes.pid(target)
    with fault("pause").inject(context(cluster)) as injection:
        assert injection.targets == (target,)
        evidence = injection.prove()
        assert processes.state(target) is MemberState.PAUSED
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert healed.proven, healed.facts
    assert processes.pid(target) == before


def test_a_pause_that_somebody_ended_is_not_proven(cluster: Cluster) -> None:
    with fault("pause").inject(context(cluster)) as injection:
        cluster.stage.processes.resume(injection.targets[0])
        assert not injection.prove().proven


@pytest.mark.parametrize("direction", ["both", "in"])
def test_latency_is_measured_on_old_and_new_connections(cluster: Cluster, direction: str) -> None:
    with fault("latency", latency_ms=300, direction=direction).inject(context(cluster)) as injection:
        evidence = injection.prove()
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert healed.proven, healed.facts


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bandwidth", {"kbit_per_s": 800}),
        ("bandwidth", {"kbit_per_s": 4000, "direction": "out"}),
        ("reset", {}),
        ("reset", {"direction": "in"}),
    ],
)
def test_limits_and_resets_are_seen_on_old_and_new_connections(
    cluster: Cluster, name: str, settings: dict[str, Any]
) -> None:
    with fault(name, **settings).inject(context(cluster)) as injection:
        evidence = injection.prove()
    healed = injection.verify_healed()

    assert evidence.proven, evidence.facts
    assert healed.proven, healed.facts


@pytest.mark.parametrize("name", ["loss", "duplicate", "reorder"])
def test_what_takes_packets_is_not_to_be_had_on_byte_streams(cluster: Cluster, name: str) -> None:
    assert "not packets" in (fault(name).available(cluster.stage) or "")


@pytest.mark.parametrize(("name", "kind"), [("bandwidth", Bandwidth), ("reset", Reset)])
def test_a_limit_or_reset_that_was_taken_away_is_not_proven(cluster: Cluster, name: str, kind: Any) -> None:
    with fault(name).inject(context(cluster)) as injection:
        cluster.stage.network.mend(list(cluster.stage.network.impaired()), kind)
        assert not injection.prove().proven


def test_latency_that_was_taken_away_is_not_proven(cluster: Cluster) -> None:
    with fault("latency", latency_ms=300).inject(context(cluster)) as injection:
        cluster.stage.network.mend(list(cluster.stage.network.impaired()), Delay)
        assert not injection.prove().proven


def test_a_whole_timeline_is_proven_healed_and_reacted_to(cluster: Cluster) -> None:
    """Every kind of fault in turn; where a new epoch was announced as the expected reaction, it came."""
    plans: list[tuple[str, dict[str, Any]]] = [
        ("noop", {}),
        ("partition", {"shape": "isolate"}),
        ("kill", {}),
        ("partition", {"shape": "isolate-alone", "direction": "out"}),
        ("pause", {}),
    ]
    for name, settings in plans:
        assert cluster.wait_settled(deadline_s=60) is None
        events, before = RecordedEvents(), epochs(cluster)
        record = _carry_out(cluster, name, settings, events)
        assert (record.proven, record.heal_verified, record.error) == (True, True, None), events.all
        (injected,) = events.of("fault.injected")
        after = epochs(cluster)
        assert (injected["reaction"] is None) == (name == "noop")
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
