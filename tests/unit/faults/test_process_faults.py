"""kill and pause: the process testifies, and the probes; whom they excuse, and what they expect of the system."""

from __future__ import annotations

import threading
import time

import pytest
from aftershock.harness.errors import SetupError, UsageError
from aftershock.harness.interfaces import MemberState

from tests.fakes import FakeCluster, RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out, context, fault

BOTH = ["kill", "pause"]


@pytest.mark.parametrize("name", BOTH)
def test_the_facts_name_the_process_and_the_probes(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()

    carry_out(cluster, name, events=events, target="n2")

    how, silent, whole = events.of("fault.proven")[0]["facts"]
    assert {"kill": "n2 (pid 1002) ended with status -9", "pause": "that n2 (pid 1002) is paused"}[name] in how
    assert silent == "12 of 12 probes on 6 links (6 old connections, 6 new): request not delivered, as it must be"
    assert "16 of 16" in whole


@pytest.mark.parametrize("name", BOTH)
def test_only_links_to_the_target_are_expected_to_be_silent(name: str) -> None:
    """The harness stands in for the source of a probe, so a link that the dead opened would answer."""
    cluster = small_cluster()
    with fault(name, target="n2").inject(context(cluster)):
        assert not any(probe._link.source == "n2" for probe in cluster.probes)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(("target", "excused"), [("n1", {}), ("r1", {"clients-r1": None}), ("c1", {})])
def test_only_clients_of_a_router_that_is_away_are_excused(name: str, target: str, excused: dict[str, None]) -> None:
    with fault(name, target=target).inject(context(small_cluster())) as injection:
        assert injection.cut_off == excused


@pytest.mark.parametrize("name", BOTH)
def test_a_process_that_runs_but_does_not_serve_is_told_and_is_no_failed_heal(name: str) -> None:
    """Serving again is the system's achievement, and is judged; ours was to give it its process back."""
    cluster, events = small_cluster(lies=["never-serves"]), RecordedEvents()

    record = carry_out(cluster, name, events=events, target="n2")

    assert record.heal_verified is True
    assert "n2 runs but did not serve within" in events.of("warning")[0]["text"]
    assert "did not serve within" in events.of("fault.healed")[0]["facts"][0]


@pytest.mark.parametrize(
    ("name", "settings", "duration_s", "expected"),
    [
        ("kill", {}, 0.5, True),  # it asks for a new term however short it was away (replication.md, X4)
        ("pause", {}, 2.0, False),
        ("pause", {}, 2.1, True),
        ("pause", {"reaction_after_s": 1.0}, 2.0, True),
    ],
)
def test_a_new_epoch_is_expected_of_the_shards_it_led(
    name: str, settings: dict[str, float], duration_s: float, expected: bool
) -> None:
    cluster = small_cluster()
    with fault(name, target="n3", **settings).inject(context(cluster, duration_s=duration_s)) as injection:
        assert injection.reaction == ({"kind": "new-epoch", "shards": [2]} if expected else None)


@pytest.mark.parametrize("name", BOTH)
def test_nothing_is_expected_when_it_led_nothing(name: str) -> None:
    with fault(name, target="r1").inject(context(small_cluster())) as injection:
        assert injection.reaction is None


def test_kill_without_restart_leaves_it_down() -> None:
    cluster, events = small_cluster(), RecordedEvents()

    record = carry_out(cluster, "kill", events=events, target="n2", restart=False)

    assert (record.proven, record.heal_verified) == (True, True)
    assert cluster.world.states["n2"] is MemberState.EXITED
    assert "stays down, as asked" in events.of("fault.healed")[0]["facts"][0]


def test_kill_restarts_after_down_s_and_only_once() -> None:
    cluster = small_cluster()
    with fault("kill", target="n2", down_s=0.05).inject(context(cluster)) as injection:
        _wait_until_running(cluster, "n2")
    assert cluster.world.calls == ["kill n2", "start n2"]
    assert injection.verify_healed().proven


def test_leaving_before_down_s_is_over_restarts_at_once() -> None:
    cluster = small_cluster()
    begun_s = time.monotonic()
    with fault("kill", target="n2", down_s=4.0).inject(context(cluster)):
        assert cluster.world.states["n2"] is MemberState.EXITED

    assert time.monotonic() - begun_s < 3
    assert cluster.world.calls == ["kill n2", "start n2"]


def test_a_restart_that_fails_in_the_window_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, events, tried = small_cluster(), RecordedEvents(), threading.Event()
    start = cluster.stage.processes.start

    def broken_once(member: str) -> None:
        if not tried.is_set():
            tried.set()
            raise OSError("cannot fork")
        start(member)

    monkeypatch.setattr(cluster.stage.processes, "start", broken_once)
    with fault("kill", target="n2", down_s=0.01).inject(context(cluster, events=events)) as injection:
        assert tried.wait(5)

    assert injection.verify_healed().proven
    assert "n2 could not be started after down_s: cannot fork" in events.of("warning")[0]["text"]


def test_down_s_longer_than_the_window_is_a_mistake() -> None:
    with (
        pytest.raises(UsageError, match=r"down_s = 6 is longer than the window \(5 s\)"),
        fault("kill", down_s=6).inject(context(small_cluster())),
    ):
        pass


def test_a_stop_that_had_not_taken_yet_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = small_cluster()

    def pause(member: str, *, expires_ns: int) -> None:
        raise SetupError(f"{member} did not stop on SIGSTOP")

    monkeypatch.setattr(cluster.stage.processes, "pause", pause)
    with pytest.raises(SetupError, match="did not stop"), fault("pause", target="n2").inject(context(cluster)):
        pass
    assert "resume n2" in cluster.world.calls


def test_a_paused_process_that_died_meanwhile_is_not_continued() -> None:
    cluster = small_cluster()
    with fault("pause", target="n2").inject(context(cluster)) as injection:
        cluster.world.states["n2"] = MemberState.EXITED

    assert "resume n2" not in cluster.world.calls
    healed = injection.verify_healed()
    assert not healed.proven
    assert "n2 is exited, expected running" in healed.facts[0]


def test_a_pause_that_ends_during_the_proof_is_not_proven() -> None:
    """The watchdog, or anybody, may continue it: the state is read before and after the probes."""
    cluster = small_cluster()
    with fault("pause", target="n2").inject(context(cluster)) as injection:
        states = iter([MemberState.PAUSED, MemberState.RUNNING])
        cluster.stage.processes.state = lambda member: next(states, MemberState.PAUSED)  # type: ignore[method-assign]
        assert not injection.prove().proven


# ------------------------------------------------------------------------------------------------ several targets


@pytest.mark.parametrize("name", BOTH)
def test_several_members_at_once_are_proven_each_and_all_come_back(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()

    record = carry_out(cluster, name, events=events, target=["n2", "n4"])

    assert (record.targets, record.proven, record.heal_verified) == (("n2", "n4"), True, True)
    facts = events.of("fault.proven")[0]["facts"]
    assert [next(n for n in ("n2", "n4") if n in fact) for fact in facts[:2]] == ["n2", "n4"]
    assert cluster.world.changed_anything() == []
    assert events.of("fault.injected")[0]["description"].startswith("n2, n4 were ")


@pytest.mark.parametrize("name", BOTH)
def test_one_of_several_that_escapes_makes_it_unproven(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    processes = cluster.stage.processes
    real = getattr(processes, name)

    def spares_n4(member: str, **options: int) -> object:
        return -9 if member == "n4" else real(member, **options)

    monkeypatch.setattr(processes, name, spares_n4)

    assert not carry_out(cluster, name, events=events, target=["n2", "n4"]).proven
    assert cluster.world.changed_anything() == []


@pytest.mark.parametrize("name", BOTH)
def test_nothing_is_done_to_any_when_one_is_down_already(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    cluster.world.states["n4"] = MemberState.EXITED

    record = carry_out(cluster, name, events=events, target=["n2", "n4"])

    assert record.error is not None
    assert "n4 is exited" in record.error
    assert cluster.world.calls == []


@pytest.mark.parametrize("name", BOTH)
def test_several_excuse_who_is_left_without_a_majority_and_expect_only_what_can_be(name: str) -> None:
    """n1 and n2 hold two of three replicas of the shards 0 and 4; shard 1 (n2 n3 n4) can elect another primary."""
    with fault(name, target=["n1", "n2"]).inject(context(small_cluster())) as injection:
        assert injection.cut_off == {"clients-r1": (0, 4), "clients-r2": (0, 4)}
        assert injection.reaction == {"kind": "new-epoch", "shards": [1]}


def test_power_loss_of_all_nodes_at_once() -> None:
    cluster, events = small_cluster(), RecordedEvents()

    record = carry_out(cluster, "kill", events=events, target="every:node")

    assert (len(record.targets), record.proven, record.heal_verified) == (5, True, True)
    assert events.of("fault.injected")[0]["cut_off"] == {"clients-r1": None, "clients-r2": None}
    assert cluster.world.changed_anything() == []


def test_one_that_cannot_be_continued_does_not_keep_the_others_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = small_cluster()
    resume = cluster.stage.processes.resume

    def broken_for_n4(member: str) -> None:
        if member == "n4":
            raise OSError("no such process")
        resume(member)

    monkeypatch.setattr(cluster.stage.processes, "resume", broken_for_n4)
    with (
        pytest.raises(OSError, match="no such process"),
        fault("pause", target=["n2", "n4", "n5"]).inject(context(cluster)),
    ):
        pass

    assert [n for n, state in cluster.world.states.items() if state is MemberState.PAUSED] == ["n4"]


def _wait_until_running(cluster: FakeCluster, member: str) -> None:
    deadline_s = time.monotonic() + 5
    while cluster.world.states[member] is not MemberState.RUNNING:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
