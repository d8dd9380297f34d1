"""What holds for every registered fault: it heals in any exit, and says when it had no effect and when it stayed."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest
from aftershock.harness.errors import HealError
from aftershock.harness.fault_plans import FaultPlan, RandomFault
from aftershock.harness.interfaces import Fault, Flow, MemberState
from aftershock.harness.timeline import EXPIRY_MARGIN_S

from tests.fakes import FakeCluster, RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out, context, fault, registered, timeline

EVERY = sorted(registered())
# Lie -> faults whose effect it takes away, wholly or in part: each of these must come out unproven.
NO_EFFECT = [
    ("partition", "block-ignored"),
    ("partition", "blocks-too-much"),
    ("partition", "blocks-everything"),
    ("partition", "blocks-out-only"),
    ("partition", "old-escape"),
    ("partition", "new-escape"),
    ("partition", "refuses"),
    ("partition", "closes"),
    ("latency", "delay-ignored"),
    ("latency", "slow-machine"),
    ("latency", "delay-one-way"),
    ("latency", "delay-old-escape"),
    ("latency", "delay-is-cut"),
    *[
        (name, f"packets-{how}")
        for name in ("loss", "duplicate", "reorder", "bandwidth", "reset")
        for how in ("ignored", "everywhere", "old-escape", "new-escape", "cut")
    ],
    *[(name, "packets-one-way") for name in ("loss", "duplicate", "reorder", "bandwidth", "reset")],
    *[(name, "packets-uncounted") for name in ("loss", "duplicate", "reorder")],
    ("reset", "reset-refuses"),
    ("kill", "kill-survives"),
    ("kill", "kill-by-term"),
    ("kill", "kill-still-answers"),
    ("pause", "pause-ignored"),
    ("pause", "pause-still-answers"),
    ("stop", "stop-ignored"),
    ("stop", "stop-still-answers"),
    ("restart", "same-process"),
    ("crash-loop", "kill-survives"),
    ("crash-loop", "kill-by-term"),
    ("crash-loop", "kill-still-answers"),
    ("crash-loop", "loop-stops"),
    ("rolling-restart", "same-process"),
    ("cpu-pressure", "hog-idle"),
    ("cpu-pressure", "hog-outside"),
    ("cpu-pressure", "hog-dies"),
    ("memory-pressure", "hog-idle"),
    ("memory-pressure", "hog-outside"),
    ("memory-pressure", "hog-dies"),
    ("oom-kill", "hog-idle"),
    ("oom-kill", "oom-spares"),
    ("oom-kill", "oom-uncounted"),
    ("oom-kill", "kill-still-answers"),
    ("disk-full", "disk-ignored"),
    ("disk-full", "disk-of-all"),
    ("disk-slow", "disk-ignored"),
    ("disk-slow", "disk-of-all"),
    ("disk-read-only", "disk-ignored"),
    ("disk-read-only", "disk-of-all"),
]
# Lie -> faults that it leaves on: each of these must end the run with HealError.
STAYS_ON = [
    ("partition", "unblock-ignored"),
    ("partition", "unblock-hidden"),
    ("partition", "unblock-raises"),
    ("latency", "unblock-ignored"),
    ("latency", "unblock-hidden"),
    ("latency", "unblock-raises"),
    *[
        (name, f"unblock-{how}")
        for name in ("loss", "duplicate", "reorder", "bandwidth", "reset")
        for how in ("ignored", "hidden", "raises")
    ],
    ("kill", "start-ignored"),
    ("pause", "resume-ignored"),
    ("stop", "start-ignored"),
    ("restart", "start-ignored"),
    ("crash-loop", "start-ignored"),
    ("rolling-restart", "start-ignored"),
    ("cpu-pressure", "hog-stays"),
    ("memory-pressure", "hog-stays"),
    ("oom-kill", "start-ignored"),
    *[
        (f"disk-{kind}", f"mend-{how}")
        for kind in ("full", "slow", "read-only")
        for how in ("ignored", "hidden", "raises")
    ],
]
# What they do is over, or may be, at any instant that one looks: there is nothing that stays changed.
PASSING = {"noop", "restart", "crash-loop", "rolling-restart"}


@pytest.mark.parametrize("name", EVERY)
def test_in_an_honest_world_it_is_proven_and_healed(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()

    record = carry_out(cluster, name, events=events)

    assert (record.proven, record.heal_verified, record.error) == (True, True, None)
    assert cluster.world.changed_anything() == []
    assert events.kinds() == ["fault.planned", "fault.injected", "fault.proven", "fault.healing", "fault.healed"]
    assert all(event["facts"] for event in events.of("fault.proven"))
    assert all(probe.closed for probe in cluster.probes)


@pytest.mark.parametrize("name", EVERY)
def test_raising_in_the_middle_of_the_window_heals(name: str) -> None:
    cluster = small_cluster()

    injections = []

    def break_off() -> None:
        with fault(name).inject(context(cluster)) as injection:
            injections.append(injection)
            assert name in PASSING or cluster.world.changed_anything()
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        break_off()

    assert cluster.world.changed_anything() == []
    assert [injection.verify_healed().proven for injection in injections] == [True]


@pytest.mark.parametrize("name", EVERY)
def test_stop_heals_and_ends_the_schedule(name: str) -> None:
    cluster, events, stop = small_cluster(), RecordedEvents(), threading.Event()
    begun = timeline(cluster, name, "noop", events=events, length_s=30.0)
    thread = threading.Thread(target=begun.run, args=(stop,))
    thread.start()
    _wait_for(events, "fault.proven", thread)

    stop.set()
    thread.join(timeout=10)

    assert not thread.is_alive()
    assert cluster.world.changed_anything() == []
    assert [record.heal_verified for record in begun.records] == [True]
    assert events.kinds()[-2:] == ["fault.healing", "fault.healed"]


@pytest.mark.parametrize("kind", ["fault.injected", "fault.proven", "fault.healing", "fault.healed"])
@pytest.mark.parametrize("name", EVERY)
def test_a_full_disk_at_any_event_heals(name: str, kind: str) -> None:
    cluster, events = small_cluster(), RecordedEvents(fail_on=kind)

    with pytest.raises(OSError, match="No space left"):
        carry_out(cluster, name, events=events)

    assert cluster.world.changed_anything() == []


@pytest.mark.parametrize("kind", ["fault.injected", "fault.proven", "fault.healing", "fault.healed"])
@pytest.mark.parametrize(("name", "lie"), STAYS_ON)
def test_a_full_disk_does_not_hide_a_heal_that_did_not_take(name: str, lie: str, kind: str) -> None:
    cluster, events = small_cluster(lies=[lie]), RecordedEvents(fail_on=kind)

    with pytest.raises(HealError):
        carry_out(cluster, name, events=events)


@pytest.mark.parametrize(("name", "lie"), NO_EFFECT, ids=lambda value: value)
def test_an_effect_that_is_not_there_is_not_proven(name: str, lie: str) -> None:
    cluster, events = small_cluster(lies=[lie]), RecordedEvents()
    # A killed process that goes on cannot be started again; the run goes on with it, and the window is unproven.
    record = carry_out(cluster, name, events=events)

    assert record.proven is False
    (unproven,) = events.of("fault.unproven")
    assert any("expected" in fact or "is running" in fact for fact in unproven["facts"])
    assert cluster.world.changed_anything() == []


@pytest.mark.parametrize(("name", "lie"), STAYS_ON, ids=lambda value: value)
def test_a_heal_that_does_not_take_is_an_error_that_says_what_to_do(name: str, lie: str) -> None:
    cluster, events = small_cluster(lies=[lie]), RecordedEvents()
    both = timeline(cluster, name, "noop", events=events)

    with pytest.raises(HealError, match="aftershock heal") as caught:
        both.run(threading.Event())

    assert cluster.world.changed_anything()
    assert "f1" in str(caught.value)
    assert events.of("fault.healed")[-1]["verified"] is False
    assert [record.heal_verified for record in both.records] == [False], "nothing may be injected after a failed heal"


@pytest.mark.parametrize("name", [name for name in EVERY if name not in PASSING])
def test_an_effect_that_did_not_last_takes_the_proof_back(name: str) -> None:
    """As when the watchdog, or somebody at the console, undoes it in the middle."""
    cluster = small_cluster()
    events = UndoingOnceProven(cluster)

    (record,) = timeline(cluster, name, events=events).run(threading.Event())

    assert record.proven is False
    assert events.kinds()[2:4] == ["fault.proven", "fault.unproven"]
    assert "at the end of the window" in events.of("fault.unproven")[0]["facts"][0]


def test_noop_notices_what_somebody_else_left_behind() -> None:
    cluster, events = small_cluster(), RecordedEvents()
    cluster.world.blocked.add(Flow("n1", "n2"))

    with pytest.raises(HealError, match="n1 -> n2"):
        carry_out(cluster, "noop", events=events)


def test_noop_tells_of_a_member_that_died_by_itself() -> None:
    cluster, events = small_cluster(), RecordedEvents()
    cluster.world.states["n4"] = MemberState.EXITED

    carry_out(cluster, "noop", events=events)

    assert "n4" in events.of("warning")[0]["text"]


@pytest.mark.parametrize("name", EVERY)
def test_the_planned_expiry_is_a_fixed_margin_after_the_end(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    record = carry_out(cluster, name, events=events)

    for expires_ns in cluster.world.expiries_ns:
        margin_ns = expires_ns - record.planned_end_ns
        # On a busy machine the window itself may begin after its planned end, and then it still gets the whole margin.
        late = record.injected_ns is not None and record.injected_ns > record.planned_end_ns
        expected_ns = int(EXPIRY_MARGIN_S * 1e9)
        assert margin_ns == expected_ns or (late and margin_ns > expected_ns)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_hits_the_same_members(name: str) -> None:
    def hit(seed: int) -> tuple[str, list[str]]:
        cluster: FakeCluster = small_cluster()
        with fault(name).inject(context(cluster, rng=random.Random(seed))) as injection:
            links = sorted(f"{probe._link}" for probe in cluster.probes)
            return injection.description, links

    assert [hit(seed) for seed in range(5)] == [hit(seed) for seed in range(5)]


@pytest.mark.parametrize("name", EVERY)
def test_it_says_what_it_does_and_how_it_is_undone(name: str) -> None:
    made: Fault = fault(name)

    assert "undo" in made.describe().lower()
    assert made.kind in {"network", "process", "resource", "disk", "none"}
    assert made.available(small_cluster().stage) is None


@pytest.mark.parametrize("name", [name for name in EVERY if name != "noop"])
def test_where_it_cannot_work_it_says_why(name: str) -> None:
    cluster, events = small_cluster(nodes=0, routers=0, controllers=0), RecordedEvents()

    record = carry_out(cluster, name, events=events)

    assert record.error is not None
    assert "backend 'fake'" in record.error
    assert events.kinds() == ["fault.planned", "fault.failed"]


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("noop", "rolling-restart")])
def test_a_target_that_matches_nothing_fails_loudly_and_the_schedule_goes_on(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    both = timeline(cluster, name, events=events, settings={"target": "node:n9"})

    (record,) = both.run(threading.Event())

    assert record.error is not None
    assert "n9" in record.error
    assert "n1, n2" in record.error
    assert record.proven is False
    assert cluster.world.calls == []


@pytest.mark.parametrize("name", ["kill", "partition", "pause", "latency"])
def test_a_target_that_is_down_already_fails(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    cluster.world.states["n2"] = MemberState.EXITED

    record = carry_out(cluster, name, events=events, target="n2")

    assert record.error is not None
    assert "n2 is exited before the fault" in record.error


class UndoingOnceProven(RecordedEvents):
    """Whoever hears that a fault is proven takes its effect away at once."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__()
        self._world = cluster.world

    def __call__(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        super().__call__(kind, source=source, t_ns=t_ns, **fields)
        if kind != "fault.proven":
            return
        for effect in (self._world.blocked, self._world.helpers, self._world.disks, self._world.broken_disks):
            effect.clear()
        for name in self._world.states:
            self._world.states[name] = MemberState.RUNNING


def _wait_for(events: RecordedEvents, kind: str, thread: threading.Thread) -> None:
    until_s = time.monotonic() + 10
    while kind not in events.kinds():
        assert thread.is_alive(), f"ended without {kind}"
        assert time.monotonic() < until_s, f"no {kind}"
        time.sleep(0.005)


@pytest.mark.parametrize("name", EVERY)
def test_no_setting_has_the_name_of_a_key_of_every_window(name: str) -> None:
    """Such a setting could not be given: `every_s` of a window repeats the whole window, and of a saved run too."""
    taken = set(FaultPlan.model_fields) | set(RandomFault.model_fields)

    assert not taken & set(registered()[name].settings.model_fields)
