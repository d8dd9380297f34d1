"""Whatever ends the tool, no container, network or process of its run stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aftershock.harness.heal import heal
from aftershock.harness.identity import ProcessIdentity, end, os_state, run_token
from aftershock.harness.inverses import undo

from tests.docker.stages import left_behind
from tests.processes.stages import wait_until

pytestmark = pytest.mark.docker

SCRIPT = Path(__file__).with_name("scripts") / "docker_tool.py"
# DESIGN section 4: within 10 s of the tool's death.
HEAL_DEADLINE_S = 10.0


class Tool:
    """scripts/docker_tool.py as a process, once it has said `ready`."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.run_folder = folder / "run-1"
        self.run_folder.mkdir()
        self.state_folder = folder / "state"
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self.run_folder), str(self.state_folder), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready"):
                watchdog, member = (ProcessIdentity.of(int(pid)) for pid in line.split()[1:])
                assert watchdog is not None
                assert member is not None
                self.watchdog, self.member = watchdog, member
                return
        raise AssertionError(f"the tool ended early: {self.process.communicate()}")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        end(self.watchdog, deadline_s=15)
        for inverse in ("remove-containers", "remove-networks"):
            undo(inverse, {"endpoint": "unix:///var/run/docker.sock", "token": run_token(self.run_folder)})


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[list[Tool]]:
    started: list[Tool] = []
    yield started
    for tool in started:
        tool.close()


@pytest.mark.parametrize("mode", ["idle", "pause", "creating"])
def test_a_killed_tool_leaves_nothing(tmp_path: Path, tools: list[Tool], mode: str) -> None:
    tool = Tool(tmp_path, mode)
    tools.append(tool)
    assert left_behind(tool.run_folder)
    if mode == "creating":
        time.sleep(0.5)  # in the middle of its creations, wherever that is
    tool.process.kill()
    wait_until(lambda: not tool.watchdog.alive(), "the watchdog has healed", deadline_s=HEAL_DEADLINE_S)
    assert left_behind(tool.run_folder) == []
    assert not list((tool.state_folder / "aftershock" / "runs").glob("*.json"))


def test_a_pause_expires_although_the_tool_hangs(tmp_path: Path, tools: list[Tool]) -> None:
    tool = Tool(tmp_path, "expire")
    tools.append(tool)
    assert tool.process.poll() is None
    wait_until(lambda: os_state(tool.member) not in ("T", None), "the watchdog continues it", deadline_s=10)
    tool.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not tool.watchdog.alive(), "the watchdog has healed", deadline_s=HEAL_DEADLINE_S)
    assert left_behind(tool.run_folder) == []


def test_heal_removes_what_neither_tool_nor_watchdog_did(tmp_path: Path, tools: list[Tool]) -> None:
    tool = Tool(tmp_path, "pause")
    tools.append(tool)
    end(tool.watchdog, deadline_s=5)
    tool.process.kill()
    tool.process.wait()
    assert left_behind(tool.run_folder)
    report = heal(state_folder=tool.state_folder)
    assert report.clean, report.left
    assert left_behind(tool.run_folder) == []
    assert heal(state_folder=tool.state_folder).undone == ()
