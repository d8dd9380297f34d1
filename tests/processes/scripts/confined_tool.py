"""A stand-in for the tool that breaks a member's resources or disk, says `ready`, and waits to be ended.

confined_tool.py RUN_FOLDER STATE_FOLDER MODE EXPIRES_S CGROUP...

MODE: idle, cpu, memory, doom, full, slow, read-only. The cgroups are its caller's, who removes them.
"""

import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import aftershock.faults as faults_package
from aftershock.harness.backends.confinement import CgroupConfinement
from aftershock.harness.backends.disks import LoopDisks
from aftershock.harness.backends.inside import start_inside
from aftershock.harness.identity import ProcessIdentity
from aftershock.harness.interfaces import Limits
from aftershock.harness.journal import RunJournal
from aftershock.harness.watchdog import start_watchdog

HOG = str(Path(faults_package.__path__[0], "_hog.py"))
# Keeps one file of its disk open, and writes to it all the time.
WRITER = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
while True:
    try:
        os.write(file, b'x' * 4096)
        os.fsync(file)
    except OSError:
        pass
    time.sleep(0.05)
"""
MB = 1 << 20


class Terminated(BaseException):
    pass


def terminate(_number: int, _frame: object) -> None:
    raise Terminated


def event(kind: str, /, **fields: object) -> None:
    print("event", kind, fields, flush=True)


def main(run_folder: Path, state_folder: Path, mode: str, expires_s: float, cgroups: list[Path]) -> None:
    signal.signal(signal.SIGTERM, terminate)
    (run_folder / "events.jsonl").touch()
    members: dict[str, subprocess.Popen[bytes]] = {}

    def pid(name: str) -> int | None:
        return members[name].pid if name in members and members[name].poll() is None else None

    with (
        RunJournal.open(run_folder, run_folder.name, state_folder) as journal,
        start_watchdog(journal) as watchdog,
        closing(
            LoopDisks(folder=run_folder / "data", size_mb=16, journal=journal, events=event, pid=pid)  # type: ignore[arg-type]
        ) as disks,
    ):
        (run_folder / "data").mkdir()
        disks.prepare("n1")
        argv = [sys.executable, "-S", "-c", WRITER, str(run_folder / "data" / "n1" / "log")]
        members["n1"] = start_inside(cgroups, argv, left_s=120, environment=journal.environment)
        identity = ProcessIdentity.of(members["n1"].pid)
        assert identity is not None
        entry = journal.record("end-process", expires_ns=None, process=identity.to_json(), what="n1")
        limits = Limits(cpus=0.2, memory_bytes=64 * MB)
        confinement = CgroupConfinement(pid=pid, limits=lambda name: limits, journal=journal, token=journal.token)
        expires_ns = time.monotonic_ns() + int(expires_s * 1e9)
        try:
            with closing(confinement):
                if mode == "cpu":
                    confinement.start("n1", [sys.executable, "-I", "-S", HOG, "cpu", "1"], expires_ns=expires_ns)
                elif mode == "memory":
                    argv = [sys.executable, "-I", "-S", HOG, "memory", str(40 * MB), str(40 * MB)]
                    confinement.start("n1", argv, expires_ns=expires_ns)
                elif mode == "doom":
                    confinement.doom("n1", expires_ns=expires_ns)
                elif mode == "full":
                    disks.fill("n1", leave_bytes=0, expires_ns=expires_ns)
                elif mode == "slow":
                    disks.slow("n1", writes_per_s=5, expires_ns=expires_ns)
                elif mode == "read-only":
                    disks.make_read_only("n1", expires_ns=expires_ns)
                print("ready", watchdog, identity.pid, flush=True)
                time.sleep(300)
        finally:
            members["n1"].kill()
            members["n1"].wait()
            journal.done(entry)


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]), [Path(it) for it in sys.argv[5:]])
