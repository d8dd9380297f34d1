"""A docker stage with small echo members, what the engine still has of a run, and an engine that can be made to die."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from aftershock.harness.backends.docker import DockerBackend, DockerBackendSettings
from aftershock.harness.backends.docker_engine import DEFAULT_ENDPOINT
from aftershock.harness.identity import find_by_token, run_token
from aftershock.harness.interfaces import Address, EventSink, Journal, Member, ProcessSpec, Role, Stage
from aftershock.harness.inverses.containers import TOKEN_LABEL
from aftershock.harness.journal import RunJournal

from tests.processes.stages import SCRIPTS, answers, wait_until

__all__ = ["FragileEngine", "add_echo", "engine", "left_behind", "open_docker", "open_stage", "run_echo", "run_program"]


@contextmanager
def engine() -> Iterator[docker.APIClient]:
    """The engine itself, past everything that is under test."""
    api = docker.APIClient(base_url=DEFAULT_ENDPOINT, version="auto", timeout=60)
    try:
        yield api
    finally:
        api.close()


def left_behind(run_folder: Path) -> list[str]:
    """Containers, networks and processes of the run in this folder."""
    token = run_token(run_folder)
    wanted = {"label": f"{TOKEN_LABEL}={token}"}
    with engine() as api:
        found = [str(item["Names"]) for item in api.containers(all=True, filters=wanted)]
        found += [str(item["Name"]) for item in api.networks(filters=wanted)]
    return found + [f"process {identity.pid}" for identity in find_by_token(token)]


@contextmanager
def open_docker(run_folder: Path, events: EventSink, journal: Journal, **settings: Any) -> Iterator[Stage]:
    backend = DockerBackend(DockerBackendSettings(**settings))
    with backend.open(run_id=run_folder.name, run_folder=run_folder, journal=journal, events=events) as stage:
        yield stage


@contextmanager
def open_stage(folder: Path, events: EventSink, *, name: str = "run-1", **settings: Any) -> Iterator[Stage]:
    """A stage with a journal of its own; afterwards nothing of it may be left."""
    run_folder = folder / name
    run_folder.mkdir(parents=True)
    with (
        RunJournal.open(run_folder, name, folder / "state") as journal,
        open_docker(run_folder, events, journal, **settings) as stage,
    ):
        yield stage
    assert left_behind(run_folder) == []


def run_program(stage: Stage, name: str, *program: str) -> None:
    """Add a member that runs a Python program given as text, with these arguments."""
    stage.add(Member(name=name, role=Role.NODE))
    stage.run(ProcessSpec(member=stage.members[name], argv=(stage.python, "-u", "-c", *program)))


def add_echo(stage: Stage, name: str) -> Address:
    """Add and start an echo member, without waiting."""
    stage.add(Member(name=name, role=Role.NODE))
    address = stage.listen(name, "data")
    data = stage.folder / name
    shutil.copy(SCRIPTS / "echo_member.py", data / "echo.py")
    argv = (stage.python, str(data / "echo.py"), address.host, str(address.port), str(data / "received"))
    stage.run(ProcessSpec(member=stage.members[name], argv=argv))
    return address


def run_echo(stage: Stage, *names: str) -> Sequence[Address]:
    """Add and start echo members, and wait until they answer."""
    addresses = [add_echo(stage, name) for name in names]
    for name, address in zip(names, addresses, strict=True):
        stage.processes.state(name)  # raises when it could not be started
        wait_until(lambda at=address: answers(at), f"{name} answers", deadline_s=30)  # type: ignore[misc]
    return addresses


class FragileEngine:
    """A socket that leads to the real engine until it is made to die: what a backend sees of an engine's death."""

    def __init__(self, path: Path) -> None:
        self.endpoint = f"unix://{path}"
        self._path = path
        self._pairs: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.live()

    def live(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def die(self) -> None:
        self._path.unlink(missing_ok=True)
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for each in self._pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.die()
        for each in self._pairs:
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(DEFAULT_ENDPOINT.removeprefix("unix://"))
            self._pairs += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
