"""SIGKILL of load processes at random instants, also on a full disk: every request that the service saw has a slot."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from aftershock.workloads.slots import State, read_all

from .load_support import Service, history_of, loading, serving, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

SEED = int(os.environ.get("AFTERSHOCK_TEST_SEED", "20261123"))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB, which only root can have; otherwise an ordinary folder, and `fill` does its part."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        == 0
    )
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def recorded(folder: Path) -> set[tuple[int, int]]:
    """(process, sequence) of every slot that was at least invoked."""
    found: set[tuple[int, int]] = set()
    for _, slots, unreadable in read_all(folder):
        assert unreadable == 0
        sent = slots[slots["state"] != State.NOT_SENT]
        found |= set(zip(sent["process"].tolist(), sent["sequence"].tolist(), strict=True))
    return found


def assert_nothing_is_missing(service: Service, folder: Path) -> int:
    """Everything that the service saw is in the slots, and the torn folder converts. Returns how much it saw."""
    seen = set(service.seen())
    missing = seen - recorded(folder)
    assert not missing, f"the service saw {len(missing)} requests that were not recorded (seed {SEED}): {missing}"
    history, summary = history_of(folder)
    assert summary["holes"] == 0
    assert len(history) == summary["sent"] + summary["not_sent"]
    open_ = history.filter(pl.col("error") == "interrupted")
    assert (open_["outcome"] == "unknown").all()
    return len(seen)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("round_", range(3))
def test_sigkill_at_random_instants_loses_no_operation(service: Service, tmp_path: Path, round_: int) -> None:
    """Four load processes a round, each killed at an instant of its own."""
    rng = random.Random(f"{SEED} {round_}")
    folder = tmp_path / "load"
    with loading(
        folder,
        {"clients-r1": service.address, "clients-r2": service.address},
        rate_per_s=2000,
        duration_s=30,
        processes=4,
        slots_per_file=rng.choice([64, 500, 65_536]),
    ) as load:
        wait_until(lambda: load.progress().ok > 0, "load runs")
        for pid in load.pids:
            time.sleep(rng.uniform(0, 0.25))
            kill(pid)
        wait_until(load.finished, "all load processes are dead")
        problem = load.alive()
    assert problem is not None
    assert problem.count("was ended by signal 9 before its schedule was played") == 4
    _, summary = history_of(folder)
    assert summary["died"].count("ended before its schedule was played") == 4
    assert assert_nothing_is_missing(service, folder) > 0


def test_the_test_can_fail(service: Service, tmp_path: Path) -> None:
    """A slot that is taken away is missed: the comparison above is not true by itself."""
    folder = tmp_path / "load"
    with loading(folder, {"clients-r1": service.address}, rate_per_s=200, duration_s=0.5) as load:
        assert load.wait(60)
    assert_nothing_is_missing(service, folder)
    (path,) = folder.glob("*.slots")
    data = bytearray(path.read_bytes())
    data[4096] = State.EMPTY
    path.write_bytes(data)

    with pytest.raises(AssertionError, match="the service saw 1 requests that were not recorded"):
        assert_nothing_is_missing(service, folder)


def fill(folder: Path, pids: tuple[int, ...]) -> None:
    """Where `folder` is no small file system of its own: no load process may make another file."""
    if os.path.ismount(folder):
        return
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def test_a_disk_that_fills_up_stops_the_load_before_it_stops_the_record(service: Service, small_disk: Path) -> None:
    folder = small_disk / "load"
    with loading(folder, {"clients-r1": service.address}, rate_per_s=2000, duration_s=30, slots_per_file=500) as load:
        fill(small_disk, load.pids)
        assert load.wait(25), "it stops long before its schedule ends"
        problem = load.alive()
        sent = load.progress().sent
    assert problem is not None
    assert "stopped sending" in problem
    assert "cannot allocate 52096 bytes to record operations in" in problem
    assert 500 <= sent < 10_000
    wait_until(lambda: len(service.seen()) == sent, "the service has read what was sent")
    # There is room for the history elsewhere; here there is none.
    moved = small_disk.parent / "moved"
    subprocess.run(["cp", "-r", str(folder), str(moved)], check=True)
    assert assert_nothing_is_missing(service, moved) == sent
    _, summary = history_of(moved)
    assert summary["unplayed"] == 60_000 - summary["sent"] - summary["not_sent"] > 0


def test_sigkill_on_a_full_disk_loses_no_operation(service: Service, small_disk: Path) -> None:
    rng = random.Random(f"{SEED} full")
    folder = small_disk / "load"
    with loading(
        folder, {"clients-r1": service.address}, rate_per_s=2000, duration_s=30, slots_per_file=250, processes=4
    ) as load:
        fill(small_disk, load.pids)
        wait_until(lambda: load.progress().ok > 0, "load runs")
        for pid in load.pids:
            time.sleep(rng.uniform(0, 0.4))
            kill(pid)
        wait_until(load.finished, "all load processes are dead")
    moved = small_disk.parent / "moved"
    subprocess.run(["cp", "-r", str(folder), str(moved)], check=True)
    assert assert_nothing_is_missing(service, moved) > 0


def test_a_limit_on_file_size_stops_the_load_as_a_full_disk_does(service: Service, tmp_path: Path) -> None:
    """RLIMIT_FSIZE raises a signal as well as an error; neither may take the load process down."""
    folder = tmp_path / "load"
    with loading(folder, {"clients-r1": service.address}, rate_per_s=2000, duration_s=30, slots_per_file=500) as load:
        for pid in load.pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        assert load.wait(25)
        problem = load.alive()
    assert problem is not None
    assert "File too large" in problem
    assert_nothing_is_missing(service, folder)
