"""A stand-in for the tool: opens a stage, breaks something, says `ready`, and waits to be ended.

tool.py RUN_FOLDER STATE_FOLDER MODE      MODE: idle, pause, partition, raise, expire, grandchild, fork
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.impairment import Block
from aftershock.harness.interfaces import Flow, Member, ProcessSpec, Role
from aftershock.harness.journal import RunJournal
from aftershock.harness.watchdog import start_watchdog

ECHO = str(Path(__file__).with_name("echo_member.py"))
SPAWN = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']).wait()"


class Terminated(BaseException):
    pass


def terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def event(kind: str, /, **fields: object) -> None:
    print("event", kind, fields, flush=True)


def main(run_folder: Path, state_folder: Path, mode: str) -> None:
    signal.signal(signal.SIGTERM, terminate)
    (run_folder / "events.jsonl").touch()
    backend = ProcessBackend(ProcessBackendSettings())
    with (
        RunJournal.open(run_folder, run_folder.name, state_folder) as journal,
        start_watchdog(journal) as watchdog,
        backend.open(run_id=run_folder.name, run_folder=run_folder, journal=journal, events=event) as stage,
    ):
        for name in ("a", "b"):
            member = Member(name=name, role=Role.NODE)
            stage.add(member)
            host, port = stage.listen(name, "data")
            argv = (sys.executable, ECHO, host, str(port), str(stage.folder / name / "received"))
            if mode == "grandchild":
                argv = (sys.executable, "-c", SPAWN)
            stage.run(ProcessSpec(member=member, argv=argv))
        stage.link("a", "b", "data")
        expires_ns = time.monotonic_ns() + int(1e9) * (1 if mode == "expire" else 600)
        if mode in ("pause", "expire"):
            stage.processes.pause("a", expires_ns=expires_ns)
        if mode in ("partition", "expire"):
            stage.network.impair([Flow("a", "b"), Flow("b", "a")], Block(), expires_ns=expires_ns)
        forked = os.fork() if mode == "fork" else os.getpid()
        if forked == 0:
            time.sleep(300)  # holds every descriptor of the tool, the watchdog's pipe too
            os._exit(0)
        print("ready", watchdog, stage.processes.pid("a"), forked, flush=True)
        if mode == "raise":
            raise ValueError("planted")
        if mode == "expire":
            # A tool that hangs: the watchdog alone undoes what is on.
            signal.pause()
        threading.Event().wait()


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
