"""Whatever ends the tool while a member's resources or disk are broken, nothing of it stays: no helper, no score, no
filler, no limit, no mount, no file. Real cgroups and mounts, watched from outside of the tool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aftershock.harness import loop_files
from aftershock.harness.heal import heal
from aftershock.harness.identity import ProcessIdentity, end, find_by_token, run_token, send
from aftershock.harness.inverses.resources import oom_score
from aftershock.harness.journal import JournalReader, registrations

from tests.processes.confined import ConfinedMember, confined_member, needs_cgroups
from tests.processes.stages import SCRIPTS, wait_until

pytestmark = [pytest.mark.processes, needs_cgroups]

# DESIGN section 4: within 10 s of the tool's death.
HEAL_DEADLINE_S = 10.0
MODES = ["cpu", "memory", "doom", "full", "slow", "read-only"]


def modes(*always: str) -> pytest.MarkDecorator:
    """Every mode; those that are not named only in the nightly run."""
    marks = {True: [], False: [pytest.mark.nightly]}
    return pytest.mark.parametrize("mode", [pytest.param(mode, marks=marks[mode in always]) for mode in MODES])


class Tool:
    """scripts/confined_tool.py as a process, once it has said `ready`."""

    def __init__(self, folder: Path, mode: str, member: ConfinedMember, *, expires_s: float = 600) -> None:
        self.run_folder, self.state_folder = folder / "run-1", folder / "state"
        self.run_folder.mkdir()
        self.token = run_token(self.run_folder)
        self.mount, self.file = self.run_folder / "data" / "n1", self.run_folder / "data" / ".n1.ext4"
        self.throttle = member.folders[3] / "blkio.throttle.write_iops_device"
        self.cgroup = member.folders[2]
        command = [
            sys.executable,
            str(SCRIPTS / "confined_tool.py"),
            str(self.run_folder),
            str(self.state_folder),
            mode,
        ]
        command += [str(expires_s), *map(str, member.folders)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready"):
                watchdog, inside = (ProcessIdentity.of(int(pid)) for pid in line.split()[1:])
                assert watchdog is not None
                assert inside is not None
                self.watchdog, self.member = watchdog, inside
                return
        raise AssertionError(f"the tool ended early: {self.process.communicate()}")

    def left(self) -> list[str]:
        """Everything of the run that can be seen from outside."""
        found = [f"process {identity.pid}" for identity in find_by_token(self.token)]
        found += [f"{pid} in {self.cgroup}" for pid in (self.cgroup / "cgroup.procs").read_text().split()]
        found += [f"limit {line}" for line in self.throttle.read_text().splitlines()]
        found += [f"{self.mount} is mounted"] if loop_files.mount_of(self.mount) is not None else []
        found += [f"{self.file} is there"] if self.file.exists() else []
        return found + [f"{path} is registered" for path in registrations(self.state_folder)]

    def is_on(self, mode: str) -> bool:
        """Whether what the tool did is there, as the kernel has it."""
        checks: dict[str, Callable[[], bool]] = {
            "cpu": lambda: len(find_by_token(self.token)) == 2,
            "memory": lambda: len(find_by_token(self.token)) == 2,
            "doom": lambda: oom_score(self.member) == 1000,
            "full": lambda: (self.mount / loop_files.FILLER).exists(),
            "slow": lambda: bool(self.throttle.read_text()),
            "read-only": lambda: not loop_files.is_writable(self.mount),
        }
        return checks[mode]()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for identity in [self.watchdog, *find_by_token(self.token)]:
            end(identity, deadline_s=5)
        loop_files.unmount(self.file, self.mount, deadline_s=5)


@pytest.fixture
def member() -> Iterator[ConfinedMember]:
    with confined_member(start=False) as member:
        yield member


@pytest.fixture
def start(tmp_path: Path, member: ConfinedMember):  # type: ignore[no-untyped-def]
    started: list[Tool] = []

    def start(mode: str, *, expires_s: float = 600) -> Tool:
        started.append(Tool(tmp_path, mode, member, expires_s=expires_s))
        return started[-1]

    yield start
    for tool in started:
        tool.close()


@modes("memory", "full", "read-only")
def test_the_watchdog_heals_when_the_tool_is_killed(start, mode: str) -> None:  # type: ignore[no-untyped-def]
    tool = start(mode)
    assert tool.is_on(mode)
    tool.process.kill()
    wait_until(lambda: not tool.left(), "everything is undone", deadline_s=HEAL_DEADLINE_S)
    wait_until(lambda: not tool.watchdog.alive(), "the watchdog has ended")
    assert heal(state_folder=tool.state_folder).undone == ()


@modes("doom", "slow")
def test_heal_does_it_when_the_watchdog_is_dead_too(start, mode: str) -> None:  # type: ignore[no-untyped-def]
    tool = start(mode)
    send(tool.watchdog, signal.SIGKILL)
    tool.process.kill()
    tool.process.wait()
    wait_until(lambda: not tool.watchdog.alive(), "the watchdog is dead")
    assert tool.is_on(mode)
    report = heal(state_folder=tool.state_folder)
    assert report.clean, report
    assert tool.left() == []
    said = {
        "cpu": "ended helper of n1",
        "memory": "ended helper of n1",
        "doom": "put oom_score_adj of n1 back to",
        "full": "removed what filled",
        "slow": "took the limit on writes to device",
        "read-only": "mounted it anew: it can be written again",
    }
    assert said[mode] in "\n".join(report.undone)
    assert "unmounted" in "\n".join(report.undone)


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["memory", "full", "read-only"])
def test_an_interrupted_tool_ends_its_run_itself(start, mode: str, number: signal.Signals) -> None:  # type: ignore[no-untyped-def]
    tool = start(mode)
    tool.process.send_signal(number)
    tool.process.communicate(timeout=30)
    assert tool.left() == []
    assert JournalReader(tool.run_folder / "journal.jsonl").open_entries() == []


@pytest.mark.nightly
@pytest.mark.parametrize("mode", MODES)
def test_a_hung_tool_does_not_keep_it_broken(start, mode: str) -> None:  # type: ignore[no-untyped-def]
    tool = start(mode, expires_s=1.5)
    os.kill(tool.process.pid, signal.SIGSTOP)
    if mode == "read-only":
        # A file system that has seen an error cannot be written again while anybody has it open.
        wait_until(lambda: not tool.member.alive(), "the member was ended")
        wait_until(lambda: loop_files.mount_of(tool.mount) is not None, "it is mounted anew")
    wait_until(lambda: not tool.is_on(mode), "what was on has expired")
    assert tool.process.poll() is None
    assert tool.watchdog.alive()
    assert (mode == "read-only") == (not tool.member.alive()), "the member goes on wherever it can"
