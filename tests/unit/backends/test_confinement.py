"""Cgroups of both versions as their files say, and what is refused; the real ones: tests/processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aftershock.harness.backends import confinement as module
from aftershock.harness.backends.cgroups import Cgroups
from aftershock.harness.backends.confinement import CgroupConfinement, own_cgroups
from aftershock.harness.errors import SetupError
from aftershock.harness.interfaces import Limits, Usage

from tests.fakes import FakeJournal

V1 = """\
31 23 0:28 / {root} rw - tmpfs tmpfs rw
32 31 0:29 / {root}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / {root}/memory rw - cgroup cgroup rw,memory
38 31 0:35 / {root}/blkio rw - cgroup cgroup rw,blkio
40 31 0:37 / {root}/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / {root}/unified rw - cgroup2 cgroup2 rw
"""
V2 = "30 23 0:26 / {root} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def proc_of(folder: Path, pid: int, *, mountinfo: str, cgroup: str) -> Path:
    proc = folder / "proc"
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    (proc / "self").mkdir(exist_ok=True)
    (proc / "self" / "mountinfo").write_text(mountinfo.format(root=folder / "cg"))
    (proc / str(pid) / "cgroup").write_text(cgroup)
    return proc


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def first(tmp_path: Path) -> Cgroups:
    """A container's cgroups of version 1, cpu and cpuacct mounted together, with an empty version 2 beside."""
    cgroup = "12:cpuacct,cpu:/docker/abc\n4:memory:/docker/abc\n7:blkio:/docker/abc\n9:name=systemd:/docker/abc\n0::/\n"
    proc = proc_of(tmp_path, 7, mountinfo=V1, cgroup=cgroup)
    root = tmp_path / "cg"
    write(root / "unified", cgroup__controllers="hugetlb\n")
    write(
        root / "cpu,cpuacct" / "docker" / "abc",
        cpuacct__usage="123456789\n",
        cpu__stat="nr_periods 10\nnr_throttled 4\nthrottled_time 40000000\n",
        cgroup__procs="7\n8\n",
    )
    write(
        root / "memory" / "docker" / "abc",
        memory__usage_in_bytes="5000000\n",
        memory__stat="cache 1\ninactive_file 7\ntotal_inactive_file 2000000\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        memory__limit_in_bytes="9223372036854771712\n",
    )
    return Cgroups.of(7, proc=proc)


@pytest.fixture
def second(tmp_path: Path) -> Cgroups:
    """A container's cgroup of version 2, under systemd."""
    proc = proc_of(tmp_path, 7, mountinfo=V2, cgroup="0::/system.slice/docker-abc.scope\n")
    write(
        tmp_path / "cg" / "system.slice" / "docker-abc.scope",
        cgroup__controllers="cpuset cpu io memory pids\n",
        cpu__stat="usage_usec 123456\nuser_usec 1\nthrottled_usec 40000\n",
        memory__current="5000000\n",
        memory__stat="file 1\ninactive_file 2000000\n",
        memory__events="low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n",
        memory__max="max\n",
        cgroup__procs="7\n",
    )
    return Cgroups.of(7, proc=proc)


def test_version_1_has_a_folder_for_each_hierarchy(first: Cgroups, tmp_path: Path) -> None:
    both = tmp_path / "cg" / "cpu,cpuacct" / "docker" / "abc"
    assert first.folders == {
        "cpu": both,
        "cpuacct": both,
        "memory": tmp_path / "cg" / "memory" / "docker" / "abc",
        "blkio": tmp_path / "cg" / "blkio" / "docker" / "abc",
    }
    assert first.unified == frozenset()


def test_version_2_has_one_folder_for_all(second: Cgroups, tmp_path: Path) -> None:
    only = tmp_path / "cg" / "system.slice" / "docker-abc.scope"
    assert set(second.folders) == {"cpu", "cpuacct", "memory", "io"}
    assert set(second.folders.values()) == {only}
    assert second.unified == {"cpu", "cpuacct", "memory", "io"}


def test_a_hierarchy_of_which_a_part_is_mounted(tmp_path: Path) -> None:
    """As inside a container that runs the tool itself."""
    mountinfo = "35 31 0:32 /docker/outer {root}/memory rw - cgroup cgroup rw,memory\n"
    proc = proc_of(tmp_path, 7, mountinfo=mountinfo, cgroup="4:memory:/docker/outer/docker/abc\n")
    assert Cgroups.of(7, proc=proc).folders == {"memory": tmp_path / "cg" / "memory" / "docker" / "abc"}


@pytest.mark.parametrize("version", ["first", "second"])
def test_usage_says_the_same_in_both_versions(version: str, request: pytest.FixtureRequest) -> None:
    used = module._usage(request.getfixturevalue(version))
    assert used.memory_bytes == 3_000_000
    assert used.oom_kills == 3
    assert used.throttled_ns == 40_000_000
    assert used.cpu_ns == {"first": 123_456_789, "second": 123_456_000}[version]


@pytest.mark.parametrize("missing", ["memory.usage_in_bytes", "memory.oom_control"])
def test_a_cgroup_that_is_gone_says_nothing(first: Cgroups, missing: str) -> None:
    (first.folders["memory"] / missing).unlink()
    with pytest.raises(SetupError, match="do not say what is used"):
        module._usage(first)


def test_no_limit_is_none_in_both_versions(first: Cgroups, second: Cgroups) -> None:
    assert first.number("memory", "memory.limit_in_bytes") is None
    assert second.number("memory", "memory.max") is None
    assert first.number("memory", "memory.usage_in_bytes") == 5_000_000


def test_who_is_inside_is_asked_of_the_kernels_list(first: Cgroups) -> None:
    assert first.contains("cpu", 8)
    assert not first.contains("cpu", 80)
    assert not first.contains("blkio", 8), "no list, nobody in it"


def test_a_cgroup_is_its_own_only_if_it_is_not_ours_and_does_not_hold_ours(tmp_path: Path) -> None:
    def at(path: str) -> Cgroups:
        return Cgroups(folders={"memory": tmp_path / path}, unified=frozenset())

    assert at("docker/abc").distinct(at("user"), "memory")
    assert at("user/below").distinct(at("user"), "memory")
    assert not at("user").distinct(at("user"), "memory")
    assert not at("user").distinct(at("user/tool"), "memory")
    assert not at(".").distinct(at("user/tool"), "memory")
    assert not at("docker/abc").distinct(at("user"), "cpu"), "one that it has not is not its own"


def test_a_member_that_shares_our_cgroup_has_none_of_its_own() -> None:
    with pytest.raises(SetupError, match=r"n1 has no cpu cgroup of its own .*; use a backend that gives it one"):
        own_cgroups("n1", os.getpid())


def confinement(pid: int | None) -> CgroupConfinement:
    return CgroupConfinement(
        pid=lambda member: pid, limits=lambda member: Limits(0.5, 1 << 20), journal=FakeJournal(), token="t"
    )


def test_what_does_not_run_cannot_be_counted_or_joined() -> None:
    with pytest.raises(SetupError, match="n1 does not run, so it uses nothing that could be counted"):
        confinement(None).usage("n1")
    with pytest.raises(SetupError, match="n1 does not run, so nothing can be run inside its limits"):
        confinement(None).start("n1", ["/bin/true"], expires_ns=0)
    with pytest.raises(SetupError, match="n1 does not run"):
        confinement(None).doom("n1", expires_ns=0)
    confinement(None).spare("n1")  # nothing happens
    assert confinement(None).limits("n1") == Limits(0.5, 1 << 20)


def test_a_member_that_has_ended_is_counted_as_it_was_last_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = [os.getpid()]
    made = CgroupConfinement(
        pid=lambda member: pids[0] if pids else None,
        limits=lambda member: Limits(None, None),
        journal=FakeJournal(),
        token="t",
    )
    seen = Usage(cpu_ns=1, throttled_ns=2, memory_bytes=3, oom_kills=4)
    monkeypatch.setattr(module, "_usage", lambda cgroups: seen)
    assert made.usage("n1") == seen
    pids.clear()
    assert made.usage("n1") == seen
