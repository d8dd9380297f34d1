"""Runs the command as a user does, in a process of its own, and looks at what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("driver.py")

# As short as a run can be that still has every phase: a control arm, and one fault.
SMALL = """
name = "small"
settle_s = 20
[system]
name = "reference"
nodes = 3
routers = 2
shards = 4
[load]
rate_per_s = 100
duration_s = {duration_s}
[[workload]]
name = "cas-register"
share = 0.5
[[workload]]
name = "insert-only"
share = 0.5
[[fault]]
name = "noop"
start_s = 0.5
duration_s = 0.5
expect = "available"
{fault}
[targets]
success_ratio = 0.9
"""


class Command:
    """A running `aftershock`, its output so far, and its end."""

    def __init__(self, folder: Path, *arguments: str, plant: str | None = None) -> None:
        environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "PYTHONUNBUFFERED": "1"}
        planted = ["--plant", plant] if plant else []
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), *planted, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, *, deadline_s: float = 60) -> None:
        """Until a line holds the text; fails with the whole output when it ends or the deadline passes."""
        deadline = time.monotonic() + deadline_s
        with self._news:
            while not any(text in line for line in self.lines):
                left_s = deadline - time.monotonic()
                assert left_s > 0, f"never said {text!r}:\n{self.output}"
                assert self._reader.is_alive(), f"ended before it said {text!r}:\n{self.output}"
                self._news.wait(min(left_s, 0.5))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, *, deadline_s: float = 120) -> int:
        try:
            status = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end in {deadline_s} s:\n{self.output}") from None
        self._reader.join(10)
        return status

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def run_folder(self) -> Path:
        [path] = [path for path in (self.folder / "runs").iterdir() if path.is_dir()]
        return path

    def verdict(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_folder / "verdict.json").read_text())
        return found

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_folder / "events.jsonl").read_text().splitlines()]

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that name this folder, or run inside it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = str((entry / "cwd").readlink())
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (str(folder) in command or where.startswith(str(folder))):
            found.append(f"{entry.name}: {command}")
    return found


def wait_nothing_left(folder: Path, *, deadline_s: float = 15) -> None:
    """Until no process of the run is left; fails naming those that are."""
    deadline = time.monotonic() + deadline_s
    while left := left_behind(folder):
        assert time.monotonic() < deadline, "left behind: " + "; ".join(left)
        time.sleep(0.05)


def write_scenario(folder: Path, *, duration_s: float = 4, fault: str = "") -> Path:
    """Write the small scenario with these changes."""
    path = folder / "small.toml"
    path.write_text(SMALL.format(duration_s=duration_s, fault=fault))
    return path
