"""stop, restart, crash-loop and rolling-restart: in which order, what is expected of the system, who is excused."""

from __future__ import annotations

import time

import pytest
from aftershock.harness.errors import UsageError
from aftershock.harness.interfaces import Evidence, Injection, MemberState
from pydantic import ValidationError

from tests.fakes import FakeCluster, RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out, context, fault


def wait_for_calls(cluster: FakeCluster, count: int) -> list[str]:
    deadline_s = time.monotonic() + 5
    while len(cluster.world.calls) < count:
        assert time.monotonic() < deadline_s, cluster.world.calls
        time.sleep(0.002)
    return cluster.world.calls


@pytest.mark.parametrize(
    ("name", "settings", "calls"),
    [
        ("stop", {}, ["stop n2", "start n2"]),
        ("restart", {}, ["stop n2", "start n2"]),
        ("restart", {"by": "kill"}, ["kill n2", "start n2"]),
    ],
)
def test_what_is_done_and_in_which_order(name: str, settings: dict[str, str], calls: list[str]) -> None:
    cluster = small_cluster()
    carry_out(cluster, name, events=RecordedEvents(), target="n2", **settings)
    assert cluster.world.calls == calls


def test_the_facts_of_a_stop_say_how_it_ended_and_how_long_it_took() -> None:
    events = RecordedEvents()
    carry_out(small_cluster(), "stop", events=events, target="n2")
    how = events.of("fault.proven")[0]["facts"][0]
    assert how.startswith("n2 (pid 1002) ended with status 0, 0.0")
    assert how.endswith("after SIGTERM; it is exited")


def test_a_member_that_had_to_be_killed_is_down_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it does not end when asked is the system's doing, and must not hide what follows of it."""
    cluster = small_cluster()
    monkeypatch.setattr(
        cluster.stage.processes, "stop", lambda member, deadline_s: cluster.stage.processes.kill(member)
    )
    with fault("stop", target="n2").inject(context(cluster)) as injection:
        evidence = injection.prove()
    assert evidence.proven
    assert "ended with status -9" in evidence.facts[0]


@pytest.mark.parametrize(
    ("name", "settings", "duration_s", "expected"),
    [
        ("stop", {}, 5.0, True),
        ("stop", {}, 2.0, False),
        ("stop", {"reaction_after_s": 1.0}, 2.0, True),
        ("restart", {}, 5.0, False),
        ("crash-loop", {"kill_every_s": 2.5, "down_s": 2.1}, 5.0, True),
        ("crash-loop", {"kill_every_s": 2.5, "down_s": 1.9}, 5.0, False),
        ("rolling-restart", {"role": "node"}, 5.0, False),
    ],
)
def test_a_new_epoch_is_expected_of_who_was_away_for_long(
    name: str, settings: dict[str, float], duration_s: float, expected: bool
) -> None:
    cluster = small_cluster()
    if name != "rolling-restart":
        settings = {"target": "n3", **settings}  # type: ignore[dict-item]
    with fault(name, **settings).inject(context(cluster, duration_s=duration_s)) as injection:
        assert injection.reaction == ({"kind": "new-epoch", "shards": [2]} if expected else None)


@pytest.mark.parametrize("name", ["stop", "restart", "crash-loop"])
@pytest.mark.parametrize(("target", "excused"), [("n1", {}), ("r1", {"clients-r1": None}), ("c1", {})])
def test_only_clients_of_a_router_that_is_away_are_excused(name: str, target: str, excused: dict[str, None]) -> None:
    with fault(name, target=target).inject(context(small_cluster())) as injection:
        assert injection.cut_off == excused


@pytest.mark.parametrize("name", ["stop", "restart", "crash-loop"])
def test_a_target_that_is_down_already_fails(name: str) -> None:
    cluster = small_cluster()
    cluster.world.states["n2"] = MemberState.EXITED
    record = carry_out(cluster, name, events=RecordedEvents(), target="n2")
    assert "n2 is exited before the fault" in (record.error or "")


def test_a_stopped_member_that_came_back_takes_the_proof_back() -> None:
    cluster = small_cluster()
    with fault("stop", target="n2").inject(context(cluster)) as injection:
        assert injection.prove().proven
        cluster.world.states["n2"] = MemberState.RUNNING
        assert injection.still_on is not None
        assert not injection.still_on().proven
        assert not injection.prove().proven


# ------------------------------------------------------------------------------------------------ crash-loop


def test_a_crash_loop_kills_and_starts_in_turn_and_ends_with_a_start() -> None:
    cluster = small_cluster()
    with fault("crash-loop", target="n2").inject(context(cluster)):
        wait_for_calls(cluster, 6)
    calls = cluster.world.calls
    assert calls[:6] == ["kill n2", "start n2"] * 3
    assert calls[-1] == "start n2"
    time.sleep(0.05)
    assert cluster.world.calls == calls, "it is left alone"


def test_the_facts_of_a_crash_loop_count_processes() -> None:
    with fault("crash-loop", target="n2").inject(context(small_cluster())) as injection:
        evidence = injection.prove()
    count, first, second, *_ = evidence.facts
    assert evidence.proven
    assert "kills of" in count
    assert first == "n2 (pid 1002) ended with status -9, expected -9; it was exited then"
    assert second.startswith("n2 (pid 1102) ended with status -9")


def test_a_start_that_fails_in_the_loop_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    start, failures = cluster.stage.processes.start, [OSError("cannot fork")]

    def broken_once(member: str) -> None:
        if failures:
            raise failures.pop()
        start(member)

    monkeypatch.setattr(cluster.stage.processes, "start", broken_once)
    with fault("crash-loop", target="n2").inject(context(cluster, events=events)) as injection:
        wait_for_calls(cluster, 3)

    assert "n2 could not be started in its crash loop: cannot fork" in events.of("warning")[0]["text"]
    assert injection.verify_healed().proven


def test_a_loop_that_came_to_an_end_is_seen_at_the_end_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftershock.faults.crash_loop.LATE_S", 0.0)
    with fault("crash-loop", target="n2", kill_every_s=0.05, down_s=0.02).inject(context(small_cluster())) as injection:
        goes_on = injection.still_on
    assert goes_on is not None
    time.sleep(0.06)  # longer than kill_every_s
    assert "the last kill of n2 was" in goes_on().facts[0]


@pytest.mark.parametrize(("kill_every_s", "duration_s"), [(3.0, 5.0), (5.1, 10.0)])
def test_a_window_without_room_for_a_second_kill_is_a_mistake(kill_every_s: float, duration_s: float) -> None:
    with (
        pytest.raises(UsageError, match="too short for a second kill"),
        fault("crash-loop", target="n2", kill_every_s=kill_every_s).inject(
            context(small_cluster(), duration_s=duration_s)
        ),
    ):
        pass


def test_a_loop_that_never_lets_it_run_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match=r"down_s \(2\) must be less than kill_every_s \(2\)"):
        fault("crash-loop", kill_every_s=2, down_s=2)


# ------------------------------------------------------------------------------------------------ rolling-restart


def rolled(injection: Injection) -> Evidence:
    assert injection.still_on is not None
    deadline_s = time.monotonic() + 5
    while not (evidence := injection.still_on()).proven and time.monotonic() < deadline_s:
        time.sleep(0.002)
    return evidence


def test_every_node_has_its_turn() -> None:
    cluster = small_cluster()
    with fault("rolling-restart", role="node").inject(context(cluster)) as injection:
        assert injection.prove().proven
        assert rolled(injection).proven
    wanted = [f"{what} n{i}" for i in range(1, 6) for what in ("stop", "start")]
    assert cluster.world.calls == wanted
    assert injection.targets == ("n1", "n2", "n3", "n4", "n5")
    assert injection.cut_off == {}


def test_the_clients_of_every_router_are_excused_when_routers_roll() -> None:
    with fault("rolling-restart", role="router").inject(context(small_cluster())) as injection:
        assert injection.cut_off == {"clients-r1": None, "clients-r2": None}


def test_the_next_one_waits_until_the_one_before_serves() -> None:
    cluster, events = small_cluster(lies=["never-serves"]), RecordedEvents()
    with fault("rolling-restart", role="node", serve_deadline_s=60).inject(
        context(cluster, events=events)
    ) as injection:
        assert injection.prove().proven
        assert injection.still_on is not None
        left = injection.still_on()
    assert cluster.world.calls == ["stop n1", "start n1"]
    assert "n2, n3, n4, n5 of 5 members were not restarted yet" in left.facts[0]


def test_one_that_never_serves_holds_the_others_up_for_its_deadline_only() -> None:
    cluster, events = small_cluster(lies=["never-serves"]), RecordedEvents()
    with fault("rolling-restart", role="router", serve_deadline_s=0.01).inject(
        context(cluster, events=events)
    ) as injection:
        assert rolled(injection).proven
    assert "r1 did not serve within 0.01 s" in events.of("warning")[0]["text"]


def test_with_a_pause_nobody_waits_for_service() -> None:
    cluster = small_cluster(lies=["never-serves"])
    with fault("rolling-restart", role="router", pause_s=0).inject(context(cluster)) as injection:
        assert rolled(injection).proven


def test_a_role_that_nobody_has_is_said_before_anything_is_done() -> None:
    cluster = small_cluster(controllers=0)
    reason = fault("rolling-restart", role="controller").available(cluster.stage)
    assert "this system has no controller to restart; there are clients-r1" in (reason or "")


def test_all_must_run_before() -> None:
    cluster = small_cluster()
    cluster.world.states["n4"] = MemberState.EXITED
    record = carry_out(cluster, "rolling-restart", events=RecordedEvents(), role="node")
    assert "n4 is exited before the fault" in (record.error or "")
    assert cluster.world.calls == []
