"""Members in cgroups and on disks of a test's own making, without any container: what the real tests need."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aftershock.harness.backends.cgroups import Cgroups
from aftershock.harness.backends.inside import start_inside
from aftershock.harness.identity import TOKEN_VARIABLE
from aftershock.harness.interfaces import Limits

from tests.processes.stages import wait_until

MB = 1 << 20
HIERARCHY = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "memory", "blkio")

needs_cgroups = pytest.mark.skipif(
    os.geteuid() != 0 or not all((HIERARCHY / name / "cgroup.procs").exists() for name in CONTROLLERS),
    reason="needs root and cgroup hierarchies of version 1",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for mounts")


@dataclass
class ConfinedMember:
    """A process in cgroups of its own, as a container's main process is."""

    name: str
    folders: list[Path]
    limits: Limits
    process: subprocess.Popen[bytes] | None = None
    argv: Sequence[str] = field(default_factory=list)
    token: str = ""

    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def start(self, *, token: str = "") -> None:
        self.token = token or self.token
        environment = {TOKEN_VARIABLE: self.token} if self.token else {}
        # The alarm is the test's own net: whatever becomes of the test, nothing runs for longer.
        self.process = start_inside(self.folders, self.argv, left_s=120, environment=environment)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def confined_member(
    name: str = "n1", *, cpus: float | None = 0.2, memory_mb: int | None = 64, start: bool = True
) -> Iterator[ConfinedMember]:
    """A member that sleeps unless told otherwise; afterwards its cgroups are removed, with all that is in them."""
    code = "import time; time.sleep(300)"
    label = f"aftershock-test-{uuid.uuid4().hex[:12]}"
    folders = [HIERARCHY / controller / label for controller in CONTROLLERS]
    limits = Limits(cpus=cpus, memory_bytes=memory_mb * MB if memory_mb is not None else None)
    member = ConfinedMember(name=name, folders=folders, limits=limits, argv=[sys.executable, "-S", "-c", code])
    try:
        for folder in folders:
            folder.mkdir()
        if os.sched_getscheduler(0) == os.SCHED_IDLE:
            # A test of the idle class takes nothing from whoever needs this machine; its cgroup must not either.
            (folders[0] / "cpu.idle").write_text("1")
        if cpus is not None:
            (folders[0] / "cpu.cfs_period_us").write_text("100000")
            (folders[0] / "cpu.cfs_quota_us").write_text(str(round(cpus * 100_000)))
        if limits.memory_bytes is not None:
            (folders[2] / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
        if start:
            member.start()
        yield member
    finally:
        member.end()
        for folder in folders:
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a test's own cgroup, ending whatever is still in it."""
    if not folder.exists():
        return

    def gone() -> bool:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        with suppress(OSError):
            folder.rmdir()
        return not folder.exists()

    wait_until(gone, f"{folder} is removed")


def in_cgroup(pid: int, controller: str, folder: Path) -> bool:
    return Cgroups.of(pid).folders[controller] == folder
