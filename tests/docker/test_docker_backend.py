"""The docker backend on a real engine: members, their ends, their network, and that nothing of them stays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

import docker.types
import pytest
from aftershock.harness.backends.docker import DockerBackend, DockerBackendSettings, DockerStage
from aftershock.harness.backends.docker_network import RUN_LABEL
from aftershock.harness.errors import HealError, SetupError
from aftershock.harness.heal import heal
from aftershock.harness.identity import ProcessIdentity, os_state
from aftershock.harness.interfaces import Backend, Link, Member, MemberState, ProcessSpec, Role, Stage
from aftershock.harness.inverses import undo
from aftershock.harness.inverses.containers import TOKEN_LABEL
from aftershock.harness.journal import RunJournal
from aftershock.harness.pid_namespace import processes_inside

from tests.docker.stages import (
    FragileEngine,
    add_echo,
    engine,
    left_behind,
    open_docker,
    open_stage,
    run_echo,
    run_program,
)
from tests.processes.stages import Connection, Events, answers, received, wait_until

pytestmark = pytest.mark.docker

LONG_NS = 600 * 10**9
SLEEP = "import time; time.sleep(600)"
FAMILY = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).wait()"


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def stage(tmp_path: Path, events: Events) -> Iterator[Stage]:
    with open_stage(tmp_path, events) as stage:
        yield stage


def later_ns() -> int:
    return time.monotonic_ns() + LONG_NS


def descriptors() -> set[tuple[str, str]]:
    """Number and target of every open descriptor of this process."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.add((path.name, str(path.readlink())))
    return found


def init_of(stage: Stage, member: str) -> ProcessIdentity:
    assert isinstance(stage, DockerStage)
    pid = stage.namespace_pid(member)
    assert pid is not None
    identity = ProcessIdentity.of(pid)
    assert identity is not None
    return identity


# ------------------------------------------------------------------------------------------------ members


def test_backend_keeps_its_protocol() -> None:
    backend = DockerBackend(DockerBackendSettings())
    assert isinstance(backend, Backend)
    assert backend.available() is None


def test_members_have_their_own_addresses_and_links_lead_to_them(stage: Stage, events: Events) -> None:
    a, b = run_echo(stage, "a", "b")
    stage.add(Member(name="clients-a", role=Role.CLIENT))
    link = stage.link("clients-a", "a", "data")
    assert stage.link("b", "a", "data") == a == stage.listen("a", "data")
    assert len({a.host, b.host, link.host}) == 3
    assert all(answers(address) for address in (a, b, link))
    assert set(stage.network.links) == {Link("clients-a", "a"), Link("b", "a")}
    (told,) = events.of("backend")
    assert told["endpoint"] == "unix:///var/run/docker.sock"
    assert all(address.host.rpartition(".")[0] in told["subnet"] for address in (a, b, link))


def test_a_probe_comes_from_its_source(stage: Stage) -> None:
    a, b = run_echo(stage, "a", "b")
    with stage.connect("b", stage.link("b", "a", "data"), timeout_s=5) as connection:
        assert connection.getsockname()[0] == b.host
        connection.sendall(b"hello\n")
        assert connection.recv(100) == b"hello\n"
    stage.processes.kill("b")
    with pytest.raises(OSError, match="b does not run"):
        stage.connect("b", a, timeout_s=5)
    assert answers(a)  # and this process is where it was


def test_a_killed_member_comes_back_at_its_address_on_its_disk(stage: Stage, events: Events) -> None:
    (address,) = run_echo(stage, "a")
    with Connection(address) as connection:
        assert connection.exchange("before", timeout_s=5)
    old = stage.processes.pid("a")
    assert stage.processes.kill("a") == -9
    assert stage.processes.state("a") is MemberState.EXITED
    assert stage.processes.pid("a") is None
    assert [(e["status"], e["expected"]) for e in events.of("member.exited")] == [(-9, True)]
    stage.processes.start("a")
    wait_until(lambda: answers(address), "a answers again")
    assert stage.processes.pid("a") != old
    assert "before" in received(stage, "a")
    with pytest.raises(SetupError, match="already running"):
        stage.processes.start("a")


def test_pause_stops_every_process_of_a_member(stage: Stage) -> None:
    run_program(stage, "a", FAMILY)
    stage.processes.state("a")
    wait_until(lambda: len(processes_inside(init_of(stage, "a"))) == 3, "init, program and child are there")
    family = processes_inside(init_of(stage, "a"))
    stage.processes.pause("a", expires_ns=later_ns())
    assert stage.processes.state("a") is MemberState.PAUSED
    assert {os_state(each) for each in family} == {"T"}
    stage.processes.resume("a")
    assert stage.processes.state("a") is MemberState.RUNNING
    assert "T" not in {os_state(each) for each in family}


def test_a_paused_member_can_be_killed_stopped_and_probed_from(stage: Stage) -> None:
    a, b = run_echo(stage, "a", "b")
    stage.processes.pause("a", expires_ns=later_ns())
    with stage.connect("a", b, timeout_s=5) as connection:
        connection.sendall(b"from a\n")
        assert connection.recv(100) == b"from a\n"
    with Connection(a) as connection_to_a:
        assert not connection_to_a.exchange("hello", timeout_s=0.3)
    assert stage.processes.kill("a") == -9
    stage.processes.pause("b", expires_ns=later_ns())
    assert stage.processes.stop("b", deadline_s=10) == -15


def test_a_member_that_will_not_end_is_killed_and_it_is_said(stage: Stage, events: Events) -> None:
    run_program(stage, "a", "import signal; signal.signal(15, signal.SIG_IGN); print('deaf'); signal.pause()")
    wait_until(lambda: stage.processes.state("a") and "deaf" in stage.log("a").read_text(), "a is deaf")
    assert stage.processes.stop("a", deadline_s=0.2) == -9
    assert any("did not end within 0.2 s of SIGTERM" in event["text"] for event in events.of("warning"))


def test_a_member_that_ends_by_itself_is_told_with_all_it_said(stage: Stage, events: Events) -> None:
    run_program(stage, "a", "print('x' * 2_000_000); print('last words'); raise SystemExit(7)")
    wait_until(lambda: events.of("member.exited"), "the end is told", deadline_s=30)
    assert [(e["member"], e["status"], e["expected"]) for e in events.of("member.exited")] == [("a", 7, False)]
    assert stage.processes.state("a") is MemberState.EXITED
    assert stage.log("a").read_text() == "x" * 2_000_000 + "\nlast words\n"


def test_a_program_or_an_image_that_is_not_there_is_said(stage: Stage, events: Events) -> None:
    stage.add(Member(name="a", role=Role.NODE))
    stage.run(ProcessSpec(member=stage.members["a"], argv=("/no/such/program",)))
    wait_until(lambda: events.of("member.exited"), "its end is told", deadline_s=30)
    assert stage.processes.state("a") is MemberState.EXITED
    assert "/no/such/program" in stage.log("a").read_text()
    stage.add(Member(name="b", role=Role.NODE))
    with pytest.raises(SetupError, match=r"no/such:image.*docker pull"):
        stage.run(ProcessSpec(member=stage.members["b"], argv=("x",), image="no/such:image"))


def test_limits_are_those_of_the_container(tmp_path: Path, events: Events) -> None:
    with open_stage(tmp_path, events, cpus=0.5, memory_mb=64) as stage:
        run_program(stage, "a", SLEEP)
        stage.processes.state("a")
        assert stage.confinement is not None
        assert stage.confinement.limits("a") == (0.5, 64 << 20)
        assert 0 < stage.confinement.usage("a").memory_bytes < 64 << 20
        with engine() as api:
            (container,) = api.containers(filters={"label": f"{RUN_LABEL}=run-1"})
            limits = api.inspect_container(container["Id"])["HostConfig"]
        assert (limits["NanoCpus"], limits["Memory"], limits["MemorySwap"]) == (500_000_000, 64 << 20, 64 << 20)
        assert limits["Privileged"] is False


def test_a_member_can_be_added_and_removed_at_any_time(stage: Stage) -> None:
    run_echo(stage, "a")
    run_echo(stage, "late")
    assert stage.processes.stop("late", deadline_s=5) == -15
    assert isinstance(stage, DockerStage)
    stage.remove("late")
    with engine() as api:
        names = [item["Names"] for item in api.containers(all=True, filters={"label": f"{RUN_LABEL}=run-1"})]
    assert len(names) == 1
    assert stage.processes.state("late") is MemberState.ABSENT


# ------------------------------------------------------------------------------------------------ nothing stays


def test_five_stages_leave_nothing(tmp_path: Path, events: Events) -> None:
    def opened(number: int) -> None:
        with open_stage(tmp_path, events, name=f"run-{number}") as stage:
            run_echo(stage, "a", "b")
            stage.add(Member(name="clients-a", role=Role.CLIENT))
            assert answers(stage.link("clients-a", "a", "data"))

    opened(0)  # what the first one loads stays loaded
    threads, before = threading.active_count(), descriptors()
    for number in range(1, 6):
        opened(number)
    assert threading.active_count() <= threads
    assert descriptors() - before == set()
    assert all(event["expected"] for event in events.of("member.exited"))


def test_what_raises_inside_leaves_nothing(tmp_path: Path, events: Events) -> None:
    with pytest.raises(ValueError, match="planted"), open_stage(tmp_path, events) as stage:  # noqa: PT012
        add_echo(stage, "a")  # still starting
        raise ValueError("planted")
    assert left_behind(tmp_path / "run-1") == []


def test_two_stages_do_not_touch_each_other(tmp_path: Path, events: Events) -> None:
    with open_stage(tmp_path, events, name="one") as one:
        (first,) = run_echo(one, "a")
        with open_stage(tmp_path, events, name="two") as two:
            (second,) = run_echo(two, "a")
            assert first.host != second.host
            two.processes.pause("a", expires_ns=later_ns())
            assert answers(first)
            assert one.processes.state("a") is MemberState.RUNNING
        assert answers(first)


def test_only_what_carries_the_runs_label_is_removed(tmp_path: Path) -> None:
    token, other = str(tmp_path / "mine"), str(tmp_path / "other")
    arguments = {"endpoint": "unix:///var/run/docker.sock", "token": token}
    with engine() as api:
        networks = [
            api.create_network(f"aftershock-test-h1-{name}", driver="bridge", internal=True, labels=labels)["Id"]
            for name, labels in (("other", {TOKEN_LABEL: other}), ("none", {}), ("mine", {TOKEN_LABEL: token}))
        ]
        try:
            assert undo("remove-networks", arguments) == "removed 1 networks of the run"
            assert undo("remove-networks", arguments) == ""
            there = {network["Id"] for network in api.networks()}
            assert [identifier in there for identifier in networks] == [True, True, False]
        finally:
            for identifier in networks[:2]:
                api.remove_network(identifier)


# ------------------------------------------------------------------------------------------------ address ranges


@pytest.fixture
def foreign() -> Iterator[IPv4Network]:
    """A network of somebody else in this range."""
    taken = IPv4Network("10.254.251.0/24")
    with engine() as api:
        made = api.create_network(
            "aftershock-test-h1-foreign",
            driver="bridge",
            internal=True,
            ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=str(taken))]),
        )
        try:
            yield taken
        finally:
            api.remove_network(made["Id"])


def test_a_foreign_network_in_the_range_is_gone_around(
    tmp_path: Path, events: Events, foreign: IPv4Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = foreign.supernet(new_prefix=23)
    monkeypatch.setattr("aftershock.harness.backends.docker.POOLS", (both,))
    with open_stage(tmp_path, events) as stage:
        stage.add(Member(name="a", role=Role.NODE))
    (told,) = events.of("backend")
    assert IPv4Network(told["subnet"]).subnet_of(both)
    assert not IPv4Network(told["subnet"]).overlaps(foreign)


def test_an_engine_that_refuses_a_range_is_asked_for_the_next(
    tmp_path: Path, events: Events, foreign: IPv4Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aftershock.harness.backends.docker.POOLS", (foreign, IPv4Network("10.254.252.0/24")))
    # As if it had come after the list was read.
    monkeypatch.setattr("aftershock.harness.backends.docker_network._engine_ranges", lambda _: [])
    monkeypatch.setattr("aftershock.harness.backends.docker_network.host_ranges", list)
    with open_stage(tmp_path, events):
        pass
    assert [told["subnet"] for told in events.of("backend")] == ["10.254.252.0/24"]


def test_no_free_range_is_a_setup_error(tmp_path: Path, events: Events, foreign: IPv4Network) -> None:
    with (
        pytest.raises(SetupError, match=r"no address range is free .*docker network ls"),
        open_stage(tmp_path, events, address_range=foreign),
    ):
        pass
    assert left_behind(tmp_path / "run-1") == []


# ------------------------------------------------------------------------------------------------ no engine


def test_an_engine_that_is_not_there_is_said(tmp_path: Path, events: Events) -> None:
    endpoint = f"unix://{tmp_path}/none.sock"
    reason = DockerBackend(DockerBackendSettings(endpoint=endpoint)).available()
    assert reason is not None
    assert f"there is no Docker engine at {endpoint}" in reason
    assert "apt-get install docker.io" in reason
    with pytest.raises(SetupError, match="there is no Docker engine"), open_stage(tmp_path, events, endpoint=endpoint):
        pass


def test_an_engine_that_dies_in_the_middle_ends_the_run_and_heals_later(tmp_path: Path, events: Events) -> None:
    fragile = FragileEngine(tmp_path / "engine.sock")
    run_folder, state = tmp_path / "run-1", tmp_path / "state"
    run_folder.mkdir()
    try:
        with (  # noqa: PT012  # the error comes from leaving the stage, after all that is done on it
            pytest.raises(HealError, match=r"aftershock heal"),
            RunJournal.open(run_folder, "run-1", state) as journal,
            open_docker(run_folder, events, journal, endpoint=fragile.endpoint) as stage,
        ):
            run_echo(stage, "a", "b")
            fragile.die()
            wait_until(lambda: events.of("member.exited"), "its death is told")
            (told,) = events.of("member.exited")
            assert (told["member"], told["expected"]) == ("docker-engine", False)
            assert "there is no Docker engine" in stage.log("docker-engine").read_text()
            # Signals need no engine.
            assert stage.processes.kill("a") == -9
        left = left_behind(run_folder)
        assert not [each for each in left if each.startswith("process")]  # nothing of it runs on
        assert left
        fragile.live()
        with RunJournalOwnerDead(state):
            report = heal(state_folder=state)
        assert report.clean, report.left
        assert left_behind(run_folder) == []
    finally:
        fragile.close()
        for inverse in ("remove-containers", "remove-networks"):
            undo(inverse, {"endpoint": "unix:///var/run/docker.sock", "token": str(run_folder.resolve())})


class RunJournalOwnerDead:
    """Makes registrations say that their tool has died: `heal` skips those of a living one, which this test is."""

    def __init__(self, state: Path) -> None:
        self._files = list((state / "aftershock" / "runs").glob("*.json"))

    def __enter__(self) -> None:
        for file in self._files:
            text = file.read_text()
            file.write_text(text.replace(f'"pid": {os.getpid()}', '"pid": 999999999'))

    def __exit__(self, *_: object) -> None:
        pass
