"""A stage with small echo members, for tests of what acts on stages."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aftershock.harness.backends.process import ProcessBackend, ProcessBackendSettings
from aftershock.harness.identity import find_by_token, run_token
from aftershock.harness.interfaces import Address, Member, ProcessSpec, Role, Stage
from aftershock.harness.journal import RunJournal

SCRIPTS = Path(__file__).with_name("scripts")


class Events:
    """An EventSink that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, /, *, source: str = "harness", t_ns: int | None = None, **fields: Any) -> None:
        self.seen.append((kind, {**fields, "source": source, "t_ns": t_ns}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for seen, fields in self.seen if seen == kind]


def wait_until(condition: Callable[[], object], what: str, *, deadline_s: float = 10.0) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)


@contextmanager
def open_stage(folder: Path, events: Events) -> Iterator[Stage]:
    """A stage with a journal of its own; afterwards no process of it may be left."""
    run_folder = folder / "run"
    run_folder.mkdir(parents=True)
    backend = ProcessBackend(ProcessBackendSettings())
    with (
        RunJournal.open(run_folder, "r1", folder / "state") as journal,
        backend.open(run_id="r1", run_folder=run_folder, journal=journal, events=events) as stage,
    ):
        yield stage
    assert find_by_token(run_token(run_folder)) == []


def run_echo(stage: Stage, name: str) -> None:
    """Add and start an echo member, and wait until it answers."""
    member = Member(name=name, role=Role.NODE)
    stage.add(member)
    address = stage.listen(name, "data")
    script = str(SCRIPTS / "echo_member.py")
    argv = (sys.executable, script, address.host, str(address.port), str(received_file(stage, name)))
    stage.run(ProcessSpec(member=member, argv=argv))
    wait_until(lambda: answers(address), f"{name} answers")


def received_file(stage: Stage, name: str) -> Path:
    return stage.folder / name / "received"


def received(stage: Stage, name: str) -> list[str]:
    with suppress(FileNotFoundError):
        return received_file(stage, name).read_text().split()
    return []


def answers(address: Address) -> bool:
    try:
        with Connection(address) as connection:
            return connection.exchange("hello", timeout_s=2)
    except OSError:
        return False


class Connection:
    """One kept-open connection to an echo member."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, timeout=2)
        self._rest = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, word: str) -> None:
        self._socket.sendall(f"{word}\n".encode())

    def exchange(self, word: str, *, timeout_s: float) -> bool:
        """Whether the echo of this word comes in time. Words that come late are passed over."""
        self.send(word)
        return self.receive(word, timeout_s=timeout_s)

    def receive(self, word: str, *, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while f"{word}\n".encode() not in self._rest:
            left_s = until - time.monotonic()
            if left_s <= 0:
                return False
            self._socket.settimeout(left_s)
            try:
                new = self._socket.recv(4096)
            except TimeoutError:
                return False
            if not new:
                raise ConnectionError("closed")
            self._rest += new
        return True
