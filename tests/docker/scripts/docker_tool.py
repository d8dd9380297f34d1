"""A stand-in for the tool on the docker backend: opens a stage, says `ready`, and waits to be ended.

docker_tool.py RUN_FOLDER STATE_FOLDER MODE      MODE: idle, pause, expire, creating
"""

import signal
import sys
import threading
import time
from pathlib import Path

from aftershock.harness.backends.docker import DockerBackend, DockerBackendSettings
from aftershock.harness.interfaces import Member, ProcessSpec, Role
from aftershock.harness.journal import RunJournal
from aftershock.harness.watchdog import start_watchdog

SLEEP = "import time; time.sleep(600)"


def event(kind: str, /, **fields: object) -> None:
    print("event", kind, fields, flush=True)


def main(run_folder: Path, state_folder: Path, mode: str) -> None:
    (run_folder / "events.jsonl").touch()
    backend = DockerBackend(DockerBackendSettings())
    with (
        RunJournal.open(run_folder, run_folder.name, state_folder) as journal,
        start_watchdog(journal) as watchdog,
        backend.open(run_id=run_folder.name, run_folder=run_folder, journal=journal, events=event) as stage,
    ):
        for name in ("a", "b"):
            stage.add(Member(name=name, role=Role.NODE))
            stage.run(ProcessSpec(member=stage.members[name], argv=(stage.python, "-c", SLEEP)))
        stage.add(Member(name="clients-a", role=Role.CLIENT))
        stage.link("clients-a", "a", "data")
        for name in ("a", "b"):
            stage.processes.state(name)
        if mode in ("pause", "expire"):
            expires_ns = time.monotonic_ns() + int(1e9) * (1 if mode == "expire" else 600)
            stage.processes.pause("a", expires_ns=expires_ns)
        print("ready", watchdog, stage.processes.pid("a"), flush=True)
        if mode == "creating":
            for number in range(6):
                name = f"more{number}"
                stage.add(Member(name=name, role=Role.NODE))
                stage.run(ProcessSpec(member=stage.members[name], argv=(stage.python, "-c", SLEEP)))
                time.sleep(0.05)
        if mode == "expire":
            signal.pause()
        threading.Event().wait()


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
