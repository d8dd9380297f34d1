"""The timeline with windows that overlap: each is carried out, proven and healed as if it were alone."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from aftershock.harness.errors import HealError
from aftershock.harness.interfaces import Flow, MemberState
from aftershock.harness.schedule import Schedule, Window
from aftershock.harness.timeline import Timeline

from tests.fakes import FakeCluster, FakeJournal, RecordedEvents, small_cluster
from tests.unit.faults.support import registry


def windows(*planned: tuple[str, float, float, dict[str, Any]]) -> tuple[Window, ...]:
    """(fault, start, end, settings), named f1, f2, … in this order."""
    return tuple(
        Window(
            id=f"f{number}",
            name=name,
            start_s=start_s,
            end_s=end_s,
            expect="recovers",
            rto_s=4.0,
            settings=settings,
            rng_seed=number,
        )
        for number, (name, start_s, end_s, settings) in enumerate(planned, start=1)
    )


def timeline(cluster: FakeCluster, events: RecordedEvents, *planned: Any) -> Timeline:
    schedule = Schedule(scenario="t", seed=1, rate_per_s=300, load_s=60, settle_s=20, windows=windows(*planned))
    return Timeline(
        schedule=schedule,
        cluster=cluster,
        registry=registry(),
        events=events,
        journal=FakeJournal(),
        origin_ns=time.monotonic_ns(),
        hot_key="h-1",
    )


def carried_out(cluster: FakeCluster, *planned: Any) -> tuple[RecordedEvents, Timeline]:
    events = RecordedEvents()
    ran = timeline(cluster, events, *planned)
    ran.run(threading.Event())
    return events, ran


def of(events: RecordedEvents, fault: str) -> list[str]:
    return [event["kind"] for event in events.all if event.get("fault") == fault][1:]


WHOLE = ["fault.injected", "fault.proven", "fault.healing", "fault.healed"]
FIRST = ("partition", 0.0, 0.5, {"shape": "isolate-alone", "target": "n1"})


def test_two_partitions_that_share_flows_are_both_proven_and_healed() -> None:
    cluster = small_cluster()

    events, ran = carried_out(cluster, FIRST, ("partition", 0.1, 0.9, {"shape": "isolate-alone", "target": "n2"}))

    assert (of(events, "f1"), of(events, "f2")) == (WHOLE, WHOLE)
    assert [(r.proven, r.heal_verified) for r in ran.records] == [(True, True)] * 2
    kinds = [(event["kind"], event["fault"]) for event in events.all if "fault" in event]
    assert kinds.index(("fault.injected", "f2")) < kinds.index(("fault.healing", "f1")), "they were on together"
    assert kinds.index(("fault.healed", "f1")) < kinds.index(("fault.healing", "f2"))
    assert cluster.world.changed_anything() == []


def test_the_first_to_heal_leaves_the_flows_of_the_second_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both cut n1 <-> n2."""
    cluster, seen = small_cluster(), []
    events = RecordedEvents()
    ran = timeline(cluster, events, FIRST, ("partition", 0.1, 0.9, {"shape": "isolate-alone", "target": "n2"}))
    say = ran._events

    def look(kind: str, /, **fields: Any) -> None:
        if kind == "fault.healed" and fields["fault"] == "f1":
            seen.append({Flow("n1", "n2"), Flow("n2", "n1")} <= cluster.world.held)
            seen.append(Flow("n1", "n3") in cluster.world.held)
        say(kind, **fields)

    monkeypatch.setattr(ran, "_events", look)
    ran.run(threading.Event())

    assert seen == [True, False]


def test_what_two_windows_cut_off_together_is_told_while_they_are_on() -> None:
    cluster = small_cluster()
    events, _ = carried_out(cluster, FIRST, ("kill", 0.1, 0.9, {"target": "n2"}))

    (told,) = events.of("fault.together")
    assert told["faults"] == ["f1", "f2"]
    assert told["newest"] == "f2"
    assert told["cut_off"] == {"clients-r1": [0, 4], "clients-r2": [0, 4]}
    # Shards 1 and 4 are led by n2 and n5; with n1 cut off as well nobody can take over the second of them.
    assert events.of("fault.injected")[1]["reaction"] == {"kind": "new-epoch", "shards": [1]}


def test_windows_that_cut_off_nobody_together_say_nothing() -> None:
    events, _ = carried_out(small_cluster(), FIRST, ("latency", 0.1, 0.6, {"target": "n3", "latency_ms": 400}))

    assert events.of("fault.together") == []
    assert of(events, "f2") == WHOLE


def test_what_remains_of_three_is_told_when_one_ends() -> None:
    cluster = small_cluster()
    events, _ = carried_out(
        cluster,
        ("kill", 0.0, 0.3, {"target": "n4"}),
        ("kill", 0.05, 0.9, {"target": "n1"}),
        ("kill", 0.1, 1.0, {"target": "n2"}),
    )

    told = [(e["faults"], e["newest"], sorted(e["cut_off"]["clients-r1"])) for e in events.of("fault.together")]
    assert (["f1", "f2", "f3"], "f3", [0, 1, 3, 4]) in told
    assert (["f2", "f3"], None, [0, 4]) in told


@pytest.mark.parametrize("second", ["kill", "pause"])
@pytest.mark.parametrize("first", ["kill", "pause"])
def test_a_member_that_is_broken_already_makes_the_second_failed_and_is_left_to_the_first(
    first: str, second: str
) -> None:
    cluster = small_cluster()

    events, ran = carried_out(cluster, (first, 0.0, 0.5, {"target": "n2"}), (second, 0.1, 0.3, {"target": "n2"}))

    assert of(events, "f1") == WHOLE
    assert of(events, "f2") == ["fault.failed"]
    assert "before the fault was injected" in events.of("fault.failed")[0]["error"]
    assert cluster.world.changed_anything() == []
    assert ran.records[1].error is not None
    undo = {"kill": "start n2", "pause": "resume n2"}[first]
    assert cluster.world.calls.count(undo) == 1


def test_the_seed_chooses_among_members_that_run() -> None:
    planned = [("pause", 0.0, 0.8, {"target": "random-node"}), ("pause", 0.1, 0.8, {"target": "random-node"})]
    hit = set()
    for number in range(4):
        cluster = small_cluster(nodes=3)
        events, ran = carried_out(cluster, *planned)
        assert events.of("fault.failed") == [], number
        hit.add(ran.records[0].targets != ran.records[1].targets)
    assert hit == {True}


def test_a_window_that_fails_does_not_stop_the_others() -> None:
    events, _ = carried_out(small_cluster(), FIRST, ("kill", 0.1, 0.3, {"target": "n9"}))

    assert of(events, "f2") == ["fault.failed"]
    assert of(events, "f1") == WHOLE


def test_a_failed_heal_heals_all_others_at_once_and_ends_the_run() -> None:
    cluster, events = small_cluster(lies=["start-ignored"]), RecordedEvents()
    ran = timeline(
        cluster,
        events,
        ("partition", 0.0, 60.0, {"shape": "isolate-alone", "target": "n1"}),
        ("kill", 0.1, 0.2, {"target": "n3"}),
        ("noop", 61.0, 62.0, {}),
    )
    begun_s = time.monotonic()

    with pytest.raises(HealError, match=r"f2 \(kill\) could not be undone"):
        ran.run(threading.Event())

    assert time.monotonic() - begun_s < 30, "it does not wait for the end of the other window"
    assert [(r.fault, r.heal_verified) for r in ran.records] == [("f1", True), ("f2", False)]
    assert cluster.world.held == set()


def test_several_failed_heals_are_all_told() -> None:
    cluster, events = small_cluster(lies=["start-ignored"]), RecordedEvents()
    ran = timeline(cluster, events, ("kill", 0.0, 0.3, {"target": "n1"}), ("kill", 0.05, 60.0, {"target": "n3"}))

    with pytest.raises(HealError) as caught:
        ran.run(threading.Event())

    assert "f1 (kill)" in str(caught.value)
    assert "f2 (kill)" in str(caught.value)


def test_stop_heals_every_window() -> None:
    cluster, events, stop = small_cluster(), RecordedEvents(), threading.Event()
    ran = timeline(
        cluster,
        events,
        ("partition", 0.0, 60.0, {"shape": "isolate-alone", "target": "n1"}),
        ("pause", 0.05, 60.0, {"target": "n3"}),
    )
    thread = threading.Thread(target=ran.run, args=(stop,))
    thread.start()
    deadline_s = time.monotonic() + 10
    while len(events.of("fault.proven")) < 2 and time.monotonic() < deadline_s:
        thread.join(timeout=0.005)

    stop.set()
    thread.join(timeout=10)

    assert not thread.is_alive()
    assert [r.heal_verified for r in ran.records] == [True, True]
    assert cluster.world.changed_anything() == []


def test_something_that_is_left_at_the_very_end_is_told_by_the_last_window() -> None:
    """A heal that did not take on flows which both had cut shows when no window explains them any more."""
    cluster, events = small_cluster(), RecordedEvents()
    ran = timeline(cluster, events, FIRST, ("partition", 0.1, 0.9, {"shape": "isolate-alone", "target": "n2"}))
    network, mended = cluster.stage.network, []

    def forgetful(flows: Any, kind: Any) -> None:
        kept = [flow for flow in flows if flow != Flow("n1", "n2")]
        mended.append(kept)
        real(kept, kind)

    real, network.mend = network.mend, forgetful  # type: ignore[method-assign]

    with pytest.raises(HealError, match="n1 -> n2 is still impaired"):
        ran.run(threading.Event())

    assert [r.heal_verified for r in ran.records] == [True, False]


def test_windows_that_were_not_planned_to_overlap_wait_for_each_other() -> None:
    """A pause whose proof takes longer than its window; the next may not begin before it is healed."""
    cluster = small_cluster()
    healed = threading.Event()
    events = RecordedEvents()
    ran = timeline(cluster, events, ("pause", 0.0, 0.01, {"target": "n1"}), ("pause", 0.01, 0.02, {"target": "n1"}))
    slow = cluster.wait_member

    def slowly(member: str, *, deadline_s: float) -> str | None:
        healed.wait(0.2)
        return slow(member, deadline_s=deadline_s)

    cluster.wait_member = slowly  # type: ignore[method-assign]
    ran.run(threading.Event())

    assert [event["fault"] for event in events.all if event["kind"] in WHOLE] == ["f1"] * 4 + ["f2"] * 4
    assert cluster.world.states["n1"] is MemberState.RUNNING


def test_the_seed_passes_over_members_that_another_window_has_isolated() -> None:
    """A kill of somebody who is cut off already could not be proven."""
    cluster = small_cluster(nodes=2)
    second = ("kill", 0.1, 0.3, {"target": "random-node"})

    events, ran = carried_out(cluster, FIRST, second)

    assert ran.records[1].targets == ("n2",)
    assert of(events, "f2") == WHOLE


def test_undoing_does_not_wait_for_the_proof_of_another_window() -> None:
    cluster, events = small_cluster(), RecordedEvents()
    ran = timeline(cluster, events, FIRST, ("pause", 0.1, 1.5, {"target": "n3"}))
    healing = threading.Event()
    open_probe = cluster.open_probe

    def slowly(link: Any) -> Any:
        # The proof of the pause lasts until the partition has been undone, or the test fails.
        if cluster.world.states["n3"] is MemberState.PAUSED:
            deadline_s = time.monotonic() + 20
            while Flow("n1", "n2") in cluster.world.held and time.monotonic() < deadline_s:
                healing.wait(0.01)
        return open_probe(link)

    cluster.open_probe = slowly  # type: ignore[method-assign]
    ran.run(threading.Event())

    order = [(event["kind"], event.get("fault")) for event in events.all]
    assert order.index(("fault.healing", "f1")) < order.index(("fault.proven", "f2"))
    assert order.index(("fault.proven", "f2")) < order.index(("fault.healed", "f1")), "verified in turn"
