"""The process backend on real processes: members, their exits, and what reaches whom over faulted links."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.backends.proxied_network import ProxiedNetwork
from aftershock.harness.errors import AftershockError, SetupError
from aftershock.harness.impairment import Block, Delay
from aftershock.harness.interfaces import Backend, Flow, Link, Member, MemberState, ProcessSpec, Role, Stage

from tests.processes.stages import Connection, Events, answers, open_stage, received, run_echo, wait_until

pytestmark = pytest.mark.processes

LONG_NS = 600 * 10**9
# Long enough for bytes to pass two local sockets on a busy machine; it is only waited for where nothing may come.
SILENCE_S = 0.3


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def stage(tmp_path: Path, events: Events) -> Iterator[Stage]:
    with open_stage(tmp_path, events) as stage:
        yield stage


def later_ns() -> int:
    return time.monotonic_ns() + LONG_NS


def test_backend_keeps_its_protocol() -> None:
    backend = ProcessBackend(ProcessBackendSettings())
    assert isinstance(backend, Backend)
    assert backend.available() is None


def test_backend_without_its_server_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise SetupError("toxiproxy-server is missing: install Aftershock again")

    monkeypatch.setattr("aftershock.harness.backends.process.toxiproxy_path", missing)
    assert (
        ProcessBackend(ProcessBackendSettings()).available() == "toxiproxy-server is missing: install Aftershock again"
    )


def test_a_server_that_ends_at_once_is_a_setup_error_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho it hurts; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("aftershock.harness.backends.process.toxiproxy_path", lambda: broken)
    with pytest.raises(SetupError, match=r"(?s)ended at once; its log is .*it hurts"), open_stage(tmp_path, Events()):
        pass


def test_bytes_pass_a_link_and_its_pair_is_its_own(stage: Stage) -> None:
    run_echo(stage, "a")
    run_echo(stage, "b")
    there, back = stage.link("a", "b", "data"), stage.link("b", "a", "data")
    assert len({there, back, stage.listen("a", "data"), stage.listen("b", "data")}) == 4
    assert stage.link("a", "b", "data") == there
    assert answers(there)
    assert answers(back)
    assert set(stage.network.links) == {Link("a", "b"), Link("b", "a")}


def test_a_cut_request_flow_stops_requests_on_an_old_and_a_new_connection(stage: Stage) -> None:
    run_echo(stage, "a")
    run_echo(stage, "b")
    there, back = stage.link("a", "b", "data"), stage.link("b", "a", "data")
    flows = [Flow("a", "b")]
    with Connection(there) as old, Connection(back) as old_back:
        assert old.exchange("before", timeout_s=2)
        assert old_back.exchange("before-back", timeout_s=2)
        stage.network.impair(flows, Block(), expires_ns=later_ns())
        assert stage.network.impaired() == {Flow("a", "b"): "blocked"}
        assert not old.exchange("old", timeout_s=SILENCE_S)
        with Connection(there) as new:
            assert not new.exchange("new", timeout_s=SILENCE_S)
        # Not one byte of theirs reached b.
        assert not {"old", "new"} & set(received(stage, "b"))
        # On the other link b's requests still reach a; its answers flow a -> b and must not.
        assert not old_back.exchange("old-back", timeout_s=SILENCE_S)
        with Connection(back) as new_back:
            assert not new_back.exchange("new-back", timeout_s=SILENCE_S)
        assert {"old-back", "new-back"} <= set(received(stage, "a"))
    stage.network.mend(flows, Block)
    assert stage.network.impaired() == {}
    assert answers(there)
    assert answers(back)
    assert not {"old", "new"} & set(received(stage, "b"))


def test_a_cut_answer_flow_lets_requests_through(stage: Stage) -> None:
    run_echo(stage, "b")
    stage.add(Member(name="clients-b", role=Role.CLIENT))
    there = stage.link("clients-b", "b", "data")
    stage.network.impair([Flow("b", "clients-b")], Block(), expires_ns=later_ns())
    with Connection(there) as connection:
        assert not connection.exchange("asked", timeout_s=SILENCE_S)
    assert "asked" in received(stage, "b")


def test_healing_closes_the_connections_that_were_cut_and_no_others(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        run_echo(stage, name)
    cut, whole = stage.link("a", "b", "data"), stage.link("a", "c", "data")
    flows = [Flow("a", "b"), Flow("b", "a")]
    with Connection(cut) as on_cut, Connection(whole) as on_whole:
        assert on_cut.exchange("1", timeout_s=2)
        assert on_whole.exchange("1", timeout_s=2)
        stage.network.impair(flows, Block(), expires_ns=later_ns())
        assert on_whole.exchange("2", timeout_s=2)
        stage.network.mend(flows, Block)
        assert on_whole.exchange("3", timeout_s=2)
        with pytest.raises(ConnectionError):
            on_cut.exchange("2", timeout_s=2)


def test_blocking_twice_is_blocking_once(stage: Stage, events: Events) -> None:
    run_echo(stage, "a")
    run_echo(stage, "b")
    there = stage.link("a", "b", "data")
    for _ in range(2):
        stage.network.impair([Flow("a", "b")], Block(), expires_ns=later_ns())
    stage.network.impair([Flow("a", "b"), Flow("b", "a")], Block(), expires_ns=later_ns())
    stage.network.mend([Flow("a", "b")], Block)
    assert stage.network.impaired() == {Flow("b", "a"): "blocked"}
    stage.network.mend([Flow("b", "a")], Block)
    stage.network.mend([Flow("b", "a")], Block)
    assert stage.network.impaired() == {}
    assert answers(there)
    assert events.of("warning") == []


def test_delay_holds_bytes_for_at_least_its_latency_and_can_be_changed(stage: Stage) -> None:
    run_echo(stage, "a")
    run_echo(stage, "b")
    there = stage.link("a", "b", "data")
    with Connection(there) as connection:
        flows = [Flow("a", "b"), Flow("b", "a")]
        stage.network.impair(flows, Delay(latency_ms=50, jitter_ms=0), expires_ns=later_ns())
        stage.network.impair(flows, Delay(latency_ms=150, jitter_ms=10), expires_ns=later_ns())
        assert stage.network.impaired() == dict.fromkeys(flows, "delayed by 150 ± 10 ms")
        started = time.monotonic()
        assert connection.exchange("slow", timeout_s=5)
        assert time.monotonic() - started >= 0.28
        stage.network.mend(flows, Delay)
        assert stage.network.impaired() == {}
        assert connection.exchange("same connection", timeout_s=2)


def test_a_flow_without_a_link_cannot_be_cut(stage: Stage) -> None:
    run_echo(stage, "a")
    stage.add(Member(name="clients-x", role=Role.CLIENT))
    with pytest.raises(AftershockError, match="clients-x -> a: no link"):
        stage.network.impair([Flow("clients-x", "a")], Block(), expires_ns=later_ns())


def test_toxics_that_vanished_are_reported_when_healing(stage: Stage, events: Events) -> None:
    run_echo(stage, "a")
    run_echo(stage, "b")
    stage.link("a", "b", "data")
    stage.network.impair([Flow("a", "b")], Block(), expires_ns=later_ns())
    assert isinstance(stage.network, ProxiedNetwork)
    api = stage.network._api
    api.remove([(proxy.name, toxic.name) for proxy in api.proxies().values() for toxic in proxy.toxics])
    stage.network.mend([Flow("a", "b")], Block)
    assert "had been undone before" in events.of("warning")[0]["text"]


def test_kill_start_and_stop(stage: Stage, events: Events) -> None:
    run_echo(stage, "a")
    pid = stage.processes.pid("a")
    assert stage.processes.state("a") is MemberState.RUNNING
    assert stage.processes.kill("a") == -signal.SIGKILL
    assert stage.processes.state("a") is MemberState.EXITED
    assert stage.processes.pid("a") is None
    with pytest.raises(SetupError, match="cannot be paused"):
        stage.processes.pause("a", expires_ns=later_ns())
    stage.processes.start("a")
    assert stage.processes.pid("a") not in (None, pid)
    wait_until(lambda: answers(stage.listen("a", "data")), "a answers again, on the same port")
    with pytest.raises(SetupError, match="already running"):
        stage.processes.start("a")
    assert stage.processes.stop("a", deadline_s=5) == -signal.SIGTERM
    wait_until(lambda: len(events.of("member.exited")) == 2, "both exits are in the event log")
    assert [(e["status"], e["expected"]) for e in events.of("member.exited")] == [(-9, True), (-15, True)]


def test_a_member_that_dies_by_itself_is_noticed(stage: Stage, events: Events) -> None:
    run_echo(stage, "a")
    pid = stage.processes.pid("a")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: events.of("member.exited"), "the exit is in the event log")
    exited = events.of("member.exited")[0]
    assert (exited["member"], exited["status"], exited["expected"]) == ("a", -9, False)
    assert stage.processes.state("a") is MemberState.EXITED


def test_a_member_that_ignores_sigterm_is_killed_and_it_is_said(stage: Stage, events: Events) -> None:
    member = Member(name="a", role=Role.NODE)
    stage.add(member)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
    stage.run(ProcessSpec(member=member, argv=(sys.executable, "-c", code)))
    wait_until(lambda: "deaf" in stage.log("a").read_text(), "it ignores SIGTERM")
    assert stage.processes.stop("a", deadline_s=0.2) == -signal.SIGKILL
    assert "a did not end within 0.2 s of SIGTERM" in events.of("warning")[0]["text"]


def test_pause_and_resume(stage: Stage, events: Events) -> None:
    run_echo(stage, "a")
    with Connection(stage.listen("a", "data")) as connection:
        stage.processes.pause("a", expires_ns=later_ns())
        assert stage.processes.state("a") is MemberState.PAUSED
        assert not connection.exchange("asleep", timeout_s=SILENCE_S)
        assert "asleep" not in received(stage, "a")
        stage.processes.resume("a")
        assert stage.processes.state("a") is MemberState.RUNNING
        assert connection.receive("asleep", timeout_s=2)
    stage.processes.pause("a", expires_ns=later_ns())
    assert stage.processes.stop("a", deadline_s=5) == -signal.SIGTERM


def test_a_program_that_does_not_exist_is_a_setup_error(stage: Stage) -> None:
    member = Member(name="a", role=Role.NODE)
    stage.add(member)
    with pytest.raises(SetupError, match="a: cannot run /no/such/program: No such file"):
        stage.run(ProcessSpec(member=member, argv=("/no/such/program",)))


def test_a_member_gets_no_secrets_no_descriptors_and_a_session_of_its_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "hush")
    member = Member(name="a", role=Role.NODE)
    stage.add(member)
    leaky = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    code = (
        "import os; print('fds', sorted(os.listdir('/proc/self/fd')), sorted(os.environ),"
        "os.getsid(0) == os.getpid(), os.readlink('/proc/self/fd/0'), flush=True)"
    )
    try:
        stage.run(ProcessSpec(member=member, argv=(sys.executable, "-c", code), environment={"MORE": "1"}))
    finally:
        os.close(leaky)
    wait_until(lambda: stage.processes.state("a") is MemberState.EXITED, "it ended")
    text = stage.log("a").read_text()
    assert "SOME_SECRET" not in text
    assert "'MORE'" in text
    assert "fds ['0', '1', '2', '3']" in text  # 3 is listdir's own
    assert text.rstrip().endswith("True /dev/null")


def test_two_stages_at_once_do_not_meet(tmp_path: Path) -> None:
    with open_stage(tmp_path / "1", Events()) as one, open_stage(tmp_path / "2", Events()) as two:
        for stage in (one, two):
            run_echo(stage, "a")
            run_echo(stage, "b")
        links = [stage.link("a", "b", "data") for stage in (one, two)]
        one.network.impair([Flow("a", "b")], Block(), expires_ns=later_ns())
        two.network.impair([Flow("a", "b")], Delay(latency_ms=1, jitter_ms=0), expires_ns=later_ns())
        two.network.mend([Flow("a", "b")], Delay)
        assert answers(links[1])
        assert one.network.impaired() == {Flow("a", "b"): "blocked"}
        assert two.network.impaired() == {}


def test_a_grandchild_is_ended_with_its_run(tmp_path: Path) -> None:
    events = Events()
    with open_stage(tmp_path, events) as stage:
        member = Member(name="a", role=Role.NODE)
        stage.add(member)
        code = (
            "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'],"
            "start_new_session=True).pid, flush=True)"
        )
        stage.run(ProcessSpec(member=member, argv=(sys.executable, "-c", code)))
        wait_until(lambda: stage.processes.state("a") is MemberState.EXITED, "the parent ended")
    assert "left processes of their own behind" in events.of("warning")[0]["text"]


def test_isolating_three_of_eight(stage: Stage) -> None:
    """Prints how long it takes; see the report of a run with -s. Its speed is not asserted."""
    names = [f"n{i}" for i in range(1, 9)]
    for name in names:
        stage.add(Member(name=name, role=Role.NODE))
    for a in names:
        for b in names:
            if a != b:
                stage.link(a, b, "data")
    inside, outside = names[:3], names[3:]
    flows = [Flow(*pair) for a in inside for b in outside for pair in ((a, b), (b, a))]
    stage.network.impair([Flow("n1", "n2")], Delay(latency_ms=1, jitter_ms=0), expires_ns=later_ns())  # populates
    started = time.monotonic()
    stage.network.impair(flows, Block(), expires_ns=later_ns())
    blocked = time.monotonic()
    assert {flow for flow, what in stage.network.impaired().items() if what == "blocked"} == set(flows)
    unblocking = time.monotonic()
    stage.network.mend(flows, Block)
    print(f"block {blocked - started:.3f} s, unblock {time.monotonic() - unblocking:.3f} s, {len(flows)} flows")
    assert stage.network.impaired() == {Flow("n1", "n2"): "delayed by 1 ± 0 ms"}
