"""cpu-pressure, memory-pressure, oom-kill, disk-full, disk-slow and disk-read-only: what they need, do, and say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import aftershock.faults as faults_package
import pytest
from aftershock.faults._resources import hog
from aftershock.harness.interfaces import Limits, MemberState

from tests.fakes import FakeConfinement, RecordedEvents, small_cluster
from tests.unit.faults.support import carry_out, context, fault

CONFINED = ["cpu-pressure", "memory-pressure", "oom-kill"]
DISKS = {"disk-full": "full", "disk-slow": "slow", "disk-read-only": "read-only"}


# ------------------------------------------------------------------------------------------------ what they need


@pytest.mark.parametrize("name", CONFINED)
def test_members_without_limits_of_their_own_are_left_alone(name: str) -> None:
    cluster = small_cluster()
    cluster.stage.confinement = None
    reason = fault(name).available(cluster.stage)
    assert "backend 'fake' gives members no limits of their own (no cgroup)" in (reason or "")
    assert "use one that does, as docker" in (reason or "")


@pytest.mark.parametrize(
    ("name", "setting"), [("cpu-pressure", "cpus"), ("memory-pressure", "memory_mb"), ("oom-kill", "memory_mb")]
)
def test_a_limit_that_is_not_set_is_named(name: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeConfinement, "limits", lambda self, member: Limits(None, None))
    cluster = small_cluster()
    assert f"set {setting} in [backend]" in (fault(name).available(cluster.stage) or "")
    other = Limits(None, 1 << 26) if setting == "cpus" else Limits(0.5, None)
    monkeypatch.setattr(FakeConfinement, "limits", lambda self, member: other)
    assert f"set {setting} in [backend]" in (fault(name).available(cluster.stage) or "")


@pytest.mark.parametrize(("name", "kind"), DISKS.items())
def test_members_without_a_disk_of_their_own_are_left_alone(name: str, kind: str) -> None:
    cluster = small_cluster()
    assert cluster.stage.disks is not None
    cluster.stage.disks.why_not = lambda asked: f"no {asked} here"  # type: ignore[method-assign]
    assert fault(name).available(cluster.stage) == f"no {kind} here"
    cluster.stage.disks = None
    reason = fault(name).available(cluster.stage)
    assert "docker, with disk_mb set in [backend]" in (reason or "")


@pytest.mark.parametrize("name", [*CONFINED, *DISKS])
def test_a_target_that_is_down_already_fails(name: str) -> None:
    cluster = small_cluster()
    cluster.world.states["n2"] = MemberState.EXITED
    record = carry_out(cluster, name, events=RecordedEvents(), target="n2")
    assert "n2 is exited before the fault" in (record.error or "")
    assert cluster.world.calls == []


# ------------------------------------------------------------------------------------------------ what they do


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("cpu-pressure", {}, ["cpu", "1.000"]),
        ("cpu-pressure", {"percent": 100}, ["cpu", "0.500"]),
        ("memory-pressure", {"percent": 50}, ["memory", str(32 << 20), str((32 << 20) * 9 // 10)]),
        ("oom-kill", {}, ["memory", str(256 << 20), str((64 << 20) * 8 // 10)]),
    ],
)
def test_what_is_taken_follows_the_members_limit(name: str, settings: dict[str, Any], wanted: list[str]) -> None:
    cluster, started = small_cluster(), []
    confinement = cluster.stage.confinement
    assert confinement is not None
    start = confinement.start
    confinement.start = lambda member, argv, *, expires_ns: (  # type: ignore[method-assign]
        started.append((member, list(argv))) or start(member, argv, expires_ns=expires_ns)  # type: ignore[func-returns-value]
    )
    with fault(name, target="n2", **settings).inject(context(cluster)):
        pass
    assert started == [("n2", hog(*wanted))]


def test_oom_kill_dooms_the_member_before_memory_is_taken_and_spares_it_after() -> None:
    cluster = small_cluster()
    with fault("oom-kill", target="n2").inject(context(cluster)) as injection:
        assert cluster.world.doomed == {"n2"}
        assert cluster.world.helpers == {}, "what was taken is given back at once"
    assert cluster.world.calls == ["doom n2", "helper in n2", "start n2"]
    assert cluster.world.doomed == set()
    assert injection.reaction == {"kind": "new-epoch", "shards": [1]}


def test_memory_that_is_in_use_already_cannot_be_taken() -> None:
    record = carry_out(small_cluster(), "memory-pressure", events=RecordedEvents(), percent=12)
    assert "uses 8 MB of 64 MB by itself" in (record.error or "")


@pytest.mark.parametrize("name", ["cpu-pressure", "memory-pressure", "disk-full", "disk-slow"])
def test_a_member_that_did_not_survive_is_started_again_and_it_is_said(name: str) -> None:
    cluster, events = small_cluster(), RecordedEvents()
    with fault(name, target="n2").inject(context(cluster, events=events)) as injection:
        cluster.world.states["n2"] = MemberState.EXITED
    assert cluster.world.calls[-1] == "start n2"
    assert injection.verify_healed().proven
    assert "n2 had ended by itself" in events.of("warning")[0]["text"]


@pytest.mark.parametrize("state", [MemberState.RUNNING, MemberState.PAUSED])
def test_a_read_only_disk_is_mended_while_nobody_has_it_open(state: MemberState) -> None:
    cluster = small_cluster()
    with fault("disk-read-only", target="n2").inject(context(cluster)):
        cluster.world.states["n2"] = state
    assert cluster.world.calls == ["read-only n2", "kill n2", "mend n2", "start n2"]


def test_a_member_that_ended_of_its_read_only_disk_is_not_killed_again() -> None:
    cluster = small_cluster()
    with fault("disk-read-only", target="n2").inject(context(cluster)):
        cluster.world.states["n2"] = MemberState.EXITED
    assert cluster.world.calls == ["read-only n2", "mend n2", "start n2"]


@pytest.mark.parametrize("name", DISKS)
def test_a_disk_that_refuses_writes_before_is_not_broken_again(name: str) -> None:
    cluster = small_cluster()
    cluster.world.broken_disks["n2"] = {"read-only"}
    record = carry_out(cluster, name, events=RecordedEvents(), target="n2")
    assert "the disk of n2 refuses writes before the fault was injected (EROFS)" in (record.error or "")
    assert cluster.world.calls == []


def test_some_room_is_left_on_a_disk_and_no_more() -> None:
    cluster, events = small_cluster(), RecordedEvents()
    carry_out(cluster, "disk-full", events=events, target="n2", leave_kb=512)
    assert "512 KiB are free on it" in events.of("fault.proven")[0]["facts"][0]


@pytest.mark.parametrize("name", [*CONFINED[:2], *DISKS])
def test_the_facts_say_what_befell_a_member_beside(name: str) -> None:
    events = RecordedEvents()
    carry_out(small_cluster(), name, events=events, target="n2")
    assert any("which was not hit" in fact for fact in events.of("fault.proven")[0]["facts"])


@pytest.mark.parametrize("name", ["disk-full", "disk-read-only", "oom-kill"])
def test_clients_of_a_router_that_may_end_of_it_are_excused(name: str) -> None:
    with fault(name, target="r1").inject(context(small_cluster())) as injection:
        assert injection.cut_off == {"clients-r1": None}


# ------------------------------------------------------------------------------------------------ the hog itself


def hogged(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The hog as a process of its own, in our own cgroup."""
    command = [sys.executable, "-I", "-S", str(Path(faults_package.__path__[0], "_hog.py")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


def test_the_hog_takes_no_memory_without_being_told_where_it_is() -> None:
    done = hogged("memory", "1048576", "0")
    assert done.returncode == 3
    assert "no memory cgroup that can be read" in done.stderr


def test_the_hog_takes_no_memory_where_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("1\n")
    (tmp_path / "memory.max").write_text("1048576\n")
    done = hogged("memory", "1048576", "0", AFTERSHOCK_MEMORY_CGROUP=str(tmp_path))
    assert done.returncode == 3
    assert f"this process is not in {tmp_path}" in done.stderr
